//! A configuration in a file, which only its owner should be able to read.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};

use manifest::Refused;
use zeroize::Zeroizing;

use super::{EncryptionConfig, MAX_CONFIG_BYTES};

/// Who may be able to read a file with keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readers {
    /// Nobody but its owner: a file that its group or others can open is refused.
    #[default]
    Owner,
    /// Anybody. Somebody else sees to it that the file is out of reach.
    Anybody,
}

/// A file that gives no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// The file.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Others than its owner can open the file.
    #[error("{path} has mode {mode:04o}, so that others than its owner can open it; it must be 0600")]
    Exposed {
        /// The file.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// What it holds is not what it should be.
    #[error("{path} is refused")]
    Refused {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: Refused,
    },
}

impl EncryptionConfig {
    /// Reads and loads a file. For `reload` see [`EncryptionConfig::from_bytes`].
    ///
    /// # Errors
    /// When the file cannot be read, is open to others, or holds no valid configuration.
    pub fn from_file(path: &Path, readers: Readers, reload: bool) -> Result<Self, LoadError> {
        let bytes = read(path, readers, MAX_CONFIG_BYTES)?;
        Self::from_bytes(&bytes, reload)
            .map_err(|source| LoadError::Refused { path: path.display().to_string(), source })
    }
}

/// A file's bytes, at most one more than it may have; cleared when dropped.
pub(crate) fn read(path: &Path, readers: Readers, max: usize) -> Result<Zeroizing<Vec<u8>>, LoadError> {
    let shown = || path.display().to_string();
    let failed = |source| LoadError::Read { path: shown(), source };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.mode() & 0o7777;
    if readers == Readers::Owner && mode & 0o077 != 0 {
        return Err(LoadError::Exposed { path: shown(), mode });
    }
    // Reserved whole, so that no copy of a key stays behind when the buffer would grow.
    let reserved = usize::try_from(metadata.len()).unwrap_or(max).min(max).saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(reserved));
    file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
