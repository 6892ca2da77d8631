//! Records that are found before the ledger has them: nobody misses one, and the order stays.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/parts.rs"]
mod parts;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use api::{intake::Bounds, server::router, tokens::Token};
use axum::{
    Router,
    body::{Body, BodyDataStream, to_bytes},
    http::{Request, StatusCode, header},
};
use futures::StreamExt;
use index::Standing;
use ingest::{
    ledger::{Batch, Ledger, SqliteLedger},
    log::{Log, Offset, Partition, local::LocalLog},
    record::{Draft, Kind, Record, RecordId},
    time::Clock,
};
use parts::{Stores, over, token};
use serde_json::{Value, json};
use tower::ServiceExt;

/// More than any answer has.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// What each of the large events holds: three of them are more than one answer gives.
const LARGE: usize = 12 * 1024 * 1024;

/// Longer than any wait of the server for the ledger.
const PATIENCE: Duration = Duration::from_secs(20);

/// A partition of which nobody says how far it goes: records can be applied without the log's own being passed.
const ELSEWHERE: Partition = 7;

/// One instance whose ledger gets what the test gives it, while its index has everything.
struct Instance {
    stores: Stores,
    log: LocalLog,
    ledger: Arc<SqliteLedger>,
    router: Router,
    bearer: String,
    _folder: tempfile::TempDir,
}

impl Instance {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (client, of_client) = token("client", 1);
        Self::over(folder, &[of_client], format!("Bearer {}", client.expose())).await
    }

    async fn over(folder: tempfile::TempDir, tokens: &[Token], bearer: String) -> Self {
        let path: &Path = folder.path();
        let stores = Stores::open(path);
        let log = LocalLog::open(stores.journal.clone(), path.join("positions.json"), &[]).unwrap();
        let ledger = Arc::new(SqliteLedger::open(&path.join("ledger.sqlite")).await.unwrap());
        stores.log.set(Arc::new(log.clone()));
        stores.ledger.set(ledger.clone());
        let router = router(over(&stores, path, tokens, Bounds::default()));
        Self { stores, log, ledger, router, bearer, _folder: folder }
    }

    /// Journals and indexes one record for each name, a millisecond apart.
    async fn index(&self, names: &[&str]) -> Vec<Record> {
        self.index_padded(names, 0).await
    }

    /// The same, with events that are `padding` bytes larger.
    async fn index_padded(&self, names: &[&str], padding: usize) -> Vec<Record> {
        let now = Clock::system().now().micros();
        let drafts =
            (0..).zip(names).map(|(number, name)| draft(name, now + number * 1_000, padding)).collect();
        let receipt = self.stores.journal.append(drafts).await.unwrap();
        let end = Offset(receipt.next.0);
        let first = Offset(end.0 - names.len() as u64);
        // A read gives as many as fit into some bytes, and at least one.
        let mut records: Vec<Record> = Vec::new();
        while records.len() < names.len() {
            let next = Offset(first.0 + records.len() as u64);
            let read = self.stores.journal.read(next, names.len()).await.unwrap();
            records.extend(read.into_iter().map(|entry| entry.record.unwrap()));
        }
        assert_eq!(records.len(), names.len());
        self.stores.index.add(&records).unwrap();
        let standing = Standing::at(self.log.id().await.unwrap(), [(0, end)].into());
        self.stores.index.commit(&standing).unwrap();
        records
    }

    /// The ledger gets records, and nothing says that it passed the others.
    async fn apply(&self, records: &[Record]) {
        self.bring(records, BTreeMap::new()).await;
    }

    /// The ledger has read everything that the log holds.
    async fn pass(&self) {
        let end = self.log.bounds().await.unwrap()[&0].1;
        self.bring(&[], [(0, (Offset(0), end))].into()).await;
    }

    async fn bring(&self, records: &[Record], mut moves: BTreeMap<Partition, (Offset, Offset)>) {
        let id = self.log.id().await.unwrap();
        let at = self.ledger.positions(&id).await.unwrap().get(&ELSEWHERE).copied().unwrap_or_default();
        moves.insert(ELSEWHERE, (at, Offset(at.0 + 1)));
        let batch = Batch { records: records.to_vec(), moves, gaps: Vec::new() };
        self.ledger.apply(&id, &batch).await.unwrap();
    }

    async fn get(&self, path: &str, last_id: Option<&str>) -> Body {
        let mut request = Request::get(path).header(header::AUTHORIZATION, &self.bearer);
        if let Some(id) = last_id {
            request = request.header("Last-Event-ID", id);
        }
        let answer = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.into_body()
    }

    async fn follow(&self, last_id: Option<&str>) -> Follower {
        let stream = self.get("/v1/tail?q=kind:audit", last_id).await.into_data_stream();
        Follower { stream, text: String::new() }
    }

    async fn page(&self, cursor: &str) -> Value {
        let body = self.get(&format!("/v1/events?q=kind:audit&limit=10&cursor={cursor}"), None).await;
        serde_json::from_slice(&to_bytes(body, MAX_BODY).await.unwrap()).unwrap()
    }
}

fn draft(name: &str, micros: i64, padding: usize) -> Draft {
    let at = ingest::time::Timestamp::from_micros(micros);
    let id = (micros as u128 / 1_000) << 80 | 8 << 76 | 2 << 62;
    let event = json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": name,
        "stage": "ResponseComplete", "verb": "get", "stageTimestamp": at, "userAgent": "x".repeat(padding),
    });
    Draft {
        id: RecordId(uuid::Uuid::from_u128(id)),
        cluster: "demo".into(),
        kind: Kind::Audit,
        at,
        rules: "".into(),
        redactions: 0,
        event: event.to_string().into(),
    }
}

/// A client of the tail.
struct Follower {
    stream: BodyDataStream,
    text: String,
}

impl Follower {
    /// Reads until the text that came has `word` in a whole message.
    async fn until(&mut self, word: &str) {
        let read = async {
            while !(self.text.contains(word) && self.text.ends_with("\n\n")) {
                let part = self.stream.next().await.unwrap().unwrap();
                self.text.push_str(std::str::from_utf8(&part).unwrap());
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect(word);
    }

    /// The names of the records that came, in their order.
    fn names(&self) -> Vec<String> {
        let items = self.text.lines().filter_map(|line| line.strip_prefix("data: {\"id\""));
        items
            .map(|rest| serde_json::from_str::<Value>(&format!("{{\"id\"{rest}")).unwrap())
            .map(|item| item["event"]["auditID"].as_str().unwrap().to_owned())
            .collect()
    }

    fn last_id(&self) -> String {
        let last = self.text.lines().rev().find_map(|line| line.strip_prefix("id: "));
        last.unwrap().to_owned()
    }
}

fn names(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().unwrap().iter();
    items.map(|item| item["event"]["auditID"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_follower_waits_for_the_ledger_and_gets_every_record_in_order() {
    let instance = Instance::start().await;
    let mut follower = instance.follow(None).await;
    let records = instance.index(&["a", "b", "c", "d", "e"]).await;
    instance.apply(&[&records[..2], &records[3..]].concat()).await;
    // Twice, so that it waits beyond its first bound.
    follower.until(": waiting for the ledger\n\n: waiting for the ledger\n\n").await;
    assert_eq!(follower.names(), ["a", "b"]);
    instance.apply(&records[2..3]).await;
    follower.until("\"e\"").await;
    assert_eq!(follower.names(), ["a", "b", "c", "d", "e"]);
    assert!(!follower.text.contains("event: gone"), "{}", follower.text);
}

#[tokio::test]
async fn a_follower_that_comes_back_while_the_ledger_lags_misses_nothing() {
    let instance = Instance::start().await;
    let mut first = instance.follow(None).await;
    let records = instance.index(&["a", "b", "c", "d"]).await;
    instance.apply(&[&records[..1], &records[2..]].concat()).await;
    first.until(": waiting").await;
    let mut again = instance.follow(Some(&first.last_id())).await;
    drop(first);
    again.until(": waiting").await;
    let more = instance.index(&["e"]).await;
    instance.apply(&[&records[1..2], &more[..]].concat()).await;
    again.until("\"e\"").await;
    assert_eq!(again.names(), ["b", "c", "d", "e"]);
}

#[tokio::test]
async fn a_record_that_the_ledger_passed_without_it_is_told_as_gone_and_holds_up_nobody() {
    let instance = Instance::start().await;
    let mut follower = instance.follow(None).await;
    let records = instance.index(&["a", "lost", "c"]).await;
    instance.apply(&[&records[..1], &records[2..]].concat()).await;
    follower.until(": waiting").await;
    let page = instance.page("").await;
    assert_eq!((names(&page), &page["gone"]), (vec!["c"], &Value::Null), "{page}");
    instance.pass().await;
    follower.until("\"c\"").await;
    follower.until("event: gone").await;
    assert_eq!(follower.names(), ["a", "c"]);
    let lost = records[1].envelope.id.to_string();
    assert!(follower.text.contains(&format!("data: {{\"gone\":[\"{lost}\"]}}")), "{}", follower.text);
    let page = instance.page("").await;
    assert_eq!((names(&page), &page["next"]), (vec!["c", "a"], &Value::Null), "{page}");
    assert_eq!((&page["partial"], &page["gone"]), (&json!(true), &json!([lost])), "{page}");
}

#[tokio::test]
async fn a_page_ends_before_a_record_that_the_ledger_does_not_have_yet_and_the_next_begins_with_it() {
    let instance = Instance::start().await;
    let records = instance.index(&["a", "b", "c"]).await;
    instance.apply(&[&records[..1], &records[2..]].concat()).await;
    let first = instance.page("").await;
    assert_eq!((names(&first), &first["partial"]), (vec!["c"], &json!(true)), "{first}");
    assert_eq!(first["pending"], json!([records[1].envelope.id.to_string()]), "{first}");
    let same = instance.page(first["next"].as_str().unwrap()).await;
    assert_eq!((names(&same), &same["next"]), (vec![], &first["next"]), "{same}");
    instance.apply(&records[1..2]).await;
    let rest = instance.page(same["next"].as_str().unwrap()).await;
    assert_eq!((names(&rest), &rest["next"]), (vec!["b", "a"], &Value::Null), "{rest}");
    assert_eq!((&rest["partial"], &rest["pending"]), (&json!(false), &Value::Null), "{rest}");
}

#[tokio::test]
async fn a_page_ends_after_32_mib_and_the_next_begins_with_what_it_did_not_get_to() {
    let instance = Instance::start().await;
    let records = instance.index_padded(&["a", "b", "c", "d"], LARGE).await;
    instance.apply(&records).await;
    let first = instance.page("").await;
    assert_eq!(
        (names(&first), &first["partial"]),
        (vec!["d", "c", "b"], &json!(false)),
        "a whole page of its kind"
    );
    assert_eq!(first["pending"], Value::Null);
    let rest = instance.page(first["next"].as_str().expect("there is more")).await;
    assert_eq!((names(&rest), &rest["next"]), (vec!["a"], &Value::Null));
}

#[tokio::test]
async fn a_follower_gets_all_of_a_part_that_is_larger_than_32_mib_and_comes_back_to_the_same_place() {
    let instance = Instance::start().await;
    let mut first = instance.follow(None).await;
    let records = instance.index_padded(&["a", "b", "c", "d"], LARGE).await;
    instance.apply(&records).await;
    first.until("\nid: ").await;
    assert_eq!(first.names(), ["a", "b", "c"]);
    let mut again = instance.follow(Some(&first.last_id())).await;
    again.until("\nid: ").await;
    assert_eq!(again.names(), ["d"]);
    first.until("\"auditID\":\"d\"").await;
    assert_eq!(first.names(), ["a", "b", "c", "d"]);
}
