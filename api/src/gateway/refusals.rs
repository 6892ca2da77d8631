//! Refused requests of one user or one address: recorded one by one up to a bound, then counted, so that whoever is
//! refused again and again fills neither the disk nor the records.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ingest::{
    journal::Journal,
    pipeline::Fact,
    record::Draft,
    time::{Clock, Timestamp},
};
use tokio_util::sync::CancellationToken;

use crate::errors::chain;

/// How long refusals are counted together.
const WINDOW: Duration = Duration::from_secs(60);

/// Refusals of one sender and code within a window that have a record each: enough to see what was tried.
const SINGLY: u64 = 20;

/// Senders that are told apart within a window. Those beyond share one count, and what is recorded singly has its bound.
const MAX_SENDERS: usize = 256;

/// Who was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    /// Somebody who is known.
    User(String),
    /// Somebody who is not, at an address.
    Address(IpAddr),
    /// Whoever could not be told apart any more.
    Others,
}

impl std::fmt::Display for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(name) => write!(f, "user {name}"),
            Self::Address(ip) => write!(f, "address {ip}"),
            Self::Others => f.write_str("others"),
        }
    }
}

/// Counts refused requests.
#[derive(Clone, Debug)]
pub struct Refusals(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    journal: Journal,
    clock: Clock,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    since: Timestamp,
    seen: HashMap<(Sender, u16), u64>,
}

impl Window {
    fn new(since: Timestamp) -> Self {
        Self { since, seen: HashMap::new() }
    }

    /// Whether one more refusal is still recorded by itself.
    fn note(&mut self, sender: Sender, code: u16) -> bool {
        let key = (sender, code);
        let is_known = self.seen.contains_key(&key);
        let key = if is_known || self.seen.len() < MAX_SENDERS { key } else { (Sender::Others, code) };
        let count = self.seen.entry(key).or_default();
        *count += 1;
        *count <= SINGLY
    }

    /// What was counted and not recorded, the same order each time.
    fn facts(self) -> Vec<Fact> {
        let mut counted: Vec<_> = self
            .seen
            .into_iter()
            .filter_map(|((sender, code), count)| {
                Some((sender.to_string(), code, count.checked_sub(SINGLY)?))
            })
            .filter(|(_, _, count)| *count > 0)
            .collect();
        counted.sort();
        let since = self.since;
        counted.into_iter().map(|(who, code, count)| Fact::Refused { who, code, count, since }).collect()
    }
}

impl Refusals {
    /// Counts from now on; what is counted goes into the journal.
    pub fn new(journal: Journal, clock: Clock) -> Self {
        let window = Mutex::new(Window::new(clock.now()));
        Self(Arc::new(Inner { journal, clock, window }))
    }

    /// Notes that a request was refused. True when it shall have a record of its own.
    pub fn note(&self, sender: Sender, code: u16) -> bool {
        self.0.window.lock().unwrap_or_else(PoisonError::into_inner).note(sender, code)
    }

    /// Records what was counted, window by window, until `stop`. A process that is killed loses at most the counts of
    /// one window.
    pub async fn run(&self, stop: &CancellationToken) {
        loop {
            let stopped = stop.run_until_cancelled(tokio::time::sleep(WINDOW)).await.is_none();
            self.close().await;
            if stopped {
                return;
            }
        }
    }

    async fn close(&self) {
        let fresh = Window::new(self.0.clock.now());
        let window =
            std::mem::replace(&mut *self.0.window.lock().unwrap_or_else(PoisonError::into_inner), fresh);
        let drafts: Vec<Draft> = window.facts().iter().map(|fact| fact.draft(&self.0.clock)).collect();
        if drafts.is_empty() {
            return;
        }
        let counts = drafts.len();
        if let Err(error) = self.0.journal.append(drafts).await {
            tracing::error!(
                error = chain(&error),
                counts,
                "counts of refused requests could not be recorded"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> Sender {
        Sender::User(name.to_owned())
    }

    #[test]
    fn the_first_refusals_are_recorded_singly_and_the_rest_counted() {
        let mut window = Window::new(Timestamp::from_micros(7));
        let singly = (0..SINGLY + 5).filter(|_| window.note(user("eve"), 403)).count();
        assert_eq!(singly as u64, SINGLY);
        assert!(window.note(user("bob"), 403), "another user is another matter");
        assert!(window.note(user("eve"), 429), "and so is another code");
        let since = Timestamp::from_micros(7);
        let fact = Fact::Refused { who: "user eve".into(), code: 403, count: 5, since };
        assert_eq!(window.facts(), [fact]);
    }

    #[test]
    fn senders_beyond_the_bound_share_one_count() {
        let mut window = Window::new(Timestamp::default());
        let senders = u32::try_from(MAX_SENDERS).unwrap() + 1_000;
        let address = |n: u32| Sender::Address(IpAddr::V4(n.into()));
        let singly = (0..senders).filter(|n| window.note(address(*n), 401)).count();
        assert_eq!(singly, MAX_SENDERS + usize::try_from(SINGLY).unwrap());
        assert!(window.seen.len() <= MAX_SENDERS + 1);
        let facts = window.facts();
        assert!(
            matches!(&facts[..], [Fact::Refused { who, count: 980, .. }] if who == "others"),
            "{facts:?}"
        );
    }
}
