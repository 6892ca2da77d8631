//! The official Python client against the gateway, beside what it got from a real kube-apiserver.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/engines.rs"]
mod engines;
#[path = "support/peer.rs"]
mod peer;
#[path = "support/server.rs"]
mod server;

use std::{path::Path, process::Command};

use engines::{etcd, unique};
use peer::Peer;
use server::Server;

/// The module of the reports, where the support files look for it.
mod skipped {
    pub(crate) use crate::server::skipped;
}

/// What the scenario printed against kube-apiserver 1.36.3.
const RECORDED: &str = include_str!("python/recorded.jsonl");

/// What a command that must succeed prints.
fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What the scenario prints against a server. The client is fetched where the machine does not have it.
async fn scenario(url: &str, authority: &Path, token: &str) -> String {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let (url, authority, token) = (url.to_owned(), authority.to_owned(), token.to_owned());
    let run = move || {
        let python = printed(Command::new(tests.join("engines")).arg("python"));
        let mut command = Command::new(python.trim());
        printed(command.arg(tests.join("python/scenario.py")).arg(url).arg(authority).arg(token))
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// Fails with each step that went otherwise.
fn agree(theirs: &str, ours: &str) {
    assert_eq!(theirs.lines().count(), ours.lines().count(), "{ours}");
    assert!(theirs.lines().count() > 30, "{theirs}");
    let differ: Vec<_> = theirs.lines().zip(ours.lines()).filter(|(theirs, ours)| theirs != ours).collect();
    assert!(differ.is_empty(), "{differ:#?}");
}

async fn against_the_gateway(args: &[&str]) {
    let server = Server::start(args).await;
    let caller = server.call();
    agree(RECORDED, &scenario(&caller.url, &server.data().join("ca.pem"), &caller.token).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_gets_from_the_embedded_store_what_kube_apiserver_gives_it() {
    against_the_gateway(&["--controllers=-*"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_gets_from_etcd_what_kube_apiserver_gives_it() {
    let (servers, prefix) = (etcd(), format!("/{}", unique("python")));
    against_the_gateway(&["--controllers=-*", "--etcd-servers", &servers, "--etcd-prefix", &prefix]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_api_server_gives_the_python_client_what_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut peer) = Peer::find(folder.path()) else { return };
    peer.set("AUDIT", "off");
    peer.set("ENC", "identity");
    peer.script(&["start", "etcd", "apiserver"]);
    let theirs = scenario(&peer.api(), &peer.folder.join("pki/ca.crt"), &peer.token("admin")).await;
    agree(&theirs, RECORDED);
}
