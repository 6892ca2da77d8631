//! The row that tells under which deployment's key the ledger was begun. One text of each statement serves both databases.

use super::LedgerError;

/// Waits for another first start that is about to write, and leaves its row.
pub(super) const KEEP: &str =
    "INSERT INTO deployment (one, key_check) VALUES (1, $1) ON CONFLICT (one) DO NOTHING";

/// A statement of its own, which sees what the other one waited for.
pub(super) const KEPT: &str = "SELECT key_check FROM deployment WHERE one = 1";

/// The stored value as it was given.
pub(super) fn kept(stored: &[u8]) -> Result<[u8; 32], LedgerError> {
    stored.try_into().map_err(|_| LedgerError::Corrupt(format!("a key check of {} bytes", stored.len())))
}
