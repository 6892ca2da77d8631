//! What `muniment keys status` advises: how old the first key is, and what the next step of a rotation is.
//!
//! A key is replaced in four steps: every instance reads the new one, every instance writes under it, everything is
//! written anew, every instance forgets the old one. Each must be whole before the next begins.

use jiff::{Timestamp, Unit};
use serde_json::Value;

/// A line for each thing that can be said of a resource.
pub(super) fn advice(keys: &Value, now: Timestamp, rotation_days: u32) -> String {
    let resource = keys["resource"].as_str().unwrap_or_default();
    let configured = keys["configured"].as_array().map_or(&[][..], Vec::as_slice);
    let Some(first) = configured.first() else { return String::new() };
    let mut lines: Vec<String> = age(resource, first, now, rotation_days).into_iter().collect();
    let others: Vec<_> = configured[1..].iter().filter(|key| !names(key, "writers").is_empty()).collect();
    if others.is_empty() && names(first, "lacking").is_empty() {
        lines.extend(agreed(keys, first, &configured[1..]));
    } else {
        lines.extend(others.iter().flat_map(|key| behind(resource, key, first)));
        lines.extend(
            names(first, "lacking")
                .iter()
                .filter(|name| !writes_any(name, &others))
                .map(|name| format!("{resource}: {name} cannot read what lies under {}", name_of(first))),
        );
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn age(resource: &str, key: &Value, now: Timestamp, rotation_days: u32) -> Option<String> {
    let since: Timestamp = key["first_used"].as_str()?.parse().ok()?;
    let days = now.since(since).ok()?.total(Unit::Hour).ok()?.max(0.0) as i64 / 24;
    let left = i64::from(rotation_days) - days;
    let due = match left {
        0.. => format!("rotation is due in {left} days"),
        _ => format!("rotation was due {} days ago", -left),
    };
    Some(format!("{resource}: {} is {days} days old, {due}", name_of(key)))
}

/// What instances have to do that write under another key than the one that answers.
fn behind(resource: &str, key: &Value, first: &Value) -> Vec<String> {
    let lacking = names(first, "lacking");
    let step = |name: &String| {
        let (old, new) = (name_of(key), name_of(first));
        if lacking.contains(name) {
            format!(
                "{resource}: {name} writes under {old} and cannot read {new}: add that one there as the second key"
            )
        } else {
            format!(
                "{resource}: {name} writes under {old} and reads {new}: give that one the first place there"
            )
        }
    };
    names(key, "writers").iter().map(step).collect()
}

/// The next step where all write under the same key.
fn agreed(keys: &Value, first: &Value, others: &[Value]) -> Vec<String> {
    let resource = keys["resource"].as_str().unwrap_or_default();
    let count = |member: &str| keys[member].as_u64().unwrap_or(0);
    let in_use = |key: &Value| {
        let usages = keys["keys"].as_array().map_or(&[][..], Vec::as_slice);
        usages.iter().any(|usage| usage["provider"] == key["provider"] && usage["key"] == key["key"])
    };
    let mut lines = Vec::new();
    if let stale @ 1.. = count("stale") {
        lines.push(format!(
            "{stale} of {resource} would now be written under {}: muniment keys rotate --resource {resource}",
            name_of(first)
        ));
    }
    for key in others.iter().filter(|key| !in_use(key)) {
        let (name, lacking) = (name_of(key), names(key, "lacking"));
        let is_new = key["first_used"].is_null() && key["provider"] != "identity";
        lines.push(match (is_new, lacking.is_empty()) {
            (true, true) => {
                format!("{resource}: {name} is read everywhere: it may take the first place, on one instance after the other")
            }
            (true, false) => {
                format!("{resource}: {} cannot read {name} yet: add it there before it takes the first place", lacking.join(", "))
            }
            (false, _) if key["provider"] == "identity" => {
                format!("{resource}: nothing lies in the clear: identity may be taken out")
            }
            (false, _) => {
                format!("{resource}: nothing lies under {name}: it may be taken out once the store's history is compacted")
            }
        });
    }
    lines
}

fn writes_any(name: &String, keys: &[&Value]) -> bool {
    keys.iter().any(|key| names(key, "writers").contains(name))
}

fn names(key: &Value, member: &str) -> Vec<String> {
    let names = key[member].as_array().into_iter().flatten().filter_map(Value::as_str);
    names.map(str::to_owned).collect()
}

fn name_of(key: &Value) -> String {
    let text = |member: &str| key[member].as_str().unwrap_or_default();
    format!("{} {}", text("provider"), text("key")).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(name: &str, used: Option<&str>, writers: &[&str], readers: &[&str], lacking: &[&str]) -> Value {
        json!({ "provider": "aesgcm", "key": name, "fingerprint": name, "first_used": used,
            "writers": writers, "readers": readers, "lacking": lacking })
    }

    fn advised(stale: u64, under: &str, configured: &[Value]) -> String {
        let keys = json!({ "resource": "secrets", "stale": stale, "configured": configured,
            "keys": [{ "provider": "aesgcm", "key": under }] });
        advice(&keys, "2026-04-01T12:00:00Z".parse().unwrap(), 90)
    }

    const MARCH: Option<&str> = Some("2026-03-02T12:00:00Z");

    #[test]
    fn the_age_of_the_first_key_says_when_rotation_is_due() {
        assert_eq!(
            advised(0, "old", &[key("old", MARCH, &["a"], &[], &[])]),
            "secrets: aesgcm old is 30 days old, rotation is due in 60 days\n"
        );
        assert_eq!(
            advised(0, "old", &[key("old", Some("2025-12-02T12:00:00Z"), &["a"], &[], &[])]),
            "secrets: aesgcm old is 120 days old, rotation was due 30 days ago\n"
        );
    }

    #[test]
    fn each_step_of_a_rotation_names_the_next_one() {
        let steps = [
            // A new key is read here and not there, then everywhere.
            (
                0,
                "old",
                [key("old", None, &["a", "b"], &[], &[]), key("new", None, &[], &["a"], &["b"])],
                "secrets: b cannot read aesgcm new yet: add it there before it takes the first place\n",
            ),
            (
                0,
                "old",
                [key("old", None, &["a", "b"], &[], &[]), key("new", None, &[], &["a", "b"], &[])],
                "secrets: aesgcm new is read everywhere: it may take the first place, on one instance after the other\n",
            ),
            // It writes here, and not there yet.
            (
                3,
                "old",
                [key("new", None, &["a"], &["b"], &[]), key("old", MARCH, &["b"], &["a"], &[])],
                "secrets: b writes under aesgcm old and reads aesgcm new: give that one the first place there\n",
            ),
            (
                3,
                "old",
                [key("new", None, &["a"], &[], &["b"]), key("old", MARCH, &["b"], &["a"], &[])],
                "secrets: b writes under aesgcm old and cannot read aesgcm new: add that one there as the second key\n",
            ),
            // It writes everywhere: what is there is written anew, then the old one is forgotten.
            (
                3,
                "old",
                [key("new", None, &["a", "b"], &[], &[]), key("old", MARCH, &[], &["a", "b"], &[])],
                "3 of secrets would now be written under aesgcm new: muniment keys rotate --resource secrets\n",
            ),
            (
                0,
                "new",
                [key("new", None, &["a", "b"], &[], &[]), key("old", MARCH, &[], &["a", "b"], &[])],
                "secrets: nothing lies under aesgcm old: it may be taken out once the store's history is compacted\n",
            ),
        ];
        for (stale, under, configured, expected) in steps {
            assert_eq!(advised(stale, under, &configured), expected);
        }
    }
}
