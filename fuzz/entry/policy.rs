//! What must hold for any bytes that are given as an audit policy. Called by the fuzzer and by the test that replays its corpus.

use ingest::policy::{Attributes, Loaded, PolicyError, Target};

/// Bytes are refused with a reason, or give a policy whose explanations agree with its decisions.
pub(crate) fn run(bytes: &[u8]) {
    match Loaded::from_bytes(bytes) {
        Ok(loaded) => {
            assert!(!loaded.policy.rules.is_empty());
            for request in requests() {
                let explanation = loaded.policy.explain(&request);
                assert_eq!(explanation.decision, loaded.policy.decide(&request));
                assert_eq!(
                    explanation.decision.rule.unwrap_or(loaded.policy.rules.len()),
                    explanation.passed.len()
                );
            }
        }
        Err(PolicyError::Invalid(violations)) => assert!(!violations.is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn requests() -> [Attributes<'static>; 3] {
    let resource = |subresource, namespace, name| Target::Resource {
        group: "",
        resource: "pods",
        subresource,
        namespace,
        name,
    };
    [resource("", "default", ""), resource("log", "kube-system", "a"), Target::Path("/readyz/etcd")]
        .map(|target| Attributes { user: "alice", groups: vec!["system:authenticated"], verb: "get", target })
}
