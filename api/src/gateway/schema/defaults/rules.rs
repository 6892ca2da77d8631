//! The defaults of every type: members with a fixed value, and rules for those that depend on others.

use super::{Rule, apps, core};

/// Members that take this JSON where they are unset, by type.
type Members = &'static [(&'static str, &'static str)];

pub(super) const MEMBERS: &[(&str, Members)] = &[
    (
        "core/v1.PodSpec",
        &[
            ("dnsPolicy", r#""ClusterFirst""#),
            ("restartPolicy", r#""Always""#),
            ("securityContext", "{}"),
            ("terminationGracePeriodSeconds", "30"),
            ("schedulerName", r#""default-scheduler""#),
        ],
    ),
    ("core/v1.Container", CONTAINER),
    ("core/v1.EphemeralContainer", CONTAINER),
    ("core/v1.ContainerPort", &[("protocol", r#""TCP""#)]),
    (
        "core/v1.Probe",
        &[
            ("timeoutSeconds", "1"),
            ("periodSeconds", "10"),
            ("successThreshold", "1"),
            ("failureThreshold", "3"),
        ],
    ),
    ("core/v1.GRPCAction", &[("service", r#""""#)]),
    ("core/v1.HTTPGetAction", &[("path", r#""/""#), ("scheme", r#""HTTP""#)]),
    ("core/v1.SecretVolumeSource", &[("defaultMode", "420")]),
    ("core/v1.ConfigMapVolumeSource", &[("defaultMode", "420")]),
    ("core/v1.DownwardAPIVolumeSource", &[("defaultMode", "420")]),
    ("core/v1.ProjectedVolumeSource", &[("defaultMode", "420")]),
    ("core/v1.ServiceAccountTokenProjection", &[("expirationSeconds", "3600")]),
    ("core/v1.HostPathVolumeSource", &[("type", r#""""#)]),
    ("core/v1.ISCSIVolumeSource", &[("iscsiInterface", r#""default""#)]),
    ("core/v1.ISCSIPersistentVolumeSource", &[("iscsiInterface", r#""default""#)]),
    ("core/v1.RBDVolumeSource", RBD),
    ("core/v1.RBDPersistentVolumeSource", RBD),
    (
        "core/v1.AzureDiskVolumeSource",
        &[
            ("cachingMode", r#""ReadWrite""#),
            ("fsType", r#""ext4""#),
            ("readOnly", "false"),
            ("kind", r#""Shared""#),
        ],
    ),
    ("core/v1.ScaleIOVolumeSource", SCALE_IO),
    ("core/v1.ScaleIOPersistentVolumeSource", SCALE_IO),
    ("core/v1.ObjectFieldSelector", &[("apiVersion", r#""v1""#)]),
    ("core/v1.FileKeySelector", &[("optional", "false")]),
    ("core/v1.EndpointPort", &[("protocol", r#""TCP""#)]),
    ("core/v1.ServicePort", &[("protocol", r#""TCP""#)]),
    ("core/v1.Secret", &[("type", r#""Opaque""#)]),
    (
        "core/v1.PersistentVolumeSpec",
        &[("persistentVolumeReclaimPolicy", r#""Retain""#), ("volumeMode", r#""Filesystem""#)],
    ),
    ("core/v1.PersistentVolumeStatus", &[("phase", r#""Pending""#)]),
    ("core/v1.PersistentVolumeClaimSpec", &[("volumeMode", r#""Filesystem""#)]),
    ("core/v1.PersistentVolumeClaimStatus", &[("phase", r#""Pending""#)]),
    ("core/v1.NamespaceStatus", &[("phase", r#""Active""#)]),
    ("core/v1.ReplicationControllerSpec", &[("replicas", "1")]),
    ("core/v1.PodLogOptions", &[("stream", r#""All""#)]),
    (
        "apps/v1.DeploymentSpec",
        &[("replicas", "1"), ("revisionHistoryLimit", "10"), ("progressDeadlineSeconds", "600")],
    ),
    ("apps/v1.DaemonSetSpec", &[("revisionHistoryLimit", "10")]),
    (
        "apps/v1.StatefulSetSpec",
        &[("podManagementPolicy", r#""OrderedReady""#), ("replicas", "1"), ("revisionHistoryLimit", "10")],
    ),
    ("apps/v1.ReplicaSetSpec", &[("replicas", "1")]),
    (
        "batch/v1.CronJobSpec",
        &[
            ("concurrencyPolicy", r#""Allow""#),
            ("suspend", "false"),
            ("successfulJobsHistoryLimit", "3"),
            ("failedJobsHistoryLimit", "1"),
        ],
    ),
    ("batch/v1.PodFailurePolicyOnPodConditionsPattern", &[("status", r#""True""#)]),
    ("networking/v1.NetworkPolicyPort", &[("protocol", r#""TCP""#)]),
    ("networking/v1.IngressClassParametersReference", &[("scope", r#""Cluster""#)]),
    ("rbac/v1.RoleRef", &[("apiGroup", r#""rbac.authorization.k8s.io""#)]),
    ("autoscaling/v1.HorizontalPodAutoscalerSpec", &[("minReplicas", "1")]),
    ("autoscaling/v2.HorizontalPodAutoscalerSpec", &[("minReplicas", "1")]),
    ("storage/v1.StorageClass", &[("reclaimPolicy", r#""Delete""#), ("volumeBindingMode", r#""Immediate""#)]),
    ("scheduling/v1.PriorityClass", &[("preemptionPolicy", r#""PreemptLowerPriority""#)]),
    ("discovery/v1.EndpointPort", &[("name", r#""""#), ("protocol", r#""TCP""#)]),
    ("admissionregistration/v1.ValidatingWebhook", WEBHOOK),
    ("admissionregistration/v1.MutatingWebhook", WEBHOOK),
    ("admissionregistration/v1.MutatingWebhook", &[("reinvocationPolicy", r#""Never""#)]),
    ("admissionregistration/v1.RuleWithOperations", &[("scope", r#""*""#)]),
    ("admissionregistration/v1.NamedRuleWithOperations", &[("scope", r#""*""#)]),
    ("admissionregistration/v1.ServiceReference", &[("port", "443")]),
    ("admissionregistration/v1.ValidatingAdmissionPolicySpec", &[("failurePolicy", r#""Fail""#)]),
    ("admissionregistration/v1.MutatingAdmissionPolicySpec", &[("failurePolicy", r#""Fail""#)]),
    (
        "admissionregistration/v1.MatchResources",
        &[("matchPolicy", r#""Equivalent""#), ("namespaceSelector", "{}"), ("objectSelector", "{}")],
    ),
    ("flowcontrol/v1.FlowSchemaSpec", &[("matchingPrecedence", "1000")]),
    (
        "flowcontrol/v1.ExemptPriorityLevelConfiguration",
        &[("nominalConcurrencyShares", "0"), ("lendablePercent", "0")],
    ),
    (
        "flowcontrol/v1.LimitedPriorityLevelConfiguration",
        &[("nominalConcurrencyShares", "30"), ("lendablePercent", "0")],
    ),
    (
        "flowcontrol/v1.QueuingConfiguration",
        &[("handSize", "8"), ("queues", "64"), ("queueLengthLimit", "50")],
    ),
    ("resource/v1.DeviceToleration", &[("operator", r#""Equal""#)]),
];

const CONTAINER: Members =
    &[("terminationMessagePath", r#""/dev/termination-log""#), ("terminationMessagePolicy", r#""File""#)];
const RBD: Members = &[("pool", r#""rbd""#), ("user", r#""admin""#), ("keyring", r#""/etc/ceph/keyring""#)];
const SCALE_IO: Members = &[("storageMode", r#""ThinProvisioned""#), ("fsType", r#""xfs""#)];
const WEBHOOK: Members = &[
    ("failurePolicy", r#""Fail""#),
    ("matchPolicy", r#""Equivalent""#),
    ("namespaceSelector", "{}"),
    ("objectSelector", "{}"),
    ("timeoutSeconds", "10"),
];

/// Rules that run before the members above are set.
pub(super) const RULES: &[(&str, Rule)] = &[
    ("core/v1.Pod", core::pod),
    ("core/v1.PodSpec", core::pod_spec),
    ("core/v1.Volume", core::volume),
    ("core/v1.Container", core::container),
    ("core/v1.EphemeralContainer", core::container),
    ("core/v1.Service", core::service),
    ("core/v1.Namespace", core::namespace),
    ("core/v1.NodeStatus", core::node_status),
    ("core/v1.LimitRangeItem", core::limit_range_item),
    ("core/v1.ReplicationController", core::replication_controller),
    ("apps/v1.DeploymentStrategy", apps::deployment_strategy),
    ("apps/v1.DaemonSetUpdateStrategy", apps::daemon_set_strategy),
    ("apps/v1.StatefulSetSpec", apps::stateful_set),
    ("batch/v1.Job", apps::job),
    ("networking/v1.NetworkPolicySpec", apps::network_policy),
    ("rbac/v1.Subject", apps::subject),
    ("autoscaling/v2.HorizontalPodAutoscalerSpec", apps::autoscaler),
    ("resource/v1.ExactDeviceRequest", apps::device_request),
    ("resource/v1.DeviceSubRequest", apps::device_request),
    ("storage/v1.CSIDriverSpec", apps::csi_driver),
];
