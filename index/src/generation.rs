//! A whole index in a folder of its own. A rebuild makes a new one; the file `CURRENT` names the one in use.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use crate::{
    IndexError,
    days::Days,
    lacking::Lacking,
    schema::{Fields, VERSION},
    standing::{self, Standing},
};

const CURRENT: &str = "CURRENT";
const VERSION_FILE: &str = "version";

/// One whole index.
pub(crate) struct Generation {
    pub(crate) number: u64,
    pub(crate) dir: PathBuf,
    pub(crate) fields: Fields,
    pub(crate) days: Days,
    /// Set when another one took its place: its files go when the last query has ended.
    retired: AtomicBool,
}

impl Generation {
    /// Opens the one in use, or makes an empty one that says what it lacks.
    pub(crate) fn open_current(dir: &Path) -> Result<Self, IndexError> {
        fs::create_dir_all(dir).map_err(IndexError::file(dir))?;
        let current = read(&dir.join(CURRENT))?.and_then(|text| text.trim().parse::<u64>().ok());
        let lacking = match current {
            None => Lacking::New,
            Some(number) => {
                let generation = dir.join(number.to_string());
                let version = read(&generation.join(VERSION_FILE))?;
                match version.and_then(|text| text.trim().parse::<u32>().ok()) {
                    Some(VERSION) => {
                        remove_others(dir, number);
                        return Self::open(dir, number);
                    }
                    Some(found) => Lacking::OtherVersion { found },
                    None => Lacking::New,
                }
            }
        };
        let new = Self::create(dir)?;
        Standing { lacking: Some(lacking), ..Standing::default() }.write(&new.dir)?;
        new.make_current(dir)?;
        remove_others(dir, new.number);
        Ok(new)
    }

    /// Makes an empty one beside those that are there.
    pub(crate) fn create(dir: &Path) -> Result<Self, IndexError> {
        let number = numbers(dir)?.into_iter().max().unwrap_or(0) + 1;
        let generation = dir.join(number.to_string());
        fs::create_dir_all(&generation).map_err(IndexError::file(&generation))?;
        standing::replace(&generation, VERSION_FILE, VERSION.to_string().as_bytes())?;
        Self::open(dir, number)
    }

    fn open(dir: &Path, number: u64) -> Result<Self, IndexError> {
        let dir = dir.join(number.to_string());
        let fields = Fields::new();
        let days = Days::open(&dir, fields.clone())?;
        Ok(Self { number, dir, fields, days, retired: AtomicBool::new(false) })
    }

    /// From now on, and after a restart, this is the one in use.
    pub(crate) fn make_current(&self, dir: &Path) -> Result<(), IndexError> {
        standing::replace(dir, CURRENT, self.number.to_string().as_bytes())
    }

    /// Removes the files as soon as nobody uses them.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if self.retired.load(Ordering::Acquire)
            && let Err(fault) = fs::remove_dir_all(&self.dir)
        {
            tracing::warn!(dir = %self.dir.display(), %fault, "an index that is no longer used stays on the disk");
        }
    }
}

fn read(path: &Path) -> Result<Option<String>, IndexError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(fault) => Err(IndexError::File { path: path.to_owned(), source: fault }),
    }
}

fn numbers(dir: &Path) -> Result<Vec<u64>, IndexError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(IndexError::file(dir))? {
        let name = entry.map_err(IndexError::file(dir))?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    Ok(numbers)
}

/// Removes what an interrupted rebuild or swap left behind.
fn remove_others(dir: &Path, kept: u64) {
    for number in numbers(dir).unwrap_or_default().into_iter().filter(|number| *number != kept) {
        let left = dir.join(number.to_string());
        if let Err(fault) = fs::remove_dir_all(&left) {
            tracing::warn!(dir = %left.display(), %fault, "an index that is no longer used stays on the disk");
        }
    }
}
