//! Cells of pods: one word and a few numbers for what all their containers do.

use serde_json::{Value, json};

use super::{
    age,
    cells::{NONE, View},
};

/// What the containers of a pod add up to.
struct Summary {
    ready: usize,
    total: usize,
    word: String,
    restarts: i64,
    /// When a container ended last, microseconds since 1970.
    restarted: Option<i64>,
}

pub(super) fn ready(view: &View<'_>) -> String {
    let Summary { ready, total, .. } = summary(view);
    format!("{ready}/{total}")
}

pub(super) fn status(view: &View<'_>) -> String {
    summary(view).word
}

pub(super) fn restarts(view: &View<'_>) -> String {
    let Summary { restarts, restarted, .. } = summary(view);
    match restarted {
        Some(at) if restarts != 0 => format!("{restarts} ({} ago)", age::span(view.now.micros() - at)),
        _ => restarts.to_string(),
    }
}

pub(super) fn readiness_gates(view: &View<'_>) -> String {
    let gates = view.list("/spec/readinessGates").len();
    if gates == 0 {
        return NONE.to_owned();
    }
    let open = view
        .each("/spec/readinessGates")
        .filter(|gate| view.condition(gate.text("/conditionType")) == "True")
        .count();
    format!("{open}/{gates}")
}

/// The condition of a row whose pod has ended.
pub(super) fn completed(object: &Value) -> Option<Value> {
    if object["kind"] != "Pod" || object["apiVersion"] != "v1" {
        return None;
    }
    let (reason, message) = match object["status"]["phase"].as_str()? {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!({ "type": "Completed", "status": "True", "reason": reason, "message": message }))
}

fn summary(view: &View<'_>) -> Summary {
    let phase = view.text("/status/phase");
    let mut summary = Summary {
        ready: 0,
        total: view.list("/spec/containers").len()
            + view.each("/spec/initContainers").filter(View::is_sidecar).count(),
        word: view.or("/status/reason", phase).to_owned(),
        restarts: 0,
        restarted: None,
    };
    if view.each("/status/conditions").any(|condition| {
        condition.text("/type") == "PodScheduled" && condition.text("/reason") == "SchedulingGated"
    }) {
        "SchedulingGated".clone_into(&mut summary.word);
    }
    let sidecars = summary.initialize(view);
    if let Some(sidecars) = sidecars {
        (summary.restarts, summary.restarted) = (sidecars.restarts, sidecars.restarted);
        summary.run(view);
    }
    if view.is_deleting() && view.text("/status/reason") == "NodeLost" {
        "Unknown".clone_into(&mut summary.word);
    } else if view.is_deleting() && !matches!(phase, "Succeeded" | "Failed") {
        "Terminating".clone_into(&mut summary.word);
    }
    summary
}

/// How often containers were started again, and when last.
#[derive(Default)]
struct Restarts {
    restarts: i64,
    restarted: Option<i64>,
}

impl Restarts {
    fn add(&mut self, container: &View<'_>) {
        self.restarts += container.int("/restartCount");
        self.restarted = self.restarted.max(age::micros(container.text("/lastState/terminated/finishedAt")));
    }
}

impl View<'_> {
    /// An init container that goes on beside the others.
    fn is_sidecar(&self) -> bool {
        self.text("/restartPolicy") == "Always"
    }
}

impl Summary {
    /// Looks at the init containers up to the one that is not through. What sidecars did, where the others may run.
    fn initialize(&mut self, view: &View<'_>) -> Option<Restarts> {
        let specs: Vec<View<'_>> = view.each("/spec/initContainers").collect();
        let (mut all, mut sidecars) = (Restarts::default(), Restarts::default());
        let mut is_initializing = false;
        for (n, container) in view.each("/status/initContainerStatuses").enumerate() {
            all.add(&container);
            let name = container.text("/name");
            let is_sidecar = specs.iter().any(|spec| spec.text("/name") == name && spec.is_sidecar());
            if is_sidecar {
                sidecars.add(&container);
            }
            let has_ended = container.has("/state/terminated");
            if has_ended && container.int("/state/terminated/exitCode") == 0 {
                continue;
            }
            if is_sidecar && container.flag("/started") {
                self.ready += usize::from(container.flag("/ready"));
                continue;
            }
            let waiting = container.text("/state/waiting/reason");
            self.word = match (has_ended, waiting) {
                (true, _) => format!("Init:{}", ended(&container)),
                (false, "" | "PodInitializing") => format!("Init:{n}/{}", specs.len()),
                (false, waiting) => format!("Init:{waiting}"),
            };
            is_initializing = true;
            break;
        }
        (self.restarts, self.restarted) = (all.restarts, all.restarted);
        (!is_initializing || view.condition("Initialized") == "True").then_some(sidecars)
    }

    /// Looks at the containers, the first one last: its word counts.
    fn run(&mut self, view: &View<'_>) {
        let mut restarts = Restarts { restarts: self.restarts, restarted: self.restarted };
        let mut has_running = false;
        let mut failed = None;
        for container in view.each("/status/containerStatuses").rev() {
            restarts.add(&container);
            let waiting = container.text("/state/waiting/reason");
            if !waiting.is_empty() {
                waiting.clone_into(&mut self.word);
            } else if container.has("/state/terminated") {
                self.word = ended(&container);
                if container.int("/state/terminated/exitCode") != 0 {
                    failed = Some(self.word.clone());
                }
            } else if container.flag("/ready") && container.has("/state/running") {
                has_running = true;
                self.ready += 1;
            }
        }
        (self.restarts, self.restarted) = (restarts.restarts, restarts.restarted);
        if self.word == "Completed" {
            let is_ready = view.condition("Ready") == "True";
            self.word = match (has_running && is_ready, failed) {
                (true, _) => "Running".to_owned(),
                (false, Some(word)) => word,
                (false, None) if has_running => "NotReady".to_owned(),
                (false, None) => return,
            };
        }
    }
}

/// Why a container ended.
fn ended(container: &View<'_>) -> String {
    let (reason, signal) =
        (container.text("/state/terminated/reason"), container.int("/state/terminated/signal"));
    match (reason, signal) {
        ("", 0) => format!("ExitCode:{}", container.int("/state/terminated/exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}
