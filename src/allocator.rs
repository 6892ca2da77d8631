//! How much freed memory the C library's allocator keeps: little, so that what the process holds is what it uses.
//!
//! By itself it makes eight arenas for each core, and every one keeps what was given back to it in pieces between what
//! is in use. Under load, with Postgres away, the process held 248 MB on two cores that nothing used: 717 MB before the
//! allocator was asked to give them back, 469 MB after.

#![allow(
    unsafe_code,
    reason = "the allocator is asked through two functions of C, which are called nowhere else"
)]

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// How often what is free goes back. It takes some milliseconds, and a load fills it again within minutes.
const EVERY: Duration = Duration::from_secs(10);

/// Arenas on a machine of one core: threads of librdkafka and tantivy allocate beside the service's own.
const LEAST_ARENAS: usize = 2;

/// Limits the arenas to one for each core: no more can be in use at a time. Right before any thread is started.
pub(crate) fn limit_arenas() {
    let cores = std::thread::available_parallelism().map_or(LEAST_ARENAS, usize::from);
    let arenas = i32::try_from(cores.max(LEAST_ARENAS)).unwrap_or(i32::MAX);
    #[cfg(target_env = "gnu")]
    // SAFETY: a setting of the allocator, made of two numbers; it refuses what it does not know.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, arenas);
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = arenas;
}

/// Gives back what is free, again and again until `stop`.
pub(crate) async fn give_back(stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
        // It holds the locks of the allocator in turn, never all of them; a runtime that goes down has its own end.
        let _ = tokio::task::spawn_blocking(trim).await;
    }
}

fn trim() {
    let begun = Instant::now();
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time from any thread, and touches only what nobody owns.
    unsafe {
        libc::malloc_trim(0);
    }
    tracing::debug!(took = ?begun.elapsed(), "gave free memory back");
}
