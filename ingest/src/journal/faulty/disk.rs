//! A disk in memory that loses, tears and refuses as it is told.
//!
//! What is written stands in a cache until it is synced. When the power goes, any part of what was not synced is
//! there afterwards, by sectors; a sync that fails drops what it was to write and the cache goes on showing it, as
//! Linux does.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use super::super::storage::{Storage, StorageFile};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// Handles of one disk.
#[derive(Clone)]
pub(super) struct Disk(Arc<Mutex<State>>);

struct State {
    random: u64,
    files: BTreeMap<Inode, Content>,
    /// Names as programs see them.
    names: BTreeMap<String, Inode>,
    /// Names as they are after a power failure.
    durable: BTreeMap<String, Inode>,
    /// Changes of names that are not synced.
    renamed: Vec<(String, Option<Inode>)>,
    /// Most bytes that all files may have.
    room: u64,
    reserves: bool,
    /// How many syncs work until one fails.
    syncs: Option<u32>,
    /// How many operations are done until the power goes.
    power: Option<u32>,
}

type Inode = u64;

#[derive(Default)]
struct Content {
    cache: Vec<u8>,
    durable: Vec<u8>,
    dirty: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Length(usize),
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => {
                to.resize(to.len().max(at + bytes.len()), 0);
                to[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Self::Length(len) => to.resize(*len, 0),
        }
    }

    /// The parts that reach the disk independently.
    fn parts(self) -> Vec<Self> {
        let Self::Write { at, bytes } = self else { return vec![self] };
        let mut parts = Vec::new();
        let mut done = 0;
        while done < bytes.len() {
            let end = bytes.len().min(done + SECTOR - (at + done) % SECTOR);
            parts.push(Self::Write { at: at + done, bytes: bytes[done..end].to_vec() });
            done = end;
        }
        parts
    }
}

impl State {
    fn random(&mut self, below: u64) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    /// Counts an operation; none works once the power is gone.
    fn work(&mut self) -> io::Result<()> {
        match &mut self.power {
            Some(0) => Err(io::Error::other("the power is gone")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn used(&self) -> u64 {
        self.files.values().map(|f| f.cache.len() as u64).sum()
    }

    fn content(&mut self, inode: Inode) -> &mut Content {
        self.files.entry(inode).or_default()
    }

    fn change(&mut self, inode: Inode, change: Change) {
        let content = self.content(inode);
        change.apply(&mut content.cache);
        content.dirty.push(change);
    }

    /// Lets any part of what is not synced reach the disk, and forgets the rest.
    fn settle(&mut self, inode: Inode) {
        let dirty = std::mem::take(&mut self.content(inode).dirty);
        // All, nothing, a beginning, or any choice.
        let (mode, count) = (self.random(4), dirty.len() as u64);
        let until = self.random(count + 1) as usize;
        for (i, change) in dirty.into_iter().enumerate() {
            for part in change.parts() {
                let reaches = match mode {
                    0 => false,
                    1 => true,
                    2 => i < until,
                    _ => self.random(2) == 0,
                };
                if reaches {
                    part.apply(&mut self.content(inode).durable);
                }
            }
        }
    }

    fn inode(&self, name: &str) -> io::Result<Inode> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn name(&mut self, name: &str, inode: Option<Inode>) {
        match inode {
            Some(inode) => self.names.insert(name.to_owned(), inode),
            None => self.names.remove(name),
        };
        self.renamed.push((name.to_owned(), inode));
    }
}

fn rename(names: &mut BTreeMap<String, Inode>, (name, inode): (String, Option<Inode>)) {
    match inode {
        Some(inode) => names.insert(name, inode),
        None => names.remove(&name),
    };
}

impl Disk {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: seed,
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            durable: BTreeMap::new(),
            renamed: Vec::new(),
            room: u64::MAX,
            reserves: true,
            syncs: None,
            power: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The power fails and comes back.
    pub(super) fn crash(&self) {
        let mut state = self.state();
        let inodes: Vec<_> = state.files.keys().copied().collect();
        for inode in inodes {
            state.settle(inode);
            let content = state.content(inode);
            content.cache = content.durable.clone();
        }
        let renamed = std::mem::take(&mut state.renamed);
        let reached = state.random(renamed.len() as u64 + 1) as usize;
        renamed.into_iter().take(reached).for_each(|change| rename(&mut state.durable, change));
        state.names = state.durable.clone();
        let kept: Vec<_> = state.names.values().copied().collect();
        state.files.retain(|inode, _| kept.contains(inode));
        (state.power, state.syncs) = (None, None);
    }

    /// The power fails after this many operations; until [`Self::crash`] nothing works any more.
    pub(super) fn lose_power_after(&self, operations: u32) {
        let mut state = self.state();
        state.power = Some(state.power.map_or(operations, |left| left.min(operations)));
    }

    /// After this many that work, one sync of a file fails.
    pub(super) fn fail_sync_after(&self, syncs: u32) {
        self.state().syncs = Some(syncs);
    }

    /// Sets how much more fits.
    pub(super) fn set_free(&self, free: u64) {
        let mut state = self.state();
        state.room = state.used().saturating_add(free);
    }

    /// Sets whether space can be reserved.
    pub(super) fn set_reserves(&self, reserves: bool) {
        self.state().reserves = reserves;
    }

    /// Flips a bit of what is durable.
    pub(super) fn flip(&self, name: &str, bit: u64) {
        let mut state = self.state();
        let inode = state.inode(name).unwrap();
        let content = state.content(inode);
        for bytes in [&mut content.cache, &mut content.durable] {
            bytes[bit as usize / 8] ^= 1 << (bit % 8);
        }
    }
}

impl Storage for Disk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.work()?;
        Ok(state.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let mut state = self.state();
        state.work()?;
        if let Ok(inode) = state.inode(name) {
            state.change(inode, Change::Length(0));
            return Ok(Arc::new(File { disk: self.clone(), inode }));
        }
        let inode = state.random(u64::MAX);
        state.content(inode);
        state.name(name, Some(inode));
        Ok(Arc::new(File { disk: self.clone(), inode }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let mut state = self.state();
        state.work()?;
        Ok(Arc::new(File { disk: self.clone(), inode: state.inode(name)? }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.work()?;
        let inode = state.inode(name)?;
        state.name(name, None);
        // Its space is free at once; what the name still stands for after a power failure is kept.
        if !state.durable.values().any(|i| *i == inode) {
            state.content(inode).cache.clear();
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        state.work()?;
        let renamed = std::mem::take(&mut state.renamed);
        renamed.into_iter().for_each(|change| rename(&mut state.durable, change));
        let named: Vec<_> = state.durable.values().copied().collect();
        state.files.retain(|inode, _| named.contains(inode));
        Ok(())
    }
}

struct File {
    disk: Disk,
    inode: Inode,
}

impl StorageFile for File {
    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.work()?;
        Ok(state.content(self.inode).cache.len() as u64)
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.work()?;
        let len = state.content(self.inode).cache.len() as u64;
        if !state.reserves || len >= bytes {
            return Ok(());
        }
        if state.used() + bytes - len > state.room {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.change(self.inode, Change::Length(bytes as usize));
        Ok(())
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.work()?;
        let cache = &state.content(self.inode).cache;
        let bytes = cache.get(at as usize..at as usize + buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.work()?;
        let at = at as usize;
        let grows = (at + buf.len()).saturating_sub(state.content(self.inode).cache.len());
        let fits = grows as u64 <= state.room.saturating_sub(state.used());
        let len = if fits { buf.len() } else { state.random(buf.len() as u64) as usize };
        state.change(self.inode, Change::Write { at, bytes: buf[..len].to_vec() });
        if fits { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.work()?;
        state.change(self.inode, Change::Length(len as usize));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.work()?;
        match &mut state.syncs {
            Some(0) => {
                state.syncs = None;
                state.settle(self.inode);
                return Err(io::Error::other("told to fail"));
            }
            Some(left) => *left -= 1,
            None => {}
        }
        let content = state.content(self.inode);
        let dirty = std::mem::take(&mut content.dirty);
        dirty.iter().for_each(|change| change.apply(&mut content.durable));
        Ok(())
    }
}
