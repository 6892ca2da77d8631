//! What only a real Postgres can do to a ledger: several writers, frozen sessions, outages, newer programs.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/engines.rs"]
mod engines;

use std::{collections::BTreeMap, time::Duration};

use engines::{Database, Own, PATIENCE};
use ingest::{
    ledger::{Batch, Ledger, LedgerError, OpenError, PostgresLedger, laws},
    log::{LogId, Offset},
    record::{Record, Seq},
    time::Day,
};

const NOON: &str = "2026-11-23T12:00:00.000001Z";

fn batch(partition: i32, from: u64, records: Vec<Record>) -> Batch {
    let to = Offset(from + records.len() as u64);
    Batch { records, moves: BTreeMap::from([(partition, (Offset(from), to))]), gaps: Vec::new() }
}

fn one(n: u64) -> Batch {
    batch(0, n, vec![laws::record(n + 1, n, NOON)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_that_need_the_same_new_days_and_records_do_not_stop_each_other() {
    let database = Database::create().await;
    let first: Day = "2026-09-01".parse().unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4_i32 {
        let ledger = PostgresLedger::connect(&database.url()).await.unwrap();
        writers.spawn(async move {
            let (mut inserted, mut duplicates) = (0, 0);
            for round in 0..5_u64 {
                // Every writer brings the same records, each in another order.
                let mut records: Vec<Record> = (0..60)
                    .map(|n| {
                        let day = first.plus((n as i32 * (writer * 2 + 1)) % 60);
                        let tail = round * 100 + u64::from(day.number().unsigned_abs());
                        let mut record = laws::record(round * 60 + n + 1, tail, &day.start().to_string());
                        record.envelope.source = format!("host-{writer}").into();
                        record
                    })
                    .collect();
                records.rotate_left(writer as usize * 7);
                let done = ledger.apply(&laws::log(), &batch(writer, round * 60, records)).await.unwrap();
                inserted += done.inserted;
                duplicates += done.duplicates;
            }
            (inserted, duplicates)
        });
    }
    let done = tokio::time::timeout(PATIENCE, writers.join_all()).await.unwrap();
    let (inserted, duplicates) = done.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let ledger = PostgresLedger::connect(&database.url()).await.unwrap();
    let distinct: u64 = ledger.days().await.unwrap().iter().map(|day| day.1).sum();
    assert_eq!((inserted, inserted + duplicates), (distinct, 4 * 5 * 60));
    assert_eq!(ledger.scan(first..first.plus(60), None, 10_000).await.unwrap().len() as u64, distinct);
    let all = ingest::time::Timestamp::from_micros(i64::MIN)..ingest::time::Timestamp::from_micros(i64::MAX);
    let boots = ledger.boots(all).await.unwrap();
    assert_eq!(boots.iter().map(|boot| boot.duplicates).sum::<u64>(), duplicates);
    assert!(boots.iter().all(|boot| boot.seen == (1..=300).collect()), "{boots:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_writer_loses_its_locks_and_its_batch() {
    let database = Database::create().await;
    let (frozen, other) = (
        PostgresLedger::connect(&database.url()).await.unwrap(),
        PostgresLedger::connect(&database.url()).await.unwrap(),
    );
    other.apply(&laws::log(), &one(0)).await.unwrap();
    let mut transaction = frozen.pool().begin().await.unwrap();
    sqlx::query("SELECT next FROM position FOR UPDATE").execute(&mut *transaction).await.unwrap();
    let applied = tokio::time::timeout(PATIENCE, other.apply(&laws::log(), &one(1))).await.unwrap();
    assert_eq!(applied.unwrap().inserted, 1);
    assert!(transaction.commit().await.is_err());
    let late = frozen.apply(&laws::log(), &one(1)).await.unwrap_err();
    assert!(matches!(late, LedgerError::Fenced { found: Some(Offset(2)), .. }), "{late}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_told_apart_and_ends_by_itself() {
    let mut own = Own::start(&["postgres"]);
    let ledger = PostgresLedger::connect(own.postgres()).await.unwrap();
    ledger.apply(&laws::log(), &one(0)).await.unwrap();
    own.kill("postgres");
    let away = ledger.apply(&laws::log(), &one(1)).await.unwrap_err();
    assert!(matches!(away, LedgerError::Unavailable(_)), "{away:?}");
    let absent = PostgresLedger::connect(own.postgres()).await.unwrap_err();
    assert!(absent.is_unavailable(), "{absent:?}");
    own.begin_again(&["postgres"]);
    let begun = std::time::Instant::now();
    let applied = loop {
        match ledger.apply(&laws::log(), &one(1)).await {
            Ok(applied) => break applied,
            Err(LedgerError::Unavailable(_)) if begun.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => panic!("{error:?}"),
        }
    };
    assert_eq!(applied.inserted, 1);
    assert_eq!(ledger.days().await.unwrap()[0].1, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorders_of_another_log_wait_until_those_of_the_first_have_ended() {
    let database = Database::create().await;
    let connect = async || PostgresLedger::connect(&database.url()).await.unwrap();
    let (first, second, other) = (connect().await, connect().await, connect().await);
    let (ours, another) = (laws::log(), LogId("another".into()));
    first.follow(&ours).await.unwrap();
    first.follow(&ours).await.unwrap();
    second.follow(&ours).await.unwrap();
    let refused = async || match other.follow(&another).await {
        Err(LedgerError::Unavailable(why)) => assert!(why.to_string().contains("--topic"), "{why}"),
        done => panic!("{done:?}"),
    };
    refused().await;
    first.close().await;
    refused().await;
    // The second is gone without a word, as a killed process is.
    drop(second);
    let begun = std::time::Instant::now();
    while other.follow(&another).await.is_err() {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A session that the server ended is made anew, and a process may follow to a new log.
    sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        .execute(other.pool())
        .await
        .unwrap();
    other.follow(&another).await.unwrap();
    other.follow(&ours).await.unwrap();
    connect().await.follow(&ours).await.unwrap();
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused_by_its_number() {
    let database = Database::create().await;
    let ledger = PostgresLedger::connect(&database.url()).await.unwrap();
    sqlx::query("INSERT INTO _sqlx_migrations VALUES (9000, 'later', now(), true, '\\x00', 0)")
        .execute(ledger.pool())
        .await
        .unwrap();
    let refused = PostgresLedger::connect(&database.url()).await.unwrap_err();
    assert!(matches!(refused, OpenError::Newer { found: 9000, .. }), "{refused}");
}

#[tokio::test]
async fn an_address_that_is_none_is_refused_as_such() {
    let refused = PostgresLedger::connect("postgres://host:port/x").await.unwrap_err();
    assert!(matches!(refused, OpenError::Address(_)), "{refused:?}");
}

#[tokio::test]
async fn the_view_reads_whatever_clients_chose() {
    let database = Database::create().await;
    let ledger = PostgresLedger::connect(&database.url()).await.unwrap();
    let events = [
        r#"{"auditID":"b0f21d44-2ff0-4c89-98df-bd20286ab0bb","verb":"get","user":{"username":"jane"}}"#,
        r#"{"auditID":"a\u0000ü","verb":"\u0000"}"#,
        "no JSON",
    ];
    let records =
        (1..).zip(events).map(|(n, event)| Record { event: event.into(), ..laws::record(n, n, NOON) });
    ledger.apply(&laws::log(), &batch(0, 0, records.collect())).await.unwrap();
    let rows: Vec<(String, String, String, String)> =
        sqlx::query_as("SELECT audit_id, kind || ' ' || cluster, verb, at::text FROM events ORDER BY id")
            .fetch_all(ledger.pool())
            .await
            .unwrap();
    let audit_ids: Vec<&str> = rows.iter().map(|row| &*row.0).collect();
    assert_eq!(audit_ids, ["b0f21d44-2ff0-4c89-98df-bd20286ab0bb", "a\u{fffd}ü", ""]);
    assert_eq!((&*rows[0].1, &*rows[0].2, &*rows[1].2), ("audit demo", "get", "\u{fffd}"));
    assert_eq!(rows[0].3, "2026-11-23 12:00:00.000001+00");
}

#[tokio::test]
async fn days_expire_while_a_reader_looks_at_others() {
    let database = Database::create().await;
    let ledger = PostgresLedger::connect(&database.url()).await.unwrap();
    let first: Day = "2026-11-20".parse().unwrap();
    let records = (0..4).map(|n| laws::record(n + 1, n, &first.plus(n as i32).start().to_string()));
    ledger.apply(&laws::log(), &batch(0, 0, records.collect())).await.unwrap();
    // What a removal that was interrupted after its first step leaves.
    sqlx::query("ALTER TABLE record DETACH PARTITION record_20261120").execute(ledger.pool()).await.unwrap();
    assert_eq!(ledger.expire(first.plus(2)).await.unwrap(), [first, first.plus(1)]);
    let days: Vec<Day> = ledger.days().await.unwrap().iter().map(|day| day.0).collect();
    assert_eq!(days, [first.plus(2), first.plus(3)]);
    // Another program's cache of partitions does not know: the day is made anew.
    let mut late = laws::record(9, 9, &first.start().to_string());
    late.envelope.seq = Seq(5);
    assert_eq!(ledger.apply(&laws::log(), &batch(0, 4, vec![late])).await.unwrap().inserted, 1);
}
