//! The plugin that serves a key file, called through its socket by the client that an API server would be.

#![allow(clippy::unwrap_used, reason = "a failed test panics")]

use std::{os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use crypto::{EncryptionConfig, EncryptionTransformer, KeyFile, Kms, KmsError, Plugin, Wrapped, serve};
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};

const KEY1: &str = "{name: k1, secret: YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY=}";
const KEY2: &str = "{name: k2, secret: MDAwMTAyMDMwNDA1MDYwNzA4MDkwYTBiMGMwZDBlMGY=}";
const AT: &str = "/registry/secrets/default/a";

fn key_file(keys: &[&str]) -> Arc<KeyFile> {
    let text = format!("{{apiVersion: muniment.io/v1, kind: KeyFile, keys: [{}]}}", keys.join(", "));
    Arc::new(KeyFile::from_bytes(text.as_bytes()).unwrap())
}

struct Serving(oneshot::Sender<()>, JoinHandle<std::io::Result<()>>);

async fn serving(socket: &Path, keys: &[&str]) -> Serving {
    let (stop, stopped) = oneshot::channel();
    let (socket, kms) = (socket.to_owned(), key_file(keys));
    let path = socket.clone();
    let task = tokio::spawn(async move { serve(kms, &path, async { _ = stopped.await }).await });
    let up = async {
        while !socket.exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(10), up).await.unwrap();
    Serving(stop, task)
}

impl Serving {
    async fn stop(self) {
        self.0.send(()).unwrap();
        timeout(Duration::from_secs(10), self.1).await.unwrap().unwrap().unwrap();
    }
}

fn transformer(socket: &Path) -> EncryptionTransformer {
    let text = format!(
        "{{apiVersion: v1, kind: EncryptionConfig, resources: [{{resources: [secrets], providers: [
        {{kms: {{apiVersion: v2, name: p, endpoint: 'unix://{}'}}}}]}}]}}",
        socket.display()
    );
    EncryptionTransformer::from_config(EncryptionConfig::from_bytes(text.as_bytes(), false).unwrap()).unwrap()
}

#[tokio::test]
async fn values_survive_a_restart_of_the_plugin_and_a_change_of_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("kms.sock");
    let plugin = serving(&socket, &[KEY1]).await;
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let writer = transformer(&socket);
    writer.kms()[0].probe().await.unwrap();
    let stored = writer.transform_to_storage("secrets", AT, b"value").unwrap();
    plugin.stop().await;
    assert!(!socket.exists());
    assert!(writer.kms()[0].probe().await.is_err());

    let plugin = serving(&socket, &[KEY2, KEY1]).await;
    let reader = transformer(&socket);
    reader.kms()[0].probe().await.unwrap();
    let plain = reader.transform_from_storage("secrets", AT, &stored).await.unwrap();
    assert_eq!((&plain.bytes[..], plain.stale), (&b"value"[..], true));
    writer.kms()[0].probe().await.unwrap();
    let new = writer.transform_to_storage("secrets", AT, b"value").unwrap();
    assert!(!reader.transform_from_storage("secrets", AT, &new).await.unwrap().stale);
    plugin.stop().await;

    let plugin = serving(&socket, &[KEY2]).await;
    let error = transformer(&socket).transform_from_storage("secrets", AT, &stored).await.unwrap_err();
    assert!(error.to_string().contains("no key \"k1/"), "{error}");
    plugin.stop().await;
}

#[tokio::test]
async fn what_the_plugin_wrapped_is_refused_when_it_was_changed() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("kms.sock");
    let plugin = serving(&socket, &[KEY1, KEY2]).await;
    let client = Plugin::new(socket.to_str().unwrap());
    let wrapped = client.encrypt("uid", &crypto::KeyBytes::random(32).unwrap()).await.unwrap();
    client.decrypt("uid", &wrapped).await.unwrap();
    let other_id = KeyFile::status(&key_file(&[KEY2])).await.unwrap().key_id;
    let mut flipped = wrapped.clone();
    flipped.ciphertext[20] ^= 1;
    let mut annotated = wrapped.clone();
    annotated.annotations.insert("a.b".to_owned(), vec![]);
    for changed in [
        flipped,
        annotated,
        Wrapped { key_id: other_id, ..wrapped.clone() },
        Wrapped { key_id: "other".to_owned(), ..wrapped },
    ] {
        assert!(matches!(client.decrypt("uid", &changed).await, Err(KmsError::Refused(_))), "{changed:?}");
    }
    plugin.stop().await;
}

#[tokio::test]
async fn a_socket_that_is_served_is_not_taken_and_one_left_behind_is() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("kms.sock");
    let plugin = serving(&socket, &[KEY1]).await;
    let second = serve(key_file(&[KEY1]), &socket, async {}).await.unwrap_err();
    assert_eq!(second.kind(), std::io::ErrorKind::AddrInUse);
    plugin.stop().await;
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    serve(key_file(&[KEY1]), &socket, async {}).await.unwrap();
    std::fs::write(&socket, "a file").unwrap();
    assert!(serve(key_file(&[KEY1]), &socket, async {}).await.is_err());
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "a file");
}
