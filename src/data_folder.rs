//! The data folder: one process at a time, one format, and the files by which clients find the server.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// The version of the folder's layout that this program writes. It reads this one and every earlier one.
const FORMAT: u32 = 1;

/// A folder that this process holds until it ends.
#[derive(Debug)]
pub(crate) struct DataFolder {
    path: PathBuf,
    _lock: File,
    fresh: bool,
}

/// Where a running server can be reached; written to `server.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerFile {
    /// `https://127.0.0.1:8443`.
    pub(crate) url: String,
    /// The process.
    pub(crate) pid: u32,
}

impl DataFolder {
    /// Takes the folder, making it when it is missing.
    ///
    /// # Errors
    /// When another process has it, a newer version wrote it, or it cannot be written.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        // What a journal and a ledger hold is for its owner alone.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot make the data folder {}", path.display()))?;
        let path =
            path.canonicalize().with_context(|| format!("cannot use the data folder {}", path.display()))?;
        let lock = lock(&path)?;
        let fresh = check_format(&path)?;
        Ok(Self { path, _lock: lock, fresh })
    }

    /// The folder's absolute path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this is its first use.
    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// The name of this instance: as given, else as kept, else one made of the host's name.
    ///
    /// # Errors
    /// When the file that keeps it cannot be used.
    pub(crate) fn instance(&self, given: Option<&str>) -> Result<String> {
        let file = self.path.join("instance");
        let kept = read_optional(&file)?.map(|text| text.trim().to_owned()).filter(|name| !name.is_empty());
        let name = match (given, kept) {
            (Some(given), _) => given.to_owned(),
            (None, Some(kept)) => return Ok(kept),
            (None, None) => {
                let id = uuid::Uuid::new_v4().simple().to_string();
                format!("{}-{}", hostname(), &id[..6])
            }
        };
        if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
            bail!("{name:?} is no instance name: 1 to 128 bytes without control characters");
        }
        fs::write(&file, &name).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(name)
    }

    /// Tells clients on this machine where the server is.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn publish(&self, server: &ServerFile) -> Result<()> {
        let file = self.path.join("server.json");
        fs::write(&file, serde_json::to_vec(server)?)
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// Tells clients that the server is gone.
    pub(crate) fn unpublish(&self) {
        // A client that still finds the file is told by the refused connection.
        let _ = fs::remove_file(self.path.join("server.json"));
    }
}

fn lock(path: &Path) -> Result<File> {
    let file = path.join("lock");
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&file)
        .with_context(|| format!("cannot write into the data folder {}", path.display()))?;
    match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => bail!(
            "the data folder {} is in use by another muniment process; stop that one, or give this one its own --data-dir",
            path.display()
        ),
        Err(e) => Err(io::Error::from(e)).with_context(|| format!("cannot lock {}", file.display())),
    }
}

/// Whether the folder is new.
fn check_format(path: &Path) -> Result<bool> {
    let file = path.join("format");
    let Some(text) = read_optional(&file)? else {
        fs::write(&file, format!("{FORMAT}\n"))
            .with_context(|| format!("cannot write {}", file.display()))?;
        return Ok(true);
    };
    match text.trim().parse::<u32>() {
        Ok(found) if found <= FORMAT => Ok(false),
        Ok(found) => bail!(
            "the data folder {} has format {found}, written by a newer muniment; this one reads up to {FORMAT}: use the newer program, or another --data-dir",
            path.display()
        ),
        Err(_) => {
            bail!("{} does not hold a version number: is {} a data folder?", file.display(), path.display())
        }
    }
}

fn read_optional(file: &Path) -> Result<Option<String>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// The host's name, or `localhost` where the system does not tell it.
pub(crate) fn hostname() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_use_is_refused_until_it_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let held = DataFolder::open(folder.path()).unwrap();
        let error = DataFolder::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("in use by another muniment process"), "{error}");
        drop(held);
        assert!(!DataFolder::open(folder.path()).unwrap().is_fresh());
    }

    #[test]
    fn a_folder_of_a_newer_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("format"), "2\n").unwrap();
        let error = DataFolder::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("written by a newer muniment"), "{error}");
    }

    #[test]
    fn the_instance_name_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::open(folder.path()).unwrap();
        let made = data.instance(None).unwrap();
        assert_eq!(data.instance(None).unwrap(), made);
        assert_eq!(data.instance(Some("given")).unwrap(), "given");
        assert_eq!(data.instance(None).unwrap(), "given");
    }
}
