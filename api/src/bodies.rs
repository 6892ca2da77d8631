//! The keys that seal the bodies of events: one for each UTC day, wrapped as the encryption configuration says for
//! `events.muniment.io`, kept in the ledger's database, and dropped when the day's bodies are to be gone for good.
//!
//! A key is in the database before anything is sealed under it, so that every instance has it and no crash loses it. A
//! day whose key was dropped gets no other: what comes for it later is not kept.

pub mod routes;
mod store;

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use async_trait::async_trait;
use bytes::Bytes;
use crypto::{BODIES, DecryptError, EncryptError, EncryptionTransformer, RandomError, Seed};
use ingest::{
    event::EventView,
    record::{Draft, MAX_EVENT_BYTES, Record, RecordId},
    sealed::{self, NoKey, Open, Seal, Sealed},
    time::{Clock, Day, Timestamp},
};
use serde::Serialize;
use serde_json::json;
use tokio::sync::{Mutex, watch};
use uuid::Uuid;

use self::store::{Row, State};
use crate::{errors::chain, later::Later, tokens::store::Store};

/// Keys that are held unwrapped. A day has one; an import of years has its days one after the other.
const MAX_HELD: usize = 1024;

/// How well bodies are packed before they are sealed, for nothing can pack them afterwards.
const PACKING: i32 = 3;

/// The keys of the days. Clones are handles of the same.
#[derive(Clone)]
pub struct DayKeys(Arc<Inner>);

struct Inner {
    encryption: watch::Receiver<Arc<EncryptionTransformer>>,
    store: Later<Store>,
    clock: Clock,
    held: RwLock<HashMap<Day, Held>>,
    /// Of several that want keys, one asks for them.
    fetching: Mutex<()>,
    /// The days that are known to have lost their key.
    shredded: watch::Sender<BTreeSet<Day>>,
}

/// The key of a day.
#[derive(Clone)]
struct Held {
    id: Uuid,
    /// Nothing once it was dropped.
    seed: Option<Arc<Seed>>,
    shredded_at: Option<Timestamp>,
}

/// Why the key of a day cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Bodies are not sealed any more.
    #[error("the encryption configuration does not name {BODIES}")]
    NotConfigured,
    /// The ledger's database is not connected yet.
    #[error("the ledger's database is not connected yet")]
    NotConnected,
    /// It does not answer.
    #[error("the ledger's database does not answer")]
    Database(#[from] sqlx::Error),
    /// The encryption configuration cannot wrap a new key.
    #[error("the first provider of {BODIES} does not wrap a new key")]
    Wrap(#[from] EncryptError),
    /// The encryption configuration cannot unwrap a key.
    #[error("no provider of {BODIES} unwraps the key {id}")]
    Unwrap {
        /// The key.
        id: Uuid,
        /// Why not.
        #[source]
        source: DecryptError,
    },
    /// No random bytes.
    #[error("there is no new key")]
    Random(#[from] RandomError),
    /// What is kept is no key.
    #[error("what is kept as the key {0} is none")]
    Corrupt(Uuid),
    /// The key is dropped, and the database's log still holds it.
    #[error("the key is dropped, but readers keep the database from erasing it; ask again")]
    NotErased,
}

/// The key of a day as an operator sees it.
#[derive(Debug, Serialize)]
pub struct DayKey {
    day: String,
    key: Uuid,
    created_at: Timestamp,
    /// The provider and key that wrap it; nothing once it was dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    wrapped_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shredded_at: Option<Timestamp>,
}

impl fmt::Debug for DayKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DayKeys")
    }
}

impl DayKeys {
    /// Keys as the encryption in force wraps them, in the database of `store`.
    pub fn new(
        encryption: watch::Receiver<Arc<EncryptionTransformer>>,
        store: Later<Store>,
        clock: Clock,
    ) -> Self {
        Self(Arc::new(Inner {
            encryption,
            store,
            clock,
            held: RwLock::default(),
            fetching: Mutex::default(),
            shredded: watch::Sender::default(),
        }))
    }

    /// The days that lost their key, as of the last look.
    pub fn shredded(&self) -> watch::Receiver<BTreeSet<Day>> {
        self.0.shredded.subscribe()
    }

    /// Makes the keys of today and tomorrow before they are needed, forgets those that were dropped elsewhere, and
    /// wraps anew what lies under an old key.
    ///
    /// # Errors
    /// When something of it cannot be done now.
    pub async fn look(&self) -> Result<(), KeyError> {
        let store = self.store()?;
        let mut looked = Ok(());
        for row in store.day_keys().await? {
            let renewed = match &row.state {
                State::Shredded(at) => {
                    self.hold(row.day, &Held { id: row.id, seed: None, shredded_at: Some(*at) });
                    Ok(())
                }
                State::Wrapped(wrapped) => self.renew(&store, &row, wrapped).await,
            };
            looked = looked.and(renewed);
        }
        if self.is_on() {
            let today = self.0.clock.now().day();
            for day in [today, today.plus(1)] {
                self.key(day).await?;
            }
        }
        looked
    }

    /// Every key that is kept, by day.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn list(&self) -> Result<Vec<DayKey>, KeyError> {
        Ok(self.store()?.day_keys().await?.iter().map(DayKey::of).collect())
    }

    /// Drops the key of a day: its bodies are gone for good when this returns. False when the day has none.
    ///
    /// # Errors
    /// When the database does not answer, or does not erase the key.
    pub async fn shred(&self, day: Day) -> Result<bool, KeyError> {
        let store = self.store()?;
        if store.day_key(day).await?.is_none() {
            return Ok(false);
        }
        let erased = store.shred_day_key(day, self.0.clock.now()).await;
        if let Some(row) = store.day_key(day).await? {
            self.hold(day, &self.unwrapped(&row).await?);
        }
        erased.map(|()| true)
    }

    /// Removes the keys of days that are not kept any more.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn expire(&self, first: Day) -> Result<(), KeyError> {
        self.store()?.expire_day_keys(first).await
    }

    /// The event with its bodies open, and in place of those that cannot be opened, why.
    pub async fn open_for_reader(&self, record: &Record) -> Bytes {
        if !sealed::may_be_sealed(&record.event) {
            return record.event.clone();
        }
        let day = record.envelope.id.day();
        let held = self.kept(day).await;
        let opened = sealed::replace(&record.event, |name, body| {
            let sealed = Sealed::read(body)?;
            let why = match &held {
                Ok(Some(held)) if held.id == sealed.key => {
                    match open(held, record.envelope.id, name, &sealed) {
                        Ok(plain) => return Some(plain),
                        Err(why) => why,
                    }
                }
                Ok(_) => json!({ "unavailable": "this deployment has no such key" }),
                Err(error) => json!({ "unavailable": chain(error) }),
            };
            let mut marker = json!({ "$sealed": { "key": sealed.key } });
            if let (Some(facts), Some(why)) = (marker["$sealed"].as_object_mut(), why.as_object()) {
                facts.extend(why.clone());
            }
            Some(marker.to_string().into_bytes())
        });
        opened.map_or_else(|| record.event.clone(), Bytes::from)
    }

    fn store(&self) -> Result<Store, KeyError> {
        self.0.store.get().ok_or(KeyError::NotConnected)
    }

    /// The key of a day, which is made when there is none.
    async fn key(&self, day: Day) -> Result<Held, KeyError> {
        if let Some(held) = self.held(day) {
            return Ok(held);
        }
        let _one = self.0.fetching.lock().await;
        if let Some(held) = self.held(day) {
            return Ok(held);
        }
        let store = self.store()?;
        if store.day_key(day).await?.is_none() {
            let (id, seed) = (Uuid::new_v4(), Seed::random()?);
            let wrapped = self.wrapped(day, id, &seed)?;
            store.add_day_key(day, id, &wrapped, self.0.clock.now()).await?;
        }
        // As it is kept, which may be another instance's.
        let row = store.day_key(day).await?.ok_or(sqlx::Error::RowNotFound)?;
        let held = self.unwrapped(&row).await?;
        self.hold(day, &held);
        Ok(held)
    }

    /// The key of a day, if there is one.
    async fn kept(&self, day: Day) -> Result<Option<Held>, KeyError> {
        if let Some(held) = self.held(day) {
            return Ok(Some(held));
        }
        let Some(row) = self.store()?.day_key(day).await? else { return Ok(None) };
        let held = self.unwrapped(&row).await?;
        self.hold(day, &held);
        Ok(Some(held))
    }

    /// Without an entry that names bodies, a key would be kept as it is.
    fn wrapped(&self, day: Day, id: Uuid, seed: &Seed) -> Result<Vec<u8>, KeyError> {
        let encryption = self.0.encryption.borrow().clone();
        if !encryption.names(BODIES) {
            return Err(KeyError::NotConfigured);
        }
        Ok(encryption.transform_to_storage(BODIES, &place(day, id), seed.expose())?)
    }

    async fn unwrapped(&self, row: &Row) -> Result<Held, KeyError> {
        let (seed, shredded_at) = match &row.state {
            State::Shredded(at) => (None, Some(*at)),
            State::Wrapped(wrapped) => (Some(Arc::new(self.unwrap(row, wrapped).await?.0)), None),
        };
        Ok(Held { id: row.id, seed, shredded_at })
    }

    /// The key, and whether it should be wrapped anew.
    async fn unwrap(&self, row: &Row, wrapped: &[u8]) -> Result<(Seed, bool), KeyError> {
        let encryption = self.0.encryption.borrow().clone();
        let plain = encryption.transform_from_storage(BODIES, &place(row.day, row.id), wrapped).await;
        let plain = plain.map_err(|source| KeyError::Unwrap { id: row.id, source })?;
        let seed = Seed::from_bytes(plain.bytes.into()).ok_or(KeyError::Corrupt(row.id))?;
        Ok((seed, plain.stale))
    }

    async fn renew(&self, store: &Store, row: &Row, wrapped: &[u8]) -> Result<(), KeyError> {
        if !self.is_on() {
            return Ok(());
        }
        let (seed, is_stale) = self.unwrap(row, wrapped).await?;
        if is_stale {
            let new = self.wrapped(row.day, row.id, &seed)?;
            store.rewrap_day_key(row.day, wrapped, &new).await?;
        }
        Ok(())
    }

    fn held(&self, day: Day) -> Option<Held> {
        self.0.held.read().unwrap_or_else(PoisonError::into_inner).get(&day).cloned()
    }

    fn hold(&self, day: Day, new: &Held) {
        let mut held = self.0.held.write().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= MAX_HELD {
            held.clear();
        }
        held.insert(day, new.clone());
        drop(held);
        if new.seed.is_none() {
            self.0.shredded.send_if_modified(|days| days.insert(day));
        }
    }
}

impl DayKey {
    fn of(row: &Row) -> Self {
        let (wrapped_by, shredded_at) = match &row.state {
            State::Wrapped(wrapped) => (Some(wrapper(wrapped)), None),
            State::Shredded(at) => (None, Some(*at)),
        };
        Self { day: row.day.to_string(), key: row.id, created_at: row.created_at, wrapped_by, shredded_at }
    }
}

/// The provider and the name of the key, as every stored value begins with them.
fn wrapper(wrapped: &[u8]) -> String {
    let label = crypto::label(wrapped);
    format!("{} {}", label.provider, label.key)
}

/// What binds a wrapped key to its day.
fn place(day: Day, id: Uuid) -> String {
    format!("/muniment/day-keys/{day}/{id}")
}

/// What binds a body to its place.
fn binding(id: RecordId, name: &str) -> Vec<u8> {
    [id.0.as_bytes(), name.as_bytes()].concat()
}

fn seal(held: &Held, id: RecordId, name: &str, body: &str) -> Option<Sealed> {
    let data = match &held.seed {
        Some(seed) => {
            let packed = zstd::bulk::compress(body.as_bytes(), PACKING).ok()?;
            Some(seed.seal(&binding(id, name), &packed).ok()?)
        }
        None => None,
    };
    Some(Sealed { key: held.id, data })
}

/// The body, or what is to be said in its place.
fn open(held: &Held, id: RecordId, name: &str, sealed: &Sealed) -> Result<Vec<u8>, serde_json::Value> {
    let Some(seed) = &held.seed else { return Err(json!({ "shredded": held.shredded_at })) };
    let data = sealed.data.as_ref().ok_or_else(|| json!({ "unavailable": "nothing of it was kept" }))?;
    let packed =
        seed.open(&binding(id, name), data).map_err(|why| json!({ "unavailable": why.to_string() }))?;
    zstd::bulk::decompress(&packed, MAX_EVENT_BYTES).map_err(|why| json!({ "unavailable": why.to_string() }))
}

#[async_trait]
impl Seal for DayKeys {
    fn is_on(&self) -> bool {
        self.0.encryption.borrow().names(BODIES)
    }

    async fn seal(&self, mut draft: Draft) -> Result<Draft, NoKey> {
        let has_body =
            EventView::parse(&draft.event).is_ok_and(|event| sealed::bodies(&event).next().is_some());
        if !has_body || !self.is_on() {
            return Ok(draft);
        }
        let held = self.key(draft.id.day()).await.map_err(|error| {
            // Once for each event: `/readyz` and the task that looks at the keys tell of it aloud.
            tracing::debug!(error = chain(&error), day = %draft.id.day(), "an event is not taken, for its body cannot be sealed");
            NoKey
        })?;
        let mut is_sealed = true;
        let event = sealed::replace(&draft.event, |name, body| {
            let sealed = seal(&held, draft.id, name, body.raw());
            is_sealed &= sealed.is_some();
            sealed.map(|sealed| sealed.write())
        });
        match event {
            Some(event) if is_sealed => {
                draft.event = event.into();
                Ok(draft)
            }
            _ => Err(NoKey),
        }
    }
}

#[async_trait]
impl Open for DayKeys {
    async fn prepare(&self, records: &[Record]) -> Result<(), NoKey> {
        let sealed = records.iter().filter(|record| sealed::may_be_sealed(&record.event));
        let days: BTreeSet<Day> = sealed.map(|record| record.envelope.id.day()).collect();
        for day in days {
            if let Err(error) = self.kept(day).await {
                tracing::warn!(error = chain(&error), %day, "bodies cannot be opened for the index");
                return Err(NoKey);
            }
        }
        Ok(())
    }

    fn open(&self, record: &Record) -> Option<Bytes> {
        let held = self.held(record.envelope.id.day())?;
        let opened = sealed::replace(&record.event, |name, body| {
            let sealed = Sealed::read(body).filter(|sealed| sealed.key == held.id)?;
            open(&held, record.envelope.id, name, &sealed).ok()
        });
        opened.map(Bytes::from)
    }
}
