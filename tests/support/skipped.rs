//! A test that cannot run on this machine says so: in its output, and in the report that `make test` ends with.

use std::{fs::File, io::Write};

/// Says that the test of this thread does not run, or lacks a part, and why. Whoever calls `cargo test` names the
/// report in `MUNIMENT_TEST_SKIPPED`.
#[allow(clippy::disallowed_methods, reason = "the report of the tests is named in the environment")]
pub(crate) fn skipped(because: &str) {
    let thread = std::thread::current();
    let line = format!("skipped: {} because {because}\n", thread.name().unwrap_or("a test"));
    print!("{line}");
    if let Some(report) = std::env::var_os("MUNIMENT_TEST_SKIPPED") {
        // One write, so that lines of tests at the same time stay whole.
        File::options()
            .append(true)
            .open(report)
            .expect("the report is there")
            .write_all(line.as_bytes())
            .expect("the report has room");
    }
}
