use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::{
    AdmissionChain, AdmissionRequest, GroupVersionResource, Kind, MemoryCluster, Operation, Outcome,
    Settings, pod::Pod,
};

fn details(policy: &str, pod: &Value) -> String {
    let (level, version) = policy.split_once(':').unwrap();
    let policy = LevelVersion::new(level.parse().unwrap(), version.parse().unwrap());
    evaluate(policy, &Pod::of(pod).unwrap()).details()
}

#[test]
fn every_violation_is_told_in_order_and_with_the_right_number() {
    let pod = json!({
        "metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/a": "unconfined"}},
        "spec": {
            "hostNetwork": true, "hostPID": false, "hostIPC": true,
            "securityContext": {
                "seLinuxOptions": {"type": "x", "user": "u"}, "runAsUser": 0, "runAsNonRoot": false,
                "seccompProfile": {"type": "Unconfined"}, "windowsOptions": {"hostProcess": true},
                "appArmorProfile": {"type": "Unconfined"},
                "sysctls": [{"name": "b"}, {"name": "a"}, {"name": "net.ipv4.tcp_rmem"}, {"name": "b"}],
            },
            "volumes": [
                {"name": "h", "hostPath": {"path": "/"}}, {"name": "e", "emptyDir": {}},
                {"name": "n", "nfs": {}}, {"name": "u", "new": {}}, {"name": "z", "hostPath": null, "secret": {}},
            ],
            "initContainers": [{"name": "i", "securityContext": {"privileged": true, "procMount": "Unmasked"}}],
            "containers": [
                {
                    "name": "a",
                    "ports": [{"hostPort": 9090}, {"hostPort": 80}, {"containerPort": 1}],
                    "livenessProbe": {"httpGet": {"host": "127.0.0.1"}},
                    "lifecycle": {"preStop": {"tcpSocket": {"host": "h"}}},
                    "securityContext": {
                        "capabilities": {"add": ["NET_RAW", "CHOWN", "SYS_ADMIN"], "drop": ["ALL"]},
                        "allowPrivilegeEscalation": false, "runAsNonRoot": true,
                    },
                },
            ],
            "ephemeralContainers": [{"name": "d", "securityContext": {"capabilities": {"add": ["NET_RAW"]}}}],
        },
    });
    assert_eq!(
        details("baseline:latest", &pod),
        [
            r#"forbidden AppArmor profiles (pod and annotation must not set AppArmor profile type to "Unconfined", "container.apparmor.security.beta.kubernetes.io/a="unconfined"")"#,
            r#"non-default capabilities (containers "a", "d" must not include "NET_RAW", "SYS_ADMIN" in securityContext.capabilities.add)"#,
            "host namespaces (hostNetwork=true, hostIPC=true)",
            r#"hostPath volumes (volume "h")"#,
            r#"hostPort (container "a" uses hostPorts 80, 9090)"#,
            r#"probe or lifecycle host (container "a" uses probe or lifecycle hosts "127.0.0.1", "h")"#,
            r#"privileged (container "i" must not set securityContext.privileged=true)"#,
            r#"procMount (container "i" must not set securityContext.procMount to "Unmasked")"#,
            r#"seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type "x"; user may not be set)"#,
            r#"seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")"#,
            "forbidden sysctls (b, a, b)",
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ]
        .join(", ")
    );
    let restricted = details("restricted:latest", &pod);
    for part in [
        r#"allowPrivilegeEscalation != false (containers "i", "d" must set securityContext.allowPrivilegeEscalation=false)"#,
        r#"unrestricted capabilities (containers "i", "d" must set securityContext.capabilities.drop=["ALL"]; containers "a", "d" must not include "CHOWN", "NET_RAW", "SYS_ADMIN" in securityContext.capabilities.add)"#,
        r#"restricted volume types (volumes "h", "n", "u" use restricted volume types "hostPath", "nfs", "unknown")"#,
        "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)",
        "runAsUser=0 (pod must not set runAsUser=0)",
    ] {
        assert!(restricted.contains(part), "{restricted}");
    }
    assert!(!restricted.contains("non-default capabilities") && !restricted.contains("hostPath volumes"));
}

#[test]
fn a_silent_pod_is_told_what_restricted_demands() {
    let pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
    assert_eq!(details("baseline:latest", &pod), "");
    assert_eq!(
        details("restricted:latest", &pod),
        r#"allowPrivilegeEscalation != false (containers "a", "b" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (containers "a", "b" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or containers "a", "b" must set securityContext.runAsNonRoot=true), seccompProfile (pod or containers "a", "b" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#
    );
    assert_eq!(
        details("restricted:v1.7", &pod),
        r#"runAsNonRoot != true (pod or containers "a", "b" must set securityContext.runAsNonRoot=true)"#
    );
}

#[test]
fn a_version_of_the_future_is_the_newest_known_one() {
    let pod = json!({"spec": {"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_notsent_lowat"}]}}});
    assert_eq!(details("baseline:v1.99", &pod), "");
    assert_eq!(details("baseline:v1.36", &pod), "forbidden sysctls (net.ipv4.tcp_notsent_lowat)");
}

#[test]
fn old_versions_read_annotations() {
    let pod = json!({
        "metadata": {"annotations": {
            "seccomp.security.alpha.kubernetes.io/pod": "unconfined",
            "container.seccomp.security.alpha.kubernetes.io/a": "",
            "container.seccomp.security.alpha.kubernetes.io/other": "unconfined",
        }},
        "spec": {"containers": [{"name": "a"}]},
    });
    assert_eq!(
        details("baseline:v1.18", &pod),
        r#"seccompProfile (forbidden annotations container.seccomp.security.alpha.kubernetes.io/a="", seccomp.security.alpha.kubernetes.io/pod="unconfined")"#
    );
    assert_eq!(details("baseline:v1.19", &pod), "");
}

#[test]
fn null_is_as_good_as_absent_and_another_type_is_no_pod() {
    let pod = json!({"metadata": {"annotations": null}, "spec": {
        "hostPID": null, "volumes": null, "containers": [{"name": null, "securityContext": null, "ports": null}]}});
    assert_eq!(details("baseline:latest", &pod), "");
    for wrong in [json!({"spec": {"hostPID": "yes"}}), json!({"spec": {"containers": {}}}), json!([1])] {
        assert!(Pod::of(&wrong).is_err(), "{wrong}");
    }
}

struct World {
    cluster: Arc<MemoryCluster>,
    chain: AdmissionChain,
}

/// As kube-apiserver is without a file.
fn lenient() -> Settings {
    Settings {
        pod_security: PodSecurityConfiguration::without_file(Level::Privileged),
        ..Settings::default()
    }
}

fn world(settings: Settings, labels: &[(&str, &str)]) -> World {
    let cluster = Arc::new(MemoryCluster::new());
    cluster.add_namespace("shop", labels);
    let chain = AdmissionChain::before(cluster.clone()).with_settings(settings);
    World { chain: chain.with_plugins(&[], &[]).unwrap(), cluster }
}

const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
const ENFORCE_VERSION: &str = "pod-security.kubernetes.io/enforce-version";

fn privileged(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"containers": [{"name": "app", "image": "a", "securityContext": {"privileged": true}}]}})
}

fn pods() -> GroupVersionResource {
    GroupVersionResource::new("", "v1", "pods")
}

async fn create(world: &World, object: Value) -> Outcome {
    world.chain.admit(&AdmissionRequest::create(pods(), object)).await
}

const PRIVILEGED: &str = r#"privileged (container "app" must not set securityContext.privileged=true)"#;

#[tokio::test]
async fn a_violation_is_a_403_with_the_audit_events_annotations() {
    let world = world(lenient(), &[(ENFORCE, "baseline"), ("pod-security.kubernetes.io/audit", "baseline")]);
    let denial = create(&world, privileged("web")).await.denial.unwrap();
    assert_eq!((denial.code, denial.reason.as_str()), (403, "Forbidden"));
    let expected =
        format!("pods \"web\" is forbidden: violates PodSecurity \"baseline:latest\": {PRIVILEGED}");
    assert_eq!(denial.message, expected);
    assert_eq!(denial.annotations["pod-security.kubernetes.io/enforce-policy"], "baseline:latest");
    assert_eq!(
        denial.annotations["pod-security.kubernetes.io/audit-violations"],
        format!("would violate PodSecurity \"baseline:latest\": {PRIVILEGED}")
    );
}

#[tokio::test]
async fn what_makes_pods_is_warned_of_and_never_refused() {
    let world = world(lenient(), &[(ENFORCE, "baseline"), (ENFORCE_VERSION, "v1.25")]);
    let template = privileged("x")["spec"].clone();
    for (group, resource, spec) in [
        ("apps", "deployments", json!({"template": {"spec": template}})),
        ("batch", "cronjobs", json!({"jobTemplate": {"spec": {"template": {"spec": template}}}})),
    ] {
        let object = json!({"metadata": {"name": "w", "namespace": "shop"}, "spec": spec});
        let request = AdmissionRequest::create(GroupVersionResource::new(group, "v1", resource), object);
        let outcome = world.chain.admit(&request).await;
        assert!(outcome.is_allowed());
        assert_eq!(outcome.warnings, [format!("would violate PodSecurity \"baseline:v1.25\": {PRIVILEGED}")]);
    }
}

#[tokio::test]
async fn an_update_is_looked_at_only_where_a_container_or_an_image_is_new() {
    let world = world(lenient(), &[(ENFORCE, "baseline")]);
    let update = async |new: Value| {
        world.chain.admit(&AdmissionRequest::update(pods(), privileged("web"), new)).await.is_allowed()
    };
    let mut labelled = privileged("web");
    labelled["metadata"]["labels"] = json!({"a": "b"});
    assert!(update(labelled).await);
    let mut image = privileged("web");
    image["spec"]["containers"][0]["image"] = json!("b");
    assert!(!update(image).await);
    let mut debugged = privileged("web");
    debugged["spec"]["ephemeralContainers"] = json!([{"name": "d"}]);
    assert!(!update(debugged).await);
}

#[tokio::test]
async fn exemptions_and_harmless_subresources_pass() {
    let exemptions = Exemptions {
        usernames: vec!["root".into()],
        runtime_classes: vec!["kata".into()],
        namespaces: vec![],
    };
    let mut settings = lenient();
    settings.pod_security.exemptions = exemptions;
    let world = world(settings, &[(ENFORCE, "restricted")]);
    let mut request = AdmissionRequest::create(pods(), privileged("web"));
    request.user.username = "root".into();
    let outcome = world.chain.admit(&request).await;
    assert_eq!(outcome.annotations["pod-security.kubernetes.io/exempt"], "user");
    let mut kata = privileged("web");
    kata["spec"]["runtimeClassName"] = json!("kata");
    let outcome = create(&world, kata).await;
    assert_eq!(outcome.annotations["pod-security.kubernetes.io/exempt"], "runtimeClass");
    for (subresource, passes) in [("status", true), ("resize", false), ("ephemeralcontainers", false)] {
        let request = AdmissionRequest {
            subresource: subresource.into(),
            ..AdmissionRequest::create(pods(), privileged("web"))
        };
        assert_eq!(world.chain.admit(&request).await.is_allowed(), passes, "{subresource}");
    }
}

#[tokio::test]
async fn labels_that_cannot_be_followed_are_a_422_and_an_older_flaw_is_left_alone() {
    let world = world(lenient(), &[]);
    let namespace =
        |labels: Value| json!({"kind": "Namespace", "metadata": {"name": "shop", "labels": labels}});
    let resource = || GroupVersionResource::new("", "v1", "namespaces");
    let create = AdmissionRequest::create(resource(), namespace(json!({ENFORCE: "x"})));
    let denial = world.chain.admit(&create).await.denial.unwrap();
    assert_eq!(denial.code, 422);
    assert_eq!(
        denial.message,
        r#"Namespace "shop" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "x": must be one of privileged, baseline, restricted"#
    );
    let flawed = || namespace(json!({ENFORCE: "x"}));
    let update = AdmissionRequest::update(resource(), flawed(), flawed());
    assert!(world.chain.admit(&update).await.is_allowed());
    let worse = AdmissionRequest::update(resource(), flawed(), namespace(json!({ENFORCE: "y"})));
    assert!(!world.chain.admit(&worse).await.is_allowed());
}

#[tokio::test]
async fn a_stricter_label_warns_of_the_pods_that_run_already() {
    let world = world(lenient(), &[]);
    for name in ["c", "b", "a"] {
        world.cluster.put(Kind::Pod, privileged(name));
    }
    let mut quiet = privileged("other");
    quiet["spec"] = json!({"hostPID": true, "containers": []});
    world.cluster.put(Kind::Pod, quiet);
    let namespace =
        |labels: Value| json!({"kind": "Namespace", "metadata": {"name": "shop", "labels": labels}});
    let update = async |old: Value, new: Value| {
        let resource = GroupVersionResource::new("", "v1", "namespaces");
        let outcome =
            world.chain.admit(&AdmissionRequest::update(resource, namespace(old), namespace(new))).await;
        assert!(outcome.is_allowed());
        outcome.warnings
    };
    let warnings = update(json!({}), json!({ENFORCE: "baseline"})).await;
    assert_eq!(
        warnings,
        [
            r#"existing pods in namespace "shop" violate the new PodSecurity enforce level "baseline:latest""#,
            "a (and 2 other pods): privileged",
            "other: host namespaces",
        ]
    );
    assert!(update(json!({ENFORCE: "restricted"}), json!({ENFORCE: "baseline"})).await.is_empty());
    let version = json!({ENFORCE: "baseline", ENFORCE_VERSION: "v1.20"});
    assert_eq!(update(json!({ENFORCE: "baseline"}), version).await.len(), 3);
}

#[tokio::test]
async fn a_namespace_without_labels_is_held_to_baseline_unless_the_cluster_needs_it() {
    let world = world(Settings::default(), &[]);
    world.cluster.add_namespace("kube-system", &[]);
    let outcome = create(&world, privileged("web")).await;
    assert_eq!(
        outcome.deny_reason().unwrap(),
        format!("pods \"web\" is forbidden: violates PodSecurity \"baseline:latest\": {PRIVILEGED}")
    );
    let mut proxy = privileged("proxy");
    proxy["metadata"]["namespace"] = json!("kube-system");
    let outcome = create(&world, proxy).await;
    assert!(outcome.is_allowed());
    assert_eq!(outcome.annotations["pod-security.kubernetes.io/enforce-policy"], "privileged:latest");
}

#[tokio::test]
async fn a_namespace_that_is_not_there_is_a_500() {
    let world = world(lenient(), &[]);
    let mut request = AdmissionRequest::create(pods(), privileged("web"));
    request.namespace = "gone".into();
    request.operation = Operation::Update;
    let denial = world.chain.admit(&request).await.denial.unwrap();
    assert_eq!(denial.code, 500);
    assert_eq!(denial.message, r#"Internal error occurred: failed to lookup namespace "gone""#);
    assert!(denial.annotations["pod-security.kubernetes.io/error"].contains("not found"));
}
