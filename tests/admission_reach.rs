//! Every route and verb of the Kubernetes API that may change something reaches the admission chain: the gateway is
//! built here over a chain that counts.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use admission::{AdmissionChain, AdmissionController, AdmissionRequest, AdmissionResponse, Operation};
use api::{
    gateway::{
        admission::{Charges, Gate},
        audit::{Auditor, Mode, default_policy},
        authn::{Authenticator, Sources, account::ServiceAccounts, signing_key::SigningKey},
        authz::Snapshot,
        door::Door,
        limits::{Bounds, Limits, Ticks},
        object::Object,
        refusals::Refusals,
        registry::{Registry, Target},
        resources::{Resource, resources},
        schema::{decode, defaults},
        serve::Gateway,
        store::SqliteStore,
    },
    later::Later,
    tokens::{Scope, Tokens},
};
use async_trait::async_trait;
use axum::{body::Body, extract::Request, response::Response};
use ingest::{
    identity::DeploymentKey,
    journal::{Journal, JournalOptions},
    redact::{Redactor, RuleSet},
    time::Clock,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;

/// The verbs that change something.
const MUTATING: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];

/// What only a node answers. There is none, so nobody is ever connected: the request ends before admission.
const OF_NODES: [&str; 4] = ["attach", "exec", "portforward", "proxy"];

/// Notes what it is asked about.
#[derive(Clone, Default)]
struct Counting(Arc<Mutex<BTreeSet<String>>>);

#[async_trait]
impl AdmissionController for Counting {
    fn name(&self) -> &str {
        "Counting"
    }

    fn supports_operation(&self, _: &Operation) -> bool {
        true
    }

    async fn admit(&self, request: &AdmissionRequest) -> AdmissionResponse {
        let of = &request.resource;
        assert!(!request.name.is_empty() || request.operation == Operation::Create, "{request:?}");
        assert!(!request.kind.kind.is_empty() && !request.user.username.is_empty(), "{request:?}");
        let seen = format!("{} {}/{}/{}", request.operation, of.group, of.resource, request.subresource);
        self.0.lock().unwrap().insert(seen);
        AdmissionResponse::Allow
    }

    /// A machine that is busy with other things is no failure.
    fn deadline(&self) -> Duration {
        Duration::from_secs(60)
    }
}

/// A gateway in this process.
struct Built {
    gateway: Gateway,
    registry: Registry,
    counting: Counting,
    token: String,
    _folder: TempDir,
}

impl Built {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let clock = Clock::system();
        let (journal, _) =
            Journal::open(&data.join("journal"), JournalOptions::new("test", clock.clone())).unwrap();
        let store = SqliteStore::open(&data.join("cluster.sqlite"), clock.clone()).await.unwrap();
        let registry = Registry::new(Arc::new(store), clock.clone());
        let counting = Counting::default();
        let charges = Charges::new(registry.clone());
        let chain = AdmissionChain::new().with_controller(Arc::new(counting.clone()));
        let gate = Gate::new(chain, charges);
        let key = SigningKey::own(&data.join("service-account.key")).unwrap();
        let objects = Arc::new(registry.clone());
        let accounts = ServiceAccounts::new(
            "https://kubernetes.default.svc".into(),
            Vec::new(),
            key,
            Vec::new(),
            objects,
            clock.clone(),
        );
        let tokens = Tokens::open(Later::new(), data.join("tokens.json"), clock.clone()).unwrap();
        let token = tokens.create_here(Scope::Client, "test").unwrap().expose().to_owned();
        let roles = Snapshot { is_known: true, ..Snapshot::default() };
        let door = Door {
            authenticator: Authenticator::new(tokens, Sources::default(), clock.clone()),
            accounts: Arc::new(accounts),
            limits: Limits::new(Bounds::default(), Ticks::system()),
            refusals: Refusals::new(journal.clone(), clock.clone()),
            roles: watch::channel(Arc::new(roles)).1,
        };
        let redactor = Redactor::new(&RuleSet::builtin(), &DeploymentKey::generate().unwrap());
        let redactor = watch::channel(Arc::new(redactor)).1;
        let policy = watch::channel(Arc::new(default_policy())).1;
        let auditor = Auditor::new(journal, redactor, policy, "local".into(), Mode::Strict, clock);
        let gateway = Gateway::new(registry.clone(), auditor, door, gate);
        Self { gateway, registry, counting, token, _folder: folder }
    }

    async fn send(&self, method: &str, path: &str, content_type: &str, body: &Value) -> (u16, String) {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = Request::builder().method(method).uri(path).header("content-type", content_type);
        let request = request.header("authorization", format!("Bearer {}", self.token)).body(body).unwrap();
        let response: Response = self.gateway.serve(request, None).await;
        let code = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (code, String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Puts an object into the store, past everything that would look at it.
    async fn put(&self, resource: &'static Resource, name: &str) {
        let namespace = if resource.namespaced { "shop" } else { "" };
        let target = Target { resource, namespace, name };
        let object = object(resource, name);
        let ty = resource.ty().unwrap();
        let mut decoded = decode::value(ty, object.as_object().unwrap()).unwrap();
        defaults::set(ty, &mut decoded.object);
        let object = Object::new(decoded.object.into()).unwrap();
        self.registry.create(&target, object, false).await.unwrap();
    }
}

/// An object that may be changed into itself.
fn object(resource: &Resource, name: &str) -> Value {
    let mut object = json!({
        "kind": resource.kind, "apiVersion": resource.api_version(),
        "metadata": {"name": name, "uid": format!("uid-of-{name}"), "creationTimestamp": "2026-01-01T00:00:00Z"},
    });
    if resource.namespaced {
        object["metadata"]["namespace"] = json!("shop");
    }
    let pod = json!({"containers": [{"name": "app", "image": "app:1"}]});
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": pod});
    let selector = json!({"matchLabels": {"a": "b"}});
    let mut job = template.clone();
    job["spec"]["restartPolicy"] = json!("Never");
    match (resource.group, resource.plural) {
        ("", "pods") => object["spec"] = pod,
        ("", "services") => {
            object["spec"] = json!({"ports": [{"port": 80}],
            "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]})
        }
        ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets") => {
            object["spec"] = json!({"selector": selector, "template": template});
        }
        ("batch", "jobs") => object["spec"] = json!({"template": job}),
        ("batch", "cronjobs") => {
            object["spec"] = json!({"schedule": "* * * * *",
                "jobTemplate": {"spec": {"template": job}}});
        }
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => {
            object["spec"] = json!({
                "matchConstraints": {"resourceRules": [{"apiGroups": ["none.example.com"], "apiVersions": ["*"],
                    "operations": ["*"], "resources": ["*"]}]},
                "validations": [{"expression": "true"}],
            });
        }
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings") => {
            object["spec"] = json!({"policyName": "p", "validationActions": ["Deny"]});
        }
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => {
            object["roleRef"] =
                json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "c"});
        }
        _ => {}
    }
    object
}

/// The body of a request to something below an object.
fn below(subresource: &str, name: &str) -> Option<Value> {
    let metadata = json!({"name": name, "namespace": "shop"});
    Some(match subresource {
        "binding" => json!({"kind": "Binding", "apiVersion": "v1", "metadata": metadata,
            "target": {"kind": "Node", "name": "n"}}),
        "eviction" => json!({"kind": "Eviction", "apiVersion": "policy/v1", "metadata": metadata}),
        "token" => {
            json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {"audiences": []}})
        }
        "scale" => json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
            "spec": {"replicas": 1}}),
        _ => return None,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mutating_route_and_verb_reaches_the_chain() {
    let built = Built::new().await;
    let mut asked = 0;
    let mut missed = Vec::new();
    for resource in resources().all() {
        if resource.stored != (resource.group, resource.version) {
            continue;
        }
        let root = match resource.group {
            "" => format!("/api/{}", resource.version),
            group => format!("/apis/{group}/{}", resource.version),
        };
        let place = if resource.namespaced { "/namespaces/shop" } else { "" };
        let collection = format!("{root}{place}/{}", resource.plural);
        let own = [("", &resource.verbs)];
        let subresources = resource.subresources.iter().map(|below| (below.name, &below.verbs));
        for (subresource, verbs) in own.into_iter().chain(subresources) {
            if OF_NODES.contains(&subresource) {
                continue;
            }
            for verb in verbs.iter().filter(|verb| MUTATING.contains(verb)) {
                let name = format!("{verb}-{}", if subresource.is_empty() { "it" } else { subresource });
                let is_stored = resource.allows("get") && (*verb != "create" || !subresource.is_empty());
                if is_stored {
                    built.put(resource, &name).await;
                }
                let slash = if subresource.is_empty() { "" } else { "/" };
                let one = format!("{collection}/{name}{slash}{subresource}");
                let body = below(subresource, &name).unwrap_or_else(|| match resource.plural {
                    "bindings" => below("binding", &name).unwrap_or_default(),
                    _ => object(resource, &name),
                });
                let (json, merge) = ("application/json", "application/merge-patch+json");
                built.counting.0.lock().unwrap().clear();
                let (code, answer) = match *verb {
                    "create" if subresource.is_empty() => built.send("POST", &collection, json, &body).await,
                    "create" => built.send("POST", &one, json, &body).await,
                    "update" => built.send("PUT", &one, json, &body).await,
                    "patch" => built.send("PATCH", &one, merge, &json!({})).await,
                    "delete" => built.send("DELETE", &one, json, &Value::Null).await,
                    _ => built.send("DELETE", &collection, json, &Value::Null).await,
                };
                let operation = match *verb {
                    "create" => "CREATE",
                    "update" | "patch" => "UPDATE",
                    _ => "DELETE",
                };
                let expected = format!("{operation} {}/{}/{subresource}", resource.group, resource.plural);
                asked += 1;
                if !built.counting.0.lock().unwrap().contains(&expected) {
                    missed.push(format!("{verb} {one}: {expected} was not asked for ({code}): {answer}"));
                }
            }
        }
    }
    assert!(asked > 300, "{asked} routes are too few: the test looks in the wrong place");
    assert!(missed.is_empty(), "{} of {asked}:\n{}", missed.len(), missed.join("\n"));
}
