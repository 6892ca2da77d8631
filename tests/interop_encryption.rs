//! A real kube-apiserver and Muniment share one etcd and one encryption configuration: for every provider each reads,
//! and changes, what the other stored.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/peer.rs"]
mod peer;
#[path = "support/server.rs"]
mod server;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use api::gateway::store::{EtcdOptions, EtcdStore, Store};
use peer::Peer;
use reqwest::{Method, StatusCode};
use serde_json::json;
use server::{Server, muniment};

/// The module of the reports, where the support files look for it.
mod skipped {
    pub(crate) use crate::server::skipped;
}

const SECRETS: &str = "/api/v1/namespaces/default/secrets";

/// A process that ends with the test.
struct Plugin(Child);

impl Drop for Plugin {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A configuration for secrets in the place where the peer's scripts look for it; of the KMS also its plugin.
fn configure(provider: &str, folder: &Path, peer: &Peer) -> (PathBuf, Option<Plugin>) {
    let file = peer.folder.join(format!("etc/encryption-{provider}.yaml"));
    if file.exists() {
        fs::remove_file(&file).unwrap();
    }
    let generate = |file: &Path, provider: &str| {
        let made = muniment().args(["keys", "generate"]).arg(file).args(["--provider", provider]).output();
        assert!(made.unwrap().status.success());
    };
    if provider != "kms" {
        generate(&file, provider);
        return (file, None);
    }
    let (keys, socket) = (folder.join("kms-keys.yaml"), folder.join("kms.sock"));
    generate(&keys, "key-file");
    let mut plugin = muniment();
    plugin.arg("kms-plugin").arg("--socket").arg(&socket).arg("--key-file").arg(&keys);
    let plugin = Plugin(plugin.stdout(Stdio::null()).spawn().unwrap());
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  \
         providers: [{{kms: {{apiVersion: v2, name: local, endpoint: 'unix://{}'}}}}]\n",
        socket.display()
    );
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    (file, Some(plugin))
}

fn run(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn share(provider: &str) {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut peer) = Peer::find(folder.path()) else { return };
    peer.set("AUDIT", "off");
    peer.set("ENC", provider);
    // Starting etcd makes the folder of the configurations.
    peer.script(&["start", "etcd"]);
    let (config, _plugin) = configure(provider, folder.path(), &peer);
    peer.script(&["start", "apiserver"]);
    let (etcd, config) = (peer.etcd(), config.display().to_string());
    let mut server = Server::start(&["--etcd-servers", &etcd, "--encryption-provider-config", &config]).await;
    let caller = server.call();

    run(peer.command("admin", &["create", "secret", "generic", "theirs", "--from-literal=p=of-kube"]));
    let ours = json!({ "kind": "Secret", "apiVersion": "v1", "metadata": { "name": "ours" },
        "data": { "p": "b2YtbXVuaW1lbnQ=" } });
    let made = caller.request(Method::POST, SECRETS).json(&ours).send().await.unwrap();
    assert_eq!(made.status(), StatusCode::CREATED);

    let options = EtcdOptions { servers: vec![etcd.clone()], ..EtcdOptions::default() };
    let store = EtcdStore::open(&options).await.unwrap();
    let begins = if provider == "kms" { "k8s:enc:kms:v2:".into() } else { format!("k8s:enc:{provider}:v1:") };
    for name in ["theirs", "ours"] {
        let stored = store.get(&format!("secrets/default/{name}")).await.unwrap().value.unwrap().value;
        assert!(stored.starts_with(begins.as_bytes()), "{name}: {:?}", &stored[..24]);
    }

    assert_eq!(caller.json(&format!("{SECRETS}/theirs")).await["data"]["p"], "b2Yta3ViZQ==");
    let read = run(peer.command("admin", &["get", "secret", "ours", "-o", "jsonpath={.data.p}"]));
    assert_eq!(read, "b2YtbXVuaW1lbnQ=");
    let patch = caller.request(Method::PATCH, &format!("{SECRETS}/theirs"));
    let patch = patch.header("content-type", "application/merge-patch+json");
    let patched = patch.body(r#"{"metadata":{"labels":{"by":"muniment"}}}"#).send().await.unwrap();
    assert_eq!(patched.status(), StatusCode::OK);
    run(peer.command("admin", &["label", "secret", "ours", "by=kube"]));
    assert_eq!(caller.json(&format!("{SECRETS}/ours")).await["metadata"]["labels"]["by"], "kube");
    let label = &["get", "secret", "theirs", "-o", "jsonpath={.metadata.labels.by}{.data.p}"];
    assert_eq!(run(peer.command("admin", label)), "munimentb2Yta3ViZQ==");
    let inventory = caller.json("/v1/keys").await;
    let secrets = &inventory["resources"][0];
    assert_eq!((&secrets["resource"], &secrets["unreadable"]), (&json!("secrets"), &json!(0)), "{inventory}");
    assert!(server.stop().await.success());
}

/// One after the other: each has an API server of its own, which takes half a gigabyte.
#[tokio::test(flavor = "multi_thread")]
async fn every_provider_is_shared_with_a_real_api_server() {
    for provider in ["aesgcm", "aescbc", "secretbox", "kms"] {
        share(provider).await;
    }
}
