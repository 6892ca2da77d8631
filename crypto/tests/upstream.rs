//! The configurations and stored bytes of kube-apiserver, from ../shared, which is not part of the repository.

#![allow(clippy::unwrap_used, reason = "a failed test panics")]

#[path = "../../tests/support/skipped.rs"]
mod skipped;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use crypto::{EncryptionConfig, EncryptionTransformer, KeyBytes, Kms, KmsError, Status, Wrapped};
use serde_json::Value;

fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures").join(path);
    if !path.exists() {
        skipped::skipped("../shared is absent");
        return None;
    }
    Some(path)
}

#[test]
fn every_configuration_of_kube_apiserver_has_the_expected_outcome() {
    let folder = "encryptionconfig/pkg/server/options/encryptionconfig/testdata";
    let Some(folder) = shared(folder) else { return };
    let outcome = |name: &str| {
        EncryptionConfig::from_bytes(&fs::read(folder.join(name)).unwrap(), true)
            .map(|config| config.entries.len())
            .map_err(|error| error.to_string())
    };
    let mut valid = 0;
    for sub in ["valid-configs", "valid-configs/aes", "valid-configs/kms"] {
        for entry in fs::read_dir(folder.join(sub)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yaml" || extension == "json") {
                let name = path.strip_prefix(&folder).unwrap().to_str().unwrap();
                assert_eq!(outcome(name), Ok(1), "{name}");
                valid += 1;
            }
        }
    }
    assert_eq!(valid, 16);
    for (name, expected) in [
        ("invalid-aes-gcm.yaml", "resources[0].providers[0].aesgcm.keys: required: at least one key"),
        ("invalid-typo.yaml", "26:11: unknown field \"pandas\"; did you mean \"cachesize\"?"),
        (
            "kms/invalid-apiversion.yaml",
            "resources[0].providers[0].kms.apiVersion: \"v3\" is not supported, only v1 and v2",
        ),
        (
            "kms/invalid-config-type.yaml",
            "1:7: kind is \"EncryptionConfigurations\", but only \"EncryptionConfiguration\" is supported",
        ),
        ("kms/invalid-content.yaml", "the encryption configuration is empty"),
        ("kms/invalid-gvk.yaml", "1:1: kind is missing; it must be \"EncryptionConfiguration\""),
    ] {
        assert_eq!(outcome(&format!("invalid-configs/{name}")), Err(expected.to_owned()), "{name}");
    }
}

/// A KMS that has one data key to give.
struct Fixed(Vec<u8>, Wrapped);

#[async_trait]
impl Kms for Fixed {
    async fn status(&self) -> Result<Status, KmsError> {
        let key_id = self.1.key_id.clone();
        Ok(Status { version: "v2".to_owned(), healthz: "ok".to_owned(), key_id })
    }
    async fn encrypt(&self, _: &str, _: &KeyBytes) -> Result<Wrapped, KmsError> {
        Ok(self.1.clone())
    }
    async fn decrypt(&self, _: &str, wrapped: &Wrapped) -> Result<KeyBytes, KmsError> {
        assert_eq!(*wrapped, self.1);
        Ok(zeroize::Zeroizing::new(self.0.clone()).into())
    }
}

fn transformer(provider: &str, kms: Option<Fixed>) -> EncryptionTransformer {
    let text = format!(
        "{{apiVersion: v1, kind: EncryptionConfig, resources: [{{resources: [secrets], providers: [{provider}]}}]}}"
    );
    let config = EncryptionConfig::from_bytes(text.as_bytes(), false).unwrap();
    let kms = kms.map(Arc::new);
    EncryptionTransformer::with_kms(config, |_| kms.clone().unwrap()).unwrap()
}

#[tokio::test]
async fn every_recorded_value_is_read() {
    let Some(path) = shared("encryption-vectors/vectors.json") else { return };
    let vectors: Vec<Value> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let mut read = Vec::new();
    for vector in &vectors {
        let text = |field: &str| vector[field].as_str().unwrap_or_default();
        let bytes = |field: &str| hex::decode(text(field)).unwrap();
        let key = |kind: &str| {
            let secret = STANDARD.encode(bytes("key"));
            transformer(&format!("{{{kind}: {{keys: [{{name: key1, secret: '{secret}'}}]}}}}"), None)
        };
        let kind = text("provider").split(' ').next().unwrap();
        let (transformer, stored) = match text("provider") {
            "kms v1 name=foo" => {
                let wrapped = Wrapped { ciphertext: bytes("encryptedDEK"), ..Wrapped::default() };
                let providers = "{identity: {}}, {kms: {name: foo, endpoint: 'unix:///none'}}";
                (transformer(providers, Some(Fixed(bytes("dek"), wrapped))), bytes("stored"))
            }
            "kmsv2 type 1" => (
                seed_transformer(
                    "p",
                    bytes("seed"),
                    Wrapped { ciphertext: vec![1], key_id: "k".into(), ..Wrapped::default() },
                ),
                [&b"k8s:enc:kms:v2:p:"[..], &object(&bytes("encryptedData"), "k", &[1])].concat(),
            ),
            "kms v2 name=foo" => {
                let annotations = vector["annotations"].as_object().unwrap().iter();
                let annotations = annotations
                    .map(|(k, v)| (k.clone(), hex::decode(v.as_str().unwrap()).unwrap()))
                    .collect();
                let wrapped = Wrapped {
                    ciphertext: bytes("encryptedDEKSource"),
                    key_id: text("keyID").to_owned(),
                    annotations,
                };
                (seed_transformer("foo", bytes("seed"), wrapped), bytes("stored"))
            }
            _ if vector["stored"].is_string() => (key(kind), bytes("stored")),
            _ => (
                key(kind),
                [&b"k8s:enc:aesgcm:v1:key1:"[..], &bytes("body_after_prefix_and_keyname")].concat(),
            ),
        };
        let plain = match vector["plaintext"].as_str() {
            Some(plain) => plain.as_bytes().to_vec(),
            None => bytes("plaintext_hex"),
        };
        let at = vector["etcd_key"].as_str().unwrap_or(text("aad"));
        let value = transformer.transform_from_storage("secrets", at, &stored).await.unwrap();
        assert_eq!(*value.bytes, plain, "{}", text("name"));
        read.push(text("provider"));
    }
    assert_eq!(read.len(), 8, "{read:?}");
}

fn seed_transformer(name: &str, seed: Vec<u8>, wrapped: Wrapped) -> EncryptionTransformer {
    let provider = format!("{{kms: {{apiVersion: v2, name: {name}, endpoint: 'unix:///none'}}}}");
    transformer(&provider, Some(Fixed(seed, wrapped)))
}

/// An encrypted object of type 1, written by hand.
fn object(data: &[u8], key_id: &str, wrapped: &[u8]) -> Vec<u8> {
    let mut out = vec![0x0a, u8::try_from(data.len()).unwrap()];
    out.extend(data);
    out.extend([0x12, u8::try_from(key_id.len()).unwrap()]);
    out.extend(key_id.as_bytes());
    out.extend([0x1a, u8::try_from(wrapped.len()).unwrap()]);
    out.extend(wrapped);
    out.extend([0x28, 1]);
    out
}
