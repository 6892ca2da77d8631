//! The laws of the store above encryption, and what it keeps from the one below.

use std::sync::Arc;

use bytes::Bytes;
use crypto::{EncryptionConfig, EncryptionTransformer};
use ingest::time::Clock;
use tokio::sync::watch;

use super::*;
use crate::gateway::store::{List, Revision, SqliteStore, Store, StoreError, WatchError, WriteError, laws};

const EVERYTHING: &str =
    "{apiVersion: v1, kind: EncryptionConfig, resources: [{resources: ['*.*'], providers: [
    {aesgcm: {keys: [{name: key1, secret: c2VjcmV0IGlzIHNlY3VyZQ==}]}}]}]}";

fn transformer(config: &str) -> Arc<EncryptionTransformer> {
    let config = EncryptionConfig::from_bytes(config.as_bytes(), false).unwrap();
    Arc::new(EncryptionTransformer::from_config(config).unwrap())
}

/// A configuration of secrets with these keys of AES-GCM, the first one writing.
fn keys(names: &[&str]) -> Arc<EncryptionTransformer> {
    // 16 bytes in base64.
    let key = |name: &&str| format!("{{name: {name}, secret: '{}A=='}}", &name.repeat(21)[..21]);
    let keys: Vec<_> = names.iter().map(key).collect();
    transformer(&format!(
        "{{apiVersion: v1, kind: EncryptionConfig, resources: [{{resources: [secrets], providers: [
         {{aesgcm: {{keys: [{}]}}}}, {{identity: {{}}}}]}}]}}",
        keys.join(", ")
    ))
}

impl EncryptedStore {
    async fn count_one(&self, resource: &str) {
        self.writes().take(self.transformer().counted(resource).unwrap()).await.unwrap();
    }
}

struct Fixture {
    below: Arc<SqliteStore>,
    store: EncryptedStore,
    config: watch::Sender<Arc<EncryptionTransformer>>,
    _folder: tempfile::TempDir,
}

async fn with(config: Arc<EncryptionTransformer>) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cluster.sqlite");
    let below = Arc::new(SqliteStore::open(&file, Clock::system()).await.unwrap());
    let config = watch::Sender::new(config);
    let writes = KeyWrites::new(below.clone(), "a", WriteBounds::default());
    let store = EncryptedStore::new(below.clone(), config.subscribe(), writes);
    Fixture { below, store, config, _folder: folder }
}

async fn fresh() -> (EncryptedStore, Fixture) {
    let fixture = with(transformer(EVERYTHING)).await;
    // The laws look at revisions one by one: the entry that counts uses of the key has its own before they begin.
    fixture.store.count_one("pods").await;
    (fixture.store.clone(), fixture)
}

laws::tests!(fresh);

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn stored(fixture: &Fixture, key: &str) -> Bytes {
    fixture.below.get(key).await.unwrap().value.unwrap().value
}

#[tokio::test]
async fn only_what_a_rule_names_is_encrypted_and_no_value_can_be_moved() {
    let fixture = with(keys(&["aa"])).await;
    fixture.store.create("secrets/a/x", text("planted"), None).await.unwrap();
    fixture.store.create("configmaps/a/x", text("planted"), None).await.unwrap();
    let sealed = stored(&fixture, "secrets/a/x").await;
    assert!(sealed.starts_with(b"k8s:enc:aesgcm:v1:aa:"));
    assert!(memchr::memmem::find(&sealed, b"planted").is_none());
    assert_eq!(stored(&fixture, "configmaps/a/x").await, text("planted"));
    assert_eq!(fixture.store.get("secrets/a/x").await.unwrap().value.unwrap().value, text("planted"));

    fixture.below.create("secrets/b/x", sealed, None).await.unwrap();
    let moved = fixture.store.get("secrets/b/x").await;
    assert!(matches!(moved, Err(StoreError::Unreadable(_))), "{moved:?}");
}

#[tokio::test]
async fn what_cannot_be_decrypted_is_set_apart_and_can_be_deleted() {
    let fixture = with(keys(&["aa"])).await;
    for key in ["secrets/a/1", "secrets/a/2", "secrets/a/3"] {
        fixture.store.create(key, text(key), None).await.unwrap();
    }
    let at = fixture.below.get("secrets/a/2").await.unwrap().value.unwrap().modified;
    let broken =
        fixture.below.update("secrets/a/2", text("k8s:enc:aesgcm:v1:gone:xyz"), at, None).await.unwrap();
    let list = List { prefix: "secrets/", ..List::default() };
    let listing = fixture.store.list(&list).await.unwrap();
    let keys: Vec<_> = listing.items.iter().map(|item| item.key.to_string()).collect();
    assert_eq!(keys, ["secrets/a/1", "secrets/a/3"]);
    assert_eq!(&*listing.unreadable[0].key, "secrets/a/2");
    assert_eq!(&*listing.unreadable[0].reason, "aesgcm: no key of the stored name");

    let mut watch = fixture.store.watch("secrets/", at);
    let ended = async {
        loop {
            match watch.next().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return error,
                None => panic!("a watch says why it ends"),
            }
        }
    };
    assert!(matches!(ended.await, WatchError::Store(StoreError::Unreadable(_))));
    assert!(watch.next().await.is_none());

    let lost = fixture.store.update("secrets/a/2", text("new"), at, None).await;
    assert!(matches!(lost, Err(WriteError::Store(StoreError::Unreadable(_)))), "{lost:?}");
    fixture.store.delete("secrets/a/2", broken).await.unwrap();
    assert!(fixture.store.list(&list).await.unwrap().unreadable.is_empty());
}

#[tokio::test]
async fn a_rotation_ends_with_nothing_under_an_old_key() {
    let fixture = with(EncryptionTransformer::clear().into()).await;
    fixture.store.create("secrets/a/clear", text("0"), None).await.unwrap();
    fixture.config.send_replace(keys(&["aa"]));
    for n in 0..600 {
        fixture.store.create(&format!("secrets/a/{n}"), text("1"), None).await.unwrap();
    }
    fixture.config.send_replace(keys(&["bb", "aa"]));
    fixture.store.create("secrets/a/new", text("2"), None).await.unwrap();
    let before = fixture.store.inventory().await.unwrap();
    let counts = |inventory: &Inventory| {
        let keys = inventory.resources[0].keys.iter();
        keys.map(|usage| (usage.key.clone(), usage.count)).collect::<Vec<_>>()
    };
    assert_eq!(counts(&before), [("aa".to_owned(), 600), ("bb".to_owned(), 1), (String::new(), 1)]);
    assert_eq!((before.resources[0].stale, before.resources.len()), (601, 1));

    let told = watch::Sender::new(RotationState::Idle);
    let asked = Rotation { resource: Some("secrets".into()), per_second: 100_000 };
    rotation(&fixture.store, &asked, &told).await;
    let RotationState::Done(figures) = told.borrow().clone() else { panic!("{told:?}") };
    assert_eq!(figures.rewritten, 601);
    let proof = &figures.proofs[0];
    assert_eq!((proof.count, proof.revision), (602, fixture.below.current().await.unwrap()));
    assert_eq!((&*proof.key.provider, &*proof.key.key), ("aesgcm", "bb"));
    // Compaction up to the state that was proven ends the values under old keys, and no earlier one does.
    let mut proof = proof.clone();
    for (at, is_forgotten) in [(proof.revision.0 - 1, false), (proof.revision.0, true)] {
        fixture.below.compact(Revision(at)).await.unwrap();
        proof.look_at_history(&fixture.store).await.unwrap();
        assert_eq!(proof.is_forgotten, is_forgotten);
    }
    let after = fixture.store.inventory().await.unwrap();
    assert_eq!((counts(&after), after.resources[0].stale), (vec![("bb".to_owned(), 602)], 0));
    fixture.config.send_replace(keys(&["bb"]));
    assert_eq!(fixture.store.get("secrets/a/clear").await.unwrap().value.unwrap().value, text("0"));
}

#[tokio::test]
async fn a_rotation_says_what_it_cannot_do() {
    let fixture = with(keys(&["bb"])).await;
    let told = watch::Sender::new(RotationState::Idle);
    for (name, why) in [("secret", "no resource \"secret\" is stored"), ("pods", "names pods")] {
        rotation(&fixture.store, &Rotation { resource: Some(name.into()), per_second: 9 }, &told).await;
        let RotationState::Failed { error, .. } = told.borrow().clone() else { panic!("{told:?}") };
        assert!(error.contains(why), "{error}");
    }
    fixture.below.create("secrets/a/lost", text("k8s:enc:aesgcm:v1:gone:xyz"), None).await.unwrap();
    rotation(&fixture.store, &Rotation { resource: None, per_second: 9 }, &told).await;
    let RotationState::Failed { error, .. } = told.borrow().clone() else { panic!("{told:?}") };
    assert!(error.starts_with("1 values of secrets cannot be decrypted, the first: "), "{error}");
}

#[tokio::test]
async fn what_was_sealed_under_the_keys_before_is_written_before_others_hear_of_new_ones() {
    let fixture = with(keys(&["aa"])).await;
    let under_way = fixture.store.seal("secrets/a/x", text("planted")).await.unwrap();
    fixture.config.send_replace(keys(&["bb", "aa"]));
    let store = fixture.store.clone();
    let mut announcing = tokio::spawn(async move { Announcer::new(store).announce().await });
    let early = tokio::time::timeout(std::time::Duration::from_millis(100), &mut announcing).await;
    assert!(early.is_err(), "a write is under way");
    assert!(
        fixture
            .below
            .list(&List { prefix: "muniment/instances/", ..List::default() })
            .await
            .unwrap()
            .items
            .is_empty()
    );
    drop(under_way);
    announcing.await.unwrap().unwrap();
    let said = stored(&fixture, "muniment/instances/a").await;
    assert!(
        memchr::memmem::find(&said, br#"[{"resources":["secrets"],"keys":[{"provider":"aesgcm","key":"bb""#)
            .is_some()
    );
    let secret = keys(&["bb", "aa"]).keys("secrets")[0].fingerprint.clone();
    assert!(
        memchr::memmem::find(&said, secret.as_bytes()).is_some(),
        "the same key has the same fingerprint everywhere"
    );
}

#[tokio::test]
async fn a_key_has_the_age_of_its_first_use_whatever_comes_between() {
    let fixture = with(keys(&["aa"])).await;
    let note = async |micros| {
        let clock = Clock::from_fn(move || ingest::time::Timestamp::from_micros(micros));
        FirstUse { store: fixture.store.clone(), clock }.note().await.unwrap();
        let inventory = fixture.store.inventory().await.unwrap();
        inventory.resources[0]
            .configured
            .iter()
            .map(|key| key.first_used.map(|at| at.micros()))
            .collect::<Vec<_>>()
    };
    assert_eq!(note(1_000_000).await, [Some(1_000_000), None], "a key of its own, and identity");
    fixture.config.send_replace(keys(&["bb", "aa"]));
    assert_eq!(note(2_000_000).await, [Some(2_000_000), Some(1_000_000), None]);
    fixture.config.send_replace(keys(&["aa", "bb"]));
    assert_eq!(note(3_000_000).await, [Some(1_000_000), Some(2_000_000), None]);
}

#[tokio::test]
async fn when_a_value_was_written_is_known_between_two_looks_and_no_further() {
    const DAY: i64 = 24 * 3_600_000_000;
    const SECOND: i64 = 1_000_000;
    let fixture = with(keys(&["aa"])).await;
    let note = async |micros| {
        let clock = Clock::from_fn(move || ingest::time::Timestamp::from_micros(micros));
        FirstUse { store: fixture.store.clone(), clock }.note().await.unwrap();
    };
    let oldest = async || {
        let inventory = fixture.store.inventory().await.unwrap();
        let Written { after, by } = inventory.resources[0].keys[0].oldest_written;
        (after.map(|at| at.micros()), by.map(|at| at.micros()))
    };
    let first = fixture.store.create("secrets/a/x", text("1"), None).await.unwrap();
    assert_eq!(oldest().await, (None, None), "nobody has looked");
    note(DAY).await;
    assert_eq!(oldest().await, (None, Some(DAY + SECOND)), "it was there at the first look");
    // A second look on the same day is none.
    let updated = fixture.store.update("secrets/a/x", text("2"), first, None).await.unwrap();
    note(DAY + 7 * SECOND).await;
    assert_eq!(oldest().await, (Some(DAY), None));
    note(2 * DAY).await;
    assert_eq!(oldest().await, (Some(DAY), Some(2 * DAY + SECOND)));
    fixture.store.update("secrets/a/x", text("3"), updated, None).await.unwrap();
    assert_eq!(oldest().await, (Some(2 * DAY), None));
}
