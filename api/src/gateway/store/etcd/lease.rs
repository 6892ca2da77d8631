//! Leases for values that live for a time. Values that end about together share one.

use std::{collections::HashMap, time::Duration};

use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::{calls::Calls, failure::Fault};

/// How long a lease is handed out, and so how much longer than asked its first values live: this part of their time…
const SPREAD_PART: u32 = 20;

/// …and at most this long. With an hour to live, a lease a minute is taken instead of one for each event.
const SPREAD_MOST: Duration = Duration::from_secs(60);

/// Values of one lease. etcd deletes them in one transaction, which holds others up.
const VALUES: u32 = 1000;

/// Different times to live whose leases are remembered. There is one, the events', in practice.
const KINDS: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Leases {
    current: Mutex<HashMap<Duration, Shared>>,
}

#[derive(Clone, Copy, Debug)]
struct Shared {
    id: i64,
    until: Instant,
    left: u32,
}

impl Leases {
    /// A lease that outlives `ttl` from now on.
    pub(super) async fn take(&self, calls: &Calls, ttl: Duration) -> Result<i64, Fault> {
        // Callers that need a new one wait for it together.
        let mut current = self.current.lock().await;
        if let Some(shared) = current.get_mut(&ttl)
            && shared.left > 0
            && Instant::now() < shared.until
        {
            shared.left -= 1;
            return Ok(shared.id);
        }
        let spread = (ttl / SPREAD_PART).min(SPREAD_MOST);
        // Measured from before the call: the lease runs from some moment within it.
        let until = Instant::now() + spread;
        let id = grant(calls, whole_seconds(ttl + spread)).await?;
        current.retain(|_, shared| Instant::now() < shared.until);
        if current.len() < KINDS {
            current.insert(ttl, Shared { id, until, left: VALUES - 1 });
        }
        Ok(id)
    }

    /// The lease has gone: an operator revoked it, or etcd was restored from a backup.
    pub(super) async fn forget(&self, id: i64) {
        self.current.lock().await.retain(|_, shared| shared.id != id);
    }
}

async fn grant(calls: &Calls, seconds: i64) -> Result<i64, Fault> {
    let mut client = calls.lease();
    let granted = timeout(calls.limit(), client.grant(seconds, None)).await;
    Ok(granted.map_err(|_| Fault::silent())??.id())
}

fn whole_seconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis().div_ceil(1000)).unwrap_or(i64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_never_ends_before_its_values_should() {
        assert_eq!(whole_seconds(Duration::from_millis(1)), 1);
        assert_eq!(whole_seconds(Duration::from_millis(2100)), 3);
        assert_eq!(whole_seconds(Duration::from_secs(3600)), 3600);
    }
}
