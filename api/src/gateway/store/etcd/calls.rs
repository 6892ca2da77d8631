//! Calls to etcd, each within its time.

use std::{fmt, time::Duration};

use etcd_client::{Client, Error, KvClient, LeaseClient, WatchClient};
use ingest::retry::Backoff;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::failure::Fault;

/// Answers larger than this are asked for again in smaller parts. It is ten times what one value may take.
const ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// A watch answer cannot be asked for in smaller parts; etcd splits it itself near the size of a request.
const WATCH_BYTES: usize = 64 * 1024 * 1024;

/// Servers that one call may try one after the other.
const TRIES: usize = 3;

/// The first wait between tries, and the longest.
pub(super) const WAITS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));

/// The connection to all servers, with the time that a call has.
#[derive(Clone)]
pub(super) struct Calls {
    kv: KvClient,
    watch: WatchClient,
    lease: LeaseClient,
    client: Client,
    limit: Duration,
    /// What one server has before a read is tried at another.
    share: Duration,
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Calls {
    pub(super) fn new(client: Client, limit: Duration, servers: usize) -> Self {
        let share = limit / u32::try_from(servers.clamp(1, TRIES)).unwrap_or(1);
        Self {
            kv: client.kv_client().max_decoding_message_size(ANSWER_BYTES),
            watch: client.watch_client().max_decoding_message_size(WATCH_BYTES),
            lease: client.lease_client(),
            client,
            limit,
            share,
        }
    }

    /// The time that a call has.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    pub(super) fn kv(&self) -> KvClient {
        self.kv.clone()
    }

    pub(super) fn watcher(&self) -> WatchClient {
        self.watch.clone()
    }

    pub(super) fn lease(&self) -> LeaseClient {
        self.lease.clone()
    }

    /// A call that may be made twice: tried, at other servers too, until its time is over.
    pub(super) async fn read<T, F>(&self, call: impl Fn(KvClient) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let end = Instant::now() + self.limit;
        let mut backoff = Backoff::new(WAITS.0, WAITS.1);
        loop {
            let fault = match timeout_at(end.min(Instant::now() + self.share), call(self.kv())).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => Fault::from(error),
                Err(_) => Fault::silent(),
            };
            let wait = backoff.wait();
            let passes = matches!(fault, Fault::NotDone(_) | Fault::Lost(_));
            if !passes || Instant::now() + wait >= end {
                return Err(fault);
            }
            sleep(wait).await;
        }
    }

    /// Whether progress that is asked for comes after the changes before it.
    ///
    /// Servers before 3.4.31 and 3.5.13 may answer at once and send changes that are older afterwards.
    pub(super) async fn can_tell_progress(&self) -> bool {
        let mut client = self.client.clone();
        match timeout(self.limit, client.status()).await {
            Ok(Ok(status)) => orders_progress(status.version()),
            _ => false,
        }
    }
}

fn orders_progress(version: &str) -> bool {
    let mut parts = version.split(['.', '-', '+']).map_while(|part| part.parse::<u32>().ok());
    let version = (parts.next(), parts.next(), parts.next());
    let (Some(major), Some(minor), Some(patch)) = version else { return false };
    match (major, minor) {
        (3, 4) => patch >= 31,
        (3, 5) => patch >= 13,
        newer => newer > (3, 5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_asked_of_servers_that_order_it() {
        for version in ["3.4.31", "3.5.13", "3.6.0", "3.6.0-rc.1", "4.0.0"] {
            assert!(orders_progress(version), "{version}");
        }
        for version in ["3.4.23", "3.5.12", "3.3.27", "2.3.8", "", "x.y.z"] {
            assert!(!orders_progress(version), "{version}");
        }
    }
}
