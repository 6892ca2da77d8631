//! One tantivy index for each UTC day, opened when it is needed.

use std::{
    collections::BTreeMap,
    fs,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ingest::time::Day;
use tantivy::{IndexReader, ReloadPolicy, tokenizer::TextAnalyzer};

use crate::{
    IndexError,
    folder::{self, Changes, Folder},
    schema::{self, Fields},
    tokenizer::{self, EventTokenizer},
};

/// How many days are kept open for queries. A day has up to some dozens of segments of eight mapped files.
const MAX_OPEN: usize = 24;

/// An open day.
#[derive(Clone)]
pub(crate) struct OpenDay {
    pub(crate) index: tantivy::Index,
    pub(crate) reader: IndexReader,
}

/// The day folders of one generation.
pub(crate) struct Days {
    dir: PathBuf,
    fields: Fields,
    state: Mutex<State>,
}

struct State {
    /// Every day that has a folder; `None` while it is not open.
    days: BTreeMap<Day, Option<(Arc<OpenDay>, u64)>>,
    uses: u64,
    /// What is not published of each day, and of days that are open.
    changes: BTreeMap<Day, Arc<Changes>>,
}

impl Days {
    pub(crate) fn open(dir: &Path, fields: Fields) -> Result<Self, IndexError> {
        let mut days = BTreeMap::new();
        for entry in fs::read_dir(dir).map_err(IndexError::file(dir))? {
            let name = entry.map_err(IndexError::file(dir))?.file_name();
            if let Some(day) = name.to_str().and_then(|name| name.parse().ok()) {
                days.insert(day, None);
            }
        }
        let state = State { days, uses: 0, changes: BTreeMap::new() };
        Ok(Self { dir: dir.to_owned(), fields, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The days in `range` that have documents, newest first.
    pub(crate) fn newest_first(&self, range: RangeInclusive<Day>) -> Vec<Day> {
        if range.start() > range.end() {
            return Vec::new();
        }
        let mut days: Vec<_> = self.state().days.range(range).map(|(day, _)| *day).collect();
        days.reverse();
        days
    }

    /// The day's index, if there is one.
    pub(crate) fn get(&self, day: Day) -> Result<Option<Arc<OpenDay>>, IndexError> {
        let mut state = self.state();
        if !state.days.contains_key(&day) {
            return Ok(None);
        }
        self.open_in(&mut state, day).map(Some)
    }

    /// The day's index; made when there is none.
    pub(crate) fn get_or_create(&self, day: Day) -> Result<Arc<OpenDay>, IndexError> {
        self.open_in(&mut self.state(), day)
    }

    fn open_in(&self, state: &mut State, day: Day) -> Result<Arc<OpenDay>, IndexError> {
        state.uses += 1;
        let now = state.uses;
        if let Some(Some((open, used))) = state.days.get_mut(&day) {
            *used = now;
            return Ok(open.clone());
        }
        let open = Arc::new(self.open_day(state, day)?);
        state.days.insert(day, Some((open.clone(), now)));
        state.close_least_used();
        Ok(open)
    }

    fn open_day(&self, state: &mut State, day: Day) -> Result<OpenDay, IndexError> {
        let dir = self.dir.join(day.to_string());
        let changes = match state.changes.get(&day) {
            Some(changes) => changes.clone(),
            None => {
                fs::create_dir_all(&dir).map_err(IndexError::file(&dir))?;
                Changes::of(&dir).map_err(IndexError::file(&dir))?
            }
        };
        state.changes.insert(day, changes.clone());
        let index = tantivy::Index::builder()
            .schema(self.fields.schema.clone())
            .settings(schema::settings())
            .open_or_create(Folder::open(changes)?)?;
        index.tokenizers().register(tokenizer::NAME, TextAnalyzer::from(EventTokenizer::default()));
        let reader = index
            .reader_builder()
            .reload_policy(ReloadPolicy::Manual)
            .doc_store_cache_num_blocks(0)
            .try_into()?;
        Ok(OpenDay { index, reader })
    }

    /// Makes what was committed to any day durable.
    pub(crate) fn publish(&self) -> Result<(), IndexError> {
        let changes: Vec<_> = self.state().changes.values().cloned().collect();
        folder::publish(&changes).map_err(IndexError::file(&self.dir))?;
        drop(changes);
        self.state().changes.retain(|_, changes| Arc::strong_count(changes) > 1 || !changes.is_published());
        Ok(())
    }

    /// Removes the days before `first` with their files; queries under way go on with what they have open.
    pub(crate) fn remove_before(&self, first: Day) -> Result<Vec<Day>, IndexError> {
        let removed: Vec<Day> = {
            let mut state = self.state();
            let kept = state.changes.split_off(&first);
            state.changes = kept;
            let kept = state.days.split_off(&first);
            std::mem::replace(&mut state.days, kept).into_keys().collect()
        };
        for day in &removed {
            let dir = self.dir.join(day.to_string());
            match fs::remove_dir_all(&dir) {
                Err(fault) if fault.kind() != std::io::ErrorKind::NotFound => {
                    return Err(IndexError::File { path: dir, source: fault });
                }
                _ => {}
            }
        }
        Ok(removed)
    }
}

impl State {
    /// Closes days that nobody holds until few enough are open.
    fn close_least_used(&mut self) {
        let open = self.days.iter().filter_map(|(day, open)| open.as_ref().map(|(_, used)| (*used, *day)));
        let mut open: Vec<_> = open.collect();
        if open.len() <= MAX_OPEN {
            return;
        }
        open.sort_unstable();
        for (_, day) in &open[..open.len() - MAX_OPEN] {
            if let Some(slot) = self.days.get_mut(day)
                && slot.as_ref().is_some_and(|(open, _)| Arc::strong_count(open) == 1)
            {
                *slot = None;
            }
        }
    }
}
