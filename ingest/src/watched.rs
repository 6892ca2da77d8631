//! A value that follows its file, so that a change needs no restart.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::from_file::{self, FromFile, LoadError};

/// The value in force, made of what a file holds: `V` of `F`.
///
/// The file is read whole at each look, because a modification time does not tell of a second change within its
/// granularity nor of a link that points elsewhere now; the files are small. A change counts once two looks in a row
/// find it: whoever writes a file in place leaves it cut for an instant, and half a list of rules may read well.
pub struct Watched<F, V = F> {
    file: Option<File>,
    make: Box<dyn Fn(F) -> V + Send + Sync>,
    hash: String,
    current: watch::Sender<Arc<V>>,
}

/// A value that took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Hash of what was in force.
    pub old: String,
    /// Hash of what is.
    pub new: String,
}

impl<F: FromFile + Send + Sync + 'static> Watched<F> {
    /// Loads what is in force first.
    ///
    /// # Errors
    /// When the file holds nothing valid: there is no earlier value to keep.
    pub fn open(path: &Path) -> Result<Self, LoadError<F::Error>> {
        let read = from_file::read(path);
        let found = State::of(&read);
        let file = File { path: path.to_owned(), found, told: found };
        Ok(Self::new(Some(file), from_file::load(path, read)?))
    }

    /// A value that no file changes.
    pub fn constant(value: F) -> Self {
        Self::new(None, value)
    }

    fn new(file: Option<File>, value: F) -> Self {
        let hash = value.hash().to_owned();
        Self { file, make: Box::new(|value| value), hash, current: watch::Sender::new(Arc::new(value)) }
    }
}

impl<F: FromFile + 'static, V: Send + Sync + 'static> Watched<F, V> {
    /// What is made of the value, now and after each change. Those who subscribed before hear of none.
    #[must_use]
    pub fn map<U>(self, make: impl Fn(&V) -> U + Send + Sync + 'static) -> Watched<F, U> {
        let first = make(&self.current.borrow());
        let inner = self.make;
        Watched {
            file: self.file,
            make: Box::new(move |value| make(&inner(value))),
            hash: self.hash,
            current: watch::Sender::new(Arc::new(first)),
        }
    }

    /// Hash of what is in force.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// What is in force, now and after each change.
    pub fn subscribe(&self) -> watch::Receiver<Arc<V>> {
        self.current.subscribe()
    }

    /// Looks at the file once. A valid new value that was there at the look before as well is in force when this
    /// returns; otherwise the old one stays.
    ///
    /// # Errors
    /// When the file has changed into none that can be used. The same state is an error only once.
    pub fn look(&mut self) -> Result<Option<Change>, LoadError<F::Error>> {
        let Some(file) = &mut self.file else { return Ok(None) };
        let read = from_file::read(&file.path);
        if !file.is_news(State::of(&read)) {
            return Ok(None);
        }
        let value = from_file::load(&file.path, read)?;
        Ok(self.take(value))
    }

    /// Looks every `interval` until there is a change or an error to tell. Dropping it loses nothing.
    ///
    /// # Errors
    /// As [`look`](Self::look).
    pub async fn news(&mut self, interval: Duration) -> Result<Change, LoadError<F::Error>> {
        if self.file.is_none() {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(interval).await;
            if let Some(news) = self.look().transpose() {
                return news;
            }
        }
    }

    fn take(&mut self, value: F) -> Option<Change> {
        let new = value.hash().to_owned();
        // The good file is back as it was before a bad one, or says the same in other words: nothing takes effect.
        if new == self.hash {
            return None;
        }
        self.current.send_replace(Arc::new((self.make)(value)));
        let old = std::mem::replace(&mut self.hash, new.clone());
        Some(Change { old, new })
    }
}

impl<F, V: fmt::Debug> fmt::Debug for Watched<F, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched")
            .field("file", &self.file)
            .field("hash", &self.hash)
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    /// What the look before found.
    found: State,
    /// What was told last, so that a bad file is reported once and not at every look.
    told: State,
}

impl File {
    /// Whether this state is not told yet, and no longer changes.
    fn is_news(&mut self, state: State) -> bool {
        let is_settled = std::mem::replace(&mut self.found, state) == state;
        is_settled && std::mem::replace(&mut self.told, state) != state
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A file with this SHA-256.
    Bytes([u8; 32]),
    /// No file, for this reason.
    Unreadable(io::ErrorKind),
}

impl State {
    fn of(read: &io::Result<Vec<u8>>) -> Self {
        match read {
            Ok(bytes) => Self::Bytes(Sha256::digest(bytes).into()),
            Err(error) => Self::Unreadable(error.kind()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        accept::Acceptor,
        identity::DeploymentKey,
        policy::{Loaded, PolicyError},
        redact::{Redactor, RuleSet},
        time::Clock,
    };

    const METADATA: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n";
    const REQUEST: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Request}]\n";

    fn watched() -> (tempfile::TempDir, PathBuf, Watched<Loaded>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.yaml");
        fs::write(&path, METADATA).unwrap();
        let watched = Watched::open(&path).unwrap();
        (dir, path, watched)
    }

    /// The looks that a change takes.
    fn looks(watched: &mut Watched<Loaded>) -> Result<Option<Change>, LoadError<PolicyError>> {
        assert_eq!(watched.look().unwrap(), None);
        watched.look()
    }

    #[test]
    fn a_changed_file_takes_effect_and_names_both_versions() {
        let (_dir, path, mut watched) = watched();
        let current = watched.subscribe();
        let old = current.borrow().hash.clone();
        assert_eq!(watched.look().unwrap(), None);
        fs::write(&path, REQUEST).unwrap();
        let change = looks(&mut watched).unwrap().unwrap();
        assert_eq!((change.old, &change.new), (old, &current.borrow().hash));
        assert_eq!(watched.hash(), current.borrow().hash);
        assert_eq!(current.borrow().policy.rules[0].level, crate::event::Level::Request);
        assert_eq!(watched.look().unwrap(), None);
    }

    #[test]
    fn a_file_that_is_being_written_is_not_taken() {
        let (_dir, path, mut watched) = watched();
        fs::write(&path, "").unwrap();
        assert_eq!(watched.look().unwrap(), None);
        fs::write(&path, REQUEST.replace("Request", "None")).unwrap();
        assert_eq!(watched.look().unwrap(), None);
        fs::write(&path, REQUEST).unwrap();
        assert!(looks(&mut watched).unwrap().is_some());
        assert_eq!(watched.subscribe().borrow().policy.rules[0].level, crate::event::Level::Request);
    }

    #[test]
    fn a_bad_file_keeps_the_old_value_and_is_reported_once() {
        let (_dir, path, mut watched) = watched();
        let before = watched.subscribe().borrow().clone();
        fs::write(&path, "rules: [").unwrap();
        assert!(matches!(looks(&mut watched), Err(LoadError::Refused { .. })));
        assert_eq!(watched.look().unwrap(), None);
        fs::remove_file(&path).unwrap();
        assert!(matches!(looks(&mut watched), Err(LoadError::Read { .. })));
        assert_eq!(watched.look().unwrap(), None);
        assert_eq!(*watched.subscribe().borrow(), before);
    }

    #[test]
    fn the_old_file_coming_back_changes_nothing() {
        let (_dir, path, mut watched) = watched();
        fs::write(&path, "rules: [").unwrap();
        assert!(looks(&mut watched).is_err());
        fs::write(&path, METADATA).unwrap();
        assert_eq!(looks(&mut watched).unwrap(), None);
        fs::write(&path, "rules: [").unwrap();
        assert!(looks(&mut watched).is_err());
    }

    #[tokio::test]
    async fn news_comes_when_there_is_some() {
        let (_dir, path, mut watched) = watched();
        let interval = Duration::from_millis(2);
        assert!(tokio::time::timeout(10 * interval, watched.news(interval)).await.is_err());
        fs::write(&path, "rules: [").unwrap();
        assert!(watched.news(interval).await.is_err());
        fs::write(&path, REQUEST).unwrap();
        assert!(watched.news(interval).await.is_ok());
        let mut constant = Watched::constant(RuleSet::builtin());
        assert!(tokio::time::timeout(10 * interval, constant.news(interval)).await.is_err());
    }

    #[test]
    fn what_is_made_of_changed_rules_redacts_the_next_event() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rules.yaml");
        let rules =
            |word: &str| format!("texts:\n- {{name: badge, words: [{word}], pattern: '{word}[0-9]{{8}}'}}\n");
        fs::write(&path, rules("BADGE")).unwrap();
        let key = DeploymentKey::from_bytes([1; 32]);
        let redactors = key.clone();
        let mut watched =
            Watched::<RuleSet>::open(&path).unwrap().map(move |rules| Redactor::new(rules, &redactors));
        let acceptor = Acceptor::new(&key, watched.subscribe(), Clock::system(), None);
        let at = Clock::system().now();
        let event = format!(
            r#"{{"level":"Metadata","auditID":"a","stage":"Panic","verb":"BADGE12345678 PLATE12345678","stageTimestamp":"{at}"}}"#
        );
        let accept = || acceptor.accept(&"demo".into(), event.as_bytes()).unwrap();
        let before = accept();
        assert_eq!((before.redactions, &*before.rules), (1, watched.hash()));
        fs::write(&path, rules("PLATE")).unwrap();
        assert_eq!(watched.look().unwrap(), None);
        assert_eq!(accept(), before);
        let change = watched.look().unwrap().unwrap();
        let after = accept();
        assert_eq!((after.id, &*before.rules, &*after.rules), (before.id, &*change.old, &*change.new));
        let text = String::from_utf8(after.event.to_vec()).unwrap();
        assert!(text.contains("BADGE12345678 $redacted(rule=badge,len=13,"), "{text}");
    }
}
