//! Rules for KMS plugins.

use std::time::Duration;

use super::Check;
use crate::config::{KmsPlugin, KmsVersion, duration, load::KmsText};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3);
/// Of version 1 only.
const DEFAULT_CACHE_SIZE: i32 = 1000;

/// The plugin; what is violated in it has a value that is never used.
pub(super) fn plugin(check: &mut Check, path: &str, text: KmsText) -> KmsPlugin {
    // An absent version is 1, as in kube-apiserver.
    let version = match text.api_version.as_deref().unwrap_or_default() {
        "" | "v1" => Some(KmsVersion::V1),
        "v2" => Some(KmsVersion::V2),
        _ => None,
    };
    let plugin = KmsPlugin {
        name: name(check, path, version, text.name.unwrap_or_default()),
        timeout: timeout(check, path, text.timeout.as_deref()),
        socket: socket(check, path, &text.endpoint.unwrap_or_default()),
        cache_size: cache_size(check, path, version, text.cachesize),
        version: version.unwrap_or(KmsVersion::V2),
    };
    if version.is_none() {
        let given = text.api_version.unwrap_or_default();
        check.violated(format!("{path}.apiVersion"), format!("{given:?} is not supported, only v1 and v2"));
    }
    check.plugins.insert(plugin.name.clone());
    plugin
}

fn name(check: &mut Check, path: &str, version: Option<KmsVersion>, name: String) -> String {
    let path = format!("{path}.name");
    let newer = version != Some(KmsVersion::V1);
    if name.is_empty() {
        check.violated(&*path, "required: the name of the plugin");
    }
    if newer && name.contains(':') {
        check.violated(&*path, format!("{name:?} must not contain \":\""));
    }
    if (newer || check.reload) && check.plugins.contains(&name) {
        check.violated(path, format!("{name:?} is the name of an earlier plugin"));
    }
    name
}

fn timeout(check: &mut Check, path: &str, text: Option<&str>) -> Duration {
    let Some(text) = text else { return DEFAULT_TIMEOUT };
    match duration::nanoseconds(text).map(u64::try_from) {
        Some(Ok(nanoseconds @ 1..)) => return Duration::from_nanos(nanoseconds),
        Some(_) => check.violated(format!("{path}.timeout"), format!("{text:?} must be more than zero")),
        None => check.violated(format!("{path}.timeout"), format!("{text:?} is no duration such as \"3s\"")),
    }
    DEFAULT_TIMEOUT
}

/// What is behind the scheme and the host of the URL; an abstract name loses its slash.
fn socket(check: &mut Check, path: &str, endpoint: &str) -> String {
    let path = format!("{path}.endpoint");
    if endpoint.is_empty() {
        check.violated(path, "required: the plugin's socket, as unix:///path");
        return String::new();
    }
    if endpoint.contains(|c: char| c.is_ascii_control() || c == '%' || c == ' ') {
        check.violated(path, format!("{endpoint:?} is no URL of a socket"));
        return String::new();
    }
    let (scheme, rest) = endpoint.split_once(':').unwrap_or(("", endpoint));
    if !scheme.eq_ignore_ascii_case("unix") {
        check.violated(path, format!("scheme {scheme:?} is not supported, only unix"));
        return String::new();
    }
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let rest = rest.strip_prefix("//").map_or(rest, |rest| rest.find('/').map_or("", |at| &rest[at..]));
    if rest.starts_with("/@") { rest[1..].to_owned() } else { rest.to_owned() }
}

fn cache_size(check: &mut Check, path: &str, version: Option<KmsVersion>, size: Option<i32>) -> Option<i32> {
    let path = format!("{path}.cachesize");
    if version == Some(KmsVersion::V1) {
        if size == Some(0) {
            check.violated(path, "must be more than zero, or negative to keep nothing");
        }
        return size.or(Some(DEFAULT_CACHE_SIZE));
    }
    if size.is_some() {
        check.violated(path, "is not supported in v2");
    }
    None
}
