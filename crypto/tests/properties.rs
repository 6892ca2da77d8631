//! What must hold for any value: it comes back, and what was changed does not.

#![allow(clippy::unwrap_used, reason = "a failed test panics")]

use crypto::{EncryptionConfig, EncryptionTransformer};
use proptest::prelude::*;

const AT: &str = "/registry/secrets/default/a";
const KEYS: [&str; 3] = [
    "{name: key1, secret: YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY=}",
    "{name: key2, secret: MDAwMTAyMDMwNDA1MDYwNzA4MDkwYTBiMGMwZDBlMGY=}",
    "{name: 'a:b', secret: MTAwMTAyMDMwNDA1MDYwNzA4MDkwYTBiMGMwZDBlMGY=}",
];

fn keys(kind: &str, keys: &[&str]) -> String {
    format!("{{{kind}: {{keys: [{}]}}}}", keys.join(", "))
}

fn transformer(providers: &[String]) -> EncryptionTransformer {
    let text = format!(
        "{{apiVersion: v1, kind: EncryptionConfig, resources: [{{resources: [secrets], providers: [{}]}}]}}",
        providers.join(", ")
    );
    EncryptionTransformer::from_config(EncryptionConfig::from_bytes(text.as_bytes(), false).unwrap()).unwrap()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn kind() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["aesgcm", "aescbc", "secretbox"])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_value_comes_back(kind in kind(), value in prop::collection::vec(any::<u8>(), 0..200)) {
        let transformer = transformer(&[keys(kind, &KEYS)]);
        let stored = transformer.transform_to_storage("secrets", AT, &value).unwrap();
        prop_assert!(stored.starts_with(format!("k8s:enc:{kind}:v1:key1:").as_bytes()), "the label is true");
        let plain = run(transformer.transform_from_storage("secrets", AT, &stored)).unwrap();
        prop_assert_eq!((&*plain.bytes, plain.stale), (&value, false));
        let again = transformer.transform_to_storage("secrets", AT, &value).unwrap();
        prop_assert_ne!(stored, again, "each write has a nonce of its own");
    }

    #[test]
    fn what_another_key_or_provider_wrote_is_read_and_stale(
        wrote in kind(), key in 0..3usize, first in kind(), value in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let stored = transformer(&[keys(wrote, &[KEYS[key]])])
            .transform_to_storage("secrets", AT, &value).unwrap();
        let all = ["aesgcm", "aescbc", "secretbox"].map(|kind| keys(kind, &KEYS));
        let reader = transformer(&[&[keys(first, &[KEYS[0]])], &all[..]].concat());
        let plain = run(reader.transform_from_storage("secrets", AT, &stored)).unwrap();
        prop_assert_eq!((&*plain.bytes, plain.stale), (&value, first != wrote || key != 0));
    }

    #[test]
    fn any_bytes_are_refused_or_taken_as_they_are(stored in prop::collection::vec(any::<u8>(), 0..100)) {
        let all = ["aesgcm", "aescbc", "secretbox"].map(|kind| keys(kind, &KEYS));
        let reader = transformer(&[&all[..], &["{identity: {}}".to_owned()]].concat());
        let plain = reader.decrypt_for_resource("secrets", &stored).unwrap();
        prop_assert_eq!((&*plain.bytes, plain.stale), (&stored, true));
        for kind in ["aesgcm", "aescbc", "secretbox", "kms", ""] {
            let stored = [format!("k8s:enc:{kind}:v1:key1:").as_bytes(), &stored].concat();
            if kind != "aescbc" {
                prop_assert!(reader.decrypt_for_resource("secrets", &stored).is_err());
            }
        }
    }
}

#[test]
fn every_changed_bit_and_every_truncation_is_refused_by_authenticated_providers() {
    for kind in ["aesgcm", "secretbox"] {
        let transformer = transformer(&[keys(kind, &KEYS), "{identity: {}}".to_owned()]);
        let stored = transformer.transform_to_storage("secrets", AT, b"a secret value").unwrap();
        let prefix = "k8s:enc:".len();
        for bit in prefix * 8..stored.len() * 8 {
            let mut changed = stored.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(
                run(transformer.transform_from_storage("secrets", AT, &changed)).is_err(),
                "{kind}: bit {bit}"
            );
        }
        for len in prefix..stored.len() {
            assert!(
                run(transformer.transform_from_storage("secrets", AT, &stored[..len])).is_err(),
                "{kind}: {len} bytes"
            );
        }
    }
}

#[test]
fn truncated_cbc_is_refused_or_not_the_value() {
    let transformer = transformer(&[keys("aescbc", &KEYS)]);
    let stored = transformer.transform_to_storage("secrets", AT, &[7; 40]).unwrap();
    for len in 0..stored.len() {
        if let Ok(plain) = transformer.decrypt_for_resource("secrets", &stored[..len]) {
            assert_ne!(*plain.bytes, [7; 40], "{len} bytes");
        }
    }
}

#[test]
fn a_value_moved_to_another_etcd_key_is_refused_where_the_provider_binds_it() {
    for (kind, bound) in [("aesgcm", true), ("aescbc", false), ("secretbox", false)] {
        let transformer = transformer(&[keys(kind, &KEYS)]);
        let stored = transformer.transform_to_storage("secrets", AT, b"v").unwrap();
        let moved =
            run(transformer.transform_from_storage("secrets", "/registry/secrets/default/b", &stored));
        assert_eq!(moved.is_err(), bound, "{kind}, as kube-apiserver");
    }
}

#[test]
fn the_narrowest_rule_decides_and_what_no_rule_names_is_clear() {
    let entry = |rule: &str, key: &str| {
        format!("{{resources: ['{rule}'], providers: [{{secretbox: {{keys: [{key}]}}}}]}}")
    };
    let text = |last: &str| {
        format!(
            "{{apiVersion: v1, kind: EncryptionConfig, resources: [{}, {}{last}]}}",
            entry("deployments.apps", KEYS[0]),
            entry("*.apps", KEYS[1]),
        )
    };
    let made = |text: String| {
        let config = EncryptionConfig::from_bytes(text.as_bytes(), false).unwrap();
        EncryptionTransformer::from_config(config).unwrap()
    };
    let all = made(text(&format!(", {}", entry("*.*", KEYS[2]))));
    let begins = |t: &EncryptionTransformer, resource: &str, prefix: &str| {
        t.encrypt_for_resource(resource, b"v").unwrap().starts_with(prefix.as_bytes())
    };
    assert!(begins(&all, "deployments.apps", "k8s:enc:secretbox:v1:key1:"));
    assert!(begins(&all, "daemonsets.apps", "k8s:enc:secretbox:v1:key2:"));
    assert!(begins(&all, "secrets", "k8s:enc:secretbox:v1:a:b:"));
    let some = made(text(""));
    assert_eq!(some.encrypt_for_resource("secrets", b"v").unwrap(), b"v");
    let encrypted = all.encrypt_for_resource("secrets", b"v").unwrap();
    assert_eq!(
        some.decrypt_for_resource("secrets", &encrypted).unwrap_err().to_string(),
        "no matching prefix found",
        "what is encrypted is never given out as if it were clear"
    );
}

#[test]
fn identity_first_reads_what_a_later_provider_wrote() {
    let old = transformer(&[keys("aesgcm", &KEYS)]).encrypt_for_resource("secrets", b"v").unwrap();
    let leaving = transformer(&["{identity: {}}".to_owned(), keys("aesgcm", &KEYS)]);
    let plain = leaving.decrypt_for_resource("secrets", &old).unwrap();
    assert_eq!((&plain.bytes[..], plain.stale), (&b"v"[..], true));
    assert_eq!(leaving.encrypt_for_resource("secrets", b"v").unwrap(), b"v");
}

#[test]
fn the_first_kms_protocol_does_not_write() {
    let from = |entries: &str| {
        let text = format!("{{apiVersion: v1, kind: EncryptionConfig, resources: [{entries}]}}");
        let config = EncryptionConfig::from_bytes(text.as_bytes(), false).unwrap();
        EncryptionTransformer::from_config(config).map(|_| ()).map_err(|error| error.to_string())
    };
    let kms = "{resources: [a], providers: [{kms: {name: p, endpoint: 'unix:///p'}}]}";
    let refused = "resources[0].providers[0].kms.apiVersion: v1 of KMS plugin \"p\" only reads; \
                   give another provider the first place, or use v2";
    assert_eq!(from(kms), Err(refused.to_owned()));
    // The providers of a resource that several entries name stand one after the other.
    assert_eq!(from(&format!("{{resources: [a], providers: [{{identity: {{}}}}]}}, {kms}")), Ok(()));
}
