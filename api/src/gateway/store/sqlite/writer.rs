//! The one writer: it gathers the writes that wait, decides each, and syncs them together.

use bytes::Bytes;
use ingest::time::Timestamp;
use sqlx::{ConnectOptions, Connection, Error, SqliteConnection, sqlite::SqliteConnectOptions};
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Commit, Feed, read, trouble::Failed};
use crate::gateway::store::{Change, ChangeKind, Read, Revision, StoreError, WriteError};

/// Writes of one transaction. A sync costs as much as some ten writes: this many share it without a long wait.
const GROUP: usize = 128;

/// Bytes of values in one transaction, and in one commit that watches are told of. A larger value goes alone.
const GROUP_BYTES: usize = 4 * 1024 * 1024;

/// Commits that are kept for watches that are not there yet; a watch that misses one reads the file.
const COMMITS: usize = 64;

/// Revisions that one step of a removal looks at, so that writes get their turn between the steps.
const REMOVED_AT_ONCE: u64 = 1000;

/// What the writer is asked to do.
pub(super) enum Job {
    Write(Write),
    Compact {
        revision: Revision,
        answer: oneshot::Sender<Result<(), StoreError>>,
    },
    /// A statement of a test, on the writer's own connection.
    #[cfg(test)]
    Run {
        statement: &'static str,
        answer: oneshot::Sender<()>,
    },
}

/// One write: a value, or a deletion; of a key that is absent, or that is at a revision.
pub(super) struct Write {
    pub(super) key: String,
    pub(super) put: Option<Put>,
    pub(super) expected: Option<Revision>,
    pub(super) answer: oneshot::Sender<Result<Revision, WriteError>>,
}

pub(super) struct Put {
    pub(super) value: Bytes,
    pub(super) expires: Option<Timestamp>,
}

impl Write {
    fn bytes(&self) -> usize {
        self.put.as_ref().map_or(0, |put| put.value.len())
    }

    fn expects(&self, read: &Read) -> bool {
        read.value.as_ref().map(|value| value.modified) == self.expected
    }
}

pub(super) struct Writer {
    options: SqliteConnectOptions,
    /// None after a failure: SQLite may have ended the transaction by itself, which a connection here cannot tell.
    connection: Option<SqliteConnection>,
    written: Revision,
    commits: broadcast::Sender<Arc<Commit>>,
    told: watch::Sender<Revision>,
    /// Whether rows may wait to be removed.
    removing: bool,
}

/// What a transaction did.
#[derive(Default)]
struct Done {
    /// The outcome of each write.
    outcomes: Vec<Result<Revision, WriteError>>,
    changes: Vec<Change>,
}

/// Where a transaction failed.
enum Broken {
    Before(Error),
    /// On the way to the disk, having given numbers up to this one.
    Committing(Error, Done),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Before(error)
    }
}

impl Writer {
    pub(super) fn new(
        connection: SqliteConnection,
        options: SqliteConnectOptions,
        written: Revision,
    ) -> (Self, Feed) {
        let (told, heard) = watch::channel(written);
        let commits = broadcast::Sender::new(COMMITS);
        let feed = Feed { commits: commits.downgrade(), written: heard };
        (Self { options, connection: Some(connection), written, commits, told, removing: true }, feed)
    }

    /// Works until it is cancelled or nobody can ask any more. What it has taken is finished.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Job>, running: CancellationToken) {
        let mut jobs = Vec::with_capacity(GROUP);
        loop {
            let removing = self.removing;
            let taken = tokio::select! {
                biased;
                () = running.cancelled() => break,
                taken = queue.recv_many(&mut jobs, GROUP) => taken,
                () = std::future::ready(()), if removing => usize::MAX,
            };
            if taken == 0 {
                break;
            }
            self.work(&mut jobs).await;
            if self.removing {
                self.remove_some().await;
            }
        }
        if let Some(connection) = self.connection.take() {
            let _ = connection.close().await;
        }
    }

    async fn work(&mut self, jobs: &mut Vec<Job>) {
        let (mut group, mut bytes) = (Vec::new(), 0);
        for job in jobs.drain(..) {
            match job {
                Job::Write(write) => {
                    if bytes + write.bytes() > GROUP_BYTES && !group.is_empty() {
                        self.write(std::mem::take(&mut group)).await;
                        bytes = 0;
                    }
                    bytes += write.bytes();
                    group.push(write);
                }
                Job::Compact { revision, answer } => {
                    self.write(std::mem::take(&mut group)).await;
                    bytes = 0;
                    let _ = answer.send(self.compact(revision).await);
                }
                #[cfg(test)]
                Job::Run { statement, answer } => {
                    let connection = self.connection.as_mut().unwrap();
                    sqlx::query(statement).execute(connection).await.unwrap();
                    let _ = answer.send(());
                }
            }
        }
        self.write(group).await;
    }

    async fn write(&mut self, group: Vec<Write>) {
        if group.is_empty() {
            return;
        }
        match self.transact(&group).await {
            Ok(done) => self.publish(group, done),
            Err(Broken::Before(error)) => self.refuse(group, error),
            Err(Broken::Committing(error, done)) => self.settle(group, error, done).await,
        }
    }

    async fn transact(&mut self, group: &[Write]) -> Result<Done, Broken> {
        let mut written = self.connected().await?;
        let connection = self.connection.as_mut().ok_or(Error::WorkerCrashed)?;
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
        let mut done = Done::default();
        for write in group {
            let mut read = read::get_row(&mut tx, &write.key).await?;
            read.revision = written;
            if write.expects(&read) {
                written = written.next();
                done.changes.push(insert(&mut tx, write, read, written).await?);
                done.outcomes.push(Ok(written));
            } else {
                done.outcomes.push(Err(WriteError::Conflict(read)));
            }
        }
        if done.changes.is_empty() {
            return Ok(done);
        }
        sqlx::query("UPDATE reached SET written = ?").bind(written.signed()).execute(&mut *tx).await?;
        match tx.commit().await {
            Ok(()) => Ok(done),
            Err(error) => Err(Broken::Committing(error, done)),
        }
    }

    /// The last revision. After a failure the file is opened anew, and asked.
    async fn connected(&mut self) -> Result<Revision, Error> {
        if self.connection.is_none() {
            let mut connection = self.options.connect().await?;
            self.written = read::reached(&mut connection).await?.written;
            self.told.send_replace(self.written);
            self.connection = Some(connection);
        }
        Ok(self.written)
    }

    fn publish(&mut self, group: Vec<Write>, Done { outcomes, changes }: Done) {
        if let Some(last) = changes.last() {
            let (from, to) = (self.written, last.revision);
            self.written = to;
            // In this order: whoever subscribes between the two finds the commit in the file.
            self.told.send_replace(to);
            let _ = self.commits.send(Arc::new(Commit { from, changes, to }));
        }
        for (write, outcome) in group.into_iter().zip(outcomes) {
            let _ = write.answer.send(outcome);
        }
    }

    fn refuse(&mut self, group: Vec<Write>, error: Error) {
        self.connection = None;
        let failed = Failed::from(error);
        for write in group {
            let _ = write.answer.send(Err(failed.undone().into()));
        }
    }

    /// A commit that failed may still be on the disk: the file is opened anew, which says.
    async fn settle(&mut self, group: Vec<Write>, error: Error, done: Done) {
        let from = self.written;
        let last = done.changes.last().map_or(from, |change| change.revision);
        self.connection = None;
        match self.connected().await {
            Ok(written) if written >= last => {
                self.written = from;
                self.publish(group, done);
            }
            Ok(_) => self.refuse(group, error),
            Err(_) => {
                let failed = Failed::from(error);
                for write in group {
                    let _ = write.answer.send(Err(failed.unknown().into()));
                }
            }
        }
    }

    async fn compact(&mut self, revision: Revision) -> Result<(), StoreError> {
        let current = self.connected().await?;
        if revision > current {
            return Err(StoreError::Future { current });
        }
        let connection = self.connection.as_mut().ok_or(Error::WorkerCrashed)?;
        // First the word, then the deed: no reader finds a state of which a part is gone.
        let marked = sqlx::query("UPDATE reached SET compacted = max(compacted, ?)")
            .bind(revision.signed())
            .execute(connection)
            .await;
        if let Err(error) = marked {
            self.connection = None;
            return Err(error.into());
        }
        self.removing = true;
        Ok(())
    }

    /// One step of removing the rows that compaction has given up.
    async fn remove_some(&mut self) {
        match self.try_remove_some().await {
            Ok(more) => self.removing = more,
            Err(error) => {
                // The next compaction goes on where this one stopped.
                warn!(error = %error, "the cluster store could not remove old revisions");
                self.removing = false;
                self.connection = None;
            }
        }
    }

    async fn try_remove_some(&mut self) -> Result<bool, Error> {
        self.connected().await?;
        let connection = self.connection.as_mut().ok_or(Error::WorkerCrashed)?;
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
        let reached = read::reached(&mut tx).await?;
        if reached.removed >= reached.compacted {
            return Ok(false);
        }
        let to = reached.compacted.min(Revision(reached.removed.0 + REMOVED_AT_ONCE));
        for statement in [
            "DELETE FROM revisions WHERE revision IN \
             (SELECT previous FROM revisions WHERE revision > ? AND revision <= ? AND previous IS NOT NULL)",
            "DELETE FROM revisions WHERE revision > ? AND revision <= ? AND value IS NULL",
        ] {
            let query = sqlx::query(statement).bind(reached.removed.signed()).bind(to.signed());
            query.execute(&mut *tx).await?;
        }
        sqlx::query("UPDATE reached SET removed = ?").bind(to.signed()).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(to < reached.compacted)
    }
}

async fn insert(
    tx: &mut SqliteConnection,
    write: &Write,
    before: Read,
    revision: Revision,
) -> Result<Change, Error> {
    let created = before.value.as_ref().map_or(revision, |value| value.created);
    let previous = before.value.as_ref().map(|value| value.modified.signed());
    let value = write.put.as_ref().map(|put| put.value.clone());
    sqlx::query(
        "INSERT INTO revisions (revision, key, created, previous, value, expires) VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(revision.signed())
    .bind(&write.key)
    .bind(created.signed())
    .bind(previous)
    .bind(value.as_deref())
    .bind(write.put.as_ref().and_then(|put| put.expires).map(Timestamp::micros))
    .execute(tx)
    .await?;
    let kind = match (&value, &before.value) {
        (None, _) => ChangeKind::Deleted,
        (_, None) => ChangeKind::Created,
        _ => ChangeKind::Modified,
    };
    let previous = before.value.map(|value| value.value);
    Ok(Change { key: write.key.as_str().into(), revision, kind, value, previous })
}
