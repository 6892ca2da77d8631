//! A KMS plugin that does what plugins should not, through its socket: what it was asked for is refused in time, what
//! was in force stays in force, and it is taken back once it is well.

#![allow(clippy::unwrap_used, reason = "a failed test panics")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use crypto::{
    EncryptionConfig, EncryptionTransformer, KeyBytes, KeyFile, Kms, KmsError, ProbeError, Status, Wrapped,
    serve,
};
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};

const KEYS: [&str; 2] = [
    "{name: k1, secret: YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY=}",
    "{name: k2, secret: MDAwMTAyMDMwNDA1MDYwNzA4MDkwYTBiMGMwZDBlMGY=}",
];
const AT: &str = "/registry/secrets/default/a";
const PATIENCE: Duration = Duration::from_secs(30);

/// What the plugin does next.
#[derive(Clone, Debug, Default)]
struct Script {
    /// Which key wraps.
    key: usize,
    /// It thinks for a minute before each answer.
    slow: bool,
    healthz: Option<&'static str>,
    version: Option<&'static str>,
    /// The key id that its status tells.
    told: Option<String>,
    /// The key id that it gives back with what it wraps.
    wrapped: Option<&'static str>,
    /// The size of what it gives back.
    bytes: Option<usize>,
    annotation: Option<&'static str>,
    /// It unwraps to a key of another size.
    short: bool,
    refuses: bool,
}

struct Faulty(Arc<Mutex<Script>>);

impl Faulty {
    async fn script(&self) -> Result<(Script, KeyFile), KmsError> {
        let script = self.0.lock().unwrap().clone();
        if script.slow {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        if script.refuses {
            return Err(KmsError::Refused("the disk is full".to_owned()));
        }
        let keys = [KEYS[script.key], KEYS[1 - script.key]].join(", ");
        let text = format!("{{apiVersion: muniment.io/v1, kind: KeyFile, keys: [{keys}]}}");
        Ok((script, KeyFile::from_bytes(text.as_bytes()).unwrap()))
    }
}

#[async_trait]
impl Kms for Faulty {
    async fn status(&self) -> Result<Status, KmsError> {
        let (script, keys) = self.script().await?;
        let Status { version, healthz, key_id } = keys.status().await?;
        Ok(Status {
            version: script.version.map_or(version, str::to_owned),
            healthz: script.healthz.map_or(healthz, str::to_owned),
            key_id: script.told.unwrap_or(key_id),
        })
    }

    async fn encrypt(&self, uid: &str, key: &KeyBytes) -> Result<Wrapped, KmsError> {
        let (script, keys) = self.script().await?;
        let mut wrapped = keys.encrypt(uid, key).await?;
        if let Some(id) = script.wrapped {
            id.clone_into(&mut wrapped.key_id);
        }
        if let Some(bytes) = script.bytes {
            wrapped.ciphertext = vec![7; bytes];
        }
        if let Some(name) = script.annotation {
            wrapped.annotations = BTreeMap::from([(name.to_owned(), vec![1])]);
        }
        Ok(wrapped)
    }

    async fn decrypt(&self, uid: &str, wrapped: &Wrapped) -> Result<KeyBytes, KmsError> {
        let (script, keys) = self.script().await?;
        if script.short {
            KeyBytes::random(5).map_err(|e| KmsError::Refused(e.to_string()))
        } else {
            keys.decrypt(uid, wrapped).await
        }
    }
}

struct Plugin {
    script: Arc<Mutex<Script>>,
    socket: PathBuf,
    serving: Option<(oneshot::Sender<()>, JoinHandle<std::io::Result<()>>)>,
}

impl Plugin {
    async fn start(folder: &Path) -> Self {
        let mut plugin = Self { script: Arc::default(), socket: folder.join("kms.sock"), serving: None };
        plugin.restart().await;
        plugin
    }

    async fn restart(&mut self) {
        let (stop, stopped) = oneshot::channel();
        let (kms, socket) = (Arc::new(Faulty(self.script.clone())), self.socket.clone());
        let task = tokio::spawn(async move { serve(kms, &socket, async { _ = stopped.await }).await });
        let up = async {
            while !self.socket.exists() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, up).await.unwrap();
        self.serving = Some((stop, task));
    }

    async fn stop(&mut self) {
        let (stop, task) = self.serving.take().unwrap();
        stop.send(()).unwrap();
        timeout(PATIENCE, task).await.unwrap().unwrap().unwrap();
    }

    fn set(&self, script: Script) {
        *self.script.lock().unwrap() = script;
    }

    fn transformer(&self) -> EncryptionTransformer {
        let text = format!(
            "{{apiVersion: v1, kind: EncryptionConfig, resources: [{{resources: [secrets], providers: [
            {{kms: {{apiVersion: v2, name: p, endpoint: 'unix://{}', timeout: 1s}}}}]}}]}}",
            self.socket.display()
        );
        let config = EncryptionConfig::from_bytes(text.as_bytes(), false).unwrap();
        EncryptionTransformer::from_config(config).unwrap()
    }
}

async fn probe(transformer: &EncryptionTransformer) -> Result<(), ProbeError> {
    timeout(PATIENCE, transformer.kms()[0].probe()).await.expect("every call has a bound")
}

fn seal(transformer: &EncryptionTransformer) -> Vec<u8> {
    transformer.transform_to_storage("secrets", AT, b"value").unwrap()
}

async fn is_stale(transformer: &EncryptionTransformer, stored: &[u8]) -> bool {
    let plain = transformer.transform_from_storage("secrets", AT, stored).await.unwrap();
    assert_eq!(*plain.bytes, *b"value");
    plain.stale
}

/// Each fault, at the start and later: nothing is written before the first good answer; later the seed before goes on.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_plugin_does_wrong_leaves_what_was_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = Plugin::start(folder.path()).await;
    let of_another_key = || Script { key: 1, ..Script::default() };
    let faults = [
        ("slow", Script { slow: true, ..of_another_key() }),
        ("refuses", Script { refuses: true, ..of_another_key() }),
        ("unhealthy", Script { healthz: Some("the disk is full"), ..of_another_key() }),
        ("silent of its health", Script { healthz: Some(""), ..of_another_key() }),
        ("of the first version", Script { version: Some("v1beta1"), ..of_another_key() }),
        ("without a key id", Script { told: Some(String::new()), ..of_another_key() }),
        ("of a long key id", Script { told: Some("x".repeat(1025)), ..of_another_key() }),
        ("of two key ids", Script { wrapped: Some("another"), ..of_another_key() }),
        ("without a wrapped key", Script { bytes: Some(0), ..of_another_key() }),
        ("of a long wrapped key", Script { bytes: Some(1025), ..of_another_key() }),
        ("of a wrong annotation", Script { annotation: Some("no domain"), ..of_another_key() }),
    ];
    plugin.set(Script::default());
    let running = plugin.transformer();
    probe(&running).await.unwrap();
    let stored = seal(&running);
    for (what, script) in faults {
        plugin.set(script);
        let fresh = plugin.transformer();
        let began = Instant::now();
        let error = probe(&fresh).await.expect_err(what);
        assert!(began.elapsed() < PATIENCE, "{what}: {error}");
        assert!(
            fresh.transform_to_storage("secrets", AT, b"value").is_err(),
            "{what}: nothing may be written"
        );
        probe(&running).await.expect_err(what);
        assert!(!is_stale(&running, &seal(&running)).await, "{what}");
        assert!(!is_stale(&running, &stored).await, "{what}: there is nothing better to write");
    }

    // The key that it told of all the while is taken once everything else is well.
    plugin.set(of_another_key());
    probe(&running).await.unwrap();
    assert!(is_stale(&running, &stored).await);
    assert!(!is_stale(&running, &seal(&running)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_is_restarted_is_found_again_and_one_of_another_version_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut plugin = Plugin::start(folder.path()).await;
    let writer = plugin.transformer();
    probe(&writer).await.unwrap();
    let stored = seal(&writer);
    for script in [Script::default(), Script { key: 1, ..Script::default() }] {
        plugin.stop().await;
        assert!(matches!(probe(&writer).await, Err(ProbeError::Status { .. })));
        seal(&writer);
        let reader = plugin.transformer();
        let error = reader.transform_from_storage("secrets", AT, &stored).await.unwrap_err();
        assert!(error.to_string().contains("could not be fetched"), "{error}");
        let is_changed = script.key == 1;
        plugin.set(script);
        plugin.restart().await;
        probe(&writer).await.unwrap();
        assert_eq!(is_stale(&writer, &stored).await, is_changed);
        assert!(
            !is_stale(&reader, &stored).await,
            "who was never told of a key to write under has nothing better"
        );
    }
    plugin.stop().await;
    plugin.set(Script { version: Some("v2beta1"), ..Script::default() });
    plugin.restart().await;
    assert!(matches!(probe(&writer).await, Err(ProbeError::Version { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_key_that_is_none_opens_nothing_and_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = Plugin::start(folder.path()).await;
    let writer = plugin.transformer();
    probe(&writer).await.unwrap();
    let stored = seal(&writer);
    let reader = plugin.transformer();
    for script in [
        Script { short: true, ..Script::default() },
        Script { refuses: true, ..Script::default() },
        Script { slow: true, ..Script::default() },
    ] {
        plugin.set(script.clone());
        let read = timeout(PATIENCE, reader.transform_from_storage("secrets", AT, &stored)).await;
        assert!(read.expect("every call has a bound").is_err(), "{script:?}");
    }
    plugin.set(Script::default());
    assert!(!is_stale(&reader, &stored).await);
}
