//! A part that is there once it could be reached: what needs it waits, or says that it is not there yet.

use std::fmt;

use tokio::sync::watch;

/// A value that is set once, by whoever connects, and read by everyone else.
#[derive(Clone)]
pub struct Later<T>(watch::Sender<Option<T>>);

impl<T: Clone> Later<T> {
    /// Nothing yet.
    pub fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// A value that is there from the start.
    pub fn ready(value: T) -> Self {
        Self(watch::Sender::new(Some(value)))
    }

    /// Brings the value.
    pub fn set(&self, value: T) {
        self.0.send_replace(Some(value));
    }

    /// The value, if it is there.
    pub fn get(&self) -> Option<T> {
        self.0.borrow().clone()
    }

    /// The value, as soon as it is there.
    pub async fn wait(&self) -> T {
        let mut changes = self.0.subscribe();
        loop {
            if let Some(value) = changes.borrow_and_update().clone() {
                return value;
            }
            // The sender lives in `self`: waiting does not end early.
            let _ = changes.changed().await;
        }
    }
}

impl<T: Clone> Default for Later<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Later<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.borrow().is_some() { "Later(ready)" } else { "Later(waiting)" })
    }
}
