//! Audit events that real servers and other projects wrote, through splitting, validation, identity and redaction.
//!
//! Reads `../shared/samples`; where that is absent the tests say so and pass.

#![allow(clippy::unwrap_used, reason = "a failed test panics")]

#[path = "../../tests/support/skipped.rs"]
mod skipped;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use ingest::{
    accept::{Acceptor, Reason, Rejection},
    event::EventView,
    identity::DeploymentKey,
    record::Draft,
    redact::{Redactor, RuleSet},
    split::Splitter,
    time::Clock,
};
use skipped::skipped;
use tokio::sync::watch;

fn samples() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/samples");
    if !folder.is_dir() {
        skipped("../shared is absent");
    }
    folder.is_dir().then_some(folder)
}

fn acceptor(retention_days: Option<u32>) -> Acceptor {
    let key = DeploymentKey::from_bytes([5; 32]);
    let now = "2026-11-24T12:00:00Z".parse().unwrap();
    let redactor = watch::channel(Arc::new(Redactor::new(&RuleSet::builtin(), &key))).1;
    Acceptor::new(&key, redactor, Clock::from_fn(move || now), retention_days)
}

fn take(input: &[u8], retention_days: Option<u32>) -> Vec<Result<Draft, Rejection>> {
    let acceptor = acceptor(retention_days);
    let cluster = "samples".into();
    let mut drafts = Vec::new();
    let mut splitter = Splitter::new();
    let mut give =
        |_, item: Result<&[u8], _>| drafts.push(item.and_then(|item| acceptor.accept(&cluster, item)));
    for chunk in input.chunks(64 * 1024) {
        splitter.push(chunk, &mut give);
    }
    splitter.finish(&mut give);
    drafts
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "json" || e == "jsonl") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn every_sample_is_taken_whatever_server_wrote_it() {
    let Some(folder) = samples() else { return };
    let mut taken = 0;
    for file in files(&folder) {
        for draft in take(&fs::read(&file).unwrap(), None) {
            let draft = draft.unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            let view = EventView::parse(&draft.event).unwrap();
            assert_eq!(view.stage_timestamp(), Some(draft.at), "{}", file.display());
            taken += 1;
        }
    }
    // 5,858 of our own server, the others of falco, audit2rbac, crowdsec, rbac-tool and apisnoop.
    assert_eq!(taken, 6749);
}

#[test]
fn old_samples_are_refused_for_their_day_and_nothing_else() {
    let Some(folder) = samples() else { return };
    for file in files(&folder) {
        let expired = take(&fs::read(&file).unwrap(), Some(30)).into_iter().filter_map(Result::err);
        assert!(expired.into_iter().all(|e| e.reason == Reason::DayExpired), "{}", file.display());
    }
}

#[test]
fn a_log_file_and_webhook_batches_of_it_give_the_same_records() {
    let Some(folder) = samples() else { return };
    let log = fs::read_to_string(folder.join("kube-apiserver-1.36/run1.jsonl")).unwrap();
    let head = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","#;
    let items: Vec<String> =
        log.lines().map(|line| format!("{{{}", line.strip_prefix(head).unwrap())).collect();
    let batches: Vec<String> = items
        .chunks(400)
        .map(|batch| {
            let head = r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#;
            format!("{head}{}]}}\n", batch.join(","))
        })
        .collect();
    let ids =
        |input: &str| -> Vec<_> { take(input.as_bytes(), None).into_iter().map(|d| d.unwrap().id).collect() };
    let lines = ids(&log);
    assert_eq!(lines, ids(&batches.concat()));
    assert_eq!(lines.iter().collect::<BTreeSet<_>>().len(), log.lines().collect::<BTreeSet<_>>().len());
}

#[test]
fn no_secret_of_a_sample_survives() {
    let Some(folder) = samples() else { return };
    let falco = folder.join("falco/k8s_audit");
    for (file, secrets) in [
        ("create_kube_system_secret.json", &["eGNwcGRha3Z1cTJ6d3Eycw==", "bmU3Ynh1"][..]),
        ("create_service_account_token_secret.json", &["ZXlKaGJHY2lPaUpTVXpJMU5pSXNJbXRwWkNJNklpSjk"]),
    ] {
        let input = fs::read(falco.join(file)).unwrap();
        let drafts: Vec<_> = take(&input, None).into_iter().map(Result::unwrap).collect();
        for secret in secrets {
            assert!(String::from_utf8_lossy(&input).contains(secret), "{file} holds {secret}");
            for draft in &drafts {
                assert!(draft.redactions > 0);
                assert!(!String::from_utf8_lossy(&draft.event).contains(secret), "{secret} is in {file}");
            }
        }
    }
}
