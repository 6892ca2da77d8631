//! Sealed bodies in a process: their keys are made in time and dropped ones forgotten, and a day whose bodies an index
//! holds is indexed again when its key was dropped.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use api::{bodies::DayKeys, errors::chain, health::Check, rebuild::Rebuilder};
use async_trait::async_trait;
use index::Index;
use ingest::{retry::Backoff, sealed::Seal, time::Day};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often the keys are looked at: as long may another instance open what was shredded here.
const LOOK: Duration = Duration::from_secs(5);

/// The waits between tries to change what the index holds.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(60);

/// Keeps the keys of the days.
pub(crate) struct Bodies {
    keys: DayKeys,
    trouble: watch::Sender<Option<String>>,
}

impl Bodies {
    /// With the check that shows whether bodies can be sealed.
    pub(crate) fn new(keys: DayKeys) -> (Self, BodiesCheck) {
        let (trouble, shown) = watch::channel(None);
        (Self { keys: keys.clone(), trouble }, BodiesCheck { keys, trouble: shown })
    }

    /// Looks at the keys until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        loop {
            let trouble = self.keys.look().await.err().map(|error| chain(&error));
            if let Some(trouble) = trouble.as_ref().filter(|new| self.trouble.borrow().as_ref() != Some(*new))
                && self.keys.is_on()
            {
                tracing::warn!("the keys of bodies are not as they should be: {trouble}");
            }
            self.trouble.send_replace(trouble);
            if stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
                return;
            }
        }
    }
}

/// Bodies can be sealed, where they are to be.
pub(crate) struct BodiesCheck {
    keys: DayKeys,
    trouble: watch::Receiver<Option<String>>,
}

#[async_trait]
impl Check for BodiesCheck {
    fn name(&self) -> &'static str {
        "bodies"
    }

    async fn check(&self) -> Result<String, String> {
        match &*self.trouble.borrow() {
            _ if !self.keys.is_on() => Ok("not sealed".to_owned()),
            Some(trouble) => Err(trouble.clone()),
            None => Ok("sealed under the key of their day".to_owned()),
        }
    }
}

/// What an index holds of sealed bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Holds {
    /// None of them.
    #[default]
    None,
    /// Perhaps some.
    Some,
    /// All that could be opened.
    All,
}

/// What is known of an index, kept beside it.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Known {
    holds: Holds,
    /// The days whose bodies it does not hold, because they were shredded.
    shredded: BTreeSet<String>,
}

/// Has an index hold the bodies that it is to hold, and none that was shredded.
pub(crate) struct BodyIndex {
    file: PathBuf,
    known: Known,
    is_wanted: bool,
    keys: DayKeys,
}

impl BodyIndex {
    /// Before anything is added to the index.
    ///
    /// # Errors
    /// When what is known of the index cannot be read or written.
    pub(crate) fn open(data: &Path, index: &Index, is_wanted: bool, keys: DayKeys) -> Result<Self> {
        let file = data.join("index-bodies.json");
        let known = match fs::read(&file) {
            Ok(json) => serde_json::from_slice(&json).with_context(|| {
                format!("{} does not read; remove it together with the folder index", file.display())
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Known::default(),
            Err(error) => return Err(error).with_context(|| format!("{} cannot be read", file.display())),
        };
        let mut opened = Self { file, known, is_wanted, keys };
        if opened.known.holds != opened.wanted() {
            // From the first body on, a later start must know that it may have to take them out again.
            opened.known.holds = Holds::Some;
            opened.write().with_context(|| format!("{} cannot be written", opened.file.display()))?;
        }
        if is_wanted {
            index.index_bodies(Arc::new(opened.keys.clone()));
        }
        Ok(opened)
    }

    /// Has the index hold what it is to hold, until `stop`.
    pub(crate) async fn run(mut self, rebuilder: Rebuilder, stop: CancellationToken) {
        stop.run_until_cancelled(self.follow(&rebuilder)).await;
    }

    async fn follow(&mut self, rebuilder: &Rebuilder) {
        let mut shredded = self.keys.shredded();
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LAST);
        loop {
            let days = shredded.borrow_and_update().clone();
            let renewed = if self.known.holds != self.wanted() {
                let which = if self.is_wanted { "all" } else { "no" };
                rebuilder.renew(&format!("it is to hold {which} bodies that are sealed")).await
            } else {
                let news = self.news(&days);
                if news.is_empty() {
                    // The sender lives as long as `self.keys`.
                    let _ = shredded.changed().await;
                    continue;
                }
                rebuilder.renew_days(&news).await
            };
            if renewed && self.note(&days) {
                backoff.reset();
            } else {
                tokio::time::sleep(backoff.wait()).await;
            }
        }
    }

    fn wanted(&self) -> Holds {
        if self.is_wanted { Holds::All } else { Holds::None }
    }

    /// The days that the index may hold bodies of although they were shredded.
    fn news(&self, shredded: &BTreeSet<Day>) -> BTreeSet<Day> {
        let is_news = |day: &Day| self.is_wanted && !self.known.shredded.contains(&day.to_string());
        shredded.iter().copied().filter(is_news).collect()
    }

    /// That the index holds what it is to hold, and no bodies of these days. Whether that is durable.
    fn note(&mut self, shredded: &BTreeSet<Day>) -> bool {
        self.known.holds = self.wanted();
        self.known.shredded = shredded.iter().map(ToString::to_string).collect();
        let written = self.write();
        if let Err(error) = &written {
            tracing::warn!(%error, file = %self.file.display(), "the same is done again after the next start");
        }
        written.is_ok()
    }

    fn write(&self) -> io::Result<()> {
        let fresh = self.file.with_extension("new");
        let mut file = File::create(&fresh)?;
        file.write_all(&serde_json::to_vec(&self.known)?)?;
        file.sync_data()?;
        fs::rename(&fresh, &self.file)?;
        self.file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }
}
