//! Counts the days that are open for writing, from outside: each has its lock file open.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Between two looks: a day that is opened, written and closed again takes several times as long.
const LOOK: Duration = Duration::from_micros(500);

/// Looks again and again at what this process has open in one folder.
pub(crate) struct Watch {
    done: Arc<AtomicBool>,
    counting: JoinHandle<usize>,
}

impl Watch {
    pub(crate) fn start(dir: &Path) -> Self {
        let (dir, done) = (dir.to_owned(), Arc::new(AtomicBool::new(false)));
        let ended = done.clone();
        let counting = thread::spawn(move || {
            let (mut most, mut before) = (0, BTreeSet::new());
            while !ended.load(Ordering::Relaxed) {
                let now = open_in(&dir);
                // One look takes its time: it may find a day that is closed then and one that is opened after it.
                // What two looks find was open at one moment between them.
                most = most.max(now.intersection(&before).count());
                before = now;
                thread::sleep(LOOK);
            }
            most
        });
        Self { done, counting }
    }

    /// The most writers that were open at one moment.
    pub(crate) async fn most(self) -> usize {
        self.done.store(true, Ordering::Relaxed);
        tokio::task::spawn_blocking(|| self.counting.join().unwrap()).await.unwrap()
    }
}

fn open_in(dir: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir("/proc/self/fd").unwrap();
    // What was closed since the folder was read cannot be followed.
    let files = entries.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    files.filter(|file: &PathBuf| file.starts_with(dir) && file.ends_with(".tantivy-writer.lock")).collect()
}
