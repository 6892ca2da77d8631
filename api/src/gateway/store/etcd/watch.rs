//! Watches of etcd, which go on after an outage where they were.

use std::{ops::Range, time::Duration};

use bytes::Bytes;
use etcd_client::{Event, EventType, WatchOptions, WatchResponse, WatchStream};
use ingest::retry::{Backoff, Trouble};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_stream::wrappers::ReceiverStream;

use super::{Etcd, Fault};
use crate::gateway::store::{Batch, Change, ChangeKind, Revision, Watch, WatchError};

/// Answers of etcd that wait for the watch's reader.
const QUEUE: usize = 64;

/// How long the queue may be full. A reader that takes longer would hold the connection up for everybody.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often etcd is asked how far a watch has come.
const PROGRESS: Duration = Duration::from_secs(5);

/// The first wait before a watch is begun again, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// How long asking for [`Etcd::oldest`] may take.
const OLDEST: Duration = Duration::from_secs(2);

/// A deletion, as events name it.
const DELETION: i32 = EventType::Delete as i32;

/// The changes of all keys that start with a prefix.
pub(super) fn watch(etcd: &Etcd, prefix: &str, after: Revision) -> Watch {
    spawn(etcd, etcd.path(prefix)..etcd.end_of_range(prefix), after)
}

/// The changes of one key.
pub(super) fn watch_key(etcd: &Etcd, key: &str, after: Revision) -> Watch {
    let path = etcd.path(key);
    let end = [path.as_slice(), b"\0"].concat();
    spawn(etcd, path..end, after)
}

fn spawn(etcd: &Etcd, range: Range<Vec<u8>>, after: Revision) -> Watch {
    let (queue, changes) = mpsc::channel(QUEUE);
    let place = Place { reached: after, held: Vec::new() };
    // It ends with the reader: without one nothing can be put into the queue.
    tokio::spawn(Watcher { etcd: etcd.clone(), range, place, queue }.run());
    Watch::new(ReceiverStream::new(changes))
}

struct Watcher {
    etcd: Etcd,
    range: Range<Vec<u8>>,
    place: Place,
    queue: mpsc::Sender<Result<Batch, WatchError>>,
}

/// How far a watch has come.
#[derive(Debug)]
struct Place {
    /// Everything up to here was given out.
    reached: Revision,
    /// Changes of a revision that etcd sends in several answers, until it is whole. Keys that end with one lease do.
    held: Vec<Change>,
}

impl Place {
    /// A stream that is begun anew sends a whole revision again.
    fn begin(&mut self) -> Revision {
        self.held.clear();
        self.reached.next()
    }

    /// What an answer adds: its changes, as far as their revisions are whole. `more` says that the last one goes on in
    /// the next answer.
    fn add(&mut self, changes: Vec<Change>, more: bool) -> Option<Batch> {
        let mut whole = std::mem::take(&mut self.held);
        whole.extend(changes.into_iter().filter(|change| change.revision > self.reached));
        let last = whole.last()?.revision;
        if more {
            let cut = whole.partition_point(|change| change.revision < last);
            self.held = whole.split_off(cut);
        }
        let reached = whole.last()?.revision;
        self.reached = reached;
        Some(Batch { changes: whole, reached })
    }

    /// etcd says that nothing is missing up to a revision.
    fn mark(&mut self, reached: Revision) -> Option<Batch> {
        if reached <= self.reached || !self.held.is_empty() {
            return None;
        }
        self.reached = reached;
        Some(Batch { changes: Vec::new(), reached })
    }
}

/// Why one stream of etcd came to its end.
enum End {
    /// The watch is over.
    Over(WatchError),
    /// Nobody reads any more.
    Left,
    /// The stream broke.
    Broken(Fault),
}

impl Watcher {
    async fn run(mut self) {
        let mut backoff = Backoff::new(WAITS.0, WAITS.1);
        let mut trouble = Trouble::new("a watch of etcd");
        loop {
            let before = self.place.reached;
            let queue = self.queue.clone();
            let end = tokio::select! {
                () = queue.closed() => return,
                end = self.follow() => end,
            };
            match end {
                End::Left => return,
                End::Over(error) => return self.tell(error).await,
                End::Broken(Fault::Refused(cause)) => {
                    return self.tell(WatchError::Store(Fault::Refused(cause).undone())).await;
                }
                End::Broken(fault) => trouble.failed(&fault.undone()),
            }
            if self.place.reached > before {
                backoff.reset();
            }
            tokio::select! {
                () = self.queue.closed() => return,
                () = tokio::time::sleep(backoff.wait()) => {}
            }
        }
    }

    /// Says why the watch is over, behind all that was given out: a reader that comes back is told, however late it is.
    async fn tell(&self, error: WatchError) {
        // An error means that nobody reads any more.
        let _ = self.queue.send(Err(error)).await;
    }

    /// One stream, until it ends.
    async fn follow(&mut self) -> End {
        let mut stream = match self.open().await {
            Ok(stream) => stream,
            Err(fault) => return End::Broken(fault),
        };
        let mut ask = interval(PROGRESS);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ask.reset();
        loop {
            let answer = tokio::select! {
                answer = stream.message() => answer,
                _ = ask.tick(), if self.etcd.progress => {
                    // A stream that cannot be asked ends with an error of its own.
                    let _ = stream.request_progress().await;
                    continue;
                }
            };
            let answer = match answer {
                Ok(Some(answer)) => answer,
                Ok(None) => return End::Broken(Fault::silent()),
                Err(error) => return End::Broken(error.into()),
            };
            if let Some(end) = self.take(answer).await {
                return end;
            }
        }
    }

    async fn open(&mut self) -> Result<WatchStream, Fault> {
        let start = self.place.begin();
        let options = WatchOptions::new()
            .with_range(self.range.end.clone())
            .with_start_revision(start.signed())
            .with_prev_key()
            .with_progress_notify()
            .with_fragment();
        let mut client = self.etcd.calls.watcher();
        let opened = timeout(self.etcd.calls.limit(), client.watch(self.range.start.clone(), Some(options)));
        Ok(opened.await.map_err(|_| Fault::silent())??)
    }

    async fn take(&mut self, mut answer: WatchResponse) -> Option<End> {
        if answer.canceled() {
            return Some(cancelled(&answer));
        }
        let batch = if answer.0.events.is_empty() {
            let now = Revision::of(answer.header().map_or(0, etcd_client::ResponseHeader::revision));
            // The answer to the watch's creation says where etcd is, not how far it has sent.
            (!answer.created()).then(|| self.place.mark(now)).flatten()
        } else {
            let events = std::mem::take(&mut answer.0.events).into_iter();
            let mut changes: Vec<_> = events.filter_map(|event| self.change(Event(event))).collect();
            if let Err(fault) = self.complete(&mut changes).await {
                return Some(End::Broken(fault));
            }
            self.place.add(changes, answer.0.fragment)
        };
        self.give(batch?).await
    }

    fn change(&self, event: Event) -> Option<Change> {
        let now = event.0.kv?;
        let revision = Revision::of(now.mod_revision);
        let previous = event.0.prev_kv.map(|before| Bytes::from(before.value));
        let (kind, value) = match event.0.r#type {
            DELETION => (ChangeKind::Deleted, None),
            _ if now.create_revision == now.mod_revision => (ChangeKind::Created, Some(now.value.into())),
            _ => (ChangeKind::Modified, Some(now.value.into())),
        };
        Some(Change { key: self.etcd.key(&now.key), revision, kind, value, previous })
    }

    /// Reads the values before, where an answer lacks them. etcd looks them up while it sends, and says nothing when
    /// that failed: 3.4 does now and then under load. A value that it has compacted stays unknown.
    async fn complete(&self, changes: &mut [Change]) -> Result<(), Fault> {
        let lacking = |change: &&mut Change| change.kind != ChangeKind::Created && change.previous.is_none();
        for change in changes.iter_mut().filter(lacking) {
            let before = Revision(change.revision.0 - 1);
            change.previous = match self.etcd.get(&change.key, Some(before)).await {
                Ok(read) => read.value.map(|before| before.value),
                Err(Fault::Compacted) => None,
                Err(fault) => return Err(fault),
            };
        }
        Ok(())
    }

    async fn give(&self, batch: Batch) -> Option<End> {
        match timeout(PATIENCE, self.queue.send(Ok(batch))).await {
            Ok(Ok(())) => None,
            Ok(Err(_)) => Some(End::Left),
            Err(_) => Some(End::Over(WatchError::Behind)),
        }
    }
}

fn cancelled(answer: &WatchResponse) -> End {
    let reason = answer.cancel_reason();
    match answer.compact_revision() {
        oldest @ 1.. => End::Over(WatchError::Compacted { oldest: Revision::of(oldest) }),
        _ if reason.contains("permission denied") => End::Broken(Fault::Refused(reason.into())),
        _ => End::Broken(Fault::NotDone(format!("etcd ended the watch: {reason}").into())),
    }
}

impl Etcd {
    /// The oldest revision that can be read, once etcd was compacted: a watch from the beginning is told.
    pub(super) async fn oldest(&self) -> Option<Revision> {
        let options = WatchOptions::new().with_start_revision(1);
        let mut client = self.calls.watcher();
        let ask = async {
            let mut stream = client.watch(self.path(super::HEALTH), Some(options)).await.ok()?;
            loop {
                let answer = stream.message().await.ok()??;
                if answer.compact_revision() > 0 {
                    return Some(Revision::of(answer.compact_revision()));
                }
            }
        };
        timeout(OLDEST, ask).await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(revision: u64, key: &str) -> Change {
        Change {
            key: key.into(),
            revision: Revision(revision),
            kind: ChangeKind::Deleted,
            value: None,
            previous: None,
        }
    }

    fn keys(batch: Option<Batch>) -> (Vec<String>, u64) {
        let batch = batch.unwrap();
        (batch.changes.iter().map(|change| change.key.to_string()).collect(), batch.reached.0)
    }

    #[test]
    fn a_revision_in_several_answers_is_given_out_once_it_is_whole() {
        let mut place = Place { reached: Revision(4), held: Vec::new() };
        let batch = place.add(vec![change(5, "a"), change(6, "b"), change(6, "c")], true);
        assert_eq!(keys(batch), (vec!["a".into()], 5));
        assert_eq!(place.mark(Revision(9)), None, "not before the rest is there");
        assert_eq!(place.add(vec![change(6, "d")], true), None);
        assert_eq!(keys(place.add(vec![change(6, "e"), change(7, "f")], false)).0, ["b", "c", "d", "e", "f"]);
        assert_eq!(keys(place.mark(Revision(9))), (vec![], 9));
    }

    #[test]
    fn a_stream_that_broke_within_a_revision_is_begun_at_it() {
        let mut place = Place { reached: Revision(4), held: Vec::new() };
        place.add(vec![change(5, "a"), change(6, "b")], true).unwrap();
        assert_eq!(place.begin(), Revision(6));
        assert_eq!(keys(place.add(vec![change(6, "b"), change(6, "c")], false)).0, ["b", "c"]);
    }
}
