//! Every metric of this crate, declared once.

use std::time::Duration;

use ::admission::{Decision, Operation, Phase, Verdict};
use metrics::{Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::gateway::{limits::Class, measured::Measured};

const REQUESTS: &str = "muniment_http_requests_total";
const REQUEST_SECONDS: &str = "muniment_http_request_seconds";
const REFUSED_CONNECTIONS: &str = "muniment_http_refused_connections_total";
const ACCEPTED: &str = "muniment_intake_events_total";
const REJECTED: &str = "muniment_intake_rejected_total";
const GATEWAY_REQUESTS: &str = "muniment_gateway_requests_total";
const GATEWAY_SECONDS: &str = "muniment_gateway_request_seconds";
const GATEWAY_IN_FLIGHT: &str = "muniment_gateway_requests_in_flight";
const UNAUDITED: &str = "muniment_gateway_unaudited_requests_total";
const UNFINISHED: &str = "muniment_gateway_unfinished_requests_total";
const PANICS: &str = "muniment_gateway_panics_total";
const ADMISSION_SECONDS: &str = "muniment_admission_duration_seconds";
const ADMISSION_CALLS: &str = "muniment_admission_calls_total";

/// Names and explains the metrics of this crate to the recorder that is installed.
pub fn describe() {
    describe_counter!(REQUESTS, Unit::Count, "Requests answered, by route, method and status");
    describe_histogram!(REQUEST_SECONDS, Unit::Seconds, "Time until the head of the answer, by route");
    describe_counter!(REFUSED_CONNECTIONS, Unit::Count, "Connections closed because too many are open");
    describe_counter!(
        ACCEPTED,
        Unit::Count,
        "Events that intake accepted: durable and acknowledged, by cluster"
    );
    describe_counter!(REJECTED, Unit::Count, "Items that intake refused, by reason");
    describe_counter!(
        GATEWAY_REQUESTS,
        Unit::Count,
        "Requests of clients that the gateway answered, by verb, resource and status"
    );
    describe_histogram!(
        GATEWAY_SECONDS,
        Unit::Seconds,
        "Time until the head of the gateway's answer, by verb and resource"
    );
    describe_gauge!(
        GATEWAY_IN_FLIGHT,
        Unit::Count,
        "Requests that hold one of the gateway's places: reads, writes, and watches until they end"
    );
    describe_counter!(
        UNAUDITED,
        Unit::Count,
        "Requests of the gateway that the audit policy does not record (level None), by kind: read or change"
    );
    describe_counter!(
        UNFINISHED,
        Unit::Count,
        "Requests of the gateway that died between their stages, as this start found"
    );
    describe_counter!(PANICS, Unit::Count, "Requests of the gateway whose handler panicked");
    describe_histogram!(
        ADMISSION_SECONDS,
        Unit::Seconds,
        "Time of one call of an admission controller, by controller, phase, operation and outcome"
    );
    describe_counter!(
        ADMISSION_CALLS,
        Unit::Count,
        "Calls of an admission controller; 0 shows one that no request ever concerned"
    );
}

pub(crate) fn request(route: &str, method: &str, status: u16, seconds: f64) {
    let (route, method) = (route.to_owned(), method.to_owned());
    counter!(REQUESTS, "route" => route.clone(), "method" => method, "status" => status.to_string())
        .increment(1);
    histogram!(REQUEST_SECONDS, "route" => route).record(seconds);
}

pub(crate) fn refused_connection() {
    counter!(REFUSED_CONNECTIONS).increment(1);
}

pub(crate) fn accepted(cluster: &str, events: u64) {
    counter!(ACCEPTED, "cluster" => cluster.to_owned()).increment(events);
}

pub(crate) fn rejected(reason: &'static str, items: u64) {
    counter!(REJECTED, "reason" => reason).increment(items);
}

/// A client has its answer from the gateway.
pub(crate) fn gateway_request(measured: Measured, status: u16, after: Duration) {
    let Measured { verb, group, resource, subresource } = measured;
    let labels =
        ["verb", "group", "resource", "subresource"].into_iter().zip([verb, group, resource, subresource]);
    let mut labels: Vec<Label> = labels.map(|(name, value)| Label::from_static_parts(name, value)).collect();
    histogram!(GATEWAY_SECONDS, labels.clone()).record(after.as_secs_f64());
    labels.push(Label::new("code", status.to_string()));
    counter!(GATEWAY_REQUESTS, labels).increment(1);
}

/// A request of the gateway takes a place, or gives it back.
pub(crate) fn in_flight(class: Class, change: f64) {
    let class = match class {
        Class::Read => "read",
        Class::Write => "write",
        Class::Stream => "watch",
    };
    gauge!(GATEWAY_IN_FLIGHT, "class" => class).increment(change);
}

/// The audit policy does not record a request.
pub(crate) fn unaudited(may_change: bool) {
    counter!(UNAUDITED, "kind" => if may_change { "change" } else { "read" }).increment(1);
}

/// A handler of the gateway panicked.
pub(crate) fn panicked() {
    counter!(PANICS).increment(1);
}

/// Requests of earlier starts died between their stages.
pub(crate) fn unfinished(requests: usize) {
    counter!(UNFINISHED).increment(requests as u64);
}

/// Shows a controller before it was ever called.
pub(crate) fn admission_controller(name: &str) {
    counter!(ADMISSION_CALLS, "controller" => name.to_owned()).increment(0);
}

/// The calls of one request to the admission chain.
pub(crate) fn admission(operation: Operation, decisions: &[Decision]) {
    for decision in decisions {
        let controller = decision.controller.clone();
        counter!(ADMISSION_CALLS, "controller" => controller.clone()).increment(1);
        histogram!(
            ADMISSION_SECONDS,
            "controller" => controller,
            "phase" => phase(decision.phase),
            "operation" => operation.as_str(),
            "outcome" => verdict(&decision.verdict),
        )
        .record(decision.duration.as_secs_f64());
    }
}

/// The word for a phase, in metrics and in audit events.
pub(crate) fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Mutating => "mutating",
        Phase::Validating => "validating",
    }
}

/// The word for what a controller decided, in metrics and in audit events.
pub(crate) fn verdict(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Allowed => "allowed",
        Verdict::Patched(_) => "patched",
        Verdict::Denied(_) => "denied",
        Verdict::Failed(_) => "failed",
        Verdict::FailedOpen(_) => "failed_open",
    }
}
