//! A policy that follows its file.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::load::{self, LoadError, Loaded};

/// The policy in force, and the file that it comes from.
///
/// The file is read whole at each look, because a modification time does not tell of a second change within its
/// granularity nor of a link that points elsewhere now; a policy is small.
#[derive(Debug)]
pub struct Watched {
    path: PathBuf,
    current: watch::Sender<Arc<Loaded>>,
    /// What was seen last, so that a bad file is reported once and not at every look.
    seen: Seen,
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// A file with this hash.
    Bytes(String),
    /// No file, for this reason.
    Unreadable(io::ErrorKind),
}

/// A policy that took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Hash of the policy that was in force.
    pub old: String,
    /// Hash of the one that is.
    pub new: String,
}

impl Watched {
    /// Loads the policy that is in force first.
    ///
    /// # Errors
    /// When the file holds no valid policy: there is no earlier one to keep.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, LoadError> {
        let path = path.into();
        let loaded = Loaded::from_file(&path)?;
        let seen = Seen::Bytes(loaded.hash.clone());
        Ok(Self { path, current: watch::Sender::new(Arc::new(loaded)), seen })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The policy in force, now and after each change.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Loaded>> {
        self.current.subscribe()
    }

    /// Looks at the file once. A valid new policy is in force when this returns; otherwise the old one stays.
    ///
    /// # Errors
    /// When the file has changed into none that can be used. The same state is an error only once.
    pub fn look(&mut self) -> Result<Option<Change>, LoadError> {
        let path = || self.path.display().to_string();
        let bytes = match load::read_bounded(&self.path) {
            Ok(bytes) => bytes,
            Err(source) => {
                let error = LoadError::Read { path: path(), source };
                return self.first_time(Seen::Unreadable(kind(&error)), error);
            }
        };
        let new = load::hash(&bytes);
        if self.seen == Seen::Bytes(new.clone()) {
            return Ok(None);
        }
        match Loaded::from_bytes(&bytes) {
            Ok(loaded) => Ok(self.take(loaded)),
            Err(source) => {
                let error = LoadError::Refused { path: path(), source };
                self.first_time(Seen::Bytes(new), error)
            }
        }
    }

    /// Looks at the file at every `interval` until cancelled, and tells `report` of changes and errors.
    pub async fn run(
        mut self,
        interval: Duration,
        cancel: CancellationToken,
        mut report: impl AsyncFnMut(Result<Change, LoadError>),
    ) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while cancel.run_until_cancelled(ticks.tick()).await.is_some() {
            if let Some(news) = self.look().transpose() {
                report(news).await;
            }
        }
    }

    fn take(&mut self, loaded: Loaded) -> Option<Change> {
        self.seen = Seen::Bytes(loaded.hash.clone());
        let new = loaded.hash.clone();
        let old = self.current.send_replace(Arc::new(loaded)).hash.clone();
        // The good file is back as it was before a bad one: nothing took effect.
        (old != new).then_some(Change { old, new })
    }

    fn first_time(&mut self, seen: Seen, error: LoadError) -> Result<Option<Change>, LoadError> {
        let again = self.seen == seen;
        self.seen = seen;
        if again { Ok(None) } else { Err(error) }
    }
}

fn kind(error: &LoadError) -> io::ErrorKind {
    match error {
        LoadError::Read { source, .. } => source.kind(),
        LoadError::Refused { .. } => io::ErrorKind::InvalidData,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n";
    const REQUEST: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Request}]\n";

    fn watched() -> (tempfile::TempDir, PathBuf, Watched) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.yaml");
        std::fs::write(&path, METADATA).unwrap();
        let watched = Watched::open(&path).unwrap();
        (dir, path, watched)
    }

    #[test]
    fn a_changed_file_takes_effect_and_names_both_versions() {
        let (_dir, path, mut watched) = watched();
        let current = watched.subscribe();
        let old = current.borrow().hash.clone();
        assert_eq!(watched.look().unwrap(), None);
        std::fs::write(&path, REQUEST).unwrap();
        let change = watched.look().unwrap().unwrap();
        assert_eq!((change.old, &change.new), (old, &current.borrow().hash));
        assert_eq!(current.borrow().policy.rules[0].level, crate::event::Level::Request);
        assert_eq!(watched.look().unwrap(), None);
    }

    #[test]
    fn a_bad_file_keeps_the_old_policy_and_is_reported_once() {
        let (_dir, path, mut watched) = watched();
        let before = watched.subscribe().borrow().clone();
        std::fs::write(&path, "rules: [").unwrap();
        assert!(matches!(watched.look(), Err(LoadError::Refused { .. })));
        assert_eq!(watched.look().unwrap(), None);
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(watched.look(), Err(LoadError::Read { .. })));
        assert_eq!(watched.look().unwrap(), None);
        assert_eq!(*watched.subscribe().borrow(), before);
    }

    #[test]
    fn the_old_file_coming_back_changes_nothing() {
        let (_dir, path, mut watched) = watched();
        std::fs::write(&path, "rules: [").unwrap();
        assert!(watched.look().is_err());
        std::fs::write(&path, METADATA).unwrap();
        assert_eq!(watched.look().unwrap(), None);
        std::fs::write(&path, "rules: [").unwrap();
        assert!(watched.look().is_err());
    }

    #[tokio::test]
    async fn a_running_watch_reports_until_it_is_cancelled() {
        let (_dir, path, watched) = watched();
        let (reports, mut received) = tokio::sync::mpsc::channel(4);
        let cancel = CancellationToken::new();
        let report = async move |news: Result<Change, LoadError>| reports.try_send(news.is_ok()).unwrap();
        let running = tokio::spawn(watched.run(Duration::from_millis(5), cancel.clone(), report));
        std::fs::write(&path, "rules: [").unwrap();
        assert_eq!(received.recv().await, Some(false));
        std::fs::write(&path, REQUEST).unwrap();
        assert_eq!(received.recv().await, Some(true));
        cancel.cancel();
        running.await.unwrap();
    }
}
