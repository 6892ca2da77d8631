//! The cluster store of one machine: a SQLite file of its own, one row for each change.
//!
//! The file is in WAL mode with `synchronous = FULL`: a write that returned is on the disk. One task writes;
//! writes that arrive while it works share its next transaction, and so its next sync.

mod expiry;
mod history;
mod open;
mod read;
mod trouble;
mod writer;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use ingest::time::{Clock, Timestamp};
use sqlx::SqlitePool;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use open::OpenError;
use writer::{Job, Put, Write};

use super::{Change, List, Listing, MAX_VALUE_BYTES, Read, Revision, Store, StoreError, Watch, WriteError};

/// What stands before every key in what is encrypted, as in etcd: values keep their meaning when they move there.
const PREFIX: &str = "/registry";

/// Writes that wait for their transaction. It is more than the gateway's requests in flight, and each is a whole
/// value at most; beyond, callers wait.
const WRITE_QUEUE: usize = 1024;

/// How long a call waits for its answer. A disk that takes longer is as good as gone for a client.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// The embedded store.
///
/// It is closed by dropping it or with [`Self::close`]; both leave the file as after a crash, which loses nothing.
#[derive(Debug)]
pub struct SqliteStore {
    jobs: mpsc::Sender<Job>,
    readers: SqlitePool,
    feed: Feed,
    clock: Clock,
    running: CancellationToken,
    writer: Mutex<Option<tokio::task::JoinHandle<()>>>,
    _ends_tasks: DropGuard,
}

/// How watches hear of commits.
#[derive(Clone, Debug)]
struct Feed {
    /// Weak, so that watches end with the writer.
    commits: broadcast::WeakSender<Arc<Commit>>,
    written: watch::Receiver<Revision>,
}

/// One transaction, as watches hear of it.
#[derive(Debug)]
struct Commit {
    /// The state that it changed. A watch that is not there yet reads what lies between from the file.
    from: Revision,
    changes: Vec<Change>,
    to: Revision,
}

impl SqliteStore {
    /// Opens the store in `file`, which is made when it is not there. One process may have it open.
    ///
    /// # Errors
    /// When the file cannot be opened, is no cluster store, or was written by a newer program.
    pub async fn open(file: &Path, clock: Clock) -> Result<Self, OpenError> {
        let opened = open::open(file).await?;
        let running = CancellationToken::new();
        let (jobs, queue) = mpsc::channel(WRITE_QUEUE);
        let (writer, feed) = writer::Writer::new(opened.writer, opened.options, opened.written);
        let task = tokio::spawn(writer.run(queue, running.clone()));
        let expiry = expiry::Expiry::new(jobs.clone(), opened.readers.clone(), clock.clone());
        tokio::spawn(running.clone().run_until_cancelled_owned(expiry.run()));
        Ok(Self {
            jobs,
            readers: opened.readers,
            feed,
            clock,
            writer: Mutex::new(Some(task)),
            _ends_tasks: running.clone().drop_guard(),
            running,
        })
    }

    /// Ends the store: writes that were taken are finished, later ones are refused.
    pub async fn close(&self) {
        self.running.cancel();
        let task = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            let _ = task.await;
        }
        self.readers.close().await;
    }

    async fn write(
        &self,
        key: &str,
        put: Option<Put>,
        expected: Option<Revision>,
    ) -> Result<Revision, WriteError> {
        let (answer, answered) = oneshot::channel();
        let write = Write { key: key.into(), put, expected, answer };
        self.send(Job::Write(write)).await?;
        match tokio::time::timeout(CALL_LIMIT, answered).await {
            Ok(Ok(outcome)) => outcome,
            // It waited in the queue when the store was closed.
            Ok(Err(_)) => Err(trouble::closed().into()),
            Err(_) => Err(trouble::unanswered().into()),
        }
    }

    async fn send(&self, job: Job) -> Result<(), StoreError> {
        match self.jobs.send_timeout(job, CALL_LIMIT).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(trouble::busy()),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(trouble::closed()),
        }
    }

    fn put(&self, value: Bytes, ttl: Option<Duration>) -> Result<Put, StoreError> {
        if value.len() > MAX_VALUE_BYTES {
            return Err(StoreError::TooLarge);
        }
        Ok(Put { value, expires: ttl.map(|ttl| after(self.clock.now(), ttl)) })
    }
}

fn after(now: Timestamp, ttl: Duration) -> Timestamp {
    let micros = i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.micros().saturating_add(micros))
}

async fn limited<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(CALL_LIMIT, call).await.unwrap_or_else(|_| Err(trouble::busy()))
}

#[async_trait]
impl Store for SqliteStore {
    fn prefix(&self) -> &str {
        PREFIX
    }

    async fn get(&self, key: &str) -> Result<Read, StoreError> {
        limited(read::get(&self.readers, key)).await
    }

    async fn list(&self, list: &List<'_>) -> Result<Listing, StoreError> {
        limited(read::list(&self.readers, list)).await
    }

    async fn create(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<Revision, WriteError> {
        self.write(key, Some(self.put(value, ttl)?), None).await
    }

    async fn update(
        &self,
        key: &str,
        value: Bytes,
        expected: Revision,
        ttl: Option<Duration>,
    ) -> Result<Revision, WriteError> {
        self.write(key, Some(self.put(value, ttl)?), Some(expected)).await
    }

    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision, WriteError> {
        self.write(key, None, Some(expected)).await
    }

    fn watch(&self, prefix: &str, after: Revision) -> Watch {
        history::watch(&self.readers, &self.feed, prefix, after)
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        self.send(Job::Compact { revision, answer }).await?;
        limited(async { answered.await.unwrap_or_else(|_| Err(trouble::closed())) }).await
    }

    async fn current(&self) -> Result<Revision, StoreError> {
        limited(read::current(&self.readers)).await
    }

    async fn healthy(&self) -> Result<(), StoreError> {
        if self.jobs.is_closed() {
            return Err(trouble::closed());
        }
        self.current().await.map(drop)
    }
}

#[cfg(test)]
mod tests;
