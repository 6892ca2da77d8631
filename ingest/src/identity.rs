//! Who an event is: ids that are the same at every receipt, under a key that only this deployment holds.

mod key;

use hmac::{Hmac, Mac};
pub use key::{DeploymentKey, KeyCheck, KeyError};
use sha2::Sha256;
use uuid::{Builder, Uuid};

use crate::{event::EventView, record::RecordId, time::Timestamp};

/// Computes the ids of events taken in. Cheap to clone and to share.
#[derive(Clone)]
pub struct IntakeIds(Hmac<Sha256>);

impl std::fmt::Debug for IntakeIds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IntakeIds")
    }
}

impl IntakeIds {
    /// Ids under this deployment's key.
    pub fn new(key: &DeploymentKey) -> Self {
        Self(key.mac("muniment intake id v1"))
    }

    /// The id of an event of `cluster` as it was received, before redaction; `at` is its stageTimestamp.
    ///
    /// It is a UUID of version 8: 48 bits of milliseconds, then bits of the HMAC over the cluster's name, a zero byte
    /// and the event's top-level members as received, in order, without `kind` and `apiVersion` and without the space
    /// between members. So an item of a webhook's EventList and the line of a log file give one id, whoever receives
    /// it and whenever; and nobody who may send for one cluster can stand in the way of another's event.
    pub fn id(&self, cluster: &str, event: &EventView<'_>, at: Timestamp) -> RecordId {
        let mut mac = self.0.clone();
        mac.update(cluster.as_bytes());
        mac.update(&[0]);
        update_compact(&mut mac, event);
        let digest = mac.finalize().into_bytes();
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&at.millis().to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&digest[..10]);
        RecordId(Builder::from_custom_bytes(bytes).into_uuid())
    }
}

/// Feeds the event's object without `kind`, `apiVersion` and the space between members.
fn update_compact(mac: &mut Hmac<Sha256>, event: &EventView<'_>) {
    mac.update(b"{");
    if let Some(run) = event.run() {
        mac.update(run.as_bytes());
    } else {
        let members = event.members().filter(|m| !m.is("kind") && !m.is("apiVersion"));
        for (n, member) in members.enumerate() {
            mac.update(if n == 0 { b"" } else { b"," });
            mac.update(member.key.raw().as_bytes());
            mac.update(b":");
            mac.update(member.value.raw().as_bytes());
        }
    }
    mac.update(b"}");
}

/// Tells whether two values are one without telling anything of them: an HMAC-SHA-256 under this deployment's key, of
/// which the first half is kept. Cheap to clone and to share.
#[derive(Clone)]
pub struct ValueDigests(Hmac<Sha256>);

impl std::fmt::Debug for ValueDigests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ValueDigests")
    }
}

impl ValueDigests {
    /// Digests under this deployment's key.
    pub fn new(key: &DeploymentKey) -> Self {
        Self(key.mac("muniment value digest v1"))
    }

    /// The digest of a value, in lower-case hex.
    pub fn of(&self, value: &[u8]) -> String {
        let digest = self.0.clone().chain_update(value).finalize().into_bytes();
        hex::encode(&digest[..16])
    }
}

/// A fresh id for a record that we write ourselves: a UUIDv7 of the instant `at`.
pub fn own_id(at: Timestamp) -> RecordId {
    let random = Uuid::new_v4().into_bytes();
    let mut tail = [0; 10];
    // Bytes 6 and 8 of a version 4 UUID hold its version and variant; these ten are random throughout.
    tail[..6].copy_from_slice(&random[..6]);
    tail[6..].copy_from_slice(&random[9..13]);
    RecordId(Builder::from_unix_timestamp_millis(at.millis().max(0) as u64, &tail).into_uuid())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"x","stage":"Panic"}"#;
    const ITEM: &str = r#"{"level":"Metadata","auditID":"x","stage":"Panic"}"#;

    fn id_in(cluster: &str, text: &str) -> RecordId {
        let event = EventView::parse(text.as_bytes()).unwrap();
        let ids = IntakeIds::new(&DeploymentKey::from_bytes([7; 32]));
        ids.id(cluster, &event, Timestamp::from_micros(1_767_323_045_000_999))
    }

    fn id(text: &str) -> RecordId {
        id_in("demo", text)
    }

    #[test]
    fn the_same_bytes_from_another_cluster_are_another_event() {
        assert_ne!(id_in("demo", ITEM), id_in("prod", ITEM));
    }

    #[test]
    fn a_webhook_item_and_a_log_line_have_one_id() {
        assert_eq!(id(LINE), id(ITEM));
        assert_eq!(
            id(ITEM),
            id(
                r#"{"level":"Metadata","auditID":"x","apiVersion":"audit.k8s.io/v1","stage":"Panic","kind":"Event"}"#
            )
        );
        assert_eq!(
            id(ITEM),
            id("{ \"level\" : \"Metadata\",\n \"auditID\":\"x\", \"kind\":1, \"stage\" :\"Panic\"\n}")
        );
    }

    #[test]
    fn the_hash_is_that_of_the_compact_object() {
        let spaced = "{ \"level\" : \"Metadata\",\n \"auditID\":\"x\", \"stage\":\"Panic\"}";
        let within = ITEM.replace(",\"stage", ",\"kind\":\"Event\",\"stage");
        let [line, last] = [LINE.replace("{", " {\n"), ITEM.replace("}", ",\"apiVersion\":\"x\"}")];
        for text in [LINE, ITEM, spaced, &within, &line, &last] {
            let mut runs = IntakeIds::new(&DeploymentKey::from_bytes([7; 32])).0;
            let mut whole = runs.clone();
            update_compact(&mut runs, &EventView::parse(text.as_bytes()).unwrap());
            whole.update(ITEM.as_bytes());
            assert_eq!(runs.finalize().into_bytes(), whole.finalize().into_bytes(), "{text}");
        }
    }

    #[test]
    fn an_id_holds_its_time_and_version() {
        let id = id(LINE);
        assert_eq!(id.0.get_version_num(), 8);
        assert_eq!(id.0.as_u128() >> 80, 1_767_323_045_000);
    }

    #[test]
    fn other_bytes_and_other_keys_give_other_ids() {
        assert_ne!(id(ITEM), id(&ITEM.replace('x', "y")));
        let event = EventView::parse(ITEM.as_bytes()).unwrap();
        let at = Timestamp::from_micros(0);
        let [a, b] =
            [1, 2].map(|n| IntakeIds::new(&DeploymentKey::from_bytes([n; 32])).id("demo", &event, at));
        assert_ne!(a, b);
    }

    #[test]
    fn own_ids_are_version_seven_and_differ() {
        let at = Timestamp::from_micros(1_767_323_045_000_999);
        let (a, b) = (own_id(at), own_id(at));
        assert_ne!(a, b);
        assert_eq!(a.0.get_version_num(), 7);
        assert_eq!(a.day(), at.day());
    }
}
