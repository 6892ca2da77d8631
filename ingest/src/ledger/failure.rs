//! Which errors of a database pass by themselves.

use sqlx::{Error, error::DatabaseError, postgres::PgDatabaseError, sqlite::SqliteError};

use super::LedgerError;

impl From<Error> for LedgerError {
    fn from(error: Error) -> Self {
        if passes(&error) { Self::Unavailable(error.into()) } else { Self::Refused(error.into()) }
    }
}

/// Whether the same call may work later without anybody mending something here.
pub(crate) fn passes(error: &Error) -> bool {
    match error {
        Error::Io(_) | Error::PoolTimedOut | Error::Protocol(_) | Error::WorkerCrashed => true,
        Error::Database(error) => database_passes(error.as_ref()),
        _ => false,
    }
}

fn database_passes(error: &dyn DatabaseError) -> bool {
    let Some(code) = error.code() else { return false };
    if error.try_downcast_ref::<PgDatabaseError>().is_some() {
        postgres_passes(&code)
    } else if error.try_downcast_ref::<SqliteError>().is_some() {
        code.parse().is_ok_and(sqlite_passes)
    } else {
        false
    }
}

/// By SQLSTATE: connection lost, a login that is refused (a password is changed on one side first, and ending for it
/// would end intake), transaction rolled back for a conflict, resources (the disk is full), an operator's doing
/// (shutdown, a cancelled statement), the system under it, a lock or session that timed out, and a server that is a
/// standby for now.
fn postgres_passes(state: &str) -> bool {
    const CLASSES: [&str; 6] = ["08", "28", "40", "53", "57", "58"];
    const STATES: [&str; 3] = ["55P03", "25P03", "25006"];
    CLASSES.iter().any(|class| state.starts_with(class)) || STATES.contains(&state)
}

/// By primary result code: busy, locked, input/output, full, cannot open.
fn sqlite_passes(code: i32) -> bool {
    matches!(code & 0xff, 5 | 6 | 10 | 13 | 14)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_a_lost_server_and_a_refused_login_pass() {
        assert!(postgres_passes("28P01") && postgres_passes("28000"));
        assert!(postgres_passes("53100") && postgres_passes("57P01") && postgres_passes("08006"));
        assert!(sqlite_passes(13) && sqlite_passes(5) && sqlite_passes(266));
        assert!(passes(&Error::PoolTimedOut));
    }

    #[test]
    fn a_missing_table_and_a_missing_right_do_not_pass() {
        assert!(!postgres_passes("42P01") && !postgres_passes("42501") && !postgres_passes("23514"));
        assert!(!sqlite_passes(1) && !sqlite_passes(11));
        assert!(!passes(&Error::RowNotFound));
    }
}
