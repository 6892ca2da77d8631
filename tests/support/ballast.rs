//! Many large events, sent as fast as they are acknowledged: what would fill a queue that has no bound.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use reqwest::StatusCode;
use tokio::task::JoinSet;

use crate::{
    load::{event, list, now},
    server::{Caller, PATIENCE, eventually},
};

/// Bytes of text in each event that no compression makes much smaller than half.
pub(crate) const BYTES: usize = 64_000;
/// What the index keeps of one value. It is the same in every event, so that indexing the ballast takes no time.
const INDEXED: usize = 8 * 1024;
/// Events in one request.
const BATCH: u64 = 12;
/// Requests under way at once.
const SENDERS: u64 = 4;
/// The cluster that the events are of: not one of the load's.
const CLUSTER: &str = "ballast";

/// What was sent so far.
#[derive(Default)]
pub(crate) struct Ballast {
    sent: AtomicU64,
}

impl Ballast {
    /// Sends `count` more events, and waits until each is acknowledged.
    pub(crate) async fn send(&self, caller: &Caller, count: u64) {
        let first = self.sent.fetch_add(count, Ordering::SeqCst);
        let mut senders = JoinSet::new();
        for sender in 0..SENDERS {
            let caller = caller.clone();
            let batches = (first..first + count).step_by(BATCH as usize);
            let batches = batches.skip(sender as usize).step_by(SENDERS as usize);
            senders.spawn(async move {
                for batch in batches {
                    post(&caller, body(batch, BATCH.min(first + count - batch))).await;
                }
            });
        }
        while let Some(sent) = senders.join_next().await {
            sent.unwrap();
        }
    }

    /// Waits until all of it is found, for as long as ever more is.
    pub(crate) async fn is_there(&self, caller: &Caller) {
        let (query, sent) = (format!("cluster:{CLUSTER}"), self.sent.load(Ordering::SeqCst));
        let mut found = caller.count(&query).await;
        while found < sent {
            found = eventually(&format!("more of {sent} than {found} events of the ballast"), async || {
                Some(caller.count(&query).await).filter(|now| *now > found)
            })
            .await;
        }
        assert_eq!(found, sent, "events of the ballast");
    }
}

async fn post(caller: &Caller, body: Vec<u8>) {
    let body = bytes::Bytes::from(body);
    let begun = Instant::now();
    loop {
        let status = caller.post(CLUSTER, body.clone()).await.status();
        if status == StatusCode::OK {
            return;
        }
        assert!(status == StatusCode::TOO_MANY_REQUESTS && begun.elapsed() < PATIENCE, "{status}");
        tokio::time::sleep(crate::load::AGAIN).await;
    }
}

fn body(first: u64, count: u64) -> Vec<u8> {
    let time = now();
    let items = (first..first + count).map(|number| {
        let mut event = event(number, &time);
        event["auditID"] = format!("ballast-{number}").into();
        event["annotations"] = serde_json::json!({ "ballast": text(number) });
        event
    });
    list(items.collect())
}

/// Digits that look like chance, other ones for each number, behind what is indexed.
fn text(number: u64) -> String {
    let mut text = "0".repeat(INDEXED);
    let mut state = number + 1;
    while text.len() < INDEXED + BYTES {
        state = (state ^ state >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23).wrapping_add(1);
        write!(text, "{state:016x}").unwrap();
    }
    text
}
