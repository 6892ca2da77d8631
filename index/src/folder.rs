//! The folder of one day: what is written to it becomes durable together with other days, not file by file.
//!
//! Tantivy syncs every file of a segment, and the list of its files once more for each of them: some thirty waits
//! for the disk in one commit of one day. Here files are only written, and `meta.json`, which says what counts, is
//! kept in memory until [`publish`] has synced everything that it names. What it no longer names is deleted
//! after that. So a crash finds on the disk what was published last, and the files that it needs.
//!
//! The list of files is not kept at all: it is what is in the folder. Files that a crash left behind are on it, so
//! tantivy removes them after its next commit.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tantivy::directory::{
    AntiCallToken, Directory, DirectoryLock, FileHandle, Lock, MmapDirectory, TerminatingWrite,
    WatchCallback, WatchHandle, WritePtr,
    error::{DeleteError, LockError, OpenReadError, OpenWriteError},
};

/// Tantivy's list of the files that it may delete.
const LIST: &str = ".managed.json";

/// Behind the name of a file that will be renamed to it.
const NEW: &str = "new";

/// Syncs under way at once. Those that wait together share one write of the file system's journal, so that the files
/// of four hundred days take a second or two. (One `syncfs` would wait for what every other program has written.)
const SYNCS_AT_ONCE: usize = 32;

/// A day's folder, as tantivy sees it.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    files: MmapDirectory,
    changes: Arc<Changes>,
}

/// What is not published of a folder.
#[derive(Debug)]
pub(crate) struct Changes {
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    /// Files that are not synced.
    written: BTreeSet<PathBuf>,
    /// Contents that are not on the disk yet.
    replaced: BTreeMap<PathBuf, Arc<[u8]>>,
    /// Files that are on the disk still.
    deleted: BTreeSet<PathBuf>,
    list: Arc<[u8]>,
}

impl Folder {
    /// The folder `changes` is of, which is there.
    pub(crate) fn open(changes: Arc<Changes>) -> tantivy::Result<Self> {
        Ok(Self { files: MmapDirectory::open(&changes.dir)?, changes })
    }
}

impl Changes {
    /// Of a folder that is there. There must be one of these for one folder at a time.
    pub(crate) fn of(dir: &Path) -> io::Result<Arc<Self>> {
        let mut list = BTreeSet::new();
        for entry in fs::read_dir(dir)? {
            let name = PathBuf::from(entry?.file_name());
            if !name.as_os_str().as_encoded_bytes().starts_with(b".")
                && name.extension() != Some(OsStr::new(NEW))
            {
                list.insert(name);
            }
        }
        let state = State { list: serde_json::to_vec(&list)?.into(), ..State::default() };
        Ok(Arc::new(Self { dir: dir.to_owned(), state: Mutex::new(state) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the disk has everything.
    pub(crate) fn is_published(&self) -> bool {
        let state = self.state();
        state.written.is_empty() && state.replaced.is_empty() && state.deleted.is_empty()
    }

    /// Notes that the disk has what `published` says.
    fn forget(&self, published: &State) {
        let mut state = self.state();
        state.written.retain(|name| !published.written.contains(name));
        state.deleted.retain(|name| !published.deleted.contains(name));
        state.replaced.retain(|name, content| {
            published.replaced.get(name).is_none_or(|published| !Arc::ptr_eq(published, content))
        });
    }
}

/// Makes what tantivy committed to these folders durable. Folders that are no longer there are passed over.
///
/// # Errors
/// When the disk fails; then nothing is forgotten, and it may be tried again.
pub(crate) fn publish(folders: &[Arc<Changes>]) -> io::Result<()> {
    let mut found = Vec::new();
    for folder in folders {
        // Nothing of it is younger than its `meta.json`, because segments come first and deletions last.
        let state = folder.state().clone();
        if !folder.is_published() && folder.dir.exists() {
            found.push((folder, state));
        }
    }
    let mut files = Vec::new();
    for (folder, state) in &found {
        files.extend(state.written.difference(&state.deleted).map(|name| folder.dir.join(name)));
        for (name, content) in &state.replaced {
            let new = new_name(&folder.dir.join(name));
            unless_gone(fs::write(&new, content))?;
            files.push(new);
        }
    }
    sync(&files)?;
    for (folder, state) in &found {
        for path in state.replaced.keys().map(|name| folder.dir.join(name)) {
            unless_gone(fs::rename(new_name(&path), &path))?;
        }
    }
    let dirs: Vec<_> = found.iter().map(|(folder, _)| folder.dir.clone()).collect();
    sync(&dirs)?;
    for (folder, state) in &found {
        for name in &state.deleted {
            unless_gone(fs::remove_file(folder.dir.join(name)))?;
        }
        folder.forget(state);
    }
    Ok(())
}

fn new_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(NEW);
    name.into()
}

/// A day may expire while it is published.
fn unless_gone(done: io::Result<()>) -> io::Result<()> {
    done.or_else(|fault| if fault.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(fault) })
}

/// Syncs files and folders.
fn sync(paths: &[PathBuf]) -> io::Result<()> {
    let one = |path: &PathBuf| unless_gone(File::open(path).and_then(|file| file.sync_all()));
    std::thread::scope(|scope| {
        let part = paths.len().div_ceil(SYNCS_AT_ONCE).max(1);
        let parts: Vec<_> =
            paths.chunks(part).map(|part| scope.spawn(|| part.iter().try_for_each(one))).collect();
        parts
            .into_iter()
            .try_for_each(|part| part.join().unwrap_or_else(|_| Err(io::Error::other("a sync ended early"))))
    })
}

impl Directory for Folder {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        self.files.get_file_handle(path)
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        self.changes.state().deleted.insert(path.to_owned());
        Ok(())
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        let state = self.changes.state();
        if state.replaced.contains_key(path) {
            return Ok(true);
        }
        Ok(!state.deleted.contains(path) && self.files.exists(path)?)
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        let full = self.changes.dir.join(path);
        let open = || {
            let mut state = self.changes.state();
            if state.deleted.remove(path) {
                unless_gone(fs::remove_file(&full))?;
            }
            OpenOptions::new().write(true).create_new(true).open(&full)
        };
        match open() {
            Ok(file) => Ok(BufWriter::new(Box::new(Unsynced {
                file,
                name: path.to_owned(),
                changes: self.changes.clone(),
            }))),
            Err(fault) if fault.kind() == io::ErrorKind::AlreadyExists => {
                Err(OpenWriteError::FileAlreadyExists(path.to_owned()))
            }
            Err(fault) => Err(OpenWriteError::wrap_io_error(fault, path.to_owned())),
        }
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        let state = self.changes.state();
        if path == Path::new(LIST) {
            return Ok(state.list.to_vec());
        }
        match state.replaced.get(path) {
            Some(content) => Ok(content.to_vec()),
            None => self.files.atomic_read(path),
        }
    }

    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        let mut state = self.changes.state();
        if path == Path::new(LIST) {
            state.list = data.into();
        } else {
            state.replaced.insert(path.to_owned(), data.into());
        }
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn acquire_lock(&self, lock: &Lock) -> Result<DirectoryLock, LockError> {
        self.files.acquire_lock(lock)
    }

    fn watch(&self, callback: WatchCallback) -> tantivy::Result<WatchHandle> {
        self.files.watch(callback)
    }
}

/// A file that [`publish`] will sync once it is complete.
struct Unsynced {
    file: File,
    name: PathBuf,
    changes: Arc<Changes>,
}

impl Write for Unsynced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl TerminatingWrite for Unsynced {
    fn terminate_ref(&mut self, _: AntiCallToken) -> io::Result<()> {
        self.file.flush()?;
        self.changes.state().written.insert(std::mem::take(&mut self.name));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tantivy::{
        Index, IndexWriter, TantivyDocument,
        merge_policy::NoMergePolicy,
        schema::{Field, INDEXED, Schema},
    };

    use super::*;

    /// Opens the folder as another process would, after this one was killed.
    fn open(dir: &Path) -> (Arc<Changes>, Index, Field) {
        let mut schema = Schema::builder();
        let n = schema.add_u64_field("n", INDEXED);
        let changes = Changes::of(dir).unwrap();
        let folder = Folder::open(changes.clone()).unwrap();
        (changes, Index::builder().schema(schema.build()).open_or_create(folder).unwrap(), n)
    }

    fn count(index: &Index) -> u64 {
        index.reader().unwrap().searcher().num_docs()
    }

    fn add(index: &Index, n: Field, value: u64) -> IndexWriter {
        let mut writer = index.writer_with_num_threads(1, 15_000_000).unwrap();
        writer.set_merge_policy(Box::new(NoMergePolicy));
        let mut doc = TantivyDocument::new();
        doc.add_u64(n, value);
        writer.add_document(doc).unwrap();
        writer.commit().unwrap();
        writer
    }

    fn files(dir: &Path) -> BTreeSet<String> {
        let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !name.starts_with('.')).collect()
    }

    #[test]
    fn a_crash_finds_what_was_published_last() {
        let dir = tempfile::tempdir().unwrap();
        let (changes, index, n) = open(dir.path());
        add(&index, n, 1);
        publish(std::slice::from_ref(&changes)).unwrap();
        assert!(changes.is_published());
        add(&index, n, 2);
        assert_eq!(count(&index), 2, "the process itself sees every commit");
        assert_eq!(count(&open(dir.path()).1), 1);
        publish(&[changes]).unwrap();
        assert_eq!(count(&open(dir.path()).1), 2);
    }

    #[test]
    fn files_stay_until_what_replaces_them_is_published() {
        let dir = tempfile::tempdir().unwrap();
        let (changes, index, n) = open(dir.path());
        drop(add(&index, n, 1));
        drop(add(&index, n, 2));
        publish(std::slice::from_ref(&changes)).unwrap();
        let before = files(dir.path());
        let mut writer: IndexWriter = index.writer_with_num_threads(1, 15_000_000).unwrap();
        writer.merge(&index.searchable_segment_ids().unwrap()).wait().unwrap();
        writer.commit().unwrap();
        writer.garbage_collect_files().wait().unwrap();
        assert!(before.is_subset(&files(dir.path())));
        assert_eq!(count(&open(dir.path()).1), 2);
        publish(&[changes]).unwrap();
        assert_eq!(before.intersection(&files(dir.path())).collect::<Vec<_>>(), ["meta.json"]);
        assert_eq!(count(&open(dir.path()).1), 2);
    }

    #[test]
    fn files_that_a_crash_left_are_removed_by_the_next_commit() {
        let dir = tempfile::tempdir().unwrap();
        let (changes, index, n) = open(dir.path());
        drop(add(&index, n, 1));
        publish(&[changes]).unwrap();
        let kept = files(dir.path());
        drop(add(&index, n, 2));
        let left: BTreeSet<_> = files(dir.path()).difference(&kept).cloned().collect();
        assert!(!left.is_empty());
        let (changes, index, n) = open(dir.path());
        drop(add(&index, n, 3));
        publish(&[changes]).unwrap();
        assert!(files(dir.path()).is_disjoint(&left));
        assert_eq!(count(&open(dir.path()).1), 2);
    }

    #[test]
    fn many_folders_are_published_together() {
        let dir = tempfile::tempdir().unwrap();
        let folders: Vec<_> = (0..12)
            .map(|day| {
                let dir = dir.path().join(day.to_string());
                fs::create_dir(&dir).unwrap();
                let (changes, index, n) = open(&dir);
                drop(add(&index, n, day));
                (dir, changes)
            })
            .collect();
        let changes: Vec<_> = folders.iter().map(|(_, changes)| changes.clone()).collect();
        fs::remove_dir_all(&folders[0].0).unwrap();
        publish(&changes).unwrap();
        for (dir, _) in &folders[1..] {
            assert_eq!(count(&open(dir).1), 1);
        }
        assert!(!folders[0].0.exists());
    }
}
