//! Indexes one day again, in its place, after bodies that it holds were shredded.
//!
//! Every record of the day is added again as it is now, under the arrival number that it has, and takes the place of the
//! former document in one commit: queries and followers see each record once all the time, and notice nothing. The day
//! is done when none of the segments that were there before has a file.
//!
//! Completeness: the ledger is read once it has everything that the day's segments may hold. A document that it does not
//! know then is one that nobody can show, and goes.

use std::{collections::BTreeSet, fs, sync::Arc, time::Instant};

use ingest::{
    ledger::Ledger,
    record::{Record, RecordId},
    time::Day,
};
use tantivy::{
    DocSet, Searcher, TERMINATED, TantivyError, Term,
    index::{SegmentId, SegmentMeta},
    indexer::{LogMergePolicy, MergeCandidate, MergePolicy},
    schema::IndexRecordOption,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Index, IndexError, Progress,
    days::OpenDay,
    document::id_term,
    rebuild::{CATCH_UP, LOOK_EVERY, MAX_UNCOMMITTED_BYTES, PAGE, covers},
    schema::Fields,
    segment::Columns,
    standing::Standing,
    writer::Writer,
};

/// A day that is being indexed again.
pub(crate) struct Again {
    pub(crate) day: Day,
    /// The segments that are to go.
    pub(crate) former: Arc<BTreeSet<SegmentId>>,
    uncommitted_bytes: usize,
}

/// Merges what is new and leaves what is to go alone, so that no segment has some of both.
#[derive(Debug)]
pub(crate) struct Apart {
    pub(crate) former: Arc<BTreeSet<SegmentId>>,
    pub(crate) policy: LogMergePolicy,
}

impl MergePolicy for Apart {
    fn compute_merge_candidates(&self, segments: &[SegmentMeta]) -> Vec<MergeCandidate> {
        let new = segments.iter().filter(|segment| !self.former.contains(&segment.id()));
        self.policy.compute_merge_candidates(&new.cloned().collect::<Vec<_>>())
    }
}

/// Where a day begins that is indexed again.
struct Begun {
    former: Arc<BTreeSet<SegmentId>>,
    /// A commit has everything that the former segments hold when it has every document below this number.
    arrival: u64,
}

impl Index {
    /// Indexes a day again from `ledger`: when this returns, no file holds what its bodies were opened to before their
    /// key was dropped. Right once the key is known to be gone here. Returns how many records were read.
    ///
    /// # Errors
    /// When the ledger or the disk fails or `cancel` is cancelled; then some of the day is as it was, and doing it again
    /// is right.
    pub async fn renew_day(
        &self,
        day: Day,
        ledger: &dyn Ledger,
        cancel: &CancellationToken,
        mut progress: impl FnMut(Progress) + Send,
    ) -> Result<u64, IndexError> {
        let Some(begun) = self.clone().blocking(move |index| index.begin_day(day)).await? else {
            return Ok(0);
        };
        self.until_recorded(begun.arrival, ledger, cancel).await?;
        let total = ledger.days().await?.iter().find(|(kept, _)| *kept == day).map_or(0, |(_, count)| *count);
        let (mut done, mut after) = (0, None::<RecordId>);
        loop {
            if cancel.is_cancelled() {
                return Err(IndexError::Cancelled);
            }
            let page = ledger.scan(day..day.plus(1), after, PAGE).await?;
            let Some(last) = page.last().map(|record| record.envelope.id) else { break };
            after = Some(last);
            done += page.len() as u64;
            self.prepare(&page).await?;
            self.clone().blocking(move |index| index.add_again(day, &page)).await?;
            progress(Progress { done, total, day });
        }
        self.clone().blocking(move |index| index.end_day(day)).await?;
        self.until_removed(day, begun.former, cancel).await?;
        Ok(done)
    }

    /// Nothing when the day is not in the index.
    fn begin_day(&self, day: Day) -> Result<Option<Begun>, IndexError> {
        let mut writing = self.0.writing();
        let writer = self.0.writer(&mut writing)?;
        let Some(former) = writer.begin_again(day)? else { return Ok(None) };
        let is_settled = writer.uncommitted_bytes() == 0 || !self.is_fed();
        let arrival = if is_settled { 0 } else { writer.arrival() };
        Ok(Some(Begun { former, arrival }))
    }

    fn add_again(&self, day: Day, page: &[Record]) -> Result<(), IndexError> {
        let mut writing = self.0.writing();
        let readable = self.0.readable(page);
        self.0.writer(&mut writing)?.add_again(day, readable.as_deref().unwrap_or(page))
    }

    fn end_day(&self, day: Day) -> Result<(), IndexError> {
        let mut writing = self.0.writing();
        self.0.writer(&mut writing)?.end_again(day)
    }

    /// Waits until the ledger has everything that is committed, and that is all below this arrival number.
    async fn until_recorded(
        &self,
        arrival: u64,
        ledger: &dyn Ledger,
        cancel: &CancellationToken,
    ) -> Result<(), IndexError> {
        let deadline = Instant::now() + CATCH_UP;
        loop {
            let view = self.view();
            let Standing { log, positions, .. } = &view.standing;
            let is_recorded = match log {
                Some(log) => covers(ledger, log, positions).await?,
                None => !self.is_fed(),
            };
            if !self.is_fed() || is_recorded && view.arrival >= arrival {
                return Ok(());
            }
            wait(deadline, cancel, || IndexError::LedgerBehind(CATCH_UP.as_secs())).await?;
        }
    }

    /// Waits until the last query that reads the former segments has ended, and their files are removed.
    async fn until_removed(
        &self,
        day: Day,
        former: Arc<BTreeSet<SegmentId>>,
        cancel: &CancellationToken,
    ) -> Result<(), IndexError> {
        let deadline = Instant::now() + CATCH_UP;
        loop {
            let former = former.clone();
            let removed = self.clone().blocking(move |index| {
                let mut writing = index.0.writing();
                index.0.writer(&mut writing)?.remove_former(day, &former)
            });
            if removed.await? {
                return Ok(());
            }
            wait(deadline, cancel, || IndexError::StillRead(day)).await?;
        }
    }
}

async fn wait(
    deadline: Instant,
    cancel: &CancellationToken,
    late: impl FnOnce() -> IndexError,
) -> Result<(), IndexError> {
    if Instant::now() >= deadline {
        return Err(late());
    }
    tokio::select! {
        () = tokio::time::sleep(LOOK_EVERY) => Ok(()),
        () = cancel.cancelled() => Err(IndexError::Cancelled),
    }
}

impl Writer {
    /// Closes the segments of a day, which are to go. Nothing when it has none.
    fn begin_again(&mut self, day: Day) -> Result<Option<Arc<BTreeSet<SegmentId>>>, IndexError> {
        self.again = None;
        self.close_day(day)?;
        let Some(open) = self.generation().days.get(day)? else { return Ok(None) };
        let former: Arc<BTreeSet<_>> = Arc::new(open.index.searchable_segment_ids()?.into_iter().collect());
        self.again = Some(Again { day, former: former.clone(), uncommitted_bytes: 0 });
        Ok(Some(former))
    }

    /// Adds those of the records again that the day has.
    fn add_again(&mut self, day: Day, records: &[Record]) -> Result<(), IndexError> {
        let generation = self.generation().clone();
        let again = self.again.as_mut().filter(|again| again.day == day).ok_or(IndexError::DayFailed)?;
        let bytes: usize = records.iter().map(|record| record.event.len()).sum();
        again.uncommitted_bytes += bytes;
        let is_due = again.uncommitted_bytes >= MAX_UNCOMMITTED_BYTES;
        if is_due {
            again.uncommitted_bytes = 0;
        }
        let open = generation.days.get(day)?.ok_or(IndexError::DayFailed)?;
        let numbered = arrivals(&open, &generation.fields, records)?;
        self.settled_day(day)?.add(&generation, numbered.into_iter())?;
        if is_due {
            self.commit_day(day)?;
        }
        Ok(())
    }

    /// Commits the day without the documents of the former segments that were not added again.
    fn end_again(&mut self, day: Day) -> Result<(), IndexError> {
        let Again { former, .. } =
            self.again.take_if(|again| again.day == day).ok_or(IndexError::DayFailed)?;
        self.commit_day(day)?;
        let generation = self.generation().clone();
        let open = generation.days.get(day)?.ok_or(IndexError::DayFailed)?;
        let unknown = left(&open.reader.searcher(), &generation.fields, &former)?;
        self.settled_day(day)?.delete(unknown);
        // From the next time it is opened on, the day is merged as all others are.
        self.close_day(day)?;
        generation.days.publish()
    }

    /// Whether no file of the former segments of a day is left, after those are removed that nobody reads.
    fn remove_former(&mut self, day: Day, former: &BTreeSet<SegmentId>) -> Result<bool, IndexError> {
        let generation = self.generation().clone();
        if generation.days.get(day)?.is_none() {
            return Ok(true);
        }
        self.settled_day(day)?.remove_unused()?;
        generation.days.publish()?;
        let dir = generation.dir.join(day.to_string());
        let entries = match fs::read_dir(&dir) {
            Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => return Ok(true),
            entries => entries.map_err(IndexError::file(&dir))?,
        };
        let former: BTreeSet<String> = former.iter().map(SegmentId::uuid_string).collect();
        for entry in entries {
            let name = entry.map_err(IndexError::file(&dir))?.file_name();
            let segment = name.to_str().and_then(|name| name.split('.').next());
            if segment.is_some_and(|segment| former.contains(segment)) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Those of the records that the day has, with the arrival number of each.
fn arrivals<'r>(
    open: &OpenDay,
    fields: &Fields,
    records: &'r [Record],
) -> Result<Vec<(u64, &'r Record)>, IndexError> {
    let searcher = open.reader.searcher();
    let mut found = vec![None; records.len()];
    for segment in searcher.segment_readers() {
        let (ids, columns) = (segment.inverted_index(fields.id)?, Columns::open(segment)?);
        for (record, found) in records.iter().zip(&mut found) {
            let term = id_term(fields, record);
            let docs = ids.read_postings(&term, IndexRecordOption::Basic).map_err(TantivyError::from)?;
            let Some(mut docs) = docs else { continue };
            while docs.doc() != TERMINATED {
                if !segment.is_deleted(docs.doc()) {
                    *found = Some(columns.arrival(docs.doc()));
                }
                docs.advance();
            }
        }
    }
    Ok(found.into_iter().zip(records).filter_map(|(arrival, record)| Some((arrival?, record))).collect())
}

/// The terms of the documents that these segments have still.
fn left(searcher: &Searcher, fields: &Fields, of: &BTreeSet<SegmentId>) -> Result<Vec<Term>, IndexError> {
    let mut terms = Vec::new();
    for segment in searcher.segment_readers().iter().filter(|segment| of.contains(&segment.segment_id())) {
        let columns = Columns::open(segment)?;
        terms.extend(
            segment
                .doc_ids_alive()
                .map(|doc| Term::from_field_bytes(fields.id, &columns.key(doc).id.to_be_bytes())),
        );
    }
    Ok(terms)
}
