//! Audit events that look like a real API server's, from a seed: as many as a benchmark or a test asks for.
//!
//! Which caller does what to which resource, at what level, with which stages, answer and body sizes is
//! drawn from counts that were measured on a recorded run of kube-apiserver 1.36 (`generator/requests.tsv`
//! and `generator/callers.tsv`: figures only). Names, ids, addresses, times and bodies are made here.
//! Only the standard library is used, so any test can include this file with `#[path]`.
#![allow(dead_code, unreachable_pub, reason = "each program that includes this file uses a part of it")]

#[path = "generator/bodies.rs"]
mod bodies;
#[path = "generator/draw.rs"]
mod draw;
#[path = "generator/tables.rs"]
mod tables;
#[path = "generator/text.rs"]
mod text;

use draw::Draw;
use tables::{Request, Tables};
use text::{hex_id, num, put, stamp};

/// Mean time between requests, in microseconds, unless [`Generator::paced`] says otherwise: 1,000 events/s.
const REQUEST_GAP: u64 = 1_950;

/// How an event stands in what carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A line of an audit log: with `kind` and `apiVersion`.
    Line,
    /// An item of an EventList: without them.
    Item,
}

/// Makes events; the same seed and start make the same events.
pub struct Generator {
    tables: Tables,
    draw: Draw,
    now: i64,
    gap: u64,
    pending: Option<Pending>,
}

/// A request that is under way: its next stage is the next event.
struct Pending {
    request: usize,
    stage: usize,
    received: i64,
    audit_id: (u64, u64),
    agent: usize,
    address: u32,
    target: Target,
    credential: u64,
}

/// What a request is about.
struct Target {
    namespace: &'static str,
    name: String,
    uid: (u64, u64),
    revision: u64,
}

impl Generator {
    /// Begins at `start` (microseconds since the epoch, UTC).
    pub fn new(seed: u64, start: i64) -> Self {
        Self {
            tables: Tables::measured(),
            draw: Draw::new(seed),
            now: start,
            gap: REQUEST_GAP,
            pending: None,
        }
    }

    /// Spreads the events over time: `micros` between two requests on average (a request has two events).
    #[must_use]
    pub fn paced(mut self, micros: u64) -> Self {
        self.gap = micros;
        self
    }

    /// Appends one event without a line break.
    pub fn event(&mut self, form: Form, out: &mut Vec<u8>) {
        let mut pending = match self.pending.take() {
            Some(pending) => pending,
            None => self.begin(),
        };
        self.write(&pending, form, out);
        pending.stage += 1;
        if pending.stage < self.tables.requests[pending.request].stages.len() {
            self.pending = Some(pending);
        }
    }

    /// Appends `count` events as an EventList, the body that a webhook batch has.
    pub fn event_list(&mut self, count: usize, out: &mut Vec<u8>) {
        put!(out, r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#);
        for i in 0..count {
            if i > 0 {
                out.push(b',');
            }
            self.event(Form::Item, out);
        }
        put!(out, "]}\n");
    }

    /// Appends `count` events as the lines of an audit log.
    pub fn lines(&mut self, count: usize, out: &mut Vec<u8>) {
        for _ in 0..count {
            self.event(Form::Line, out);
            out.push(b'\n');
        }
    }

    fn begin(&mut self) -> Pending {
        self.now += self.draw.exponential(self.gap) as i64;
        let request = self.tables.pick(&mut self.draw);
        let row = &self.tables.requests[request];
        Pending {
            request,
            stage: 0,
            received: self.now,
            audit_id: (self.draw.next(), self.draw.next()),
            agent: self.tables.callers[row.caller].pick_agent(&mut self.draw),
            address: self.tables.callers[row.caller].address(&mut self.draw),
            target: target(row, &mut self.draw),
            credential: row.caller as u64,
        }
    }

    fn write(&mut self, pending: &Pending, form: Form, out: &mut Vec<u8>) {
        let row = &self.tables.requests[pending.request];
        let stage = row.stages[pending.stage];
        let answered = stage != "RequestReceived";
        let at = pending.received + if answered { self.draw.latency(pending.stage) as i64 } else { 0 };

        out.push(b'{');
        if form == Form::Line {
            put!(out, r#""kind":"Event","apiVersion":"audit.k8s.io/v1","#);
        }
        put!(out, r#""level":""#, row.level, r#"","auditID":""#);
        hex_id(pending.audit_id, out);
        put!(out, r#"","stage":""#, stage, r#"","requestURI":""#);
        uri(row, &pending.target, out);
        put!(out, r#"","verb":""#, &row.verb, r#"","user":"#);
        self.tables.callers[row.caller].write_user(pending.credential, out);
        put!(out, r#","sourceIPs":[""#);
        text::address(pending.address, out);
        put!(out, r#""],"userAgent":""#, &self.tables.callers[row.caller].agents[pending.agent].0, "\"");
        reference(row, &pending.target, answered, out);
        if answered {
            status(row, &pending.target, &self.tables.callers[row.caller].name, out);
            if stage == "ResponseComplete" {
                bodies::write(row, &pending.target, pending.received, &mut self.draw, out);
            }
        }
        put!(out, r#","requestReceivedTimestamp":""#);
        stamp(pending.received, out);
        put!(out, r#"","stageTimestamp":""#);
        stamp(at, out);
        out.push(b'"');
        if answered && row.code != 401 {
            self.tables.callers[row.caller].write_decision(row.code, out);
        }
        out.push(b'}');
    }
}

/// Namespaces as often as they were measured, per thousand.
const NAMESPACES: &[(u64, &str)] = &[
    (556, "staging"),
    (138, "kube-system"),
    (132, "payments"),
    (76, "dev-alice"),
    (60, "search"),
    (30, "prod-eu"),
    (5, "default"),
    (3, "kube-public"),
];

const APPS: &[&str] = &[
    "checkout", "billing", "catalog", "gateway", "mailer", "reports", "ledger", "search", "web", "worker",
    "auth", "cache",
];

fn target(row: &Request, draw: &mut Draw) -> Target {
    let namespace = if row.namespaced { draw.weighted(NAMESPACES) } else { "" };
    let mut name = String::new();
    if row.named || bodies::names_itself(&row.request_kind) {
        let app = APPS[draw.below(APPS.len() as u64) as usize];
        let number = draw.below(40);
        name = match row.resource.as_str() {
            "pods" => format!("{app}-{number}-{:08x}-{:05x}", draw.below(4) + number, draw.below(1 << 20)),
            "replicasets" => format!("{app}-{number}-{:08x}", draw.below(4) + number),
            "events" => format!("{app}-{number}.{:016x}", draw.next()),
            "nodes" => format!("node-{}", number % 12),
            "namespaces" => namespace.to_owned(),
            "leases" => {
                if row.verb == "update" {
                    "kube-controller-manager".into()
                } else {
                    format!("node-{}", number % 12)
                }
            }
            "clusterroles" | "clusterrolebindings" => format!("system:{app}-{number}"),
            _ => format!("{app}-{number}"),
        };
    }
    Target { namespace, name, uid: (draw.next(), draw.next()), revision: draw.below(5_000_000) }
}

/// Paths that belong to no resource, as often as they were measured.
const PATHS: &[(u64, &str)] = &[
    (101, "/api"),
    (94, "/apis"),
    (54, "/openapi/v3"),
    (27, "/version"),
    (20, "/openapi/v2"),
    (20, "/metrics"),
    (20, "/logs/"),
    (10, "/debug/pprof/"),
    (9, "/healthz"),
    (7, "/"),
    (7, "/.env"),
];

fn uri(row: &Request, target: &Target, out: &mut Vec<u8>) {
    if row.resource.is_empty() {
        // Chosen by the request's own bits, so that both stages name the same path.
        put!(out, Draw::new(target.uid.0).weighted(PATHS));
        return;
    }
    if row.group.is_empty() {
        put!(out, "/api/", &row.version);
    } else {
        put!(out, "/apis/", &row.group, "/", &row.version);
    }
    if row.namespaced && row.resource != "namespaces" {
        put!(out, "/namespaces/", target.namespace);
    }
    put!(out, "/", &row.resource);
    if row.verb != "create" || !row.subresource.is_empty() {
        if !target.name.is_empty() {
            put!(out, "/", &target.name);
        }
        if !row.subresource.is_empty() {
            put!(out, "/", &row.subresource);
        }
    }
    match row.verb.as_str() {
        "watch" => {
            put!(out, r"?allowWatchBookmarks=true\u0026resourceVersion=");
            num(target.revision, out);
            put!(out, r"\u0026timeoutSeconds=");
            num(300 + target.uid.1 % 300, out);
            put!(out, r"\u0026watch=true");
        }
        "list" if !row.namespaced => put!(out, "?limit=500"),
        "create" | "patch" if target.uid.1.is_multiple_of(4) => {
            put!(out, r"?fieldManager=kubectl-create\u0026fieldValidation=Strict");
        }
        _ => {}
    }
}

fn reference(row: &Request, target: &Target, answered: bool, out: &mut Vec<u8>) {
    if row.resource.is_empty() {
        return;
    }
    put!(out, r#","objectRef":{"resource":""#, &row.resource, "\"");
    if row.namespaced {
        put!(out, r#","namespace":""#, target.namespace, "\"");
    }
    if row.named && (answered || row.verb != "create") {
        put!(out, r#","name":""#, &target.name, "\"");
    }
    if answered && row.verb == "update" && row.request_kind != "-" {
        put!(out, r#","uid":""#);
        hex_id(target.uid, out);
        out.push(b'"');
    }
    if !row.group.is_empty() {
        put!(out, r#","apiGroup":""#, &row.group, "\"");
    }
    put!(out, r#","apiVersion":""#, &row.version, "\"");
    if answered && row.verb == "update" && row.request_kind != "-" {
        put!(out, r#","resourceVersion":""#);
        num(target.revision, out);
        out.push(b'"');
    }
    if !row.subresource.is_empty() {
        put!(out, r#","subresource":""#, &row.subresource, "\"");
    }
    out.push(b'}');
}

fn status(row: &Request, target: &Target, caller: &str, out: &mut Vec<u8>) {
    put!(out, r#","responseStatus":{"metadata":{}"#);
    if row.code >= 400 {
        put!(out, r#","status":"Failure","message":""#);
        bodies::failure(row, target, caller, out);
        put!(out, r#"","reason":""#, bodies::reason(row.code), "\"");
    }
    put!(out, r#","code":"#);
    num(row.code, out);
    out.push(b'}');
}
