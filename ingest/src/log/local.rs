//! The log of the embedded mode: the journal itself, with one partition.
//!
//! Nothing is copied. What the groups named at open have all published is released from the journal. Should the
//! journal turn out to end before a published position (its folder was removed, or its end was lost), the log
//! gets a new id: positions of the former one say nothing about it.

mod positions;
mod subscription;

use std::{collections::BTreeMap, fmt, io, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use tokio::sync::Mutex;
use tracing::{error, warn};

use self::{
    positions::Published,
    subscription::{Members, Reading},
};
use super::{Log, LogError, LogId, Offset, Partition, Poison, Positions, Reader, Safety, Subscription};
use crate::{
    journal::{AppendError, Journal},
    record::Record,
};

/// The only partition.
pub const PARTITION: Partition = 0;

/// The journal as a [`Log`]. Clones are handles of the same log.
#[derive(Clone)]
pub struct LocalLog(Arc<Inner>);

struct Inner {
    journal: Journal,
    id: LogId,
    published: Mutex<Published>,
    members: Members,
}

impl LocalLog {
    /// Opens the log over `journal`; published positions are kept in `file`. A record may be forgotten when all of
    /// `groups` have published a position behind it.
    ///
    /// Reads a file: call it where blocking is allowed.
    ///
    /// # Errors
    /// When the file cannot be read or written, or does not hold what this program writes.
    pub fn open(journal: Journal, file: PathBuf, groups: &[&str]) -> io::Result<Self> {
        let published = Published::open(file, groups, journal.bounds().end)?;
        if published.renewed() {
            warn!(id = %published.id(), "the journal ends before what was read of it: the log begins anew");
        }
        let (id, members) = (published.id().clone(), Members::default());
        Ok(Self(Arc::new(Inner { journal, id, published: Mutex::new(published), members })))
    }

    /// The journal under it.
    pub fn journal(&self) -> &Journal {
        &self.0.journal
    }

    /// Keeps what `group` published, and lets the journal forget what all groups have.
    async fn publish(&self, group: &str, next: Offset) -> Result<(), LogError> {
        let (log, group) = (self.clone(), group.to_owned());
        let kept = tokio::task::spawn_blocking(move || {
            let mut published = log.0.published.blocking_lock();
            published.set(&group, next)?;
            if let Some(to) = published.released() {
                log.0.journal.release(to);
            }
            Ok(())
        });
        kept.await.unwrap_or_else(|e| Err(io::Error::other(e))).map_err(LogError::Local)
    }
}

impl fmt::Debug for LocalLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalLog").field("id", &self.0.id).field("journal", &self.0.journal).finish()
    }
}

#[async_trait]
impl Log for LocalLog {
    async fn id(&self) -> Result<LogId, LogError> {
        Ok(self.0.id.clone())
    }

    async fn append(&self, records: &[Record]) -> Result<Safety, LogError> {
        match self.0.journal.append_records(records.to_vec()).await {
            Ok(_) => Ok(Safety::Safe),
            Err(e @ (AppendError::Full | AppendError::NoSpace | AppendError::NoKey)) => {
                Err(LogError::Unavailable(e.to_string()))
            }
            Err(e @ AppendError::Ended) => Err(LogError::Local(io::Error::other(e))),
        }
    }

    async fn subscribe(&self, reader: Reader) -> Result<Box<dyn Subscription>, LogError> {
        Ok(Box::new(Reading::new(self.clone(), reader)))
    }

    async fn bounds(&self) -> Result<BTreeMap<Partition, (Offset, Offset)>, LogError> {
        let bounds = self.0.journal.bounds();
        Ok([(PARTITION, (bounds.start, bounds.end))].into())
    }

    async fn published(&self, group: &str) -> Result<Positions, LogError> {
        Ok(self.0.published.lock().await.of(group).map(|next| (PARTITION, next)).into_iter().collect())
    }

    async fn set_aside(&self, _: Partition, offset: Offset, poison: &Poison) -> Result<(), LogError> {
        let log = self.clone();
        let (offset, kept) = (offset, poison.clone());
        let keep =
            tokio::task::spawn_blocking(move || log.0.published.blocking_lock().set_aside(offset, &kept));
        let path = keep.await.unwrap_or_else(|e| Err(io::Error::other(e))).map_err(LogError::Local)?;
        error!(offset = offset.0, reason = poison.reason, file = %path.display(), "an entry that is no record is kept aside");
        Ok(())
    }
}

#[cfg(test)]
mod tests;
