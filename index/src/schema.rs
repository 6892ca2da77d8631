//! The fields of a document: one inverted field with every term, and columns for what is sorted and counted.

use tantivy::{
    IndexSettings,
    schema::{
        BytesOptions, Field, IndexRecordOption, IpAddrOptions, NumericOptions, Schema, TextFieldIndexing,
        TextOptions,
    },
    store::Compressor,
};

use crate::tokenizer;

/// The version of schema and terms together. An index of another version is rebuilt, not read.
pub const VERSION: u32 = 3;

/// Handles of the fields. Columns are typed; all strings are in columns as they are.
#[derive(Clone, Debug)]
pub(crate) struct Fields {
    pub(crate) schema: Schema,
    /// Every term; see `terms.rs`. Neither positions nor frequencies: phrases are read from whole values.
    pub(crate) terms: Field,
    /// The record's id, to find what an addition replaces.
    pub(crate) id: Field,
    /// What the id holds beside its milliseconds, which `ts` holds: 16 bits and 64 bits.
    pub(crate) id_high: Field,
    pub(crate) id_low: Field,
    /// Times and durations in microseconds.
    pub(crate) ts: Field,
    pub(crate) received: Field,
    pub(crate) journaled: Field,
    pub(crate) latency: Field,
    pub(crate) arrival: Field,
    pub(crate) code: Field,
    pub(crate) ip: Field,
    pub(crate) ip_client: Field,
    pub(crate) verb: Field,
    pub(crate) user: Field,
    pub(crate) group: Field,
    pub(crate) api: Field,
    pub(crate) resource: Field,
    pub(crate) sub: Field,
    pub(crate) ns: Field,
    pub(crate) name: Field,
    pub(crate) stage: Field,
    pub(crate) level: Field,
    pub(crate) decision: Field,
    pub(crate) cluster: Field,
    pub(crate) ua: Field,
}

impl Fields {
    pub(crate) fn new() -> Self {
        let mut b = Schema::builder();
        let terms = TextFieldIndexing::default()
            .set_tokenizer(tokenizer::NAME)
            .set_index_option(IndexRecordOption::Basic)
            .set_fieldnorms(false);
        let terms = b.add_text_field("terms", TextOptions::default().set_indexing_options(terms));
        let id = b.add_bytes_field("id", BytesOptions::default().set_indexed());
        let number = || NumericOptions::default().set_fast();
        let text = || TextOptions::default().set_fast("raw");
        let address = || IpAddrOptions::default().set_fast();
        Self {
            terms,
            id,
            id_high: b.add_u64_field("id_high", number()),
            id_low: b.add_u64_field("id_low", number()),
            ts: b.add_i64_field("ts", number()),
            received: b.add_i64_field("received", number()),
            journaled: b.add_i64_field("journaled", number()),
            latency: b.add_i64_field("latency", number()),
            arrival: b.add_u64_field("arrival", number()),
            code: b.add_i64_field("code", number()),
            ip: b.add_ip_addr_field("ip", address()),
            ip_client: b.add_ip_addr_field("ip_client", address()),
            verb: b.add_text_field("verb", text()),
            user: b.add_text_field("user", text()),
            group: b.add_text_field("group", text()),
            api: b.add_text_field("api", text()),
            resource: b.add_text_field("resource", text()),
            sub: b.add_text_field("sub", text()),
            ns: b.add_text_field("ns", text()),
            name: b.add_text_field("name", text()),
            stage: b.add_text_field("stage", text()),
            level: b.add_text_field("level", text()),
            decision: b.add_text_field("decision", text()),
            cluster: b.add_text_field("cluster", text()),
            ua: b.add_text_field("ua", text()),
            schema: b.build(),
        }
    }
}

/// Nothing is stored beside terms and columns: the bytes are the ledger's.
pub(crate) fn settings() -> IndexSettings {
    IndexSettings {
        docstore_compression: Compressor::None,
        docstore_compress_dedicated_thread: false,
        ..IndexSettings::default()
    }
}
