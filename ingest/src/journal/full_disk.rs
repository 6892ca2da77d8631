//! The journal on a disk that is really full: a small file system where one can be mounted, and a limit on files.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{
    tests::{drafts, events, options},
    *,
};
use crate::{mounted::Mounted, skipped::skipped};

const MEBIBYTE: u64 = 1024 * 1024;

/// Longer than the writer waits between two looks for room.
const BOUND: Duration = Duration::from_secs(10);

/// Says to the process that [`a_file_size_limit_is_a_full_disk`] starts that it is the one under the limit.
const LIMITED: &str = "MUNIMENT_TEST_LIMITED_FOLDER";

/// Fills the journal in `dir` until the disk is full, makes room, and finds everything that was acknowledged.
async fn fill_and_recover(dir: &Path, make_room: impl FnOnce()) {
    let open = || Journal::open(dir, JournalOptions { max_bytes: 16 * MEBIBYTE, ..options() }).unwrap();
    let (journal, _) = open();
    let event = |n: usize| format!("{n:08}{}", "x".repeat(60_000));
    let mut acknowledged = Vec::new();
    let refused = loop {
        match journal.append(drafts([event(acknowledged.len())])).await {
            Ok(_) => acknowledged.push(event(acknowledged.len())),
            Err(e) => break e,
        }
        assert!(acknowledged.len() < 300, "nothing was refused");
    };
    assert_eq!(refused, AppendError::NoSpace);
    assert!(acknowledged.len() > 10, "{} events fitted", acknowledged.len());
    assert_eq!(journal.stats().state, State::NoSpace);
    assert_eq!(events(&journal).await, acknowledged, "reading goes on");
    make_room();
    let writable = async {
        while journal.stats().state != State::Writable {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(BOUND, writable).await.expect("it notices room by itself");
    journal.append(drafts(["after"])).await.unwrap();
    acknowledged.push("after".into());
    drop(journal);
    let (journal, opened) = open();
    assert_eq!((opened.torn, opened.lost), (None, vec![]));
    assert_eq!(events(&journal).await, acknowledged);
}

#[tokio::test]
async fn a_full_file_system_takes_nothing_loses_nothing_and_recovers_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mounted) = Mounted::new(dir.path(), 6 * MEBIBYTE) else {
        skipped("no file system can be mounted; a_file_size_limit_is_a_full_disk stands in for it");
        return;
    };
    let ballast = mounted.0.join("ballast");
    fs::write(&ballast, vec![1; 2 * MEBIBYTE as usize]).unwrap();
    fill_and_recover(&mounted.0.join("journal"), || fs::remove_file(&ballast).unwrap()).await;
}

/// Starts this very test again, in a process that may not make files longer than half a segment.
#[test]
fn a_file_size_limit_is_a_full_disk() {
    #[allow(
        clippy::disallowed_methods,
        reason = "tells the process under the limit from the one that starts it"
    )]
    if let Some(folder) = std::env::var_os(LIMITED) {
        return limited(Path::new(&folder));
    }
    let dir = tempfile::tempdir().unwrap();
    // The signal that the limit sends would end the process; a journal under a limit runs with it ignored.
    let script =
        "trap '' XFSZ; exec \"$0\" --exact --nocapture journal::full_disk::a_file_size_limit_is_a_full_disk";
    let program = std::env::current_exe().unwrap();
    let log = File::create(dir.path().join("log")).unwrap();
    let status = Command::new("sh")
        .args(["-c", script])
        .arg(program)
        .env(LIMITED, dir.path())
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .status()
        .unwrap();
    let told = fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(status.success() && told.contains("1 passed"), "{told}");
}

fn limited(dir: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let unlimited = getrlimit(Resource::Fsize);
    // The first segment is made in full; the next one, which would have to be longer, is not.
    let set =
        |bytes| setrlimit(Resource::Fsize, Rlimit { current: bytes, maximum: unlimited.maximum }).unwrap();
    let events = async {
        let journal = dir.join("journal");
        let (made, _) =
            Journal::open(&journal, JournalOptions { max_bytes: 16 * MEBIBYTE, ..options() }).unwrap();
        made.append(drafts(["x".repeat(900_000)])).await.unwrap();
        made.append(drafts(["x".repeat(90_000)])).await.unwrap();
        set(Some(MEBIBYTE / 2));
        assert_eq!(made.append(drafts(["x".repeat(200_000)])).await, Err(AppendError::NoSpace));
        set(unlimited.current);
        made.append(drafts(["after"])).await.unwrap();
        assert_eq!(super::tests::events(&made).await.len(), 3);
    };
    runtime.block_on(events);
}
