//! Calls of controllers that may panic, run late, or never yield.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, thread, time::Duration};

use futures::FutureExt;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, oneshot},
    time::timeout,
};

use super::entry::Failure;
use crate::{
    controller::{AdmissionController, Phase},
    request::AdmissionRequest,
    response::AdmissionResponse,
};

/// How long a controller that yields takes at most to notice that its time is over, or to print the backtrace of its
/// panic. One that takes longer is set aside.
const NOTICE: Duration = Duration::from_secs(1);

type Answer = Result<AdmissionResponse, Failure>;

/// Calls a controller that is known to yield, on the caller's task.
pub(super) async fn guarded(
    controller: &dyn AdmissionController,
    request: &AdmissionRequest,
    phase: Phase,
    within: Duration,
) -> Answer {
    let call = async {
        match phase {
            Phase::Mutating => controller.admit(request).await,
            Phase::Validating => controller.validate(request).await,
        }
    };
    match AssertUnwindSafe(timeout(within, call)).catch_unwind().await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(_)) => Err(Failure::Late(within)),
        Err(panic) => Err(Failure::Panicked(text(&*panic))),
    }
}

/// Calls a controller on a thread of its own. One that never yields keeps its thread and its slot.
pub(super) async fn call(
    controller: Arc<dyn AdmissionController>,
    request: AdmissionRequest,
    phase: Phase,
    within: Duration,
    slot: OwnedSemaphorePermit,
) -> Answer {
    let runtime = Handle::current();
    let (answer, waiting) = oneshot::channel();
    let run = move || {
        let response = runtime.block_on(guarded(&*controller, &request, phase, within));
        drop(slot);
        // Nobody waits any more when the answer is too late.
        let _ = answer.send(response);
    };
    if thread::Builder::new().name("admission".to_owned()).spawn(run).is_err() {
        return Err(Failure::NoThread);
    }
    match timeout(within + NOTICE, waiting).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => Err(Failure::Panicked("the thread ended".to_owned())),
        Err(_) => Err(Failure::SetAside),
    }
}

/// What a panic said.
fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}
