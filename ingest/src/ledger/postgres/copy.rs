//! Rows in the binary form of COPY.

use super::time::PgTime;
use crate::{
    ledger::{
        LedgerError,
        codec::Packer,
        fields::Fields,
        origin::OriginId,
        stored::{int, kind_number, packing},
    },
    record::Record,
};

/// The columns in the order in which [`Rows::push`] writes them.
pub(super) const COPY: &str = "COPY staging (id, at, received_at, seq, redactions, origin, kind, code, audit_id, \
                               verb, username, resource, namespace, name, event) FROM STDIN (FORMAT binary)";
const COLUMNS: i16 = 15;

const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const END: i16 = -1;

/// A batch on its way to the server.
pub(super) struct Rows {
    bytes: Vec<u8>,
    packer: Packer,
    packed: Vec<u8>,
}

impl Rows {
    pub(super) fn new() -> Result<Self, LedgerError> {
        Ok(Self { bytes: HEADER.to_vec(), packer: Packer::new().map_err(packing)?, packed: Vec::new() })
    }

    pub(super) fn push(&mut self, record: &Record, origin: OriginId) -> Result<(), LedgerError> {
        let envelope = &record.envelope;
        let fields = Fields::of(record);
        self.packed.clear();
        self.packer.pack_into(&record.event, &mut self.packed).map_err(packing)?;
        self.bytes.extend_from_slice(&COLUMNS.to_be_bytes());
        self.value(envelope.id.0.as_bytes());
        self.value(&PgTime(envelope.at).to_be_bytes());
        self.value(&PgTime(envelope.received_at).to_be_bytes());
        self.value(&int(envelope.seq.0).to_be_bytes());
        self.value(&i64::from(envelope.redactions).to_be_bytes());
        self.value(&(origin as i32).to_be_bytes());
        self.value(&kind_number(envelope.kind).to_be_bytes());
        self.value(&fields.code.to_be_bytes());
        self.value(&fields.audit_id);
        for text in [&fields.verb, &fields.username, &fields.resource, &fields.namespace, &fields.name] {
            self.value(text.as_bytes());
        }
        let packed = std::mem::take(&mut self.packed);
        self.value(&packed);
        self.packed = packed;
        Ok(())
    }

    /// Values are far shorter than the 1 GiB that a length can tell.
    fn value(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(&(value.len() as i32).to_be_bytes());
        self.bytes.extend_from_slice(value);
    }

    /// What is ready to be sent.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn end(&mut self) {
        self.bytes.extend_from_slice(&END.to_be_bytes());
    }
}
