//! What a boot writes before anything else: which boot came before it, and what was found lost.

use std::sync::Arc;

use super::{Lost, Opened};
use crate::{ledger::Gap, pipeline::Fact, record::Draft, time::Clock};

/// The first records of a boot.
pub(super) fn of_boot(opened: &Opened, source: &Arc<str>, clock: &Clock) -> Vec<Draft> {
    let torn_bytes = opened.torn.as_ref().map_or(0, |t| t.bytes);
    let boot = Fact::Boot { previous: opened.previous, torn_bytes };
    let gaps = opened.lost.iter().map(|lost| Fact::Gap { gap: gap(lost, source, clock) });
    std::iter::once(boot).chain(gaps).map(|fact| fact.draft(clock)).collect()
}

fn gap(lost: &Lost, source: &Arc<str>, clock: &Clock) -> Gap {
    Gap {
        source: Some(source.clone()),
        boot: Some(lost.boot),
        first: lost.first.0,
        last: lost.last.0,
        partition: None,
        reason: format!("the journal's file {} was damaged at byte {}", lost.file, lost.at),
        at: clock.now(),
    }
}
