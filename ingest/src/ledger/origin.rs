//! What many records share, kept once: where they came from and under which redaction rules.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use uuid::Uuid;

use super::LedgerError;
use crate::record::{Boot, Envelope, Record};

/// Instance, start, cluster and rules of a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Origin {
    pub(crate) source: Arc<str>,
    pub(crate) boot: Boot,
    pub(crate) cluster: Arc<str>,
    pub(crate) rules: Arc<str>,
}

impl Origin {
    pub(crate) fn of(envelope: &Envelope) -> Self {
        Self {
            source: envelope.source.clone(),
            boot: envelope.boot,
            cluster: envelope.cluster.clone(),
            rules: envelope.rules.clone(),
        }
    }
}

/// Whether two records have one origin.
pub(crate) fn same_origin(a: &Record, b: &Record) -> bool {
    let (a, b) = (&a.envelope, &b.envelope);
    a.boot == b.boot && a.cluster == b.cluster && a.rules == b.rules && a.source == b.source
}

/// The number of an origin in the database.
pub(crate) type OriginId = i64;

/// A deployment has some tens; past this many the cache starts again, so that it has a bound.
const MAX_CACHED: usize = 10_000;

/// The origins that the database is known to hold. Rows of this table never change and never go.
#[derive(Debug, Default)]
pub(crate) struct OriginCache(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    ids: HashMap<Origin, OriginId>,
    origins: HashMap<OriginId, Origin>,
}

impl OriginCache {
    pub(crate) fn id(&self, origin: &Origin) -> Option<OriginId> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).ids.get(origin).copied()
    }

    pub(crate) fn origin(&self, id: OriginId) -> Option<Origin> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).origins.get(&id).cloned()
    }

    /// Remembers an origin as a database gave it: source, boot, cluster and rules.
    ///
    /// # Errors
    /// When there is none of this number.
    pub(crate) fn learn(
        &self,
        id: OriginId,
        row: Option<(String, Uuid, String, String)>,
    ) -> Result<Origin, LedgerError> {
        let (source, boot, cluster, rules) =
            row.ok_or_else(|| LedgerError::Corrupt(format!("a record of origin {id}, which is not there")))?;
        let origin =
            Origin { source: source.into(), boot: Boot(boot), cluster: cluster.into(), rules: rules.into() };
        self.remember([(origin.clone(), id)]);
        Ok(origin)
    }

    /// Remembers what is committed.
    pub(crate) fn remember(&self, known: impl IntoIterator<Item = (Origin, OriginId)>) {
        let mut cache = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (origin, id) in known {
            if cache.ids.len() >= MAX_CACHED {
                *cache = Known::default();
            }
            cache.ids.insert(origin.clone(), id);
            cache.origins.insert(id, origin);
        }
    }
}
