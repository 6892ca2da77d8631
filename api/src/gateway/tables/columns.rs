//! The columns of each kind: names and types as kube-apiserver 1.36 has them, and where their cells come from.

use serde_json::{Value, json};

use super::{cells::View, cluster, network, pod, storage, workload};
use crate::gateway::resources::Resource;

/// One column.
#[derive(Debug)]
pub(super) struct Column {
    name: &'static str,
    ty: &'static str,
    is_name: bool,
    /// Shown with `-o wide` only.
    is_wide: bool,
    source: Source,
}

/// Where a cell comes from.
#[derive(Debug)]
enum Source {
    /// The text at a place.
    At(&'static str),
    /// The same, with a word where there is none.
    Or(&'static str, &'static str),
    /// The number at a place.
    Int(&'static str),
    /// The truth at a place, or else this.
    Flag(&'static str, bool),
    /// How many there are.
    Len(&'static str),
    /// Something that takes more.
    Text(fn(&View<'_>) -> String),
    /// The same, of any type.
    Made(fn(&View<'_>) -> Value),
}

impl Column {
    const fn new(name: &'static str, ty: &'static str, source: Source) -> Self {
        Self { name, ty, is_name: false, is_wide: false, source }
    }

    const fn wide(mut self) -> Self {
        self.is_wide = true;
        self
    }

    const fn name(mut self) -> Self {
        self.is_name = true;
        self
    }

    pub(super) fn definition(&self) -> Value {
        json!({
            "name": self.name,
            "type": self.ty,
            "format": if self.is_name { "name" } else { "" },
            "description": "",
            "priority": i32::from(self.is_wide),
        })
    }

    pub(super) fn cell(&self, view: &View<'_>) -> Value {
        match self.source {
            Source::At(pointer) => view.text(pointer).into(),
            Source::Or(pointer, nothing) => view.or(pointer, nothing).into(),
            Source::Int(pointer) => view.int(pointer).into(),
            Source::Flag(pointer, unsaid) => view.at(pointer).as_bool().unwrap_or(unsaid).into(),
            Source::Len(pointer) => view.len(pointer).into(),
            Source::Text(make) => make(view).into(),
            Source::Made(make) => make(view),
        }
    }
}

const fn at(name: &'static str, pointer: &'static str) -> Column {
    Column::new(name, "string", Source::At(pointer))
}

const fn or(name: &'static str, pointer: &'static str, nothing: &'static str) -> Column {
    Column::new(name, "string", Source::Or(pointer, nothing))
}

const fn int(name: &'static str, pointer: &'static str) -> Column {
    Column::new(name, "integer", Source::Int(pointer))
}

const fn flag(name: &'static str, pointer: &'static str, unsaid: bool) -> Column {
    Column::new(name, "boolean", Source::Flag(pointer, unsaid))
}

const fn len(name: &'static str, pointer: &'static str) -> Column {
    Column::new(name, "integer", Source::Len(pointer))
}

const fn text(name: &'static str, make: fn(&View<'_>) -> String) -> Column {
    Column::new(name, "string", Source::Text(make))
}

const fn made(name: &'static str, make: fn(&View<'_>) -> Value) -> Column {
    Column::new(name, "string", Source::Made(make))
}

/// A number in a column that says it holds texts, as upstream has some.
const fn number(name: &'static str, pointer: &'static str) -> Column {
    Column::new(name, "string", Source::Int(pointer))
}

const fn age() -> Column {
    text("Age", |view| view.age())
}

const fn named() -> Column {
    at("Name", "/metadata/name").name()
}

const fn containers(make: fn(&View<'_>) -> String) -> Column {
    text("Containers", make).wide()
}

const fn images(make: fn(&View<'_>) -> String) -> Column {
    text("Images", make).wide()
}

const fn selector(make: fn(&View<'_>) -> String) -> Column {
    text("Selector", make).wide()
}

static DEFAULT: &[Column] =
    &[named(), Column::new("Created At", "date", Source::At("/metadata/creationTimestamp"))];

static NAME_AND_AGE: &[Column] = &[named(), age()];

static PODS: &[Column] = &[
    named(),
    text("Ready", pod::ready),
    text("Status", pod::status),
    text("Restarts", pod::restarts),
    age(),
    or("IP", "/status/podIPs/0/ip", "<none>").wide(),
    or("Node", "/spec/nodeName", "<none>").wide(),
    or("Nominated Node", "/status/nominatedNodeName", "<none>").wide(),
    text("Readiness Gates", pod::readiness_gates).wide(),
];

static POD_TEMPLATES: &[Column] = &[
    named(),
    text("Containers", workload::template_containers),
    text("Images", workload::template_images),
    text("Pod Labels", workload::template_labels),
];

static REPLICATION_CONTROLLERS: &[Column] = &[
    named(),
    int("Desired", "/spec/replicas"),
    int("Current", "/status/replicas"),
    int("Ready", "/status/readyReplicas"),
    age(),
    containers(workload::containers),
    images(workload::images),
    selector(workload::plain_selector),
];

static REPLICA_SETS: &[Column] = &[
    named(),
    int("Desired", "/spec/replicas"),
    int("Current", "/status/replicas"),
    int("Ready", "/status/readyReplicas"),
    age(),
    containers(workload::containers),
    images(workload::images),
    selector(workload::selector_or_none),
];

static DAEMON_SETS: &[Column] = &[
    named(),
    int("Desired", "/status/desiredNumberScheduled"),
    int("Current", "/status/currentNumberScheduled"),
    int("Ready", "/status/numberReady"),
    int("Up-to-date", "/status/updatedNumberScheduled"),
    int("Available", "/status/numberAvailable"),
    text("Node Selector", workload::node_selector),
    age(),
    containers(workload::containers),
    images(workload::images),
    selector(workload::selector_or_none),
];

static DEPLOYMENTS: &[Column] = &[
    named(),
    text("Ready", workload::ready),
    number("Up-to-date", "/status/updatedReplicas"),
    number("Available", "/status/availableReplicas"),
    age(),
    containers(workload::containers),
    images(workload::images),
    selector(workload::selector),
];

static STATEFUL_SETS: &[Column] = &[
    named(),
    text("Ready", workload::ready),
    age(),
    containers(workload::containers),
    images(workload::images),
];

static CONTROLLER_REVISIONS: &[Column] =
    &[named(), text("Controller", workload::controller), number("Revision", "/revision"), age()];

static JOBS: &[Column] = &[
    named(),
    text("Status", workload::job_status),
    text("Completions", workload::completions),
    text("Duration", workload::duration),
    age(),
    containers(workload::containers),
    images(workload::images),
    selector(workload::selector_or_none),
];

static CRON_JOBS: &[Column] = &[
    named(),
    at("Schedule", "/spec/schedule"),
    or("Timezone", "/spec/timeZone", "<none>"),
    Column::new("Suspend", "boolean", Source::Text(workload::is_suspended)),
    len("Active", "/status/active"),
    text("Last Schedule", workload::last_schedule),
    age(),
    containers(workload::job_containers),
    images(workload::job_images),
    selector(workload::job_selector),
];

static AUTOSCALERS: &[Column] = &[
    named(),
    text("Reference", workload::scale_target),
    text("Targets", workload::metrics),
    text("MinPods", workload::min_pods),
    number("MaxPods", "/spec/maxReplicas"),
    number("Replicas", "/status/currentReplicas"),
    age(),
];

static DISRUPTION_BUDGETS: &[Column] = &[
    named(),
    text("Min Available", workload::min_available),
    text("Max Unavailable", workload::max_unavailable),
    int("Allowed Disruptions", "/status/disruptionsAllowed"),
    age(),
];

static SERVICES: &[Column] = &[
    named(),
    at("Type", "/spec/type"),
    or("Cluster-IP", "/spec/clusterIPs/0", "<none>"),
    text("External-IP", network::external_ip),
    text("Port(s)", network::ports),
    age(),
    selector(workload::plain_selector),
];

static ENDPOINTS: &[Column] = &[named(), text("Endpoints", network::endpoints), age()];

static ENDPOINT_SLICES: &[Column] = &[
    named(),
    at("AddressType", "/addressType"),
    text("Ports", network::slice_ports),
    text("Endpoints", network::slice_endpoints),
    age(),
];

static INGRESSES: &[Column] = &[
    named(),
    or("Class", "/spec/ingressClassName", "<none>"),
    text("Hosts", network::hosts),
    text("Address", network::addresses),
    text("Ports", network::ingress_ports),
    age(),
];

static INGRESS_CLASSES: &[Column] = &[
    text("Name", network::ingress_class_name).name(),
    at("Controller", "/spec/controller"),
    text("Parameters", network::ingress_parameters),
    age(),
];

static NETWORK_POLICIES: &[Column] = &[named(), text("Pod-Selector", network::pod_selector), age()];

static IP_ADDRESSES: &[Column] = &[named(), text("ParentRef", network::parent), age()];

static SERVICE_CIDRS: &[Column] = &[named(), text("CIDRs", network::cidrs), age()];

static CONFIG_MAPS: &[Column] = &[named(), made("Data", cluster::config_map_data), age()];

static SECRETS: &[Column] =
    &[named(), at("Type", "/type"), Column::new("Data", "string", Source::Len("/data")), age()];

static NAMESPACES: &[Column] = &[named(), at("Status", "/status/phase"), age()];

static NODES: &[Column] = &[
    named(),
    text("Status", cluster::node_status),
    text("Roles", cluster::node_roles),
    age(),
    at("Version", "/status/nodeInfo/kubeletVersion"),
    text("Internal-IP", cluster::internal_ip).wide(),
    text("External-IP", cluster::external_ip).wide(),
    or("OS-Image", "/status/nodeInfo/osImage", "<unknown>").wide(),
    text("Kernel-Version", cluster::kernel).wide(),
    or("Container-Runtime", "/status/nodeInfo/containerRuntimeVersion", "<unknown>").wide(),
];

static EVENTS: &[Column] = &[
    text("Last Seen", cluster::last_seen),
    at("Type", "/type"),
    at("Reason", "/reason"),
    text("Object", cluster::involved),
    at("Subobject", "/involvedObject/fieldPath").wide(),
    text("Source", cluster::event_source).wide(),
    text("Message", cluster::message),
    text("First Seen", cluster::first_seen).wide(),
    Column::new("Count", "string", Source::Made(cluster::count)).wide(),
    named().wide(),
];

static RESOURCE_QUOTAS: &[Column] =
    &[named(), text("Request", cluster::quota_requests), text("Limit", cluster::quota_limits), age()];

static BINDINGS: &[Column] = &[
    named(),
    text("Role", cluster::role),
    age(),
    text("Users", cluster::users).wide(),
    text("Groups", cluster::groups).wide(),
    text("ServiceAccounts", cluster::accounts).wide(),
];

static SIGNING_REQUESTS: &[Column] = &[
    named(),
    age(),
    or("SignerName", "/spec/signerName", "<none>"),
    at("Requestor", "/spec/username"),
    text("RequestedDuration", cluster::requested_duration),
    text("Condition", cluster::signing_condition),
];

static API_SERVICES: &[Column] =
    &[named(), text("Service", cluster::api_service), text("Available", cluster::available), age()];

static LEASES: &[Column] = &[named(), at("Holder", "/spec/holderIdentity"), age()];

static PRIORITY_CLASSES: &[Column] = &[
    named(),
    int("Value", "/value"),
    flag("Global-Default", "/globalDefault", false),
    age(),
    at("PreemptionPolicy", "/preemptionPolicy"),
];

static RUNTIME_CLASSES: &[Column] = &[named(), at("Handler", "/handler"), age()];

static FLOW_SCHEMAS: &[Column] = &[
    named(),
    at("PriorityLevel", "/spec/priorityLevelConfiguration/name"),
    number("MatchingPrecedence", "/spec/matchingPrecedence"),
    or("DistinguisherMethod", "/spec/distinguisherMethod/type", "<none>"),
    age(),
    text("MissingPL", cluster::missing_level),
];

static PRIORITY_LEVELS: &[Column] = &[
    named(),
    at("Type", "/spec/type"),
    made("NominalConcurrencyShares", cluster::shares),
    made("Queues", cluster::queues),
    made("HandSize", cluster::hand_size),
    made("QueueLengthLimit", cluster::queue_length),
    age(),
];

static WEBHOOKS: &[Column] = &[named(), len("Webhooks", "/webhooks"), age()];

static VALIDATING_POLICIES: &[Column] =
    &[named(), len("Validations", "/spec/validations"), text("ParamKind", cluster::param_kind), age()];

static MUTATING_POLICIES: &[Column] =
    &[named(), len("Mutations", "/spec/mutations"), text("ParamKind", cluster::param_kind), age()];

static POLICY_BINDINGS: &[Column] =
    &[named(), at("PolicyName", "/spec/policyName"), text("ParamRef", cluster::param_ref), age()];

static VOLUMES: &[Column] = &[
    named(),
    text("Capacity", storage::capacity),
    text("Access Modes", storage::access_modes),
    at("Reclaim Policy", "/spec/persistentVolumeReclaimPolicy"),
    text("Status", storage::phase),
    text("Claim", storage::claim),
    text("StorageClass", storage::class),
    or("VolumeAttributesClass", "/spec/volumeAttributesClassName", "<unset>"),
    at("Reason", "/status/reason"),
    age(),
    or("VolumeMode", "/spec/volumeMode", "<unset>").wide(),
];

static CLAIMS: &[Column] = &[
    named(),
    text("Status", storage::phase),
    at("Volume", "/spec/volumeName"),
    text("Capacity", storage::bound_capacity),
    text("Access Modes", storage::bound_access_modes),
    text("StorageClass", storage::class),
    or("VolumeAttributesClass", "/spec/volumeAttributesClassName", "<unset>"),
    age(),
    or("VolumeMode", "/spec/volumeMode", "<unset>").wide(),
];

static STORAGE_CLASSES: &[Column] = &[
    text("Name", storage::class_name).name(),
    at("Provisioner", "/provisioner"),
    or("ReclaimPolicy", "/reclaimPolicy", "Delete"),
    or("VolumeBindingMode", "/volumeBindingMode", "Immediate"),
    Column::new("AllowVolumeExpansion", "string", Source::Flag("/allowVolumeExpansion", false)),
    age(),
];

static DRIVERS: &[Column] = &[
    named(),
    flag("AttachRequired", "/spec/attachRequired", true),
    flag("PodInfoOnMount", "/spec/podInfoOnMount", false),
    flag("StorageCapacity", "/spec/storageCapacity", false),
    text("TokenRequests", storage::token_requests),
    flag("RequiresRepublish", "/spec/requiresRepublish", false),
    text("Modes", storage::modes),
    age(),
];

static DRIVER_NODES: &[Column] = &[named(), len("Drivers", "/spec/drivers"), age()];

static ATTACHMENTS: &[Column] = &[
    named(),
    at("Attacher", "/spec/attacher").name(),
    at("PV", "/spec/source/persistentVolumeName"),
    at("Node", "/spec/nodeName"),
    flag("Attached", "/status/attached", false),
    age(),
];

static ATTRIBUTES_CLASSES: &[Column] = &[named(), at("DriverName", "/driverName"), age()];

static RESOURCE_CLAIMS: &[Column] = &[named(), text("State", storage::claim_state), age()];

static RESOURCE_SLICES: &[Column] = &[
    named(),
    at("Node", "/spec/nodeName"),
    at("Driver", "/spec/driver"),
    at("Pool", "/spec/pool/name"),
    age(),
];

/// The columns of what is asked for as `scale`.
pub(super) static SCALES: &[Column] =
    &[named(), int("Desired", "/spec/replicas"), int("Available", "/status/replicas"), age()];

/// The columns of a resource's objects.
pub(super) fn of(resource: &Resource) -> &'static [Column] {
    match (resource.group, resource.plural) {
        ("", "pods") => PODS,
        ("", "podtemplates") => POD_TEMPLATES,
        ("", "replicationcontrollers") => REPLICATION_CONTROLLERS,
        ("", "services") => SERVICES,
        ("", "endpoints") => ENDPOINTS,
        ("", "configmaps") => CONFIG_MAPS,
        ("", "secrets") => SECRETS,
        ("", "namespaces") => NAMESPACES,
        ("", "nodes") => NODES,
        ("" | "events.k8s.io", "events") => EVENTS,
        ("", "resourcequotas") => RESOURCE_QUOTAS,
        ("", "persistentvolumes") => VOLUMES,
        ("", "persistentvolumeclaims") => CLAIMS,
        ("", "serviceaccounts") => NAME_AND_AGE,
        ("apiregistration.k8s.io", "apiservices") => API_SERVICES,
        ("apps", "controllerrevisions") => CONTROLLER_REVISIONS,
        ("apps", "daemonsets") => DAEMON_SETS,
        ("apps", "deployments") => DEPLOYMENTS,
        ("apps", "replicasets") => REPLICA_SETS,
        ("apps", "statefulsets") => STATEFUL_SETS,
        ("autoscaling", "horizontalpodautoscalers") => AUTOSCALERS,
        ("batch", "cronjobs") => CRON_JOBS,
        ("batch", "jobs") => JOBS,
        ("certificates.k8s.io", "certificatesigningrequests") => SIGNING_REQUESTS,
        ("networking.k8s.io", "ingressclasses") => INGRESS_CLASSES,
        ("networking.k8s.io", "ingresses") => INGRESSES,
        ("networking.k8s.io", "ipaddresses") => IP_ADDRESSES,
        ("networking.k8s.io", "networkpolicies") => NETWORK_POLICIES,
        ("networking.k8s.io", "servicecidrs") => SERVICE_CIDRS,
        ("policy", "poddisruptionbudgets") => DISRUPTION_BUDGETS,
        ("rbac.authorization.k8s.io", "clusterrolebindings" | "rolebindings") => BINDINGS,
        ("storage.k8s.io", "csidrivers") => DRIVERS,
        ("storage.k8s.io", "csinodes") => DRIVER_NODES,
        ("storage.k8s.io", "storageclasses") => STORAGE_CLASSES,
        ("storage.k8s.io", "volumeattachments") => ATTACHMENTS,
        ("storage.k8s.io", "volumeattributesclasses") => ATTRIBUTES_CLASSES,
        (
            "admissionregistration.k8s.io",
            "mutatingwebhookconfigurations" | "validatingwebhookconfigurations",
        ) => WEBHOOKS,
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => VALIDATING_POLICIES,
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies") => MUTATING_POLICIES,
        (
            "admissionregistration.k8s.io",
            "validatingadmissionpolicybindings" | "mutatingadmissionpolicybindings",
        ) => POLICY_BINDINGS,
        ("scheduling.k8s.io", "priorityclasses") => PRIORITY_CLASSES,
        ("coordination.k8s.io", "leases") => LEASES,
        ("node.k8s.io", "runtimeclasses") => RUNTIME_CLASSES,
        ("discovery.k8s.io", "endpointslices") => ENDPOINT_SLICES,
        ("resource.k8s.io", "deviceclasses" | "resourceclaimtemplates") => NAME_AND_AGE,
        ("resource.k8s.io", "resourceclaims") => RESOURCE_CLAIMS,
        ("resource.k8s.io", "resourceslices") => RESOURCE_SLICES,
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => FLOW_SCHEMAS,
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => PRIORITY_LEVELS,
        _ => DEFAULT,
    }
}
