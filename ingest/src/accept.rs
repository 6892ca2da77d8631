//! The edge of the pipeline: one received item in, one draft or one refusal out.
//!
//! What is checked is what later stages rely on: one JSON object in UTF-8, a kind and version that we read, an
//! `auditID`, a known level and stage, and a time within bounds. Everything else is kept as it came.

mod rejection;

use std::sync::Arc;

use bytes::Bytes;
pub use rejection::{Place, Reason, Rejection};
use tokio::sync::watch;

use crate::{
    event::{EventView, Level, Stage},
    identity::{DeploymentKey, IntakeIds},
    record::{Draft, Kind, MAX_EVENT_BYTES},
    redact::Redactor,
    time::{Clock, Timestamp},
};

/// How many days ahead of the clock an event's day may lie: clocks differ, and a day ends at different instants.
pub const MAX_DAYS_AHEAD: i32 = 1;

/// The versions of the audit format that are read.
const VERSIONS: [&str; 2] = ["audit.k8s.io/v1", "audit.k8s.io/v1beta1"];

/// Takes received items in: validates, identifies, redacts. Cheap to clone and to share.
#[derive(Clone, Debug)]
pub struct Acceptor {
    ids: IntakeIds,
    redactor: watch::Receiver<Arc<Redactor>>,
    clock: Clock,
    retention_days: Option<u32>,
}

impl Acceptor {
    /// An acceptor for this deployment, under the redaction rules in force. Days older than `retention_days` before the clock's day are refused;
    /// without it days are kept for ever.
    pub fn new(
        key: &DeploymentKey,
        redactor: watch::Receiver<Arc<Redactor>>,
        clock: Clock,
        retention_days: Option<u32>,
    ) -> Self {
        Self { ids: IntakeIds::new(key), redactor, clock, retention_days }
    }

    /// Validates one item of `cluster`, and gives the draft to journal: identified by its received bytes, then redacted.
    ///
    /// Under the same rules the same bytes give the same draft, whenever and however often they arrive; under other
    /// rules one with the same id.
    ///
    /// # Errors
    /// When the item is not taken; see [`Reason`].
    pub fn accept(&self, cluster: &Arc<str>, item: &[u8]) -> Result<Draft, Rejection> {
        bounded(item.len(), MAX_EVENT_BYTES)?;
        let event = EventView::parse(item)?;
        check_kind(&event)?;
        check_names(&event)?;
        let at = self.time(&event)?;
        let id = self.ids.id(cluster, &event, at);
        let redactor = self.redactor.borrow().clone();
        let redacted = redactor.redact(&event);
        bounded(redacted.bytes.len(), MAX_EVENT_BYTES)?;
        Ok(Draft {
            id,
            cluster: cluster.clone(),
            kind: Kind::Audit,
            at,
            rules: redactor.hash().clone(),
            redactions: redacted.count,
            event: Bytes::from(redacted.bytes.into_owned()),
        })
    }

    fn time(&self, event: &EventView<'_>) -> Result<Timestamp, Rejection> {
        let text = event
            .stage_timestamp_text()
            .ok_or_else(|| Rejection::new(Reason::Missing, "an event has a stageTimestamp"))?;
        let at: Timestamp = text
            .parse()
            .map_err(|_| Rejection::new(Reason::BadTime, "the stageTimestamp is not an RFC 3339 time"))?;
        if at.micros() < 0 {
            return Err(Rejection::new(Reason::BadTime, "the stageTimestamp lies before 1970"));
        }
        let (day, today) = (at.day(), self.clock.now().day());
        if day > today.plus(MAX_DAYS_AHEAD) {
            return Err(Rejection::new(Reason::DayAhead, format!("{day} is ahead of today, {today}")));
        }
        let first = self.retention_days.map(|days| today.plus(-i32::try_from(days).unwrap_or(i32::MAX / 2)));
        match first {
            Some(first) if day < first => Err(Rejection::new(
                Reason::DayExpired,
                format!("{day} is older than the retention, which keeps {first} and later"),
            )),
            _ => Ok(at),
        }
    }
}

/// Refuses an event of more than `max` bytes.
///
/// # Errors
/// With [`Reason::TooLarge`].
pub fn bounded(len: usize, max: usize) -> Result<(), Rejection> {
    if len <= max {
        return Ok(());
    }
    Err(Rejection::new(
        Reason::TooLarge,
        format!("{len} bytes are more than the {max} that an event may have"),
    ))
}

/// Items of a list carry neither kind nor version; some emitters leave the version out.
fn check_kind(event: &EventView<'_>) -> Result<(), Rejection> {
    if event.known("kind").is_some() && event.kind().as_deref() != Some("Event") {
        return Err(Rejection::new(Reason::WrongKind, "the kind is not Event"));
    }
    if event.known("apiVersion").is_none() {
        return Ok(());
    }
    match event.api_version() {
        Some(version) if VERSIONS.contains(&&*version) => Ok(()),
        _ => Err(Rejection::new(
            Reason::WrongVersion,
            format!("the apiVersion is none of {}", VERSIONS.join(", ")),
        )),
    }
}

fn check_names(event: &EventView<'_>) -> Result<(), Rejection> {
    for name in ["level", "auditID", "stage"] {
        if event.known(name).and_then(|v| v.raw().strip_prefix('"')).is_none() {
            return Err(Rejection::new(Reason::Missing, format!("an event has the text member {name}")));
        }
    }
    if event.level().is_none() {
        return Err(unknown("level", Level::ALL.map(Level::as_str)));
    }
    if event.stage().is_none() {
        return Err(unknown("stage", Stage::ALL.map(Stage::as_str)));
    }
    Ok(())
}

fn unknown(what: &str, names: [&str; 4]) -> Rejection {
    Rejection::new(Reason::UnknownName, format!("the {what} is none of {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use crate::{
        journal::{Journal, JournalOptions},
        ledger::{Applied, Batch, Ledger, SqliteLedger},
        log::LogId,
        record::Record,
        redact::RuleSet,
        time::Day,
    };

    const NOW: &str = "2026-11-24T06:00:00Z";

    fn acceptor(retention_days: Option<u32>) -> Acceptor {
        let key = DeploymentKey::from_bytes([1; 32]);
        let redactor = watch::channel(Arc::new(Redactor::new(&RuleSet::builtin(), &key))).1;
        let now = NOW.parse().unwrap();
        Acceptor::new(&key, redactor, Clock::from_fn(move || now), retention_days)
    }

    fn accept(item: &str) -> Result<Draft, Rejection> {
        acceptor(Some(30)).accept(&"demo".into(), item.as_bytes())
    }

    fn event(at: &str) -> String {
        format!(
            r#"{{"level":"Metadata","auditID":"a","stage":"Panic","verb":"get","stageTimestamp":"{at}"}}"#
        )
    }

    fn reason(item: &str) -> Reason {
        accept(item).unwrap_err().reason
    }

    #[test]
    fn an_event_becomes_a_draft_with_its_exact_bytes() {
        let item = event("2026-11-23T23:59:59.999999Z");
        let draft = accept(&item).unwrap();
        assert_eq!(draft.event, item.as_bytes());
        assert_eq!(draft.at.to_string(), "2026-11-23T23:59:59.999999Z");
        assert_eq!(draft.id.day().to_string(), "2026-11-23");
        assert_eq!((&*draft.cluster, draft.kind, draft.redactions), ("demo", Kind::Audit, 0));
        assert_eq!(draft.rules.len(), 64);
        assert_eq!(accept(&item).unwrap(), draft);
    }

    #[tokio::test]
    async fn a_retry_over_midnight_adds_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let now = Arc::new(AtomicI64::new(0));
        let read = now.clone();
        let clock = Clock::from_fn(move || Timestamp::from_micros(read.load(Ordering::SeqCst)));
        let set = |at: &str| now.store(at.parse::<Timestamp>().unwrap().micros(), Ordering::SeqCst);
        set("2026-11-23T23:59:59.990000Z");
        let key = DeploymentKey::from_bytes([1; 32]);
        let redactor = watch::channel(Arc::new(Redactor::new(&RuleSet::builtin(), &key))).1;
        let acceptor = Acceptor::new(&key, redactor, clock.clone(), Some(30));
        let options = JournalOptions::new("host-a", clock);
        let (journal, _) = Journal::open(&folder.path().join("journal"), options).unwrap();
        let before = journal.bounds().end;
        let item = event("2026-11-23T23:59:59.980000Z");
        for at in ["2026-11-23T23:59:59.990000Z", "2026-11-24T00:00:00.010000Z"] {
            set(at);
            let draft = acceptor.accept(&"demo".into(), item.as_bytes()).unwrap();
            journal.append(vec![draft]).await.unwrap();
        }
        let records: Vec<Record> =
            journal.read(before, 10).await.unwrap().into_iter().map(|entry| entry.record.unwrap()).collect();
        let received: Vec<Day> = records.iter().map(|record| record.envelope.received_at.day()).collect();
        assert_eq!(received[0].plus(1), received[1], "the retry was journaled on the next day");
        let ledger = SqliteLedger::open(&folder.path().join("ledger.sqlite")).await.unwrap();
        let applied =
            ledger.apply(&LogId("log".into()), &Batch { records, ..Batch::default() }).await.unwrap();
        assert_eq!(applied, Applied { inserted: 1, duplicates: 1 });
        assert_eq!(ledger.days().await.unwrap(), [("2026-11-23".parse().unwrap(), 1)]);
    }

    #[test]
    fn days_have_bounds_on_both_sides() {
        assert!(accept(&event("2026-11-25T23:59:59.999999Z")).is_ok());
        assert_eq!(reason(&event("2026-11-26T00:00:00.000000Z")), Reason::DayAhead);
        assert!(accept(&event("2026-10-25T00:00:00.000000Z")).is_ok());
        assert_eq!(reason(&event("2026-10-24T23:59:59.999999Z")), Reason::DayExpired);
        let forever = acceptor(None);
        assert!(forever.accept(&"c".into(), event("1970-01-01T00:00:00Z").as_bytes()).is_ok());
        assert_eq!(reason(&event("1969-12-31T23:59:59Z")), Reason::BadTime);
    }

    #[test]
    fn each_flaw_has_its_reason() {
        let good = event(NOW);
        let with = |from: &str, to: &str| good.replace(from, to);
        for (item, expected) in [
            (with("}", ""), Reason::Truncated),
            (with(r#""verb":"#, r#""verb""#), Reason::Malformed),
            (format!("[{good}]"), Reason::NotAnObject),
            (with("{", r#"{"kind":"Pod","#), Reason::WrongKind),
            (with("{", r#"{"kind":7,"#), Reason::WrongKind),
            (with("{", r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1alpha1","#), Reason::WrongVersion),
            (with("{", r#"{"kind":"Event","apiVersion":"v1","#), Reason::WrongVersion),
            (with("verb", "stage"), Reason::Duplicate),
            (with(r#""get""#, &"[".repeat(200)), Reason::TooDeep),
            (with(r#""auditID":"a","#, ""), Reason::Missing),
            (with(r#""a""#, "5"), Reason::Missing),
            (with("stageTimestamp", "when"), Reason::Missing),
            (with("Metadata", "metadata"), Reason::UnknownName),
            (with("Panic", "Calm"), Reason::UnknownName),
            (event("yesterday"), Reason::BadTime),
            (good.replace(&format!("\"{NOW}\""), "17"), Reason::BadTime),
            (with("get", &"x".repeat(MAX_EVENT_BYTES)), Reason::TooLarge),
        ] {
            assert_eq!(reason(&item), expected, "{}", &item[..item.len().min(200)]);
        }
        let invalid = [&b"{\"a\":\"\xff\"}"[..]].concat();
        let error = acceptor(None).accept(&"c".into(), &invalid).unwrap_err();
        assert_eq!(error.to_string(), "malformed: invalid UTF-8 at byte 6 of the item");
    }

    #[test]
    fn both_versions_and_none_are_taken() {
        for head in [
            r#""kind":"Event","#,
            r#""apiVersion":"audit.k8s.io/v1","#,
            r#""kind":"Event","apiVersion":"audit.k8s.io/v1beta1","#,
        ] {
            assert!(accept(&event(NOW).replacen('{', &format!("{{{head}"), 1)).is_ok());
        }
    }

    #[test]
    fn reasons_have_distinct_label_names() {
        let names: std::collections::BTreeSet<_> = Reason::ALL.map(Reason::as_str).into();
        assert_eq!(names.len(), Reason::ALL.len());
        assert!(names.iter().all(|n| n.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    }
}
