//! The most memory of its own that a process holds over a while.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinHandle;

use crate::server::anonymous_kib;

/// Between two looks at the process.
const LOOK: Duration = Duration::from_millis(20);

/// Looks at a process until it is ended.
pub(crate) struct Peak {
    done: Arc<AtomicBool>,
    looking: JoinHandle<u64>,
}

impl Peak {
    pub(crate) fn start(pid: u32) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let ended = done.clone();
        let looking = tokio::spawn(async move {
            let mut most = 0;
            while !ended.load(Ordering::Relaxed) {
                most = most.max(anonymous_kib(pid).unwrap_or_default());
                tokio::time::sleep(LOOK).await;
            }
            most
        });
        Self { done, looking }
    }

    /// The most that was seen, in KiB.
    pub(crate) async fn end(self) -> u64 {
        self.done.store(true, Ordering::Relaxed);
        self.looking.await.unwrap()
    }
}
