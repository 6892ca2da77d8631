//! The admission chain before the built binary's store: what it refuses, changes and warns of reaches client and audit.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/server.rs"]
mod server;

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use server::{Caller, Server};

const PODS: &str = "/api/v1/namespaces/shop/pods";

async fn send(caller: &Caller, method: Method, path: &str, body: &Value) -> Response {
    let request = caller.request(method, path);
    let request = if body.is_null() { request } else { request.json(body) };
    request.send().await.unwrap()
}

async fn answer(caller: &Caller, method: Method, path: &str, body: &Value) -> (StatusCode, Value) {
    let response = send(caller, method, path, body).await;
    (response.status(), response.json().await.unwrap())
}

/// A namespace with labels, and the account that its Pods run as.
async fn namespace(caller: &Caller, name: &str, labels: Value) {
    let namespace =
        json!({ "kind": "Namespace", "apiVersion": "v1", "metadata": { "name": name, "labels": labels } });
    let (status, made) = answer(caller, Method::POST, "/api/v1/namespaces", &namespace).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let account = json!({ "kind": "ServiceAccount", "apiVersion": "v1", "metadata": { "name": "default" } });
    let path = format!("/api/v1/namespaces/{name}/serviceaccounts");
    let (status, made) = answer(caller, Method::POST, &path, &account).await;
    // The controller of accounts may have been faster.
    assert!([StatusCode::CREATED, StatusCode::CONFLICT].contains(&status), "{made}");
}

fn pod(name: &str, container: Value) -> Value {
    let mut container = container;
    container["name"] = "app".into();
    container["image"] = "registry.example.test/app:1".into();
    json!({ "kind": "Pod", "apiVersion": "v1", "metadata": { "name": name }, "spec": { "containers": [container] } })
}

#[tokio::test(flavor = "multi_thread")]
async fn pod_security_refuses_and_warns_in_its_words() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    let labels = json!({
        "pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted",
    });
    namespace(&caller, "shop", labels).await;
    let bad = pod("bad", json!({ "securityContext": { "privileged": true } }));
    let (status, refused) = answer(&caller, Method::POST, PODS, &bad).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        refused["message"],
        "pods \"bad\" is forbidden: violates PodSecurity \"baseline:latest\": privileged (container \"app\" must not \
         set securityContext.privileged=true)"
    );
    assert_eq!(refused["details"], json!({ "name": "bad", "kind": "pods" }));
    let (missing, _) = answer(&caller, Method::GET, &format!("{PODS}/bad"), &Value::Null).await;
    assert_eq!(missing, StatusCode::NOT_FOUND);

    let warned = send(&caller, Method::POST, PODS, &pod("plain", json!({}))).await;
    assert_eq!(warned.status(), StatusCode::CREATED);
    let warning = warned.headers()["warning"].to_str().unwrap().to_owned();
    assert!(warning.contains("would violate PodSecurity \\\"restricted:latest\\\""), "{warning}");
    caller.until_count("resource:pods verb:create code:403", 1).await;
    let page =
        caller.get("/v1/events").query(&[("q", "resource:pods verb:create code:403")]).send().await.unwrap();
    let page: Value = page.json().await.unwrap();
    let annotations = &page["items"][0]["event"]["annotations"];
    assert_eq!(annotations["pod-security.kubernetes.io/enforce-policy"], "baseline:latest", "{page}");
    let decisions = annotations["admission.muniment.io/decisions"].as_str().unwrap();
    let decisions: Vec<Value> = serde_json::from_str(decisions).unwrap();
    let (last, before) = decisions.split_last().unwrap();
    let named = |decision: &Value| decision["controller"].as_str().unwrap().to_owned();
    assert_eq!((named(last).as_str(), &last["verdict"]), ("PodSecurity", &json!("denied")), "{decisions:?}");
    assert_eq!((&last["phase"], &last["reason"]), (&json!("validating"), &refused["message"]));
    assert!(
        before.iter().any(|d| named(d) == "ServiceAccount" && d["verdict"] == "patched"),
        "{decisions:?}"
    );
    assert!(decisions.iter().all(|d| d["micros"].is_u64() && d["patch"].is_null()), "{decisions:?}");

    let metrics = caller.get("/metrics").send().await.unwrap().text().await.unwrap();
    let denied = metrics.lines().find(|line| {
        line.starts_with("muniment_admission_duration_seconds_count")
            && ["\"PodSecurity\"", "\"CREATE\"", "\"denied\"", "\"validating\""]
                .iter()
                .all(|w| line.contains(w))
    });
    assert!(denied.is_some_and(|line| line.ends_with(" 1")), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_controllers_change_is_recorded_where_bodies_are() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.yaml");
    std::fs::write(&policy, "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Request}]\n")
        .unwrap();
    let server = Server::start(&["--audit-policy-file", policy.to_str().unwrap()]).await;
    let caller = server.call();
    let metrics = caller.get("/metrics").send().await.unwrap().text().await.unwrap();
    for name in admission::BUILT_IN {
        let shown = format!("muniment_admission_calls_total{{controller=\"{name}\"}} ");
        assert!(metrics.lines().any(|line| line.starts_with(&shown)), "{name} is not among {metrics}");
    }
    namespace(&caller, "shop", json!({})).await;
    let (status, made) = answer(&caller, Method::POST, PODS, &pod("a", json!({}))).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    caller.until_count("resource:pods verb:create code:201", 1).await;
    let page =
        caller.get("/v1/events").query(&[("q", "resource:pods verb:create code:201")]).send().await.unwrap();
    let page: Value = page.json().await.unwrap();
    let decisions = page["items"][0]["event"]["annotations"]["admission.muniment.io/decisions"].as_str();
    let decisions: Vec<Value> = serde_json::from_str(decisions.unwrap()).unwrap();
    let changed = decisions.iter().find(|decision| decision["controller"] == "DefaultTolerationSeconds");
    let patch = &changed.unwrap_or_else(|| panic!("{decisions:?}"))["patch"];
    assert_eq!(patch[0]["op"], "add", "{patch}");
    assert!(patch.to_string().contains("tolerationSeconds"), "{patch}");
}

/// Whether a privileged Pod may be made in a namespace. Accounts are for nobody to wait for.
async fn takes_privileged(flags: &[&str], namespaces: &[(&str, bool)]) {
    let server = Server::start(&[flags, &["--disable-admission-plugins", "ServiceAccount"]].concat()).await;
    let caller = server.call();
    for (name, expected) in namespaces {
        let namespace = json!({ "kind": "Namespace", "apiVersion": "v1", "metadata": { "name": name } });
        send(&caller, Method::POST, "/api/v1/namespaces", &namespace).await;
        let path = format!("/api/v1/namespaces/{name}/pods");
        let bad = pod("bad", json!({ "securityContext": { "privileged": true } }));
        let (status, made) = answer(&caller, Method::POST, &path, &bad).await;
        let wanted = if *expected { StatusCode::CREATED } else { StatusCode::FORBIDDEN };
        assert_eq!(status, wanted, "{flags:?} {name}: {made}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_without_labels_are_held_to_what_flag_or_file_say() {
    takes_privileged(&[], &[("shop", false), ("kube-system", true), ("kube-public", true)]).await;
    takes_privileged(&["--pod-security-default", "privileged"], &[("shop", true)]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let own = "apiVersion: pod-security.admission.config.k8s.io/v1\nkind: PodSecurityConfiguration\n";
    file("own.yaml", &format!("{own}defaults: {{enforce: baseline}}\nexemptions: {{namespaces: [infra]}}\n"));
    let outer = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n";
    let by_path = file("by-path.yaml", &format!("{outer}plugins: [{{name: PodSecurity, path: own.yaml}}]\n"));
    let configured = ["--admission-control-config-file", &by_path];
    // As with kube-apiserver, a file's defaults are those of every namespace.
    takes_privileged(&configured, &[("shop", false), ("kube-system", false), ("infra", true)]).await;

    let typo = file("typo.yaml", &format!("{own}defaults:\n  enforc: baseline\n"));
    for (flags, expected) in [
        (
            vec!["--admission-control-config-file", &*typo],
            "typo.yaml: 4:3: unknown field \"enforc\"; did you mean \"enforce\"?",
        ),
        ([&configured[..], &["--pod-security-default", "baseline"]].concat(), "say the same thing"),
        (vec!["--pod-security-default", "strict"], "privileged, baseline, restricted"),
    ] {
        let mut server = Server::stopped(&flags);
        server.spawn();
        assert_eq!(server.ended().await.code(), Some(2), "{flags:?}: {}", server.log());
        assert!(server.log().contains(expected), "{}", server.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_priorities_tolerations_and_accounts_are_filled_in() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    namespace(&caller, "shop", json!({})).await;
    let limits = json!({ "kind": "LimitRange", "apiVersion": "v1", "metadata": { "name": "l" }, "spec": { "limits": [
        { "type": "Container", "default": { "cpu": "500m" }, "max": { "cpu": "1" } }] } });
    let path = "/api/v1/namespaces/shop/limitranges";
    assert_eq!(send(&caller, Method::POST, path, &limits).await.status(), StatusCode::CREATED);
    let (status, made) = answer(&caller, Method::POST, PODS, &pod("a", json!({}))).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let spec = &made["spec"];
    assert_eq!(spec["containers"][0]["resources"]["limits"]["cpu"], "500m", "{spec}");
    assert_eq!((&spec["serviceAccountName"], &spec["priority"]), (&json!("default"), &json!(0)));
    assert_eq!(spec["tolerations"][0]["tolerationSeconds"], 300);
    // The class follows from what the controllers filled in.
    assert_eq!(made["status"]["qosClass"], "Burstable");
    let (_, read) = answer(&caller, Method::GET, &format!("{PODS}/a"), &Value::Null).await;
    assert_eq!(read, made, "what is answered is what is stored");

    let large = pod("b", json!({ "resources": { "limits": { "cpu": "2" } } }));
    let (status, refused) = answer(&caller, Method::POST, PODS, &large).await;
    assert_eq!(
        (status, &refused["message"]),
        (
            StatusCode::FORBIDDEN,
            &json!("pods \"b\" is forbidden: maximum cpu usage per Container is 1, but limit is 2")
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_that_are_needed_stay_and_those_that_are_missing_take_nothing() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    let map = json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": "m" } });
    let (status, missing) =
        answer(&caller, Method::POST, "/api/v1/namespaces/nowhere/configmaps", &map).await;
    assert_eq!(
        (status, &missing["message"]),
        (StatusCode::NOT_FOUND, &json!("namespaces \"nowhere\" not found"))
    );
    server::eventually("the first namespaces", async || {
        let found = send(&caller, Method::GET, "/api/v1/namespaces/kube-system", &Value::Null).await;
        (found.status() == StatusCode::OK).then_some(())
    })
    .await;
    let path = "/api/v1/namespaces/kube-system";
    let (status, refused) = answer(&caller, Method::DELETE, path, &Value::Null).await;
    assert_eq!(
        (status, &refused["message"]),
        (
            StatusCode::FORBIDDEN,
            &json!("namespaces \"kube-system\" is forbidden: this namespace may not be deleted")
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn controllers_are_chosen_by_name() {
    let server = Server::start(&["--disable-admission-plugins", "PodSecurity,LimitRanger"]).await;
    let caller = server.call();
    namespace(&caller, "shop", json!({ "pod-security.kubernetes.io/enforce": "restricted" })).await;
    let made =
        send(&caller, Method::POST, PODS, &pod("a", json!({ "securityContext": { "privileged": true } })))
            .await;
    assert_eq!(made.status(), StatusCode::CREATED);
    for (flags, expected) in [
        (["--enable-admission-plugins", "PodSecurty"], "did you mean \"PodSecurity\"?"),
        (["--enable-admission-plugins", "AlwaysPullImages"], "is not built in, so it cannot be enabled"),
    ] {
        let mut server = Server::stopped(&flags);
        server.spawn();
        assert_eq!(server.ended().await.code(), Some(2));
        assert!(server.log().contains(expected), "{}", server.log());
    }
}
