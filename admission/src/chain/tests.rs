use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::{
    AdmissionResponse, FailurePolicy, GroupVersionResource, Notes, Operation, PatchOperation, Phase, Phases,
    Reinvocation,
};

type Answer = dyn Fn(&AdmissionRequest) -> AdmissionResponse + Send + Sync;

/// A controller made of a closure.
struct Probe {
    name: &'static str,
    phases: Phases,
    policy: FailurePolicy,
    reinvocation: Reinvocation,
    answer: Box<Answer>,
}

impl Probe {
    fn new(
        name: &'static str,
        answer: impl Fn(&AdmissionRequest) -> AdmissionResponse + Send + Sync + 'static,
    ) -> Self {
        let (phases, policy) = (Phases::Mutating, FailurePolicy::Fail);
        Self { name, phases, policy, reinvocation: Reinvocation::Never, answer: Box::new(answer) }
    }

    fn ignoring(self) -> Self {
        Self { policy: FailurePolicy::Ignore, ..self }
    }
}

#[async_trait]
impl AdmissionController for Probe {
    fn name(&self) -> &str {
        self.name
    }

    fn supports_operation(&self, op: &Operation) -> bool {
        *op != Operation::Delete
    }

    async fn admit(&self, request: &AdmissionRequest) -> AdmissionResponse {
        (self.answer)(request)
    }

    async fn validate(&self, request: &AdmissionRequest) -> AdmissionResponse {
        (self.answer)(request)
    }

    fn phases(&self) -> Phases {
        self.phases
    }

    fn failure_policy(&self) -> FailurePolicy {
        self.policy
    }

    fn reinvocation(&self) -> Reinvocation {
        self.reinvocation
    }
}

fn chain(probes: impl IntoIterator<Item = Probe>) -> AdmissionChain {
    probes.into_iter().fold(AdmissionChain::new(), |chain, probe| chain.with_controller(Arc::new(probe)))
}

fn request() -> AdmissionRequest {
    let object = json!({"kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"}, "n": [], "odd": {"kept": 1}});
    AdmissionRequest::create(GroupVersionResource::new("", "v1", "configmaps"), object)
}

fn append(word: &'static str) -> impl Fn(&AdmissionRequest) -> AdmissionResponse + Send + Sync {
    move |_| AdmissionResponse::AllowWithPatch(vec![PatchOperation::add("/n/-", json!(word))])
}

fn appended(outcome: &Outcome) -> String {
    outcome.object.as_ref().unwrap()["n"].to_string()
}

#[tokio::test]
async fn patches_follow_each_other_and_unknown_fields_survive() {
    let outcome = chain([Probe::new("a", append("a")), Probe::new("b", append("b"))]).admit(&request()).await;
    assert!(outcome.is_allowed());
    assert_eq!(appended(&outcome), r#"["a","b"]"#);
    assert_eq!(outcome.object.unwrap()["odd"], json!({"kept": 1}));
}

#[tokio::test]
async fn the_validating_phase_sees_what_was_made_and_comes_after_the_validation() {
    let steps = Arc::new(std::sync::Mutex::new(Vec::new()));
    let note = |word: &'static str| {
        let steps = steps.clone();
        move |request: &AdmissionRequest| {
            steps.lock().unwrap().push(format!("{word} {}", request.object().unwrap()["n"]));
        }
    };
    let (last, valid) = (note("last"), note("valid"));
    let validating = Probe {
        phases: Phases::Validating,
        ..Probe::new("v", move |request| {
            last(request);
            AdmissionResponse::Allow
        })
    };
    let chain = chain([validating, Probe::new("a", append("a"))]).with_validation(Arc::new(move |request| {
        valid(request);
        Ok(())
    }));
    assert!(chain.admit(&request()).await.is_allowed());
    assert_eq!(*steps.lock().unwrap(), [r#"valid ["a"]"#, r#"last ["a"]"#]);
}

#[tokio::test]
async fn the_first_denial_ends_the_chain_and_says_what_is_forbidden() {
    let chain = chain([
        Probe::new("a", |_| AdmissionResponse::Deny("no owner".into())),
        Probe::new("b", |_| AdmissionResponse::Allow),
    ]);
    let outcome = chain.admit(&request()).await;
    assert_eq!(outcome.deny_reason(), Some(r#"configmaps "c" is forbidden: no owner"#));
    let denial = outcome.denial.unwrap();
    assert_eq!((denial.code, denial.reason.as_str()), (403, "Forbidden"));
    assert_eq!(denial.subject.unwrap().kind, "configmaps");
    let calls: Vec<_> = chain.controllers().map(|status| (status.name, status.calls)).collect();
    assert_eq!(calls, [("a", 1), ("b", 0)]);
}

#[tokio::test]
async fn a_change_by_an_added_controller_asks_those_before_it_once_more() {
    let again = |name, answer: Box<Answer>| Probe {
        reinvocation: Reinvocation::IfNeeded,
        ..Probe::new(name, answer)
    };
    let chain = chain([
        again("a", Box::new(append("a"))),
        Probe::new("b", append("b")),
        again("c", Box::new(append("c"))),
    ]);
    let outcome = chain.admit(&request()).await;
    // b does not want to be asked again; nothing changed after c but a's second patch, which comes in the second round.
    assert_eq!(appended(&outcome), r#"["a","b","c","a","c"]"#);
    let rounds: Vec<_> = outcome.decisions.iter().map(|d| (d.controller.as_str(), d.round)).collect();
    assert_eq!(rounds, [("a", 0), ("b", 0), ("c", 0), ("a", 1), ("c", 1)]);
}

#[tokio::test]
async fn warnings_come_once_and_annotations_survive_a_denial() {
    let noting = |_: &AdmissionRequest| {
        AdmissionResponse::AllowWithNotes(Notes {
            warnings: vec!["old".into()],
            annotations: [("a".to_owned(), "1".to_owned())].into(),
            ..Notes::default()
        })
    };
    let denying = |_: &AdmissionRequest| Denial::forbidden("x").annotated("b", "2").into();
    let outcome = chain([Probe::new("a", noting), Probe::new("b", noting), Probe::new("c", denying)])
        .admit(&request())
        .await;
    assert_eq!(outcome.warnings, ["old"]);
    assert_eq!(
        outcome.annotations.into_iter().collect::<Vec<_>>(),
        [("a".into(), "1".into()), ("b".into(), "2".into())]
    );
}

#[tokio::test]
async fn an_operation_that_a_controller_does_not_support_passes_it_by() {
    let chain = chain([Probe::new("a", |_| AdmissionResponse::Deny("x".into()))]);
    let delete = AdmissionRequest { operation: Operation::Delete, ..request() };
    assert!(chain.admit(&delete).await.is_allowed());
    assert_eq!(chain.controllers().next().unwrap().calls, 0);
}

#[tokio::test]
async fn a_panic_is_a_denial_or_a_pass_by_the_failure_policy() {
    let panicking = || Probe::new("a", |_| panic!("broken {}", 1));
    let outcome = chain([panicking()]).admit(&request()).await;
    assert_eq!(
        outcome.deny_reason(),
        Some("Internal error occurred: admission controller \"a\" panicked: broken 1")
    );
    assert_eq!(outcome.denial.unwrap().code, 500);
    let outcome = chain([panicking().ignoring()]).admit(&request()).await;
    assert!(outcome.is_allowed());
    assert!(matches!(&outcome.decisions[0].verdict, Verdict::FailedOpen(text) if text.contains("broken 1")));
}

#[tokio::test]
async fn a_patch_that_does_not_fit_or_comes_too_late_is_a_failure() {
    let misfit = |_: &AdmissionRequest| {
        AdmissionResponse::AllowWithPatch(vec![PatchOperation::add("/none/x", json!(1))])
    };
    let outcome = chain([Probe::new("a", misfit)]).admit(&request()).await;
    let reason = outcome.deny_reason().unwrap();
    assert!(reason.contains("\"a\" answered with a patch that cannot be applied: "), "{reason}");
    let late = Probe { phases: Phases::Validating, ..Probe::new("a", append("a")) };
    let outcome = chain([late]).admit(&request()).await;
    assert!(outcome.deny_reason().unwrap().ends_with("\"a\" changed the object in the validating phase"));
    assert_eq!(appended(&outcome), "[]");
}

/// Waits without end, and yields.
struct Sleeper;

#[async_trait]
impl AdmissionController for Sleeper {
    fn name(&self) -> &str {
        "Sleeper"
    }

    fn supports_operation(&self, _: &Operation) -> bool {
        true
    }

    async fn admit(&self, _: &AdmissionRequest) -> AdmissionResponse {
        std::future::pending().await
    }

    fn deadline(&self) -> Duration {
        Duration::from_millis(20)
    }
}

#[tokio::test]
async fn a_controller_that_runs_late_fails_alone_and_is_called_again() {
    let chain = AdmissionChain::new().with_controller(Arc::new(Sleeper));
    for _ in 0..2 {
        let outcome = chain.admit(&request()).await;
        let expected =
            "Internal error occurred: admission controller \"Sleeper\" gave no answer within 20 ms";
        assert_eq!(outcome.deny_reason(), Some(expected));
    }
    let status = chain.controllers().next().unwrap();
    assert_eq!((status.calls, status.set_aside), (2, false));
}

#[tokio::test]
async fn the_requests_own_deadline_ends_the_chain() {
    let chain = AdmissionChain::new().with_controller(Arc::new(Sleeper));
    let hurried = AdmissionRequest { deadline: Some(Instant::now() + Duration::from_millis(5)), ..request() };
    let denial = chain.admit(&hurried).await.denial.unwrap();
    assert_eq!(denial.code, 504);
    assert_eq!(denial.message, "Timeout: request did not complete within the allotted timeout");
}

#[tokio::test]
async fn a_controller_that_never_yields_is_answered_in_time_and_set_aside_until_it_is_resumed() {
    let (spinning, calls) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)));
    let (spins, counted) = (spinning.clone(), calls.clone());
    let chain = chain([Probe::new("spin", move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        while spins.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        AdmissionResponse::Allow
    })]);
    let started = Instant::now();
    let outcome = chain.admit(&request()).await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(outcome.deny_reason().unwrap().contains("never yielded"), "{outcome:?}");
    assert!(chain.controllers().next().unwrap().set_aside);
    assert!(!chain.admit(&request()).await.is_allowed());
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    spinning.store(false, Ordering::SeqCst);
    assert!(chain.resume("spin"));
    assert!(!chain.resume("spin"));
    assert!(chain.admit(&request()).await.is_allowed());
}

#[test]
fn a_phase_is_in_the_phases_that_have_it() {
    assert!(Phases::Both.contains(Phase::Mutating) && Phases::Both.contains(Phase::Validating));
    assert!(!Phases::Mutating.contains(Phase::Validating) && !Phases::Validating.contains(Phase::Mutating));
}
