//! Events of many days: memory and open files stay bounded, and a repetition adds nothing whatever the day.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/load.rs"]
mod load;
#[path = "support/server.rs"]
mod server;

use std::{fs, time::Duration};

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

/// Between two looks at what the process holds.
const LOOK: Duration = Duration::from_millis(20);

fn days_ago(days: i64, number: u64) -> String {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros() as i64;
    let then = now - days * 86_400_000_000 + number as i64;
    format!("{:.6}", jiff::Timestamp::from_microsecond(then).unwrap())
}

/// The most that a process held at any look, of which there are many a second.
struct Peaks {
    watch: tokio::task::JoinHandle<(usize, u64)>,
    stop: tokio_util::sync::CancellationToken,
}

impl Peaks {
    fn of(server: &Server) -> Self {
        let (pid, stop) = (server.pid(), tokio_util::sync::CancellationToken::new());
        let stopped = stop.clone();
        let watch = tokio::spawn(async move {
            let (mut files, mut memory, mut looks) = (0, 0, 0);
            while !stopped.is_cancelled() {
                files = files.max(fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count());
                memory = memory.max(server::anonymous_kib(pid).expect("the process runs"));
                looks += 1;
                tokio::time::sleep(LOOK).await;
            }
            assert!(looks > 10, "{looks} looks prove little");
            (files, memory)
        });
        Self { watch, stop }
    }

    /// Fails when the process held too much.
    async fn are_bounded(self, during: &str) {
        self.stop.cancel();
        let (files, memory) = self.watch.await.unwrap();
        println!("{during}: at most {files} open files and {memory} KiB of anonymous memory");
        assert!(files < OPEN_FILES, "{during}: {files} open files");
        assert!(memory < MEMORY_KIB, "{during}: {memory} KiB");
    }
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
    let peaks = Peaks::of(&server);
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
    peaks.are_bounded(&format!("{all} events of {DAYS} days")).await;

    // All of it is there after a start too, and a start opens no more than work does.
    server.stop().await;
    server.spawn();
    let peaks = Peaks::of(&server);
    server.ready().await;
    server.call().until_count("cluster:days", all).await;
    peaks.are_bounded("a start").await;
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
