//! Turns a record into a document of the index.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv6Addr},
};

use ingest::{record::Record, time::Timestamp};
use serde::Deserialize;
use tantivy::{TantivyDocument, Term};

use crate::{
    schema::Fields,
    terms::{self, READY},
};

/// The term that finds a record by its id.
pub(crate) fn id_term(fields: &Fields, record: &Record) -> Term {
    Term::from_field_bytes(fields.id, record.envelope.id.0.as_bytes())
}

/// The document of `record`, which is number `arrival` of this index.
pub(crate) fn document(fields: &Fields, record: &Record, arrival: u64) -> TantivyDocument {
    let envelope = &record.envelope;
    let text = String::from_utf8_lossy(&record.event);
    let mut doc = TantivyDocument::with_capacity(text.len() + 1024);
    let id = envelope.id.0.as_u128();
    doc.add_bytes(fields.id, envelope.id.0.as_bytes());
    doc.add_u64(fields.id_high, (id >> 64) as u64 & 0xffff);
    doc.add_u64(fields.id_low, id as u64);
    doc.add_i64(fields.ts, envelope.at.micros());
    doc.add_i64(fields.journaled, envelope.received_at.micros());
    doc.add_u64(fields.arrival, arrival);
    doc.add_text(fields.cluster, &envelope.cluster);
    doc.add_text(fields.terms, envelope_terms(record));
    doc.add_text(fields.terms, &text);
    match serde_json::from_str::<Columns<'_>>(&text) {
        Ok(columns) => columns.add_to(&mut doc, fields, envelope.at),
        Err(fault) => tracing::debug!(id = %envelope.id, %fault, "a record has terms but no columns"),
    }
    doc
}

fn envelope_terms(record: &Record) -> String {
    let envelope = &record.envelope;
    let mut ready = String::new();
    for (name, value) in
        [("cluster", &*envelope.cluster), ("source", &*envelope.source), ("kind", envelope.kind.as_str())]
    {
        let place = format!("{}{name}{}", terms::SYNTHETIC, terms::END);
        terms::string(&place, &terms::clean(value), false, |parts| {
            ready.push(READY);
            parts.iter().for_each(|part| ready.push_str(part));
        });
    }
    ready
}

/// What columns are made of, borrowed from the event where it has no escapes.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Columns<'e> {
    #[serde(borrow)]
    verb: Text<'e>,
    #[serde(borrow)]
    stage: Text<'e>,
    #[serde(borrow)]
    level: Text<'e>,
    #[serde(borrow)]
    user_agent: Text<'e>,
    #[serde(borrow, rename = "sourceIPs")]
    source_ips: Vec<Text<'e>>,
    request_received_timestamp: Option<Timestamp>,
    #[serde(borrow)]
    user: User<'e>,
    #[serde(borrow)]
    object_ref: Option<ObjectRef<'e>>,
    response_status: Option<Status>,
    #[serde(borrow)]
    annotations: Option<Annotations<'e>>,
}

/// A string; the default is that there is none.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
struct Text<'e>(#[serde(borrow)] Cow<'e, str>);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct User<'e> {
    #[serde(borrow)]
    username: Text<'e>,
    #[serde(borrow)]
    groups: Vec<Text<'e>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef<'e> {
    #[serde(borrow)]
    resource: Text<'e>,
    #[serde(borrow)]
    namespace: Text<'e>,
    #[serde(borrow)]
    name: Text<'e>,
    #[serde(borrow)]
    api_group: Text<'e>,
    #[serde(borrow)]
    subresource: Text<'e>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    code: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Annotations<'e> {
    #[serde(borrow, rename = "authorization.k8s.io/decision")]
    decision: Text<'e>,
}

impl Columns<'_> {
    fn add_to(&self, doc: &mut TantivyDocument, fields: &Fields, at: Timestamp) {
        let object = self.object_ref.as_ref();
        let mut add = |field, text: &Text<'_>| {
            if !text.0.is_empty() {
                doc.add_text(field, &text.0);
            }
        };
        add(fields.verb, &self.verb);
        add(fields.stage, &self.stage);
        add(fields.level, &self.level);
        add(fields.ua, &self.user_agent);
        add(fields.user, &self.user.username);
        self.user.groups.iter().for_each(|group| add(fields.group, group));
        if let Some(object) = object {
            add(fields.resource, &object.resource);
            add(fields.ns, &object.namespace);
            add(fields.name, &object.name);
            add(fields.api, &object.api_group);
            add(fields.sub, &object.subresource);
        }
        if let Some(annotations) = &self.annotations {
            add(fields.decision, &annotations.decision);
        }
        if let Some(code) = self.response_status.as_ref().and_then(|status| status.code) {
            doc.add_i64(fields.code, code);
        }
        if let Some(received) = self.request_received_timestamp {
            doc.add_i64(fields.received, received.micros());
            doc.add_i64(fields.latency, at.micros() - received.micros());
        }
        let addresses: Vec<_> = self.source_ips.iter().map(|text| address(&text.0)).collect();
        addresses.iter().flatten().for_each(|address| doc.add_ip_addr(fields.ip, *address));
        if let Some(Some(last)) = addresses.last() {
            doc.add_ip_addr(fields.ip_client, *last);
        }
    }
}

/// An address; IPv4 is written as IPv4-mapped IPv6.
fn address(text: &str) -> Option<Ipv6Addr> {
    match text.parse().ok()? {
        IpAddr::V4(v4) => Some(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => Some(v6),
    }
}
