//! `muniment admission check` as scripts use it: exit codes, what is printed where, and standard input.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

const PODS: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: good}
spec: {containers: [{name: app, image: a}]}
---
apiVersion: v1
kind: Pod
metadata: {name: bad}
spec: {hostPID: true, containers: [{name: app, image: a}]}
";

fn check(flags: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muniment"));
    command.args(["admission", "check"]).args(flags);
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    // A command that refuses its flags reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_refused_pod_is_exit_code_1_with_kube_apiservers_text() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pods.yaml");
    std::fs::write(&file, PODS).unwrap();
    let file = file.to_str().unwrap();
    let output = check(&["-f", file, "--namespace-labels", "enforce=baseline,enforce-version=v1.30"], "");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "pod/good passes\n");
    let expected = format!(
        "Error from server (Forbidden): error when creating \"{file}\": pods \"bad\" is forbidden: \
         violates PodSecurity \"baseline:v1.30\": host namespaces (hostPID=true)\n"
    );
    assert_eq!(text(&output.stderr), expected);
}

#[test]
fn what_passes_is_exit_code_0_and_a_mistake_is_its_own() {
    let output = check(&["-f", "-", "--pod-security-default", "privileged"], PODS);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), "pod/good passes\npod/bad passes\n");
    let output = check(&["-f", "-"], PODS);
    assert_eq!(output.status.code(), Some(1), "without labels a namespace is held to baseline");
    let output = check(&["-f", "-", "-n", "kube-system"], PODS);
    assert_eq!(output.status.code(), Some(0), "but those that a cluster needs");
    let output = check(&["-f", "-", "--namespace-labels", "enforce=strict"], PODS);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("must be one of privileged, baseline, restricted"));
    let output = check(&["-f", "-"], "kind: [");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("error: - is no manifest: "), "{output:?}");
}
