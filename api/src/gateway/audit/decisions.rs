//! What admission controllers decided, as an audit event tells it.

use ::admission::{Decision, PatchOperation, Verdict};
use serde::Serialize;

use crate::metrics;

/// The annotation: a list of what each call of a controller decided, in their order.
pub(crate) const ANNOTATION: &str = "admission.muniment.io/decisions";

/// Bytes of the list without patches; what is beyond is counted. A request is decided in some ten calls.
const MAX_BYTES: usize = 4 * 1024;

/// Bytes of the patches of one request, where they are recorded; of a larger one only its size is told.
pub(super) const MAX_PATCH_BYTES: usize = 64 * 1024;

/// Bytes of a reason; the whole one is in the answer that the client had.
const MAX_REASON_BYTES: usize = 512;

/// The annotation's value for what was decided about one request, without patches; none where nothing was.
pub(crate) fn decided(decisions: &[Decision]) -> Option<String> {
    let mut all = Decisions::default();
    all.add(decisions, false);
    all.value()
}

/// One call.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Call<'d> {
    controller: &'d str,
    phase: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    round: u8,
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'d str>,
    /// How long it took, in whole microseconds.
    micros: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<&'d [PatchOperation]>,
    /// The size of a patch that is left out because it is too large.
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_bytes: Option<usize>,
}

fn is_zero(round: &u8) -> bool {
    *round == 0
}

/// The decisions about one request, within a bound.
#[derive(Debug, Default)]
pub(super) struct Decisions {
    calls: Vec<String>,
    bytes: usize,
    patch_bytes: usize,
    omitted: usize,
}

impl Decisions {
    /// Adds what was decided; with the patches where those are recorded.
    pub(super) fn add(&mut self, decisions: &[Decision], with_patches: bool) {
        for decision in decisions {
            if self.bytes >= MAX_BYTES {
                self.omitted += 1;
                continue;
            }
            let mut call = Call::of(decision);
            let mut text = json(&call);
            self.bytes += text.len();
            if let (Verdict::Patched(patch), true) = (&decision.verdict, with_patches) {
                let size = json(patch).len();
                if self.patch_bytes + size <= MAX_PATCH_BYTES {
                    self.patch_bytes += size;
                    call.patch = Some(patch);
                } else {
                    call.patch_bytes = Some(size);
                }
                text = json(&call);
            }
            self.calls.push(text);
        }
    }

    /// The annotation's value; none where nothing was decided.
    pub(super) fn value(&self) -> Option<String> {
        if self.calls.is_empty() {
            return None;
        }
        let mut list = self.calls.join(",");
        if self.omitted > 0 {
            list.push_str(&format!(",{{\"omitted\":{}}}", self.omitted));
        }
        Some(format!("[{list}]"))
    }
}

impl<'d> Call<'d> {
    fn of(decision: &'d Decision) -> Self {
        let reason = match &decision.verdict {
            Verdict::Allowed | Verdict::Patched(_) => None,
            Verdict::Denied(why) | Verdict::Failed(why) | Verdict::FailedOpen(why) => Some(cut(why)),
        };
        Self {
            controller: &decision.controller,
            phase: metrics::phase(decision.phase),
            round: decision.round,
            verdict: metrics::verdict(&decision.verdict),
            reason,
            micros: u64::try_from(decision.duration.as_micros()).unwrap_or(u64::MAX),
            patch: None,
            patch_bytes: None,
        }
    }
}

fn json(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn cut(text: &str) -> &str {
    let end = (0..=text.len().min(MAX_REASON_BYTES)).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ::admission::{PatchOp, Phase};
    use serde_json::{Value, json};

    use super::*;

    fn decision(verdict: Verdict) -> Decision {
        let controller = "Owners".to_owned();
        Decision { controller, phase: Phase::Mutating, round: 0, verdict, duration: Duration::from_micros(7) }
    }

    fn patch(text: &str) -> Vec<PatchOperation> {
        vec![PatchOperation { op: PatchOp::Add, path: "/a".into(), value: Some(json!(text)), from: None }]
    }

    fn told(decisions: &[Decision], with_patches: bool) -> Value {
        let mut all = Decisions::default();
        all.add(decisions, with_patches);
        serde_json::from_str(&all.value().unwrap()).unwrap()
    }

    #[test]
    fn each_call_is_told_with_what_it_decided() {
        let decisions = [
            decision(Verdict::Allowed),
            decision(Verdict::Patched(patch("b"))),
            decision(Verdict::Denied("é".repeat(400))),
        ];
        let call = |verdict: &str| json!({"controller": "Owners", "phase": "mutating", "verdict": verdict, "micros": 7});
        let all = told(&decisions, false);
        assert_eq!((&all[0], &all[1]), (&call("allowed"), &call("patched")));
        assert_eq!(all[2]["reason"], "é".repeat(256), "a reason is cut between two letters");
        let mut with_patch = call("patched");
        with_patch["patch"] = json!([{"op": "add", "path": "/a", "value": "b"}]);
        assert_eq!(told(&decisions, true)[1], with_patch);
        assert_eq!(Decisions::default().value(), None);
    }

    #[test]
    fn what_is_too_much_is_counted() {
        let all = told(&vec![decision(Verdict::Allowed); 1000], false);
        let calls = all.as_array().unwrap();
        assert!(calls.len() < 100);
        assert_eq!(calls.last().unwrap()["omitted"], 1001 - calls.len());
        let large = Verdict::Patched(patch(&"x".repeat(MAX_PATCH_BYTES)));
        let all = told(&[decision(large)], true);
        assert!(all[0]["patch"].is_null() && all[0]["patchBytes"].as_u64().unwrap() > MAX_PATCH_BYTES as u64);
    }
}
