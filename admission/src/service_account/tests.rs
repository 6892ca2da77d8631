use super::*;
use crate::{GroupVersionResource, MemoryCluster, apply};

fn request(metadata: Value, spec: Value) -> AdmissionRequest {
    let mut object = json!({"kind": "Pod", "metadata": metadata, "spec": spec});
    object["metadata"]["namespace"] = json!("default");
    AdmissionRequest::create(GroupVersionResource::new("", "v1", "pods"), object)
}

fn cluster(account: Value) -> Arc<MemoryCluster> {
    let cluster = Arc::new(MemoryCluster::new());
    cluster.put(Kind::ServiceAccount, account);
    cluster
}

fn app() -> Value {
    json!({"metadata": {"name": "app", "namespace": "default"}, "imagePullSecrets": [{"name": "pull"}]})
}

async fn filled(controller: &ServiceAccount, request: &AdmissionRequest) -> Value {
    let mut pod = request.object().unwrap().clone();
    match controller.admit(request).await {
        AdmissionResponse::AllowWithPatch(patch) => apply(&mut pod, &patch).unwrap(),
        AdmissionResponse::Allow => {}
        other => panic!("{other:?}"),
    }
    pod["spec"].take()
}

#[tokio::test]
async fn a_pod_gets_an_account_and_its_token_in_every_container_without_one() {
    let controller = ServiceAccount::new(cluster(app()));
    let own = json!({"name": "own", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"});
    let spec = json!({
        "initContainers": [{"name": "i"}],
        "containers": [{"name": "a", "volumeMounts": []}, {"name": "b", "volumeMounts": [own]}],
    });
    let spec = filled(&controller, &request(json!({}), spec)).await;
    assert_eq!(spec["serviceAccountName"], "default");
    let volume = &spec["volumes"][0];
    let name = volume["name"].as_str().unwrap();
    assert!(name.starts_with("kube-api-access-") && name.len() == 21, "{name}");
    assert_eq!(volume["projected"]["defaultMode"], 420);
    assert_eq!(
        volume["projected"]["sources"][0],
        json!({"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}})
    );
    let mount = json!([{"name": name, "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]);
    assert_eq!(spec["initContainers"][0]["volumeMounts"], mount);
    assert_eq!(spec["containers"][0]["volumeMounts"], mount);
    assert_eq!(spec["containers"][1]["volumeMounts"], json!([own]));
    let again = request(json!({}), spec.clone());
    assert_eq!(filled(&controller, &again).await, spec);
}

#[tokio::test]
async fn the_pods_wish_goes_before_the_accounts_and_pull_secrets_are_taken_over() {
    let mut account = app();
    account["automountServiceAccountToken"] = json!(false);
    let controller = ServiceAccount::new(cluster(account));
    let spec = json!({"serviceAccountName": "app", "containers": [{"name": "a"}]});
    let result = filled(&controller, &request(json!({}), spec.clone())).await;
    assert_eq!((&result["volumes"], &result["imagePullSecrets"]), (&Value::Null, &json!([{"name": "pull"}])));
    let mut wishing = spec;
    wishing["automountServiceAccountToken"] = json!(true);
    wishing["imagePullSecrets"] = json!([{"name": "mine"}]);
    let result = filled(&controller, &request(json!({}), wishing)).await;
    assert!(result["volumes"].is_array());
    assert_eq!(result["imagePullSecrets"], json!([{"name": "mine"}]));
}

#[tokio::test]
async fn an_account_that_is_not_there_is_refused() {
    let controller = ServiceAccount::new(cluster(app()));
    let spec = json!({"serviceAccountName": "none", "containers": []});
    let response = controller.admit(&request(json!({}), spec)).await;
    let expected = "error looking up service account default/none: serviceaccount \"none\" not found";
    assert_eq!(response.deny_reason(), Some(expected));
}

#[tokio::test]
async fn a_mirror_pod_is_left_alone_and_uses_nothing() {
    let controller = ServiceAccount::new(cluster(app()));
    let mirror = || json!({"annotations": {"kubernetes.io/config.mirror": "x"}});
    assert_eq!(
        controller.admit(&request(mirror(), json!({"containers": []}))).await,
        AdmissionResponse::Allow
    );
    for (spec, reason) in [
        (json!({"serviceAccountName": "app"}), "a mirror pod may not reference service accounts"),
        (json!({"volumes": [{"secret": {"secretName": "s"}}]}), "a mirror pod may not reference secrets"),
        (
            json!({"volumes": [{"csi": {"nodePublishSecretRef": {"name": "s"}}}]}),
            "a mirror pod may not reference secrets",
        ),
        (
            json!({"volumes": [{"projected": {"sources": [{"serviceAccountToken": {}}]}}]}),
            "a mirror pod may not use ServiceAccountToken volume projections",
        ),
    ] {
        assert_eq!(controller.admit(&request(mirror(), spec)).await.deny_reason(), Some(reason));
    }
}

#[tokio::test]
async fn an_account_can_keep_its_pods_to_its_own_secrets() {
    let mut account = app();
    account["metadata"]["annotations"] = json!({ENFORCE_SECRETS: "true"});
    account["secrets"] = json!([{"name": "mine"}]);
    let controller = ServiceAccount::new(cluster(account));
    let env = |secret: &str| json!([{"name": "a", "env": [{"name": "V", "valueFrom": {"secretKeyRef": {"name": secret}}}]}]);
    for (spec, reason) in [
        (json!({"containers": env("mine"), "imagePullSecrets": [{"name": "pull"}]}), None),
        (
            json!({"containers": env("other")}),
            Some(
                "container a with envVar V referencing secret.secretName=\"other\" is not allowed because service account app does not reference that secret",
            ),
        ),
        (
            json!({"initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "other"}}]}]}),
            Some(
                "init container i with envFrom referencing secret.secretName=\"other\" is not allowed because service account app does not reference that secret",
            ),
        ),
        (
            json!({"volumes": [{"secret": {"secretName": "other"}}]}),
            Some(
                "volume with secret.secretName=\"other\" is not allowed because service account app does not reference that secret",
            ),
        ),
        (
            json!({"imagePullSecrets": [{"name": "pull"}, {"name": "other"}]}),
            Some(
                "imagePullSecrets[1].name=\"other\" is not allowed because service account app does not reference that imagePullSecret",
            ),
        ),
    ] {
        let mut spec = spec;
        spec["serviceAccountName"] = json!("app");
        assert_eq!(controller.validate(&request(json!({}), spec)).await.deny_reason(), reason);
    }
}
