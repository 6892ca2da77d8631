//! The process is killed at random points while clients change objects: no change is stored that was not announced,
//! each one that did not come to its end is listed, and what was answered has both its records.
//!
//! `MUNIMENT_CRASHES` says how many kills in all (100 unless told), `MUNIMENT_CRASH_SEED` when.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/dice.rs"]
mod dice;
#[path = "support/engines.rs"]
mod engines;
#[path = "support/load.rs"]
mod load;
#[path = "support/server.rs"]
mod server;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dice::{Dice, setting};
use engines::{etcd, unique};
use load::page;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use server::{Caller, Server, eventually};

/// Clients that change objects at one time.
const WRITERS: u64 = 6;
/// A kill comes this many milliseconds after the process answers, at the latest.
const LONGEST_LIFE: u64 = 300;
/// Of so many kills at least one must have found a request between its stages whose change was stored, and one whose
/// change was not: with fewer the kills would have hit nothing.
const PER_FIND: u64 = 10;
/// Between two tries while nobody answers.
const AGAIN: Duration = Duration::from_millis(10);

const PATH: &str = "/api/v1/namespaces/shop/configmaps";

/// What the clients did.
#[derive(Default)]
struct Work {
    caller: Mutex<Option<Caller>>,
    is_over: AtomicBool,
    /// The status of each request that was answered, by its audit id: the verb, a dash and the object's name.
    answered: Mutex<BTreeMap<String, StatusCode>>,
}

impl Work {
    /// Makes objects, changes each and deletes every third, until it is over.
    async fn write(&self, writer: u64) {
        for number in 0.. {
            let name = format!("w{writer}-{number}");
            let object = json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": name } });
            if self.ask(Method::POST, "create", &name, object).await != Some(StatusCode::CREATED) {
                if self.is_over.load(Ordering::SeqCst) {
                    return;
                }
                continue;
            }
            let patched =
                self.ask(Method::PATCH, "patch", &name, json!({ "data": { "is": "patched" } })).await;
            if patched == Some(StatusCode::OK) && number % 3 == 0 {
                self.ask(Method::DELETE, "delete", &name, Value::Null).await;
            }
        }
    }

    /// One request, sent once; nothing when its answer did not come.
    async fn ask(&self, method: Method, verb: &str, name: &str, body: Value) -> Option<StatusCode> {
        let caller = loop {
            if self.is_over.load(Ordering::SeqCst) {
                return None;
            }
            let caller = self.caller.lock().unwrap().clone();
            match caller {
                Some(caller) => break caller,
                None => tokio::time::sleep(AGAIN).await,
            }
        };
        let id = format!("{verb}-{name}");
        let path = if verb == "create" { PATH.to_owned() } else { format!("{PATH}/{name}") };
        let request = caller.request(method, &path).header("audit-id", &id);
        let request = match body {
            Value::Null => request,
            body => request.header("content-type", kind_of_body(verb)).body(body.to_string()),
        };
        let Ok(response) = request.send().await else {
            tokio::time::sleep(AGAIN).await;
            return None;
        };
        let status = response.status();
        assert!(status.is_success() || status.is_client_error() || status.as_u16() >= 503, "{id}: {status}");
        self.answered.lock().unwrap().insert(id, status);
        Some(status)
    }
}

fn kind_of_body(verb: &str) -> &'static str {
    if verb == "patch" { "application/merge-patch+json" } else { "application/json" }
}

/// What is on record of the requests.
#[derive(Debug, Default)]
struct Records {
    /// The audit ids of requests with an opening record, and how many each has.
    opened: BTreeMap<String, u64>,
    /// Those with a closing one.
    closed: BTreeMap<String, u64>,
}

impl Records {
    async fn read(caller: &Caller) -> Self {
        let (mut records, mut cursor) = (Self::default(), String::new());
        loop {
            let page = page(caller, "cluster:local resource:configmaps ns:shop", &cursor).await;
            for item in page["items"].as_array().unwrap() {
                let event = &item["event"];
                let id = event["auditID"].as_str().unwrap().to_owned();
                match event["stage"].as_str().unwrap() {
                    "RequestReceived" => *records.opened.entry(id).or_default() += 1,
                    "ResponseComplete" => *records.closed.entry(id).or_default() += 1,
                    stage => panic!("{id} has a stage {stage}"),
                }
            }
            match page["next"].as_str() {
                Some(next) => next.clone_into(&mut cursor),
                None => return records,
            }
        }
    }

    fn open(&self) -> BTreeSet<&str> {
        let is_open = |id: &&String| !self.closed.contains_key(*id);
        self.opened.keys().filter(is_open).map(String::as_str).collect()
    }
}

/// The objects that are stored: name, revision of the last change, and whether it was patched.
async fn stored(caller: &Caller) -> BTreeMap<String, (u64, bool)> {
    let list = caller.json(PATH).await;
    let object = |item: &Value| {
        let revision = item["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        let name = item["metadata"]["name"].as_str().unwrap().to_owned();
        (name, (revision, item["data"]["is"] == "patched"))
    };
    list["items"].as_array().unwrap().iter().map(object).collect()
}

/// Starts, lets clients write for a while, kills; again and again.
async fn kill_often(server: &mut Server, work: &Work, kills: u64, dice: &mut Dice) {
    for _ in 0..kills {
        server.forget_address();
        server.spawn();
        let caller = server.answering().await;
        *work.caller.lock().unwrap() = Some(caller);
        // The random moment is the point of the test.
        tokio::time::sleep(Duration::from_millis(dice.below(LONGEST_LIFE))).await;
        server.kill();
        *work.caller.lock().unwrap() = None;
    }
}

async fn survives(args: &[&str]) {
    let kills = setting("MUNIMENT_CRASHES", 100).div_ceil(2);
    let mut dice = Dice(setting("MUNIMENT_CRASH_SEED", 20_261_130));
    let mut server = Server::start(args).await;
    let namespace = json!({ "kind": "Namespace", "apiVersion": "v1", "metadata": { "name": "shop" } });
    let made =
        server.call().request(Method::POST, "/api/v1/namespaces").json(&namespace).send().await.unwrap();
    assert_eq!(made.status(), StatusCode::CREATED);
    server.kill();

    let work = Arc::new(Work::default());
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let work = work.clone();
            tokio::spawn(async move { work.write(writer).await })
        })
        .collect();
    kill_often(&mut server, &work, kills, &mut dice).await;
    work.is_over.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.await.unwrap();
    }

    server.forget_address();
    server.run().await;
    let caller = server.call();
    let objects = stored(&caller).await;
    let answered = work.answered.lock().unwrap().clone();
    // Nothing is written any more: the records are whole when every request that was opened is closed or listed.
    let (records, unfinished) = eventually("every request that died is listed", async || {
        let report = caller.json("/v1/completeness").await;
        let records = Records::read(&caller).await;
        let listed: Vec<Value> = report["unfinished"].as_array().unwrap().clone();
        let named: BTreeSet<&str> = listed.iter().map(|died| died["audit_id"].as_str().unwrap()).collect();
        let is_whole = answered.keys().all(|id| records.closed.contains_key(id))
            && report["complete"] == true
            && records.open() == named;
        is_whole.then_some((records, listed))
    })
    .await;
    check(&objects, &answered, &records, &unfinished, kills);
    assert!(server.stop().await.success());
}

fn check(
    objects: &BTreeMap<String, (u64, bool)>,
    answered: &BTreeMap<String, StatusCode>,
    records: &Records,
    unfinished: &[Value],
    kills: u64,
) {
    // No stored change without its opening record.
    for (name, (_, is_patched)) in objects {
        assert!(records.opened.contains_key(&format!("create-{name}")), "{name} has no opening record");
        let patch = format!("patch-{name}");
        assert!(!is_patched || records.opened.contains_key(&patch), "{patch} has no opening record");
    }
    // No answered change without both records, and none of them twice.
    for (id, status) in answered {
        let both = (records.opened.get(id), records.closed.get(id));
        assert_eq!(both, (Some(&1), Some(&1)), "{id} was answered with {status}");
    }
    // What is without a closing record is listed once, and nothing else is.
    let named: Vec<&str> = unfinished.iter().map(|died| died["audit_id"].as_str().unwrap()).collect();
    let once: BTreeSet<&str> = named.iter().copied().collect();
    assert_eq!((named.len(), &once), (once.len(), &records.open()));
    let (mut found, mut missed) = (0, 0);
    for died in unfinished {
        let id = died["audit_id"].as_str().unwrap();
        let (verb, name) = id.split_once('-').unwrap();
        assert_eq!((&died["verb"], &died["user"].as_str().is_some()), (&json!(verb), &true), "{died}");
        // Whoever patches after a conflict would announce another try; here nobody is in the way.
        let [change] = &died["changes"].as_array().unwrap()[..] else { panic!("{died}") };
        assert_eq!(change["key"], format!("configmaps/shop/{name}"), "{died}");
        let now = objects.get(name);
        let is_stored = match verb {
            "create" => now.is_some(),
            "patch" => now.is_some_and(|(_, is_patched)| *is_patched),
            _ => now.is_none(),
        };
        if is_stored {
            found += 1;
            assert_eq!(change["fate"], "stored", "{died}: {now:?}");
            let revision = change["revision"].as_u64().unwrap();
            assert!(revision > change["from"].as_u64().unwrap(), "{died}");
            // A request that died is the last one for its object.
            assert!(now.is_none_or(|(at, _)| *at == revision), "{died}: {now:?}");
        } else {
            missed += 1;
            assert_eq!(
                (&change["fate"], &change["revision"]),
                (&json!("not_stored"), &Value::Null),
                "{died}"
            );
        }
    }
    let (changed, died) = (answered.len(), unfinished.len());
    println!("{kills} kills: {changed} requests answered, {died} died: {found} changes stored, {missed} not");
    assert!(answered.len() as u64 > kills, "only {changed} requests were answered");
    assert!(
        found >= kills / PER_FIND,
        "only {found} of {kills} kills found a change without its closing record"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_survive_kills_with_their_records_on_the_embedded_store() {
    survives(&["--controllers=-*"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_survive_kills_with_their_records_on_etcd() {
    let (servers, prefix) = (etcd(), format!("/{}", unique("crash")));
    survives(&["--controllers=-*", "--etcd-servers", &servers, "--etcd-prefix", &prefix]).await;
}
