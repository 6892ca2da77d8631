//! What must hold for any bytes that are given as an encryption configuration, and for any that lie in a store. Called
//! by the fuzzer and by the test that replays its corpus.

use crypto::{EncryptionConfig, EncryptionTransformer};

/// Reads with every provider; the key of kms is nowhere to be had.
const READER: &[u8] =
    b"{apiVersion: v1, kind: EncryptionConfig, resources: [{resources: [secrets], providers: [
  {aesgcm: {keys: [{name: key1, secret: c2VjcmV0IGlzIHNlY3VyZQ==}]}},
  {aescbc: {keys: [{name: key1, secret: c2VjcmV0IGlzIHNlY3VyZQ==}]}},
  {secretbox: {keys: [{name: key1, secret: YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY=}]}},
  {kms: {apiVersion: v2, name: foo, endpoint: 'unix:///none'}}, {identity: {}}]}]}";

/// Bytes are refused with a reason or give a configuration that encrypts what it reads again; as a stored value they
/// are refused, or are what they were, or were written by CBC, which cannot tell.
pub(crate) fn run(bytes: &[u8]) {
    if let Ok(transformer) = EncryptionConfig::from_bytes(bytes, true).map(EncryptionTransformer::from_config)
        && let Ok(transformer) = transformer
        && let Ok(stored) = transformer.encrypt_for_resource("secrets", bytes)
        && (stored != bytes || !bytes.starts_with(b"k8s:enc:"))
    {
        let read = transformer.decrypt_for_resource("secrets", &stored);
        assert!(read.is_ok_and(|plain| *plain.bytes == *bytes && !plain.stale));
    }
    let reader = EncryptionConfig::from_bytes(READER, true).map(EncryptionTransformer::from_config);
    if let Ok(Ok(reader)) = reader
        && let Ok(plain) = reader.decrypt_for_resource("secrets", bytes)
    {
        assert!(*plain.bytes == *bytes || bytes.starts_with(b"k8s:enc:aescbc:"));
    }
}
