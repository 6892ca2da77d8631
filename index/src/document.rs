//! Turns a record into a document of the index.

mod columns;

use ingest::{event::EventView, record::Record};
use tantivy::{TantivyDocument, Term};

use self::columns::Misfit;
use crate::{
    metrics,
    schema::Fields,
    terms::{self, MISFIT, READY},
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
    match EventView::parse(&record.event) {
        Ok(event) => {
            let misfits = columns::add(&event, &mut doc, fields, envelope.at);
            if !misfits.is_empty() {
                note(record, &misfits);
                doc.add_text(fields.terms, misfit_terms(&misfits));
            }
        }
        Err(fault) => {
            metrics::misfit("event");
            tracing::debug!(id = %envelope.id, %fault, "a record has terms but no columns");
        }
    }
    doc
}

fn note(record: &Record, misfits: &[Misfit<'_>]) {
    for misfit in misfits {
        metrics::misfit(misfit.member);
    }
    let members: Vec<_> = misfits.iter().map(|misfit| misfit.member).collect();
    tracing::debug!(id = %record.envelope.id, ?members, "values of another type than their columns'");
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

/// No field reads a value of another type than its own, so the free text does.
fn misfit_terms(misfits: &[Misfit<'_>]) -> String {
    let mut ready = String::new();
    for Misfit { member, value } in misfits {
        let text = value.as_str().unwrap_or_else(|| value.raw().into());
        let text = terms::clean(&text);
        let place = format!("{MISFIT}{}{member}{}", terms::SEP, terms::END);
        terms::string(&place, &text, true, |parts| {
            ready.push(READY);
            parts.iter().for_each(|part| ready.push_str(part));
        });
        for word in terms::words(terms::cut(&text, terms::MAX_VALUE)) {
            ready.extend([READY, terms::WORD]);
            ready.push_str(&word);
        }
    }
    ready
}
