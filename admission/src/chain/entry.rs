//! A controller in a chain, with what the chain remembers of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Semaphore;

use super::apart;
use crate::{
    controller::{AdmissionController, Phase},
    request::AdmissionRequest,
    response::AdmissionResponse,
};

/// Where a controller stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// One of ours, by its place in kube-apiserver's order.
    BuiltIn(u8),
    /// One that was added.
    Added,
    /// What charges for a request comes after everything that may refuse it.
    Charging,
}

/// Calls of one added controller that run at the same time; each has a thread.
const CALLS_APART: usize = 64;

/// What the chain knows of a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControllerStatus<'a> {
    /// The controller's name.
    pub name: &'a str,
    /// How often it was called; 0 shows a controller that no request ever concerned.
    pub calls: u64,
    /// Whether it never yielded, and is not called until it is resumed.
    pub set_aside: bool,
}

/// Why a controller gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error("panicked: {0}")]
    Panicked(String),
    #[error("gave no answer within {} ms", .0.as_millis())]
    Late(Duration),
    #[error("never yielded, and is not called until an operator resumes it")]
    SetAside,
    #[error("all {CALLS_APART} calls that may run at the same time are taken")]
    Busy,
    #[error("cannot have a thread")]
    NoThread,
    #[error("changed the object in the validating phase")]
    LatePatch,
    #[error("{0}")]
    Patch(String),
}

pub(super) struct Entry {
    controller: Arc<dyn AdmissionController>,
    pub(super) place: Place,
    calls: AtomicU64,
    set_aside: AtomicBool,
    slots: Arc<Semaphore>,
}

impl Entry {
    pub(super) fn new(controller: Arc<dyn AdmissionController>, place: Place) -> Self {
        let slots = Arc::new(Semaphore::new(CALLS_APART));
        Self { controller, place, calls: AtomicU64::new(0), set_aside: AtomicBool::new(false), slots }
    }

    pub(super) fn name(&self) -> &str {
        self.controller.name()
    }

    pub(super) fn controller(&self) -> &dyn AdmissionController {
        &*self.controller
    }

    /// Whether somebody else wrote the controller: it may do anything.
    pub(super) fn is_added(&self) -> bool {
        self.place == Place::Added
    }

    pub(super) fn status(&self) -> ControllerStatus<'_> {
        ControllerStatus {
            name: self.name(),
            calls: self.calls.load(Ordering::Relaxed),
            set_aside: self.set_aside.load(Ordering::Acquire),
        }
    }

    pub(super) fn resume(&self) -> bool {
        self.set_aside.swap(false, Ordering::AcqRel)
    }

    /// Asks the controller, for its own deadline or the time that is left at most.
    pub(super) async fn call(
        &self,
        request: &AdmissionRequest,
        phase: Phase,
        left: Duration,
    ) -> Result<AdmissionResponse, Failure> {
        if self.set_aside.load(Ordering::Acquire) {
            return Err(Failure::SetAside);
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        let within = self.controller.deadline().min(left);
        if !self.is_added() {
            return apart::guarded(self.controller(), request, phase, within).await;
        }
        let slot = self.slots.clone().try_acquire_owned().map_err(|_| Failure::Busy)?;
        let answer = apart::call(self.controller.clone(), request.clone(), phase, within, slot).await;
        if answer == Err(Failure::SetAside) {
            self.set_aside.store(true, Ordering::Release);
        }
        answer
    }
}
