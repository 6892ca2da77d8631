//! A gateway over a store that can be looked into, held up and broken.

use std::{path::Path, sync::Mutex, time::Duration};

use ::admission::{AdmissionChain, Configuration};
use axum::http::StatusCode;
use bytes::Bytes;
use ingest::{
    event::{EventView, Level, Stage},
    identity::{DeploymentKey, ValueDigests},
    journal::{Journal, JournalOptions},
    log::Offset,
    pipeline::Fact,
    policy::Loaded,
    record::{Kind, Record},
    redact::{Redactor, RuleSet},
    time::Clock,
};
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};

use super::*;
use crate::{
    gateway::{
        admission::StoredState,
        audit::{AnnouncedStore, Mode},
        authn::{Authenticator, Sources, account::ServiceAccounts, signing_key::SigningKey},
        authz::Snapshot,
        limits::{Bounds, Limits, Ticks},
        refusals::Refusals,
        store::{List, Listing, Read, Revision, SqliteStore, Store, StoreError, Watch, WriteError},
        user::MASTERS,
    },
    later::Later,
    tokens::Tokens,
};

/// Looks into the journal whenever something is created, and does what the key says.
#[derive(Debug)]
struct Probe {
    below: SqliteStore,
    journal: Journal,
    /// What the journal held when each key was created.
    seen: Mutex<Vec<(String, Vec<Record>)>>,
    arrived: Semaphore,
    let_go: Semaphore,
}

#[async_trait::async_trait]
impl Store for Probe {
    fn prefix(&self) -> &str {
        self.below.prefix()
    }

    async fn get(&self, key: &str) -> Result<Read, StoreError> {
        assert!(!key.contains("broken"), "the store panics");
        self.below.get(key).await
    }

    async fn list(&self, list: &List<'_>) -> Result<Listing, StoreError> {
        self.below.list(list).await
    }

    async fn create(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<Revision, WriteError> {
        let held = records(&self.journal).await;
        self.seen.lock().unwrap().push((key.to_owned(), held));
        let made = self.below.create(key, value, ttl).await;
        assert!(!key.contains("broken"), "the store panics");
        if key.contains("slow") {
            self.arrived.add_permits(1);
            self.let_go.acquire().await.unwrap().forget();
        }
        made
    }

    async fn update(
        &self,
        key: &str,
        value: Bytes,
        expected: Revision,
        ttl: Option<Duration>,
    ) -> Result<Revision, WriteError> {
        self.below.update(key, value, expected, ttl).await
    }

    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision, WriteError> {
        self.below.delete(key, expected).await
    }

    fn watch(&self, prefix: &str, after: Revision) -> Watch {
        self.below.watch(prefix, after)
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.below.compact(revision).await
    }

    async fn current(&self) -> Result<Revision, StoreError> {
        self.below.current().await
    }

    async fn healthy(&self) -> Result<(), StoreError> {
        self.below.healthy().await
    }
}

async fn records(journal: &Journal) -> Vec<Record> {
    let read = journal.read(Offset(0), 10_000).await.unwrap();
    read.into_iter().map(|entry| entry.record.unwrap()).collect()
}

struct Harness {
    gateway: Gateway,
    journal: Journal,
    probe: Arc<Probe>,
    policy: watch::Sender<Arc<Loaded>>,
    _folder: tempfile::TempDir,
}

/// The stages of the events in some records, and the types of the facts.
fn told(records: &[Record]) -> Vec<String> {
    let of = |record: &Record| match record.envelope.kind {
        Kind::Audit => EventView::parse(&record.event).unwrap().stage().unwrap().as_str().to_owned(),
        Kind::Pipeline | Kind::Access => match Fact::read(&record.event).unwrap() {
            Fact::Boot { .. } => "boot".to_owned(),
            Fact::Intent { change, .. } => format!("intent {}", change.split('@').next().unwrap()),
            Fact::Outcome { code, .. } => format!("outcome {code}"),
            other => format!("{other:?}"),
        },
    };
    records.iter().map(of).filter(|text| text != "boot").collect()
}

impl Harness {
    async fn new(mode: Mode) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let clock = Clock::system();
        let options = JournalOptions::new("a", clock.clone());
        let (journal, _) = Journal::open(&at("journal"), options).unwrap();
        let below = SqliteStore::open(&at("cluster.sqlite"), clock.clone()).await.unwrap();
        let probe = Arc::new(Probe {
            below,
            journal: journal.clone(),
            seen: Mutex::default(),
            arrived: Semaphore::new(0),
            let_go: Semaphore::new(0),
        });
        let key = DeploymentKey::from_bytes([7; 32]);
        let redactor = watch::channel(Arc::new(Redactor::new(&RuleSet::builtin(), &key))).1;
        let (policy, in_force) = watch::channel(Arc::new(policy("")));
        let store = AnnouncedStore::new(probe.clone(), ValueDigests::new(&key));
        let registry = Registry::new(Arc::new(store), clock.clone());
        let door = door(&registry, &journal, folder.path(), &clock);
        let charges = Charges::new(registry.clone());
        let nothing = watch::channel(Some(Arc::new(Configuration::default()))).1;
        let state = StoredState::new(registry.clone(), charges.clone(), nothing);
        let chain = AdmissionChain::before(Arc::new(state));
        // Nothing else is read from the store: its keys are not what these tests are about.
        let off = ["NamespaceLifecycle", "ServiceAccount", "ResourceQuota", "LimitRanger"];
        let gate = Gate::new(chain.with_plugins(&[], &off.map(str::to_owned)).unwrap(), charges);
        let auditor = Auditor::new(journal.clone(), redactor, in_force, "local".into(), mode, clock);
        let gateway = Gateway::new(registry, auditor, door, gate);
        Self { gateway, journal, probe, policy, _folder: folder }
    }

    fn create(&self, name: &str) -> impl Future<Output = Response> + use<> {
        let body = format!(r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"{name}"}}}}"#);
        let request = Request::post("/api/v1/namespaces/shop/configmaps")
            .header("content-type", "application/json")
            .header("audit-id", name)
            .body(Body::from(body))
            .unwrap();
        let (gateway, user) = (self.gateway.clone(), master());
        async move { gateway.serve_as(request, user).await }
    }

    async fn told(&self) -> Vec<String> {
        told(&records(&self.journal).await)
    }

    /// What the journal held when `name` was about to be stored.
    fn before(&self, name: &str) -> Vec<Record> {
        let seen = self.probe.seen.lock().unwrap();
        let key = format!("configmaps/shop/{name}");
        seen.iter().find(|(made, _)| *made == key).map(|(_, held)| held.clone()).unwrap()
    }
}

fn policy(omitted: &str) -> Loaded {
    let text = format!(
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [{omitted}]\nrules: [{{level: RequestResponse}}]\n"
    );
    Loaded::from_bytes(text.as_bytes()).unwrap()
}

fn master() -> UserInfo {
    UserInfo { username: "root".into(), groups: vec![MASTERS.to_owned()], ..UserInfo::default() }
}

fn door(registry: &Registry, journal: &Journal, folder: &Path, clock: &Clock) -> Door {
    let tokens = Tokens::open(Later::new(), folder.join("tokens.json"), clock.clone()).unwrap();
    let key = SigningKey::own(&folder.join("service-account.key")).unwrap();
    let issuer = "https://issuer".to_owned();
    let objects = Arc::new(registry.clone());
    Door {
        authenticator: Authenticator::new(tokens, Sources::default(), clock.clone()),
        accounts: Arc::new(ServiceAccounts::new(issuer, Vec::new(), key, Vec::new(), objects, clock.clone())),
        limits: Limits::new(Bounds::default(), Ticks::system()),
        refusals: Refusals::new(journal.clone(), clock.clone()),
        roles: watch::channel(Arc::new(Snapshot::default())).1,
    }
}

#[tokio::test]
async fn a_change_is_made_after_its_opening_record_and_answered_after_its_closing_one() {
    let harness = Harness::new(Mode::Strict).await;
    assert_eq!(harness.create("a").await.status(), StatusCode::CREATED);
    let before = harness.before("a");
    assert_eq!(told(&before), ["RequestReceived"]);
    let opening = EventView::parse(&before.last().unwrap().event).unwrap();
    assert_eq!(opening.audit_id().as_deref(), Some("a"));
    let text = String::from_utf8_lossy(&before.last().unwrap().event).into_owned();
    assert!(text.contains(r#""muniment.io/change":"configmaps/shop/a@0 "#), "{text}");
    assert!(!text.contains("requestObject"), "{text}");
    assert_eq!(harness.told().await, ["RequestReceived", "ResponseComplete"]);
    let closing = String::from_utf8_lossy(&records(&harness.journal).await.pop().unwrap().event).into_owned();
    assert!(closing.contains("responseObject") && !closing.contains("muniment.io/change"), "{closing}");
}

#[tokio::test]
async fn an_intent_and_an_outcome_stand_for_the_stages_that_the_policy_leaves_out() {
    let harness = Harness::new(Mode::Strict).await;
    harness.policy.send_replace(Arc::new(policy("RequestReceived, ResponseComplete")));
    assert_eq!(harness.create("a").await.status(), StatusCode::CREATED);
    assert_eq!(told(&harness.before("a")), ["intent configmaps/shop/a"]);
    assert_eq!(harness.create("a").await.status(), StatusCode::CONFLICT);
    let expected = ["intent configmaps/shop/a", "outcome 201", "intent configmaps/shop/a", "outcome 409"];
    assert_eq!(harness.told().await, expected);
}

#[tokio::test]
async fn a_request_that_changes_nothing_has_both_records_at_its_end() {
    let harness = Harness::new(Mode::Strict).await;
    assert_eq!(harness.create("NOT A NAME").await.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(harness.told().await, ["RequestReceived", "ResponseComplete"]);
    assert!(harness.probe.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn without_room_in_the_journal_nothing_is_done() {
    let harness = Harness::new(Mode::Strict).await;
    let most = harness.journal.stats().max_bytes as usize;
    let hold = harness.journal.hold(1, most - 1_000_000).unwrap();
    let refused = harness.create("a").await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["retry-after"], "1");
    assert!(harness.probe.seen.lock().unwrap().is_empty());
    drop(hold);
    assert_eq!(harness.create("a").await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn a_handler_that_panics_is_recorded_and_the_next_request_is_served() {
    let harness = Harness::new(Mode::Strict).await;
    let broken = harness.create("broken").await;
    assert_eq!(broken.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(broken.headers()["audit-id"], "broken");
    assert_eq!(harness.told().await, ["RequestReceived", "Panic"]);
    let last = records(&harness.journal).await.pop().unwrap().event;
    let event = EventView::parse(&last).unwrap();
    assert_eq!((event.stage(), event.level()), (Some(Stage::Panic), Some(Level::RequestResponse)));
    assert!(String::from_utf8_lossy(&last).contains(r#""code":500"#));
    assert_eq!(harness.create("a").await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn a_change_whose_client_went_away_comes_to_its_end() {
    let harness = Harness::new(Mode::Strict).await;
    let served = tokio::spawn(harness.create("slow"));
    harness.probe.arrived.acquire().await.unwrap().forget();
    served.abort();
    assert!(served.await.unwrap_err().is_cancelled());
    harness.probe.let_go.add_permits(1);
    let mut changed = harness.journal.changed();
    let closed = async {
        while harness.told().await != ["RequestReceived", "ResponseComplete"] {
            changed.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), closed).await.unwrap();
}

#[tokio::test]
async fn in_batch_mode_the_same_records_come_and_nobody_waits_for_them() {
    let harness = Harness::new(Mode::Batch).await;
    assert_eq!(harness.create("a").await.status(), StatusCode::CREATED);
    harness.journal.close().await;
    assert_eq!(harness.told().await, ["RequestReceived", "ResponseComplete"]);
}
