//! Services.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{At, fault::Faults, names};
use crate::gateway::object::Object;

pub(super) const PORT_RANGE: &str = "must be between 1 and 65535, inclusive";

pub(super) fn check(spec: At<'_>, faults: &mut Faults) {
    let ty = spec.text("type");
    let ports = spec.list("ports");
    let is_headless = spec.text("clusterIP") == "None";
    if ports.is_empty() && !is_headless && ty != "ExternalName" {
        faults.required("spec.ports", "");
    }
    if ty == "ExternalName" && spec.text("externalName").is_empty() {
        faults.required("spec.externalName", "");
    }
    check_ports(ports, faults);
    names::labels("spec.selector", spec.get("selector").value, faults);
    faults.one_of("spec.sessionAffinity", spec.text("sessionAffinity"), &["ClientIP", "None"]);
    faults.one_of("spec.type", ty, &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
}

fn check_ports(ports: &[Value], faults: &mut Faults) {
    let mut taken = HashSet::new();
    let mut served = HashSet::new();
    for (n, value) in ports.iter().enumerate() {
        let (port, at) = (At::of(value), format!("spec.ports[{n}]"));
        let name = port.text("name");
        if name.is_empty() && ports.len() > 1 {
            faults.required(&format!("{at}.name"), "");
        } else if !name.is_empty() {
            for why in names::label(name) {
                faults.invalid_text(&format!("{at}.name"), name, &why);
            }
            if !taken.insert(name) {
                faults.duplicate(&format!("{at}.name"), &name.into());
            }
        }
        let number = port.int("port").unwrap_or_default();
        if !(1..=65_535).contains(&number) {
            faults.invalid(&format!("{at}.port"), &number.into(), PORT_RANGE);
        }
        faults.one_of(&format!("{at}.protocol"), port.text("protocol"), &["SCTP", "TCP", "UDP"]);
        target(&format!("{at}.targetPort"), port.get("targetPort").value, faults);
        if !served.insert((number, port.text("protocol"))) {
            let shown = json!({
                "Name": "", "Protocol": port.text("protocol"), "AppProtocol": null, "Port": number, "TargetPort": 0,
                "NodePort": 0,
            });
            faults.duplicate(&at, &shown);
        }
    }
}

/// A port's number or its name.
pub(super) fn target(field: &str, value: &Value, faults: &mut Faults) {
    match value {
        Value::Number(number) if !(1..=65_535).contains(&number.as_i64().unwrap_or_default()) => {
            faults.invalid(field, value, PORT_RANGE);
        }
        Value::String(name) => {
            for why in names::port(name) {
                faults.invalid_text(field, name, &why);
            }
        }
        _ => {}
    }
}

pub(super) fn unchanged(new: &Object, old: &Object, faults: &mut Faults) {
    let before = old.text_at("/spec/clusterIP");
    if !before.is_empty() && old.text_at("/spec/type") != "ExternalName" {
        let now = new.text_at("/spec/clusterIP");
        if !now.is_empty() && now != before {
            let why = "may not change once set";
            faults.invalid("spec.clusterIPs[0]", &json!([now]), why);
        }
    }
}
