//! Requests that died between their stages: found in the journal at a start, and told with what became of their changes.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ingest::{
    event::{EventView, Stage},
    identity::ValueDigests,
    journal::{AppendError, Journal, Pin, ReadError},
    log::Offset,
    pipeline::{Announced, Asked, Fact, Fate, Unfinished},
    record::{Boot, Draft, Kind, Record, RecordId},
    retry::Backoff,
    time::{Clock, Timestamp},
};
use tokio_util::sync::CancellationToken;

use super::{change::Change, opening::CHANGE};
use crate::gateway::{
    request::is_mutating,
    store::{Revision, Store, StoreError, WatchError},
};

/// Records of the journal that are looked at together.
const PAGE: usize = 1_024;

/// Changes that are told of one request; of a larger `deletecollection` the others are counted.
const MAX_CHANGES: usize = 1_000;

/// The first wait before an engine that is away is asked again, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// How long the store may take to show its history, of which it tells at least every five seconds how far it is.
const HISTORY: Duration = Duration::from_secs(60);

/// Finds what an earlier start of this instance left unfinished.
#[derive(Debug)]
pub struct Recovery {
    /// Where it is looked for, and told.
    pub journal: Journal,
    /// Keeps the journal until it is told.
    pub pin: Pin,
    /// What changes were made in: the uppermost store, so that values are as they were announced.
    pub store: Arc<dyn Store>,
    /// What tells values from each other.
    pub digests: ValueDigests,
    /// The time.
    pub clock: Clock,
}

/// What tells a request from others; a client that sends one audit id twice does not do so in one microsecond.
type Key = (String, Timestamp, String);

/// A request that has begun.
#[derive(Debug)]
struct Open {
    /// Its first record.
    id: RecordId,
    asked: Asked,
    source: Arc<str>,
    boot: Boot,
    changes: Vec<Change>,
    more: u64,
}

/// What a record tells of a request.
enum Told {
    Opened(Asked, Option<Change>),
    Ended(Key),
    Nothing,
}

impl Recovery {
    /// Looks through the journal, asks the store, and records each request that died as a fact. Waits for engines that
    /// are away; when it is stopped before its end, the next start begins anew.
    pub async fn run(self, stop: &CancellationToken) {
        let found = stop.run_until_cancelled(self.find()).await;
        let open = match found {
            None => return,
            Some(Ok(open)) => open,
            Some(Err(error)) => {
                let error = crate::errors::chain(&error);
                tracing::error!(error, "what an earlier start left unfinished cannot be looked for");
                return;
            }
        };
        if let Some(Some(())) = stop.run_until_cancelled(self.tell(open)).await {
            self.pin.release();
        }
    }

    /// The requests of earlier boots that were opened and not closed.
    async fn find(&self) -> Result<Vec<Open>, ReadError> {
        let (own, range) = (self.journal.boot(), self.journal.bounds());
        let (mut open, mut from): (HashMap<Key, Vec<Open>>, Offset) = (HashMap::new(), range.start);
        while from < range.end {
            let entries = self.journal.read(from, PAGE).await?;
            let Some(last) = entries.last() else { break };
            from = Offset(last.offset.0 + 1);
            let records = entries.iter().filter_map(|entry| entry.record.as_ref().ok());
            for record in records.filter(|record| record.envelope.boot != own) {
                note(&mut open, record);
            }
        }
        let mut left: Vec<Open> = open.into_values().flatten().collect();
        left.sort_by(|a, b| {
            (a.asked.received, &a.asked.audit_id).cmp(&(b.asked.received, &b.asked.audit_id))
        });
        Ok(left)
    }

    /// Tells of all of them; nothing when the journal takes nothing more in this boot.
    async fn tell(&self, open: Vec<Open>) -> Option<()> {
        if open.is_empty() {
            return Some(());
        }
        let fates = self.fates(&open).await;
        let drafts: Vec<Draft> = open
            .into_iter()
            .zip(fates)
            .map(|(open, changes)| {
                let Open { asked, source, boot, more, .. } = open;
                let unfinished = Unfinished { request: asked, source, boot, changes, more };
                tracing::warn!(
                    audit_id = unfinished.request.audit_id,
                    verb = unfinished.request.verb,
                    path = unfinished.request.path,
                    "a request died between its stages"
                );
                Fact::Unfinished { unfinished }.draft(&self.clock)
            })
            .collect();
        crate::metrics::unfinished(drafts.len());
        for draft in drafts {
            let mut backoff = Backoff::new(WAITS.0, WAITS.1);
            while let Err(error) = self.journal.append(vec![draft.clone()]).await {
                if error == AppendError::Ended {
                    return None;
                }
                tokio::time::sleep(backoff.wait()).await;
            }
        }
        Some(())
    }

    /// What became of the changes of each request.
    async fn fates(&self, open: &[Open]) -> Vec<Vec<Announced>> {
        let mut backoff = Backoff::new(WAITS.0, WAITS.1);
        loop {
            match self.look(open).await {
                Ok(fates) => return fates,
                Err(error) => {
                    tracing::warn!(
                        error = crate::errors::chain(&error),
                        "what became of changes that a crash left unfinished is not known yet"
                    );
                    tokio::time::sleep(backoff.wait()).await;
                }
            }
        }
    }

    async fn look(&self, open: &[Open]) -> Result<Vec<Vec<Announced>>, StoreError> {
        let mut sought = Vec::new();
        for (request, open) in open.iter().enumerate() {
            for change in &open.changes {
                let revision = self.now(change).await?;
                sought.push(Sought { request, change, revision });
            }
        }
        let is_whole = self.search(&mut sought).await?;
        let mut fates: Vec<Vec<Announced>> = open.iter().map(|_| Vec::new()).collect();
        for Sought { request, change, revision } in sought {
            let fate = match revision {
                Some(_) => Fate::Stored,
                None if is_whole => Fate::NotStored,
                None => Fate::Unknown,
            };
            let revision = revision.map(|revision| revision.0);
            fates[request].push(Announced { key: change.key.clone(), from: change.from.0, fate, revision });
        }
        Ok(fates)
    }

    /// The revision of a change whose value is still there.
    async fn now(&self, change: &Change) -> Result<Option<Revision>, StoreError> {
        let read = match self.store.get(&change.key).await {
            // Its history is looked into all the same.
            Err(StoreError::Unreadable(_)) => return Ok(None),
            read => read?,
        };
        let current = read.value.filter(|current| current.modified > change.from);
        Ok(current.filter(|current| self.is(change, Some(&current.value))).map(|current| current.modified))
    }

    /// Looks through what happened after the earliest of the changes that are not found yet. False when history does
    /// not reach back so far, or cannot be read.
    async fn search(&self, sought: &mut [Sought<'_>]) -> Result<bool, StoreError> {
        let from = sought.iter().filter(|s| s.revision.is_none()).map(|s| s.change.from).min();
        let (Some(from), until) = (from, self.store.current().await?) else { return Ok(true) };
        if until <= from {
            return Ok(true);
        }
        let mut watch = self.store.watch("", from);
        let searched = async {
            while let Some(batch) = watch.next().await {
                let batch = batch?;
                for happened in &batch.changes {
                    let missing = sought.iter_mut().filter(|s| s.revision.is_none());
                    for sought in missing.filter(|s| *s.change.key == *happened.key) {
                        let is_later = happened.revision > sought.change.from;
                        if is_later && self.is(sought.change, happened.value.as_ref()) {
                            sought.revision = Some(happened.revision);
                        }
                    }
                }
                if batch.reached >= until {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        match tokio::time::timeout(HISTORY, searched).await {
            Ok(Ok(is_whole)) => Ok(is_whole),
            Ok(Err(WatchError::Store(StoreError::Unreadable(_)) | WatchError::Compacted { .. })) => Ok(false),
            Ok(Err(WatchError::Behind)) | Err(_) => Ok(false),
            Ok(Err(WatchError::Store(error))) => Err(error),
        }
    }

    /// Whether a value, or its absence, is what the change was to make.
    fn is(&self, change: &Change, value: Option<&bytes::Bytes>) -> bool {
        change.digest == value.map(|value| self.digests.of(value))
    }
}

/// A change that is looked for.
struct Sought<'o> {
    request: usize,
    change: &'o Change,
    revision: Option<Revision>,
}

fn note(open: &mut HashMap<Key, Vec<Open>>, record: &Record) {
    match told(record) {
        Told::Nothing => {}
        Told::Ended(key) => {
            if let Some(same) = open.get_mut(&key) {
                same.pop();
                if same.is_empty() {
                    open.remove(&key);
                }
            }
        }
        Told::Opened(asked, change) => {
            let same = open.entry(key_of(&asked)).or_default();
            let id = record.envelope.id;
            // An opening record that was not known to be written is written again.
            if same.iter().any(|open| open.id == id) {
                return;
            }
            // An intent behind the opening record is the same request's.
            if record.envelope.kind == Kind::Audit || same.is_empty() {
                let (source, boot) = (record.envelope.source.clone(), record.envelope.boot);
                same.push(Open { id, asked, source, boot, changes: Vec::new(), more: 0 });
            }
            if let (Some(begun), Some(change)) = (same.last_mut(), change) {
                if begun.changes.len() < MAX_CHANGES {
                    begun.changes.push(change);
                } else {
                    begun.more += 1;
                }
            }
        }
    }
}

fn key_of(asked: &Asked) -> Key {
    (asked.audit_id.clone(), asked.received, asked.verb.clone())
}

fn told(record: &Record) -> Told {
    match record.envelope.kind {
        // Events that came from elsewhere have ids that were computed.
        Kind::Audit if record.envelope.id.is_own() => of_event(record).unwrap_or(Told::Nothing),
        Kind::Pipeline => match Fact::read(&record.event) {
            Some(Fact::Intent { request, change }) => Told::Opened(request, change.parse().ok()),
            Some(Fact::Outcome { request, .. }) => Told::Ended(key_of(&request)),
            Some(Fact::Unfinished { unfinished }) => Told::Ended(key_of(&unfinished.request)),
            _ => Told::Nothing,
        },
        Kind::Audit | Kind::Access => Told::Nothing,
    }
}

fn of_event(record: &Record) -> Option<Told> {
    let event = EventView::parse(&record.event).ok()?;
    let verb = event.verb()?;
    if !is_mutating(&verb) {
        return None;
    }
    let asked = Asked {
        audit_id: event.audit_id()?.into_owned(),
        received: event.request_received()?,
        user: event.user().and_then(|user| user.username).unwrap_or_default().into_owned(),
        verb: verb.into_owned(),
        path: event.request_uri()?.split('?').next().unwrap_or_default().to_owned(),
    };
    Some(match event.stage()? {
        Stage::RequestReceived => {
            let change = event.annotation(CHANGE).and_then(|change| change.parse().ok());
            Told::Opened(asked, change)
        }
        Stage::ResponseStarted => Told::Nothing,
        Stage::ResponseComplete | Stage::Panic => Told::Ended(key_of(&asked)),
    })
}

#[cfg(test)]
mod tests {
    use ingest::{identity::DeploymentKey, journal::JournalOptions};

    use super::*;
    use crate::gateway::store::SqliteStore;

    struct Stage {
        folder: tempfile::TempDir,
        store: Arc<dyn Store>,
        digests: ValueDigests,
    }

    impl Stage {
        async fn set() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store =
                SqliteStore::open(&folder.path().join("cluster.sqlite"), Clock::system()).await.unwrap();
            let digests = ValueDigests::new(&DeploymentKey::from_bytes([7; 32]));
            Self { folder, store: Arc::new(store), digests }
        }

        fn journal(&self) -> Journal {
            let options = JournalOptions::new("a", Clock::system());
            Journal::open(&self.folder.path().join("journal"), options).unwrap().0
        }

        /// What a start finds and tells.
        async fn start(&self) -> Vec<Unfinished> {
            let journal = self.journal();
            let (pin, store) = (journal.pin_start(), self.store.clone());
            let (digests, clock) = (self.digests.clone(), Clock::system());
            Recovery { journal: journal.clone(), pin, store, digests, clock }
                .run(&CancellationToken::new())
                .await;
            let (mut told, mut at) = (Vec::new(), Offset(0));
            loop {
                let entries = journal.read(at, 1_000).await.unwrap();
                let Some(last) = entries.last() else { break told };
                at = Offset(last.offset.0 + 1);
                let records = entries.into_iter().map(|entry| entry.record.unwrap());
                let own = records.filter(|record| record.envelope.boot == journal.boot());
                told.extend(own.filter_map(|record| match Fact::read(&record.event) {
                    Some(Fact::Unfinished { unfinished }) => Some(unfinished),
                    _ => None,
                }));
            }
        }
    }

    fn asked(audit_id: &str) -> Asked {
        Asked {
            audit_id: audit_id.into(),
            received: Timestamp::from_micros(5),
            user: "alice".into(),
            verb: "update".into(),
            path: "/api/v1/namespaces/shop/configmaps/a".into(),
        }
    }

    /// The text of a change of the key `a`.
    fn change(stage: &Stage, from: Revision, value: Option<&str>) -> String {
        let digest = value.map(|value| stage.digests.of(value.as_bytes()));
        Change { key: "a".into(), from, digest }.to_string()
    }

    /// What became of each change, and at which revision.
    type Became = Vec<(Fate, Option<u64>)>;

    fn fates(told: &[Unfinished]) -> Vec<(&str, Became)> {
        let of = |died: &Unfinished| died.changes.iter().map(|c| (c.fate, c.revision)).collect();
        told.iter().map(|died| (died.request.audit_id.as_str(), of(died))).collect()
    }

    #[tokio::test]
    async fn what_died_is_told_once_with_what_became_of_it() {
        let stage = Stage::set().await;
        let journal = stage.journal();
        let begin = async |id: &str, change: String| {
            let fact = Fact::Intent { request: asked(id), change };
            journal.append(vec![fact.draft(&Clock::system())]).await.unwrap();
        };
        begin("made", change(&stage, Revision(0), Some("1"))).await;
        let made = stage.store.create("a", "1".into(), None).await.unwrap();
        // Two tries of one request: somebody else was faster than the first.
        begin("changed", change(&stage, made, Some("2"))).await;
        begin("changed", change(&stage, Revision(made.0 + 1), Some("3"))).await;
        let others = stage.store.update("a", "other".into(), made, None).await.unwrap();
        let changed = stage.store.update("a", "3".into(), others, None).await.unwrap();
        begin("deleted", change(&stage, changed, None)).await;
        let deleted = stage.store.delete("a", changed).await.unwrap();
        begin("ended", change(&stage, deleted, Some("4"))).await;
        let ended = Fact::Outcome { request: asked("ended"), code: 409 };
        journal.append(vec![ended.draft(&Clock::system())]).await.unwrap();
        journal.close().await;
        drop(journal);

        let told = stage.start().await;
        let stored = |at: Revision| (Fate::Stored, Some(at.0));
        let expected = [
            ("changed", vec![(Fate::NotStored, None), stored(changed)]),
            ("deleted", vec![stored(deleted)]),
            ("made", vec![stored(made)]),
        ];
        assert_eq!(fates(&told), expected);
        assert_eq!((&*told[0].source, told[0].request.user.as_str()), ("a", "alice"));
        assert_eq!(stage.start().await, [], "it was told");
    }

    #[tokio::test]
    async fn what_the_store_has_forgotten_is_unknown() {
        let stage = Stage::set().await;
        let journal = stage.journal();
        let intent = Fact::Intent { request: asked("x"), change: change(&stage, Revision(0), Some("1")) };
        journal.append(vec![intent.draft(&Clock::system())]).await.unwrap();
        journal.close().await;
        drop(journal);
        let mut at = stage.store.create("a", "1".into(), None).await.unwrap();
        for value in ["2", "3"] {
            at = stage.store.update("a", value.into(), at, None).await.unwrap();
        }
        stage.store.compact(at).await.unwrap();
        assert_eq!(fates(&stage.start().await), [("x", vec![(Fate::Unknown, None)])]);
    }
}
