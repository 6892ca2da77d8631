//! `/v1/tokens`: making, listing and revoking tokens.

use axum::{
    Extension, Json,
    extract::{State, rejection::JsonRejection},
    http::StatusCode,
    response::IntoResponse,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::{
    access::{Caller, Results},
    asked::Path,
    errors::ApiError,
    tokens::{Scope, Token, Tokens},
};

/// The longest label.
const MAX_LABEL_BYTES: usize = 256;

/// What is told of a token: never its hash.
#[derive(Debug, Serialize, Deserialize)]
pub struct TokenView {
    /// Its public part.
    pub id: String,
    /// What it allows.
    pub scope: String,
    /// What it is for.
    #[serde(default)]
    pub label: String,
    /// When it was made.
    pub created_at: String,
    /// The token itself, only in the answer that makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

impl From<Token> for TokenView {
    fn from(token: Token) -> Self {
        Self {
            id: token.id.to_string(),
            scope: token.scope.to_string(),
            label: token.label.to_string(),
            created_at: token.created_at.to_string(),
            token: None,
        }
    }
}

/// What `POST /v1/tokens` takes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// `client` or `intake:CLUSTER`.
    pub scope: String,
    /// What it is for.
    #[serde(default)]
    pub label: String,
}

pub(crate) async fn list(State(tokens): State<Tokens>) -> impl IntoResponse {
    let items: Vec<TokenView> = tokens.list().into_iter().map(TokenView::from).collect();
    (Extension(Results(items.len() as u64)), Json(json!({ "items": items })))
}

pub(crate) async fn create(
    State(tokens): State<Tokens>,
    Extension(caller): Extension<Caller>,
    body: Result<Json<CreateToken>, JsonRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let Json(asked) = body?;
    let scope: Scope = asked.scope.parse().map_err(|e| ApiError::bad_request("bad_scope", format!("{e}")))?;
    caller.may_give(&scope)?;
    if asked.label.len() > MAX_LABEL_BYTES {
        let message = format!("a label has at most {MAX_LABEL_BYTES} bytes");
        return Err(ApiError::bad_request("bad_label", message));
    }
    let (secret, token) = tokens.create(scope, &asked.label).await?;
    tracing::info!(token = %token.id, scope = %token.scope, "a token was made");
    let view = TokenView { token: Some(secret.expose().to_owned()), ..token.into() };
    Ok((StatusCode::CREATED, Json(view)))
}

pub(crate) async fn get(
    State(tokens): State<Tokens>,
    Path(id): Path<String>,
) -> Result<Json<TokenView>, ApiError> {
    let id = parse_id(&id)?;
    let token = tokens.find(id).filter(|t| t.revoked_at.is_none());
    token.map(|t| Json(t.into())).ok_or_else(|| ApiError::not_found(format!("there is no token {id}")))
}

pub(crate) async fn revoke(
    State(tokens): State<Tokens>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let token = tokens.revoke(parse_id(&id)?).await?;
    tracing::info!(token = %token.id, scope = %token.scope, "a token was revoked");
    Ok(StatusCode::NO_CONTENT)
}

fn parse_id(text: &str) -> Result<Uuid, ApiError> {
    text.parse().map_err(|_| ApiError::not_found(format!("there is no token {text:?}")))
}
