//! Notices that the ledger's reader lost a range of the log that may have been indexed before it was lost.
//!
//! The index finds such records and nobody can show them. How many lost ranges the ledger knew when the index was
//! made from it, or compared with it, is kept with the index.

use ingest::ledger::{Gap, Ledger};

use crate::{Index, IndexError, lacking::Lacking};

impl Index {
    /// Compares the ranges that the ledger knows as lost with those that the index knows; after a change
    /// [`Standing::lacking`](crate::Standing::lacking) says that the index has to be made anew.
    ///
    /// # Errors
    /// When the ledger or the disk fails; then nothing has changed.
    pub async fn compare_gaps(&self, ledger: &dyn Ledger) -> Result<(), IndexError> {
        let (count, last) = lost_ranges(ledger).await?;
        if self.standing().gaps == Some(count) {
            return Ok(());
        }
        let lacking = Lacking::Gap { reason: last.map_or_else(String::new, |gap| gap.reason) };
        self.clone().blocking(move |index| index.note_gaps(count, lacking)).await
    }
}

/// How many ranges of the log the ledger has not read, and the last of them. An entry that was no record is in no
/// index either.
pub(crate) async fn lost_ranges(ledger: &dyn Ledger) -> Result<(u64, Option<Gap>), IndexError> {
    let gaps = ledger.gaps().await?;
    let lost = gaps.into_iter().filter(|gap| gap.partition.is_some() && !gap.is_set_aside());
    let lost: Vec<Gap> = lost.collect();
    Ok((lost.len() as u64, lost.into_iter().max_by_key(|gap| gap.at)))
}
