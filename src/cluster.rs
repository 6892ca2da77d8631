//! The gateway's side of the process: the cluster's store, its roles in memory, and what records its requests.

use std::{fs, num::NonZeroU32, path::Path, sync::Arc};

use admission::{
    AdmissionChain, Settings as AdmissionSettings, WebhookClient, pod_security::PodSecurityConfiguration,
};
use anyhow::{Context, Result};
use api::{
    gateway::{
        admission::{Charges, Gate, StoredState, Webhooks, configuration},
        aggregation::aggregate,
        audit::{AnnouncedStore, Auditor, Mode, Recovery, default_policy},
        authn::{Authenticator, Sources, account::ServiceAccounts},
        authz::{self, Snapshot},
        bootstrap::bootstrap,
        compaction::Compaction,
        controllers::Controllers,
        door::Door,
        encryption::{Announcer, EncryptedStore, FirstUse, KeyWrites, WriteBounds},
        limits::{Bounds, Limits, Rate, Ticks},
        refusals::Refusals,
        registry::Registry,
        serve::Gateway,
        store::{EtcdOptions, EtcdStore, SqliteStore, Store},
    },
    health::Check,
    keys::Keys,
    tls::authority_file,
    tokens::Tokens,
};
use async_trait::async_trait;
use ingest::{
    identity::{DeploymentKey, ValueDigests},
    journal::{Journal, Pin},
    policy::Loaded,
    redact::Redactor,
    time::Clock,
};
use tokio::sync::watch;

use crate::{
    encryption::{self, Encryption},
    exit,
    identities::Identities,
    key_wear,
    settings::{AccessSettings, AuditMode, Settings, enabled},
    supervise::{Phase, Supervisor},
};

/// What files say of the gateway.
pub(crate) struct Files<'a> {
    pub(crate) encryption: &'a Encryption,
    pub(crate) identities: Identities,
    pub(crate) pod_security: PodSecurityConfiguration,
}

/// What the gateway needs.
pub(crate) struct Cluster<'p> {
    pub(crate) settings: &'p Settings,
    pub(crate) data: &'p Path,
    /// The name of this process among those that share a store.
    pub(crate) instance: &'p str,
    pub(crate) clock: Clock,
    pub(crate) journal: Journal,
    /// Keeps the journal until it is told what died with an earlier start.
    pub(crate) begun: Option<Pin>,
    /// Under which values are told from each other without being known.
    pub(crate) key: &'p DeploymentKey,
    /// Who is known by tokens of our own.
    pub(crate) tokens: Tokens,
    /// Counts who is refused.
    pub(crate) refusals: Refusals,
    /// What redacts, as the rules in force say.
    pub(crate) redactor: watch::Receiver<Arc<Redactor>>,
    /// The audit policy in force, where one was given.
    pub(crate) policy: Option<watch::Receiver<Arc<Loaded>>>,
    pub(crate) supervisor: &'p mut Supervisor,
    pub(crate) checks: &'p mut Vec<Box<dyn Check>>,
}

impl Cluster<'_> {
    /// Opens the store and starts what keeps the gateway up with it.
    pub(crate) async fn start(
        mut self,
        Files { encryption, identities, pod_security }: Files<'_>,
    ) -> Result<(Gateway, Keys)> {
        let below = self.store().await?;
        self.checks.push(Box::new(StoreCheck(below.clone())));
        self.compaction(&below);
        let writes = KeyWrites::new(below.clone(), self.instance, WriteBounds::default());
        let store = EncryptedStore::new(below, encryption.subscribe(), writes);
        let keys = Keys::new(store.clone());
        if encryption.is_configured() {
            let (wear, check) = key_wear::KeyWear::new(store.clone());
            self.checks.push(Box::new(check));
            let (journal, clock) = (self.journal.clone(), self.clock.clone());
            let stop = self.supervisor.stop(Phase::Movers);
            self.supervisor.spawn(Phase::Movers, "key-wear", async move {
                wear.run(&journal, &clock, &stop).await;
                Ok(())
            });
        }
        self.tell_of_keys(&store).await;
        encryption::rotate(&keys, &self.journal, &self.clock, self.supervisor);
        let store: Arc<dyn Store> =
            Arc::new(AnnouncedStore::new(Arc::new(store), ValueDigests::new(self.key)));
        self.recovery(&store);
        let registry = Registry::new(store.clone(), self.clock.clone());
        let (told, in_force) = watch::channel(None);
        let gate = gate(&self.settings.access, pod_security, &registry, in_force.clone())?;
        let (followed, stop) = (store.clone(), self.supervisor.stop(Phase::Movers));
        self.supervisor.spawn(Phase::Movers, "admission-configuration", async move {
            configuration::follow(followed, told, stop).await;
            Ok(())
        });
        self.checks.push(Box::new(ConfigurationCheck(in_force)));
        let (snapshot, roles) = watch::channel(Arc::new(Snapshot::default()));
        let stop = self.supervisor.stop(Phase::Movers);
        self.supervisor.spawn(Phase::Movers, "roles", async move {
            authz::follow(store, snapshot, stop).await;
            Ok(())
        });
        self.checks.push(Box::new(RolesCheck(roles.clone())));
        let (kept, seen, stop) = (registry.clone(), roles.clone(), self.supervisor.stop(Phase::Movers));
        self.supervisor.spawn(Phase::Movers, "aggregation", async move {
            aggregate(&kept, seen, &stop).await;
            Ok(())
        });
        let (kept, stop) = (registry.clone(), self.supervisor.stop(Phase::Movers));
        self.supervisor.spawn(Phase::Movers, "bootstrap", async move {
            bootstrap(&kept, &stop).await;
            stop.cancelled().await;
            Ok(())
        });
        let controllers = self.controllers()?;
        let (sources, accounts) = identities.start(&registry, self.data, self.supervisor)?;
        let door = self.door(sources, accounts, roles);
        let policy = self.policy.unwrap_or_else(|| watch::channel(Arc::new(default_policy())).1);
        let cluster = self.settings.cluster_name.as_arc().clone();
        let mode = match self.settings.audit_mode {
            AuditMode::Strict => Mode::Strict,
            AuditMode::Batch => Mode::Batch,
        };
        self.checks.push(Box::new(AuditCheck(mode)));
        let auditor = Auditor::new(self.journal, self.redactor, policy, cluster, mode, self.clock);
        let gateway = Gateway::new(registry.clone(), auditor, door, gate);
        let (served, stop) = (gateway.clone(), self.supervisor.stop(Phase::Movers));
        self.supervisor.spawn(Phase::Movers, "controllers", async move {
            controllers.run(served, registry, stop).await;
            Ok(())
        });
        Ok((gateway, keys))
    }

    /// What died with an earlier start is told.
    fn recovery(&mut self, store: &Arc<dyn Store>) {
        let Some(pin) = self.begun.take() else { return };
        let recovery = Recovery {
            journal: self.journal.clone(),
            pin,
            store: store.clone(),
            digests: ValueDigests::new(self.key),
            clock: self.clock.clone(),
        };
        let stop = self.supervisor.stop(Phase::Movers);
        self.supervisor.spawn(Phase::Movers, "unfinished", async move {
            recovery.run(&stop).await;
            stop.cancelled().await;
            Ok(())
        });
    }

    /// Other instances hear of this one's keys, and their age is noted.
    async fn tell_of_keys(&mut self, store: &EncryptedStore) {
        if !self.settings.etcd_servers.is_empty() {
            let mut announcer = Announcer::new(store.clone());
            // Before the first request, where the store lets it; the task tries again.
            if let Err(error) = announcer.announce().await {
                tracing::warn!(
                    error = api::errors::chain(&error),
                    "other instances do not hear of the keys yet"
                );
            }
            let stop = self.supervisor.stop(Phase::Movers);
            self.supervisor.spawn(Phase::Movers, "announcer", async move {
                announcer.run(&stop).await;
                Ok(())
            });
        }
        let first_use = FirstUse { store: store.clone(), clock: self.clock.clone() };
        let stop = self.supervisor.stop(Phase::Movers);
        self.supervisor.spawn(Phase::Movers, "first-use", async move {
            first_use.run(&stop).await;
            Ok(())
        });
    }

    /// History ends.
    fn compaction(&mut self, store: &Arc<dyn Store>) {
        let interval = self.settings.etcd_compaction_interval;
        if interval.is_zero() {
            return;
        }
        let (compaction, stop) =
            (Compaction { store: store.clone(), interval }, self.supervisor.stop(Phase::Movers));
        self.supervisor.spawn(Phase::Movers, "compaction", async move {
            compaction.run(&stop).await;
            Ok(())
        });
    }

    /// What happens in the cluster by itself.
    fn controllers(&self) -> Result<Controllers> {
        let own = || authority_file(self.data);
        let file = self.settings.tls_cert_file.clone().unwrap_or_else(own);
        let authority = fs::read_to_string(&file)
            .with_context(|| format!("the certificates in {} cannot be read", file.display()))?;
        Ok(Controllers {
            enabled: enabled(&self.settings.controllers),
            instance: self.instance.to_owned(),
            is_shared: !self.settings.etcd_servers.is_empty(),
            authority: authority.into(),
        })
    }

    fn door(
        &self,
        sources: Sources,
        accounts: Arc<ServiceAccounts>,
        roles: watch::Receiver<Arc<Snapshot>>,
    ) -> Door {
        Door {
            authenticator: Authenticator::new(self.tokens.clone(), sources, self.clock.clone()),
            accounts,
            limits: Limits::new(bounds(&self.settings.access), Ticks::system()),
            refusals: self.refusals.clone(),
            roles,
        }
    }

    async fn store(&self) -> Result<Arc<dyn Store>> {
        if self.settings.etcd_servers.is_empty() {
            let file = self.data.join("cluster.sqlite");
            let store = SqliteStore::open(&file, self.clock.clone()).await;
            let store =
                store.with_context(|| format!("the cluster's store {} cannot be opened", file.display()))?;
            return Ok(Arc::new(store));
        }
        let options = EtcdOptions {
            servers: self.settings.etcd_servers.clone(),
            prefix: self.settings.etcd_prefix.clone(),
            ca_file: self.settings.etcd_cafile.clone(),
            cert_file: self.settings.etcd_certfile.clone(),
            key_file: self.settings.etcd_keyfile.clone(),
            ..EtcdOptions::default()
        };
        let store = EtcdStore::open(&options).await;
        Ok(Arc::new(store.with_context(|| {
            format!("--etcd-servers {} cannot be used", self.settings.etcd_servers.join(","))
        })?))
    }
}

fn bounds(settings: &AccessSettings) -> Bounds {
    let rate = |per_second: u32| {
        let burst = NonZeroU32::new(per_second.saturating_mul(2))?;
        Some(Rate { per_second: NonZeroU32::new(per_second)?, burst })
    };
    Bounds {
        address: rate(settings.max_address_rate),
        user: rate(settings.max_user_rate),
        reads: settings.max_requests_inflight as usize,
        writes: settings.max_mutating_requests_inflight as usize,
        streams: settings.max_watches as usize,
        ..Bounds::default()
    }
}

/// The cluster's store answers.
struct StoreCheck(Arc<dyn Store>);

#[async_trait]
impl Check for StoreCheck {
    fn name(&self) -> &'static str {
        "store"
    }

    async fn check(&self) -> Result<String, String> {
        match self.0.healthy().await {
            Ok(()) => Ok("answers".to_owned()),
            Err(error) => Err(api::errors::chain(&error)),
        }
    }
}

/// What requests wait for: it is always well, and named so that nobody takes one mode for the other.
struct AuditCheck(Mode);

#[async_trait]
impl Check for AuditCheck {
    fn name(&self) -> &'static str {
        match self.0 {
            Mode::Strict => "audit-strict",
            Mode::Batch => "audit-batch",
        }
    }

    async fn check(&self) -> Result<String, String> {
        Ok(match self.0 {
            Mode::Strict => "answers wait for their records".to_owned(),
            Mode::Batch => "answers do not wait for their records: a crash loses the last ones".to_owned(),
        })
    }
}

/// The roles and bindings of the cluster were read.
struct RolesCheck(watch::Receiver<Arc<Snapshot>>);

#[async_trait]
impl Check for RolesCheck {
    fn name(&self) -> &'static str {
        "roles"
    }

    async fn check(&self) -> Result<String, String> {
        let roles = self.0.borrow().clone();
        if !roles.is_known {
            return Err("roles and bindings have not been read yet".to_owned());
        }
        Ok(format!("{} cluster roles are in force", roles.cluster_roles.len()))
    }
}

/// What configures admission was read.
struct ConfigurationCheck(configuration::InForce);

#[async_trait]
impl Check for ConfigurationCheck {
    fn name(&self) -> &'static str {
        "admission-configuration"
    }

    async fn check(&self) -> Result<String, String> {
        let in_force = self.0.borrow().clone();
        let in_force = in_force.ok_or("what configures admission has not been read yet")?;
        Ok(format!("{} policies and webhooks are in force", in_force.len()))
    }
}

/// The admission controllers that are on.
fn gate(
    settings: &AccessSettings,
    pod_security: PodSecurityConfiguration,
    registry: &Registry,
    in_force: configuration::InForce,
) -> Result<Gate> {
    let charges = Charges::new(registry.clone());
    let state = StoredState::new(registry.clone(), charges.clone(), in_force);
    let chain = AdmissionChain::before(Arc::new(state));
    let webhook_client: Arc<dyn WebhookClient> = Arc::new(Webhooks::new(registry.clone()));
    let chain = chain.with_settings(AdmissionSettings {
        pod_security,
        webhook_client: Some(webhook_client),
        ..AdmissionSettings::default()
    });
    let chain = chain.with_plugins(&settings.enable_admission_plugins, &settings.disable_admission_plugins);
    let chain = exit::usage(chain.map_err(Into::into))?;
    Ok(Gate::new(chain, charges))
}
