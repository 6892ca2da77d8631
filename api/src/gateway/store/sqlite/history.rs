//! Watches of the embedded store: first the rows of the file, then the commits as they happen.

use std::{sync::Arc, time::Duration};

use futures::stream;
use ingest::retry::Backoff;
use sqlx::{Connection, FromRow, SqlitePool};
use tokio::{
    sync::{broadcast, broadcast::error::RecvError, watch},
    time::Instant,
};

use super::{Commit, Feed, read};
use crate::gateway::store::{
    Batch, Change, ChangeKind, Revision, StoreError, Watch, WatchError, key::end_of,
};

/// Rows of one read. With values of the largest size that is some hundred megabytes; of the usual size, half of one.
const PAGE: i64 = 64;

/// How long after a mark the next one comes when there was nothing else to tell.
const MARKS: Duration = Duration::from_secs(5);

pub(super) fn watch(readers: &SqlitePool, feed: &Feed, prefix: &str, after: Revision) -> Watch {
    // Subscribed before it is asked how far the file has come: nothing lies between.
    let Some(commits) = feed.commits.upgrade().map(|commits| commits.subscribe()) else {
        return Watch::new(stream::empty());
    };
    let written = *feed.written.borrow();
    let history = History {
        readers: readers.clone(),
        prefix: prefix.to_owned(),
        commits,
        written: feed.written.clone(),
        reached: after,
        missing: (written > after).then_some(written),
        marked: after,
        next_mark: Instant::now() + MARKS,
    };
    Watch::new(stream::unfold(Some(history), |history| async {
        let mut history = history?;
        match history.next().await? {
            Ok(batch) => Some((Ok(batch), Some(history))),
            Err(error) => Some((Err(error), None)),
        }
    }))
}

struct History {
    readers: SqlitePool,
    prefix: String,
    commits: broadcast::Receiver<Arc<Commit>>,
    written: watch::Receiver<Revision>,
    /// Everything up to here was given out.
    reached: Revision,
    /// What follows, up to here, has to be read from the file.
    missing: Option<Revision>,
    marked: Revision,
    next_mark: Instant,
}

impl History {
    async fn next(&mut self) -> Option<Result<Batch, WatchError>> {
        loop {
            let batch = match self.missing {
                Some(until) => self.read(until).await.map(Some),
                None => match tokio::time::timeout_at(self.next_mark, self.commits.recv()).await {
                    Err(_) => Ok(self.mark()),
                    Ok(Ok(commit)) => Ok(self.take(&commit)),
                    Ok(Err(RecvError::Lagged(_))) => {
                        self.missing = Some(*self.written.borrow());
                        continue;
                    }
                    Ok(Err(RecvError::Closed)) => return None,
                },
            };
            match batch {
                Ok(None) => {}
                Ok(Some(batch)) => {
                    self.marked = batch.reached;
                    return Some(Ok(batch));
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    fn mark(&mut self) -> Option<Batch> {
        self.next_mark = Instant::now() + MARKS;
        (self.reached > self.marked).then(|| Batch { changes: Vec::new(), reached: self.reached })
    }

    fn take(&mut self, commit: &Commit) -> Option<Batch> {
        if commit.to <= self.reached {
            return None;
        }
        if commit.from > self.reached {
            self.missing = Some(commit.to);
            return None;
        }
        let ours = |change: &&Change| change.revision > self.reached && change.key.starts_with(&self.prefix);
        let changes: Vec<Change> = commit.changes.iter().filter(ours).cloned().collect();
        self.reached = commit.to;
        (!changes.is_empty()).then_some(Batch { changes, reached: commit.to })
    }

    /// A page of rows. A file that cannot be read for a while is tried again.
    async fn read(&mut self, until: Revision) -> Result<Batch, WatchError> {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        let changes = loop {
            match page(&self.readers, &self.prefix, self.reached, until).await {
                Ok(changes) => break changes,
                Err(StoreError::Compacted { oldest }) => return Err(WatchError::Compacted { oldest }),
                Err(StoreError::Unavailable(_)) => tokio::time::sleep(backoff.wait()).await,
                Err(error) => return Err(error.into()),
            }
        };
        match changes.last() {
            Some(last) if changes.len() as i64 == PAGE => self.reached = last.revision,
            _ => {
                self.reached = until;
                self.missing = None;
            }
        }
        Ok(Batch { changes, reached: self.reached })
    }
}

const ROWS: &str = "SELECT now.key, now.revision, now.value, now.previous AS replaced, before.value AS previous \
    FROM revisions AS now LEFT JOIN revisions AS before ON before.revision = now.previous \
    WHERE now.revision > ?1 AND now.revision <= ?2 AND now.key >= ?3 AND now.key < coalesce(?4, x'') \
    ORDER BY now.revision LIMIT ?5";

#[derive(FromRow)]
struct Row {
    key: String,
    revision: i64,
    value: Option<Vec<u8>>,
    replaced: Option<i64>,
    previous: Option<Vec<u8>>,
}

async fn page(
    readers: &SqlitePool,
    prefix: &str,
    after: Revision,
    until: Revision,
) -> Result<Vec<Change>, StoreError> {
    let mut connection = readers.acquire().await?;
    let mut tx = connection.begin().await?;
    let compacted = read::reached(&mut tx).await?.compacted;
    if after < compacted {
        return Err(StoreError::Compacted { oldest: compacted });
    }
    let rows: Vec<Row> = sqlx::query_as(ROWS)
        .bind(after.signed())
        .bind(until.signed())
        .bind(prefix)
        .bind(end_of(prefix))
        .bind(PAGE)
        .fetch_all(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(rows.into_iter().map(change).collect())
}

fn change(row: Row) -> Change {
    let kind = match (&row.value, row.replaced) {
        (None, _) => ChangeKind::Deleted,
        (_, None) => ChangeKind::Created,
        _ => ChangeKind::Modified,
    };
    Change {
        key: row.key.into(),
        revision: Revision::of(row.revision),
        kind,
        value: row.value.map(Into::into),
        previous: row.previous.map(Into::into),
    }
}
