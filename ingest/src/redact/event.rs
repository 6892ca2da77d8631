//! Where within an event secrets can stand, and what the event is about.

use std::sync::LazyLock;

use regex::{Regex, RegexSet};

use super::{
    Redactor,
    rules::BodyRule,
    walk::{Form, Walk},
};
use crate::{
    event::EventView,
    json::{Json, JsonKind},
};

/// Messages of the API server itself that quote names only. Any other may quote what was sent.
static HARMLESS: LazyLock<RegexSet> = LazyLock::new(|| {
    let patterns = [
        r#"^[a-z0-9./-]+ "[A-Za-z0-9.:_-]{1,253}" (?:not found|already exists)$"#,
        r#"^[a-z0-9./-]+(?: "[A-Za-z0-9.:_-]{1,253}")? is forbidden: User "[^"]{0,253}" cannot [a-z]+ (?:resource )?"?[a-z0-9./-]+"?(?: in API group "[a-z0-9.-]*")?(?: in the namespace "[a-z0-9-]*"| at the cluster scope)?$"#,
        r#"^Operation cannot be fulfilled on [a-z0-9.]+ "[A-Za-z0-9.:_-]{1,253}": the object has been modified; please apply your changes to the latest version and try again$"#,
        r"^(?:Connection closed early|Unauthorized)$",
        r"^Authentication failed, (?:no credentials provided|attempted: [a-z0-9_, ]{1,60})$",
    ];
    match RegexSet::new(patterns) {
        Ok(set) => set,
        Err(error) => unreachable!("the patterns are constants: {error}"),
    }
});

/// The change that a request of the gateway announces: a key, a revision, and a keyed digest, none of which tells a value.
const CHANGE_ANNOTATION: &str = "muniment.io/change";

static CHANGE: LazyLock<Regex> =
    LazyLock::new(|| match Regex::new(r"^[A-Za-z0-9./:@_-]{1,1024}@[0-9]{1,20} (?:[0-9a-f]{32}|-)$") {
        Ok(pattern) => pattern,
        Err(error) => unreachable!("the pattern is a constant: {error}"),
    });

const PATCH_ANNOTATION: &str = "patch.webhook.admission.k8s.io/";

/// What each admission controller of the gateway decided.
const DECISIONS_ANNOTATION: &str = "admission.muniment.io/decisions";

impl Redactor {
    /// The body rule for the resource that the event is about.
    pub(super) fn rule_of(&self, event: &EventView<'_>) -> Option<&BodyRule> {
        let object = event.object_ref();
        if let Some((resource, object)) = object.as_ref().and_then(|o| Some((o.resource.as_deref()?, o))) {
            let group = object.api_group.as_deref().unwrap_or_default();
            return self.rule_of_resource(group, resource, object.subresource.as_deref());
        }
        let uri = event.request_uri()?;
        let (group, resource, subresource) = resource_of(&uri)?;
        self.rule_of_resource(group, resource, subresource)
    }

    fn rule_of_resource(&self, group: &str, resource: &str, subresource: Option<&str>) -> Option<&BodyRule> {
        let names = |entry: &String| match entry.split_once('/') {
            None => entry == resource,
            Some((r, s)) => r == resource && Some(s) == subresource,
        };
        // TokenRequest is of another group than the service account that it is asked for.
        let group = |rule: &&BodyRule| rule.group == group || rule.resources.iter().any(|r| r.contains('/'));
        self.bodies.iter().filter(group).find(|rule| rule.resources.iter().any(names))
    }
}

/// Group, resource and subresource of a request's path, for events that carry no reference.
fn resource_of(uri: &str) -> Option<(&str, &str, Option<&str>)> {
    let path = uri.split(['?', '#']).next()?;
    let mut names = path.split('/').filter(|n| !n.is_empty());
    let group = match names.next()? {
        "api" => "",
        "apis" => names.next()?,
        _ => return None,
    };
    let mut rest = names.skip(1).skip_while(|n| *n == "watch");
    let mut resource = rest.next()?;
    let mut name = rest.next();
    let mut subresource = rest.next();
    if let ("namespaces", Some(inner)) = (resource, subresource) {
        resource = inner;
        name = rest.next();
        subresource = rest.next();
    }
    Some((group, resource, name.and(subresource)))
}

impl<'t> Walk<'_, 't> {
    /// The whole event. `rule` is that of the resource it is about.
    pub(super) fn event(&mut self, event: &EventView<'t>, rule: Option<&BodyRule>) {
        let delete = event.verb().is_some_and(|verb| verb.starts_with("delete"));
        for member in event.members() {
            let _ = self.name(member);
            match (&*member.name(), rule) {
                ("requestObject", Some(rule)) => self.body(member.value, rule, delete),
                ("responseObject", Some(rule)) => self.body(member.value, rule, false),
                ("requestObject" | "responseObject", None) => self.any(member.value, Form::Object),
                ("responseStatus", Some(rule)) => self.ruled_status(member.value, rule),
                ("annotations", rule) => self.annotations(member.value, rule),
                _ => self.any(member.value, Form::Text),
            }
        }
    }

    /// A message about an object of the rule's kind: kept when it is the server's own and quotes names only.
    pub(super) fn message(&mut self, value: Json<'t>, rule: &BodyRule) {
        if value.as_str().is_some_and(|text| text.is_empty() || HARMLESS.is_match(&text)) {
            self.any(value, Form::Text);
        } else {
            self.remove(value, &rule.name, false, Form::Text);
        }
    }

    fn annotations(&mut self, value: Json<'t>, rule: Option<&BodyRule>) {
        if value.kind() != JsonKind::Object {
            return self.any(value, Form::Text);
        }
        for member in value.members() {
            let renamed = self.name(member);
            let key = member.name();
            match rule {
                Some(rule) if renamed => self.remove(member.value, &rule.name, false, Form::Text),
                Some(rule) if key.starts_with(PATCH_ANNOTATION) => self.patch_annotation(member.value, rule),
                Some(rule) if &*key == DECISIONS_ANNOTATION => self.decisions(member.value, rule),
                Some(_) if &*key == CHANGE_ANNOTATION && is_change(member.value) => {
                    self.any(member.value, Form::Text);
                }
                Some(rule) if !is_servers_own(&key) => {
                    self.remove(member.value, &rule.name, false, Form::Text)
                }
                _ => self.any(member.value, Form::Text),
            }
        }
    }

    /// What controllers decided: JSON within a string, `[{"controller":…,"verdict":…,"reason":…,"patch":[…]},…]`.
    fn decisions(&mut self, value: Json<'t>, rule: &BodyRule) {
        let Some(decoded) = value.as_str() else {
            return self.remove(value, &rule.name, false, Form::Text);
        };
        match Json::parse_text(&decoded) {
            Ok(json) if json.kind() == JsonKind::Array => {
                self.within(value, &decoded, &rule.name, Form::Text, |inner| {
                    for call in json.elements() {
                        inner.decision(call, rule);
                    }
                });
            }
            _ => self.remove(value, &rule.name, false, Form::Text),
        }
    }

    fn decision(&mut self, call: Json<'t>, rule: &BodyRule) {
        if self.redactor.marks.is_object(call) {
            return;
        }
        if call.kind() != JsonKind::Object {
            return self.remove(call, &rule.name, false, Form::Object);
        }
        for member in call.members() {
            match &*member.name() {
                "patch" if member.value.kind() == JsonKind::Array => self.json_patch(member.value, rule),
                "reason" => self.message(member.value, rule),
                "controller" | "phase" | "round" | "verdict" | "micros" | "patchBytes" | "omitted" => {
                    self.any(member.value, Form::Object);
                }
                _ => self.remove(member.value, &rule.name, false, Form::Object),
            }
        }
    }

    /// What a mutating webhook changed: JSON within a string, `{"configuration":…,"webhook":…,"patch":[…],"patchType":…}`.
    fn patch_annotation(&mut self, value: Json<'t>, rule: &BodyRule) {
        let Some(decoded) = value.as_str() else {
            return self.remove(value, &rule.name, false, Form::Text);
        };
        match Json::parse_text(&decoded) {
            Ok(json) if json.kind() == JsonKind::Object => {
                self.within(value, &decoded, &rule.name, Form::Text, |inner| {
                    for member in json.members() {
                        match &*member.name() {
                            "patch" if member.value.kind() == JsonKind::Array => {
                                inner.json_patch(member.value, rule)
                            }
                            "configuration" | "webhook" | "patchType" => {
                                inner.any(member.value, Form::Object)
                            }
                            _ => inner.remove(member.value, &rule.name, false, Form::Object),
                        }
                    }
                });
            }
            _ => self.remove(value, &rule.name, false, Form::Text),
        }
    }
}

/// Annotations that the API server writes of itself, by what stands before the slash: they quote names and verdicts.
/// Any other is a webhook's or a policy's, which may quote the object, whatever domain it chose.
const SERVERS_OWN: [&str; 13] = [
    "apiserver.k8s.io",
    "apiserver.latency.k8s.io",
    "audit.k8s.io",
    "authentication.k8s.io",
    "authentication.kubernetes.io",
    "authorization.k8s.io",
    "failed-open.mutation.webhook.admission.k8s.io",
    "failed-open.validating.webhook.admission.k8s.io",
    "insecure-sha1.invalid-cert.kubernetes.io",
    "k8s.io",
    "missing-san.invalid-cert.kubernetes.io",
    "mutation.webhook.admission.k8s.io",
    "pod-security.kubernetes.io",
];

fn is_change(value: Json<'_>) -> bool {
    value.as_str().is_some_and(|text| CHANGE.is_match(&text))
}

fn is_servers_own(key: &str) -> bool {
    key.split_once('/').is_some_and(|(domain, _)| SERVERS_OWN.contains(&domain))
}
