//! The fields of a Pod that controllers look at, borrowed from the object; all other fields stay where they are.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Deserialize;
use serde_json::Value;

mod defaults;
pub(crate) mod resources;
mod security;
mod template;
mod volume;

pub use defaults::fill_defaults;
pub use security::{Capabilities, Profile, SeLinux, SecurityContext, Sysctl, Windows};
pub use template::{pod_template, takes_template};
pub use volume::Volume;

/// A field that may be absent or null, which is the same.
type Field<T> = Option<T>;

/// A Pod, or the template of one.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Pod<'a> {
    /// Its metadata.
    #[serde(borrow, default)]
    pub metadata: Field<Metadata<'a>>,
    /// Its specification.
    #[serde(borrow, default)]
    pub spec: Field<PodSpec<'a>>,
}

/// Metadata of a Pod.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Metadata<'a> {
    /// The annotations; a null value is an empty one.
    #[serde(borrow, default)]
    pub annotations: Field<BTreeMap<Cow<'a, str>, Field<Cow<'a, str>>>>,
}

/// Specification of a Pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSpec<'a> {
    #[serde(borrow, default)]
    init_containers: Field<Vec<Container<'a>>>,
    #[serde(borrow, default)]
    containers: Field<Vec<Container<'a>>>,
    #[serde(borrow, default)]
    ephemeral_containers: Field<Vec<Container<'a>>>,
    #[serde(borrow, default)]
    volumes: Field<Vec<Volume<'a>>>,
    /// Shares the node's network.
    #[serde(default)]
    pub host_network: Field<bool>,
    /// Shares the node's processes.
    #[serde(rename = "hostPID", default)]
    pub host_pid: Field<bool>,
    /// Shares the node's IPC.
    #[serde(rename = "hostIPC", default)]
    pub host_ipc: Field<bool>,
    /// Shares the node's users, unless false.
    #[serde(default)]
    pub host_users: Field<bool>,
    /// The settings for all containers.
    #[serde(borrow, default)]
    pub security_context: Field<SecurityContext<'a>>,
    #[serde(borrow, default)]
    os: Field<Os<'a>>,
    /// The runtime class.
    #[serde(borrow, default)]
    pub runtime_class_name: Field<&'a str>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Os<'a> {
    #[serde(borrow, default)]
    name: Field<&'a str>,
}

/// A container of any sort.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container<'a> {
    #[serde(borrow, default)]
    name: Field<&'a str>,
    #[serde(borrow, default)]
    image: Field<&'a str>,
    /// The container's own settings.
    #[serde(borrow, default)]
    pub security_context: Field<SecurityContext<'a>>,
    #[serde(default)]
    ports: Field<Vec<Port>>,
    #[serde(borrow, default)]
    liveness_probe: Field<Handler<'a>>,
    #[serde(borrow, default)]
    readiness_probe: Field<Handler<'a>>,
    #[serde(borrow, default)]
    startup_probe: Field<Handler<'a>>,
    #[serde(borrow, default)]
    lifecycle: Field<Lifecycle<'a>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    #[serde(default)]
    host_port: Field<i32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lifecycle<'a> {
    #[serde(borrow, default)]
    post_start: Field<Handler<'a>>,
    #[serde(borrow, default)]
    pre_stop: Field<Handler<'a>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Handler<'a> {
    #[serde(borrow, default)]
    http_get: Field<Target<'a>>,
    #[serde(borrow, default)]
    tcp_socket: Field<Target<'a>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Target<'a> {
    #[serde(borrow, default)]
    host: Field<&'a str>,
}

/// The object is no Pod, or none whose template is one.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the object as a pod: {0}")]
pub struct NotAPod(#[from] serde_json::Error);

impl<'a> Pod<'a> {
    /// Looks at an object as a Pod.
    ///
    /// # Errors
    /// When a field that is looked at has another type than a Pod's.
    pub fn of(object: &'a Value) -> Result<Self, NotAPod> {
        Ok(Self::deserialize(object)?)
    }

    /// The security contexts of the Pod and of its containers, where they have one.
    pub fn contexts(&self) -> impl Iterator<Item = &SecurityContext<'a>> {
        self.spec.iter().flat_map(|spec| {
            let containers = spec.all_containers().map(|container| &container.security_context);
            std::iter::once(&spec.security_context).chain(containers).flatten()
        })
    }

    /// An annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        let value = self.metadata.as_ref()?.annotations.as_ref()?.get(key)?;
        Some(value.as_deref().unwrap_or_default())
    }

    /// All annotations by key.
    pub fn annotations(&self) -> impl Iterator<Item = (&str, &str)> {
        let annotations = self.metadata.iter().filter_map(|metadata| metadata.annotations.as_ref());
        annotations.flatten().map(|(key, value)| (key.as_ref(), value.as_deref().unwrap_or_default()))
    }
}

impl<'a> PodSpec<'a> {
    /// Every container: those that initialize, the usual ones, and those for debugging.
    pub fn all_containers(&self) -> impl Iterator<Item = &Container<'a>> {
        self.init_containers().iter().chain(self.containers()).chain(self.ephemeral_containers())
    }

    /// The containers that run before the others.
    pub fn init_containers(&self) -> &[Container<'a>] {
        self.init_containers.as_deref().unwrap_or_default()
    }

    /// The usual containers.
    pub fn containers(&self) -> &[Container<'a>] {
        self.containers.as_deref().unwrap_or_default()
    }

    /// The containers that were added to a running Pod.
    pub fn ephemeral_containers(&self) -> &[Container<'a>] {
        self.ephemeral_containers.as_deref().unwrap_or_default()
    }

    /// The volumes.
    pub fn volumes(&self) -> &[Volume<'a>] {
        self.volumes.as_deref().unwrap_or_default()
    }

    /// Whether the Pod says that it is for Windows.
    pub fn is_windows(&self) -> bool {
        self.os.as_ref().is_some_and(|os| os.name == Some("windows"))
    }

    /// Whether the Pod has users of its own.
    pub fn has_own_users(&self) -> bool {
        self.host_users == Some(false)
    }
}

impl<'a> Container<'a> {
    /// The name.
    pub fn name(&self) -> &'a str {
        self.name.unwrap_or_default()
    }

    /// The image.
    pub fn image(&self) -> &'a str {
        self.image.unwrap_or_default()
    }

    /// The ports of the node that are taken.
    pub fn host_ports(&self) -> impl Iterator<Item = i32> {
        self.ports.iter().flatten().filter_map(|port| port.host_port).filter(|port| *port != 0)
    }

    /// The hosts that probes and lifecycle handlers turn to, where one is named.
    pub fn probed_hosts(&self) -> impl Iterator<Item = &'a str> {
        let lifecycle =
            self.lifecycle.iter().flat_map(|lifecycle| [&lifecycle.post_start, &lifecycle.pre_stop]);
        let probes = [&self.liveness_probe, &self.readiness_probe, &self.startup_probe];
        let handlers = probes.into_iter().chain(lifecycle).flatten();
        let targets = handlers.flat_map(|handler| [&handler.http_get, &handler.tcp_socket]).flatten();
        targets.filter_map(|target| target.host).filter(|host| !host.is_empty())
    }
}
