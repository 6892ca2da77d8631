//! A small file that is replaced whole, so that a crash leaves the one or the other.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

/// Replaces the file by one with these bytes, all or nothing, and returns when that is durable.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_folder(path)
}

/// Returns when the names in the folder of `path` are durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
