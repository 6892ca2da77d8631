//! Offsets between two entries of a partition that the client was not given: lost records, or nothing for readers.
//!
//! Kafka numbers the markers of transactions as it does records, and its client passes over them without a word, as it
//! does over what compaction or a lost segment took away. Nothing of ours writes in transactions, but what mirrors the
//! topic may. A marker is still there, so the broker finds it by its time; what was taken away, it does not.

use std::cmp::Ordering;

use rdkafka::{Offset, TopicPartitionList, consumer::Consumer as _};

use super::{
    client::blocking,
    consumer::Native,
    topic::{Cluster, REQUEST_TIMEOUT},
};
use crate::log::{LogError, Partition};

/// The longest row of offsets that may be markers: as many transactions that end at once.
const MAX_MARKERS: u64 = 16;

/// How far the clocks of brokers and producers may be apart, in milliseconds: a day.
const MAX_SKEW: i64 = 24 * 3_600 * 1_000;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Jump {
    pub(super) partition: Partition,
    /// The first offset that was not given.
    pub(super) from: u64,
    /// The next one that was.
    pub(super) to: u64,
    /// The latest time of what was given before, in milliseconds.
    pub(super) after: Option<i64>,
    /// The time of the next one.
    pub(super) before: i64,
}

impl Jump {
    /// Whether every offset that was passed over holds a marker. One that has the time of another entry, or an earlier
    /// time than one before it, is not found, and counts as lost.
    ///
    /// # Errors
    /// When the partition's leader does not answer.
    pub(super) async fn is_markers(&self, native: &Native, cluster: &Cluster) -> Result<bool, LogError> {
        if self.to - self.from > MAX_MARKERS {
            return Ok(false);
        }
        let (consumer, reports, topic) =
            (native.native().clone(), cluster.reports.clone(), cluster.options.topic.clone());
        let jump = *self;
        blocking(move || {
            let first_since = |time: i64| {
                let mut asked = TopicPartitionList::new();
                asked.add_partition_offset(&topic, jump.partition, Offset::Offset(time))?;
                let found = consumer.offsets_for_times(asked, REQUEST_TIMEOUT)?;
                // Behind the last entry there is none.
                let offset = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
                    element.error().map(|()| match element.offset() {
                        Offset::Offset(offset) => offset.unsigned_abs(),
                        _ => u64::MAX,
                    })
                };
                found.elements().first().map_or(Ok(u64::MAX), offset)
            };
            jump.all_are_there(first_since).map_err(|error: rdkafka::error::KafkaError| {
                reports.unavailable(format!("partition {} of {topic}: {error}", jump.partition))
            })
        })
        .await
    }

    /// `first_since` gives the first offset of an entry that is not older than a time.
    fn all_are_there<E>(&self, mut first_since: impl FnMut(i64) -> Result<u64, E>) -> Result<bool, E> {
        let (mut low, high) = (self.after.map_or(0, |after| after + 1), self.before.saturating_add(MAX_SKEW));
        for offset in self.from..self.to {
            match is_there(offset, low, high, &mut first_since)? {
                Some(time) => low = time,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// In words for an operator.
    pub(super) fn reason(&self, topic: &str) -> String {
        format!(
            "offsets {} to {} of partition {} of {topic} hold nothing any more: compaction or a lost segment took it \
             away",
            self.from,
            self.to - 1,
            self.partition
        )
    }
}

/// A time between two from which on the entry at `offset` is the first. Halves the range: later times have no earlier
/// entries.
fn is_there<E>(
    offset: u64,
    mut low: i64,
    mut high: i64,
    first_since: &mut impl FnMut(i64) -> Result<u64, E>,
) -> Result<Option<i64>, E> {
    // The beginning of the range is right nearly always.
    let mut time = low;
    while low <= high {
        match first_since(time)?.cmp(&offset) {
            Ordering::Equal => return Ok(Some(time)),
            Ordering::Less => low = time + 1,
            Ordering::Greater => high = time - 1,
        }
        time = low + (high - low) / 2;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// Whether the offsets from 2 to `to` are taken for markers in a partition with these entries, by offset and time.
    fn is_markers(entries: &[(u64, i64)], to: u64, after: Option<i64>) -> bool {
        let before = entries.iter().find(|(offset, _)| *offset == to).unwrap().1;
        let jump = Jump { partition: 0, from: 2, to, after, before };
        let mut asked = 0;
        let first_since = |time| {
            asked += 1;
            let found = entries.iter().find(|(_, at)| *at >= time);
            Ok::<_, Infallible>(found.map_or(u64::MAX, |(offset, _)| *offset))
        };
        let found = jump.all_are_there(first_since).unwrap();
        assert!(asked <= 48 * (to - 2), "{asked} questions");
        found
    }

    #[test]
    fn what_is_still_there_is_a_marker_and_what_is_not_is_lost() {
        let now = 1_763_900_000_000;
        let whole = [(0, now), (1, now + 1), (2, now + 9), (3, now + 12), (4, now + 13)];
        for after in [Some(now + 1), None] {
            assert!(is_markers(&whole, 3, after), "one");
            assert!(is_markers(&whole, 4, after), "two in a row");
            for gone in [2, 3] {
                let left: Vec<_> = whole.into_iter().filter(|(offset, _)| *offset != gone).collect();
                assert!(!is_markers(&left, 4, after), "{gone} is gone");
            }
        }
    }

    #[test]
    fn a_marker_is_found_behind_entries_of_the_future_and_not_taken_for_granted_among_equal_times() {
        assert!(is_markers(&[(0, 5), (1, 500), (2, 501), (3, 20)], 3, Some(5)));
        assert!(!is_markers(&[(0, 5), (1, 500), (2, 400), (3, 600)], 3, Some(500)));
        assert!(!is_markers(&[(0, 5), (1, 6), (2, 6), (3, 6)], 3, Some(6)));
    }
}
