//! The forms of names and labels.

use super::fault::Faults;
use serde_json::Value;

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
    start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
    '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
    alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
    '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex \
    used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. \
    'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

const MAX_LABEL: usize = 63;
const MAX_SUBDOMAIN: usize = 253;

fn too_long(max: usize) -> String {
    format!("must be no more than {max} characters")
}

/// Begins and ends with one of `ends`, and has `inner` between.
fn is_formed(text: &str, ends: fn(u8) -> bool, inner: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|b| ends(*b))
        && bytes.last().is_some_and(|b| ends(*b))
        && bytes.iter().all(|b| inner(*b))
}

fn lower(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    is_formed(text, lower, |b| lower(b) || b == b'-')
}

fn is_qualified(text: &str) -> bool {
    is_formed(text, |b| b.is_ascii_alphanumeric(), |b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// What is wrong with a label of DNS.
pub(super) fn label(text: &str) -> Vec<String> {
    formed(text, MAX_LABEL, is_label(text), LABEL)
}

/// What is wrong with a name of DNS.
pub(super) fn subdomain(text: &str) -> Vec<String> {
    formed(text, MAX_SUBDOMAIN, text.split('.').all(is_label), SUBDOMAIN)
}

fn formed(text: &str, max: usize, is: bool, why: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > max {
        wrong.push(too_long(max));
    }
    if !is {
        wrong.push(why.to_owned());
    }
    wrong
}

/// What is wrong with a name that a path can hold.
pub(super) fn segment(text: &str) -> Vec<String> {
    match text {
        "." | ".." => vec![format!("may not be '{text}'")],
        _ => ['/', '%']
            .iter()
            .filter(|c| text.contains(**c))
            .map(|c| format!("may not contain '{c}'"))
            .collect(),
    }
}

/// What is wrong with the key of a label or an annotation.
pub(super) fn qualified(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let name = match text.split('/').collect::<Vec<_>>()[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                wrong.push("prefix part must be non-empty".to_owned());
            } else {
                wrong.extend(subdomain(prefix).iter().map(|why| format!("prefix part {why}")));
            }
            name
        }
        _ => {
            let why = format!(
                "a valid label key {QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            );
            return vec![why];
        }
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if name.len() > MAX_LABEL {
        wrong.push(format!("name part {}", too_long(MAX_LABEL)));
    }
    if !is_qualified(name) {
        wrong.push(format!("name part {QUALIFIED}"));
    }
    wrong
}

/// What is wrong with the value of a label.
pub(super) fn label_value(text: &str) -> Vec<String> {
    let mut wrong = formed(text, text.len(), text.is_empty() || is_qualified(text), LABEL_VALUE);
    if text.len() > MAX_LABEL {
        wrong.push(format!("must be no more than {MAX_LABEL} bytes"));
    }
    wrong
}

/// What is wrong with the key of data.
pub(super) fn config_key(text: &str) -> Vec<String> {
    let is = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let mut wrong = formed(text, MAX_SUBDOMAIN, is, CONFIG_KEY);
    match text {
        "." | ".." => wrong.push(format!("must not be '{text}'")),
        _ if text.starts_with("..") => wrong.push("must not start with '..'".to_owned()),
        _ => {}
    }
    wrong
}

/// What is wrong with the name of a port.
pub(super) fn port(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let is_plain = !text.is_empty() && text.bytes().all(|b| lower(b) || b == b'-');
    if text.len() > 15 {
        wrong.push("must be no more than 15 characters".to_owned());
    }
    if !is_plain {
        wrong.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        wrong.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        wrong.push("must not begin or end with a hyphen".to_owned());
    }
    wrong
}

/// Labels, each key and value at the path of them all.
pub(super) fn labels(field: &str, labels: &Value, faults: &mut Faults) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        for why in qualified(key) {
            faults.invalid_text(field, key, &why);
        }
        let text = value.as_str().unwrap_or_default();
        for why in label_value(text) {
            faults.invalid_text(field, text, &why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_forms() {
        assert!(label("a-1").is_empty() && subdomain("a.b-c").is_empty());
        assert_eq!(label(&"a".repeat(64)), ["must be no more than 63 characters"]);
        assert_eq!(label("").len(), 1);
        assert_eq!(subdomain("a..b").len(), 1);
        assert!(qualified("a.io/B_c").is_empty());
        assert_eq!(qualified("/b"), ["prefix part must be non-empty"]);
        assert!(label_value("").is_empty());
        assert_eq!(segment("a/b%"), ["may not contain '/'", "may not contain '%'"]);
        assert_eq!(config_key("..a"), ["must not start with '..'"]);
        assert_eq!(port("a--b"), ["must not contain consecutive hyphens"]);
    }
}
