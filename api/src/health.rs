//! `/livez` and `/readyz`: whether the process runs, and whether each thing it needs is well, by name.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use futures::future::join_all;
use serde::Serialize;

/// How long one check may take: probes give up after a second or two.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// One thing that the process needs.
#[async_trait]
pub trait Check: Send + Sync {
    /// Its name, as it stands in the answer.
    fn name(&self) -> &'static str;

    /// A few words when it is well, or why it is not.
    async fn check(&self) -> Result<String, String>;
}

/// The checks of this process.
#[derive(Clone)]
pub struct Health(Arc<Vec<Box<dyn Check>>>);

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|c| c.name())).finish()
    }
}

#[derive(Serialize)]
struct Answer {
    ready: bool,
    checks: Vec<Outcome>,
}

#[derive(Serialize)]
struct Outcome {
    name: &'static str,
    ok: bool,
    detail: String,
}

impl Health {
    /// Readiness that consists of these checks.
    pub fn new(checks: Vec<Box<dyn Check>>) -> Self {
        Self(Arc::new(checks))
    }

    async fn run(&self) -> Answer {
        let checks = join_all(self.0.iter().map(|check| outcome(check.as_ref()))).await;
        Answer { ready: checks.iter().all(|c| c.ok), checks }
    }
}

async fn outcome(check: &dyn Check) -> Outcome {
    let answer = tokio::time::timeout(CHECK_TIMEOUT, check.check()).await;
    let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {CHECK_TIMEOUT:?}")));
    let ok = answer.is_ok();
    Outcome { name: check.name(), ok, detail: answer.unwrap_or_else(|why| why) }
}

pub(crate) async fn livez() -> &'static str {
    "ok\n"
}

pub(crate) async fn readyz(State(health): State<Health>) -> impl IntoResponse {
    let answer = health.run().await;
    let status = if answer.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(answer))
}
