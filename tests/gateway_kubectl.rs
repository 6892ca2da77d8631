//! The Kubernetes API of the built binary as people use it: with kubectl.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/engines.rs"]
mod engines;
#[path = "support/kubectl.rs"]
mod kubectl;
#[path = "support/server.rs"]
mod server;

use std::io::{BufRead, BufReader};

use engines::{etcd, unique};
use kubectl::{Kubectl, squeezed};
use reqwest::Method;
use serde_json::{Value, json};
use server::{Caller, Server, eventually};

/// Nothing happens by itself, so Pods need no account.
const ALONE: [&str; 3] = ["--controllers=-*", "--disable-admission-plugins", "ServiceAccount"];

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

async fn post(caller: &Caller, path: &str, body: Value) {
    let response = caller.request(Method::POST, path).json(&body).send().await.unwrap();
    let status = response.status();
    assert!(status.is_success(), "{path}: {status}: {}", response.text().await.unwrap());
}

async fn make_deployment(caller: &Caller) {
    post(caller, "/api/v1/namespaces", json!({ "metadata": { "name": "shop" } })).await;
    let containers = json!([{ "name": "web", "image": "web:1" }, { "name": "log", "image": "log:2" }]);
    let deployment = json!({
        "metadata": { "name": "front" },
        "spec": {
            "replicas": 3,
            "selector": { "matchLabels": { "app": "front" } },
            "template": { "metadata": { "labels": { "app": "front" } }, "spec": { "containers": containers } },
        },
    });
    post(caller, "/apis/apps/v1/namespaces/shop/deployments", deployment).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn get_prints_the_columns_of_each_kind_and_more_when_wide() {
    let server = Server::start(&[]).await;
    make_deployment(&server.call()).await;
    let Some(kubectl) = Kubectl::of(&server) else { return };
    let lines = squeezed(&kubectl.out(&["get", "deployments", "-n", "shop"]));
    assert_eq!(lines[0], "NAME READY UP-TO-DATE AVAILABLE AGE");
    assert!(lines[1].starts_with("front 0/3 0 0 "), "{lines:?}");
    let lines = squeezed(&kubectl.out(&["get", "deploy", "-A", "-o", "wide"]));
    assert_eq!(lines[0], "NAMESPACE NAME READY UP-TO-DATE AVAILABLE AGE CONTAINERS IMAGES SELECTOR");
    assert!(lines[1].ends_with(" web,log web:1,log:2 app=front"), "{lines:?}");
    let lines = squeezed(&kubectl.out(&["get", "namespaces"]));
    assert_eq!(lines[0], "NAME STATUS AGE");
    assert!(lines.iter().any(|line| line.starts_with("shop Active ")), "{lines:?}");
    // Both kinds at once, and a name that is not there.
    assert!(kubectl.out(&["get", "deploy,secrets", "-n", "shop"]).contains("deployment.apps/front"));
    let missing = kubectl.run(&["get", "deploy", "none", "-n", "shop"]);
    assert_eq!(missing.err, "Error from server (NotFound): deployments.apps \"none\" not found\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_a_list_has_its_revision_and_its_rows_what_was_asked_for() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    make_deployment(&caller).await;
    let get = async |path: &str| -> Value {
        let response = caller.get(path).header("accept", TABLE).send().await.unwrap();
        response.json().await.unwrap()
    };
    let list = "/apis/apps/v1/namespaces/shop/deployments";
    let table = get(list).await;
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    assert!(table["metadata"]["resourceVersion"].as_str().is_some_and(|rv| rv != "0"), "{table}");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(table["rows"][0]["object"]["metadata"]["name"], "front");
    let table = get(&format!("{list}/front?includeObject=Object")).await;
    assert_eq!(table["rows"][0]["object"]["spec"]["replicas"], 3);
    let table = get(&format!("{list}/front?includeObject=None")).await;
    assert_eq!(table["rows"][0]["object"], Value::Null);
    let refused = get(&format!("{list}?includeObject=Some")).await;
    assert_eq!(refused["reason"], "BadRequest", "{refused}");
    let missing = get(&format!("{list}/none")).await;
    assert_eq!(missing["kind"], "Status", "an error stays what it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_prints_a_row_for_each_change() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    make_deployment(&caller).await;
    let Some(kubectl) = Kubectl::of(&server) else { return };
    let mut watch = kubectl.start(&["get", "deployments", "-n", "shop", "--watch"]);
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = move || squeezed(&lines.next().unwrap().unwrap())[0].clone();
    assert_eq!(next(), "NAME READY UP-TO-DATE AVAILABLE AGE");
    assert!(next().starts_with("front 0/3 0 0 "));
    let patch = caller.request(Method::PATCH, "/apis/apps/v1/namespaces/shop/deployments/front");
    let patch = patch.header("content-type", "application/merge-patch+json");
    assert!(patch.body(r#"{"spec":{"replicas":5}}"#).send().await.unwrap().status().is_success());
    let line = tokio::task::spawn_blocking(next).await.unwrap();
    assert!(line.starts_with("front 0/5 0 0 "), "{line}");
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_validated_applied_and_explained_as_the_documents_say() {
    let server = Server::start(&[]).await;
    let Some(kubectl) = Kubectl::of(&server) else { return };
    let text = |data: &str| {
        format!("kind: ConfigMap\napiVersion: v1\nmetadata: {{name: a, namespace: default}}\n{data}")
    };
    let created = kubectl.with_input(&["create", "-f", "-"], &text("data: {x: '1'}"));
    assert_eq!(created.out, "configmap/a created\n", "{created:?}");
    // kubectl says once that it adds what it remembers the last state by.
    assert_eq!(kubectl.apply(&text("data: {x: '2', z: '3'}")), "configmap/a configured\n");
    assert_eq!(kubectl.apply(&text("data: {z: '3'}")), "configmap/a configured\n");
    assert_eq!(kubectl.out(&["get", "configmap", "a", "-o", "jsonpath={.data}"]), r#"{"z":"3"}"#);
    let refused = kubectl.with_input(&["create", "-f", "-"], &text("datum: {x: '1'}"));
    assert!(!refused.ok && refused.err.contains("unknown field \"datum\""), "{refused:?}");
    let explained = kubectl.out(&["explain", "deployment.spec.template.spec.containers.resources.limits"]);
    assert!(explained.contains("FIELD: limits <map[string]Quantity>"), "{explained}");
    let explained = kubectl.out(&["explain", "cronjobs", "--recursive"]);
    assert!(explained.contains("jobTemplate\t<JobTemplateSpec> -required-"), "{explained}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_kept_by_its_tag() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    let index = caller.json("/openapi/v3").await;
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    let document = caller.get(&url).send().await.unwrap();
    let tag = document.headers()["etag"].clone();
    assert!(document.headers()["cache-control"].to_str().unwrap().contains("immutable"));
    let document: Value = document.json().await.unwrap();
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
    let again = caller.get(&url).header("if-none-match", tag).send().await.unwrap();
    assert_eq!(again.status(), 304);
    assert_eq!(caller.json("/openapi/v2").await["swagger"], "2.0");
}

const POD: &str = "
kind: Pod
apiVersion: v1
metadata: {name: NAME, namespace: shop, labels: {app: web}}
spec: {containers: [{name: web, image: 'web:1'}]}
";

#[tokio::test(flavor = "multi_thread")]
async fn subresources_do_what_kubectl_asks_of_them() {
    let server = Server::start(&ALONE).await;
    make_deployment(&server.call()).await;
    let Some(kubectl) = Kubectl::of(&server) else { return };
    let run = |line: &str| kubectl.run(&line.split(' ').collect::<Vec<_>>());
    let get = |line: &str| kubectl.out(&line.split(' ').collect::<Vec<_>>());

    assert_eq!(run("scale -n shop deployment front --replicas=7").out, "deployment.apps/front scaled\n");
    assert_eq!(get("get -n shop deployment front -o jsonpath={.spec.replicas}"), "7");
    let wrong = run("scale -n shop deployment front --replicas=3 --current-replicas=4");
    assert!(wrong.err.contains("Expected replicas to be 4, was 7"), "{wrong:?}");
    let lines = squeezed(&get("get -n shop deployment front --subresource=scale"));
    assert_eq!(lines[0], "NAME DESIRED AVAILABLE AGE");
    assert!(lines[1].starts_with("front 7 0 "), "{lines:?}");
    assert!(run("rollout restart -n shop deployment front").out.contains("restarted"));
    assert!(run("set image -n shop deployment/front web=web:2").out.contains("image updated"));

    kubectl.apply(&POD.replace("NAME", "one"));
    let silent = run("logs -n shop one");
    assert!(silent.ok && silent.out.is_empty(), "what has run nowhere has said nothing: {silent:?}");
    let unplaced = run("exec -n shop one -- true");
    assert!(unplaced.err.contains("pod one does not have a host assigned"), "{unplaced:?}");
    let body = |kind: &str, rest: &str| {
        format!(r#"{{"kind":"{kind}","apiVersion":"v1","metadata":{{"name":"one"}},"target":{rest}}}"#)
    };
    let bind = ["create", "--raw", "/api/v1/namespaces/shop/pods/one/binding", "-f", "-"];
    let refused = kubectl.with_input(&bind, &body("Binding", r#"{"kind":"Planet","name":"n1"}"#));
    assert!(refused.err.contains("target.kind: Unsupported value: \"Planet\""), "{refused:?}");
    let bound = kubectl.with_input(&bind, &body("Binding", r#"{"kind":"Node","name":"n1"}"#));
    assert!(bound.ok, "{bound:?}");
    let lines = squeezed(&get("get -n shop pod one -o wide"));
    assert!(lines[1].starts_with("one 0/1 Pending 0 ") && lines[1].contains(" n1 "), "{lines:?}");
    let again = kubectl.with_input(&bind, &body("Binding", r#"{"kind":"Node","name":"n2"}"#));
    assert!(again.err.contains("pod one is already assigned to node \"n1\""), "{again:?}");
    let nobody = run("logs -n shop one");
    assert!(nobody.err.contains("get of pods/log is not served by this gateway"), "{nobody:?}");

    let request = "kind: CertificateSigningRequest\napiVersion: certificates.k8s.io/v1\nmetadata: {name: c}\n\
                   spec: {request: eA==, signerName: a.io/b, usages: [client auth]}\n";
    kubectl.apply(request);
    assert!(run("certificate approve c").out.contains("approved"));
    assert!(squeezed(&get("get csr c"))[1].ends_with(" Approved"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_evicted_where_its_budget_has_room() {
    let server = Server::start(&ALONE).await;
    let caller = server.call();
    make_deployment(&caller).await;
    let Some(kubectl) = Kubectl::of(&server) else { return };
    kubectl.apply(&POD.replace("NAME", "one"));
    kubectl.apply(
        "kind: PodDisruptionBudget\napiVersion: policy/v1\nmetadata: {name: b, namespace: shop}\n\
         spec: {minAvailable: 1, selector: {matchLabels: {app: web}}}\n",
    );
    let set = |kind: &str, name: &str, status: Value| {
        let patch = json!({ "status": status }).to_string();
        let args = ["patch", kind, name, "-n", "shop", "--subresource=status", "--type=merge", "-p"];
        kubectl.out(&[&args[..], &[&*patch]].concat());
    };
    let evict = async || {
        let eviction =
            json!({ "kind": "Eviction", "apiVersion": "policy/v1", "metadata": { "name": "one" } });
        let path = "/api/v1/namespaces/shop/pods/one/eviction";
        let response = caller.request(Method::POST, path).json(&eviction).send().await.unwrap();
        (response.status().as_u16(), response.headers().get("retry-after").cloned())
    };
    set("pod", "one", json!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] }));
    assert_eq!(evict().await, (429, Some("10".parse().unwrap())), "nobody has looked at the budget");
    let counted = json!({ "observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1 });
    set("pdb", "b", counted);
    assert_eq!(evict().await.0, 429, "there is no room");
    set("pdb", "b", json!({ "disruptionsAllowed": 1 }));
    assert_eq!(evict().await.0, 201);
    assert!(!kubectl.run(&["get", "pod", "one", "-n", "shop"]).ok, "it is gone");
    let left = kubectl.out(&["get", "pdb", "b", "-n", "shop", "-o", "jsonpath={.status.disruptionsAllowed}"]);
    assert_eq!(left, "0");
}

/// A namespace from its beginning to its end.
async fn namespace(server: Server) {
    let caller = server.call();
    let Some(kubectl) = Kubectl::of(&server) else { return };
    kubectl.out(&["create", "namespace", "shop"]);
    let account = "/api/v1/namespaces/shop/serviceaccounts/default";
    let authority = "/api/v1/namespaces/shop/configmaps/kube-root-ca.crt";
    let there = async |path: &str| caller.get(path).send().await.unwrap().status().is_success();
    for path in [account, authority] {
        eventually(path, async || there(path).await.then_some(())).await;
    }
    let file = std::fs::read_to_string(server.data().join("ca.pem")).unwrap();
    assert_eq!(caller.json(authority).await["data"]["ca.crt"], file);
    kubectl.out(&["delete", "-n", "shop", "serviceaccount", "default"]);
    eventually("the account comes back", async || there(account).await.then_some(())).await;

    kubectl.apply(&POD.replace("NAME", "one"));
    kubectl.apply(
        "kind: ConfigMap\napiVersion: v1\nmetadata: {name: a, namespace: shop, finalizers: [a.io/b]}\n",
    );
    kubectl.out(&["delete", "namespace", "shop", "--wait=false"]);
    eventually("what can go is gone", async || {
        (!there("/api/v1/namespaces/shop/pods/one").await).then_some(())
    })
    .await;
    let phase = kubectl.out(&["get", "namespace", "shop", "-o", "jsonpath={.status.phase}"]);
    assert_eq!(phase, "Terminating", "something in it waits for somebody else");
    kubectl.out(&[
        "patch",
        "-n",
        "shop",
        "configmap",
        "a",
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":[]}}"#,
    ]);
    kubectl.out(&["wait", "--for=delete", "namespace/shop", "--timeout=60s"]);
    let controller = r#"user:"system:controller:namespace-controller""#;
    caller
        .until_count(&format!("{controller} resource:namespaces sub:finalize stage:ResponseComplete"), 1)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_gets_what_each_has_and_ends_with_all_that_is_in_it() {
    namespace(Server::start(&[]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_in_etcd_does_so_too() {
    let (servers, prefix) = (etcd(), format!("/{}", unique("controllers")));
    namespace(Server::start(&["--etcd-servers", &servers, "--etcd-prefix", &prefix]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_one_gateway_of_a_store_runs_the_controllers_and_another_takes_over() {
    let (servers, prefix) = (etcd(), format!("/{}", unique("lease")));
    let args = ["--etcd-servers", &servers, "--etcd-prefix", &prefix];
    let mut first = Server::start(&args).await;
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/muniment-controllers";
    let holder = async |caller: &Caller| {
        let response = caller.get(lease).send().await.unwrap();
        let lease: Value = response.json().await.unwrap();
        lease["spec"]["holderIdentity"].as_str().filter(|holder| !holder.is_empty()).map(str::to_owned)
    };
    let one = eventually("a holder", async || holder(&first.call()).await).await;
    let second = Server::start(&args).await;
    let caller = second.call();
    assert!(first.stop().await.success());
    let other = eventually("another holder", async || holder(&caller).await.filter(|h| *h != one)).await;
    assert_ne!(one, other);
    post(&caller, "/api/v1/namespaces", json!({ "metadata": { "name": "shop" } })).await;
    eventually("the account", async || {
        let found = caller.get("/api/v1/namespaces/shop/serviceaccounts/default").send().await.unwrap();
        found.status().is_success().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_secret_says_as_text_is_kept_as_data() {
    let server = Server::start(&ALONE).await;
    let caller = server.call();
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret =
        json!({ "metadata": { "name": "s" }, "data": { "z": "eA==" }, "stringData": { "a": "b", "z": "c" } });
    post(&caller, secrets, secret).await;
    let one = format!("{secrets}/s");
    let stored = caller.json(&one).await;
    assert_eq!(stored["data"], json!({ "a": "Yg==", "z": "Yw==" }));
    assert_eq!(stored.get("stringData"), None);
    let patch = caller.request(Method::PATCH, &one).header("content-type", "application/merge-patch+json");
    let patched = patch.body(r#"{"stringData":{"q":"r"}}"#).send().await.unwrap();
    let patched: Value = patched.json().await.unwrap();
    assert_eq!(patched["data"], json!({ "a": "Yg==", "q": "cg==", "z": "Yw==" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_pods_that_run_somewhere_take_their_time_to_end() {
    let server = Server::start(&ALONE).await;
    let caller = server.call();
    post(&caller, "/api/v1/namespaces/default/configmaps", json!({ "metadata": { "name": "a" } })).await;
    let pod = |name: &str, node: Value| {
        let containers = json!([{ "name": "c", "image": "i" }]);
        json!({ "metadata": { "name": name }, "spec": { "nodeName": node, "containers": containers } })
    };
    post(&caller, "/api/v1/namespaces/default/pods", pod("idle", Value::Null)).await;
    post(&caller, "/api/v1/namespaces/default/pods", pod("busy", json!("n1"))).await;
    let there = async |path: &str| {
        let path = format!("/api/v1/namespaces/default/{path}");
        let delete = caller.request(Method::DELETE, &format!("{path}?gracePeriodSeconds=5"));
        assert!(delete.send().await.unwrap().status().is_success());
        caller.get(&path).send().await.unwrap().status().is_success()
    };
    assert!(!there("configmaps/a").await);
    assert!(!there("pods/idle").await);
    assert!(there("pods/busy").await);
}
