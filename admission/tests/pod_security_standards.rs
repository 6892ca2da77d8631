//! Each of the 19 checks beside an independent statement of it, written from the text of the Pod Security Standards and
//! looking at the plain JSON: the same Pods break the same rules, at every level of every version.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "../../tests/support/pods.rs"]
mod pods;

use std::cell::RefCell;

use admission::{
    pod::Pod,
    pod_security::{Level, LevelVersion, Version, evaluate},
};
use pods::Chance;
use proptest::{
    prelude::{Strategy, any},
    test_runner::{Config, TestRunner},
};
use serde_json::Value;

/// The newest version of the standards.
const NEWEST: u32 = 37;

/// Where a rule stands: which levels and versions demand it, and which Pods break it.
struct Rule {
    /// How the violation begins to be told.
    says: &'static str,
    demanded: fn(Asked) -> bool,
    broken: fn(Asked, &Value) -> bool,
}

/// What a Pod is held to.
#[derive(Clone, Copy, Debug)]
struct Asked {
    is_restricted: bool,
    minor: u32,
}

impl Asked {
    fn baseline(self, since: u32) -> bool {
        !self.is_restricted && self.minor >= since
    }

    fn restricted(self, since: u32) -> bool {
        self.is_restricted && self.minor >= since
    }
}

const fn rule(says: &'static str, demanded: fn(Asked) -> bool, broken: fn(Asked, &Value) -> bool) -> Rule {
    Rule { says, demanded, broken }
}

const RULES: [Rule; 19] = [
    rule(
        "forbidden AppArmor profile",
        |_| true,
        |_, pod| {
            let by_field = contexts(pod).any(|context| {
                let kind = &context["appArmorProfile"]["type"];
                !kind.is_null() && kind != "RuntimeDefault" && kind != "Localhost"
            });
            by_field
                || annotations(pod).any(|(key, value)| {
                    key.starts_with("container.apparmor.security.beta.kubernetes.io/")
                        && !(value.is_empty()
                            || value == "runtime/default"
                            || value.starts_with("localhost/"))
                })
        },
    ),
    rule(
        "non-default capabilities",
        |asked| !asked.restricted(22),
        |_, pod| {
            const DEFAULT: &str = "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE SETFCAP SETGID \
                               SETPCAP SETUID SYS_CHROOT";
            capabilities(pod, "add").any(|added| !DEFAULT.split(' ').any(|known| known == added))
        },
    ),
    rule(
        "host namespaces",
        |_| true,
        |_, pod| ["hostNetwork", "hostPID", "hostIPC"].iter().any(|field| pod["spec"][field] == true),
    ),
    rule(
        "hostPath volumes",
        |asked| asked.baseline(0),
        |_, pod| each(&pod["spec"]["volumes"]).any(|volume| !volume["hostPath"].is_null()),
    ),
    rule(
        "hostPort",
        |_| true,
        |_, pod| {
            let mut ports = containers(pod).flat_map(|container| each(&container["ports"]));
            ports.any(|port| port["hostPort"].as_i64().unwrap_or(0) != 0)
        },
    ),
    rule(
        "probe or lifecycle host",
        |asked| asked.minor >= 34,
        |_, pod| {
            const HANDLERS: [&str; 5] = [
                "/livenessProbe",
                "/readinessProbe",
                "/startupProbe",
                "/lifecycle/postStart",
                "/lifecycle/preStop",
            ];
            containers(pod).any(|container| {
                let handlers = HANDLERS.iter().filter_map(|pointer| container.pointer(pointer));
                let mut hosts = handlers.flat_map(|h| [&h["httpGet"]["host"], &h["tcpSocket"]["host"]]);
                hosts.any(|host| host.as_str().is_some_and(|host| !host.is_empty()))
            })
        },
    ),
    rule(
        "privileged",
        |_| true,
        |_, pod| containers(pod).any(|container| container["securityContext"]["privileged"] == true),
    ),
    rule(
        "procMount",
        |asked| !asked.restricted(35),
        |asked, pod| masks_differently(pod) && !(asked.minor >= 35 && has_own_users(pod)),
    ),
    rule(
        "seLinuxOptions",
        |_| true,
        |asked, pod| {
            contexts(pod).any(|context| {
                let set = |field: &str| context["seLinuxOptions"][field].as_str().unwrap_or_default();
                let is_known = match set("type") {
                    "" | "container_t" | "container_init_t" | "container_kvm_t" => true,
                    "container_engine_t" => asked.minor >= 31,
                    _ => false,
                };
                !is_known || !set("user").is_empty() || !set("role").is_empty()
            })
        },
    ),
    // From 1.19 on restricted has a rule of its own about seccomp.
    rule(
        "seccompProfile",
        |asked| asked.minor < 19 || !asked.is_restricted,
        |asked, pod| {
            if asked.minor >= 19 {
                return contexts(pod).any(sets_other_seccomp);
            }
            let is_about = |key: &str| {
                let container = key.strip_prefix("container.seccomp.security.alpha.kubernetes.io/");
                key == "seccomp.security.alpha.kubernetes.io/pod"
                    || container
                        .is_some_and(|name| containers(pod).any(|container| container["name"] == name))
            };
            annotations(pod).any(|(key, value)| {
                is_about(key)
                    && !(value == "runtime/default"
                        || value == "docker/default"
                        || value.starts_with("localhost/"))
            })
        },
    ),
    rule(
        "forbidden sysctls",
        |_| true,
        |asked, pod| {
            let since = |name: &str| match name.strip_prefix("net.ipv4.").unwrap_or(name) {
                "kernel.shm_rmid_forced" => Some(0),
                _ if !name.starts_with("net.ipv4.") => None,
                "ip_local_port_range"
                | "tcp_syncookies"
                | "ping_group_range"
                | "ip_unprivileged_port_start" => Some(0),
                "ip_local_reserved_ports" => Some(27),
                "tcp_keepalive_time" | "tcp_fin_timeout" | "tcp_keepalive_intvl" | "tcp_keepalive_probes" => {
                    Some(29)
                }
                "tcp_rmem" | "tcp_wmem" => Some(32),
                "tcp_slow_start_after_idle" | "tcp_notsent_lowat" => Some(37),
                _ => None,
            };
            each(&pod["spec"]["securityContext"]["sysctls"]).any(|sysctl| {
                since(sysctl["name"].as_str().unwrap_or_default()).is_none_or(|minor| asked.minor < minor)
            })
        },
    ),
    rule(
        "hostProcess",
        |_| true,
        |_, pod| contexts(pod).any(|context| context["windowsOptions"]["hostProcess"] == true),
    ),
    rule(
        "allowPrivilegeEscalation != false",
        |asked| asked.restricted(8),
        |asked, pod| {
            !(asked.minor >= 25 && is_windows(pod))
                && containers(pod)
                    .any(|container| container["securityContext"]["allowPrivilegeEscalation"] != false)
        },
    ),
    rule(
        "unrestricted capabilities",
        |asked| asked.restricted(22),
        |asked, pod| {
            let drops_all = |container: &Value| {
                each(&container["securityContext"]["capabilities"]["drop"]).any(|dropped| dropped == "ALL")
            };
            !(asked.minor >= 25 && is_windows(pod))
                && (!containers(pod).all(drops_all)
                    || capabilities(pod, "add").any(|added| added != "NET_BIND_SERVICE"))
        },
    ),
    rule("procMount", |asked| asked.restricted(35), |_, pod| masks_differently(pod)),
    rule(
        "restricted volume types",
        |asked| asked.is_restricted,
        |_, pod| {
            const ALLOWED: [&str; 9] = [
                "configMap",
                "csi",
                "downwardAPI",
                "emptyDir",
                "ephemeral",
                "image",
                "persistentVolumeClaim",
                "projected",
                "secret",
            ];
            each(&pod["spec"]["volumes"]).any(|volume| ALLOWED.iter().all(|source| volume[source].is_null()))
        },
    ),
    rule(
        "runAsNonRoot != true",
        |asked| asked.is_restricted,
        |asked, pod| {
            let of_pod = &pod["spec"]["securityContext"]["runAsNonRoot"];
            let of = |container: &Value| container["securityContext"]["runAsNonRoot"].as_bool();
            !(asked.minor >= 35 && has_own_users(pod))
                && (of_pod == false
                    || containers(pod).any(|container| !of(container).unwrap_or(of_pod == true)))
        },
    ),
    rule(
        "runAsUser=0",
        |asked| asked.restricted(23),
        |asked, pod| {
            !(asked.minor >= 35 && has_own_users(pod))
                && contexts(pod).any(|context| context["runAsUser"] == 0)
        },
    ),
    rule(
        "seccompProfile",
        |asked| asked.restricted(19),
        |asked, pod| {
            let is_set = |context: &Value| !context["seccompProfile"]["type"].is_null();
            let of_pod = is_set(&pod["spec"]["securityContext"]);
            !(asked.minor >= 25 && is_windows(pod))
                && (contexts(pod).any(sets_other_seccomp)
                    || containers(pod).any(|container| !of_pod && !is_set(&container["securityContext"])))
        },
    ),
];

fn each(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Every container, of whatever sort.
fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|sort| each(&pod["spec"][sort]))
}

/// The Pod's own settings and those of every container.
fn contexts(pod: &Value) -> impl Iterator<Item = &Value> {
    let of_containers = containers(pod).map(|container| &container["securityContext"]);
    std::iter::once(&pod["spec"]["securityContext"]).chain(of_containers)
}

fn capabilities<'p>(pod: &'p Value, list: &'p str) -> impl Iterator<Item = &'p str> {
    let lists = containers(pod).flat_map(move |c| each(&c["securityContext"]["capabilities"][list]));
    lists.filter_map(Value::as_str)
}

fn annotations(pod: &Value) -> impl Iterator<Item = (&str, &str)> {
    let all = pod["metadata"]["annotations"].as_object().into_iter().flatten();
    all.map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
}

fn sets_other_seccomp(context: &Value) -> bool {
    let kind = &context["seccompProfile"]["type"];
    !kind.is_null() && kind != "RuntimeDefault" && kind != "Localhost"
}

fn masks_differently(pod: &Value) -> bool {
    containers(pod).any(|container| {
        let mount = &container["securityContext"]["procMount"];
        !mount.is_null() && mount != "Default"
    })
}

/// Users of the Pod are nobody on the node.
fn has_own_users(pod: &Value) -> bool {
    pod["spec"]["hostUsers"] == false
}

fn is_windows(pod: &Value) -> bool {
    pod["spec"]["os"]["name"] == "windows"
}

#[test]
fn every_check_refuses_what_its_statement_says_and_nothing_else() {
    let asked = (0..=NEWEST, any::<bool>()).prop_map(|(minor, is_restricted)| Asked { is_restricted, minor });
    // How often each rule was broken and kept where it was demanded: one that never is either says nothing.
    let seen = RefCell::new([[0_u32; 2]; RULES.len()]);
    // The rarest case, a rule of few versions that is broken, comes about five hundred times.
    let mut runner =
        TestRunner::new(Config { cases: 100_000, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&(any::<u64>(), asked), |(seed, asked)| {
        let value = pods::pod("p", &mut Chance::new(seed));
        let mut expected = Vec::new();
        for (rule, seen) in RULES.iter().zip(seen.borrow_mut().iter_mut()) {
            if (rule.demanded)(asked) {
                let is_broken = (rule.broken)(asked, &value);
                seen[usize::from(is_broken)] += 1;
                expected.extend(is_broken.then_some(rule.says));
            }
        }
        let level = if asked.is_restricted { Level::Restricted } else { Level::Baseline };
        let held = LevelVersion::new(level, Version::V1(asked.minor));
        let told = evaluate(held, &Pod::of(&value).unwrap()).violations;
        let told: Vec<&str> = told.iter().map(|violation| violation.reason.as_str()).collect();
        assert!(
            told.len() == expected.len()
                && told.iter().zip(&expected).all(|(told, says)| told.starts_with(says)),
            "{asked:?}: {told:?}, not {expected:?}: {value}"
        );
        Ok(())
    });
    outcome.unwrap();
    for (rule, [kept, broken]) in RULES.iter().zip(seen.into_inner()) {
        assert!(kept > 100 && broken > 100, "{}: kept {kept} times, broken {broken} times", rule.says);
    }
}
