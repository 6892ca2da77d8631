//! Asks the gateway for changes as a client does, without a connection between them.

use axum::{body::Body, extract::Request, http::Method};
use serde_json::Value;

use super::Controller;
use crate::gateway::{body, serve::Gateway, status::Status, user::UserInfo};

/// A client within the process.
#[derive(Clone, Debug)]
pub(super) struct Agent {
    gateway: Gateway,
    user: UserInfo,
}

impl Agent {
    pub(super) fn new(gateway: &Gateway, controller: Controller) -> Self {
        Self { gateway: gateway.clone(), user: controller.user() }
    }

    /// Sends a request, and gives the object of its answer.
    ///
    /// # Errors
    /// With the answer's code and message when it was refused.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        sent: Option<&Value>,
    ) -> Result<Value, Status> {
        let content = sent.map_or_else(Body::empty, |value| Body::from(value.to_string()));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .header("user-agent", concat!("muniment/", env!("CARGO_PKG_VERSION")))
            .body(content)
            .map_err(Status::internal)?;
        let response = self.gateway.serve_as(request, self.user.clone()).await;
        let code = response.status();
        let answer = body::read(response.into_body()).await?;
        let answer: Value = serde_json::from_slice(&answer).map_err(Status::internal)?;
        if code.is_success() {
            return Ok(answer);
        }
        let message = answer["message"].as_str().unwrap_or_default();
        Err(Status::internal(message).with_code(code.as_u16(), "Refused"))
    }
}
