//! Files on a real file system, by a clock of the test.

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::time::Timestamp;

const DAY: i64 = 86_400 * 1_000_000;

fn event(n: usize) -> Bytes {
    format!(r#"{{"kind":"Event","n":{n:>4}}}"#).into()
}

/// Bytes of one event's line.
const LINE: u64 = 26;

fn options(path: &Path) -> FileOptions {
    FileOptions { path: path.to_owned(), max_bytes: 0, max_age_days: 0, max_backups: 0 }
}

/// A clock that goes on by a second at each look, from a time that the test may set.
fn clock() -> (Clock, Arc<AtomicI64>) {
    let now = Arc::new(AtomicI64::new("2026-01-02T03:04:05Z".parse::<Timestamp>().unwrap().micros()));
    let shared = now.clone();
    (Clock::from_fn(move || Timestamp::from_micros(shared.fetch_add(1_000_000, Ordering::SeqCst))), now)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn numbers(path: &Path) -> Vec<u64> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["n"].as_u64().unwrap())
        .collect()
}

#[test]
fn the_events_of_the_tests_have_the_length_that_they_say() {
    assert_eq!(event(3).len() as u64 + 1, LINE);
}

#[tokio::test]
async fn events_stand_on_lines_in_a_file_that_only_its_owner_reads() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("made/audit.log");
    let file = AuditFile::open(options(&path), clock().0).unwrap();
    file.deliver(&[event(1), event(2)]).await.unwrap();
    file.deliver(&[event(3)]).await.unwrap();
    assert_eq!(numbers(&path), [1, 2, 3]);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn a_file_is_rotated_before_it_would_be_too_long_and_old_ones_go() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let (clock, now) = clock();
    let options = FileOptions { max_bytes: 2 * LINE, max_backups: 2, max_age_days: 3, ..options(&path) };
    let file = AuditFile::open(options, clock).unwrap();
    assert_eq!(file.bounds().bytes as u64, 2 * LINE);
    for n in 1..=9 {
        file.deliver(&[event(n)]).await.unwrap();
    }
    assert_eq!(numbers(&path), [9]);
    let kept = names(dir.path());
    assert_eq!(kept.len(), 3, "{kept:?}");
    assert_eq!(kept[2], "audit.log");
    assert!(kept[0].starts_with("audit-2026-01-02T03-04-") && kept[0] < kept[1], "{kept:?}");
    assert_eq!(numbers(&dir.path().join(&kept[0])), [5, 6]);
    assert_eq!(numbers(&dir.path().join(&kept[1])), [7, 8]);
    now.fetch_add(4 * DAY, Ordering::SeqCst);
    for n in 10..=11 {
        file.deliver(&[event(n)]).await.unwrap();
    }
    let kept = names(dir.path());
    assert_eq!(kept.len(), 2, "those of four days ago are gone: {kept:?}");
    assert!(kept[0].starts_with("audit-2026-01-06"), "{kept:?}");
}

#[tokio::test]
async fn what_is_there_at_a_start_counts_for_the_size() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let options = FileOptions { max_bytes: 2 * LINE, ..options(&path) };
    for n in 1..=5 {
        AuditFile::open(options.clone(), clock().0).unwrap().deliver(&[event(n)]).await.unwrap();
    }
    assert_eq!((numbers(&path), names(dir.path()).len()), (vec![5], 3));
}

#[tokio::test]
async fn a_torn_line_is_cut_and_a_whole_one_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let whole = String::from_utf8(event(2).to_vec()).unwrap();
    for (found, expected) in [
        ("".to_owned(), vec![7]),
        ("{\"n\":".to_owned(), vec![7]),
        (format!("{{\"n\":1}}\n{}", &whole[..9]), vec![1, 7]),
        (format!("{{\"n\":1}}\n{whole}"), vec![1, 2, 7]),
        (whole.clone(), vec![2, 7]),
        (format!("{{\"n\":1}}\n{}", "x".repeat(200_000)), vec![1, 7]),
    ] {
        fs::write(&path, found).unwrap();
        AuditFile::open(options(&path), clock().0).unwrap().deliver(&[event(7)]).await.unwrap();
        assert_eq!(numbers(&path), expected);
    }
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("audit.log"), dir.path().join("taken"));
    let file = AuditFile::open(options(&path), clock().0).unwrap();
    file.deliver(&[event(1)]).await.unwrap();
    fs::rename(&path, &moved).unwrap();
    file.deliver(&[event(2)]).await.unwrap();
    assert_eq!((numbers(&moved), numbers(&path)), (vec![1], vec![2]));
}

#[test]
fn a_path_that_cannot_be_written_is_told_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let _held = AuditFile::open(options(&path), clock().0).unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    for (path, reason) in [
        (dir.path().to_owned(), "directory"),
        (dir.path().join("file/audit.log"), "ot a directory"),
        (path, "another process"),
    ] {
        let error = AuditFile::open(options(&path), clock().0).unwrap_err();
        let source = error.source.to_string();
        let is_told = source.contains(reason) || source.contains("File exists");
        assert!(is_told && error.to_string().contains(&*path.to_string_lossy()), "{error}: {source}");
    }
}
