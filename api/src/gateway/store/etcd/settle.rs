//! What became of a write whose answer was lost.
//!
//! The write takes effect only as the first change after the state that it expected. If that first change is there, it
//! is ours or it is not, and ours can no longer come. If it is not there, nobody knows: the request may still be on
//! its way.

use bytes::Bytes;
use tokio::time::timeout;

use super::{Etcd, Fault, watch};
use crate::gateway::store::{Cause, Change, Read, Revision, StoreError, Versioned, WriteError};

impl Etcd {
    pub(super) async fn settle(
        &self,
        key: &str,
        value: Option<&Bytes>,
        expected: Option<Revision>,
        lost: Cause,
    ) -> Result<Revision, WriteError> {
        let first = timeout(self.calls.limit(), self.first_change(key, expected)).await;
        match first {
            Ok(Ok((_, Some((revision, first))))) if first.as_ref() == value => Ok(revision),
            Ok(Ok((now, Some(_)))) => Err(WriteError::Conflict(now)),
            // Not there yet, no longer told, or etcd is away.
            Ok(Ok((_, None)) | Err(_)) | Err(_) => Err(StoreError::Ambiguous(lost).into()),
        }
    }

    /// What the key is now, and its first change after the expected state: number and value.
    async fn first_change(
        &self,
        key: &str,
        expected: Option<Revision>,
    ) -> Result<(Read, Option<(Revision, Option<Bytes>)>), Fault> {
        let now = self.get(key, None).await?;
        let first = match (expected, &now.value) {
            (Some(expected), Some(there)) if there.modified <= expected => None,
            (Some(expected), _) => self.next_change(key, expected).await.map(|c| (c.revision, c.value)),
            // Absent: not created, or created and deleted since.
            (None, None) => None,
            (None, Some(there)) => Some((there.created, Some(self.value_at_creation(key, there).await?))),
        };
        Ok((now, first))
    }

    async fn value_at_creation(&self, key: &str, there: &Versioned) -> Result<Bytes, Fault> {
        if there.created == there.modified {
            return Ok(there.value.clone());
        }
        let then = self.get(key, Some(there.created)).await?;
        then.value.map(|then| then.value).ok_or(Fault::Compacted)
    }

    /// There is one, as the key's state says; unless it is compacted.
    async fn next_change(&self, key: &str, after: Revision) -> Option<Change> {
        let mut watch = watch::watch_key(self, key, after);
        loop {
            let batch = watch.next().await?.ok()?;
            if let Some(first) = batch.changes.into_iter().next() {
                return Some(first);
            }
        }
    }
}
