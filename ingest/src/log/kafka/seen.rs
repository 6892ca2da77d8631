//! What is believed of the topic between two looks at it.

use std::time::Duration;

use tokio::time::Instant;

use super::topic::Topic;
use crate::log::LogId;

/// How long the topic's replicas and settings are believed: an operator may lower them while we run.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// The topic when it was last looked at.
pub(super) struct Seen(Option<(Topic, Instant)>);

impl Seen {
    pub(super) fn new(topic: Topic, at: Instant) -> Self {
        Self(Some((topic, at)))
    }

    /// The topic, while what was seen of it may be believed.
    pub(super) fn believed(&self, now: Instant) -> Option<&Topic> {
        self.0.as_ref().filter(|(_, at)| now.duration_since(*at) < LOOK_INTERVAL).map(|(topic, _)| topic)
    }

    /// The topic's id is `id` now: what was seen of one with another id says nothing of it.
    pub(super) fn is_called(&mut self, id: &LogId) {
        self.0.take_if(|(topic, _)| topic.id != *id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(id: &str) -> Topic {
        Topic { id: LogId(id.into()), partitions: 1, replication: 3, min_insync: 2 }
    }

    #[test]
    fn what_was_seen_is_believed_for_a_while() {
        let at = Instant::now();
        let mut seen = Seen::new(topic("first"), at);
        seen.is_called(&LogId("first".into()));
        assert_eq!(seen.believed(at), Some(&topic("first")));
        assert_eq!(seen.believed(at + LOOK_INTERVAL), None);
    }

    #[test]
    fn nothing_that_was_seen_of_a_former_topic_is_believed_of_the_one_now() {
        let at = Instant::now();
        let mut seen = Seen::new(topic("first"), at);
        seen.is_called(&LogId("second".into()));
        assert_eq!(seen.believed(at), None);
    }
}
