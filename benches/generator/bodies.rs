//! Request and response bodies: objects of the usual kinds, filled to a measured size.

use super::{
    Target,
    draw::Draw,
    tables::Request,
    text::{hex_id, num, put, whole_stamp},
};

/// Whether an object of this kind carries its own name in the body.
pub(super) fn names_itself(kind: &str) -> bool {
    !matches!(kind, "-" | "DeleteOptions" | "SelfSubjectAccessReview" | "SelfSubjectRulesReview")
}

/// Appends `,"requestObject":…,"responseObject":…` as the row has them.
pub(super) fn write(row: &Request, target: &Target, at: i64, draw: &mut Draw, out: &mut Vec<u8>) {
    let body = Body { row, target, at };
    if let Some(bytes) = draw_size(&row.request_bytes, draw) {
        put!(out, r#","requestObject":"#);
        body.object(&row.request_kind, bytes, false, draw, out);
    }
    if let Some(bytes) = draw_size(&row.response_bytes, draw) {
        put!(out, r#","responseObject":"#);
        body.object(&row.response_kind, bytes, true, draw, out);
    }
}

fn draw_size(sizes: &[(u64, u32)], draw: &mut Draw) -> Option<usize> {
    (!sizes.is_empty()).then(|| draw.weighted(sizes) as usize)
}

/// The reason that goes with a status code.
pub(super) fn reason(code: u64) -> &'static str {
    match code {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        409 => "Conflict",
        422 => "Invalid",
        _ => "InternalError",
    }
}

/// Appends the message of a refused request.
pub(super) fn failure(row: &Request, target: &Target, caller: &str, out: &mut Vec<u8>) {
    match row.code {
        403 => {
            put!(out, &row.resource, r#" is forbidden: User \""#, caller, r#"\" cannot "#, &row.verb);
            put!(out, r#" resource \""#, &row.resource, r#"\" in API group \""#, &row.group);
            put!(out, r#"\" in the namespace \""#, target.namespace, r#"\""#);
        }
        404 => put!(out, &row.resource, r#" \""#, &target.name, r#"\" not found"#),
        409 => {
            put!(out, "Operation cannot be fulfilled on ", &row.resource, r#" \""#, &target.name);
            put!(
                out,
                r#"\": the object has been modified; please apply your changes to the latest version and try again"#
            );
        }
        _ => put!(out, reason(row.code)),
    }
}

struct Body<'a> {
    row: &'a Request,
    target: &'a Target,
    at: i64,
}

impl Body<'_> {
    fn object(&self, kind: &str, bytes: usize, response: bool, draw: &mut Draw, out: &mut Vec<u8>) {
        let end = out.len() + bytes;
        match kind {
            "Status" => return self.status(out),
            "DeleteOptions" => return self.delete_options(bytes, out),
            "JSONPatch" => return put!(out, r#"[{"op":"replace","path":"/spec/replicas","value":3}]"#),
            "Patch" => return self.patch(out),
            _ => {}
        }
        if let Some(item) = kind.strip_suffix("List") {
            return self.list(item, end, draw, out);
        }
        self.head(kind, response, end, out);
        match kind {
            "Pod" => self.pod(response, out),
            "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job" | "ControllerRevision" => {
                self.workload(out)
            }
            "Event" => self.happening(out),
            "ConfigMap" => return config(end, draw, out),
            "ClusterRole" | "Role" => rules(end, draw, out),
            "SelfSubjectAccessReview" => {
                put!(out, r#","spec":{"resourceAttributes":{"verb":"*","resource":"secrets"}}"#);
            }
            _ => {}
        }
        self.fill(end, draw, out);
        out.push(b'}');
    }

    fn api_version(&self, out: &mut Vec<u8>) {
        if !self.row.group.is_empty() {
            put!(out, &self.row.group, "/");
        }
        put!(out, &self.row.version);
    }

    /// Opens the object with its metadata; a response has what the server adds, as far as `end` leaves room.
    fn head(&self, kind: &str, response: bool, end: usize, out: &mut Vec<u8>) {
        put!(out, r#"{"kind":""#, kind, r#"","apiVersion":""#);
        self.api_version(out);
        put!(out, r#"","metadata":{"#);
        if names_itself(kind) {
            put!(out, r#""name":""#, &self.target.name, "\"");
            if !self.target.namespace.is_empty() {
                put!(out, r#","namespace":""#, self.target.namespace, "\"");
            }
            if response {
                put!(out, r#","uid":""#);
                hex_id(self.target.uid, out);
                put!(out, r#"","resourceVersion":""#);
                num(self.target.revision, out);
                put!(out, r#"","generation":1,"creationTimestamp":""#);
                whole_stamp(self.at, out);
                out.push(b'"');
            }
            if matches!(kind, "Pod" | "ReplicaSet") {
                self.owner(out);
            }
            if response && end.saturating_sub(out.len()) > MANAGED_FROM {
                self.managed_fields(out);
            }
        }
        out.push(b'}');
    }

    fn owner(&self, out: &mut Vec<u8>) {
        let parent =
            self.target.name.rsplit_once('-').map_or(self.target.name.as_str(), |(parent, _)| parent);
        put!(out, r#","labels":{"app":""#, parent, r#"","pod-template-hash":"d56df779"}"#);
        put!(
            out,
            r#","ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":""#,
            parent,
            r#"","uid":""#
        );
        hex_id((self.target.uid.1, self.target.uid.0), out);
        put!(out, r#"","controller":true,"blockOwnerDeletion":true}]"#);
    }

    fn managed_fields(&self, out: &mut Vec<u8>) {
        put!(out, r#","managedFields":[{"manager":"kcm","operation":"Update","apiVersion":""#);
        self.api_version(out);
        put!(out, r#"","time":""#);
        whole_stamp(self.at, out);
        put!(
            out,
            r#"","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:generateName":{},"f:labels":{".":{},"f:app":{},"f:pod-template-hash":{}},"f:ownerReferences":{".":{},"k:{\"uid\":\""#
        );
        hex_id((self.target.uid.1, self.target.uid.0), out);
        put!(
            out,
            r#"\"}":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"app\"}":{".":{},"f:env":{".":{}},"f:image":{},"f:imagePullPolicy":{},"f:name":{},"f:ports":{".":{},"k:{\"containerPort\":8443,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{},"f:protocol":{}}},"f:resources":{}}},"f:dnsPolicy":{},"f:enableServiceLinks":{},"f:restartPolicy":{},"f:schedulerName":{},"f:terminationGracePeriodSeconds":{}}}}]"#
        );
    }

    fn container(&self, out: &mut Vec<u8>) {
        put!(out, r#"{"name":"app","image":"registry.example.test/team/"#, &self.target.name, ":");
        num(1 + self.target.revision % 40, out);
        put!(
            out,
            r#".2","ports":[{"containerPort":8443,"protocol":"TCP"}],"resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","imagePullPolicy":"IfNotPresent""#
        );
    }

    fn pod(&self, response: bool, out: &mut Vec<u8>) {
        put!(out, r#","spec":{"#);
        if response {
            put!(
                out,
                r#""volumes":[{"name":"kube-api-access","projected":{"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},{"configMap":{"name":"kube-root-ca.crt","items":[{"key":"ca.crt","path":"ca.crt"}]}},{"downwardAPI":{"items":[{"path":"namespace","fieldRef":{"apiVersion":"v1","fieldPath":"metadata.namespace"}}]}}],"defaultMode":420}}],"#
            );
        }
        put!(out, r#""containers":["#);
        self.container(out);
        if response {
            put!(
                out,
                r#","volumeMounts":[{"name":"kube-api-access","readOnly":true,"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}]"#
            );
        }
        put!(
            out,
            r#"}],"restartPolicy":"Always","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","securityContext":{},"schedulerName":"default-scheduler","enableServiceLinks":true"#
        );
        if response {
            put!(
                out,
                r#","serviceAccountName":"default","tolerations":[{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":300},{"key":"node.kubernetes.io/unreachable","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}],"priority":0,"preemptionPolicy":"PreemptLowerPriority""#
            );
        }
        out.push(b'}');
    }

    fn workload(&self, out: &mut Vec<u8>) {
        put!(out, r#","spec":{"replicas":"#);
        num(1 + self.target.revision % 5, out);
        put!(out, r#","selector":{"matchLabels":{"app":""#, &self.target.name);
        put!(out, r#""}},"template":{"metadata":{"labels":{"app":""#, &self.target.name);
        put!(out, r#""}},"spec":{"containers":["#);
        self.container(out);
        put!(
            out,
            r#"}],"restartPolicy":"Always","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","securityContext":{},"schedulerName":"default-scheduler"}},"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxUnavailable":"25%","maxSurge":"25%"}},"revisionHistoryLimit":10,"progressDeadlineSeconds":600}"#
        );
    }

    fn happening(&self, out: &mut Vec<u8>) {
        let involved = self.target.name.split('.').next().unwrap_or_default();
        put!(
            out,
            r#","involvedObject":{"kind":"ReplicaSet","namespace":""#,
            self.target.namespace,
            r#"","name":""#
        );
        put!(out, involved, r#"","uid":""#);
        hex_id((self.target.uid.1, self.target.uid.0), out);
        put!(out, r#"","apiVersion":"apps/v1","resourceVersion":""#);
        num(self.target.revision / 2, out);
        put!(out, r#""},"reason":"SuccessfulCreate","message":"Created pod: "#, &self.target.name);
        put!(out, r#"","source":{"component":"replicaset-controller"},"firstTimestamp":""#);
        whole_stamp(self.at, out);
        put!(out, r#"","lastTimestamp":""#);
        whole_stamp(self.at, out);
        put!(
            out,
            r#"","count":1,"type":"Normal","eventTime":null,"reportingComponent":"replicaset-controller""#
        );
    }

    fn list(&self, item: &str, end: usize, draw: &mut Draw, out: &mut Vec<u8>) {
        put!(out, r#"{"kind":""#, item, r#"List","apiVersion":""#);
        self.api_version(out);
        put!(out, r#"","metadata":{"resourceVersion":""#);
        num(self.target.revision, out);
        put!(out, r#""},"items":["#);
        let mut first = true;
        while end.saturating_sub(out.len()) > MANAGED_FROM {
            let bytes = (end - out.len()).min(2_700);
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            self.object(item, bytes, true, draw, out);
        }
        put!(out, "]}");
    }

    fn delete_options(&self, bytes: usize, out: &mut Vec<u8>) {
        put!(out, r#"{"kind":"DeleteOptions","apiVersion":""#);
        self.api_version(out);
        put!(out, r#"","propagationPolicy":"Background""#);
        if bytes > 150 {
            put!(out, r#","preconditions":{"uid":""#);
            hex_id(self.target.uid, out);
            put!(out, r#""},"gracePeriodSeconds":0"#);
        }
        out.push(b'}');
    }

    fn patch(&self, out: &mut Vec<u8>) {
        put!(
            out,
            r#"{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"registry.example.test/team/"#
        );
        put!(out, &self.target.name, ":");
        num(1 + self.target.revision % 40, out);
        put!(out, r#".3"}]}}}}"#);
    }

    fn status(&self, out: &mut Vec<u8>) {
        put!(out, r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":""#);
        if self.row.code < 400 {
            put!(
                out,
                r#"Success","details":{"name":""#,
                &self.target.name,
                r#"","kind":""#,
                &self.row.resource,
                "\"}}"
            );
            return;
        }
        put!(out, r#"Failure","message":""#);
        failure(self.row, self.target, "someone", out);
        put!(out, r#"","reason":""#, reason(self.row.code), r#"","code":"#);
        num(self.row.code, out);
        out.push(b'}');
    }

    /// Adds conditions until the object has its size; the last message is as long as what is left.
    fn fill(&self, end: usize, draw: &mut Draw, out: &mut Vec<u8>) {
        if end.saturating_sub(out.len()) < 2 * CONDITION_BYTES {
            return;
        }
        put!(out, r#","status":{"conditions":["#);
        let mut first = true;
        while end.saturating_sub(out.len()) > CONDITION_BYTES {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            put!(
                out,
                r#"{"type":""#,
                CONDITIONS[draw.below(4) as usize],
                r#"","status":"True","lastTransitionTime":""#
            );
            whole_stamp(self.at - draw.below(9_000_000_000) as i64, out);
            put!(out, r#"","message":""#);
            let room = end.saturating_sub(out.len() + 6);
            if room < 2 * CONDITION_BYTES {
                words(room, draw, out);
            } else {
                words(60, draw, out);
            }
            put!(out, "\"}");
        }
        put!(out, "]}");
    }
}

/// An object smaller than this had no `managedFields` in the recorded run.
const MANAGED_FROM: usize = 700;
/// What a condition takes without its message.
const CONDITION_BYTES: usize = 110;
const CONDITIONS: [&str; 4] = ["Available", "Progressing", "Ready", "PodScheduled"];

const WORDS: [&str; 32] = [
    "replica",
    "set",
    "has",
    "minimum",
    "availability",
    "successfully",
    "progressed",
    "node",
    "scheduled",
    "to",
    "container",
    "started",
    "with",
    "image",
    "pulled",
    "from",
    "registry",
    "probe",
    "failed",
    "for",
    "volume",
    "mounted",
    "at",
    "path",
    "quota",
    "limit",
    "reached",
    "in",
    "zone",
    "east",
    "west",
    "north",
];

/// Appends words and numbers, `bytes` of them.
fn words(bytes: usize, draw: &mut Draw, out: &mut Vec<u8>) {
    let end = out.len() + bytes;
    while out.len() < end {
        let bits = draw.next();
        put!(out, WORDS[(bits % 32) as usize], " ");
        if bits >> 8 & 7 == 0 {
            num(bits >> 44, out);
            out.push(b' ');
        }
    }
    out.truncate(end);
}

/// Ends a ConfigMap with data up to `end`: a file of settings, line by line.
fn config(end: usize, draw: &mut Draw, out: &mut Vec<u8>) {
    put!(out, r#","data":{"app.conf":""#);
    while end.saturating_sub(out.len()) > 48 {
        words(14, draw, out);
        put!(out, "= ");
        num(draw.below(1_000_000), out);
        put!(out, r"\n");
    }
    put!(out, "\"}}");
}

/// Adds RBAC rules up to `end`.
fn rules(end: usize, draw: &mut Draw, out: &mut Vec<u8>) {
    const RESOURCES: [&str; 6] = ["pods", "services", "configmaps", "deployments", "jobs", "ingresses"];
    put!(out, r#","rules":["#);
    let mut first = true;
    while first || end.saturating_sub(out.len()) > 130 {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        put!(out, r#"{"verbs":["get","list","watch","update"],"apiGroups":["","apps"],"resources":[""#);
        put!(
            out,
            RESOURCES[draw.below(6) as usize],
            "\",\"",
            RESOURCES[draw.below(6) as usize],
            "/status\"]}"
        );
    }
    out.push(b']');
}
