//! What is in force as a file says: loaded whole, told apart from another version by a hash.

use std::{
    error::Error,
    io::{self, Read},
    path::Path,
};

/// The largest file. The largest in the field have some hundreds of rules, about 50 kB.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;

/// A value that a file holds.
pub trait FromFile: Sized {
    /// What it is called in messages.
    const NAME: &'static str;
    /// Why bytes hold none.
    type Error: Error + Send + Sync + 'static;

    /// Loads the bytes of a file.
    ///
    /// # Errors
    /// When they hold no valid value.
    fn from_bytes(bytes: &[u8]) -> Result<Self, Self::Error>;

    /// What tells this value from others, in lower-case hex.
    fn hash(&self) -> &str;

    /// Reads and loads a file.
    ///
    /// # Errors
    /// When the file cannot be read, or holds no valid value.
    fn from_file(path: &Path) -> Result<Self, LoadError<Self::Error>> {
        load(path, read(path))
    }
}

/// A file that gives no value.
#[derive(Debug, thiserror::Error)]
pub enum LoadError<E: Error + 'static> {
    /// The file cannot be read.
    #[error("cannot read the {name} {path}")]
    Read {
        /// What it should hold.
        name: &'static str,
        /// The file.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// What it holds is something else.
    #[error("cannot use the {name} {path}")]
    Refused {
        /// What it should hold.
        name: &'static str,
        /// The file.
        path: String,
        /// Why not.
        #[source]
        source: E,
    },
}

/// Bytes that are not the text of a file of ours.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotText {
    /// Larger than [`MAX_FILE_BYTES`].
    #[error("the file may have {MAX_FILE_BYTES} bytes")]
    TooLarge,
    /// Nothing but white space and comments, as a file is for an instant while it is written.
    #[error("the file is empty")]
    Empty,
    /// Not UTF-8.
    #[error("the file is not UTF-8 from byte {0} on")]
    NotUtf8(usize),
}

/// The text of YAML or JSON.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, NotText> {
    if bytes.len() > MAX_FILE_BYTES {
        return Err(NotText::TooLarge);
    }
    let text = str::from_utf8(bytes).map_err(|error| NotText::NotUtf8(error.valid_up_to()))?;
    let is_blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#') || line == "---";
    if text.lines().all(is_blank) {
        return Err(NotText::Empty);
    }
    Ok(text)
}

/// A file's bytes, at most one more than it may have.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The value of what was read.
pub(crate) fn load<F: FromFile>(path: &Path, read: io::Result<Vec<u8>>) -> Result<F, LoadError<F::Error>> {
    let (name, shown) = (F::NAME, || path.display().to_string());
    let bytes = read.map_err(|source| LoadError::Read { name, path: shown(), source })?;
    F::from_bytes(&bytes).map_err(|source| LoadError::Refused { name, path: shown(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_told_apart() {
        assert_eq!(text(b"# why\n---\nrules: []\n").unwrap(), "# why\n---\nrules: []\n");
        assert_eq!(text(b"---\n  # nothing\n\n"), Err(NotText::Empty));
        assert_eq!(text(b""), Err(NotText::Empty));
        assert_eq!(text(b"rules: \xff"), Err(NotText::NotUtf8(7)));
        assert_eq!(text(&vec![b'x'; MAX_FILE_BYTES + 1]), Err(NotText::TooLarge));
    }
}
