//! A session with kubectl of some hundred commands, beside what a real kube-apiserver answered to the same.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/engines.rs"]
mod engines;
#[path = "support/kubectl.rs"]
mod kubectl;
#[path = "support/server.rs"]
mod server;

use engines::{etcd, unique};
use kubectl::{Kubectl, Said, commands};
use serde_json::Value;
use server::Server;

/// What kube-apiserver 1.36 answered, made by `kubectl/record`.
const RECORDED: &str = include_str!("kubectl/recorded.jsonl");

/// What is as well another one at each run.
fn settled(word: &str) -> &str {
    let inner = word.trim_matches(['"', '(', ')', ',']);
    let is_age = |text: &str| {
        text.len() < 9
            && text.starts_with(|c: char| c.is_ascii_digit())
            && text.ends_with(['s', 'm', 'h', 'd'])
            && text.bytes().all(|b| b.is_ascii_digit() || b"smhd".contains(&b))
    };
    let is_uid = inner.len() == 36 && inner.bytes().filter(|b| *b == b'-').count() == 4;
    let is_time = inner.len() == 20 && inner.ends_with('Z') && inner.contains('T');
    match () {
        () if is_age(inner) => "AGE",
        () if is_uid => "UID",
        () if is_time => "TIME",
        () => word,
    }
}

/// A text without what differs from run to run.
fn plain(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("resourceVersion:"));
    let lines = lines.map(|line| {
        let line = line.trim_end();
        if line.starts_with("CreationTimestamp:") {
            return "CreationTimestamp: TIME".to_owned();
        }
        line.split_whitespace().map(settled).collect::<Vec<_>>().join(" ")
    });
    lines.collect()
}

/// What a command printed. kubectl describes the keys of these in an order that is another one at each run.
fn printed(command: &str, text: &str) -> Vec<String> {
    let mut lines = plain(text);
    if command.starts_with("describe configmap") || command.starts_with("describe secret") {
        lines.sort_unstable();
    }
    lines
}

/// Runs every command, and gives each that is not answered as it should be.
fn session(kubectl: &Kubectl) -> Vec<String> {
    let commands: Vec<_> = commands().collect();
    assert!(commands.len() > 90 && commands.len() == RECORDED.lines().count(), "record the session again");
    let mut wrong = Vec::new();
    for ((reason, command), recorded) in commands.into_iter().zip(RECORDED.lines()) {
        let theirs: Value = serde_json::from_str(recorded).unwrap();
        assert_eq!(theirs["command"], command, "record the session again");
        let Said { ok, out, err } = kubectl.run(&command.split(' ').collect::<Vec<_>>());
        let same = theirs["ok"] == ok
            && printed(command, theirs["out"].as_str().unwrap()) == printed(command, &out)
            && plain(theirs["err"].as_str().unwrap()) == plain(&err);
        if same != reason.is_empty() {
            let (their_out, their_err) = (&theirs["out"], &theirs["err"]);
            wrong.push(format!(
                "{reason}: {command}\n  theirs {}: {their_out} {their_err}\n  ours {ok}: {out:?} {err:?}",
                theirs["ok"]
            ));
        }
    }
    wrong
}

async fn run(args: &[&str]) {
    // As where the answers were recorded: no account is made for Pods, and none is asked for; nobody counts quotas, and
    // kube-apiserver holds nobody to a quota that was never counted.
    let alone = ["--controllers=-*", "--disable-admission-plugins", "ServiceAccount,ResourceQuota"];
    let server = Server::start(&[&alone[..], args].concat()).await;
    let Some(kubectl) = Kubectl::of(&server) else { return };
    let wrong = tokio::task::spawn_blocking(move || session(&kubectl)).await.unwrap();
    assert!(wrong.is_empty(), "{} commands:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_answered_from_the_embedded_store_as_kube_apiserver_answers_it() {
    run(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_answered_from_etcd_as_kube_apiserver_answers_it() {
    let (servers, prefix) = (etcd(), format!("/{}", unique("session")));
    run(&["--etcd-servers", &servers, "--etcd-prefix", &prefix]).await;
}
