//! Pages, counts and followers: what callers get of an index that changes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/memory.rs"]
mod memory;
#[path = "support/samples.rs"]
mod samples;

use std::{collections::BTreeSet, ops::Range, time::Duration};

use index::{
    ALL_TIME, CursorError, HistogramRequest, Index, IndexOptions, Partial, QUERY_TIME, SearchError,
    SearchRequest, Standing, TailToken,
    query::{self, Query},
};
use ingest::{
    record::{Record, RecordId},
    time::Timestamp,
};
use memory::{MemoryLedger, MemoryLog};
use tokio_util::sync::CancellationToken;

fn parse(text: &str) -> Query {
    query::parse(text, Timestamp::default()).unwrap()
}

/// Record number `n`: seven of them in each second, from a minute before midnight on.
fn record(n: u64) -> Record {
    let start: Timestamp = "2026-11-22T23:59:00Z".parse().unwrap();
    let at = Timestamp::from_micros(start.micros() + (n / 7) as i64 * 1_000_000);
    let verb = if n.is_multiple_of(2) { "get" } else { "list" };
    samples::record(&format!(r#"{{"stageTimestamp":"{at}","verb":"{verb}"}}"#), n)
}

fn add(index: &Index, numbers: impl IntoIterator<Item = u64>) -> Vec<RecordId> {
    let records: Vec<_> = numbers.into_iter().map(record).collect();
    index.add(&records).unwrap();
    index.commit(&Standing::default()).unwrap();
    records.iter().map(|record| record.envelope.id).collect()
}

fn new() -> (tempfile::TempDir, Index) {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path(), IndexOptions::default()).unwrap();
    (dir, index)
}

#[tokio::test]
async fn pages_give_every_record_once_while_others_arrive() {
    let (_dir, index) = new();
    let mut expected: Vec<_> = add(&index, (0..900).step_by(3));
    expected.sort_unstable();
    expected.reverse();
    let query = parse("*");
    let (mut cursor, mut given, mut round) = (None, Vec::new(), 0);
    loop {
        let request = SearchRequest { cursor, ..SearchRequest::newest(37) };
        let page = index.search(&query, request).await.unwrap();
        given.extend(page.hits.iter().map(|hit| hit.id));
        // Newer and older ones arrive, and merges move everything.
        add(&index, (round * 3..round * 3 + 900).step_by(30).map(|n| n * 3 + 1));
        round += 1;
        match page.next {
            Some(next) => cursor = Some(next.to_string().parse().unwrap()),
            None => break,
        }
        assert!(round < 200, "the pages do not end");
    }
    assert!(given.is_sorted_by(|a, b| a > b), "newest first, each once");
    let given: BTreeSet<_> = given.into_iter().collect();
    assert!(expected.iter().all(|id| given.contains(id)));
}

#[tokio::test]
async fn the_last_page_has_no_next_one() {
    let (_dir, index) = new();
    add(&index, 0..50);
    for limit in [1, 7, 49] {
        let page = index.search(&parse("*"), SearchRequest::newest(limit)).await.unwrap();
        assert!(page.hits.len() == limit && page.next.is_some(), "{limit}");
    }
    let page = index.search(&parse("*"), SearchRequest::newest(50)).await.unwrap();
    assert!(page.hits.len() == 50 && page.next.is_none());
}

#[tokio::test]
async fn a_cursor_of_another_query_is_refused() {
    let (_dir, index) = new();
    add(&index, 0..50);
    let page = index.search(&parse("verb:get"), SearchRequest::newest(5)).await.unwrap();
    let request = SearchRequest { cursor: page.next, ..SearchRequest::newest(5) };
    let refused = index.search(&parse("verb:list"), request).await;
    assert!(matches!(refused, Err(SearchError::Cursor(CursorError::OtherQuery))), "{refused:?}");
}

#[tokio::test]
async fn a_range_begins_with_its_start_and_stops_before_its_end() {
    let (_dir, index) = new();
    add(&index, 0..700);
    let (from, to) = (record(70).envelope.at, record(140).envelope.at);
    let request = SearchRequest { range: from..to, ..SearchRequest::newest(1_000) };
    let page = index.search(&parse("*"), request).await.unwrap();
    assert_eq!(page.hits.len(), 70);
    assert!(page.hits.iter().all(|hit| from <= hit.at && hit.at < to));
    let request = SearchRequest { range: to..from, ..SearchRequest::newest(1_000) };
    assert_eq!(index.search(&parse("*"), request).await.unwrap().hits, []);
}

fn counting(interval: u64) -> HistogramRequest {
    HistogramRequest { range: ALL_TIME, interval: Duration::from_secs(interval), time: QUERY_TIME }
}

#[tokio::test]
async fn a_histogram_counts_each_record_in_its_bucket() {
    let (_dir, index) = new();
    add(&index, 0..700);
    add(&index, 100..200);
    let histogram = index.histogram(&parse("verb:get"), counting(10)).await.unwrap();
    let mut expected = vec![0; 10];
    (0..700).step_by(2).for_each(|n| expected[n / 70] += 1);
    assert_eq!(histogram.counts, expected);
    assert_eq!((histogram.total, histogram.start), (350, record(0).envelope.at));
    let range = record(7).envelope.at..record(21).envelope.at;
    let part = index.histogram(&parse("*"), HistogramRequest { range, ..counting(10) }).await.unwrap();
    assert_eq!(part.counts, [14]);
}

#[tokio::test]
async fn a_histogram_with_an_open_end_stops_at_the_last_record() {
    let (_dir, index) = new();
    add(&index, 0..700);
    let counts = async |range: Range<Timestamp>| {
        let request = HistogramRequest { range, ..counting(10) };
        index.histogram(&parse("*"), request).await.unwrap().counts
    };
    let middle = record(140).envelope.at;
    assert_eq!(counts(middle..ALL_TIME.end).await, [70; 8]);
    assert_eq!(counts(ALL_TIME.start..middle).await, [70; 2]);
    let later = "2027-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(counts(later..ALL_TIME.end).await, [0; 0]);
}

#[tokio::test]
async fn an_empty_index_has_an_empty_histogram() {
    let (_dir, index) = new();
    assert_eq!(index.histogram(&parse("*"), counting(60)).await.unwrap().counts, Vec::<u64>::new());
    let range = record(0).envelope.at..ALL_TIME.end;
    let histogram = index.histogram(&parse("*"), HistogramRequest { range, ..counting(1) }).await.unwrap();
    assert_eq!(histogram.counts, Vec::<u64>::new());
}

#[tokio::test]
async fn a_histogram_of_too_many_buckets_is_refused_by_number() {
    let (_dir, index) = new();
    let year = "2026-01-01T00:00:00Z".parse().unwrap().."2027-01-01T00:00:00Z".parse().unwrap();
    let request = HistogramRequest { range: year, ..counting(1) };
    let refused = index.histogram(&parse("*"), request).await;
    assert!(matches!(refused, Err(SearchError::Buckets { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_query_whose_time_is_up_says_so() {
    let (_dir, index) = new();
    add(&index, 0..700);
    let request = SearchRequest { time: Duration::ZERO, ..SearchRequest::newest(10) };
    assert_eq!(index.search(&parse("*"), request).await.unwrap().partial, Some(Partial::Time));
    let request = HistogramRequest { time: Duration::ZERO, ..counting(10) };
    assert_eq!(index.histogram(&parse("*"), request).await.unwrap().partial, Some(Partial::Time));
}

#[tokio::test]
async fn a_value_that_is_kept_in_part_makes_an_answer_partial_when_it_might_match() {
    let (_dir, index) = new();
    let event = |text: &str| {
        format!(r#"{{"stageTimestamp":"2026-11-23T00:00:00Z","requestObject":{{"data":"{text}"}}}}"#)
    };
    let long = format!("start {} the end", "x".repeat(9_000));
    index.add(&[samples::record(&event(&long), 1), samples::record(&event("short the end"), 2)]).unwrap();
    index.commit(&Standing::default()).unwrap();
    for (query, hits, partial) in [
        ("req.data:start*", 1, None),
        ("req.data:*end", 1, Some(Partial::LongValue)),
        ("req.data:\"short the end\"", 1, None),
        ("\"the end\"", 1, Some(Partial::LongValue)),
        ("\"short the\"", 1, None),
        ("the", 2, None),
        ("verb:*", 0, None),
    ] {
        let page = index.search(&parse(query), SearchRequest::newest(10)).await.unwrap();
        assert_eq!((page.hits.len(), page.partial), (hits, partial), "{query}");
    }
}

#[tokio::test]
async fn what_is_of_another_type_than_its_field_is_found_as_text_and_hides_nothing_else() {
    let (_dir, index) = new();
    let mistyped = r#"{"stageTimestamp":"2026-11-23T00:00:02Z","requestReceivedTimestamp":"2026-11-23T00:00:00Z","sourceIPs":["10.0.0.1",{"via":"proxy nine"}],"user":"anna of accounts","responseStatus":{"code":"403"},"verb":12}"#;
    let sound = r#"{"stageTimestamp":"2026-11-23T00:00:02Z","requestReceivedTimestamp":"2026-11-23T00:00:00Z","sourceIPs":["10.0.0.1"],"user":{"username":"anna"},"verb":"get"}"#;
    index.add(&[samples::record(mistyped, 1), samples::record(sound, 2)]).unwrap();
    index.commit(&Standing::default()).unwrap();
    for (query, hits) in [
        ("latency:2s", 2),
        ("received:2026-11-23", 2),
        ("ip:10.0.0.0/8", 2),
        ("ip.client:10.0.0.1", 1),
        ("anna", 1),
        ("\"anna of accounts\"", 1),
        ("\"accounts anna\"", 0),
        ("\"proxy nine\"", 1),
        ("403", 1),
        ("12", 1),
        ("user:anna", 1),
    ] {
        let page = index.search(&parse(query), SearchRequest::newest(10)).await.unwrap();
        assert_eq!(page.hits.len(), hits, "{query}");
    }
}

/// Reads until there is no more.
async fn follow(index: &Index, query: &Query, mut token: TailToken) -> (Vec<RecordId>, TailToken) {
    let mut given = Vec::new();
    loop {
        let page = index.tail(query, token, 16, QUERY_TIME).await.unwrap();
        given.extend(page.hits.iter().map(|hit| hit.id));
        token = page.token.to_string().parse().unwrap();
        if !page.more {
            return (given, token);
        }
    }
}

#[tokio::test]
async fn a_follower_gets_what_arrives_in_that_order_and_once() {
    let (dir, index) = new();
    add(&index, 0..20);
    let query = parse("*");
    let token = index.tail_from(Timestamp::default());
    let mut expected = add(&index, (30..90).rev());
    // One batch is in order within its day.
    expected.sort_by_key(|id| id.day());
    let (given, token) = follow(&index, &query, token).await;
    assert_eq!(given, expected);
    let (given, token) = follow(&index, &query, token).await;
    assert_eq!(given, []);
    drop(index);
    let index = Index::open(dir.path(), IndexOptions::default()).unwrap();
    let expected = add(&index, 500..520);
    assert_eq!(follow(&index, &query, token).await.0, expected);
}

#[tokio::test]
async fn a_follower_gets_only_what_matches() {
    let (_dir, index) = new();
    let token = index.tail_from(Timestamp::default());
    add(&index, 0..100);
    let (given, _) = follow(&index, &parse("verb:list"), token).await;
    assert_eq!(given.len(), 50);
}

#[tokio::test]
async fn a_follower_goes_on_after_a_rebuild() {
    let (_dir, index) = new();
    let (log, ledger) = (MemoryLog::new("a"), MemoryLedger::default());
    let query = parse("*");
    let first = add(&index, 0..20);
    let token = index.tail_from(record(0).envelope.received_at);
    let (_, token) = follow(&index, &query, token).await;
    let missed = add(&index, 1_000..1_040);
    log.push(&(0..20).chain(1_000..1_040).map(record).collect::<Vec<_>>());
    ledger.record(&log, log.end());
    index.rebuild(&ledger, &CancellationToken::new(), |_| {}).await.unwrap();
    let later = add(&index, [21, 22]);
    let (given, token) = follow(&index, &query, token).await;
    // Some are given again, but none is left out.
    let given: Vec<_> = given.into_iter().filter(|id| !first.contains(id)).collect();
    assert_eq!(given, [later, missed].concat(), "by the time of the journal");
    let last = add(&index, [23]);
    assert_eq!(follow(&index, &query, token).await.0, last);
}

/// Records of two users, of which only the first one's are there for a query.
fn two(index: &Index) -> Query {
    let mut records = Vec::new();
    for n in 0..40_u64 {
        let at = record(n * 70).envelope.at;
        let (user, text) =
            if (10..20).contains(&n) { ("a", "short".to_owned()) } else { ("b", "x".repeat(9_000)) };
        let event = format!(
            r#"{{"stageTimestamp":"{at}","verb":"get","user":{{"username":"{user}"}},"requestObject":{{"k":"{text}"}},"requestURI":"/{text}"}}"#
        );
        records.push(samples::record(&event, n));
    }
    index.add(&records).unwrap();
    index.commit(&Standing::default()).unwrap();
    parse("user:=a")
}

#[tokio::test]
async fn what_a_query_is_within_is_all_that_there_is_for_it() {
    let (_dir, index) = new();
    let within = two(&index).filter;
    for text in ["*", "user:b or verb:get", "not user:a or *", "req.k:x*y or verb:get", "-req.k:x*y"] {
        let open = parse(text);
        let query = open.clone().within(within.clone());
        let page = index.search(&query, SearchRequest::newest(100)).await.unwrap();
        assert_eq!((page.hits.len(), page.partial), (10, None), "{text}");
        let counted = index.histogram(&query, counting(10)).await.unwrap();
        assert_eq!((counted.total, counted.counts.len(), counted.partial), (10, 10, None), "{text}");
        assert_eq!(counted.start, record(700).envelope.at, "{text}");
        // A place in one is none in the other.
        let page = index.search(&query, SearchRequest::newest(3)).await.unwrap();
        let request = SearchRequest { cursor: page.next, ..SearchRequest::newest(3) };
        assert!(index.search(&open, request).await.is_err(), "{text}");
    }
    for text in ["req.k:x*y", "\"x x\" or uri:x*y", "user:b"] {
        let page =
            index.search(&parse(text).within(within.clone()), SearchRequest::newest(100)).await.unwrap();
        assert_eq!((page.hits.len(), page.partial), (0, None), "{text}");
    }
    let page = index.search(&parse("req.k:x*y"), SearchRequest::newest(100)).await.unwrap();
    assert_eq!(page.partial, Some(Partial::LongValue), "over everything it is told");
}

#[tokio::test]
async fn a_veiled_place_tells_of_no_arrival_and_misses_nothing() {
    let (_dir, index) = new();
    add(&index, 0..20);
    let query = parse("*");
    let token = index.tail_from(record(19).envelope.received_at);
    let (_, token) = follow(&index, &query, token).await;
    let veiled = token.veiled();
    let later = add(&index, 1_000..1_040);
    let (given, _) = follow(&index, &query, veiled.to_string().parse().unwrap()).await;
    assert!(later.iter().all(|id| given.contains(id)));
}
