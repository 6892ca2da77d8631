//! Configurations of webhooks.

use ::admission::cel::Scope;
use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{Certificate, Url};

use super::{At, fault::Faults, names, policy, rules, workload};

/// A MutatingWebhookConfiguration, or a ValidatingWebhookConfiguration.
pub(super) fn configuration(configuration: At<'_>, is_mutating: bool, faults: &mut Faults) {
    let mut seen = Vec::new();
    for (n, value) in configuration.list("webhooks").iter().enumerate() {
        let (webhook, at) = (At::of(value), format!("webhooks[{n}]"));
        self::webhook(webhook, &at, is_mutating, faults);
        let name = webhook.text("name");
        if seen.contains(&name) {
            faults.duplicate(&format!("{at}.name"), &name.into());
        }
        seen.push(name);
    }
}

fn webhook(webhook: At<'_>, at: &str, is_mutating: bool, faults: &mut Faults) {
    let name = webhook.text("name");
    if name.is_empty() {
        faults.required(&format!("{at}.name"), "");
    } else {
        for why in names::subdomain(name) {
            faults.invalid_text(&format!("{at}.name"), name, &why);
        }
        if name.split('.').count() < 3 {
            let why = "should be a domain with at least three segments separated by dots";
            faults.invalid_text(&format!("{at}.name"), name, why);
        }
    }
    for (n, value) in webhook.list("rules").iter().enumerate() {
        rules::rule(At::of(value), &format!("{at}.rules[{n}]"), faults);
    }
    faults.one_of(&format!("{at}.failurePolicy"), webhook.text("failurePolicy"), &["Fail", "Ignore"]);
    faults.one_of(&format!("{at}.matchPolicy"), webhook.text("matchPolicy"), &["Equivalent", "Exact"]);
    match webhook.text("sideEffects") {
        "" => faults.required(&format!("{at}.sideEffects"), "must specify one of None, NoneOnDryRun"),
        effects => faults.one_of(&format!("{at}.sideEffects"), effects, &["None", "NoneOnDryRun"]),
    }
    if let Some(seconds) = webhook.int("timeoutSeconds").filter(|seconds| !(1..=30).contains(seconds)) {
        let why = "the timeout value must be between 1 and 30 seconds";
        faults.invalid(&format!("{at}.timeoutSeconds"), &seconds.into(), why);
    }
    for member in ["namespaceSelector", "objectSelector"] {
        workload::check_selector(webhook.get(member), &format!("{at}.{member}"), faults);
    }
    if is_mutating {
        let field = format!("{at}.reinvocationPolicy");
        faults.one_of(&field, webhook.text("reinvocationPolicy"), &["IfNeeded", "Never"]);
    }
    versions(webhook, &format!("{at}.admissionReviewVersions"), faults);
    client(webhook.get("clientConfig"), &format!("{at}.clientConfig"), faults);
    policy::conditions(webhook, &format!("{at}.matchConditions"), &Scope::default(), faults);
}

/// This server speaks `v1`, so one that does not take it could never be called.
fn versions(webhook: At<'_>, at: &str, faults: &mut Faults) {
    let versions = webhook.list("admissionReviewVersions");
    if versions.is_empty() {
        faults.required(at, "must specify one of v1, v1beta1");
    } else if !versions.iter().any(|version| version == "v1") {
        faults.invalid(at, &versions.to_vec().into(), "must include at least one of v1");
    }
    for (n, version) in versions.iter().enumerate() {
        if versions[..n].contains(version) {
            faults.duplicate(&format!("{at}[{n}]"), version);
        }
    }
}

fn client(config: At<'_>, at: &str, faults: &mut Faults) {
    let (url, service) = (config.get("url"), config.get("service"));
    match (url.is_there(), service.is_there()) {
        (true, false) => address(config.text("url"), &format!("{at}.url"), faults),
        (false, true) => self::service(service, &format!("{at}.service"), faults),
        _ => faults.required(at, "exactly one of url or service is required"),
    }
    let bundle = config.text("caBundle");
    if !bundle.is_empty() {
        let read = STANDARD.decode(bundle).ok().and_then(|pem| Certificate::from_pem_bundle(&pem).ok());
        if read.is_none_or(|certificates| certificates.is_empty()) {
            let why = "unable to load root certificates: error parsing certificates";
            faults.invalid(&format!("{at}.caBundle"), &bundle.into(), why);
        }
    }
}

fn address(text: &str, at: &str, faults: &mut Faults) {
    const FORM: &str = "; desired format: https://host[:port]/path";
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => return faults.required(at, &format!("url must be a valid URL: {error}{FORM}")),
    };
    if url.scheme() != "https" {
        let why = format!("'https' is the only allowed URL scheme{FORM}");
        faults.invalid_text(at, url.scheme(), &why);
    }
    if url.host_str().is_none_or(str::is_empty) {
        faults.invalid_text(at, "", &format!("host must be specified{FORM}"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        faults.invalid_text(at, url.username(), "user information is not permitted in the URL");
    }
    if let Some(fragment) = url.fragment() {
        faults.invalid_text(at, fragment, "fragments are not permitted in the URL");
    }
    if let Some(query) = url.query() {
        faults.invalid_text(at, query, "query parameters are not permitted in the URL");
    }
}

fn service(service: At<'_>, at: &str, faults: &mut Faults) {
    if service.text("name").is_empty() {
        faults.required(&format!("{at}.name"), "service name is required");
    }
    if service.text("namespace").is_empty() {
        faults.required(&format!("{at}.namespace"), "service namespace is required");
    }
    if let Some(port) = service.int("port").filter(|port| !(1..=65_535).contains(port)) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        faults.invalid(&format!("{at}.port"), &port.into(), why);
    }
    let path = service.text("path");
    if service.get("path").is_there() && !path.starts_with('/') {
        faults.invalid_text(&format!("{at}.path"), path, "must start with a '/'");
    }
}
