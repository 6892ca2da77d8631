//! Adds records to their days and commits them: at most [`WriterOptions::open_days`] days are written at once, by the
//! writer of the index in use and that of one being made together. One is closed before another is opened.
//!
//! Records of other days wait for the commit, day by day, so that each day is opened at most once for each commit,
//! however the days of what comes in are mixed.

use std::{collections::BTreeMap, sync::Arc};

use ingest::{record::Record, time::Day};
use tantivy::{
    IndexWriter, Term,
    indexer::{IndexWriterOptions, LogMergePolicy},
};

use crate::{
    IndexError,
    day::{Again, Apart},
    days::OpenDay,
    document::{document, id_term},
    generation::Generation,
    lacking::Lacking,
    slots::{Slot, Slots},
    standing::Standing,
};

/// How many arrival numbers are set aside at once, on disk, before the first of them is given. After a crash
/// numbering goes on above all of them, so no number is ever given to two documents.
const ARRIVALS_SET_ASIDE: u64 = 1 << 20;

/// With fewer records than this in one commit a day is written by one thread, and is not kept open.
const MIN_KEPT_OPEN: usize = 1_000;

/// What writing may use.
#[derive(Clone, Copy, Debug)]
pub struct WriterOptions {
    /// How many days are open for writing at once, during a rebuild by both sides together. Less than two count as
    /// two, one for each side.
    pub open_days: usize,
    /// Threads that build segments, for each open day.
    pub threads: usize,
    /// Memory for segments that are being built, in bytes, for each thread.
    pub thread_bytes: usize,
    /// Segments of about one size that are merged into one.
    pub merge_at: usize,
}

/// Generations that may be written at once: the one in use, and the one that is being made.
pub(crate) const SIDES: usize = 2;

impl WriterOptions {
    /// How many days are open at once, with one at least for each side.
    pub(crate) fn days(&self) -> usize {
        self.open_days.max(SIDES)
    }
}

impl Default for WriterOptions {
    /// Four days of two threads of 20 MB: 160 MB when all are full. With 64 and 96 MB for each thread 160,000
    /// generated events were indexed no faster, on two cores that others used too.
    fn default() -> Self {
        Self { open_days: 4, threads: 2, thread_bytes: 20_000_000, merge_at: 8 }
    }
}

/// The writing side of one generation.
pub(crate) struct Writer {
    options: WriterOptions,
    /// Shared with the writer of the other generation during a rebuild.
    slots: Slots,
    /// How many of the slots this one may hold.
    share: usize,
    open: Vec<DayWriter>,
    /// Records of days that are not open, with their arrival numbers.
    waiting: BTreeMap<Day, Vec<(u64, Record)>>,
    standing: Standing,
    arrival: u64,
    uncommitted_bytes: usize,
    /// The day that is being indexed again.
    pub(crate) again: Option<Again>,
    /// Dropped after the days, whose threads write to its files.
    generation: Arc<Generation>,
}

pub(crate) struct DayWriter {
    day: Day,
    open: Arc<OpenDay>,
    writer: IndexWriter,
    /// One more than the last arrival number, while there is something to commit.
    dirty: Option<u64>,
    /// Given back when the writer is gone.
    _slot: Slot,
}

impl Writer {
    /// A writer that holds at most `share` of the slots at once.
    pub(crate) fn open(
        generation: Arc<Generation>,
        options: WriterOptions,
        slots: Slots,
        share: usize,
    ) -> Result<Self, IndexError> {
        let mut standing = Standing::read(&generation.dir)?;
        let arrival = standing.ceiling;
        standing.ceiling += ARRIVALS_SET_ASIDE;
        standing.write(&generation.dir)?;
        let (open, waiting) = (Vec::new(), BTreeMap::new());
        let (uncommitted_bytes, again) = (0, None);
        Ok(Self {
            options,
            slots,
            share,
            open,
            waiting,
            standing,
            arrival,
            uncommitted_bytes,
            again,
            generation,
        })
    }

    pub(crate) fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    pub(crate) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The arrival number of the next document.
    pub(crate) fn arrival(&self) -> u64 {
        self.arrival
    }

    pub(crate) fn uncommitted_bytes(&self) -> usize {
        self.uncommitted_bytes
    }

    /// Adds records, each in place of any with its id. They are found after the next commit.
    pub(crate) fn add(&mut self, records: &[Record]) -> Result<(), IndexError> {
        self.set_arrivals_aside(records.len() as u64)?;
        let mut by_day: Vec<&Record> = records.iter().collect();
        by_day.sort_by_key(|record| record.envelope.day());
        for of_day in by_day.chunk_by(|a, b| a.envelope.day() == b.envelope.day()) {
            self.add_to_day(of_day)?;
        }
        Ok(())
    }

    fn add_to_day(&mut self, records: &[&Record]) -> Result<(), IndexError> {
        let day = records[0].envelope.day();
        let first = self.arrival;
        self.arrival += records.len() as u64;
        self.uncommitted_bytes += records.iter().map(|record| record.event.len()).sum::<usize>();
        let numbered = (first..).zip(records.iter().copied());
        let is_open = self.open.iter().any(|open| open.day == day);
        if !is_open && (self.open.len() >= self.share || self.waiting.contains_key(&day)) {
            let waiting = self.waiting.entry(day).or_default();
            waiting.extend(numbered.map(|(arrival, record)| (arrival, record.clone())));
            return Ok(());
        }
        let generation = self.generation.clone();
        self.day(day)?.add(&generation, numbered)
    }

    fn set_arrivals_aside(&mut self, count: u64) -> Result<(), IndexError> {
        if self.arrival + count > self.standing.ceiling {
            self.standing.ceiling = self.arrival + count + ARRIVALS_SET_ASIDE;
            self.standing.write(&self.generation.dir)?;
        }
        Ok(())
    }

    /// The day's writer; the least used one is closed before it is opened when no more may be open.
    fn day(&mut self, day: Day) -> Result<&mut DayWriter, IndexError> {
        match self.open.iter().position(|open| open.day == day) {
            // The most recently used stands last.
            Some(at) => self.open[at..].rotate_left(1),
            None => {
                let slot = self.free_slot()?;
                let opened = self.open_day(day, self.options, slot)?;
                self.open.push(opened);
            }
        }
        let last = self.open.len() - 1;
        Ok(&mut self.open[last])
    }

    fn open_day(&self, day: Day, options: WriterOptions, slot: Slot) -> Result<DayWriter, IndexError> {
        let opened = DayWriter::open(&self.generation, day, options, slot)?;
        let mut policy = LogMergePolicy::default();
        policy.set_min_num_segments(options.merge_at);
        opened.writer.set_merge_policy(match self.again.as_ref().filter(|again| again.day == day) {
            Some(again) => Box::new(Apart { former: again.former.clone(), policy }),
            None => Box::new(policy),
        });
        Ok(opened)
    }

    /// Commits what a day has, without a word of how far that takes the index.
    pub(crate) fn commit_day(&mut self, day: Day) -> Result<(), IndexError> {
        let committed = self.settled_day(day)?.commit()?;
        self.standing.note_all(committed);
        Ok(())
    }

    /// The day's writer, which has everything that waited for it.
    pub(crate) fn settled_day(&mut self, day: Day) -> Result<&mut DayWriter, IndexError> {
        if let Some(records) = self.waiting.remove(&day) {
            self.write_waiting(day, &records)?;
        }
        self.day(day)
    }

    /// The same, and nothing is written to the day when this returns.
    pub(crate) fn close_day(&mut self, day: Day) -> Result<(), IndexError> {
        if let Some(records) = self.waiting.remove(&day) {
            self.write_waiting(day, &records)?;
        }
        if let Some(at) = self.open.iter().position(|open| open.day == day) {
            let committed = self.open.remove(at).close()?;
            self.standing.note_all(committed);
        }
        Ok(())
    }

    /// A slot for one more day, after so many are closed that it may be open.
    fn free_slot(&mut self) -> Result<Slot, IndexError> {
        self.close_until(self.share.saturating_sub(1))?;
        self.slots.take()
    }

    /// Closes the least used days until at most `days` are open.
    fn close_until(&mut self, days: usize) -> Result<(), IndexError> {
        while self.open.len() > days {
            self.standing.note_all(self.open.remove(0).close()?);
        }
        Ok(())
    }

    /// Commits every changed day, then writes how far the index is. Queries see it when this returns.
    pub(crate) fn commit(&mut self, standing: &Standing) -> Result<(), IndexError> {
        for day in &mut self.open {
            self.standing.note_all(day.commit()?);
        }
        for (day, records) in std::mem::take(&mut self.waiting) {
            self.write_waiting(day, &records)?;
        }
        self.generation.days.publish()?;
        self.standing.log = standing.log.clone();
        self.standing.positions = standing.positions.clone();
        // What it lacks first is what is told, until another generation takes its place.
        if self.standing.lacking.is_none() {
            self.standing.lacking = standing.lacking.clone();
        }
        self.standing.write(&self.generation.dir)?;
        self.uncommitted_bytes = 0;
        Ok(())
    }

    /// Lacks nothing any more.
    pub(crate) fn accept(&mut self) -> Result<(), IndexError> {
        let whole = Standing { lacking: None, ..self.standing.clone() };
        whole.write(&self.generation.dir)?;
        self.standing = whole;
        Ok(())
    }

    /// Writes how many lost ranges the ledger knows, and what the index lacks because of them.
    pub(crate) fn note_gaps(&mut self, count: u64, lacking: Option<Lacking>) -> Result<(), IndexError> {
        let mut noted = Standing { gaps: Some(count), ..self.standing.clone() };
        noted.lacking = noted.lacking.or(lacking);
        noted.write(&self.generation.dir)?;
        self.standing = noted;
        Ok(())
    }

    /// Adds and commits what waited for one day.
    fn write_waiting(&mut self, day: Day, records: &[(u64, Record)]) -> Result<(), IndexError> {
        let generation = self.generation.clone();
        let numbered = records.iter().map(|(arrival, record)| (*arrival, record));
        if records.len() < MIN_KEPT_OPEN {
            let options = WriterOptions { threads: 1, ..self.options };
            let slot = self.free_slot()?;
            let mut day = self.open_day(day, options, slot)?;
            day.add(&generation, numbered)?;
            self.standing.note_all(day.close()?);
        } else {
            let day = self.day(day)?;
            day.add(&generation, numbered)?;
            let committed = day.commit()?;
            self.standing.note_all(committed);
        }
        Ok(())
    }

    /// Closes the writers of days before `first`, which are about to be removed.
    pub(crate) fn forget_before(&mut self, first: Day) {
        self.open.retain(|open| open.day >= first);
        self.waiting = self.waiting.split_off(&first);
        self.again.take_if(|again| again.day < first);
        self.standing.days.retain(|day, _| day.parse::<Day>().is_ok_and(|day| day >= first));
    }

    /// Holds at most `share` slots, now and from now on. What a day has is committed when the day is closed.
    pub(crate) fn limit(&mut self, share: usize) -> Result<(), IndexError> {
        self.share = share;
        self.close_until(share)
    }

    /// Takes over the position of another writer, as what the next commit will say.
    pub(crate) fn continue_from(&mut self, other: &Standing) {
        self.standing.log = other.log.clone();
        self.standing.positions = other.positions.clone();
    }
}

impl DayWriter {
    fn open(
        generation: &Generation,
        day: Day,
        options: WriterOptions,
        slot: Slot,
    ) -> Result<Self, IndexError> {
        let open = generation.days.get_or_create(day)?;
        let writer = open.index.writer_with_options(
            IndexWriterOptions::builder()
                .num_worker_threads(options.threads)
                .memory_budget_per_thread(options.thread_bytes)
                .num_merge_threads(1)
                .build(),
        )?;
        Ok(Self { day, open, writer, dirty: None, _slot: slot })
    }

    /// Adds records with their arrival numbers.
    pub(crate) fn add<'r>(
        &mut self,
        generation: &Generation,
        records: impl Iterator<Item = (u64, &'r Record)>,
    ) -> Result<(), IndexError> {
        for (arrival, record) in records {
            self.writer.delete_term(id_term(&generation.fields, record));
            self.writer.add_document(document(&generation.fields, record, arrival))?;
            self.dirty = self.dirty.max(Some(arrival + 1));
        }
        Ok(())
    }

    /// Deletes the documents that have these terms; there is something to commit then, whatever they are.
    pub(crate) fn delete(&mut self, terms: Vec<Term>) {
        for term in terms {
            self.writer.delete_term(term);
        }
        self.dirty = self.dirty.max(Some(0));
    }

    /// Removes, with the next publication, the files that nobody reads any more.
    pub(crate) fn remove_unused(&self) -> Result<(), IndexError> {
        self.writer.garbage_collect_files().wait()?;
        Ok(())
    }

    /// Commits what there is to commit and lets queries see it. Durable once the day's folder is published.
    fn commit(&mut self) -> Result<Option<(Day, u64)>, IndexError> {
        let Some(after) = self.dirty else { return Ok(None) };
        self.writer.prepare_commit()?.commit()?;
        self.dirty = None;
        self.open.reader.reload()?;
        Ok(Some((self.day, after)))
    }

    /// Commits, and waits until nothing more is written to the day.
    fn close(mut self) -> Result<Option<(Day, u64)>, IndexError> {
        let committed = self.commit()?;
        self.writer.wait_merging_threads()?;
        self.open.reader.reload()?;
        Ok(committed)
    }
}

impl Standing {
    fn note_all(&mut self, committed: Option<(Day, u64)>) {
        if let Some((day, after)) = committed {
            self.note(day, after);
        }
    }
}
