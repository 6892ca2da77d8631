//! Where the journal is kept from, whatever its readers release.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Journal, shared::Shared};
use crate::log::Offset;

/// How often each offset is pinned.
#[derive(Default)]
pub(super) struct Pins(Mutex<BTreeMap<Offset, usize>>);

impl Pins {
    /// The first offset that is kept.
    pub(super) fn first(&self) -> Option<Offset> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().next().copied()
    }

    fn add(&self, at: Offset) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(at).or_default() += 1;
    }

    fn remove(&self, at: Offset) {
        let mut pins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = pins.get_mut(&at) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&at);
            }
        }
    }
}

/// Keeps the journal from an offset on, until it is [released](Pin::release), or until the boot ends when it never is.
pub struct Pin {
    shared: Arc<Shared>,
    at: Offset,
}

impl Journal {
    /// Keeps what is there now and what will come.
    pub fn pin_start(&self) -> Pin {
        let catalog = self.0.shared.catalog();
        self.pin(catalog.first())
    }

    /// Keeps what will come.
    pub(super) fn pin_end(&self) -> Pin {
        let catalog = self.0.shared.catalog();
        self.pin(catalog.next)
    }

    /// Whoever calls has the catalog locked, or an offset that nobody can release yet.
    fn pin(&self, at: Offset) -> Pin {
        self.0.shared.pins.add(at);
        Pin { shared: self.0.shared.clone(), at }
    }
}

impl Pin {
    /// Lets readers release the journal again.
    pub fn release(self) {
        self.shared.pins.remove(self.at);
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pin").field(&self.at).finish()
    }
}
