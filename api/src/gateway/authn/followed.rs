//! A file that is read again when it changes; a bad one leaves what was read before in force.

use std::{
    fmt, fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

/// The largest file that is read: some ten thousand tokens, or some hundred authorities.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// How often a file is looked at: a change is in force within seconds, and reading a small file costs nothing.
pub const LOOK: Duration = Duration::from_secs(5);

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It does not read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It does not hold what it should.
    #[error("{path}: {why}", path = path.display())]
    Bad {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its line where there is one.
        why: String,
    },
}

/// What a file is read with.
type Parse<T> = fn(&[u8]) -> Result<T, String>;

/// The contents of a file, as they last were good.
#[derive(Debug)]
pub struct Followed<T>(Arc<Inner<T>>);

impl<T> Clone for Followed<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Inner<T> {
    path: PathBuf,
    parse: Parse<T>,
    current: RwLock<Arc<T>>,
    /// What was seen last, good or bad, so that a bad file is told of once.
    seen: Mutex<Option<Vec<u8>>>,
}

impl<T> fmt::Debug for Inner<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Followed").field("path", &self.path).finish_non_exhaustive()
    }
}

impl<T> Followed<T> {
    /// Reads the file.
    ///
    /// # Errors
    /// When it does not read or is not good: there is nothing earlier to keep.
    pub fn open(path: impl Into<PathBuf>, parse: Parse<T>) -> Result<Self, FileError> {
        let path = path.into();
        let bytes = read(&path)?;
        let value = parse(&bytes).map_err(|why| FileError::Bad { path: path.clone(), why })?;
        let current = RwLock::new(Arc::new(value));
        Ok(Self(Arc::new(Inner { path, parse, current, seen: Mutex::new(Some(bytes)) })))
    }

    /// What is in force.
    pub fn current(&self) -> Arc<T> {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at the file once. True when what it holds now is new, and in force.
    ///
    /// # Errors
    /// When it has changed into something that cannot be used; the same state is an error only once.
    pub fn look(&self) -> Result<bool, FileError> {
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = match read(&self.0.path) {
            Ok(bytes) => bytes,
            Err(error) => return if seen.take().is_some() { Err(error) } else { Ok(false) },
        };
        if seen.as_ref() == Some(&bytes) {
            return Ok(false);
        }
        let parsed = (self.0.parse)(&bytes);
        *seen = Some(bytes);
        let value = parsed.map_err(|why| FileError::Bad { path: self.0.path.clone(), why })?;
        *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
        Ok(true)
    }

    /// Looks every [`LOOK`] until `stop`, and logs what came of it.
    pub async fn run(&self, stop: &CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            let path = self.0.path.display();
            match self.look() {
                Ok(true) => tracing::info!(%path, "a changed file is in force"),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "what the file held before stays in force"
                    );
                }
            }
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let wrong = |source| FileError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    fs::File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)).map_err(wrong)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(wrong(io::Error::other(format!("it is larger than {MAX_BYTES} bytes"))));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(bytes: &[u8]) -> Result<u32, String> {
        String::from_utf8_lossy(bytes).parse().map_err(|_| "no number".to_owned())
    }

    #[test]
    fn a_change_is_in_force_and_a_bad_one_leaves_the_former() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n");
        assert!(Followed::open(&path, number).is_err());
        fs::write(&path, "1").unwrap();
        let file = Followed::open(&path, number).unwrap();
        assert!(!file.look().unwrap());
        fs::write(&path, "2").unwrap();
        assert!(file.look().unwrap());
        fs::write(&path, "x").unwrap();
        assert!(file.look().unwrap_err().to_string().contains("no number"));
        assert!(!file.look().unwrap(), "the same bad file is told of once");
        assert_eq!(*file.current(), 2);
        fs::remove_file(&path).unwrap();
        assert!(file.look().is_err() && !file.look().unwrap());
        fs::write(&path, "3").unwrap();
        assert!(file.look().unwrap());
        assert_eq!(*file.current(), 3);
    }
}
