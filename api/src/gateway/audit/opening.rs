//! What a request that may change something has on the disk before it does.

use std::sync::Arc;

use ingest::{
    journal::{AppendError, Hold},
    pipeline::{Asked, Fact},
    record::Draft,
};
use tokio::sync::Mutex;

use super::{Auditor, change::Change, event::Event};

/// Names the change that an opening event announces.
pub(super) const CHANGE: &str = "muniment.io/change";

tokio::task_local! {
    /// The opening of the request that this task works for, where it may change something and is recorded.
    static OPENING: Arc<Opening>;
}

/// The opening record of one request, which is written with its first change: both are one sync of the disk.
///
/// Room for it and for the closing one is held from the start on.
#[derive(Debug)]
pub(in crate::gateway) struct Opening {
    auditor: Auditor,
    asked: Asked,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `RequestReceived`, until there is something to say; nothing where the policy leaves it out.
    event: Option<Box<Event>>,
    /// The opening record, until the journal has it.
    unsaid: Option<Draft>,
    hold: Option<Hold>,
}

/// What an opening leaves to the closing record.
#[derive(Debug)]
pub(super) struct Rest {
    /// The opening record of a request that changed nothing.
    pub(super) unsaid: Option<Draft>,
    /// The room for the closing record, which is begun when something was to be changed.
    pub(super) hold: Hold,
    pub(super) asked: Asked,
}

impl Opening {
    pub(super) fn new(auditor: Auditor, asked: Asked, event: Option<Box<Event>>, hold: Hold) -> Self {
        Self { auditor, asked, state: Mutex::new(State { event, unsaid: None, hold: Some(hold) }) }
    }

    /// Does the work of the request: whatever it changes in an [`AnnouncedStore`](super::AnnouncedStore), from within
    /// its own task, is announced here first.
    pub(in crate::gateway) async fn around<T>(self: Arc<Self>, work: impl Future<Output = T>) -> T {
        OPENING.scope(self, work).await
    }

    /// The opening of the request that this task works for.
    pub(super) fn current() -> Option<Arc<Self>> {
        OPENING.try_with(Clone::clone).ok()
    }

    /// Returns when the disk knows of a change and of the request that makes it; in mode `batch`, when the journal was
    /// told.
    ///
    /// # Errors
    /// When that cannot be recorded: the change must not be made then.
    pub(super) async fn announce(&self, change: &Change) -> Result<(), AppendError> {
        let mut state = self.state.lock().await;
        let State { event, unsaid, hold } = &mut *state;
        // After its end a request changes nothing.
        let hold = hold.as_mut().ok_or(AppendError::Ended)?;
        let Auditor { journal, mode, .. } = &self.auditor;
        mode.look(journal)?;
        let drafts = match (unsaid.clone(), event.take()) {
            // It was not taken the last time.
            (Some(opening), _) => vec![opening, self.intent(change)],
            (None, Some(mut event)) => {
                event.annotations.insert(CHANGE.to_owned(), change.to_string());
                let opening = self.auditor.draft(&event, event.stage_timestamp);
                *unsaid = Some(opening.clone());
                vec![opening]
            }
            (None, None) => vec![self.intent(change)],
        };
        // Only the first has room of its own: what is held must do for the end.
        let written =
            if hold.is_begun() { journal.submit(drafts).await? } else { hold.begin(drafts).await? };
        mode.wait(written).await?;
        *unsaid = None;
        Ok(())
    }

    fn intent(&self, change: &Change) -> Draft {
        Fact::Intent { request: self.asked.clone(), change: change.to_string() }.draft(&self.auditor.clock)
    }

    /// Ends the opening; nothing when it was ended before.
    pub(super) async fn end(&self) -> Option<Rest> {
        let mut state = self.state.lock().await;
        let opening = state.event.take().map(|event| self.auditor.draft(&event, event.stage_timestamp));
        let unsaid = state.unsaid.take().or(opening);
        let hold = state.hold.take()?;
        Some(Rest { unsaid, hold, asked: self.asked.clone() })
    }
}

impl Rest {
    /// What takes the place of a closing event that the policy leaves out.
    pub(super) fn outcome(&self, code: u16, auditor: &Auditor) -> Draft {
        Fact::Outcome { request: self.asked.clone(), code }.draft(&auditor.clock)
    }
}
