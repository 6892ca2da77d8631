//! How often a key of AES-GCM may be used, on both stores: the count never falls below what was written, whatever is
//! killed, and nothing is written beyond the limit, whoever writes.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/engines.rs"]
mod engines;
#[path = "support/server.rs"]
mod server;

use std::{fs, os::unix::fs::PermissionsExt, sync::Arc};

use api::gateway::{
    encryption::{EncryptedStore, KeyWrites, Rotation, RotationState, WriteBounds, rotation},
    store::{EtcdOptions, EtcdStore, SqliteStore, Store, StoreError, WriteError},
};
use crypto::{EncryptionConfig, EncryptionTransformer};
use engines::{etcd, unique};
use ingest::time::Clock;
use reqwest::{Method, StatusCode};
use serde_json::json;
use server::{Caller, Server, eventually};
use tempfile::TempDir;
use tokio::sync::watch;

const OLD: &str = "{name: old, secret: b2xkb2xkb2xkb2xkb2xkbw==}";
const NEW: &str = "{name: new, secret: bmV3bmV3bmV3bmV3bmV3bg==}";

const BOUNDS: WriteBounds = WriteBounds { block: 7, worn: 50, limit: 100 };

fn transformer(keys: &str) -> Arc<EncryptionTransformer> {
    let text = format!(
        "{{apiVersion: v1, kind: EncryptionConfig, resources: [{{resources: [secrets], providers: [
         {{aesgcm: {{keys: [{keys}]}}}}]}}]}}"
    );
    let config = EncryptionConfig::from_bytes(text.as_bytes(), false).unwrap();
    Arc::new(EncryptionTransformer::from_config(config).unwrap())
}

/// An instance's view of a store that others share.
struct Instance {
    store: EncryptedStore,
    config: watch::Sender<Arc<EncryptionTransformer>>,
}

impl Instance {
    fn new(below: &Arc<dyn Store>, name: &str) -> Self {
        let config = watch::Sender::new(transformer(OLD));
        let writes = KeyWrites::new(below.clone(), name, BOUNDS);
        Self { store: EncryptedStore::new(below.clone(), config.subscribe(), writes), config }
    }

    async fn write(&self, name: &str) -> Result<(), WriteError> {
        self.store.create(&format!("secrets/a/{name}"), "x".into(), None).await.map(drop)
    }

    async fn counted(&self) -> u64 {
        self.store.key_uses().await.unwrap()[0].writes
    }
}

async fn embedded() -> (Arc<dyn Store>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("cluster.sqlite"), Clock::system()).await.unwrap();
    (Arc::new(store), folder)
}

async fn on_etcd() -> Arc<dyn Store> {
    let prefix = format!("/{}", unique("uses"));
    let options = EtcdOptions { servers: vec![etcd()], prefix, ..EtcdOptions::default() };
    Arc::new(EtcdStore::open(&options).await.unwrap())
}

fn why(outcome: Result<(), WriteError>) -> String {
    match outcome.unwrap_err() {
        WriteError::Store(StoreError::Unencrypted(cause)) => cause.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Instances come and go without a word, several at once, until the key is used up.
async fn counts(below: Arc<dyn Store>) {
    let mut written = 0;
    for life in 0..4 {
        let one = Instance::new(&below, "one");
        for n in 0..9 {
            one.write(&format!("{life}-{n}")).await.unwrap();
            written += 1;
            let counted = one.counted().await;
            assert!(counted >= written, "{counted} were counted of {written}");
        }
    }
    let counted = Instance::new(&below, "one").counted().await;
    assert_eq!(counted, 4 * 14, "each life took two blocks");

    let writers: Vec<_> = (0..6)
        .map(|i| {
            let instance = Instance::new(&below, &format!("writer/{i}"));
            tokio::spawn(async move {
                let mut done = 0;
                loop {
                    match instance.write(&format!("w{i}-{done}")).await {
                        Ok(()) => done += 1,
                        outcome => return (instance, done, why(outcome)),
                    }
                }
            })
        })
        .collect();
    let mut done = 0;
    for writer in writers {
        let (instance, wrote, why) = writer.await.unwrap();
        assert!(
            why.starts_with("key aesgcm old (") && why.contains("two nonces of AES-GCM may be the same"),
            "{why}"
        );
        done += wrote;
        // What is refused here is refused again, and everything is still read.
        assert!(instance.write("again").await.is_err());
        assert!(instance.store.get("secrets/a/0-0").await.unwrap().value.is_some());
    }
    assert!(done <= 100 - counted, "{done} more were written, {counted} were counted before");
    assert!(Instance::new(&below, "late").counted().await >= 100);

    // Another key has all its uses; the rotation to it is counted as well.
    let after = Instance::new(&below, "after");
    after.config.send_replace(transformer(&format!("{NEW}, {OLD}")));
    after.write("after").await.unwrap();
    let told = watch::Sender::new(RotationState::Idle);
    rotation(&after.store, &Rotation { resource: None, per_second: 100_000 }, &told).await;
    let RotationState::Done(figures) = told.borrow().clone() else { panic!("{told:?}") };
    assert!(after.counted().await > figures.rewritten);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_is_used_beyond_its_limit_in_the_embedded_store() {
    let (store, _folder) = embedded().await;
    counts(store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_is_used_beyond_its_limit_in_etcd() {
    counts(on_etcd().await).await;
}

#[tokio::test]
async fn a_count_that_does_not_read_is_no_count_of_nothing() {
    let (below, _folder) = embedded().await;
    let one = Instance::new(&below, "one");
    one.write("a").await.unwrap();
    let fingerprint = transformer(OLD).counted("secrets").unwrap().fingerprint.clone();
    let entry = format!("muniment/key-writes/{fingerprint}/one");
    let there = below.get(&entry).await.unwrap().value.unwrap();
    assert_eq!(there.value, r#"{"reserved":7}"#);
    below.update(&entry, "seven".into(), there.modified, None).await.unwrap();
    let again = Instance::new(&below, "one");
    assert_eq!(
        why(again.write("b").await),
        format!(
            "{entry} in the cluster store does not say how often key aesgcm old ({}) was used",
            &fingerprint[..8]
        )
    );
}

async fn create(caller: &Caller, name: &str) -> bool {
    let secret = json!({ "kind": "Secret", "apiVersion": "v1", "metadata": { "name": name } });
    let sent = caller.request(Method::POST, "/api/v1/namespaces/default/secrets").json(&secret).send().await;
    sent.is_ok_and(|response| response.status() == StatusCode::CREATED)
}

/// Through the built binary, killed in the midst of writing.
async fn survives(args: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("enc.yaml");
    let text = format!(
        "apiVersion: v1\nkind: EncryptionConfig\nresources:\n- resources: [secrets]\n  providers: [{{aesgcm: {{keys: [{OLD}]}}}}]\n"
    );
    fs::write(&config, text).unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
    let file = config.display().to_string();
    let mut server = Server::start(&[&["--encryption-provider-config", &file], args].concat()).await;
    let counted = async |caller: &Caller| {
        let inventory = caller.json("/v1/keys").await;
        let count = inventory["resources"][0]["count"].as_u64().unwrap();
        (inventory["writes"][0]["writes"].as_u64().unwrap(), count)
    };
    let mut before = 0;
    for life in 0..3 {
        let caller = server.call();
        eventually("a secret", async || create(&caller, &format!("first-{life}")).await.then_some(())).await;
        let (now, count) = counted(&caller).await;
        assert!(now >= count && now > before, "{now} uses of {count} values, {before} before");
        before = now;
        let writer = {
            let caller = caller.clone();
            tokio::spawn(async move {
                let mut n = 0;
                while create(&caller, &format!("{life}-{n}")).await {
                    n += 1;
                }
            })
        };
        let seen = count;
        eventually("writes", async || (counted(&caller).await.1 > seen + 5).then_some(())).await;
        server.kill();
        writer.await.unwrap();
        server.run().await;
        assert!(counted(&server.call()).await.0 >= before, "a count fell");
    }
    let status = server.output(&["keys", "status"]).await;
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(
        text.contains("What a kube-apiserver writes under these keys beside Muniment is not counted."),
        "{text}"
    );
    let caller = server.call();
    let ready = caller.json("/readyz").await;
    let keys =
        ready["checks"].as_array().unwrap().iter().find(|check| check["name"] == "keys").unwrap().clone();
    assert!(keys["detail"].as_str().unwrap().contains(" of 4294967296 uses are taken"), "{ready}");
    let metrics = caller.get("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("muniment_key_writes{key=\"old\",fingerprint=\""), "{metrics}");
    assert!(server.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_never_lets_a_count_fall_in_the_embedded_store() {
    survives(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_never_lets_a_count_fall_in_etcd() {
    let (servers, prefix) = (etcd(), format!("/{}", unique("uses")));
    survives(&["--etcd-servers", &servers, "--etcd-prefix", &prefix]).await;
}
