//! Who may do what: a bearer token on every route but health, and a scope that allows what is asked for.

use axum::{
    extract::{Request, State},
    http::header,
    middleware::Next,
    response::Response,
};

use crate::{
    errors::ApiError,
    tokens::{Scope, Token, Tokens},
};

/// The routes that answer without a token. They say nothing but whether the process is well; with a token that allows
/// everything they say more.
pub const OPEN: [&str; 2] = ["/livez", "/readyz"];

/// Lets a request through when its token allows it, and gives handlers the [`Token`] as an extension.
pub(crate) async fn require_token(
    State(tokens): State<Tokens>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let token = match admit(&tokens, &request) {
        Ok(token) => token,
        Err(_) if OPEN.contains(&request.uri().path()) => return Ok(next.run(request).await),
        Err(refusal) => return Err(refusal),
    };
    tracing::Span::current().record("token", tracing::field::display(token.id));
    request.extensions_mut().insert(token);
    Ok(next.run(request).await)
}

fn admit(tokens: &Tokens, request: &Request) -> Result<Token, ApiError> {
    let token = bearer(request).and_then(|text| tokens.check(text)).ok_or_else(unauthorized)?;
    if allows(&token.scope, request.uri().path()) { Ok(token) } else { Err(forbidden(&token)) }
}

/// Nothing is allowed that is not named here.
fn allows(scope: &Scope, path: &str) -> bool {
    match scope {
        Scope::Client => true,
        Scope::Intake(cluster) => {
            path.strip_prefix("/v1/intake/audit/").is_some_and(|named| named == cluster.to_string())
        }
    }
}

pub(crate) fn bearer(request: &Request) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn unauthorized() -> ApiError {
    let message = "a valid token is needed: send it as \"Authorization: Bearer …\"; \
                   `muniment token create` makes one, and <data folder>/client.token holds one";
    ApiError::new(axum::http::StatusCode::UNAUTHORIZED, "unauthorized", message)
}

fn forbidden(token: &Token) -> ApiError {
    let message = format!("token {} allows {} and nothing else", token.id, token.scope);
    ApiError::new(axum::http::StatusCode::FORBIDDEN, "forbidden", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intake_token_reaches_its_own_cluster_and_nothing_else() {
        let scope: Scope = "intake:demo".parse().unwrap();
        assert!(allows(&scope, "/v1/intake/audit/demo"));
        for path in
            ["/v1/intake/audit/other", "/v1/intake/audit/demo/x", "/v1/events", "/v1/tokens", "/metrics"]
        {
            assert!(!allows(&scope, path), "{path}");
        }
    }
}
