//! The recorder: carries records from the log into the ledger.
//!
//! The ledger's positions are what counts. They move in the transaction that keeps the records before them, and only
//! from where this recorder expects them: a recorder that was stopped, killed or frozen at any point leaves neither a
//! hole nor a double, and one that lost its partition without knowing it is fenced and reads its positions anew.
//! While a batch is applied the next one is read. What cannot be read is set aside and what is lost is recorded as a
//! gap, before the position moves past it.

mod lag;
mod pending;
mod session;

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::session::Session;
use crate::{
    lag::Lag,
    ledger::{Ledger, LedgerError},
    log::{Log, LogError, Positions, Reader},
    pipeline::Fact,
    retry::Backoff,
    time::Clock,
};

/// The group that every recorder of an embedded deployment joins, unless the options name another.
pub const GROUP: &str = "muniment-recorder";

/// The group that every recorder of a topic joins. Deployments that share a Kafka have topics of their own, and members
/// of the same names: in one group they would fence each other.
pub fn group(topic: &str) -> String {
    format!("{topic}-recorder")
}

/// The first and the longest wait before a call to a log or ledger that is away is tried again. It comes back within
/// seconds after a restart, and a call each five seconds harms nobody.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How often within how long a recorder joins again that lost its place to its own name. A broker that restarts may take
/// a second join of the same process for another one; two processes under one name would go on for ever.
const FENCES: usize = 3;
const FENCE_WINDOW: Duration = Duration::from_secs(300);

/// What a recorder holds and how it joins.
#[derive(Clone, Debug)]
pub struct RecorderOptions {
    /// The group whose members share the partitions.
    pub group: String,
    /// The name of this member, the same at every start.
    pub member: String,
    /// A batch has at most so many records. Twice as many are held: one batch is applied while the next is read.
    pub max_records: usize,
    /// A batch that holds so many bytes of events is full. Records larger than this go through one at a time.
    pub max_bytes: usize,
    /// How long the first record of a batch waits for more while no batch is being applied.
    pub linger: Duration,
}

impl RecorderOptions {
    /// Options for a member of [`GROUP`]: batches of 4,096 records (the rate of a ledger grows little beyond) or 16 MiB
    /// (one event may be as large), after 20 ms.
    pub fn new(member: impl Into<String>) -> Self {
        Self {
            group: GROUP.to_owned(),
            member: member.into(),
            max_records: 4_096,
            max_bytes: 16 * 1024 * 1024,
            linger: Duration::from_millis(20),
        }
    }
}

/// Why a recorder ended.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// The ledger refuses what trying again does not mend.
    #[error("the recorder cannot write to the ledger")]
    Ledger(#[source] LedgerError),
    /// The log refuses what trying again does not mend.
    #[error("the recorder cannot read the log")]
    Log(#[source] LogError),
}

/// What a recorder is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It has not joined its group yet.
    #[default]
    Starting,
    /// It reads and applies, or waits for a log or ledger that is away.
    Running,
    /// It ended.
    Stopped,
}

/// How a recorder is doing; a [`watch`] gives the latest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// Why the log is away, while it is.
    pub log_away: Option<String>,
    /// Why the ledger is away, while it is.
    pub ledger_away: Option<String>,
    /// Up to where the ledger has the partitions that are this recorder's.
    pub positions: Positions,
    /// How far that is behind these partitions' ends. Measured every 2 s.
    pub lag: Lag,
}

/// Carries records from a log into a ledger.
pub struct Recorder {
    log: Arc<dyn Log>,
    ledger: Arc<dyn Ledger>,
    options: RecorderOptions,
    clock: Clock,
    status: Arc<watch::Sender<Status>>,
    facts: Option<mpsc::Sender<Fact>>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Recorder {
    /// A recorder that reads nothing yet.
    pub fn new(log: Arc<dyn Log>, ledger: Arc<dyn Ledger>, options: RecorderOptions, clock: Clock) -> Self {
        Self { log, ledger, options, clock, status: Arc::default(), facts: None }
    }

    /// Tells `facts` of each range of the log that is lost and of a log that was made anew, once the ledger has it.
    ///
    /// A recorder does not wait for room there, as the journal that facts go to may be full until records are
    /// recorded: what finds no room is logged and left out. The ledger has it all the same.
    #[must_use]
    pub fn telling(self, facts: mpsc::Sender<Fact>) -> Self {
        Self { facts: Some(facts), ..self }
    }

    fn tell(&self, fact: Fact) {
        if let Some(facts) = &self.facts
            && let Err(mpsc::error::TrySendError::Full(fact) | mpsc::error::TrySendError::Closed(fact)) =
                facts.try_send(fact)
        {
            tracing::warn!("in the ledger, but not told as a record: {fact}");
        }
    }

    /// How it is doing, now and later.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Reads and applies until `cancel`; a batch that is being applied then is finished first, unless the ledger is
    /// away. Waits for a log or ledger that is away for as long as it takes.
    ///
    /// # Errors
    /// When the log or the ledger refuses for good.
    pub async fn run(&self, cancel: CancellationToken) -> Result<(), RecorderError> {
        let outcome = tokio::select! {
            outcome = self.read_and_apply(&cancel) => outcome,
            () = lag::watch(&*self.log, &self.status) => Ok(()),
        };
        self.status.send_modify(|status| status.state = State::Stopped);
        match outcome {
            Ok(()) | Err(Ended::Cancelled) => Ok(()),
            Err(Ended::Failed(error)) => Err(error),
        }
    }

    async fn read_and_apply(&self, cancel: &CancellationToken) -> Result<(), Ended> {
        let mut fences = VecDeque::with_capacity(FENCES);
        loop {
            let ended = self.session(cancel).await;
            let Err(Ended::Failed(RecorderError::Log(LogError::Fenced))) = ended else { return ended };
            let now = Instant::now();
            fences.retain(|fence: &Instant| now.duration_since(*fence) < FENCE_WINDOW);
            if fences.len() == FENCES {
                return ended;
            }
            fences.push_back(now);
            tracing::warn!(
                member = self.options.member,
                "another reader took this member's place in the group: joining again"
            );
        }
    }

    /// From joining the group to the end of the subscription.
    async fn session(&self, cancel: &CancellationToken) -> Result<(), Ended> {
        let reader =
            Reader::Member { group: self.options.group.clone(), member: self.options.member.clone() };
        let log = self.patient(cancel);
        let subscription = log.until_done(|| self.log.subscribe(reader.clone())).await?;
        let id = log.until_done(|| self.log.id()).await?;
        self.status.send_modify(|status| status.state = State::Running);
        Session::new(self, cancel, subscription, id).run().await
    }

    /// Tries again what fails for a while.
    fn patient<'a>(&'a self, cancel: &'a CancellationToken) -> Patient<'a> {
        Patient { cancel, status: &self.status }
    }
}

/// Why a session ended.
enum Ended {
    Cancelled,
    Failed(RecorderError),
}

/// An error that says whether it passes by itself.
trait Passing: std::error::Error + Sized {
    fn passes(&self) -> bool;
    fn ended(self) -> Ended;
    /// Where the status says that what gives such errors is away.
    fn away(status: &mut Status) -> &mut Option<String>;
}

impl Passing for LogError {
    fn passes(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    fn ended(self) -> Ended {
        Ended::Failed(RecorderError::Log(self))
    }

    fn away(status: &mut Status) -> &mut Option<String> {
        &mut status.log_away
    }
}

impl Passing for LedgerError {
    fn passes(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    fn ended(self) -> Ended {
        Ended::Failed(RecorderError::Ledger(self))
    }

    fn away(status: &mut Status) -> &mut Option<String> {
        &mut status.ledger_away
    }
}

/// Tries again until it works, is cancelled, or fails for good; says meanwhile what it waits for.
#[derive(Clone, Copy)]
struct Patient<'a> {
    cancel: &'a CancellationToken,
    status: &'a watch::Sender<Status>,
}

impl Patient<'_> {
    /// Repeats `call` while its error passes.
    async fn until_done<T, E: Passing, F>(&self, call: impl Fn() -> F) -> Result<T, Ended>
    where
        F: Future<Output = Result<T, E>>,
    {
        self.until_settled(call).await?.map_err(E::ended)
    }

    /// Repeats `call` while its error passes; another error is the caller's to judge.
    async fn until_settled<T, E: Passing, F>(&self, call: impl Fn() -> F) -> Result<Result<T, E>, Ended>
    where
        F: Future<Output = Result<T, E>>,
    {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        loop {
            match call().await {
                Err(error) if error.passes() => self.pause(error, &mut backoff).await?,
                settled => {
                    self.is_there::<E>();
                    return Ok(settled);
                }
            }
        }
    }

    async fn pause<E: Passing>(&self, error: E, backoff: &mut Backoff) -> Result<(), Ended> {
        let wait = backoff.wait();
        let cause = causes(&error);
        drop(error);
        tracing::warn!(cause, ?wait, "recorder waits");
        self.status.send_modify(|status| *E::away(status) = Some(cause));
        tokio::select! {
            () = self.cancel.cancelled() => Err(Ended::Cancelled),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }

    fn is_there<E: Passing>(&self) {
        self.status.send_if_modified(|status| E::away(status).take().is_some());
    }
}

/// An error and what caused it, for the status.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
