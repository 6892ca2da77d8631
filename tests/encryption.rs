//! Encryption at rest through the built binary: nothing planted reaches the store in the clear, a changed file takes
//! effect, and a rotation that is killed again and again ends with nothing under an old key.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/engines.rs"]
mod engines;
#[path = "support/server.rs"]
mod server;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use api::gateway::store::{EtcdOptions, EtcdStore, List, Store};
use engines::{etcd, unique};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use server::{Caller, Server, eventually};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const PLANTED: &str = "cGxhbnRlZC1pbi1hLXNlY3JldA==";
const OLD: &str = "{name: old, secret: b2xkb2xkb2xkb2xkb2xkbw==}";
const NEW: &str = "{name: new, secret: bmV3bmV3bmV3bmV3bmV3bg==}";

/// Where the objects are.
enum Place {
    Embedded,
    Etcd { servers: String, prefix: String },
}

impl Place {
    fn etcd() -> Self {
        Self::Etcd { servers: etcd(), prefix: format!("/{}", unique("encryption")) }
    }

    fn args(&self, config: &Path) -> Vec<String> {
        let mut args = vec![
            "--encryption-provider-config".to_owned(),
            config.display().to_string(),
            "--encryption-provider-config-automatic-reload".to_owned(),
        ];
        if let Self::Etcd { servers, prefix } = self {
            args.extend(["--etcd-servers", servers, "--etcd-prefix", prefix].map(str::to_owned));
        }
        args
    }

    /// Whether a text lies anywhere in what is stored. The embedded store's file also holds what was there before.
    async fn holds(&self, data: &Path, text: &[u8]) -> bool {
        let has = |bytes: &[u8]| memchr::memmem::find(bytes, text).is_some();
        match self {
            Self::Embedded => ["cluster.sqlite", "cluster.sqlite-wal"]
                .iter()
                .any(|name| fs::read(data.join(name)).is_ok_and(|bytes| has(&bytes))),
            Self::Etcd { servers, prefix } => {
                let (servers, prefix) = (vec![servers.clone()], prefix.clone());
                let options = EtcdOptions { servers, prefix, ..EtcdOptions::default() };
                let store = EtcdStore::open(&options).await.unwrap();
                let listing = store.list(&List::default()).await.unwrap();
                listing.items.iter().any(|item| has(&item.object.value))
            }
        }
    }
}

fn write_config(folder: &Path, keys: &str) -> PathBuf {
    let file = folder.join("enc.yaml");
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  \
         providers: [{{aesgcm: {{keys: [{keys}]}}}}, {{identity: {{}}}}]\n"
    );
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file
}

fn secret(name: &str) -> Value {
    json!({ "kind": "Secret", "apiVersion": "v1", "metadata": { "name": name }, "data": { "x": PLANTED } })
}

async fn create(caller: &Caller, name: &str) -> StatusCode {
    let sent = caller.request(Method::POST, SECRETS).json(&secret(name)).send().await;
    sent.map_or(StatusCode::SERVICE_UNAVAILABLE, |response| response.status())
}

async fn secret_of(caller: &Caller, name: &str) -> String {
    let secret = caller.json(&format!("{SECRETS}/{name}")).await;
    secret["data"]["x"].as_str().unwrap_or_default().to_owned()
}

/// How many secrets lie under which key.
async fn counts(caller: &Caller) -> Vec<(String, u64)> {
    let inventory = caller.json("/v1/keys").await;
    let keys = inventory["resources"][0]["keys"].as_array().cloned().unwrap_or_default();
    keys.iter().map(|k| (k["key"].as_str().unwrap().to_owned(), k["count"].as_u64().unwrap())).collect()
}

async fn start(place: &Place, config: &Path) -> Server {
    let args = place.args(config);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Server::start(&args).await
}

async fn encrypts(place: Place) {
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(folder.path(), OLD);
    let mut server = start(&place, &config).await;
    let caller = server.call();
    let created = eventually("the default namespace", async || {
        (create(&caller, "a").await == StatusCode::CREATED).then_some(())
    });
    created.await;
    assert_eq!(secret_of(&caller, "a").await, PLANTED);
    let plain = json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": "control" }, "data": { "x": "in-the-clear" } });
    let made =
        caller.request(Method::POST, "/api/v1/namespaces/default/configmaps").json(&plain).send().await;
    assert_eq!(made.unwrap().status(), StatusCode::CREATED);
    assert!(place.holds(&server.data(), b"in-the-clear").await, "the search finds what is not encrypted");
    assert!(place.holds(&server.data(), b"k8s:enc:aesgcm:v1:old:").await);
    assert!(!place.holds(&server.data(), PLANTED.as_bytes()).await);
    assert!(!place.holds(&server.data(), b"planted-in-a-secret").await);

    // A bad file changes nothing, and is recorded.
    fs::write(&config, "kind: EncryptionConfiguration").unwrap();
    caller.until_count("kind:pipeline event.type:encryption_refused", 1).await;
    assert_eq!(create(&caller, "b").await, StatusCode::CREATED);
    assert_eq!(counts(&caller).await, [("old".to_owned(), 2)]);

    // Another key: what is new lies under it, and what was there is still read.
    write_config(folder.path(), &format!("{NEW}, {OLD}"));
    caller.until_count("kind:pipeline event.type:encryption_configured", 2).await;
    assert_eq!(create(&caller, "c").await, StatusCode::CREATED);
    assert_eq!(counts(&caller).await, [("new".to_owned(), 1), ("old".to_owned(), 2)]);
    assert_eq!(secret_of(&caller, "a").await, PLANTED);
    // An update that changes nothing writes what is stale anew.
    let same = caller.json(&format!("{SECRETS}/b")).await;
    let put = caller.request(Method::PUT, &format!("{SECRETS}/b")).json(&same).send().await.unwrap();
    let put: Value = put.json().await.unwrap();
    assert_ne!(put["metadata"]["resourceVersion"], same["metadata"]["resourceVersion"]);
    assert_eq!(counts(&caller).await, [("new".to_owned(), 2), ("old".to_owned(), 1)]);

    let rotated = server.output(&["keys", "rotate", "--resource", "secrets"]).await;
    let text = String::from_utf8_lossy(&rotated.stdout).into_owned();
    assert!(
        rotated.status.success()
            && text.contains("secrets: all 3 values lie under aesgcm new, read whole at revision "),
        "{text}"
    );
    assert_eq!(counts(&caller).await, [("new".to_owned(), 3)]);
    let status = server.output(&["keys", "status"]).await;
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.status.success() && text.contains("secrets   aesgcm    new  3      100.0 %"), "{text}");
    caller.until_count("kind:pipeline event.type:keys_rotated", 1).await;

    // Without the key nothing is served under a wrong name, nothing breaks, and the operator can delete it.
    server.kill();
    write_config(folder.path(), OLD);
    server.run().await;
    let caller = server.call();
    assert_eq!(create(&caller, "d").await, StatusCode::CREATED);
    let listed = caller.get(SECRETS).send().await.unwrap();
    let warnings = listed.headers().get_all("warning").iter().count();
    let list: Value = listed.json().await.unwrap();
    assert_eq!((list["items"].as_array().unwrap().len(), warnings), (1, 3), "{list}");
    let one = caller.get(&format!("{SECRETS}/a")).send().await.unwrap();
    assert_eq!(one.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let one: Value = one.json().await.unwrap();
    assert_eq!(one["reason"], "StorageReadError", "{one}");
    let delete = caller.request(Method::DELETE, &format!("{SECRETS}/a"));
    assert_eq!(delete.send().await.unwrap().status(), StatusCode::INTERNAL_SERVER_ERROR);
    let options = json!({ "kind": "DeleteOptions", "apiVersion": "v1",
        "ignoreStoreReadErrorWithClusterBreakingPotential": true });
    let delete = caller.request(Method::DELETE, &format!("{SECRETS}/a")).json(&options).send().await.unwrap();
    assert_eq!(delete.status(), StatusCode::OK);
    assert!(!server.output(&["keys", "status"]).await.status.success(), "two are still unreadable");
    assert!(server.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_encrypted_in_the_embedded_store() {
    encrypts(Place::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_encrypted_in_etcd() {
    encrypts(Place::etcd()).await;
}

/// Kills the server in the middle of a rotation, while a writer goes on, until one rotation ends.
async fn rotates(place: Place) {
    const VALUES: usize = 300;
    const KILLS: usize = 4;
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(folder.path(), OLD);
    let mut server = start(&place, &config).await;
    let caller = server.call();
    let mut names: Vec<String> = Vec::new();
    eventually("the default namespace", async || {
        (create(&caller, "first").await == StatusCode::CREATED).then_some(())
    })
    .await;
    for n in 0..VALUES {
        names.push(format!("s{n}"));
        assert_eq!(create(&caller, &names[n]).await, StatusCode::CREATED);
    }
    write_config(folder.path(), &format!("{NEW}, {OLD}"));
    let mut cut_short = 0;
    for life in 0..KILLS {
        server.kill();
        server.run().await;
        let caller = server.call();
        let ask = caller.request(Method::POST, "/v1/keys/rotation?resource=secrets&per_second=30");
        assert_eq!(ask.send().await.unwrap().status(), StatusCode::ACCEPTED);
        let (from, mut n) = (counts(&caller).await, 0);
        // Some values are written anew in each life, while a client writes others.
        eventually("some progress", async || {
            n += 1;
            let name = format!("w{life}-{n}");
            if create(&caller, &name).await == StatusCode::CREATED {
                names.push(name);
            }
            (counts(&caller).await != from && n > 5).then_some(())
        })
        .await;
        let state = caller.json("/v1/keys/rotation").await;
        cut_short += usize::from(state["state"] == "running");
    }
    assert!(cut_short >= 2, "only {cut_short} kills hit a rotation");
    server.kill();
    server.run().await;
    let ended = server.output(&["keys", "rotate", "--per-second", "10000"]).await;
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let caller = server.call();
    let left = counts(&caller).await;
    assert_eq!(left, [("new".to_owned(), names.len() as u64 + 1)]);
    for name in &names {
        assert_eq!(secret_of(&caller, name).await, PLANTED, "{name}");
    }
    assert!(server.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_is_killed_ends_all_the_same_in_the_embedded_store() {
    rotates(Place::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_is_killed_ends_all_the_same_in_etcd() {
    rotates(Place::etcd()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_honoured_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(folder.path(), "{name: a, secret: dG9vc2hvcnQ=}");
    let flag = config.display().to_string();
    let mut server = Server::stopped(&["--encryption-provider-config", &flag]);
    for (mode, expected) in [(0o600, "resources[0].providers[0].aesgcm.keys[0].secret"), (0o644, "0644")] {
        fs::set_permissions(&config, fs::Permissions::from_mode(mode)).unwrap();
        server.spawn();
        assert_eq!(server.ended().await.code(), Some(2));
        let log = server.log();
        assert!(log.contains(expected), "{log}");
    }
}

/// A plugin's process, which ends with the test.
struct Plugin(std::process::Child);

impl Drop for Plugin {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        self.0.wait().unwrap();
    }
}

/// The plugin that this binary serves protects the keys of the server.
#[tokio::test(flavor = "multi_thread")]
async fn a_kms_plugin_that_goes_away_stops_writes_and_not_reads() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("kms.sock");
    let keys = folder.path().join("kms-keys.yaml").display().to_string();
    let made =
        server::muniment().args(["keys", "generate", &keys, "--provider", "key-file"]).output().unwrap();
    assert!(made.status.success());
    let spawn = || {
        let mut plugin = server::muniment();
        plugin.args(["kms-plugin", "--socket"]).arg(&socket).args(["--key-file", &keys]);
        Plugin(plugin.spawn().unwrap())
    };
    let mut plugin = spawn();
    let config = folder.path().join("enc.yaml");
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  \
         providers: [{{kms: {{apiVersion: v2, name: local, endpoint: 'unix://{}'}}}}]\n",
        socket.display()
    );
    fs::write(&config, text).unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
    let mut server = start(&Place::Embedded, &config).await;
    let caller = server.call();
    eventually("a secret under the plugin's key", async || {
        (create(&caller, "a").await == StatusCode::CREATED).then_some(())
    })
    .await;
    assert_eq!(counts(&caller).await, [("local".to_owned(), 1)]);
    assert!(!Place::Embedded.holds(&server.data(), PLANTED.as_bytes()).await);
    plugin.0.kill().unwrap();

    // A server that starts without its plugin can neither read nor write under its key, and says so.
    server.kill();
    server.forget_address();
    server.spawn();
    let caller = server.answering().await;
    eventually("readiness that names the plugin", async || {
        let page = caller.get("/readyz").send().await.ok()?;
        let text = page.text().await.ok()?;
        text.contains("local").then_some(())
    })
    .await;
    assert_eq!(create(&caller, "b").await, StatusCode::INTERNAL_SERVER_ERROR);
    let refused = caller.get(&format!("{SECRETS}/a")).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::INTERNAL_SERVER_ERROR);

    let _plugin = spawn();
    tokio::time::timeout(Duration::from_secs(60), async {
        while create(&caller, "c").await != StatusCode::CREATED {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await
    .expect("the plugin is found again");
    assert_eq!(secret_of(&caller, "a").await, PLANTED);
    // That it was away, and that it is back.
    eventually("records of both", async || {
        (caller.count("kind:pipeline event.type:kms").await >= 2).then_some(())
    })
    .await;
    assert!(server.stop().await.success());
}
