//! Encryption at rest as a file says: read at the start, followed while it runs, its KMS plugins watched.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use api::{
    errors::chain,
    gateway::encryption::{Figures, RotationState},
    health::Check,
    keys::Keys,
};
use async_trait::async_trait;
use crypto::{EncryptionConfig, EncryptionTransformer, LoadError, Readers};
use ingest::{journal::Journal, pipeline::Fact, time::Clock};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    chronicle, flaws,
    settings::Settings,
    supervise::{Phase, Supervisor},
};

/// How often a file that may change is looked at; a change, which takes two looks, is in force within seconds.
const LOOK: Duration = Duration::from_secs(2);

/// What does not let values be written, by the KMS plugin's name.
type Troubles = BTreeMap<String, String>;

/// The encryption in force.
#[derive(Debug)]
pub(crate) struct Encryption {
    file: Option<File>,
    current: watch::Sender<Arc<EncryptionTransformer>>,
    troubles: watch::Sender<Troubles>,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    readers: Readers,
    /// Whether it may change while this runs.
    is_followed: bool,
    /// What the look before found: a configuration's hash, or what is wrong.
    found: Result<String, String>,
    /// What was told last, so that a bad file is told once.
    told: Result<String, String>,
}

impl Encryption {
    /// Reads the configuration; without a file nothing is encrypted.
    ///
    /// # Errors
    /// What is wrong with the file, a line for each flaw.
    pub(crate) fn read(settings: &Settings) -> Result<Self> {
        let Some(path) = settings.encryption_provider_config.clone() else {
            return Ok(Self::of(None, EncryptionTransformer::clear()));
        };
        let readers =
            if settings.encryption_provider_config_exposed { Readers::Anybody } else { Readers::Owner };
        let is_followed = settings.encryption_provider_config_automatic_reload;
        let transformer = load(&path, readers, is_followed).map_err(|flaws| anyhow!(flaws))?;
        let found = Ok(transformer.hash().to_owned());
        let file = File { path, readers, is_followed, told: found.clone(), found };
        Ok(Self::of(Some(file), transformer))
    }

    fn of(file: Option<File>, transformer: EncryptionTransformer) -> Self {
        let waiting = |name: &str| (name.to_owned(), "it was not asked yet".to_owned());
        let troubles = transformer.kms().iter().map(|kms| waiting(kms.name())).collect();
        Self {
            file,
            current: watch::Sender::new(Arc::new(transformer)),
            troubles: watch::Sender::new(troubles),
        }
    }

    /// Whether a configuration was given.
    pub(crate) fn is_configured(&self) -> bool {
        self.file.is_some()
    }

    /// What encrypts and decrypts, now and after each change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<EncryptionTransformer>> {
        self.current.subscribe()
    }

    /// Whether values can be written under the keys of every KMS plugin; nothing where nothing is encrypted.
    pub(crate) fn check(&self) -> Option<Box<dyn Check>> {
        self.file.as_ref()?;
        Some(Box::new(KmsCheck(self.troubles.subscribe())))
    }

    /// Follows the file and its plugins.
    pub(crate) fn start(self, journal: &Journal, clock: &Clock, supervisor: &mut Supervisor) {
        let (journal, clock) = (journal.clone(), clock.clone());
        let stop = supervisor.stop(Phase::Movers);
        supervisor.spawn(Phase::Movers, "encryption", async move {
            self.run(journal, clock, stop).await;
            Ok(())
        });
    }

    /// Asks the KMS plugins how they are, takes a changed file, and records both, until `stop`.
    async fn run(mut self, journal: Journal, clock: Clock, stop: CancellationToken) {
        let Some(mut file) = self.file.take() else { return stop.cancelled().await };
        let record = async |fact: Fact| chronicle::record(&journal, &clock, &fact, &stop).await;
        let hash = self.current.borrow().hash().to_owned();
        record(Fact::EncryptionConfigured { hash }).await;
        let mut plugins = self.watch_plugins();
        let (mut changed, mut told) = (self.troubles.subscribe(), Troubles::new());
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = changed.changed() => {
                    let now = changed.borrow_and_update().clone();
                    for fact in news(&told, &now) {
                        record(fact).await;
                    }
                    told = now;
                }
                _ = look.tick(), if file.is_followed => {
                    let Some(news) = file.look() else { continue };
                    match self.take(news).await {
                        Ok(Some(hash)) => {
                            plugins = self.watch_plugins();
                            record(Fact::EncryptionConfigured { hash }).await;
                        }
                        Ok(None) => {}
                        Err(reason) => {
                            tracing::error!(
                                file = %file.path.display(),
                                "still in force: the encryption configuration before; mend the file: {reason}"
                            );
                            record(Fact::EncryptionRefused { reason }).await;
                        }
                    }
                }
                // Watching a plugin never ends.
                Some(_) = plugins.join_next() => {}
            }
        }
    }

    /// Puts a new configuration in force, once each of its KMS plugins has given a key to write under.
    async fn take(&self, news: Result<EncryptionTransformer, String>) -> Result<Option<String>, String> {
        let transformer = news?;
        let hash = transformer.hash().to_owned();
        // The file is back as it was before a bad one.
        if hash == self.current.borrow().hash() {
            return Ok(None);
        }
        for kms in transformer.kms() {
            kms.probe().await.map_err(|error| chain(&error))?;
        }
        self.current.send_replace(Arc::new(transformer));
        Ok(Some(hash))
    }

    fn watch_plugins(&self) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let transformer = self.current.borrow().clone();
        let names: Vec<String> = transformer.kms().iter().map(|kms| kms.name().to_owned()).collect();
        self.troubles.send_modify(|troubles| troubles.retain(|name, _| names.contains(name)));
        for kms in transformer.kms() {
            let (kms, troubles) = (kms.clone(), self.troubles.clone());
            tasks.spawn(async move {
                kms.watch(|kms, outcome| {
                    let trouble = outcome.err().map(|error| chain(&error));
                    troubles.send_if_modified(|all| match trouble {
                        Some(trouble) => all.insert(kms.name().to_owned(), trouble.clone()) != Some(trouble),
                        None => all.remove(kms.name()).is_some(),
                    });
                })
                .await;
            });
        }
        tasks
    }
}

impl File {
    /// A new state of the file, once two looks in a row have found it.
    fn look(&mut self) -> Option<Result<EncryptionTransformer, String>> {
        let news = load(&self.path, self.readers, true);
        let state = news.as_ref().map(|new| new.hash().to_owned()).map_err(Clone::clone);
        let is_settled = std::mem::replace(&mut self.found, state.clone()) == state;
        let is_news = is_settled && std::mem::replace(&mut self.told, state.clone()) != state;
        is_news.then_some(news)
    }
}

/// Does the rotations that are asked for.
pub(crate) fn rotate(keys: &Keys, journal: &Journal, clock: &Clock, supervisor: &mut Supervisor) {
    let (keys, journal, clock) = (keys.clone(), journal.clone(), clock.clone());
    let stop = supervisor.stop(Phase::Movers);
    supervisor.spawn(Phase::Movers, "rotation", async move {
        while let Some(ended) = stop.run_until_cancelled(keys.rotate_next()).await {
            if let Some(fact) = rotation_fact(ended) {
                chronicle::record(&journal, &clock, &fact, &stop).await;
            }
        }
        Ok(())
    });
}

/// What a file makes, or what is wrong with it.
fn load(path: &Path, readers: Readers, is_followed: bool) -> Result<EncryptionTransformer, String> {
    let config = EncryptionConfig::from_file(path, readers, is_followed).map_err(|error| match error {
        LoadError::Refused { source, .. } => flaws::lines(path, &source).trim_end().to_owned(),
        LoadError::Exposed { .. } => format!("{error} (or give --encryption-provider-config-exposed)"),
        LoadError::Read { .. } => chain(&error),
    })?;
    let made = EncryptionTransformer::from_config(config);
    made.with_context(|| path.display().to_string()).map_err(|error| format!("{error:#}"))
}

/// What is to be told of a change.
fn news(told: &Troubles, now: &Troubles) -> Vec<Fact> {
    let began = now.iter().filter(|(plugin, trouble)| told.get(*plugin) != Some(trouble));
    let began =
        began.map(|(plugin, trouble)| Fact::Kms { plugin: plugin.clone(), trouble: Some(trouble.clone()) });
    let ended = told.keys().filter(|plugin| !now.contains_key(*plugin));
    began.chain(ended.map(|plugin| Fact::Kms { plugin: plugin.clone(), trouble: None })).collect()
}

/// How a rotation ended, to be recorded.
fn rotation_fact(ended: RotationState) -> Option<Fact> {
    let (Figures { rewritten, proofs, .. }, trouble) = match ended {
        RotationState::Done(figures) => (figures, None),
        RotationState::Failed { error, figures } => (figures, Some(error)),
        RotationState::Idle | RotationState::Running(_) => return None,
    };
    let proven = proofs.into_iter().map(|proof| (proof.resource, proof.revision.0)).collect();
    Some(Fact::KeysRotated { rewritten, proven, trouble })
}

/// Every KMS plugin lets values be written.
struct KmsCheck(watch::Receiver<Troubles>);

#[async_trait]
impl Check for KmsCheck {
    fn name(&self) -> &'static str {
        "kms"
    }

    async fn check(&self) -> Result<String, String> {
        let troubles = self.0.borrow();
        if troubles.is_empty() {
            return Ok("every plugin of the encryption configuration lets values be written".to_owned());
        }
        let lines: Vec<_> = troubles.iter().map(|(name, trouble)| format!("{name}: {trouble}")).collect();
        Err(lines.join("; "))
    }
}
