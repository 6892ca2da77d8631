//! Forgetting the cluster store's history, so that it does not grow for ever, and old values end.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::store::{Revision, Store, StoreError};

/// Compacts a store again and again, each time to the state that it had one interval before.
///
/// So history is kept for one interval at least, and for two at most, as kube-apiserver keeps it. Any number of
/// processes may do it at once: none compacts to a state that is younger than an interval.
#[derive(Debug)]
pub struct Compaction {
    /// Whose history is forgotten.
    pub store: Arc<dyn Store>,
    /// How long it is kept.
    pub interval: Duration,
}

impl Compaction {
    /// Runs until `stop`.
    pub async fn run(self, stop: &CancellationToken) {
        let mut before = None;
        loop {
            match self.step(before).await {
                Ok(now) => before = Some(now),
                // Nothing is lost: the next interval forgets more.
                Err(error) => {
                    tracing::warn!(
                        error = crate::errors::chain(&error),
                        "the store's history is not compacted"
                    );
                }
            }
            if stop.run_until_cancelled(tokio::time::sleep(self.interval)).await.is_none() {
                return;
            }
        }
    }

    /// Compacts to what was found before, and finds what the next step compacts to.
    async fn step(&self, before: Option<Revision>) -> Result<Revision, StoreError> {
        if let Some(revision) = before {
            self.store.compact(revision).await?;
            tracing::debug!(%revision, "the store has forgotten what was replaced up to a revision");
        }
        self.store.current().await
    }
}

#[cfg(test)]
mod tests {
    use ingest::time::Clock;

    use super::*;
    use crate::gateway::store::{List, SqliteStore};

    #[tokio::test]
    async fn history_is_kept_for_an_interval_and_then_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cluster.sqlite");
        let store = Arc::new(SqliteStore::open(&file, Clock::system()).await.unwrap());
        let compaction = Compaction { store: store.clone(), interval: Duration::ZERO };
        let first = store.create("pods/a/x", "1".into(), None).await.unwrap();
        let found = compaction.step(None).await.unwrap();
        let second = store.update("pods/a/x", "2".into(), first, None).await.unwrap();
        let list = |at| {
            let store = store.clone();
            async move { store.list(&List { prefix: "pods/", at: Some(at), ..List::default() }).await }
        };
        let next = compaction.step(Some(found)).await.unwrap();
        assert!(list(first).await.is_ok(), "what was there an interval ago is not forgotten");
        store.update("pods/a/x", "3".into(), second, None).await.unwrap();
        compaction.step(Some(next)).await.unwrap();
        assert!(matches!(list(first).await, Err(StoreError::Compacted { oldest }) if oldest == second));
        assert!(list(second).await.is_ok());
    }
}
