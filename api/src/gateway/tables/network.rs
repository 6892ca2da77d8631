//! Cells of what is reached over the network.

use std::collections::BTreeSet;

use serde_json::Value;

use super::cells::{self, NONE, UNKNOWN, UNSET, View};

/// Addresses, hosts and ports that are shown of longer lists.
const MAX_SHOWN: usize = 3;

pub(super) fn external_ip(view: &View<'_>) -> String {
    let mut external: Vec<String> =
        view.list("/spec/externalIPs").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    match view.text("/spec/type") {
        "ClusterIP" | "NodePort" if external.is_empty() => NONE.to_owned(),
        "ClusterIP" | "NodePort" => external.join(","),
        "LoadBalancer" => {
            let mut all: Vec<String> = balancers(view).into_iter().collect();
            all.append(&mut external);
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        "ExternalName" => view.text("/spec/externalName").to_owned(),
        _ => UNKNOWN.to_owned(),
    }
}

fn balancers(view: &View<'_>) -> BTreeSet<String> {
    let addresses =
        view.each("/status/loadBalancer/ingress").map(|ingress| ingress.or("/ip", ingress.text("/hostname")));
    addresses.filter(|address| !address.is_empty()).map(str::to_owned).collect()
}

pub(super) fn ports(view: &View<'_>) -> String {
    let ports: Vec<String> = view
        .each("/spec/ports")
        .map(|port| match (port.int("/port"), port.int("/nodePort"), port.text("/protocol")) {
            (number, 0, protocol) => format!("{number}/{protocol}"),
            (number, node, protocol) => format!("{number}:{node}/{protocol}"),
        })
        .collect();
    if ports.is_empty() { NONE.to_owned() } else { ports.join(",") }
}

pub(super) fn endpoints(view: &View<'_>) -> String {
    if view.list("/subsets").is_empty() {
        return NONE.to_owned();
    }
    let mut all = Vec::new();
    for subset in view.each("/subsets") {
        let ips = || subset.each("/addresses").map(|address| address.text("/ip"));
        if subset.list("/ports").is_empty() {
            all.extend(ips().map(str::to_owned));
        }
        for port in subset.each("/ports") {
            all.extend(ips().map(|ip| {
                let port = port.int("/port");
                if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
            }));
        }
    }
    cells::first(all.into_iter(), MAX_SHOWN)
}

pub(super) fn slice_ports(view: &View<'_>) -> String {
    let ports = view.each("/ports").map(|port| match port.at("/port").as_i64() {
        Some(number) => number.to_string(),
        None => port.at("/name").as_str().unwrap_or("*").to_owned(),
    });
    or_unset(cells::first(ports, MAX_SHOWN))
}

pub(super) fn slice_endpoints(view: &View<'_>) -> String {
    let addresses = view
        .each("/endpoints")
        .flat_map(|endpoint| endpoint.list("/addresses"))
        .filter_map(Value::as_str)
        .map(str::to_owned);
    or_unset(cells::first(addresses, MAX_SHOWN))
}

fn or_unset(text: String) -> String {
    if text.is_empty() { UNSET.to_owned() } else { text }
}

pub(super) fn hosts(view: &View<'_>) -> String {
    let rules = view.list("/spec/rules").len();
    let named: Vec<&str> =
        view.each("/spec/rules").map(|rule| rule.text("/host")).filter(|host| !host.is_empty()).collect();
    let shown = named[..named.len().min(MAX_SHOWN)].join(",");
    match (shown.is_empty(), named.len() >= MAX_SHOWN && rules > MAX_SHOWN) {
        (true, _) => "*".to_owned(),
        (false, true) => format!("{shown} + {} more...", rules - MAX_SHOWN),
        (false, false) => shown,
    }
}

pub(super) fn addresses(view: &View<'_>) -> String {
    balancers(view).into_iter().collect::<Vec<_>>().join(",")
}

pub(super) fn ingress_ports(view: &View<'_>) -> String {
    if view.list("/spec/tls").is_empty() { "80" } else { "80, 443" }.to_owned()
}

pub(super) fn ingress_class_name(view: &View<'_>) -> String {
    let annotations = view.at("/metadata/annotations");
    let is_default = annotations["ingressclass.kubernetes.io/is-default-class"] == "true";
    format!("{}{}", view.text("/metadata/name"), if is_default { " (default)" } else { "" })
}

pub(super) fn ingress_parameters(view: &View<'_>) -> String {
    if !view.has("/spec/parameters") {
        return NONE.to_owned();
    }
    let (kind, name) = (view.text("/spec/parameters/kind"), view.text("/spec/parameters/name"));
    match view.at("/spec/parameters/apiGroup").as_str() {
        Some(group) => format!("{kind}.{group}/{name}"),
        None => format!("{kind}/{name}"),
    }
}

pub(super) fn pod_selector(view: &View<'_>) -> String {
    cells::selector_or_none(view.at("/spec/podSelector"))
}

pub(super) fn parent(view: &View<'_>) -> String {
    if !view.has("/spec/parentRef") {
        return NONE.to_owned();
    }
    let parent = View { object: view.at("/spec/parentRef"), now: view.now };
    let group = parent.text("/group").to_lowercase();
    let mut text = parent.text("/resource").to_lowercase();
    if !group.is_empty() {
        text += &format!(".{group}");
    }
    if !parent.text("/namespace").is_empty() {
        text += &format!("/{}", parent.text("/namespace"));
    }
    format!("{text}/{}", parent.text("/name"))
}

pub(super) fn cidrs(view: &View<'_>) -> String {
    view.texts("/spec/cidrs", "")
}
