//! One request's way through the chain.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::time::Instant;

use super::{
    AdmissionChain,
    entry::{Entry, Failure},
    outcome::{Decision, Outcome, Verdict},
};
use crate::{
    controller::{FailurePolicy, Phase, Phases, Reinvocation},
    denial::Denial,
    patch,
    request::AdmissionRequest,
    response::Notes,
};

/// How long a request without a deadline may be in the chain: what kube-apiserver gives a request for its admission.
pub const LONGEST_ADMISSION: Duration = Duration::from_secs(34);

impl AdmissionChain {
    /// Takes a request through both phases. Controllers that charge have done so when the outcome allows it.
    ///
    /// Never fails and never panics: what a controller does wrong is in the outcome.
    pub async fn admit(&self, request: &AdmissionRequest) -> Outcome {
        self.run(request, Phases::Both).await
    }

    /// Takes a request through the mutating phase alone, as a mutating webhook is asked.
    pub async fn mutate(&self, request: &AdmissionRequest) -> Outcome {
        self.run(request, Phases::Mutating).await
    }

    /// Takes a request through the validating phase alone, as a validating webhook is asked.
    pub async fn validate(&self, request: &AdmissionRequest) -> Outcome {
        self.run(request, Phases::Validating).await
    }

    async fn run(&self, request: &AdmissionRequest, phases: Phases) -> Outcome {
        let mut run = Run::new(request);
        if let Err(denial) = run.through(self, phases).await {
            run.outcome.annotations.extend(denial.annotations.clone());
            run.warn(denial.warnings.to_vec());
            run.outcome.denial = Some(denial);
        }
        run.outcome.object = run.request.object;
        run.outcome
    }

    /// The controllers that want to see a request in a phase.
    fn concerned(&self, request: &AdmissionRequest, phase: Phase) -> impl Iterator<Item = &Entry> + use<'_> {
        let operation = request.operation;
        self.entries.iter().filter(move |entry| {
            let controller = entry.controller();
            controller.phases().contains(phase) && controller.supports_operation(&operation)
        })
    }
}

struct Run {
    request: AdmissionRequest,
    ends: Instant,
    round: u8,
    /// How often the object was changed.
    changes: u64,
    /// Whether a controller changed the object whose changes all others are to see.
    again: bool,
    outcome: Outcome,
}

impl Run {
    fn new(request: &AdmissionRequest) -> Self {
        let outcome = Outcome {
            object: None,
            denial: None,
            warnings: Vec::new(),
            annotations: BTreeMap::new(),
            decisions: Vec::new(),
        };
        let ends = request.deadline.unwrap_or_else(|| Instant::now() + LONGEST_ADMISSION);
        Self { request: request.clone(), ends, round: 0, changes: 0, again: false, outcome }
    }

    async fn through(&mut self, chain: &AdmissionChain, phases: Phases) -> Result<(), Denial> {
        if phases.contains(Phase::Mutating) {
            self.mutate(chain).await?;
        }
        if !phases.contains(Phase::Validating) {
            return Ok(());
        }
        if let Some(validation) = &chain.validation {
            validation(&self.request)?;
        }
        for entry in chain.concerned(&self.request, Phase::Validating) {
            self.ask(entry, Phase::Validating).await?;
        }
        Ok(())
    }

    /// The mutating phase, and once more the controllers that want to see what changed after them.
    async fn mutate(&mut self, chain: &AdmissionChain) -> Result<(), Denial> {
        let mut seen = Vec::with_capacity(chain.entries.len());
        for entry in chain.concerned(&self.request, Phase::Mutating) {
            self.ask(entry, Phase::Mutating).await?;
            seen.push((entry, self.changes));
        }
        if !self.again {
            return Ok(());
        }
        self.round = 1;
        self.request.memory.round = 1;
        for (entry, changes) in seen {
            let again = !entry.is_added()
                || (changes < self.changes && entry.controller().reinvocation() == Reinvocation::IfNeeded);
            if again {
                self.ask(entry, Phase::Mutating).await?;
            }
        }
        Ok(())
    }

    /// Asks one controller, and takes its answer over.
    async fn ask(&mut self, entry: &Entry, phase: Phase) -> Result<(), Denial> {
        let started = Instant::now();
        let left = self.ends.saturating_duration_since(started);
        if left.is_zero() {
            return Err(out_of_time());
        }
        let (verdict, result) = match entry.call(&self.request, phase, left).await {
            Ok(response) => match response.into_notes() {
                Ok(notes) => self.take(entry, phase, notes),
                Err(denial) => {
                    let denial = denial.about(&self.request);
                    (Verdict::Denied(denial.message.clone()), Err(denial))
                }
            },
            Err(failure) => self.failed(entry, failure),
        };
        self.outcome.decisions.push(Decision {
            controller: entry.name().to_owned(),
            phase,
            round: self.round,
            verdict,
            duration: started.elapsed(),
        });
        result
    }

    fn take(&mut self, entry: &Entry, phase: Phase, notes: Notes) -> (Verdict, Result<(), Denial>) {
        if !notes.patch.is_empty() {
            if phase == Phase::Validating {
                return self.failed(entry, Failure::LatePatch);
            }
            if let Err(failure) = self.patch(&notes) {
                return self.failed(entry, failure);
            }
            self.again |= entry.is_added() || entry.controller().causes_reinvocation();
        }
        self.warn(notes.warnings);
        self.outcome.annotations.extend(notes.annotations);
        for why in notes.failed_open {
            let verdict = Verdict::FailedOpen(why);
            let (controller, round) = (entry.name().to_owned(), self.round);
            self.outcome.decisions.push(Decision {
                controller,
                phase,
                round,
                verdict,
                duration: Duration::ZERO,
            });
        }
        (if notes.patch.is_empty() { Verdict::Allowed } else { Verdict::Patched(notes.patch) }, Ok(()))
    }

    fn warn(&mut self, warnings: Vec<String>) {
        for warning in warnings {
            if !self.outcome.warnings.contains(&warning) {
                self.outcome.warnings.push(warning);
            }
        }
    }

    fn patch(&mut self, notes: &Notes) -> Result<(), Failure> {
        let no_object = || Failure::Patch("there is no object to change".to_owned());
        let object: &mut Value = Arc::make_mut(self.request.object.as_mut().ok_or_else(no_object)?);
        patch::apply(object, &notes.patch).map_err(|error| {
            Failure::Patch(format!(
                "answered with a patch that cannot be applied: {}",
                patch::described(&error)
            ))
        })?;
        self.changes += 1;
        Ok(())
    }

    /// A controller that gave no answer, or none that can be followed: its failure policy decides.
    fn failed(&self, entry: &Entry, failure: Failure) -> (Verdict, Result<(), Denial>) {
        let text = format!("admission controller {:?} {failure}", entry.name());
        if Instant::now() >= self.ends {
            return (Verdict::Failed(text), Err(out_of_time()));
        }
        match entry.controller().failure_policy() {
            FailurePolicy::Ignore => (Verdict::FailedOpen(text), Ok(())),
            FailurePolicy::Fail => (Verdict::Failed(text.clone()), Err(Denial::internal(text))),
        }
    }
}

fn out_of_time() -> Denial {
    Denial::timeout("request did not complete within the allotted timeout")
}
