//! `/livez` and `/readyz`: whether the process runs, and whether each thing it needs is well, by name.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::{Extension, Json, extract::State, http::StatusCode, response::IntoResponse};
use futures::future::join_all;
use ingest::time::{Clock, Timestamp};
use serde::Serialize;
use tokio::sync::Mutex;

use crate::tokens::Token;

/// How long one check may take: probes give up after a second or two.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// How long an outcome is given again, in microseconds. Whoever asks, the engines are asked at most once a second.
const FRESH_MICROS: i64 = 1_000_000;

/// One thing that the process needs.
#[async_trait]
pub trait Check: Send + Sync {
    /// Its name, as it stands in the answer.
    fn name(&self) -> &'static str;

    /// A few words when it is well, or why it is not.
    async fn check(&self) -> Result<String, String>;
}

/// The checks of this process. Clones are handles of the same.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    checks: Vec<Box<dyn Check>>,
    clock: Clock,
    /// The latest outcomes and when they were there. Held while the checks run, so that they run once at a time.
    latest: Mutex<Option<(Timestamp, Arc<[Outcome]>)>>,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.checks.iter().map(|c| c.name())).finish()
    }
}

#[derive(Serialize)]
struct Answer {
    ready: bool,
    checks: Vec<Outcome>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Outcome {
    name: &'static str,
    ok: bool,
    /// Left out for strangers: it may tell of addresses and names within.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl Outcome {
    fn without_detail(&self) -> Self {
        Self { detail: None, ..*self }
    }
}

impl Health {
    /// Readiness that consists of these checks.
    pub fn new(checks: Vec<Box<dyn Check>>, clock: Clock) -> Self {
        Self(Arc::new(Inner { checks, clock, latest: Mutex::default() }))
    }

    /// Runs every check, unless that was done within the last second.
    async fn outcomes(&self) -> Arc<[Outcome]> {
        let Inner { checks, clock, latest } = &*self.0;
        let mut latest = latest.lock().await;
        let now = clock.now().micros();
        if let Some((at, outcomes)) = &*latest
            && (0..FRESH_MICROS).contains(&now.saturating_sub(at.micros()))
        {
            return outcomes.clone();
        }
        let outcomes: Arc<[Outcome]> =
            join_all(checks.iter().map(|check| outcome(check.as_ref()))).await.into();
        *latest = Some((clock.now(), outcomes.clone()));
        outcomes
    }
}

async fn outcome(check: &dyn Check) -> Outcome {
    let answer = tokio::time::timeout(CHECK_TIMEOUT, check.check()).await;
    let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {CHECK_TIMEOUT:?}")));
    let ok = answer.is_ok();
    Outcome { name: check.name(), ok, detail: Some(answer.unwrap_or_else(|why| why)) }
}

pub(crate) async fn livez() -> &'static str {
    "ok\n"
}

pub(crate) async fn readyz(
    State(health): State<Health>,
    token: Option<Extension<Token>>,
) -> impl IntoResponse {
    let outcomes = health.outcomes().await;
    let ready = outcomes.iter().all(|outcome| outcome.ok);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let checks = match token {
        Some(_) => outcomes.to_vec(),
        None => outcomes.iter().map(Outcome::without_detail).collect(),
    };
    (status, Json(Answer { ready, checks }))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

    use super::*;

    /// Counts how often it runs, and how many of it run at once at most.
    #[derive(Default)]
    struct Counted {
        runs: AtomicUsize,
        running: AtomicUsize,
        most: AtomicUsize,
    }

    #[async_trait]
    impl Check for Arc<Counted> {
        fn name(&self) -> &'static str {
            "counted"
        }

        async fn check(&self) -> Result<String, String> {
            self.runs.fetch_add(1, Ordering::SeqCst);
            let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            tokio::task::yield_now().await;
            self.running.fetch_sub(1, Ordering::SeqCst);
            Err("kafka.internal:9092 does not answer".to_owned())
        }
    }

    #[tokio::test]
    async fn many_who_ask_within_a_second_cost_one_run() {
        let (counted, micros) = (Arc::new(Counted::default()), Arc::new(AtomicI64::new(0)));
        let time = micros.clone();
        let clock = Clock::from_fn(move || Timestamp::from_micros(time.load(Ordering::SeqCst)));
        let health = Health::new(vec![Box::new(counted.clone())], clock);
        for (at, runs) in [(0, 1), (999_999, 1), (1_000_000, 2), (1_999_999, 2), (500_000, 3)] {
            micros.store(at, Ordering::SeqCst);
            join_all((0..50).map(|_| health.outcomes())).await;
            assert_eq!(counted.runs.load(Ordering::SeqCst), runs, "at {at}");
        }
        assert_eq!(counted.most.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_stranger_learns_names_and_whether_they_are_well_and_no_more() {
        let health = Health::new(vec![Box::new(Arc::new(Counted::default()))], Clock::system());
        let answer = readyz(State(health), None).await.into_response();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = axum::body::to_bytes(answer.into_body(), 4_096).await.unwrap();
        assert_eq!(body, r#"{"ready":false,"checks":[{"name":"counted","ok":false}]}"#);
    }
}
