//! The columns of a record and its packed bytes, as the ledgers' tables have them.

use ingest::record::Record;
use serde::Deserialize;

/// The ledger's dictionary: with another one the sizes, and so the work, would differ.
static DICTIONARY: &[u8] = include_bytes!("../../ingest/src/ledger/codec/1.dict");
/// The ledger's level.
const LEVEL: i32 = 3;

/// Makes rows of records.
pub(crate) struct Columns(zstd::bulk::Compressor<'static>);

/// What a row has beside the envelope.
pub(crate) struct Row {
    pub(crate) code: i64,
    pub(crate) audit_id: Vec<u8>,
    pub(crate) verb: String,
    pub(crate) username: String,
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) event: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(rename = "auditID")]
    audit_id: uuid::Uuid,
    #[serde(default)]
    verb: String,
    #[serde(default)]
    user: User,
    #[serde(default)]
    object_ref: Reference,
    #[serde(default)]
    response_status: Status,
}

#[derive(Default, Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Default, Deserialize)]
struct Reference {
    #[serde(default)]
    resource: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    code: i64,
}

impl Columns {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self(zstd::bulk::Compressor::with_dictionary(LEVEL, DICTIONARY)?))
    }

    pub(crate) fn of(&mut self, record: &Record) -> anyhow::Result<Row> {
        let event: Event = serde_json::from_slice(&record.event)?;
        let mut audit_id = vec![1];
        audit_id.extend_from_slice(event.audit_id.as_bytes());
        Ok(Row {
            code: event.response_status.code,
            audit_id,
            verb: event.verb,
            username: event.user.username,
            resource: event.object_ref.resource,
            namespace: event.object_ref.namespace,
            name: event.object_ref.name,
            event: self.0.compress(&record.event)?,
        })
    }
}
