//! The kubectl of the machine, pointed at a started server.

#![allow(dead_code, reason = "each test binary uses a part of this file")]

use std::{
    io::Write,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use tempfile::TempDir;

use crate::server::{Server, skipped};

/// kubectl with a home of its own, so that nothing of the machine's configuration or cache counts.
pub(crate) struct Kubectl {
    home: TempDir,
    flags: Vec<String>,
}

/// The session that is held against what kube-apiserver does; `!reason! command` for what is answered otherwise.
const SESSION: &str = include_str!("../kubectl/session.txt");

/// Its commands, each behind the reason why its answer is another one; empty where it is the same.
pub(crate) fn commands() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = SESSION.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.strip_prefix('!').map_or(("", line), |rest| rest.split_once("! ").unwrap()))
}

/// What a command printed.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) ok: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Kubectl {
    /// For a server; nothing where the machine has no kubectl.
    pub(crate) fn of(server: &Server) -> Option<Self> {
        let caller = server.client().expect("a server that runs");
        Self::at(&caller.url, &caller.token, &server.data().join("ca.pem"))
    }

    /// For whatever listens there.
    pub(crate) fn at(url: &str, token: &str, authority: &Path) -> Option<Self> {
        // No command of a test waits longer than this for one answer.
        let flags =
            ["--request-timeout", "60s", "--server", url, "--token", token, "--certificate-authority"];
        let flags = flags.map(str::to_owned).into_iter().chain([authority.to_str()?.to_owned()]).collect();
        let kubectl = Self { home: tempfile::tempdir().unwrap(), flags };
        if Command::new("kubectl").arg("--help").output().is_err() {
            skipped("there is no kubectl");
            return None;
        }
        Some(kubectl)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.env("HOME", self.home.path()).env("KUBECONFIG", self.home.path().join("none"));
        command.args(&self.flags).args(args);
        command
    }

    /// A folder for files that commands read.
    pub(crate) fn folder(&self) -> &Path {
        self.home.path()
    }

    /// Starts a command that goes on until it is ended.
    pub(crate) fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs a command to its end, with a text as its input.
    pub(crate) fn with_input(&self, args: &[&str], input: &str) -> Said {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // kubectl may end before it has read everything.
        drop(stdin.write_all(input.as_bytes()));
        drop(stdin);
        said(child.wait_with_output().unwrap())
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Said {
        said(self.command(args).stdin(Stdio::null()).output().unwrap())
    }

    /// What a command that must succeed printed.
    pub(crate) fn out(&self, args: &[&str]) -> String {
        let said = self.run(args);
        assert!(said.ok, "kubectl {args:?}: {said:?}");
        said.out
    }

    /// Applies a text that must be taken.
    pub(crate) fn apply(&self, text: &str) -> String {
        let said = self.with_input(&["apply", "-f", "-"], text);
        assert!(said.ok, "{said:?}");
        said.out
    }
}

fn said(output: Output) -> Said {
    Said {
        ok: output.status.success(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A table's text with single spaces, so that widths do not count.
pub(crate) fn squeezed(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}
