//! The deployment's key: made at the first start, or given as a file to several instances.

use std::{
    fmt, fs, io,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Nothing longer is a key file: 64 hexadecimal digits and a line end.
const MAX_FILE_BYTES: u64 = 128;

/// 32 random bytes under which ids and redaction hashes are made.
///
/// Without it neither can be computed or guessed at, so losing it means new ids for old events: back it up.
/// Its memory is cleared when it is dropped, and `Debug` does not show it.
#[derive(Clone)]
pub struct DeploymentKey(Zeroizing<[u8; 32]>);

/// Tells keys apart without telling anything of them: an HMAC of a constant, which may be kept and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyCheck(pub [u8; 32]);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("the deployment key file {} cannot be {action}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        cause: io::Error,
    },
    /// The file holds something else.
    #[error("{} is not a deployment key: it must hold 64 hexadecimal digits, or exactly 32 bytes", .0.display())]
    Malformed(PathBuf),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes for a deployment key: {0}")]
    Random(getrandom::Error),
}

impl DeploymentKey {
    /// The key with these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A new random key.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn generate() -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *bytes).map_err(KeyError::Random)?;
        Ok(Self(bytes))
    }

    /// Reads the key from `path`.
    ///
    /// # Errors
    /// When the file cannot be read, or holds something else.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let failed = |cause| KeyError::File { path: path.to_owned(), action: "read", cause };
        if fs::metadata(path).map_err(failed)?.len() > MAX_FILE_BYTES {
            return Err(KeyError::Malformed(path.to_owned()));
        }
        let content = Zeroizing::new(fs::read(path).map_err(failed)?);
        parse(&content).ok_or_else(|| KeyError::Malformed(path.to_owned()))
    }

    /// Reads the key from `path`, or makes one and keeps it there with mode 0600.
    ///
    /// When it returns, the file is on disk. Two processes that start at once end with the same key.
    ///
    /// # Errors
    /// When the file cannot be read or written, or holds something else.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        match Self::load(path) {
            Err(KeyError::File { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {}
            loaded => return loaded,
        }
        let key = Self::generate()?;
        match key.store(path) {
            Ok(()) => Ok(key),
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => Self::load(path),
            Err(cause) => Err(KeyError::File { path: path.to_owned(), action: "written", cause }),
        }
    }

    /// Writes the file beside its place and links it there, so that nobody ever reads half a key.
    fn store(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let beside = folder.join(format!(".deployment-key-{}", uuid::Uuid::new_v4()));
        let mut text = Zeroizing::new(hex::encode(self.0.as_slice()));
        text.push('\n');
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        let linked = file
            .write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::hard_link(&beside, path));
        fs::remove_file(&beside)?;
        linked?;
        fs::File::open(folder)?.sync_all()
    }

    /// The value by which another instance's key is compared with this one.
    pub fn check(&self) -> KeyCheck {
        KeyCheck(self.mac("key check").chain_update("muniment").finalize().into_bytes().into())
    }

    /// An HMAC-SHA-256 under a key of its own for `purpose`, derived from this one.
    pub(crate) fn mac(&self, purpose: &str) -> Hmac<Sha256> {
        let subkey = keyed(&*self.0).chain_update(purpose).finalize().into_bytes();
        keyed(&subkey)
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    match Hmac::new_from_slice(key) {
        Ok(mac) => mac,
        Err(_) => unreachable!("HMAC takes keys of any length"),
    }
}

fn parse(content: &[u8]) -> Option<DeploymentKey> {
    let mut bytes = Zeroizing::new([0; 32]);
    if content.len() == bytes.len() {
        bytes.copy_from_slice(content);
    } else {
        hex::decode_to_slice(content.trim_ascii(), &mut *bytes).ok()?;
    }
    Some(DeploymentKey(bytes))
}

impl fmt::Debug for DeploymentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeploymentKey(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_first_start_makes_a_private_file_and_the_next_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deployment.key");
        let made = DeploymentKey::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(*DeploymentKey::load_or_create(&path).unwrap().0, *made.0);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn starts_at_once_agree() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deployment.key");
        let keys: Vec<_> = std::thread::scope(|s| {
            let starts: Vec<_> =
                (0..8).map(|_| s.spawn(|| DeploymentKey::load_or_create(&path).unwrap())).collect();
            starts.into_iter().map(|t| *t.join().unwrap().0).collect()
        });
        assert!(keys.windows(2).all(|k| k[0] == k[1]));
    }

    #[test]
    fn a_file_of_raw_bytes_is_a_key_and_anything_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        fs::write(&path, [9; 32]).unwrap();
        assert_eq!(*DeploymentKey::load(&path).unwrap().0, [9; 32]);
        for wrong in [&b""[..], b"short", &[b'a'; 63], &[b'g'; 64], &[b'a'; 4096]] {
            fs::write(&path, wrong).unwrap();
            let error = DeploymentKey::load_or_create(&path).unwrap_err();
            assert!(error.to_string().contains("64 hexadecimal digits"), "{error}");
        }
    }

    #[test]
    fn a_check_is_the_same_for_the_same_key_at_every_version() {
        let check = |byte| hex::encode(DeploymentKey::from_bytes([byte; 32]).check().0);
        assert_eq!(check(7), "366cce444e569c974d29e789ac45e7682a55af8f5c981a9cbeefe9a40fa79e5a");
        assert_ne!(check(7), check(8));
    }

    #[test]
    fn debug_hides_the_key() {
        assert_eq!(format!("{:?}", DeploymentKey::from_bytes([65; 32])), "DeploymentKey(hidden)");
    }
}
