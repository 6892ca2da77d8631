//! The topic that both sides read: how much it holds, and a bare loop's consumer.

use std::time::Duration;

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};

/// What the broker may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// A topic on a broker.
#[derive(Clone)]
pub(crate) struct Topic {
    pub(crate) broker: String,
    pub(crate) name: String,
}

impl Topic {
    fn consumer(&self) -> anyhow::Result<BaseConsumer> {
        let consumer = ClientConfig::new()
            .set("bootstrap.servers", &self.broker)
            .set("group.id", "bench-bare")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .create()?;
        Ok(consumer)
    }

    fn partitions(&self, consumer: &BaseConsumer) -> anyhow::Result<Vec<i32>> {
        let metadata = consumer.fetch_metadata(Some(&self.name), ANSWER)?;
        Ok(metadata
            .topics()
            .iter()
            .flat_map(|topic| topic.partitions())
            .map(|partition| partition.id())
            .collect())
    }

    /// Entries that it holds.
    pub(crate) fn entries(&self) -> anyhow::Result<u64> {
        let consumer = self.consumer()?;
        let mut entries = 0;
        for partition in self.partitions(&consumer)? {
            let (low, high) = consumer.fetch_watermarks(&self.name, partition, ANSWER)?;
            entries += (high - low).unsigned_abs();
        }
        Ok(entries)
    }

    /// Reads `entries` values from the start of every partition.
    pub(crate) fn read(
        &self,
        entries: u64,
        mut each: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let consumer = self.consumer()?;
        let mut assignment = TopicPartitionList::new();
        for partition in self.partitions(&consumer)? {
            assignment.add_partition_offset(&self.name, partition, Offset::Beginning)?;
        }
        consumer.assign(&assignment)?;
        let mut read = 0;
        while read < entries {
            let message =
                consumer.poll(ANSWER).ok_or_else(|| anyhow::anyhow!("the topic went silent at {read}"))??;
            each(message.payload().unwrap_or_default())?;
            read += 1;
        }
        Ok(())
    }
}
