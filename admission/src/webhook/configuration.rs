//! Webhooks as they are configured.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::Value;

use super::client::{ServiceReference, WebhookTarget};
use crate::{
    cel::{Scope, Wanted},
    controller::FailurePolicy,
    matching::{Constraints, Rule, Selector},
    policy::{Compiled, StoredCondition, compiled, failure_policy},
};

/// A webhook in force.
#[derive(Debug)]
pub(crate) struct Webhook {
    /// The configuration that it is part of.
    pub(crate) configuration: String,
    pub(crate) name: String,
    /// Its place in its configuration.
    pub(crate) at: usize,
    pub(super) constraints: Constraints,
    pub(super) conditions: Vec<Compiled>,
    pub(super) failure_policy: FailurePolicy,
    pub(super) timeout: Duration,
    pub(super) reinvoked: bool,
    pub(super) may_dry_run: bool,
    pub(super) speaks_v1: bool,
    pub(super) target: Result<WebhookTarget, String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StoredWebhook {
    name: String,
    client_config: ClientConfig,
    rules: Vec<Rule>,
    failure_policy: Option<String>,
    match_policy: Option<String>,
    namespace_selector: Option<Selector>,
    object_selector: Option<Selector>,
    side_effects: String,
    timeout_seconds: Option<u64>,
    admission_review_versions: Vec<String>,
    match_conditions: Vec<StoredCondition>,
    reinvocation_policy: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClientConfig {
    url: Option<String>,
    service: Option<Service>,
    ca_bundle: Option<String>,
}

#[derive(Deserialize)]
struct Service {
    namespace: String,
    name: String,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    port: Option<u16>,
}

/// The webhooks of a configuration, in their order. One without rules is for nothing.
pub(crate) fn webhooks(configuration: &str, object: &Value) -> Vec<Arc<Webhook>> {
    let stored = object["webhooks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let read = |(at, value): (usize, &Value)| {
        let name = value["name"].as_str().unwrap_or_default();
        match StoredWebhook::deserialize(value) {
            Ok(stored) if stored.rules.is_empty() => None,
            Ok(stored) => Some(Arc::new(Webhook::of(configuration, at, stored))),
            Err(error) => Some(Arc::new(Webhook::unreadable(configuration, at, name, &error.to_string()))),
        }
    };
    stored.iter().enumerate().filter_map(read).collect()
}

impl Webhook {
    fn of(configuration: &str, at: usize, stored: StoredWebhook) -> Self {
        let scope = Scope::default();
        let conditions = stored.match_conditions.iter();
        Self {
            configuration: configuration.to_owned(),
            at,
            name: stored.name,
            conditions: conditions.map(|c| compiled(&c.expression, &scope, Wanted::Bool)).collect(),
            constraints: Constraints {
                namespace_selector: stored.namespace_selector,
                object_selector: stored.object_selector,
                resource_rules: Some(stored.rules),
                exclude_resource_rules: None,
                match_policy: stored.match_policy,
            },
            failure_policy: failure_policy(stored.failure_policy.as_deref()),
            timeout: Duration::from_secs(stored.timeout_seconds.unwrap_or(10).clamp(1, 30)),
            reinvoked: stored.reinvocation_policy.as_deref() == Some("IfNeeded"),
            may_dry_run: matches!(stored.side_effects.as_str(), "None" | "NoneOnDryRun"),
            speaks_v1: stored.admission_review_versions.iter().any(|version| version == "v1"),
            target: target(stored.client_config),
        }
    }

    /// One that is for everything and never answers, as its failure policy could not be read.
    fn unreadable(configuration: &str, at: usize, name: &str, why: &str) -> Self {
        let stored = StoredWebhook {
            name: name.to_owned(),
            side_effects: "None".to_owned(),
            ..StoredWebhook::default()
        };
        Self {
            target: Err(format!("the webhook cannot be read: {why}")),
            speaks_v1: true,
            ..Self::of(configuration, at, stored)
        }
    }
}

fn target(config: ClientConfig) -> Result<WebhookTarget, String> {
    let authority = config.ca_bundle.filter(|bundle| !bundle.is_empty()).map(|bundle| {
        let bytes = STANDARD.decode(bundle).map_err(|error| format!("caBundle is not base64: {error}"))?;
        String::from_utf8(bytes).map_err(|_| "caBundle is not PEM".to_owned())
    });
    let authority = authority.transpose()?;
    match (config.url, config.service) {
        (Some(url), None) => Ok(WebhookTarget::Url { url, authority }),
        (None, Some(service)) => {
            let path = format!("/{}", service.path.unwrap_or_default().trim_start_matches('/'));
            let (namespace, name, port) = (service.namespace, service.name, service.port.unwrap_or(443));
            Ok(WebhookTarget::Service {
                service: ServiceReference { namespace, name, port, path },
                authority,
            })
        }
        _ => Err("webhook client config: exactly one of url or service is required".to_owned()),
    }
}
