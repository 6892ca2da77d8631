//! Makes the index anew from the ledger whenever it lacks something, until it does not.

use std::{sync::Arc, time::Duration};

use api::{errors::chain, later::Later, rebuild::Rebuilder};
use index::{Index, Lacking};
use ingest::{ledger::Ledger, retry::Backoff};
use tokio_util::sync::CancellationToken;

/// The waits between tries. A rebuild reads the whole ledger: one that fails at its end is not begun again at once.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(60);

/// Between two looks at what the ledger knows as lost. It is a small table that hardly ever changes.
const LOOK: Duration = Duration::from_secs(5);

/// Watches one index.
pub(crate) struct Mender {
    /// The index; what it lacks is kept with it, so that a restart changes nothing.
    pub(crate) index: Index,
    /// What it is made from.
    pub(crate) ledger: Later<Arc<dyn Ledger>>,
    /// Who makes it.
    pub(crate) rebuilder: Rebuilder,
    /// The data folder is new and holds the ledger too: a new index lacks nothing.
    pub(crate) is_fresh: bool,
}

impl Mender {
    /// Mends until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.mend()).await;
    }

    async fn mend(&self) {
        if self.is_fresh {
            self.accept_new().await;
        }
        let ledger = self.ledger.wait().await;
        let mut commits = self.index.commits();
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LAST);
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            commits.borrow_and_update();
            match self.index.standing().lacking {
                Some(what) if self.bring(&*ledger, &what).await => backoff.reset(),
                Some(_) => tokio::time::sleep(backoff.wait()).await,
                None => tokio::select! {
                    _ = commits.changed() => {}
                    _ = look.tick() => self.compare_gaps(&*ledger).await,
                },
            }
        }
    }

    /// A ledger that is away is told of elsewhere.
    async fn compare_gaps(&self, ledger: &dyn Ledger) {
        if let Err(error) = self.index.compare_gaps(ledger).await {
            tracing::debug!(error = chain(&error), "the index was not compared with the ledger's gaps");
        }
    }

    /// Whether it worked; then the index lacks nothing, or something else.
    async fn bring(&self, ledger: &dyn Ledger, what: &Lacking) -> bool {
        if *what == Lacking::New {
            match ledger.days().await {
                Ok(days) if days.is_empty() => return self.accept_new().await,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(
                        error = chain(&error),
                        "whether the index lacks something is not known yet"
                    );
                    return false;
                }
            }
        }
        self.rebuilder.run(what).await
    }

    async fn accept_new(&self) -> bool {
        let index = self.index.clone();
        match tokio::task::spawn_blocking(move || index.accept_new()).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(error = chain(&error), "that the index lacks nothing could not be written");
                false
            }
            // The runtime is going down.
            Err(_) => false,
        }
    }
}
