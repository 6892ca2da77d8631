//! Facts about the pipeline itself, kept as records beside the events: starts, stops, gaps, refusals, changes.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    identity,
    ledger::Gap,
    log::LogId,
    record::{Boot, Draft, Kind, Seq},
    time::{Clock, Timestamp},
};

/// The cluster that facts and uses of our own API are filed under.
pub const CLUSTER: &str = "muniment";

/// How many places a [`Fact::Rejected`] names; its count tells of all.
pub const MAX_PLACES: usize = 20;

/// The end of the boot before this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// That boot.
    pub boot: Boot,
    /// The last number it is known to have given.
    pub last_seq: Seq,
}

/// A request of the gateway, as its records tell it from others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Asked {
    /// Its audit id, which its client may have chosen.
    pub audit_id: String,
    /// When it arrived.
    pub received: Timestamp,
    /// Who asked.
    pub user: String,
    /// What for.
    pub verb: String,
    /// The path of its URL.
    pub path: String,
}

/// A request of the gateway that died between its stages: its process was killed, or its machine failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// Which request.
    #[serde(flatten)]
    pub request: Asked,
    /// The instance that it was sent to.
    pub source: Arc<str>,
    /// The start of it that died.
    pub boot: Boot,
    /// What it had announced, in order; nothing where it was not known to change anything.
    pub changes: Vec<Announced>,
    /// How many more changes it had announced than are told here.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
}

/// A change of the cluster's store that was announced, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// The key in the store.
    pub key: String,
    /// The revision that the change would come after.
    pub from: u64,
    /// What became of it.
    pub fate: Fate,
    /// The revision at which it is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// The store has made it: at that revision the key got the value that was announced, or was deleted.
    Stored,
    /// The store never made it.
    NotStored,
    /// The store's history does not reach back, or cannot be decrypted.
    Unknown,
}

/// Something the pipeline did or noticed.
///
/// Its record's event is `{"kind":"Fact","type":…,"stageTimestamp":…,"message":…}` with the fields of the variant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Fact {
    /// An instance started: the first record of each boot.
    Boot {
        /// The boot before it, so that a lost end shows; nothing in a new data folder.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        previous: Option<Previous>,
        /// Bytes of an unfinished write that were cut from the journal's end.
        #[serde(default, skip_serializing_if = "is_zero")]
        torn_bytes: u64,
    },
    /// An instance stopped in order: the last record of its boot.
    Stop,
    /// A range of records will not come.
    Gap {
        /// Which range, and why.
        gap: Gap,
    },
    /// Intake refused items.
    Rejected {
        /// The cluster that they were sent for.
        cluster: Arc<str>,
        /// How many.
        count: u64,
        /// How many for each reason (see [`crate::accept::Reason::as_str`]).
        reasons: BTreeMap<String, u64>,
        /// Where the first [`MAX_PLACES`] of them stood.
        places: Vec<String>,
    },
    /// The gateway refused requests that have no record of their own, because one user or address had sent too many.
    Refused {
        /// Who: `user NAME`, `address IP`, or `others` where too many were refused to be told apart.
        who: String,
        /// The HTTP status that they got.
        code: u16,
        /// How many, without those that have a record of their own.
        count: u64,
        /// Since when they were counted.
        since: Timestamp,
    },
    /// A request is about to change something, where no event of its own says so: the policy leaves out
    /// `RequestReceived`, or it is not the request's first change.
    Intent {
        /// Which request.
        #[serde(flatten)]
        request: Asked,
        /// What it is about to do: `KEY@REVISION DIGEST`, see `muniment.io/change`.
        change: String,
    },
    /// A request that changed something has ended, where the policy leaves out `ResponseComplete`.
    Outcome {
        /// Which request.
        #[serde(flatten)]
        request: Asked,
        /// The HTTP status of its answer.
        code: u16,
    },
    /// A request died between its stages, as the next start found.
    Unfinished {
        /// Which request, and what became of its changes.
        unfinished: Unfinished,
    },
    /// Uses of Muniment's own interface have no record, because the journal took nothing for too long.
    UsesUnrecorded {
        /// How many.
        count: u64,
        /// Since when they were counted.
        since: Timestamp,
    },
    /// Another audit policy is in force.
    PolicyChanged {
        /// SHA-256 of the policy before, if there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        old: Option<String>,
        /// SHA-256 of the policy now.
        new: String,
    },
    /// Other redaction rules are in force.
    RulesChanged {
        /// Hash of the rule set before, if there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        old: Option<String>,
        /// Hash of the rule set now.
        new: String,
    },
    /// Days were removed because retention ended.
    Retention {
        /// The days, as `2026-11-23`.
        days: Vec<String>,
    },
    /// An encryption configuration is in force from here on: at a start, and after a change of its file.
    EncryptionConfigured {
        /// SHA-256 of the configuration.
        hash: String,
    },
    /// An encryption configuration is not taken; the one before stays in force.
    EncryptionRefused {
        /// Why.
        reason: String,
    },
    /// A KMS does not let values be written, or does again.
    Kms {
        /// The plugin's name.
        plugin: String,
        /// Why not; nothing when it does again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trouble: Option<String>,
    },
    /// What lay under an old key was written anew.
    KeysRotated {
        /// How many values were.
        rewritten: u64,
        /// Each resource with the revision at which nothing of it lay under an old key.
        proven: BTreeMap<String, u64>,
        /// Why it ended early.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trouble: Option<String>,
    },
    /// A key was used so often that it should be replaced, or that nothing more is written under it.
    KeyWorn {
        /// Its name in the configuration.
        key: String,
        /// What tells it from another key of that name.
        fingerprint: String,
        /// How often it was used, at most.
        writes: u64,
        /// How often it may be.
        limit: u64,
    },
    /// An output of audit events does not get some of them.
    OutputGap {
        /// Which output: `audit-log` or `audit-webhook`.
        output: String,
        /// The first place in this instance's journal that it passes over.
        first: u64,
        /// The last one. Not everything between them is an event for the output.
        last: u64,
        /// Why.
        reason: String,
    },
    /// The key that sealed the bodies of a day was dropped: they are gone for good.
    BodiesShredded {
        /// The day, as `2026-11-23`.
        day: String,
    },
    /// The log is not the one that was read before.
    LogRecreated {
        /// The log before.
        old: LogId,
        /// The log now.
        new: LogId,
    },
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// The stored form of a fact.
#[derive(Serialize)]
struct Stored<'a> {
    kind: &'static str,
    #[serde(flatten)]
    fact: &'a Fact,
    #[serde(rename = "stageTimestamp")]
    at: Timestamp,
    message: String,
}

#[derive(Deserialize)]
struct Read {
    kind: String,
    #[serde(flatten)]
    fact: Fact,
}

impl Fact {
    /// The record to journal: filed under [`CLUSTER`] at the clock's time, with a fresh id.
    pub fn draft(&self, clock: &Clock) -> Draft {
        let at = clock.now();
        let stored = Stored { kind: "Fact", fact: self, at, message: self.to_string() };
        // Writing plain strings and numbers into memory has no way to fail.
        let event = serde_json::to_vec(&stored);
        debug_assert!(event.is_ok());
        Draft {
            id: identity::own_id(at),
            cluster: CLUSTER.into(),
            kind: Kind::Pipeline,
            at,
            rules: "".into(),
            redactions: 0,
            event: event.unwrap_or_default().into(),
        }
    }

    /// Reads the event of a record of kind [`Kind::Pipeline`]; nothing when a newer Muniment wrote a fact that this
    /// one does not know.
    pub fn read(event: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Read>(event).ok().filter(|r| r.kind == "Fact").map(|r| r.fact)
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boot { previous: None, .. } => write!(f, "started with an empty journal"),
            Self::Boot { previous: Some(p), torn_bytes } => {
                write!(f, "started after boot {}, which ended at {}", p.boot, p.last_seq.0)?;
                if *torn_bytes > 0 {
                    write!(f, "; cut {torn_bytes} bytes of an unfinished write")?;
                }
                Ok(())
            }
            Self::Stop => write!(f, "stopped in order"),
            Self::Gap { gap } => write!(f, "{} to {} are missing: {}", gap.first, gap.last, gap.reason),
            Self::Rejected { cluster, count, reasons, .. } => {
                write!(f, "refused {count} items for cluster {cluster}:")?;
                reasons.iter().try_for_each(|(reason, n)| write!(f, " {reason} {n}"))
            }
            Self::Refused { who, code, count, since } => {
                write!(f, "refused {count} more requests of {who} with {code} since {since}")
            }
            Self::Intent { request, change } => {
                write!(f, "{} is about to {} {change}", request.user, request.verb)
            }
            Self::Outcome { request, code } => {
                write!(f, "{} {} for {} ended with {code}", request.verb, request.path, request.user)
            }
            Self::Unfinished { unfinished: Unfinished { request, changes, more, .. } } => {
                let stored = changes.iter().filter(|change| change.fate == Fate::Stored).count();
                write!(
                    f,
                    "{} {} for {} died between its stages; {stored} of {} changes are stored",
                    request.verb,
                    request.path,
                    request.user,
                    changes.len() as u64 + more
                )
            }
            Self::UsesUnrecorded { count, since } => {
                write!(f, "did not record {count} uses of the interface since {since}")
            }
            Self::PolicyChanged { new, .. } => write!(f, "the audit policy changed to {new}"),
            Self::RulesChanged { new, .. } => write!(f, "the redaction rules changed to {new}"),
            Self::Retention { days } => write!(f, "retention ended for {}", days.join(", ")),
            Self::EncryptionConfigured { hash } => {
                write!(f, "the encryption configuration {hash} is in force")
            }
            Self::EncryptionRefused { reason } => {
                write!(f, "an encryption configuration was not taken: {reason}")
            }
            Self::Kms { plugin, trouble: Some(trouble) } => {
                write!(f, "KMS plugin {plugin} does not let values be written: {trouble}")
            }
            Self::Kms { plugin, trouble: None } => write!(f, "KMS plugin {plugin} lets values be written"),
            Self::KeysRotated { rewritten, trouble: Some(trouble), .. } => {
                write!(f, "wrote {rewritten} values anew under the first keys, and ended early: {trouble}")
            }
            Self::KeysRotated { rewritten, proven, trouble: None } => {
                let proven: Vec<_> =
                    proven.iter().map(|(name, at)| format!("{name} at revision {at}")).collect();
                write!(
                    f,
                    "wrote {rewritten} values anew under the first keys; no old key is in use for {}",
                    proven.join(", ")
                )
            }
            Self::KeyWorn { key, writes, limit, .. } if writes >= limit => {
                write!(f, "all {limit} uses of key {key} are taken: give another key the first place")
            }
            Self::KeyWorn { key, writes, limit, .. } => {
                write!(f, "{writes} of the {limit} uses of key {key} are taken: replace it soon")
            }
            Self::OutputGap { output, first, last, reason } => {
                write!(f, "the output {output} passes over {first} to {last} of the journal: {reason}")
            }
            Self::BodiesShredded { day } => {
                write!(
                    f,
                    "dropped the key of {day}: the request and response bodies of that day are gone for good"
                )
            }
            Self::LogRecreated { old, new } => write!(f, "the log {old} was replaced by {new}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::event::EventView;

    fn clock() -> Clock {
        Clock::from_fn(|| Timestamp::from_micros(1_767_323_045_000_006))
    }

    fn asked() -> Asked {
        Asked {
            audit_id: "a".into(),
            received: Timestamp::from_micros(5),
            user: "alice".into(),
            verb: "create".into(),
            path: "/api/v1/namespaces/shop/configmaps".into(),
        }
    }

    fn unfinished() -> Unfinished {
        let change = |fate, revision| Announced { key: "configmaps/shop/a".into(), from: 3, fate, revision };
        Unfinished {
            request: asked(),
            source: "a".into(),
            boot: Boot(Uuid::from_u128(7)),
            changes: vec![change(Fate::Stored, Some(4)), change(Fate::NotStored, None)],
            more: 1,
        }
    }

    fn facts() -> Vec<Fact> {
        let previous = Some(Previous { boot: Boot(Uuid::from_u128(7)), last_seq: Seq(41) });
        let gap = Gap {
            source: Some("a".into()),
            boot: None,
            first: 3,
            last: 9,
            partition: Some(1),
            reason: "retention".into(),
            at: Timestamp::from_micros(0),
        };
        vec![
            Fact::Boot { previous: None, torn_bytes: 0 },
            Fact::Boot { previous, torn_bytes: 17 },
            Fact::Stop,
            Fact::Gap { gap },
            Fact::Rejected {
                cluster: "demo".into(),
                count: 2,
                reasons: [("malformed".to_owned(), 2)].into(),
                places: vec!["item 1, line 2, byte 9".into()],
            },
            Fact::Intent { request: asked(), change: "configmaps/shop/a@0 5f".into() },
            Fact::Outcome { request: asked(), code: 201 },
            Fact::Unfinished { unfinished: unfinished() },
            Fact::Refused {
                who: "user eve".into(),
                code: 403,
                count: 7,
                since: Timestamp::from_micros(1_767_323_045_000_006),
            },
            Fact::UsesUnrecorded { count: 3, since: Timestamp::from_micros(1_767_323_045_000_006) },
            Fact::PolicyChanged { old: None, new: "aa".into() },
            Fact::RulesChanged { old: Some("aa".into()), new: "bb".into() },
            Fact::Retention { days: vec!["2026-01-01".into()] },
            Fact::OutputGap { output: "audit-log".into(), first: 3, last: 9, reason: "full".into() },
            Fact::LogRecreated { old: LogId("x".into()), new: LogId("y".into()) },
            Fact::EncryptionConfigured { hash: "aa".into() },
            Fact::EncryptionRefused { reason: "no key".into() },
            Fact::Kms { plugin: "vault".into(), trouble: Some("silent".into()) },
            Fact::Kms { plugin: "vault".into(), trouble: None },
            Fact::KeysRotated { rewritten: 3, proven: [("secrets".to_owned(), 9)].into(), trouble: None },
            Fact::KeysRotated { rewritten: 3, proven: BTreeMap::new(), trouble: Some("silent".into()) },
            Fact::BodiesShredded { day: "2026-01-01".into() },
            Fact::KeyWorn { key: "a".into(), fingerprint: "aa".into(), writes: 5, limit: 9 },
            Fact::KeyWorn { key: "a".into(), fingerprint: "aa".into(), writes: 9, limit: 9 },
        ]
    }

    #[test]
    fn every_fact_reads_back_from_its_record() {
        for fact in facts() {
            let draft = fact.draft(&clock());
            assert_eq!(Fact::read(&draft.event), Some(fact));
        }
    }

    #[test]
    fn a_fact_is_searchable_like_an_event() {
        for fact in facts() {
            let draft = fact.draft(&clock());
            let view = EventView::parse(&draft.event).unwrap();
            assert_eq!(view.kind().unwrap(), "Fact");
            assert_eq!(view.stage_timestamp(), Some(draft.at));
            assert_eq!(view.message().unwrap(), fact.to_string());
            assert!(view.fact_type().is_some());
        }
    }

    #[test]
    fn a_boot_is_written_as_documented() {
        let draft = facts()[1].draft(&clock());
        assert_eq!(
            std::str::from_utf8(&draft.event).unwrap(),
            r#"{"kind":"Fact","type":"boot","previous":{"boot":"00000000-0000-0000-0000-000000000007","last_seq":41},"torn_bytes":17,"stageTimestamp":"2026-01-02T03:04:05.000006Z","message":"started after boot 00000000-0000-0000-0000-000000000007, which ended at 41; cut 17 bytes of an unfinished write"}"#
        );
    }

    #[test]
    fn an_unknown_fact_reads_as_nothing() {
        assert_eq!(Fact::read(br#"{"kind":"Fact","type":"teleported"}"#), None);
        assert_eq!(Fact::read(br#"{"kind":"Event","type":"stop"}"#), None);
    }
}
