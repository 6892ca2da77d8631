//! What is recorded of each request, when, and what a request must wait for.
//!
//! A request that may change something is promised room for its records when it arrives: without room it is refused and
//! nothing is done. It changes nothing before its opening record is on the disk, which names the change; and no answer
//! leaves before its closing record is on the disk. In mode `batch` nobody waits for the disk.

mod announced;
mod change;
mod decisions;
mod event;
mod mode;
mod opening;
mod trail;
mod unfinished;

use std::sync::Arc;

use bytes::Bytes;
use ingest::{
    event::{EventView, Level, Stage},
    identity,
    journal::Journal,
    policy::{Attributes, Decision, Loaded, Policy, Target},
    record::{Draft, Kind},
    redact::Redactor,
    time::{Clock, Timestamp},
};
use tokio::sync::watch;

use self::event::Event;
pub use self::{announced::AnnouncedStore, event::ObjectRef, mode::Mode, trail::Trail, unfinished::Recovery};
pub(crate) use self::{
    decisions::{ANNOTATION as DECISIONS, decided},
    event::agent,
    trail::source_ips,
};
use super::{request::RequestInfo, user::UserInfo};

/// What is recorded where no policy was given: everything that is asked of a resource, without bodies.
const DEFAULT_POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- level: None
  nonResourceURLs: [/livez*, /readyz*, /healthz*, /version, /openapi*]
- level: Metadata
";

/// Records what is asked of the gateway.
#[derive(Clone, Debug)]
pub struct Auditor {
    journal: Journal,
    redactor: watch::Receiver<Arc<Redactor>>,
    policy: watch::Receiver<Arc<Loaded>>,
    cluster: Arc<str>,
    mode: Mode,
    clock: Clock,
}

/// The policy that is in force where none was given.
///
/// # Panics
/// Never: a test loads it.
pub fn default_policy() -> Loaded {
    match Loaded::from_bytes(DEFAULT_POLICY.as_bytes()) {
        Ok(loaded) => loaded,
        Err(error) => unreachable!("the built-in policy is valid: {error}"),
    }
}

impl Auditor {
    /// Records under the name of a cluster, as the policy and the redaction rules in force say.
    pub fn new(
        journal: Journal,
        redactor: watch::Receiver<Arc<Redactor>>,
        policy: watch::Receiver<Arc<Loaded>>,
        cluster: Arc<str>,
        mode: Mode,
        clock: Clock,
    ) -> Self {
        Self { journal, redactor, policy, cluster, mode, clock }
    }

    /// What the policy says of a request.
    fn decide(&self, user: &UserInfo, info: &RequestInfo) -> Decision {
        let target = if info.is_resource {
            Target::Resource {
                group: &info.group,
                resource: &info.resource,
                subresource: &info.subresource,
                namespace: &info.namespace,
                name: &info.name,
            }
        } else {
            Target::Path(&info.path)
        };
        let groups = user.groups.iter().map(String::as_str).collect();
        let loaded = self.policy.borrow();
        let policy: &Policy = &loaded.policy;
        policy.decide(&Attributes { user: &user.username, groups, verb: &info.verb, target })
    }

    /// The record of an event: redacted, with an id of its own.
    fn draft(&self, event: &Event, at: Timestamp) -> Draft {
        let json = event.to_json();
        let redactor = self.redactor.borrow().clone();
        let (bytes, redactions) = match EventView::parse(&json) {
            Ok(view) => {
                let redacted = redactor.redact(&view);
                (Bytes::from(redacted.bytes.into_owned()), redacted.count)
            }
            // An event of ours is an event; were it none, what it holds must not reach a disk.
            Err(_) => (Bytes::new(), 0),
        };
        Draft {
            id: identity::own_id(at),
            cluster: self.cluster.clone(),
            kind: Kind::Audit,
            at,
            rules: redactor.hash().clone(),
            redactions,
            event: bytes,
        }
    }
}

/// Whether a stage is recorded.
fn is_recorded(decision: &Decision, stage: Stage) -> bool {
    decision.level != Level::None && !decision.omit_stages.contains(stage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_policy_is_one() {
        assert!(Loaded::from_bytes(DEFAULT_POLICY.as_bytes()).is_ok());
    }
}
