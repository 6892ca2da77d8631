//! Where expressions are evaluated: on a bounded number of threads of their own, never on those that serve requests.

use std::{
    sync::{Arc, LazyLock},
    thread,
};

use tokio::sync::{Semaphore, oneshot};

/// As many evaluations run at once as there are processors, and four at least; the others wait.
static PLACES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    Arc::new(Semaphore::new(processors.max(4)))
});

/// An evaluation goes as deep as its expression is nested, with some kilobytes for each level.
pub(crate) const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Runs something that computes until a time of its own. Where nobody waits for it any more it still ends by that
/// time, and keeps its place until then.
///
/// # Errors
/// When it panicked, or there is no thread for it.
pub(crate) async fn apart<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    let place = PLACES.clone().acquire_owned().await.map_err(|error| error.to_string())?;
    let (answer, waiting) = oneshot::channel();
    let work = move || {
        // Nobody waits any more when the answer is too late.
        let _ = answer.send(run());
        drop(place);
    };
    let thread = thread::Builder::new().name("evaluation".to_owned()).stack_size(STACK_BYTES).spawn(work);
    thread.map_err(|error| format!("an evaluation has no thread: {error}"))?;
    waiting.await.map_err(|_| "an evaluation panicked".to_owned())
}
