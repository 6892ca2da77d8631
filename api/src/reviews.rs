//! `/admission/v1`: the admission chain as a webhook, so that the API server of another cluster can ask it.

use std::{sync::Arc, time::Duration};

use ::admission::{AdmissionChain, AdmissionRequest, Decision, Outcome};
use axum::{
    Json, body,
    extract::{Request, State},
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
};
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    errors::ApiError,
    gateway::{admission::Gate, audit::ObjectRef, request::parameter},
    metrics,
};

pub mod wire;

use wire::AdmissionReview;

/// The largest review: an object of the largest size that etcd takes, as it is and as it is to be, and what is around
/// them.
pub(crate) const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;

/// Reviews that are read and decided at the same time; others wait, as long as their API server does.
const MAX_REVIEWS: usize = 32;

/// How long an API server waits at most (`timeoutSeconds`); what it waits in fact stands in the URL.
const MAX_TIMEOUT: Duration = Duration::from_secs(30);

/// Which part of the chain is asked.
#[derive(Clone, Copy, Debug)]
enum Part {
    Mutating,
    Validating,
}

/// Answers reviews. Clones are handles of the same.
#[derive(Clone, Debug)]
pub struct Reviews {
    chain: Arc<AdmissionChain>,
    places: Arc<Semaphore>,
}

/// What was decided about a review, for the record of the use.
#[derive(Clone, Debug)]
pub(crate) struct Reviewed {
    /// What the review was about.
    pub(crate) object: ObjectRef,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub(crate) operation: &'static str,
    /// Who asked the API server.
    pub(crate) username: String,
    /// The id that the API server gave the review.
    pub(crate) uid: String,
    /// Whether it may be.
    pub(crate) is_allowed: bool,
    /// What each controller decided.
    pub(crate) decisions: Arc<[Decision]>,
}

impl Reviews {
    /// By the chain of a gate.
    pub fn new(gate: &Gate) -> Self {
        Self { chain: gate.chain.clone(), places: Arc::new(Semaphore::new(MAX_REVIEWS)) }
    }

    async fn answer(&self, part: Part, request: Request) -> Result<Response, ApiError> {
        let deadline = Instant::now() + timeout(request.uri());
        let _place = tokio::time::timeout_at(deadline, self.places.acquire())
            .await
            .ok()
            .and_then(Result::ok)
            .ok_or_else(|| ApiError::too_much("busy", format!("{MAX_REVIEWS} reviews are being decided")))?;
        let bad = |why| ApiError::bad_request("bad_review", why);
        let body = body::to_bytes(request.into_body(), MAX_BODY_BYTES).await.map_err(|_| {
            let message = format!("a review has at most {MAX_BODY_BYTES} bytes, and they come to their end");
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
        })?;
        let review: AdmissionReview =
            serde_json::from_slice(&body).map_err(|error| bad(error.to_string()))?;
        let mut question = review.into_request().and_then(wire::Request::into_question).map_err(bad)?;
        question.deadline = Some(deadline);
        let outcome = match part {
            Part::Mutating => self.chain.mutate(&question).await,
            Part::Validating => self.chain.validate(&question).await,
        };
        metrics::admission(question.operation, &outcome.decisions);
        let answer = AdmissionReview::answer(wire::Response::of(&question.uid, &outcome));
        let mut response = Json(answer).into_response();
        response.extensions_mut().insert(reviewed(question, outcome));
        Ok(response)
    }
}

fn reviewed(question: AdmissionRequest, outcome: Outcome) -> Reviewed {
    Reviewed {
        object: ObjectRef::reviewed(&question),
        operation: question.operation.as_str(),
        username: question.user.username,
        uid: question.uid,
        is_allowed: outcome.is_allowed(),
        decisions: outcome.decisions.into(),
    }
}

/// How long the API server waits: `?timeout=10s`.
fn timeout(uri: &Uri) -> Duration {
    let asked = parameter(uri.query(), "timeout");
    let seconds = asked.and_then(|text| text.strip_suffix('s').and_then(|number| number.parse().ok()));
    seconds.map_or(MAX_TIMEOUT, Duration::from_secs).min(MAX_TIMEOUT)
}

/// `POST /admission/v1/mutate`: what controllers change.
pub(crate) async fn mutate(State(reviews): State<Reviews>, request: Request) -> Result<Response, ApiError> {
    reviews.answer(Part::Mutating, request).await
}

/// `POST /admission/v1/validate`: whether the object may be stored as it is.
pub(crate) async fn validate(State(reviews): State<Reviews>, request: Request) -> Result<Response, ApiError> {
    reviews.answer(Part::Validating, request).await
}
