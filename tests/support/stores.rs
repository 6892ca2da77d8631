//! What ledger and index of a deployment have, read from where they keep it, whether a process runs or not.

#![allow(dead_code, reason = "each test binary uses a part of this file")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use sqlx::{Connection, PgConnection, SqliteConnection};

/// Where a deployment keeps both.
pub(crate) enum Stores {
    /// All of it in the data folder.
    Embedded(PathBuf),
    /// The index in the data folder, the ledger in the database at this address.
    Networked(PathBuf, String),
}

/// How many entries of the log each has dealt with, over all partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reached {
    /// The ledger.
    pub(crate) recorded: u64,
    /// The index.
    pub(crate) indexed: u64,
}

/// Without the gateway's own, which it makes of its cluster at its first start.
const EVENTS: &str = "SELECT count(*) FROM record JOIN origin ON origin.id = record.origin \
    WHERE record.kind = 0 AND origin.cluster <> 'local'";

impl Stores {
    /// How far both are; at the beginning where nothing was written yet.
    pub(crate) async fn reached(&self) -> Reached {
        let (data, recorded) = match self {
            // What the recorder published: a look at the database would mend what a kill left, before the next start.
            Self::Embedded(data) => {
                (data, json(&data.join("log-positions.json"))["groups"]["muniment-recorder"].as_u64())
            }
            Self::Networked(data, url) => (data, positions(url).await),
        };
        let current = fs::read_to_string(data.join("index/CURRENT")).unwrap_or_default();
        let standing = json(&data.join("index").join(current.trim()).join("positions.json"));
        let indexed = standing["positions"].as_object().map(|of| of.values().filter_map(Value::as_u64).sum());
        Reached { recorded: recorded.unwrap_or_default(), indexed: indexed.unwrap_or_default() }
    }

    pub(crate) fn is_networked(&self) -> bool {
        matches!(self, Self::Networked(..))
    }

    /// How many events that were sent the ledger holds; none before the first start has made its tables.
    pub(crate) async fn events(&self) -> u64 {
        let count: i64 = match self {
            Self::Embedded(data) => {
                let url = format!("sqlite://{}?mode=ro", data.join("ledger.sqlite").display());
                let mut database = SqliteConnection::connect(&url).await.unwrap();
                sqlx::query_scalar(EVENTS).fetch_one(&mut database).await.unwrap()
            }
            Self::Networked(_, url) => {
                let mut database = PgConnection::connect(url).await.unwrap();
                sqlx::query_scalar(EVENTS).fetch_one(&mut database).await.unwrap_or_default()
            }
        };
        count.unsigned_abs()
    }
}

/// Nothing before the first start has made the table.
async fn positions(url: &str) -> Option<u64> {
    let mut database = PgConnection::connect(url).await.unwrap();
    let sum = sqlx::query_scalar::<_, Option<i64>>("SELECT sum(next)::bigint FROM position");
    Some(sum.fetch_one(&mut database).await.ok()??.unsigned_abs())
}

fn json(file: &Path) -> Value {
    fs::read(file).map_or(Value::Null, |bytes| serde_json::from_slice(&bytes).unwrap())
}
