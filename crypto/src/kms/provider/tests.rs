use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;

use super::*;
use crate::{EncryptionConfig, EncryptionTransformer, kms::key_file::KeyFile};

const CONFIG: &str =
    "{apiVersion: v1, kind: EncryptionConfig, resources: [{resources: [secrets], providers: [
  {kms: {apiVersion: v2, name: p, endpoint: 'unix:///p.sock', timeout: 200ms}}, {identity: {}}]}]}";
const AT: &str = "/registry/secrets/default/a";

/// A KMS that does as it is told.
#[derive(Default)]
struct Scripted {
    passed: Mutex<Duration>,
    key: Mutex<u8>,
    down: Mutex<bool>,
    slow: Mutex<bool>,
    healthz: Mutex<Option<&'static str>>,
    version: Mutex<Option<&'static str>>,
    claimed: Mutex<Option<&'static str>>,
    wraps: AtomicUsize,
    unwraps: AtomicUsize,
}

fn key_file(first: u8) -> KeyFile {
    let secret = |key: u8| KeyBytes::from(zeroize::Zeroizing::new(vec![key; 32])).to_base64();
    // Every key is in the file; the one in force stands first.
    let keys: Vec<_> = (0..4)
        .map(|i| (first + i) % 4)
        .map(|key| format!("{{name: k{key}, secret: '{}'}}", *secret(key)))
        .collect();
    let text = format!("{{apiVersion: muniment.io/v1, kind: KeyFile, keys: [{}]}}", keys.join(", "));
    KeyFile::from_bytes(text.as_bytes()).unwrap()
}

impl Scripted {
    fn pass(&self, seconds: u64) {
        *self.passed.lock().unwrap() += Duration::from_secs(seconds);
    }

    async fn available(&self) -> Result<KeyFile, KmsError> {
        if *self.slow.lock().unwrap() {
            sleep(Duration::from_secs(60)).await;
        }
        if *self.down.lock().unwrap() {
            return Err(KmsError::Unreachable("down".to_owned()));
        }
        Ok(key_file(*self.key.lock().unwrap()))
    }
}

#[async_trait]
impl Kms for Scripted {
    async fn status(&self) -> Result<Status, KmsError> {
        let mut status = self.available().await?.status().await?;
        if let Some(healthz) = *self.healthz.lock().unwrap() {
            status.healthz = healthz.to_owned();
        }
        if let Some(version) = *self.version.lock().unwrap() {
            status.version = version.to_owned();
        }
        if let Some(claimed) = *self.claimed.lock().unwrap() {
            status.key_id = claimed.to_owned();
        }
        Ok(status)
    }

    async fn encrypt(&self, uid: &str, key: &KeyBytes) -> Result<Wrapped, KmsError> {
        self.wraps.fetch_add(1, Ordering::Relaxed);
        self.available().await?.encrypt(uid, key).await
    }

    async fn decrypt(&self, uid: &str, wrapped: &Wrapped) -> Result<KeyBytes, KmsError> {
        self.unwraps.fetch_add(1, Ordering::Relaxed);
        self.available().await?.decrypt(uid, wrapped).await
    }
}

fn made() -> (Arc<Scripted>, EncryptionTransformer) {
    let kms = Arc::new(Scripted::default());
    let transformer = over(&kms);
    (kms, transformer)
}

/// Its clock is the script's.
fn over(kms: &Arc<Scripted>) -> EncryptionTransformer {
    let config = EncryptionConfig::from_bytes(CONFIG.as_bytes(), false).unwrap();
    let (began, passed) = (Instant::now(), kms.clone());
    let now: Monotonic = Arc::new(move || began + *passed.passed.lock().unwrap());
    EncryptionTransformer::build(config, |_| kms.clone(), &now).unwrap()
}

fn write_error(transformer: &EncryptionTransformer) -> WriteError {
    match transformer.transform_to_storage("secrets", AT, b"v") {
        Err(EncryptError::Kms { source, .. }) => source,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn nothing_is_written_before_the_plugin_gave_a_key() {
    let (_, transformer) = made();
    assert_eq!(write_error(&transformer), WriteError::NoKey);
    transformer.kms()[0].probe().await.unwrap();
    let stored = transformer.transform_to_storage("secrets", AT, b"v").unwrap();
    assert!(stored.starts_with(b"k8s:enc:kms:v2:p:"));
}

#[tokio::test]
async fn one_seed_serves_many_values_until_the_key_changes() {
    let (kms, transformer) = made();
    let provider = &transformer.kms()[0];
    provider.probe().await.unwrap();
    let stored = transformer.transform_to_storage("secrets", AT, b"v").unwrap();
    assert_ne!(stored, transformer.transform_to_storage("secrets", AT, b"v").unwrap());
    provider.probe().await.unwrap();
    assert_eq!(kms.wraps.load(Ordering::Relaxed), 1);
    assert!(!transformer.transform_from_storage("secrets", AT, &stored).await.unwrap().stale);
    assert_eq!(kms.unwraps.load(Ordering::Relaxed), 0, "the own seed is known");
    *kms.key.lock().unwrap() = 1;
    provider.probe().await.unwrap();
    assert_eq!(kms.wraps.load(Ordering::Relaxed), 2);
    assert!(transformer.transform_from_storage("secrets", AT, &stored).await.unwrap().stale);
    let rewritten = transformer.transform_to_storage("secrets", AT, b"v").unwrap();
    assert!(!transformer.transform_from_storage("secrets", AT, &rewritten).await.unwrap().stale);
}

#[tokio::test]
async fn a_seed_is_replaced_after_a_day_and_after_many_values() {
    let (kms, transformer) = made();
    let provider = &transformer.kms()[0];
    provider.probe().await.unwrap();
    let stored = transformer.transform_to_storage("secrets", AT, b"v").unwrap();
    kms.pass(24 * 3600 - 1);
    provider.probe().await.unwrap();
    assert_eq!(kms.wraps.load(Ordering::Relaxed), 1);
    kms.pass(1);
    provider.probe().await.unwrap();
    assert_eq!(kms.wraps.load(Ordering::Relaxed), 2);
    assert!(
        !transformer.transform_from_storage("secrets", AT, &stored).await.unwrap().stale,
        "of the same key"
    );

    provider.writing().unwrap().uses.store(SEED_USES, Ordering::Relaxed);
    provider.probe().await.unwrap();
    assert_eq!(kms.wraps.load(Ordering::Relaxed), 3);
    // A plugin that wraps nothing new leaves the seed in force for its three minutes.
    provider.writing().unwrap().uses.store(SEED_USES, Ordering::Relaxed);
    *kms.claimed.lock().unwrap() = Some("another");
    provider.probe().await.unwrap_err();
    transformer.transform_to_storage("secrets", AT, b"v").unwrap();
}

#[tokio::test]
async fn another_instance_fetches_a_data_key_once() {
    let (kms, writer) = made();
    writer.kms()[0].probe().await.unwrap();
    let stored = writer.transform_to_storage("secrets", AT, b"v").unwrap();
    let reader = over(&kms);
    assert_eq!(
        reader.decrypt_for_resource("secrets", &stored).unwrap_err().to_string(),
        "kms p: the data key must be fetched from the KMS first"
    );
    let read = || reader.transform_from_storage("secrets", AT, &stored);
    let (a, b, c) = tokio::join!(read(), read(), read());
    assert_eq!((a.unwrap().bytes.as_slice(), b.is_ok(), c.is_ok()), (&b"v"[..], true, true));
    assert_eq!(kms.unwraps.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_unreachable_plugin_stops_writes_after_three_minutes_and_reads_go_on() {
    let (kms, transformer) = made();
    let provider = &transformer.kms()[0];
    provider.probe().await.unwrap();
    let stored = transformer.transform_to_storage("secrets", AT, b"v").unwrap();
    *kms.down.lock().unwrap() = true;
    kms.pass(179);
    assert!(matches!(provider.probe().await, Err(ProbeError::Status { .. })));
    transformer.transform_to_storage("secrets", AT, b"v").unwrap();
    kms.pass(2);
    assert_eq!(write_error(&transformer), WriteError::Expired);
    assert!(!transformer.transform_from_storage("secrets", AT, &stored).await.unwrap().stale);
    *kms.down.lock().unwrap() = false;
    provider.probe().await.unwrap();
    transformer.transform_to_storage("secrets", AT, b"v").unwrap();
    assert_eq!(kms.wraps.load(Ordering::Relaxed), 1, "the seed before is good again");
}

#[tokio::test]
async fn a_plugin_that_is_unhealthy_or_of_another_version_does_not_lengthen_the_time() {
    for (healthz, version) in [(Some("disk full"), None), (None, Some("v2beta1")), (None, Some("v3"))] {
        let (kms, transformer) = made();
        let provider = &transformer.kms()[0];
        provider.probe().await.unwrap();
        *kms.healthz.lock().unwrap() = healthz;
        *kms.version.lock().unwrap() = version;
        kms.pass(100);
        provider.probe().await.unwrap_err();
        kms.pass(100);
        assert_eq!(write_error(&transformer), WriteError::Expired);
    }
}

#[tokio::test]
async fn a_key_id_that_is_not_the_wrapping_key_is_refused_and_the_old_key_stays() {
    let (kms, transformer) = made();
    let provider = &transformer.kms()[0];
    provider.probe().await.unwrap();
    *kms.claimed.lock().unwrap() = Some("another");
    assert!(matches!(provider.probe().await, Err(ProbeError::KeyId { .. })));
    *kms.claimed.lock().unwrap() = Some("");
    assert!(matches!(provider.probe().await, Err(ProbeError::Protocol { .. })));
    transformer.transform_to_storage("secrets", AT, b"v").unwrap();
}

#[tokio::test]
async fn a_slow_plugin_is_given_up_after_its_timeout() {
    let (kms, transformer) = made();
    *kms.slow.lock().unwrap() = true;
    let error = timeout(Duration::from_secs(30), transformer.kms()[0].probe()).await.unwrap().unwrap_err();
    assert!(matches!(error, ProbeError::Status { source: KmsError::TimedOut(_), .. }), "{error}");
}

#[tokio::test]
async fn a_watched_plugin_is_probed_at_once() {
    let (_, transformer) = made();
    let mut seen = 0;
    let watch = transformer.kms()[0].watch(|_, outcome| {
        outcome.unwrap();
        seen += 1;
    });
    assert!(timeout(Duration::from_millis(100), watch).await.is_err(), "it never ends");
    assert_eq!(seen, 1);
    transformer.transform_to_storage("secrets", AT, b"v").unwrap();
}

#[tokio::test]
async fn a_value_under_another_etcd_key_or_of_a_lost_key_is_refused_with_the_reason() {
    let (_, transformer) = made();
    transformer.kms()[0].probe().await.unwrap();
    let stored = transformer.transform_to_storage("secrets", AT, b"v").unwrap();
    let error = transformer.transform_from_storage("secrets", "/registry/secrets/default/b", &stored).await;
    assert_eq!(error.unwrap_err().to_string(), "kms p: the value is not authentic");
}
