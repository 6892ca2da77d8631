//! Values whose text has rules of its own: times, amounts, durations.

pub mod quantity;
pub mod time;

/// Why a text is not such a value; what upstream's decoder says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScalarError(pub String);
