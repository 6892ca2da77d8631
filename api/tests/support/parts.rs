//! The HTTP surface over parts of its own, without a listener or a database.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of this file")]

use std::{path::Path, sync::Arc};

use api::{
    access::{Access, uses::Uses},
    gateway::refusals::Refusals,
    health::Health,
    intake::{Bounds, Intake},
    later::Later,
    prometheus::MetricsPage,
    rebuild::Rebuilder,
    routes::{Api, QueryRole},
    search::Search,
    tail::Followers,
    tokens::{Scope, Secret, Token, Tokens},
};
use index::{Index, IndexOptions};
use ingest::{
    accept::Acceptor,
    identity::DeploymentKey,
    journal::{Journal, JournalOptions},
    ledger::Ledger,
    log::Log,
    redact::{Redactor, RuleSet},
    time::Clock,
};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A token and what is kept of it. The database is away in this test: tokens come from the snapshot.
pub fn token(scope: &str, number: u128) -> (Secret, Token) {
    let id = uuid::Uuid::from_u128(number);
    let private = "s".repeat(43);
    let secret = Secret::parse(&format!("muniment_{}_{private}", id.simple())).unwrap();
    let scope: Scope = scope.parse().unwrap();
    let hash = Sha256::digest(private.as_bytes()).into();
    let created_at = ingest::time::Timestamp::from_micros(0);
    (secret, Token { id, hash, scope, label: "".into(), created_at, revoked_at: None })
}

pub fn api(folder: &Path, tokens: &[Token]) -> Api {
    bounded(folder, tokens, Bounds::default())
}

/// Where records are kept and found.
pub struct Stores {
    pub journal: Journal,
    pub index: Index,
    /// Not there unless it is set.
    pub ledger: Later<Arc<dyn Ledger>>,
    /// Not there unless it is set.
    pub log: Later<Arc<dyn Log>>,
}

impl Stores {
    pub fn open(folder: &Path) -> Self {
        let options = JournalOptions::new("test", Clock::system());
        let (journal, _) = Journal::open(&folder.join("journal"), options).unwrap();
        let index = Index::open(&folder.join("index"), IndexOptions::default()).unwrap();
        Self { journal, index, ledger: Later::new(), log: Later::new() }
    }
}

/// The same with other bounds of intake.
pub fn bounded(folder: &Path, tokens: &[Token], bounds: Bounds) -> Api {
    over(&Stores::open(folder), folder, tokens, bounds)
}

/// The same over stores that the test holds too.
pub fn over(stores: &Stores, folder: &Path, tokens: &[Token], bounds: Bounds) -> Api {
    let clock = Clock::system();
    let snapshot = folder.join("tokens.json");
    std::fs::write(&snapshot, serde_json::to_vec(tokens).unwrap()).unwrap();
    let key = DeploymentKey::from_bytes([7; 32]);
    let redactor = watch::channel(Arc::new(Redactor::new(&RuleSet::builtin(), &key))).1;
    let acceptor = Acceptor::new(&key, redactor.clone(), clock.clone(), None);
    let Stores { journal, index, ledger, log } = stores;
    let stop = CancellationToken::new();
    // What is queued stays there: nothing of this test may be journaled but its own records.
    let (uses, _) = Uses::new(journal.clone(), redactor, clock.clone());
    Api {
        access: Access {
            tokens: Tokens::open(Later::new(), snapshot, clock.clone()).unwrap(),
            door: None,
            own: "local".into(),
            refusals: Refusals::new(journal.clone(), clock.clone()),
            uses,
        },
        health: Health::new(Vec::new(), clock.clone()),
        metrics: MetricsPage::new(String::new),
        intake: Some(Intake::new(acceptor, journal.clone(), None, clock.clone(), bounds)),
        gateway: None,
        keys: None,
        day_keys: None,
        reviews: None,
        query: Some(QueryRole {
            search: Search::new(index.clone(), ledger.clone(), log.clone(), clock),
            followers: Followers::new(stop.clone()),
            rebuilder: Rebuilder::new(index.clone(), ledger.clone(), stop),
        }),
    }
}
