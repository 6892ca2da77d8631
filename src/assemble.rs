//! The composition root: builds every part that the roles of this process need, and starts them.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::{Context, Result, bail};
use api::{
    access::{Access, uses::Uses},
    audit_webhook::Webhook,
    bodies::{DayKeys, routes::Shredder},
    gateway::{refusals::Refusals, serve::Gateway},
    health::{Check, Health},
    intake::{Bounds, Intake, delivery::Delivery},
    keys::Keys,
    later::Later,
    prometheus::MetricsPage,
    rebuild::Rebuilder,
    reviews::Reviews,
    routes::{Api, QueryRole},
    search::Search,
    server::{self, Listener},
    tail::Followers,
    tokens::{Tokens, store::Store},
};
use index::{Index, IndexOptions, Indexer};
use ingest::{
    accept::Acceptor,
    failing::Failing,
    identity::DeploymentKey,
    journal::{Journal, JournalOptions, Pin},
    lag::Lag,
    ledger::Ledger,
    log::Log,
    policy::Loaded,
    recorder::{self, Recorder, RecorderOptions, Status},
    redact::{Redactor, RuleSet},
    relay::Delivered,
    time::Clock,
    watched::Watched,
};
use tokio::sync::{mpsc, watch};

use crate::{
    bodies::{Bodies, BodyIndex},
    checks::{IndexCheck, IndexerCheck, JournalCheck, LedgerCheck, LogCheck, RecorderCheck, RunningCheck},
    chronicle::{self, Chronicle},
    client_token,
    cluster::{Cluster, Files},
    data_folder::{DataFolder, ServerFile},
    deployment_key,
    encryption::Encryption,
    engines::Engines,
    exit,
    grace::Grace,
    inputs::Inputs,
    kubeconfig, lag, listener,
    mender::Mender,
    outputs::{self, Outputs},
    retention::Retention,
    settings::{Ack, Role, Settings},
    supervise::{Phase, Supervisor},
};

/// A process whose parts run.
pub(crate) struct Running {
    /// Its tasks.
    pub(crate) supervisor: Supervisor,
    /// Its folder, held until this is dropped.
    pub(crate) data: DataFolder,
    /// Where it listens.
    pub(crate) url: String,
    /// Whether it serves a Kubernetes API.
    pub(crate) serves_cluster: bool,
    /// Whether standard output is for audit events alone.
    pub(crate) is_stdout_taken: bool,
    /// Its journal, to be closed when the tasks have ended.
    pub(crate) journal: Journal,
}

/// What redacts, as the rules' file says.
type Redactors = Watched<RuleSet, Redactor>;

/// What several parts need.
struct Parts {
    settings: Settings,
    /// Keeps the journal until the gateway has told what died with an earlier start.
    begun: Option<Pin>,
    clock: Clock,
    data: PathBuf,
    is_fresh: bool,
    instance: Arc<str>,
    supervisor: Supervisor,
    journal: Journal,
    log: Later<Arc<dyn Log>>,
    delivered: Later<watch::Receiver<Delivered>>,
    failing: Later<watch::Receiver<Option<Failing>>>,
    ledger: Later<Arc<dyn Ledger>>,
    store: Later<Store>,
    keys: DayKeys,
    checks: Vec<Box<dyn Check>>,
}

/// Checks the settings, opens the data folder, and starts the roles.
///
/// # Errors
/// When a setting, the folder or the address cannot be used: then nothing was started.
pub(crate) async fn assemble(settings: Settings, metrics: MetricsPage, clock: Clock) -> Result<Running> {
    exit::usage(check(&settings))?;
    let inputs = exit::usage(Inputs::read(&settings, &clock))?;
    let Inputs { rules, policy, key, encryption, webhook, identities, pod_security } = inputs;
    let data = DataFolder::open(&settings.data_dir)?;
    let instance: Arc<str> = data.instance(settings.instance.as_deref())?.into();
    let tls = listener::tls(&settings, data.path(), &clock)?;
    let listener = Listener::bind(settings.bind_address).with_context(|| {
        format!("cannot listen on {}; choose another --bind-address", settings.bind_address)
    })?;
    let key = match key {
        Some(key) => key,
        None => deployment_key::own(data.path())?,
    };
    let mut parts = Parts::open(settings, clock, &data, instance, &encryption).await?;
    parts.watch_journal();
    parts.outputs(webhook).await?;
    parts.engines(&key).start().await?;
    let tokens = parts.tokens().await?;
    let redactors = redactors(rules, &key);
    let intake = parts.intake(&redactors, &key)?;
    let refusals = parts.refusals();
    let files = Files { encryption: &encryption, identities, pod_security };
    let gateway = parts.gateway(&tokens, &redactors, policy.as_ref(), files, &refusals, &key);
    let (gateway, keys) = gateway.await?.unzip();
    parts.encryption(encryption);
    let access = parts.access(tokens, gateway.as_ref(), refusals, &redactors);
    parts.chronicle(redactors, policy);
    parts.recorder();
    let index = parts.indexer().await?;
    parts.retention(index.as_ref().map(|(index, _)| index.clone()));
    let query = index
        .filter(|_| parts.settings.runs(Role::Query))
        .map(|(index, rebuilder)| parts.query(index, rebuilder));
    let url = url_of(listener.address());
    let reviews = gateway.as_ref().map(|gateway| Reviews::new(gateway.gate()));
    let day_keys =
        Shredder { keys: parts.keys.clone(), journal: parts.journal.clone(), clock: parts.clock.clone() };
    let api = Api {
        access,
        health: parts.health(),
        metrics,
        intake,
        gateway,
        keys,
        day_keys: Some(day_keys),
        reviews,
        query,
    };
    parts.listen(listener, api, tls);
    let serves_cluster = parts.settings.runs(Role::Gateway);
    if serves_cluster {
        kubeconfig::write(data.path(), &url, &parts.settings)?;
    }
    data.publish(&ServerFile { url: url.clone(), pid: std::process::id() })?;
    let is_stdout_taken = outputs::is_stdout_taken(&parts.settings);
    let (supervisor, journal) = (parts.supervisor, parts.journal);
    Ok(Running { supervisor, data, url, serves_cluster, is_stdout_taken, journal })
}

fn check(settings: &Settings) -> Result<()> {
    if settings.ack == Ack::Log && settings.kafka.is_none() {
        bail!(
            "--ack log is refused without --kafka: the journal is the log then, and is gone with its disk; \
             use --ack journal, or give --kafka a topic with two replicas in sync"
        );
    }
    let all = [Role::Gateway, Role::Intake, Role::Recorder, Role::Indexer, Role::Query];
    let split = all.iter().any(|role| !settings.runs(*role));
    if split && (settings.kafka.is_none() || settings.postgres.is_none()) {
        bail!(
            "roles can be split only with --kafka and --postgres; without them one process runs all of them"
        );
    }
    if settings.outputs.are_set() && !settings.runs(Role::Gateway) {
        bail!(
            "--audit-log-path and --audit-webhook-config-file are for the events of the gateway, and need the role gateway"
        );
    }
    if settings.runs(Role::Query) && !settings.runs(Role::Indexer) {
        bail!(
            "the role query needs the role indexer beside it: each instance that answers queries holds a whole index"
        );
    }
    Ok(())
}

/// The address as clients on this machine use it.
fn url_of(address: SocketAddr) -> String {
    let port = address.port();
    match address.ip() {
        ip if ip.is_unspecified() => format!("https://localhost:{port}"),
        std::net::IpAddr::V6(ip) => format!("https://[{ip}]:{port}"),
        ip => format!("https://{ip}:{port}"),
    }
}

impl Parts {
    async fn open(
        settings: Settings,
        clock: Clock,
        data: &DataFolder,
        instance: Arc<str>,
        encryption: &Encryption,
    ) -> Result<Self> {
        let mut checks: Vec<Box<dyn Check>> = Vec::new();
        let supervisor = Supervisor::default();
        checks.push(Box::new(RunningCheck(supervisor.stop(Phase::Edge))));
        // Every role has something to tell of itself, so every process has a journal.
        let store = Later::new();
        let keys = DayKeys::new(encryption.subscribe(), store.clone(), clock.clone());
        let journal = open_journal(&settings, data, &instance, &clock, &keys).await?;
        checks.push(Box::new(JournalCheck(journal.clone())));
        let (log, ledger) = (Later::new(), Later::new());
        let failing = Later::new();
        checks.push(Box::new(LogCheck { log: log.clone(), failing: failing.clone() }));
        checks.push(Box::new(LedgerCheck(ledger.clone())));
        let (is_fresh, data) = (data.is_fresh(), data.path().to_owned());
        let delivered = Later::new();
        // What died with an earlier start must not be forgotten before it is told.
        let begun = settings.runs(Role::Gateway).then(|| journal.pin_start());
        Ok(Self {
            settings,
            begun,
            clock,
            data,
            is_fresh,
            instance,
            supervisor,
            journal,
            log,
            delivered,
            failing,
            ledger,
            store,
            keys,
            checks,
        })
    }

    fn engines(&mut self, key: &DeploymentKey) -> Engines<'_> {
        Engines {
            // Only where events come in is anything made under the key.
            key: self.settings.runs(Role::Intake).then(|| key.check()),
            settings: &self.settings,
            data: &self.data,
            instance: self.instance.clone(),
            journal: self.journal.clone(),
            supervisor: &mut self.supervisor,
            log: self.log.clone(),
            delivered: self.delivered.clone(),
            failing: self.failing.clone(),
            ledger: self.ledger.clone(),
            store: self.store.clone(),
        }
    }

    /// Tokens; the local one is there before anything is announced.
    async fn tokens(&mut self) -> Result<Tokens> {
        let tokens = Tokens::open(self.store.clone(), self.data.join("tokens.json"), self.clock.clone())?;
        if self.store.get().is_some() {
            client_token::ensure(&tokens, &self.data, &self.instance).await?;
        } else {
            client_token::prepare(&tokens, &self.data, &self.instance)?;
        }
        let stop = self.supervisor.stop(Phase::Movers);
        let (kept, store, data, instance) =
            (tokens.clone(), self.store.clone(), self.data.clone(), self.instance.clone());
        self.supervisor.spawn(Phase::Movers, "tokens", async move {
            tokio::select! {
                _ = store.wait() => {}
                () = stop.cancelled() => return Ok(()),
            }
            client_token::keep_up(&kept, &data, &instance, &stop).await;
            Ok(())
        });
        Ok(tokens)
    }

    /// Where audit events go besides the pipeline.
    async fn outputs(&mut self, webhook: Option<Webhook>) -> Result<()> {
        let outputs = Outputs {
            settings: &self.settings,
            data: &self.data,
            clock: self.clock.clone(),
            journal: self.journal.clone(),
            keys: self.keys.clone(),
            supervisor: &mut self.supervisor,
            checks: &mut self.checks,
        };
        outputs.start(webhook).await
    }

    /// Watches the journal, whose failure ends the process whatever else it runs.
    fn watch_journal(&mut self) {
        let journal = self.journal.clone();
        let stop = self.supervisor.stop(Phase::Movers);
        self.supervisor.spawn(Phase::Movers, "journal", async move {
            tokio::select! {
                () = journal.ended() => bail!("its disk failed; nothing that was acknowledged is lost, start again when the disk is well"),
                () = stop.cancelled() => Ok(()),
            }
        });
    }

    fn intake(&mut self, redactors: &Redactors, key: &DeploymentKey) -> Result<Option<Intake>> {
        if !self.settings.runs(Role::Intake) {
            return Ok(None);
        }
        let retention = Some(self.settings.retention_days);
        let acceptor = Acceptor::new(key, redactors.subscribe(), self.clock.clone(), retention);
        let delivery = (self.settings.ack == Ack::Log).then(|| Delivery::new(self.delivered.clone()));
        Ok(Some(Intake::new(acceptor, self.journal.clone(), delivery, self.clock.clone(), Bounds::default())))
    }

    async fn gateway(
        &mut self,
        tokens: &Tokens,
        redactors: &Redactors,
        policy: Option<&Watched<Loaded>>,
        files: Files<'_>,
        refusals: &Refusals,
        key: &DeploymentKey,
    ) -> Result<Option<(Gateway, Keys)>> {
        if !self.settings.runs(Role::Gateway) {
            return Ok(None);
        }
        let cluster = Cluster {
            settings: &self.settings,
            data: &self.data,
            instance: &self.instance,
            clock: self.clock.clone(),
            journal: self.journal.clone(),
            begun: self.begun.take(),
            key,
            tokens: tokens.clone(),
            refusals: refusals.clone(),
            redactor: redactors.subscribe(),
            policy: policy.map(Watched::subscribe),
            supervisor: &mut self.supervisor,
            checks: &mut self.checks,
        };
        cluster.start(files).await.map(Some)
    }

    /// Follows the encryption configuration, and keeps the keys of sealed bodies.
    fn encryption(&mut self, encryption: Encryption) {
        self.checks.extend(encryption.check());
        encryption.start(&self.journal, &self.clock, &mut self.supervisor);
        let (bodies, check) = Bodies::new(self.keys.clone());
        self.checks.push(Box::new(check));
        let stop = self.supervisor.stop(Phase::Movers);
        self.supervisor.spawn(Phase::Movers, "day-keys", async move {
            bodies.run(stop).await;
            Ok(())
        });
    }

    /// Counts who is refused, at the gateway and elsewhere.
    fn refusals(&mut self) -> Refusals {
        let refusals = Refusals::new(self.journal.clone(), self.clock.clone());
        let (counted, stop) = (refusals.clone(), self.supervisor.stop(Phase::Movers));
        self.supervisor.spawn(Phase::Movers, "refusals", async move {
            counted.run(&stop).await;
            Ok(())
        });
        refusals
    }

    /// What guards our own interface, and records its uses.
    fn access(
        &mut self,
        tokens: Tokens,
        gateway: Option<&Gateway>,
        refusals: Refusals,
        redactors: &Redactors,
    ) -> Access {
        let (uses, writer) = Uses::new(self.journal.clone(), redactors.subscribe(), self.clock.clone());
        let stop = self.supervisor.stop(Phase::Movers);
        self.supervisor.spawn(Phase::Movers, "uses", async move {
            writer.run(&stop).await;
            Ok(())
        });
        let door = gateway.map(|gateway| gateway.door().clone());
        Access { tokens, door, own: self.settings.cluster_name.as_arc().clone(), refusals, uses }
    }

    /// The rules are in force in every process, each of which records uses; the policy where one was given.
    fn chronicle(&mut self, redactors: Redactors, policy: Option<Watched<Loaded>>) {
        let chronicle = Chronicle::open(&self.data, self.journal.clone(), self.clock.clone());
        let stop = self.supervisor.stop(Phase::Movers);
        self.supervisor.spawn(Phase::Movers, "chronicle", async move {
            chronicle.run(redactors, policy, &stop).await;
            Ok(())
        });
    }

    fn recorder(&mut self) {
        if !self.settings.runs(Role::Recorder) {
            return;
        }
        let status: Later<watch::Receiver<Status>> = Later::new();
        self.checks.push(Box::new(RecorderCheck { status: status.clone(), max_lag: self.settings.max_lag }));
        let (log, ledger, clock) = (self.log.clone(), self.ledger.clone(), self.clock.clone());
        let mut options = RecorderOptions::new(&*self.instance);
        if self.settings.kafka.is_some() {
            options.group = recorder::group(&self.settings.topic);
        }
        let (told, facts) = mpsc::channel(MAX_FACTS);
        let (journal, stop) = (self.journal.clone(), self.supervisor.stop(Phase::Movers));
        self.supervisor.spawn(Phase::Movers, "recorder", async move {
            let Some((log, ledger)) = stop.run_until_cancelled(both(&log, &ledger)).await else {
                return Ok(());
            };
            let recorder = Recorder::new(log, ledger, options, clock.clone()).telling(told);
            status.set(recorder.status());
            let cancel = stop.clone();
            // The recorder is dropped when it ends, and with it what it tells through.
            let run = async move { recorder.run(cancel).await };
            let record = async {
                chronicle::record_all(facts, &journal, &clock, &stop).await;
                Ok(())
            };
            tokio::try_join!(run, record)?;
            Ok(())
        });
    }

    async fn indexer(&mut self) -> Result<Option<(Index, Rebuilder)>> {
        if !self.settings.runs(Role::Indexer) {
            return Ok(None);
        }
        let folder = self.data.join("index");
        let index =
            tokio::task::spawn_blocking(move || Index::open(&folder, IndexOptions::default())).await??;
        let bodies = BodyIndex::open(&self.data, &index, self.settings.index_bodies, self.keys.clone())?;
        let measured = watch::Sender::new(Lag::default());
        self.checks
            .push(Box::new(IndexerCheck { lag: measured.subscribe(), max_lag: self.settings.max_lag }));
        let stop = self.supervisor.stop(Phase::Movers);
        let rebuilder = Rebuilder::new(index.clone(), self.ledger.clone(), stop.clone());
        self.checks.push(Box::new(IndexCheck { index: index.clone(), rebuilder: rebuilder.clone() }));
        let mender = Mender {
            index: index.clone(),
            ledger: self.ledger.clone(),
            rebuilder: rebuilder.clone(),
            is_fresh: self.is_fresh && self.settings.postgres.is_none(),
        };
        let (log, name, used) = (self.log.clone(), self.instance.clone(), index.clone());
        let given = (index, rebuilder.clone());
        let (renewer, stopped) = (rebuilder.clone(), stop.clone());
        self.supervisor.spawn(Phase::Movers, "index-bodies", async move {
            bodies.run(renewer, stopped).await;
            Ok(())
        });
        self.supervisor.spawn(Phase::Movers, "rebuild", async move {
            rebuilder.serve().await;
            Ok(())
        });
        self.supervisor.spawn(Phase::Movers, "indexer", async move {
            let Some(log) = stop.run_until_cancelled(log.wait()).await else { return Ok(()) };
            let indexer = Indexer::new(log.clone(), used.clone(), &name);
            let lag = lag::watch(log, used, measured, stop.clone());
            tokio::join!(indexer.run(stop.clone()), mender.run(stop.clone()), lag);
            Ok(())
        });
        Ok(Some(given))
    }

    fn retention(&mut self, index: Option<Index>) {
        let retention = Retention {
            days: self.settings.retention_days,
            clock: self.clock.clone(),
            ledger: self.settings.runs(Role::Recorder).then(|| self.ledger.clone()),
            index,
            journal: self.journal.clone(),
            keys: self.keys.clone(),
        };
        let stop = self.supervisor.stop(Phase::Movers);
        self.supervisor.spawn(Phase::Movers, "retention", async move {
            retention.run(stop).await;
            Ok(())
        });
    }

    fn query(&mut self, index: Index, rebuilder: Rebuilder) -> QueryRole {
        let stop = self.supervisor.stop(Phase::Edge);
        let search = Search::new(index, self.ledger.clone(), self.log.clone(), self.clock.clone());
        let search = search.opening(self.keys.clone());
        QueryRole { search, followers: Followers::new(stop), rebuilder }
    }

    fn health(&mut self) -> Health {
        Health::new(std::mem::take(&mut self.checks), self.clock.clone())
    }

    fn listen(&mut self, listener: Listener, api: Api, tls: Arc<rustls::ServerConfig>) {
        let stop = self.supervisor.stop(Phase::Edge);
        let grace = Grace::of(self.settings.grace_period).requests;
        self.supervisor.spawn(Phase::Edge, "listener", async move {
            Ok(listener.serve(server::router(api), tls, stop, grace).await?)
        });
    }
}

/// The redaction rules in force, under the deployment's key.
fn redactors(rules: Watched<RuleSet>, key: &DeploymentKey) -> Redactors {
    let key = key.clone();
    rules.map(move |rules| Redactor::new(rules, &key))
}

async fn both(log: &Later<Arc<dyn Log>>, ledger: &Later<Arc<dyn Ledger>>) -> (Arc<dyn Log>, Arc<dyn Ledger>) {
    (log.wait().await, ledger.wait().await)
}

async fn open_journal(
    settings: &Settings,
    data: &DataFolder,
    instance: &Arc<str>,
    clock: &Clock,
    keys: &DayKeys,
) -> Result<Journal> {
    let folder = data.path().join("journal");
    let options = JournalOptions {
        max_bytes: settings.journal_max_bytes,
        accept_gap: settings.accept_gap,
        seal: Some(Arc::new(keys.clone())),
        ..JournalOptions::new(instance.clone(), clock.clone())
    };
    let (journal, _) = tokio::task::spawn_blocking(move || Journal::open(&folder, options)).await??;
    Ok(journal)
}

/// Facts of the recorder that wait for the journal. It tells of what an operator must look at: many more at once tell
/// nothing new.
const MAX_FACTS: usize = 256;
