//! How requests to AWS leave: through the HTTP client that the whole program uses, and encrypted wherever they leave
//! this machine.

use std::net::IpAddr;

use aws_sdk_kms::{
    config::{
        HttpClient, RuntimeComponents,
        http::{HttpRequest, HttpResponse},
    },
    error::ConnectorError,
};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_types::body::SdkBody;
use reqwest::{Client, Request, Url};

/// The largest answer. Those of the KMS and of the services that give credentials have a few KiB.
const MAX_ANSWER: usize = 1024 * 1024;

/// An HTTP client for AWS. What bounds the time of a request is the caller's.
#[derive(Clone, Debug)]
pub(super) struct Http(Client);

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{0} is not spoken to in the clear, only https is")]
    Clear(Url),
    #[error("an answer of more than {MAX_ANSWER} bytes")]
    Long,
    #[error("a request whose body is a stream")]
    Stream,
}

impl Http {
    pub(super) fn new() -> Result<Self, reqwest::Error> {
        // A signed request is for the host that it was signed for.
        Client::builder().redirect(reqwest::redirect::Policy::none()).user_agent("muniment").build().map(Self)
    }
}

impl HttpClient for Http {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Http {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.0.clone();
        HttpConnectorFuture::new(async move { answer(&client, outgoing(request)?).await })
    }
}

fn outgoing(request: HttpRequest) -> Result<Request, ConnectorError> {
    if request.body().bytes().is_none() {
        return Err(user(Refused::Stream));
    }
    let request = request.try_into_http1x().map_err(user)?;
    let request = request.map(|body| body.bytes().unwrap_or_default().to_vec());
    let request = Request::try_from(request).map_err(user)?;
    let refused = || user(Refused::Clear(request.url().clone()));
    if leaves_in_the_clear(request.url()) { Err(refused()) } else { Ok(request) }
}

/// Keys go out in requests. Without TLS they go to this machine alone, and to the addresses where AWS gives machines
/// and containers their credentials, which no router forwards.
fn leaves_in_the_clear(url: &Url) -> bool {
    if url.scheme() == "https" {
        return false;
    }
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_near = match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_link_local(),
        Ok(IpAddr::V6(address)) => address.is_loopback() || address.segments()[..2] == [0xfd00, 0x0ec2],
        Err(_) => host == "localhost",
    };
    !is_near
}

async fn answer(client: &Client, request: Request) -> Result<HttpResponse, ConnectorError> {
    let mut answer = client.execute(request).await.map_err(failed)?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(user(Refused::Long));
        }
        body.extend_from_slice(&chunk);
    }
    let mut response =
        HttpResponse::new(answer.status().as_u16().try_into().map_err(user)?, SdkBody::from(body));
    for (name, value) in answer.headers() {
        if let Ok(value) = value.to_str() {
            response.headers_mut().append(name.as_str().to_owned(), value.to_owned());
        }
    }
    Ok(response)
}

fn user(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ConnectorError {
    ConnectorError::user(error.into())
}

/// Both kinds are worth another try.
fn failed(error: reqwest::Error) -> ConnectorError {
    if error.is_timeout() { ConnectorError::timeout(error.into()) } else { ConnectorError::io(error.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_the_machine_in_the_clear() {
        for near in [
            "https://kms.eu-west-1.amazonaws.com/",
            "http://127.0.0.1:4566/",
            "http://localhost:4566/",
            "http://[::1]/",
            "http://169.254.169.254/latest/",
            "http://[fd00:ec2::254]/latest/",
        ] {
            assert!(!leaves_in_the_clear(&near.parse().unwrap()), "{near}");
        }
        for far in [
            "http://kms.eu-west-1.amazonaws.com/",
            "http://10.0.0.1/",
            "http://[2001:db8::1]/",
            "http://localhost.example/",
        ] {
            assert!(leaves_in_the_clear(&far.parse().unwrap()), "{far}");
        }
    }
}
