//! Pods made at random, rich in what the Pod Security Standards look at: most of them break some rules and keep others.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of this file")]

use serde_json::{Map, Value, json};

/// A source of chance that gives the same for the same seed (xorshift64*).
pub struct Chance(u64);

impl Chance {
    /// From a seed; 0 counts as 1.
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next()).unwrap_or(usize::MAX) % n
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of these.
    pub fn of<'v, T>(&mut self, values: &'v [T]) -> &'v T {
        &values[self.below(values.len())]
    }
}

const PROFILES: [&str; 3] = ["RuntimeDefault", "Localhost", "Unconfined"];
const CAPABILITIES: [&str; 10] = [
    "NET_BIND_SERVICE",
    "CHOWN",
    "KILL",
    "NET_RAW",
    "SYS_ADMIN",
    "ALL",
    "net_raw",
    "CAP_CHOWN",
    "SETPCAP",
    "AUDIT_WRITE",
];
const SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_notsent_lowat",
    "net.ipv4.ping_group_range",
    "kernel.msgmax",
    "net.core.somaxconn",
    "net/ipv4/tcp_syncookies",
];
const VOLUMES: [&str; 17] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "persistentVolumeClaim",
    "projected",
    "secret",
    "hostPath",
    "nfs",
    "iscsi",
    "rbd",
    "gitRepo",
    "azureDisk",
    "flexVolume",
    "ephemeral",
    "scaleIO",
    "image",
];

/// A Pod of this name.
pub fn pod(name: &str, chance: &mut Chance) -> Value {
    let mut spec = json!({});
    let names = ["a", "b", "c", "d", "e", "f"];
    let mut named = names.into_iter();
    let mut list = |chance: &mut Chance, most: usize, least: usize| -> Vec<Value> {
        let count = least + chance.below(most);
        (0..count).filter_map(|_| named.next()).map(|name| container(name, chance)).collect()
    };
    spec["containers"] = list(chance, 3, 1).into();
    if chance.once_in(3) {
        spec["initContainers"] = list(chance, 2, 1).into();
    }
    if chance.once_in(6) {
        spec["ephemeralContainers"] = list(chance, 1, 1).into();
    }
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        if chance.once_in(8) {
            spec[field] = (!chance.once_in(4)).into();
        }
    }
    if chance.once_in(4) {
        spec["hostUsers"] = chance.once_in(3).into();
    }
    if chance.once_in(6) {
        spec["os"] = json!({"name": chance.of(&["windows", "linux"])});
    }
    if chance.once_in(2) {
        spec["volumes"] = (0..=chance.below(3)).map(|n| volume(n, chance)).collect();
    }
    if !chance.once_in(3) {
        let mut context = context(chance);
        if chance.once_in(4) {
            let sysctls = (0..=chance.below(3)).map(|_| json!({"name": chance.of(&SYSCTLS), "value": "1"}));
            context.insert("sysctls".into(), sysctls.collect());
        }
        spec["securityContext"] = context.into();
    }
    let mut metadata = json!({"name": name});
    if chance.once_in(4) {
        metadata["annotations"] = annotations(chance);
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

fn annotations(chance: &mut Chance) -> Value {
    let mut annotations = json!({"example.com/team": "shop"});
    let profiles = ["runtime/default", "docker/default", "localhost/x", "unconfined", ""];
    for key in [
        "seccomp.security.alpha.kubernetes.io/pod",
        "container.seccomp.security.alpha.kubernetes.io/a",
        "container.seccomp.security.alpha.kubernetes.io/z",
        "container.apparmor.security.beta.kubernetes.io/a",
        "container.apparmor.security.beta.kubernetes.io/b",
    ] {
        if chance.once_in(3) {
            annotations[key] = (*chance.of(&profiles)).into();
        }
    }
    annotations
}

fn volume(n: usize, chance: &mut Chance) -> Value {
    let kind = *chance.of(&VOLUMES);
    let source = match kind {
        "configMap" => json!({"name": "x"}),
        "csi" => json!({"driver": "d"}),
        "persistentVolumeClaim" => json!({"claimName": "c"}),
        "secret" => json!({"secretName": "s"}),
        "hostPath" => json!({"path": "/"}),
        "nfs" => json!({"server": "s", "path": "/"}),
        "iscsi" => json!({"targetPortal": "p", "iqn": "i", "lun": 0}),
        "rbd" => json!({"monitors": ["m"], "image": "i"}),
        "gitRepo" => json!({"repository": "r"}),
        "azureDisk" => json!({"diskName": "d", "diskURI": "u"}),
        "flexVolume" => json!({"driver": "d"}),
        "scaleIO" => json!({"gateway": "g", "system": "s", "secretRef": {"name": "s"}}),
        _ => json!({}),
    };
    json!({"name": format!("v{n}"), kind: source})
}

fn container(name: &str, chance: &mut Chance) -> Value {
    let mut container = json!({"name": name, "image": "app:1"});
    if chance.once_in(4) {
        let port = |chance: &mut Chance| {
            let mut port = json!({"containerPort": 80});
            if chance.once_in(2) {
                port["hostPort"] = (*chance.of(&[0, 80, 8080, 443])).into();
            }
            port
        };
        container["ports"] = (0..=chance.below(2)).map(|_| port(chance)).collect();
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if chance.once_in(10) {
            container[probe] = handler(chance);
        }
    }
    if chance.once_in(10) {
        container["lifecycle"] = json!({chance.of(&["postStart", "preStop"]).to_string(): handler(chance)});
    }
    if !chance.once_in(3) {
        let mut context = context(chance);
        if chance.once_in(5) {
            context.insert("privileged".into(), (!chance.once_in(3)).into());
        }
        if !chance.once_in(3) {
            context.insert("allowPrivilegeEscalation".into(), chance.once_in(5).into());
        }
        if chance.once_in(6) {
            context.insert("procMount".into(), (*chance.of(&["Default", "Unmasked"])).into());
        }
        if !chance.once_in(3) {
            context.insert("capabilities".into(), capabilities(chance));
        }
        container["securityContext"] = context.into();
    }
    container
}

fn capabilities(chance: &mut Chance) -> Value {
    let mut capabilities = json!({});
    if !chance.once_in(3) {
        capabilities["drop"] = json!([chance.of(&["ALL", "ALL", "ALL", "all", "NET_RAW"])]);
    }
    if chance.once_in(3) {
        capabilities["add"] = (0..=chance.below(2)).map(|_| *chance.of(&CAPABILITIES)).collect();
    }
    capabilities
}

fn handler(chance: &mut Chance) -> Value {
    let host = *chance.of(&["", "127.0.0.1", "example.com"]);
    let mut target = json!({"port": 80});
    if !host.is_empty() {
        target["host"] = host.into();
    }
    json!({chance.of(&["httpGet", "tcpSocket"]).to_string(): target})
}

/// What Pods and containers may set alike.
fn context(chance: &mut Chance) -> Map<String, Value> {
    let mut context = Map::new();
    let mut set = |name: &str, value: Value| context.insert(name.to_owned(), value);
    if !chance.once_in(3) {
        set("runAsNonRoot", (!chance.once_in(6)).into());
    }
    if chance.once_in(4) {
        set("runAsUser", (*chance.of(&[0, 1, 1000])).into());
    }
    if !chance.once_in(3) {
        let profile = *chance.of(&["RuntimeDefault", "RuntimeDefault", "Localhost", "Unconfined"]);
        set("seccompProfile", json!({"type": profile}));
    }
    if chance.once_in(6) {
        set("appArmorProfile", json!({"type": chance.of(&PROFILES)}));
    }
    if chance.once_in(6) {
        let mut options = json!({});
        for (name, values) in [
            ("type", ["", "container_t", "container_engine_t", "spc_t"]),
            ("user", ["", "", "", "u"]),
            ("role", ["", "", "", "r"]),
        ] {
            let value = *chance.of(&values);
            if !value.is_empty() {
                options[name] = value.into();
            }
        }
        set("seLinuxOptions", options);
    }
    if chance.once_in(8) {
        set("windowsOptions", json!({"hostProcess": !chance.once_in(3)}));
    }
    context
}
