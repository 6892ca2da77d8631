//! `muniment token`: makes, lists and revokes tokens through the running server.

use std::{io::Write, process::ExitCode};

use anyhow::Result;
use api::token_routes::{CreateToken, TokenView};
use base64::{Engine, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;

use crate::{
    client::{Client, ClientArgs},
    command::block_on,
    table,
};

/// Flags of `muniment token`.
#[derive(Args, Debug)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Make a token and print it: it is shown this once
    Create(CreateArgs),
    /// List the tokens that are valid
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// End a token
    Revoke {
        /// Its id, as `muniment token list` shows it
        id: String,
    },
}

#[derive(Args, Debug)]
struct CreateArgs {
    /// A token that may only send events of this cluster; without it, one that may do everything
    #[arg(long, value_name = "CLUSTER")]
    intake: Option<String>,
    /// What the token is for
    #[arg(long, value_name = "TEXT", default_value = "")]
    label: String,
    /// Print the file that kube-apiserver's --audit-webhook-config-file wants
    #[arg(long, requires = "intake")]
    kubeconfig: bool,
}

/// Runs the command.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub(crate) fn run(args: TokenArgs) -> Result<ExitCode> {
    let client = Client::find(&args.client)?;
    let out = block_on(act(&client, args.action))?;
    std::io::stdout().write_all(out.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

async fn act(client: &Client, action: Action) -> Result<String> {
    match action {
        Action::Create(args) => create(client, args).await,
        Action::List { json } => list(client, json).await,
        Action::Revoke { id } => {
            client.send(client.request(Method::DELETE, &format!("/v1/tokens/{id}"))).await?;
            Ok(format!("revoked {id}\n"))
        }
    }
}

async fn create(client: &Client, args: CreateArgs) -> Result<String> {
    let scope = args.intake.as_ref().map_or_else(|| "client".to_owned(), |c| format!("intake:{c}"));
    let body = CreateToken { scope, label: args.label };
    let response = client.send(client.request(Method::POST, "/v1/tokens").json(&body)).await?;
    let made: TokenView = response.json().await?;
    let token = made.token.unwrap_or_default();
    match args.intake.filter(|_| args.kubeconfig) {
        Some(cluster) => Ok(kubeconfig(client, &cluster, &token)),
        None => Ok(format!("{token}\n")),
    }
}

/// JSON is YAML: kube-apiserver reads it as it is.
fn kubeconfig(client: &Client, cluster: &str, token: &str) -> String {
    let mut server = json!({ "server": format!("{}/v1/intake/audit/{cluster}", client.url()) });
    if let Some(pem) = client.authority() {
        server["certificate-authority-data"] = STANDARD.encode(pem).into();
    }
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "muniment", "cluster": server }],
        "users": [{ "name": "muniment", "user": { "token": token } }],
        "contexts": [{ "name": "muniment", "context": { "cluster": "muniment", "user": "muniment" } }],
        "current-context": "muniment",
    });
    format!("{config:#}\n")
}

async fn list(client: &Client, json: bool) -> Result<String> {
    let answer = client.json(client.request(Method::GET, "/v1/tokens")).await?;
    let tokens: Vec<TokenView> = serde_json::from_value(answer["items"].clone())?;
    if json {
        return tokens.iter().map(|t| Ok(serde_json::to_string(t)? + "\n")).collect();
    }
    let rows = tokens.into_iter().map(|t| vec![t.id, t.scope, t.created_at, t.label]).collect::<Vec<_>>();
    Ok(table::layout(&["ID", "SCOPE", "CREATED", "LABEL"], &rows))
}
