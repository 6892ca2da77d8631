//! Brings what the gateway records to one output, in order and at least once.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Bounds, DeliveryError, Output, position::Position};
use crate::{
    event::EventView,
    failing::{Failing, Tries},
    journal::{AppendError, Entry, Journal, Keeper, ReadError},
    lag,
    log::Offset,
    metrics,
    pipeline::Fact,
    record::{Kind, Record},
    retry::{Backoff, Stopped, retry},
    sealed::{Open, may_be_sealed},
    time::Clock,
};

/// Records that are read together.
const BATCH: usize = 1000;

/// How long events gather at the journal's end, so that they share a delivery, its sync and that of the position.
const GATHER: Duration = Duration::from_millis(100);

/// How often the position is kept while there is nothing for the output.
const KEEP: Duration = Duration::from_secs(1);

/// Waits between tries while the output takes nothing.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));

/// Tries of an event that is refused alone. kube-apiserver gives its webhook as many.
const REFUSALS: u8 = 5;

/// How long what is left may take at a stop. The rest is delivered after the next start.
const DRAIN: Duration = Duration::from_secs(5);

/// How soon it is noticed that the journal no longer has what the output is to get, and how long until more is told.
const NOTICE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What a feed reads, and how.
#[derive(Clone, Debug)]
pub struct FeedOptions {
    /// The output's name in records, metrics and messages.
    pub name: &'static str,
    /// The gateway's own cluster, whose events it gets.
    pub cluster: Arc<str>,
    /// Bytes that the journal may hold for the output.
    pub max_bytes: u64,
    /// What opens sealed bodies: outputs get them as their readers read them.
    pub open: Option<Arc<dyn Open>>,
    /// What the time is.
    pub clock: Clock,
}

/// Why a feed stopped by itself.
#[derive(Debug, thiserror::Error)]
#[error("the output {name} cannot read the journal")]
pub struct FeedError {
    name: &'static str,
    #[source]
    source: ReadError,
}

/// Feeds one output.
pub struct Feed {
    options: FeedOptions,
    output: Box<dyn Output>,
    journal: Journal,
    keeper: Arc<Keeper>,
    position: Position,
    next: watch::Sender<Offset>,
    kept: Instant,
    /// Up to where it is recorded already that the output does not get what was there.
    told: AtomicU64,
    tries: Tries,
}

/// An event for the output.
struct Picked {
    offset: Offset,
    event: Bytes,
}

/// What of some entries the output has.
struct Handed {
    /// How many of them are done with.
    entries: usize,
    /// Whether there was anything for the output.
    had_events: bool,
}

/// Whether what fails is tried again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    Endless,
    None,
}

impl Feed {
    /// Goes on where `file` says, with what is journaled from now on where there is no such file. From here on the
    /// journal keeps what the output has not got.
    ///
    /// Call it where blocking is allowed, and before anything is released from the journal.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(
        options: FeedOptions,
        output: Box<dyn Output>,
        journal: Journal,
        file: &Path,
    ) -> io::Result<Self> {
        let (position, next) = Position::open(file, journal.bounds())?;
        Ok(Self {
            keeper: Arc::new(journal.keeper(next, options.max_bytes)),
            options,
            output,
            journal,
            position,
            next: watch::Sender::new(next),
            kept: Instant::now(),
            told: AtomicU64::new(0),
            tries: Tries::new(),
        })
    }

    /// Follows whether the output takes what it is given; nothing while it does.
    pub fn failing(&self) -> watch::Receiver<Option<Failing>> {
        self.tries.follow()
    }

    /// Feeds until `cancel` is cancelled, then what was journaled until then when the output takes it at once.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn run(self, cancel: CancellationToken) -> Result<(), FeedError> {
        let (name, next) = (self.options.name, self.next.subscribe());
        let tell = |lag| metrics::output_lag(name, lag);
        let lag = lag::of_journal(self.journal.clone(), || *next.borrow(), tell);
        tokio::select! {
            ended = self.feed(cancel) => ended,
            never = lag => match never {},
        }
    }

    async fn feed(mut self, cancel: CancellationToken) -> Result<(), FeedError> {
        let mut appended = self.journal.changed();
        while !cancel.is_cancelled() {
            let (next, end) = (self.next(), *appended.borrow_and_update());
            if next < end {
                self.step(end, &cancel, Patience::Endless).await?;
            }
            if self.next() >= end {
                let news = async {
                    // A journal that has ended has no news; then the process is about to.
                    let _ = appended.wait_for(|end| *end > self.next()).await;
                    tokio::time::sleep(GATHER).await;
                };
                cancel.run_until_cancelled(news).await;
            }
        }
        match tokio::time::timeout(DRAIN, self.drain()).await {
            Ok(drained) => drained,
            Err(_) => {
                let output = self.options.name;
                warn!(output, "the output did not take the rest in time; it will after the next start");
                Ok(())
            }
        }
    }

    /// Delivers what the journal has now, unless the output fails.
    async fn drain(&mut self) -> Result<(), FeedError> {
        let (end, never) = (self.journal.bounds().end, CancellationToken::new());
        while self.next() < end && self.tries.follow().borrow().is_none() {
            self.step(end, &never, Patience::None).await?;
        }
        self.keep().await;
        Ok(())
    }

    fn next(&self) -> Offset {
        *self.next.borrow()
    }

    /// Delivers the next batch of what stands before `end`.
    async fn step(
        &mut self,
        end: Offset,
        cancel: &CancellationToken,
        patience: Patience,
    ) -> Result<(), FeedError> {
        let from = self.next();
        let entries = match self.journal.read(from, BATCH).await {
            Ok(entries) => entries,
            Err(ReadError::Released { first }) => {
                if self.tell_gap(from, first, cancel).await {
                    self.advance(first, true).await;
                }
                return Ok(());
            }
            Err(source) => return Err(FeedError { name: self.options.name, source }),
        };
        let Some(last) = entries.last().map(|entry| entry.offset) else {
            self.advance(end, false).await;
            return Ok(());
        };
        let mut rest = &entries[..];
        while !rest.is_empty() {
            let handed = tokio::select! {
                handed = self.hand_over(rest, cancel, patience) => handed,
                never = self.notice_gaps(Offset(last.0 + 1), cancel) => match never {},
            };
            let Some(Handed { entries, had_events }) = handed else { return Ok(()) };
            let (done, left) = rest.split_at(entries);
            if let Some(last) = done.last() {
                self.advance(Offset(last.offset.0 + 1), had_events).await;
            }
            rest = left;
        }
        Ok(())
    }

    /// Opens and delivers what the first of these entries have for the output: as many as it takes at once when they are
    /// open, for bodies may be much larger then. Nothing when it did not take them.
    async fn hand_over(
        &self,
        entries: &[Entry],
        cancel: &CancellationToken,
        patience: Patience,
    ) -> Option<Handed> {
        let (mut events, mut bytes, mut done) = (Vec::new(), 0, entries.len());
        for (at, entry) in entries.iter().enumerate() {
            let Some(record) = self.pick(entry) else { continue };
            let event = self.opened(record, cancel, patience).await?;
            bytes += event.len();
            if bytes > self.output.bounds().bytes && !events.is_empty() {
                done = at;
                break;
            }
            events.push(Picked { offset: entry.offset, event });
        }
        let is_delivered = self.deliver(&events, cancel, patience).await;
        is_delivered.then_some(Handed { entries: done, had_events: !events.is_empty() })
    }

    /// The record of an entry when it is one that the gateway made itself. What somebody sent in for a cluster of the
    /// same name is not: an output that leads back here would never come to an end.
    fn pick<'e>(&self, entry: &'e Entry) -> Option<&'e Record> {
        let record = entry.record.as_ref().ok()?;
        let is_own = record.envelope.kind == Kind::Audit
            && record.envelope.cluster == self.options.cluster
            && record.envelope.id.is_own();
        let is_event = || {
            let view = EventView::parse(&record.event).ok();
            view.is_some_and(|view| view.kind().as_deref() == Some("Event"))
        };
        (is_own && is_event()).then_some(record)
    }

    /// The event with its bodies open, unless their key was dropped; waits until the key can be had. Nothing when that
    /// was not waited for.
    async fn opened(&self, record: &Record, cancel: &CancellationToken, patience: Patience) -> Option<Bytes> {
        let Some(open) = self.options.open.as_ref().filter(|_| may_be_sealed(&record.event)) else {
            return Some(record.event.clone());
        };
        let prepare = || async {
            let prepared = open.prepare(std::slice::from_ref(record)).await;
            prepared.map_err(|error| DeliveryError::Unavailable(error.into()))
        };
        let passing = |_: &DeliveryError| patience == Patience::Endless;
        let attempt = || self.tries.note(prepare());
        retry(self.options.name, BACKOFF, cancel, passing, attempt).await.ok()?;
        Some(open.open(record).unwrap_or_else(|| record.event.clone()))
    }

    /// Whether the output has all of the events, or it is recorded which of them it refuses.
    async fn deliver(&self, events: &[Picked], cancel: &CancellationToken, patience: Patience) -> bool {
        let name = self.options.name;
        let mut refused: Vec<(Offset, String)> = Vec::new();
        let mut parts: Vec<&[Picked]> = parts(events, self.output.bounds());
        parts.reverse();
        while let Some(part) = parts.pop() {
            match self.give(part, cancel, patience).await {
                Ok(()) => metrics::output_events(name, part.len()),
                Err(Stopped::Permanent(DeliveryError::Refused(_))) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                // One try says nothing of an event: it is given again after the next start.
                Err(Stopped::Permanent(DeliveryError::Refused(reason))) if patience == Patience::Endless => {
                    refused.extend(part.iter().map(|picked| (picked.offset, reason.clone())));
                }
                Err(_) => return false,
            }
        }
        let (Some((first, reason)), Some((last, _))) = (refused.first(), refused.last()) else { return true };
        metrics::output_refused(name, refused.len());
        let reason = format!("refused {} events: {reason}", refused.len());
        self.tell(*first, *last, reason, cancel).await
    }

    /// Gives events for as long as that may help.
    async fn give(
        &self,
        part: &[Picked],
        cancel: &CancellationToken,
        patience: Patience,
    ) -> Result<(), Stopped<DeliveryError>> {
        let events: Vec<Bytes> = part.iter().map(|picked| picked.event.clone()).collect();
        let refusals = AtomicU8::new(0);
        let passing = |error: &DeliveryError| {
            metrics::output_failed(self.options.name);
            let may_help = match error {
                DeliveryError::Unavailable(_) => true,
                DeliveryError::Refused(_) => {
                    part.len() == 1 && refusals.fetch_add(1, Ordering::Relaxed) + 1 < REFUSALS
                }
            };
            may_help && patience == Patience::Endless
        };
        let attempt = || self.tries.note(self.output.deliver(&events));
        retry(self.options.name, BACKOFF, cancel, passing, attempt).await
    }

    /// Records what the output cannot get any more while it takes nothing, so that this is known before it does.
    async fn notice_gaps(&self, next: Offset, cancel: &CancellationToken) -> std::convert::Infallible {
        let mut look = NOTICE.0;
        loop {
            tokio::time::sleep(look).await;
            let first = self.journal.bounds().start;
            if first > self.untold(next) && self.tell_gap(next, first, cancel).await {
                look = NOTICE.1;
            }
        }
    }

    /// Where what is missing and not recorded yet begins, when it begins at `from`.
    fn untold(&self, from: Offset) -> Offset {
        from.max(Offset(self.told.load(Ordering::Relaxed)))
    }

    /// Records that the output does not get what stood from `from` to `first`, unless it is recorded already.
    async fn tell_gap(&self, from: Offset, first: Offset, cancel: &CancellationToken) -> bool {
        let from = self.untold(from);
        if from >= first {
            return true;
        }
        metrics::output_gap(self.options.name);
        let reason = "the journal could not keep it any longer".to_owned();
        let is_told = self.tell(from, Offset(first.0 - 1), reason, cancel).await;
        if is_told {
            self.told.store(first.0, Ordering::Relaxed);
        }
        is_told
    }

    /// Records that the output passes over a range; whether that is durable.
    async fn tell(&self, first: Offset, last: Offset, reason: String, cancel: &CancellationToken) -> bool {
        let (first, last, output) = (first.0, last.0, self.options.name.to_owned());
        let fact = Fact::OutputGap { output, first, last, reason };
        warn!("{fact}");
        let draft = fact.draft(&self.options.clock);
        let append = || self.journal.append(vec![draft.clone()]);
        let passing = |error: &AppendError| *error != AppendError::Ended;
        retry("the record of an output's gap", BACKOFF, cancel, passing, append).await.is_ok()
    }

    /// Goes on at `next`. Where nothing was delivered, the position is kept once in a while only.
    async fn advance(&mut self, next: Offset, is_kept: bool) {
        self.next.send_replace(next);
        if is_kept || self.kept.elapsed() >= KEEP {
            self.keep().await;
        }
    }

    /// Makes the position durable, and lets the journal forget what lies before it.
    async fn keep(&mut self) {
        let (position, keeper, next) = (self.position.clone(), self.keeper.clone(), self.next());
        let keep = move || position.set(next).map(|()| keeper.passed(next));
        match tokio::task::spawn_blocking(keep).await.map_err(io::Error::other).flatten() {
            Ok(()) => self.kept = Instant::now(),
            // After a crash the output gets again what it had since; the next batch tries again.
            Err(error) => warn!(%error, output = self.options.name, "the output's position is not kept"),
        }
    }
}

/// Parts that an output takes at once.
fn parts(mut events: &[Picked], bounds: Bounds) -> Vec<&[Picked]> {
    let mut parts = Vec::new();
    while !events.is_empty() {
        let mut bytes = 0;
        let fits = |picked: &&Picked| {
            // With its line end or comma.
            bytes += picked.event.len() + 1;
            bytes <= bounds.bytes
        };
        let count = events.iter().take(bounds.events).take_while(fits).count().max(1);
        let (part, rest) = events.split_at(count);
        parts.push(part);
        events = rest;
    }
    parts
}

#[cfg(test)]
mod tests;
