//! What the index answers is what a reading of every event by itself would answer, for many queries.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "model/naive.rs"]
mod naive;
#[path = "support/samples.rs"]
mod samples;

use std::collections::BTreeSet;

use index::{
    Index, IndexOptions, SearchRequest, Standing,
    query::{
        Addresses, Case, Clause, Compare, Core, Digits, Expr, Field, Match, Number, Pattern, Piece, Query,
        Regex, Test, Type, fields::TABLE,
    },
};
use ingest::{record::Record, time::Timestamp};
use proptest::{prelude::*, sample::Index as Pick};
use serde_json::Value;

/// Events that a recorded run does not have.
const ODD: [&str; 9] = [
    r#"{"stageTimestamp":"2026-11-23T10:00:00.000001Z","requestObject":{"n":9007199254740993,"s":"9007199254740993","f":1.5,"z":-0.0,"t":true,"nul":null,"e":{},"a":[],"an":[null],"x":{"y":null}}}"#,
    r#"{"stageTimestamp":"2026-11-23T10:00:00.000001Z","requestObject":{"n":9007199254740992,"s":"TRUE","f":"1.5","t":"true","nul":"null","A":"Ärger ÄRGER","when":"2026-11-23T10:00:00Z"}}"#,
    r#"{"stageTimestamp":"2026-11-24T10:00:00.000001Z","requestObject":[{"op":"add","path":"/spec","value":{"n":[1,-2,3e3]}},{"op":"remove","path":"/a.b"}],"verb":"Patch"}"#,
    r#"{"stageTimestamp":"2026-11-24T10:00:00.000001Z","sourceIPs":["2001:db8::1","10.1.2.3"],"requestURI":"/a%20b?x=%41+b&x=c&empty&bad=%zz&y=Z","requestReceivedTimestamp":"2026-11-24T09:59:57.000001Z"}"#,
    r#"{"stageTimestamp":"2026-11-25T10:00:00.000001Z","user":{"username":"Ünal","groups":["A","a"],"extra":{"scopes.example/x":["One","two three"]}},"sourceIPs":["not an address","10.255.0.1"]}"#,
    r#"{"stageTimestamp":"2026-11-25T10:00:00.000002Z","annotations":{"a.b/c":"the quick brown fox","authorization.k8s.io/reason":"RBAC: allowed by Brown Fox","authorization.k8s.io/decision":"Allow"}}"#,
    r#"{"stageTimestamp":"2026-11-25T10:00:00.000003Z","responseStatus":{"code":404,"message":"the brown, quick fox was not Found","reason":"NotFound","details":{"causes":[{"field":"spec.A"},{"field":"b"}]}}}"#,
    r#"{"kind":"Fact","type":"boot","stageTimestamp":"2026-11-25T10:00:00.000004Z","previous":{"boot":"00000000-0000-7000-8000-000000000001","last_seq":17}}"#,
    r#"{"stageTimestamp":"2026-11-25T10:00:00.000005Z","requestObject":{"k\u0001":"v\u0002w","":"empty key","line":"one\ntwo"},"userAgent":"Kubectl/v1.32 (Linux)"}"#,
];

fn records() -> Vec<Record> {
    let mut records = samples::recorded().unwrap_or_default();
    let odd = ODD.iter().enumerate().map(|(n, event)| samples::record(event, 1_000_000 + n as u64));
    records.extend(odd);
    let long = format!(
        r#"{{"stageTimestamp":"2026-11-25T11:00:00Z","requestObject":{{"long":"{} End"}}}}"#,
        "Lorem ipsum dolor ".repeat(20)
    );
    records.push(samples::record(&long, 2_000_000));
    records
}

/// An index of the records, some of them added again, in several commits.
fn index_of(records: &[Record]) -> (tempfile::TempDir, Index) {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path(), IndexOptions::default()).unwrap();
    for part in records.chunks(1_500) {
        index.add(part).unwrap();
        index.add(&part[..part.len() / 3]).unwrap();
        index.commit(&Standing::default()).unwrap();
    }
    index.add(&records[..records.len() / 10]).unwrap();
    index.commit(&Standing::default()).unwrap();
    (dir, index)
}

#[test]
fn every_query_finds_what_a_reading_of_every_event_finds() {
    let records = records();
    let model: Vec<naive::Event> = records.iter().map(naive::Event::of).collect();
    let (_dir, index) = index_of(&records);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config =
        ProptestConfig { cases: 300, failure_persistence: None, max_shrink_iters: 60, ..Default::default() };
    let strategy = (any::<[Pick; 3]>(), query());
    let mut runner = proptest::test_runner::TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let found = std::cell::Cell::new(0);
    runner
        .run(&strategy, |(picks, shape)| {
            // One of three is an odd one.
            let odd = &model[model.len() - ODD.len() - 1..];
            let examples = [pick_of(&picks[0], odd), pick_of(&picks[1], &model), pick_of(&picks[2], &model)];
            let query = Query::new(shape.build(&examples));
            let expected: BTreeSet<_> =
                model.iter().filter(|event| event.matches(&query.filter)).map(|event| event.id).collect();
            let page = runtime.block_on(index.search(&query, SearchRequest::newest(10_000))).unwrap();
            let answered: BTreeSet<_> = page.hits.iter().map(|hit| hit.id).collect();
            prop_assert_eq!(answered.len(), page.hits.len(), "{}: an event twice", &query);
            prop_assert_eq!(page.partial, None, "{}", &query);
            let missing: Vec<_> = expected.difference(&answered).take(3).collect();
            let surplus: Vec<_> = answered.difference(&expected).take(3).collect();
            prop_assert!(
                missing.is_empty() && surplus.is_empty(),
                "{} ({:?}): missing {:?}, surplus {:?}",
                &query,
                &query.filter,
                missing,
                surplus
            );
            if !expected.is_empty() && expected.len() < model.len() {
                found.set(found.get() + 1);
            }
            Ok(())
        })
        .unwrap();
    assert!(found.get() > 80, "only {} queries told events apart: the test says little", found.get());
}

fn pick_of<'m>(pick: &Pick, events: &'m [naive::Event]) -> &'m naive::Event {
    pick.get(events)
}

/// A query before it is filled with values of some events.
#[derive(Clone, Debug)]
enum Shape {
    Leaf { event: usize, pick: Pick, how: u8, twist: u8, number: i64 },
    All(Vec<Shape>),
    Any(Vec<Shape>),
    Not(Box<Shape>),
}

fn query() -> impl Strategy<Value = Shape> {
    let leaf = (0..3_usize, any::<Pick>(), any::<u8>(), any::<u8>(), -3..1_000_i64)
        .prop_map(|(event, pick, how, twist, number)| Shape::Leaf { event, pick, how, twist, number });
    leaf.prop_recursive(3, 6, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Shape::All),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Shape::Any),
            inner.prop_map(|part| Shape::Not(Box::new(part))),
        ]
    })
}

impl Shape {
    fn build(&self, examples: &[&naive::Event]) -> Expr {
        match self {
            Self::All(parts) => Expr::all(parts.iter().map(|part| part.build(examples)).collect()),
            Self::Any(parts) => Expr::any(parts.iter().map(|part| part.build(examples)).collect()),
            Self::Not(part) => !part.build(examples),
            Self::Leaf { event, pick, how, twist, number } => {
                leaf(&examples[*event % examples.len()].json, pick, *how, *twist, *number)
            }
        }
    }
}

/// A condition that the example mostly meets.
fn leaf(example: &Value, pick: &Pick, how: u8, twist: u8, number: i64) -> Expr {
    if how.is_multiple_of(8) {
        let words: Vec<String> =
            naive::free_text(example).into_iter().flat_map(|text| naive::words(&text)).collect();
        if words.is_empty() {
            return Expr::everything();
        }
        let at = pick.index(words.len());
        return Expr::Text(text_pattern(&words, at, twist));
    }
    let places = naive::places(example);
    let (field, value) = &places[pick.index(places.len())];
    let test = if how % 8 == 1 {
        if twist.is_multiple_of(2) { Test::Exists } else { Test::Missing }
    } else {
        value_test(field, value, twist, number)
    };
    Expr::Clause(Clause { field: field.clone(), test })
}

fn text_pattern(words: &[String], at: usize, twist: u8) -> Pattern {
    match twist % 4 {
        0 => Pattern::Word(words[at].to_uppercase()),
        1 => {
            let pieces = vec![Piece::Literal(words[at].chars().take(2).collect()), Piece::Many];
            Pattern::Wildcard(pieces)
        }
        2 => Pattern::Phrase { text: words[at..words.len().min(at + 3)].join(" "), slop: 0 },
        _ => {
            let far = words.len().min(at + 4) - 1;
            Pattern::Phrase { text: format!("{} {}", words[at], words[far]), slop: u32::from(twist / 4 % 4) }
        }
    }
}

fn value_test(field: &Field, value: &Value, twist: u8, number: i64) -> Test {
    let compare = |n: Number| match twist % 6 {
        0 => Compare::Is(n),
        1 => Compare::Below(n),
        2 => Compare::AtMost(n),
        3 => Compare::Above(n),
        4 => Compare::AtLeast(n),
        _ => Compare::Between(Number::Int(number.min(n.as_f64() as i64 - 1)), n),
    };
    match field.ty() {
        Type::Number => {
            let code = value.as_i64().unwrap_or(number);
            match twist % 3 {
                0 => Test::Digits(Digits {
                    prefix: (code / 100).unsigned_abs() as u32 + 1,
                    more: 2,
                    open: twist.is_multiple_of(2),
                }),
                _ => Test::Number(compare(Number::Int(code))),
            }
        }
        Type::Time => {
            let at: Timestamp = value.as_str().and_then(|text| text.parse().ok()).unwrap_or_default();
            Test::Time(match twist % 4 {
                0 => Compare::Is(at),
                1 => Compare::Below(at),
                2 => Compare::AtLeast(at),
                _ => Compare::Between(at, Timestamp::from_micros(at.micros() + number.abs() * 1_000)),
            })
        }
        Type::Duration => {
            let length = std::time::Duration::from_micros(number.unsigned_abs() * 50);
            Test::Duration(if twist.is_multiple_of(2) {
                Compare::Above(length)
            } else {
                Compare::AtMost(length)
            })
        }
        Type::Address => {
            let address: std::net::IpAddr =
                value.as_str().and_then(|text| text.parse().ok()).unwrap_or([10, 1, 2, 3].into());
            let full = if address.is_ipv4() { 32 } else { 128 };
            Test::Address(match twist % 3 {
                0 => Addresses::Network { address, prefix: full },
                1 => Addresses::Between(address, address),
                _ => naive::network(address, full / 4),
            })
        }
        Type::Any if value.is_number() && twist.is_multiple_of(2) => {
            let n =
                value.as_i64().map_or_else(|| Number::Float(value.as_f64().unwrap_or_default()), Number::Int);
            Test::Number(compare(n))
        }
        ty => Test::Match(string_test(ty, value, twist)),
    }
}

fn string_test(ty: Type, value: &Value, twist: u8) -> Match {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let words = naive::words(&text);
    let case = if twist & 1 == 0 { Case::Ignored } else { Case::Sensitive };
    let some: String = text.chars().skip(1).take(4).collect();
    let first: String = text.chars().take(3).collect();
    if ty == Type::Text || ty == Type::TextAndKeyword && twist.is_multiple_of(3) {
        if words.is_empty() {
            return Match { pattern: Pattern::Wildcard(vec![Piece::Many]), case: Case::Ignored };
        }
        let at = usize::from(twist) % words.len();
        return Match { pattern: text_pattern(&words, at, twist / 3), case: Case::Ignored };
    }
    let pattern = match twist / 2 % 6 {
        0 if ty == Type::TextAndKeyword => Pattern::Wildcard(vec![Piece::Literal(text)]),
        0 => Pattern::Word(text.to_uppercase()),
        1 => Pattern::Word(text),
        2 => Pattern::Phrase { text, slop: 0 },
        3 => Pattern::Wildcard(vec![Piece::Literal(first), Piece::Many]),
        4 => Pattern::Wildcard(vec![Piece::One, Piece::Literal(some), Piece::Many]),
        _ => {
            let insensitive = twist & 1 == 0;
            let regex = Regex::new(regex::escape(&some), insensitive).unwrap();
            let case = if insensitive { Case::Ignored } else { Case::Sensitive };
            return Match { pattern: Pattern::Regex(regex), case };
        }
    };
    let needs_words = ty == Type::TextAndKeyword && case == Case::Ignored && words.is_empty();
    Match { pattern, case: if needs_words { Case::Sensitive } else { case } }
}

#[test]
fn every_named_field_is_tested_by_some_query() {
    let records = records();
    let (_dir, index) = index_of(&records);
    let model: Vec<naive::Event> = records.iter().map(naive::Event::of).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for info in &TABLE {
        let query = Query::new(Expr::Clause(Clause { field: info.core.into(), test: Test::Exists }));
        let expected = model.iter().filter(|event| event.matches(&query.filter)).count();
        let page = runtime.block_on(index.search(&query, SearchRequest::newest(10_000))).unwrap();
        assert_eq!(page.hits.len(), expected, "{query}");
        let is_in_samples = !matches!(info.core, Core::As | Core::AsGroup);
        assert!(!is_in_samples || records.len() < 100 || expected > 0, "{query} finds nothing");
    }
}
