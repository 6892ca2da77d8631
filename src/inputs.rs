//! The files that settings name, read whole and checked before anything is opened or started.

use admission::pod_security::PodSecurityConfiguration;
use anyhow::{Context, Result};
use api::{
    audit_webhook::{self, Webhook},
    kubeconfig::Endpoint,
};
use ingest::{identity::DeploymentKey, policy::Loaded, redact::RuleSet, time::Clock, watched::Watched};

use crate::{
    encryption::Encryption,
    identities::Identities,
    settings::{OutputSettings, Settings},
};

/// What the files hold.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// The built-in redaction rules, and those of the file.
    pub(crate) rules: Watched<RuleSet>,
    /// The audit policy, where there is one.
    pub(crate) policy: Option<Watched<Loaded>>,
    /// The deployment's key, where it is given.
    pub(crate) key: Option<DeploymentKey>,
    /// What is encrypted of what the gateway stores.
    pub(crate) encryption: Encryption,
    /// Who gets the gateway's audit events.
    pub(crate) webhook: Option<Webhook>,
    /// Whom the gateway knows.
    pub(crate) identities: Identities,
    /// What Pod Security holds namespaces to.
    pub(crate) pod_security: PodSecurityConfiguration,
}

impl Inputs {
    /// Reads them.
    ///
    /// # Errors
    /// The first file that cannot be read or used.
    pub(crate) fn read(settings: &Settings, clock: &Clock) -> Result<Self> {
        Ok(Self {
            rules: match &settings.redaction_rules {
                Some(file) => Watched::open(file)?,
                None => Watched::constant(RuleSet::builtin()),
            },
            policy: settings.audit_policy_file.as_deref().map(Watched::open).transpose()?,
            key: settings.deployment_key_file.as_deref().map(DeploymentKey::load).transpose()?,
            encryption: Encryption::read(settings)?,
            webhook: webhook(&settings.outputs)?,
            identities: Identities::read(&settings.access, clock)?,
            pod_security: settings.access.pod_security.read()?,
        })
    }
}

fn webhook(settings: &OutputSettings) -> Result<Option<Webhook>> {
    let Some(file) = &settings.audit_webhook_config_file else { return Ok(None) };
    let endpoint = Endpoint::load(file, audit_webhook::TIMEOUT);
    let endpoint = endpoint.context("--audit-webhook-config-file cannot be used")?;
    Ok(Some(Webhook::new(endpoint, settings.audit_webhook_batch_max_size as usize)))
}
