//! Log and ledger: embedded ones are opened before anything else starts, networked ones are connected meanwhile.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use api::{later::Later, tokens::store::Store};
use index::Indexer;
use ingest::{
    failing::Failing,
    identity::KeyCheck,
    journal::Journal,
    ledger::{Ledger, PostgresLedger, SqliteLedger},
    log::{
        Log, LogError, Safety,
        kafka::{KafkaLog, KafkaOptions},
        local::LocalLog,
    },
    recorder,
    relay::{self, Delivered, Relay},
};
use tokio::sync::watch;

use crate::{
    connect::connect,
    deployment_key::{self, Unusable},
    settings::{Ack, Settings},
    supervise::{Phase, Supervisor},
};

/// How long Kafka keeps records beyond what recorders and indexers have read, where the topic is made here.
const TOPIC_RETENTION: Duration = Duration::from_secs(7 * 24 * 3_600);

/// What connecting needs, and where it brings the results.
pub(crate) struct Engines<'p> {
    /// Which engines.
    pub(crate) settings: &'p Settings,
    /// What the deployment's key is compared by, where ids are made.
    pub(crate) key: Option<KeyCheck>,
    /// The data folder.
    pub(crate) data: &'p Path,
    /// The name of this instance.
    pub(crate) instance: Arc<str>,
    /// The journal: the embedded log, or what is relayed to Kafka.
    pub(crate) journal: Journal,
    /// Where tasks that connect run.
    pub(crate) supervisor: &'p mut Supervisor,
    /// The log, once it is there.
    pub(crate) log: Later<Arc<dyn Log>>,
    /// How far the journal is in Kafka, once there is a relay.
    pub(crate) delivered: Later<watch::Receiver<Delivered>>,
    /// Whether Kafka fails the relay, once there is a relay.
    pub(crate) failing: Later<watch::Receiver<Option<Failing>>>,
    /// The ledger, once it is there.
    pub(crate) ledger: Later<Arc<dyn Ledger>>,
    /// The token table, once it is there.
    pub(crate) store: Later<Store>,
}

impl Engines<'_> {
    /// Opens or connects both.
    ///
    /// # Errors
    /// When an embedded one cannot be opened.
    pub(crate) async fn start(mut self) -> Result<()> {
        match &self.settings.kafka {
            Some(brokers) => self.kafka(brokers.clone()),
            None => self.local_log().await?,
        }
        match &self.settings.postgres {
            Some(url) => self.postgres(url.clone()),
            None => self.sqlite().await?,
        }
        Ok(())
    }

    async fn local_log(&self) -> Result<()> {
        let journal = self.journal.clone();
        let (file, indexer) = (self.data.join("log-positions.json"), Indexer::group(&self.instance));
        let opened =
            tokio::task::spawn_blocking(move || LocalLog::open(journal, file, &[recorder::GROUP, &indexer]));
        self.log.set(Arc::new(opened.await?.context("the embedded log cannot be opened")?));
        Ok(())
    }

    async fn sqlite(&self) -> Result<()> {
        let file = self.data.join("ledger.sqlite");
        let ledger =
            SqliteLedger::open(&file).await.with_context(|| format!("cannot open {}", file.display()))?;
        deployment_key::confirm(&ledger, self.key)
            .await
            .with_context(|| format!("cannot use {}", file.display()))?;
        self.store.set(Store::Sqlite(ledger.pool().clone()));
        self.ledger.set(Arc::new(ledger));
        Ok(())
    }

    fn kafka(&mut self, brokers: String) {
        let options = KafkaOptions {
            partitions: self.settings.partitions,
            replication: self.settings.replication,
            retention: TOPIC_RETENTION,
            properties: self.settings.kafka_config.iter().cloned().collect(),
            ..KafkaOptions::new(brokers, self.settings.topic.clone())
        };
        let (log, journal) = (self.log.clone(), self.journal.clone());
        let (delivered, failing) = (self.delivered.clone(), self.failing.clone());
        let (ack, group) = (self.settings.ack, recorder::group(&self.settings.topic));
        let stop = self.supervisor.stop(Phase::Relay);
        self.supervisor.spawn(Phase::Relay, "kafka", async move {
            let open = || KafkaLog::open(options.clone());
            let passing = |e: &LogError| matches!(e, LogError::Unavailable(_));
            let opened = tokio::select! {
                opened = connect("Kafka", stop.clone(), open, passing) => opened?,
                never = relay::measure_lag(journal.clone()) => match never {},
            };
            let Some(kafka) = opened else { return Ok(()) };
            let kafka = Arc::new(kafka);
            if ack == Ack::Log {
                check_replicas(&kafka).await?;
            }
            log.set(kafka.clone());
            let relay = Relay::new(journal, kafka, &group);
            delivered.set(relay.delivered());
            failing.set(relay.failing());
            relay.run(stop).await?;
            Ok(())
        });
    }

    fn postgres(&mut self, url: String) {
        let (ledger, store, key) = (self.ledger.clone(), self.store.clone(), self.key);
        let stop = self.supervisor.stop(Phase::Movers);
        self.supervisor.spawn(Phase::Movers, "postgres", async move {
            let open = || async {
                let postgres = PostgresLedger::connect(&url).await?;
                deployment_key::confirm(&postgres, key).await?;
                Ok(postgres)
            };
            let opened = connect("Postgres", stop.clone(), open, Unusable::is_passing).await?;
            if let Some(postgres) = opened {
                store.set(Store::Postgres(postgres.pool().clone()));
                ledger.set(Arc::new(postgres));
            }
            stop.cancelled().await;
            Ok(())
        });
    }
}

/// What one replica keeps is gone with its disk: that cannot be promised.
async fn check_replicas(kafka: &KafkaLog) -> Result<()> {
    match kafka.safety().await {
        Ok(Safety::OneReplica) => bail!(
            "--ack log is refused: the topic does not require two replicas in sync; \
             give it a replication of 3 and min.insync.replicas=2, or use --ack journal"
        ),
        // What cannot be told now is told to each sender.
        Ok(Safety::Safe) | Err(_) => Ok(()),
    }
}
