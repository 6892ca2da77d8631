//! What roles make of a scope, and that a query and a single record are held to the same one.

use std::sync::Arc;

use index::{Index, IndexOptions, SearchRequest, Standing};
use ingest::{
    record::{Boot, Envelope, Kind, Record, RecordId, Seq},
    time::Timestamp,
};
use uuid::Uuid;

use super::*;
use crate::gateway::authz::{Binding, RoleRef, Subject};

const OWN: &str = "local";

fn user(name: &str) -> UserInfo {
    UserInfo { username: name.to_owned(), ..UserInfo::default() }
}

/// A role that gives these verbs on events, of these names.
fn role(verbs: &[&str], names: &[&str]) -> Arc<[Rule]> {
    let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    [Rule {
        verbs: list(verbs),
        api_groups: list(&[GROUP]),
        resources: list(&[EVENTS]),
        resource_names: list(names),
        ..Rule::default()
    }]
    .into()
}

fn binding(role: &str, name: &str) -> Binding {
    let subject = Subject { kind: "User".into(), name: name.into(), namespace: String::new() };
    let role = RoleRef { kind: "ClusterRole".into(), name: role.into() };
    Binding { name: name.into(), role, subjects: vec![subject] }
}

fn roles() -> Snapshot {
    let mut roles = Snapshot { is_known: true, ..Snapshot::default() };
    for (name, rules) in [
        ("reader", role(&["get", "list"], &[])),
        ("of-demo", role(&["list"], &["demo"])),
        ("of-own", role(&["list"], &[OWN])),
    ] {
        roles.cluster_roles.insert(name.into(), rules);
    }
    roles.cluster_bindings =
        vec![binding("reader", "auditor"), binding("of-demo", "dora"), binding("of-own", "olaf")];
    let bound = |role: &str, names: &[&str]| names.iter().map(|name| binding(role, name)).collect::<Vec<_>>();
    roles.bindings.insert("shop".into(), bound("reader", &["alice", "olaf"]));
    roles.bindings.insert("bank".into(), bound("of-demo", &["alice"]));
    roles.bindings.insert("farm".into(), bound("of-own", &["bob"]));
    roles
}

fn of(name: &str, verb: &str) -> Scope {
    Scope::of(&roles(), &user(name), verb, &OWN.into())
}

fn only(clusters: &[&str], namespaces: &[&str]) -> Scope {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Scope::Only(Arc::new(Shares { clusters: set(clusters), own: OWN.into(), namespaces: set(namespaces) }))
}

#[test]
fn a_scope_is_what_bindings_give_where_they_stand() {
    let master = UserInfo { groups: vec![MASTERS.into()], ..user("root") };
    assert_eq!(Scope::of(&roles(), &master, "list", &OWN.into()), Scope::Everything);
    assert_eq!(of("auditor", "list"), Scope::Everything);
    assert!(of("auditor", "watch").is_empty(), "each verb by itself");
    assert_eq!(of("dora", "list"), only(&["demo"], &[]));
    assert_eq!(
        of("alice", "list"),
        only(&[], &["shop"]),
        "a name of another cluster gives nothing in a namespace"
    );
    assert_eq!(of("bob", "list"), only(&[], &["farm"]));
    assert_eq!(of("olaf", "list"), only(&[OWN], &[]), "all of the cluster needs no namespace");
    assert!(of("nobody", "list").is_empty());
}

fn record(n: u64, cluster: &str, kind: Kind, event: &str) -> Record {
    let at = Timestamp::from_micros(1_767_323_045_000_000 + n as i64);
    let id =
        RecordId(Uuid::from_u128(RecordId::floor(at).0.as_u128() | 0x8000 << 64 | 1 << 63 | u128::from(n)));
    Record {
        envelope: Envelope {
            v: 1,
            id,
            cluster: cluster.into(),
            source: "a".into(),
            boot: Boot(Uuid::from_u128(1)),
            seq: Seq(n),
            received_at: at,
            kind,
            at,
            rules: "".into(),
            redactions: 0,
        },
        event: event.as_bytes().to_vec().into(),
    }
}

fn in_namespace(namespace: &str) -> String {
    format!(r#"{{"verb":"get","objectRef":{{"resource":"pods","namespace":"{namespace}"}}}}"#)
}

fn records() -> Vec<Record> {
    let none = r#"{"verb":"get","objectRef":{"resource":"nodes"}}"#.to_owned();
    let mut all = Vec::new();
    for cluster in [OWN, "Local", "demo", "muniment"] {
        for kind in Kind::ALL {
            for event in [in_namespace("shop"), in_namespace("Shop"), in_namespace("bank"), none.clone()] {
                all.push(record(all.len() as u64, cluster, kind, &event));
            }
        }
    }
    all.push(record(all.len() as u64, OWN, Kind::Audit, r#"{"namespace":"shop","verb":"get"}"#));
    all
}

#[tokio::test]
async fn no_query_finds_more_than_the_scope_holds_and_the_empty_one_finds_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let index = Index::open(folder.path(), IndexOptions::default()).unwrap();
    let records = records();
    index.add(&records).unwrap();
    index.commit(&Standing::default()).unwrap();
    let scopes = [
        Scope::Everything,
        only(&[], &[]),
        only(&[], &["shop"]),
        only(&[], &["shop", "bank"]),
        only(&["demo"], &[]),
        only(&["demo"], &["shop"]),
        only(&[OWN], &[]),
    ];
    let attacks = [
        "*",
        "cluster:demo",
        "ns:shop or ns:bank or cluster:demo",
        "-ns:shop",
        "not (ns:shop and cluster:local)",
        "verb:get) or (verb:get",
        "kind:access or kind:pipeline",
        "ns:null",
        "ns:/.*/ or cluster:/.*/i",
        "verb:get or *",
    ];
    for scope in &scopes {
        let held = |record: &&Record| scope.holds(record);
        let expected = records.iter().filter(held).map(|record| record.envelope.id);
        let mut expected: Vec<RecordId> = expected.collect();
        expected.sort_unstable_by(|a, b| b.cmp(a));
        for attack in attacks {
            let Ok(query) = index::query::parse(attack, Timestamp::default()) else {
                assert!(attack.contains(')'), "{attack} does not read");
                continue;
            };
            let narrowed = scope.narrow(query);
            let page = index.search(narrowed.query(), SearchRequest::newest(1_000)).await.unwrap();
            let found: Vec<RecordId> = page.hits.iter().map(|hit| hit.id).collect();
            assert!(found.iter().all(|id| expected.contains(id)), "{scope:?} {attack}");
            if ["*", "verb:get or *"].contains(&attack) {
                assert_eq!(found, expected, "{scope:?} {attack}");
            }
        }
    }
}
