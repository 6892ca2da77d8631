//! Events of many days: memory and open files stay bounded, and a repetition adds nothing whatever the day.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/load.rs"]
mod load;
#[path = "support/server.rs"]
mod server;

use std::fs;

use load::{event, list};
use reqwest::StatusCode;
use serde_json::Value;
use server::{Caller, Server};

/// Days that the import is spread over.
const DAYS: i64 = 400;
/// Events of each day.
const EACH: u64 = 25;
/// Files, sockets and the like that the process may hold; Debian's default limit is 1,024.
const OPEN_FILES: usize = 768;
/// What it may hold of its own in memory, in KiB.
const MEMORY_KIB: u64 = 512 * 1024;

fn days_ago(days: i64, number: u64) -> String {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros() as i64;
    let then = now - days * 86_400_000_000 + number as i64;
    format!("{:.6}", jiff::Timestamp::from_microsecond(then).unwrap())
}

async fn taken(caller: &Caller, events: Vec<Value>) -> u64 {
    let response = caller.post("days", list(events)).await;
    assert_eq!(response.status(), StatusCode::OK);
    response.json::<Value>().await.unwrap()["accepted"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_over_400_days_stays_within_memory_and_open_files() {
    let mut server = Server::start(&["--retention-days", "500"]).await;
    let caller = server.call();
    let mut number = 0;
    // Every request touches every day, in no order of time: the worst that an importer of many files can do.
    for round in 0..EACH {
        let events: Vec<_> =
            (0..DAYS).map(|day| event(number + day as u64, &days_ago((day * 37) % DAYS, round))).collect();
        number += DAYS as u64;
        assert_eq!(taken(&caller, events).await, DAYS as u64);
    }
    let all = DAYS as u64 * EACH;
    caller.until_count("cluster:days", all).await;
    let files = fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
    assert!(files < OPEN_FILES, "{files} open files");
    let memory = server.anonymous_kib();
    assert!(memory < MEMORY_KIB, "{memory} KiB");
    println!("{all} events of {DAYS} days: {files} open files, {memory} KiB of anonymous memory");

    // All of it is there after a start too, and a start opens no more than work does.
    server.stop().await;
    server.run().await;
    server.call().until_count("cluster:days", all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_yesterday_that_is_sent_again_today_adds_nothing() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    let late = event(1, &days_ago(1, 0));
    assert_eq!(taken(&caller, vec![late.clone()]).await, 1);
    caller.until_count("cluster:days", 1).await;
    assert_eq!(taken(&caller, vec![late, event(2, &days_ago(0, 0))]).await, 2);
    caller.until_count("cluster:days", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_and_unordered_events_are_taken_within_the_retention_and_refused_beyond_it() {
    let server = Server::start(&["--retention-days", "30"]).await;
    let caller = server.call();
    let days = [3, 29, 0, 17, -1, 1];
    let events: Vec<_> =
        days.iter().enumerate().map(|(i, day)| event(i as u64, &days_ago(*day, 0))).collect();
    assert_eq!(taken(&caller, events).await, days.len() as u64);
    caller.until_count("cluster:days", days.len() as u64).await;

    let beyond =
        list(vec![event(100, &days_ago(33, 0)), event(101, &days_ago(-3, 0)), event(102, &days_ago(2, 0))]);
    let answer: Value = caller.post("days", beyond).await.json().await.unwrap();
    assert_eq!((answer["accepted"].as_u64(), answer["rejected"].as_u64()), (Some(1), Some(2)), "{answer}");
    let reasons: Vec<_> =
        answer["errors"].as_array().unwrap().iter().map(|e| e["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["day_expired", "day_ahead"]);
}
