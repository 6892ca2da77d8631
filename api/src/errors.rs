//! The one place where errors become HTTP answers: `{"error":{"code":…,"message":…}}` and a status.

use axum::{
    Json,
    extract::rejection::{JsonRejection, PathRejection, QueryRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use index::{SearchError, query::QueryError};
use ingest::journal::AppendError;
use ingest::ledger::LedgerError;
use serde_json::{Map, Value, json};

use crate::{gateway::status::Status, tokens::TokenError};

/// What a caller is told to wait when the journal is full: long enough for the relay to make room.
const RETRY_AFTER_SECONDS: u32 = 2;

/// An answer that is not a success.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// On the heap: every fallible function of this crate returns room for an error.
    details: Box<Map<String, Value>>,
    retry_after: Option<u32>,
}

impl ApiError {
    /// An error with this status, a code for programs and a message for people.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), details: Box::default(), retry_after: None }
    }

    /// The caller's mistake.
    pub fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// Nothing of that name.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// The path is there and does not take this method; the router adds `Allow`.
    pub fn method_not_allowed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
    }

    /// Something that is needed is away or full: the same request may succeed later.
    pub fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message).retry_after(RETRY_AFTER_SECONDS)
    }

    /// There is more than can be taken now.
    pub fn too_much(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, code, message).retry_after(RETRY_AFTER_SECONDS)
    }

    /// A failure of ours. The cause goes to the log, with its whole chain, and only its first line to the caller.
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = %chain(error), "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string())
    }

    /// Adds a member to the error object.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Whether the same request may succeed later.
    pub fn is_temporary(&self) -> bool {
        matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
    }

    /// The message for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(object) = error.as_object_mut() {
            object.extend(*self.details);
        }
        let mut response = (self.status, Json(json!({ "error": error }))).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// An error and its causes on one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl From<Status> for ApiError {
    /// What the gateway's door says, in the form of our own interface.
    fn from(status: Status) -> Self {
        let code = match status.code {
            401 => "unauthorized",
            403 => "forbidden",
            429 => "busy",
            503 => "unavailable",
            _ => "bad_request",
        };
        let http = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let error = Self::new(http, code, status.message);
        match status.details.map_or(0, |details| details.retry_after_seconds) {
            0 => error,
            seconds => error.retry_after(seconds),
        }
    }
}

impl From<AppendError> for ApiError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Full => Self::too_much(
                "journal_full",
                "the journal is full until the log and the ledger have caught up; send it again later",
            ),
            AppendError::NoSpace => Self::unavailable(
                "disk_full",
                "the journal's disk is full; free space on it, nothing that was acknowledged is lost",
            ),
            AppendError::NoKey => Self::unavailable(
                "no_day_key",
                "the key that seals the bodies of events cannot be had from the ledger's database or the KMS; send it again later",
            ),
            AppendError::Ended => {
                Self::unavailable("journal_ended", "this process is stopping; send it again later")
            }
        }
    }
}

impl From<QueryRejection> for ApiError {
    fn from(error: QueryRejection) -> Self {
        Self::bad_request("bad_parameter", error.body_text())
    }
}

impl From<PathRejection> for ApiError {
    fn from(error: PathRejection) -> Self {
        Self::bad_request("bad_path", error.body_text())
    }
}

impl From<JsonRejection> for ApiError {
    fn from(error: JsonRejection) -> Self {
        match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", error.body_text())
            }
            _ => Self::bad_request("bad_body", error.body_text()),
        }
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let message = error.to_string();
        let answer =
            Self::bad_request("bad_query", message).with("line", error.line).with("column", error.column);
        match error.suggestion {
            Some(suggestion) => answer.with("suggestion", suggestion),
            None => answer,
        }
    }
}

impl From<SearchError> for ApiError {
    fn from(error: SearchError) -> Self {
        let code = match &error {
            SearchError::Query(_) => "bad_query",
            SearchError::Cursor(_) => "bad_cursor",
            SearchError::Buckets { .. } => "too_many_buckets",
            SearchError::Index(_) => return Self::internal(&error),
        };
        Self::bad_request(code, error.to_string())
    }
}

impl From<LedgerError> for ApiError {
    fn from(error: LedgerError) -> Self {
        match &error {
            LedgerError::Unavailable(_) => {
                tracing::warn!(error = %chain(&error), "the ledger cannot be asked");
                Self::unavailable("ledger_unavailable", error.to_string())
            }
            LedgerError::Fenced { .. } | LedgerError::Refused(_) | LedgerError::Corrupt(_) => {
                Self::internal(&error)
            }
        }
    }
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        match &error {
            TokenError::Database(_) | TokenError::NotConnected => {
                tracing::warn!(error = %chain(&error), "the token table cannot be used");
                Self::unavailable("ledger_unavailable", error.to_string())
            }
            TokenError::TooMany => Self::new(StatusCode::CONFLICT, "too_many_tokens", error.to_string()),
            TokenError::Unknown(_) => Self::not_found(error.to_string()),
            TokenError::Corrupt(_) | TokenError::File { .. } | TokenError::Random => Self::internal(&error),
        }
    }
}
