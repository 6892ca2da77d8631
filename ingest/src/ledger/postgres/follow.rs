//! Which log a ledger's recorders read: all of them the same one.
//!
//! Each process holds a shared advisory lock that stands for its log, in a session of its own, for as long as it runs.
//! A process that would record from another log finds that lock and is told so. When the holder ends, however it ends,
//! the server ends its session and the lock with it.

use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::sync::Mutex;

use crate::{ledger::LedgerError, log::LogId};

/// The first half of the locks' names; the second is the hash of the log's id.
const CLASS: i32 = 0x6d75_6e69;

/// Looking for others and taking the own lock is one step.
const ALONE: &str = "SELECT pg_advisory_xact_lock($1, 0)";

/// Who holds the lock of another log. `objsubid` 2 marks names of two halves; 0 is the name of the step above.
const OTHER: &str = "SELECT format('process %s from %s', held.pid, coalesce(host(session.client_addr), 'its own machine')) \
    FROM pg_locks AS held LEFT JOIN pg_stat_activity AS session USING (pid) \
    WHERE held.locktype = 'advisory' AND held.granted AND held.objsubid = 2 \
    AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
    AND held.classid = $1::int8::oid \
    AND held.objid NOT IN (0, (hashtext($2)::int8 & 4294967295)::oid) \
    LIMIT 1";

const HOLD: &str = "SELECT pg_advisory_lock_shared($1, hashtext($2))";

/// The session that holds this process's lock, once it records.
#[derive(Debug)]
pub(super) struct Following {
    options: PgConnectOptions,
    held: Mutex<Option<(LogId, PgConnection)>>,
}

impl Following {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self { options, held: Mutex::default() }
    }

    /// Holds the lock of `log`, unless another process holds one of another log.
    pub(super) async fn follow(&self, log: &LogId) -> Result<(), LedgerError> {
        let mut held = self.held.lock().await;
        if let Some((followed, session)) = held.as_mut()
            && followed == log
            && session.ping().await.is_ok()
        {
            return Ok(());
        }
        // The lock of a former log must not stand in the way of others that follow to the new one.
        if let Some((_, session)) = held.take() {
            drop(session.close().await);
        }
        let mut session = PgConnection::connect_with(&self.options).await?;
        let mut step = session.begin().await?;
        sqlx::query(ALONE).bind(CLASS).execute(&mut *step).await?;
        let other: Option<String> =
            sqlx::query_scalar(OTHER).bind(i64::from(CLASS)).bind(&*log.0).fetch_optional(&mut *step).await?;
        if let Some(other) = other {
            return Err(LedgerError::Unavailable(
                format!(
                    "another instance ({other}) records into it from another log: stop that one, or give both the \
                     same --kafka and --topic; instances without --kafka need a ledger each"
                )
                .into(),
            ));
        }
        sqlx::query(HOLD).bind(CLASS).bind(&*log.0).execute(&mut *step).await?;
        step.commit().await?;
        *held = Some((log.clone(), session));
        Ok(())
    }

    pub(super) async fn close(&self) {
        if let Some((_, session)) = self.held.lock().await.take() {
            drop(session.close().await);
        }
    }
}
