//! The files that settings name, read whole and checked before anything is opened or started.

use std::fs;

use anyhow::{Context, Result};
use ingest::{identity::DeploymentKey, policy::Watched, redact::RuleSet};

use crate::settings::Settings;

/// What the files hold.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// The built-in redaction rules, and those of the file.
    pub(crate) rules: RuleSet,
    /// The audit policy, where there is one.
    pub(crate) policy: Option<Watched>,
    /// The deployment's key, where it is given.
    pub(crate) key: Option<DeploymentKey>,
}

impl Inputs {
    /// Reads them.
    ///
    /// # Errors
    /// The first file that cannot be read or used.
    pub(crate) fn read(settings: &Settings) -> Result<Self> {
        Ok(Self {
            rules: rules(settings)?,
            policy: settings.audit_policy_file.as_ref().map(Watched::open).transpose()?,
            key: settings.deployment_key_file.as_deref().map(DeploymentKey::load).transpose()?,
        })
    }
}

fn rules(settings: &Settings) -> Result<RuleSet> {
    let Some(file) = &settings.redaction_rules else { return Ok(RuleSet::builtin()) };
    let text = fs::read_to_string(file)
        .with_context(|| format!("cannot read the redaction rules {}", file.display()))?;
    RuleSet::from_yaml(&text).with_context(|| format!("{} cannot be used", file.display()))
}
