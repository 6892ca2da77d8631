//! How client commands find and call a server: from its data folder, or as flags and variables say.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use reqwest::{Certificate, Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;

use crate::data_folder::ServerFile;

/// How long a connection may take to open. The server is near, or it is away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the server is and who calls.
#[derive(Args, Clone, Debug)]
pub(crate) struct ClientArgs {
    /// Data folder of the server on this machine, where its address and a token are found
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "MUNIMENT_DATA_DIR",
        default_value = "muniment-data"
    )]
    pub(crate) data_dir: PathBuf,
    /// URL of the server; by default that of the server that runs on the data folder
    #[arg(long, global = true, value_name = "https://HOST:PORT", env = "MUNIMENT_SERVER")]
    pub(crate) server: Option<String>,
    /// Token to call with
    #[arg(long, global = true, value_name = "TOKEN", env = "MUNIMENT_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Certificate authority of the server in PEM; by default that of the data folder, else the system's
    #[arg(long, global = true, value_name = "FILE", env = "MUNIMENT_CA")]
    pub(crate) ca: Option<PathBuf>,
}

/// A server that can be called.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    token: String,
    data_dir: PathBuf,
    ca: Option<Vec<u8>>,
}

impl Client {
    /// Finds the server.
    ///
    /// # Errors
    /// When neither flags, variables nor the data folder say where it is or what token to use.
    pub(crate) fn find(args: &ClientArgs) -> Result<Self> {
        let url = match &args.server {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => running_server(&args.data_dir)?,
        };
        let token = match &args.token {
            Some(token) => token.clone(),
            None => client_token(&args.data_dir)?,
        };
        let ca = authority(args)?;
        let mut builder = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).user_agent("muniment");
        if let Some(pem) = &ca {
            let certificates = Certificate::from_pem_bundle(pem).context("the authority's file is no PEM")?;
            // A server elsewhere may have a certificate of a public authority: the folder's own is one more then.
            let elsewhere = args.server.is_some() && args.ca.is_none();
            builder = match elsewhere {
                true => builder.tls_certs_merge(certificates),
                false => builder.tls_certs_only(certificates),
            };
        }
        let http = builder.build().context("cannot set up TLS")?;
        Ok(Self { http, url, token, data_dir: args.data_dir.clone(), ca })
    }

    /// The server's URL.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The data folder, where this machine's commands keep what they need.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The authority that the server's certificate is checked against, in PEM.
    pub(crate) fn authority(&self) -> Option<&[u8]> {
        self.ca.as_deref()
    }

    /// A request for `path`, with the token.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token)
    }

    /// Sends a request and gives the answer when it is a success.
    ///
    /// # Errors
    /// What the server says, or that it cannot be reached.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let response = request.send().await.map_err(|e| self.unreachable(e))?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await.into()) }
    }

    /// Sends a request and reads the JSON of a success.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub(crate) async fn json(&self, request: RequestBuilder) -> Result<Value> {
        Ok(self.send(request).await?.json().await?)
    }

    /// The words for a server that does not answer.
    pub(crate) fn unreachable(&self, error: reqwest::Error) -> anyhow::Error {
        let hint = if error.is_connect() {
            ": start a server with `muniment serve`, or say --server URL"
        } else {
            ""
        };
        anyhow::Error::new(error).context(format!("cannot reach {}{hint}", self.url))
    }
}

/// An answer that is not a success.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    /// The status.
    pub(crate) status: StatusCode,
    /// The server's message.
    pub(crate) message: String,
    /// The error object, where there is one.
    pub(crate) error: Value,
}

/// Reads what the server says about a failure.
pub(crate) async fn refusal(response: Response) -> Refusal {
    let status = response.status();
    let body = response.bytes().await.unwrap_or_default();
    let error = serde_json::from_slice::<Value>(&body).map_or(Value::Null, |mut v| v["error"].take());
    let message = match error["message"].as_str() {
        Some(message) => message.to_owned(),
        None => format!("the server answered {status}"),
    };
    Refusal { status, message, error }
}

fn running_server(data: &Path) -> Result<String> {
    let file = data.join("server.json");
    let json = fs::read(&file).map_err(|_| {
        anyhow!(
            "no server is running from the data folder {}; start one with `muniment serve`, or say --server URL or --data-dir DIR",
            data.display()
        )
    })?;
    let server: ServerFile =
        serde_json::from_slice(&json).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(server.url)
}

fn client_token(data: &Path) -> Result<String> {
    let file = data.join("client.token");
    match fs::read_to_string(&file) {
        Ok(token) => Ok(token.trim().to_owned()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            bail!("there is no {}; say --token TOKEN, or --data-dir DIR of the server", file.display())
        }
        Err(e) => Err(e).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// The authority that was named, or that of the data folder.
fn authority(args: &ClientArgs) -> Result<Option<Vec<u8>>> {
    let file = match &args.ca {
        Some(file) => file.clone(),
        None => api::tls::authority_file(&args.data_dir),
    };
    if args.ca.is_none() && !file.exists() {
        return Ok(None);
    }
    fs::read(&file).map(Some).with_context(|| format!("cannot read {}", file.display()))
}
