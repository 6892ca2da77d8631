//! The typed columns of a document, each read by itself: a value of another type costs its own column and no other.

use std::net::{IpAddr, Ipv6Addr};

use ingest::{
    event::EventView,
    json::{Json, JsonKind},
    time::Timestamp,
};
use tantivy::{TantivyDocument, schema::Field};

use crate::schema::Fields;

/// A value that its column does not take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Misfit<'e> {
    /// The member of the event, one of a fixed set of names.
    pub(super) member: &'static str,
    /// What stands there.
    pub(super) value: Json<'e>,
}

/// Adds the columns of `event`, which is of the time `at`, and gives what did not fit.
pub(super) fn add<'e>(
    event: &EventView<'e>,
    doc: &mut TantivyDocument,
    fields: &Fields,
    at: Timestamp,
) -> Vec<Misfit<'e>> {
    let mut columns = Columns { doc, misfits: Vec::new() };
    columns.top(event, fields);
    columns.user(event, fields);
    columns.object(event, fields);
    columns.answer(event, fields);
    columns.received(event, fields, at);
    columns.addresses(event, fields);
    columns.misfits
}

struct Columns<'e, 'd> {
    doc: &'d mut TantivyDocument,
    misfits: Vec<Misfit<'e>>,
}

impl<'e> Columns<'e, '_> {
    fn top(&mut self, event: &EventView<'e>, fields: &Fields) {
        for (field, member) in [
            (fields.verb, "verb"),
            (fields.stage, "stage"),
            (fields.level, "level"),
            (fields.ua, "userAgent"),
        ] {
            self.text(field, member, event.known(member));
        }
    }

    fn user(&mut self, event: &EventView<'e>, fields: &Fields) {
        let [username, groups] = self.members("user", event.known("user"), ["username", "groups"]);
        self.text(fields.user, "user.username", username);
        for group in self.elements("user.groups", groups) {
            self.text(fields.group, "user.groups", Some(group));
        }
    }

    fn object(&mut self, event: &EventView<'e>, fields: &Fields) {
        let names = ["resource", "namespace", "name", "apiGroup", "subresource"];
        let [resource, namespace, name, group, subresource] =
            self.members("objectRef", event.known("objectRef"), names);
        self.text(fields.resource, "objectRef.resource", resource);
        self.text(fields.ns, "objectRef.namespace", namespace);
        self.text(fields.name, "objectRef.name", name);
        self.text(fields.api, "objectRef.apiGroup", group);
        self.text(fields.sub, "objectRef.subresource", subresource);
    }

    fn answer(&mut self, event: &EventView<'e>, fields: &Fields) {
        let [code] = self.members("responseStatus", event.known("responseStatus"), ["code"]);
        if let Some(code) = self.typed("responseStatus.code", code, Json::as_i64) {
            self.doc.add_i64(fields.code, code);
        }
        let decision = "authorization.k8s.io/decision";
        let [decision] = self.members("annotations", event.known("annotations"), [decision]);
        self.text(fields.decision, "annotations", decision);
    }

    fn received(&mut self, event: &EventView<'e>, fields: &Fields, at: Timestamp) {
        let member = "requestReceivedTimestamp";
        let time = |value: Json<'e>| value.as_str()?.parse::<Timestamp>().ok();
        if let Some(received) = self.typed(member, event.known(member), time) {
            self.doc.add_i64(fields.received, received.micros());
            self.doc.add_i64(fields.latency, at.micros().saturating_sub(received.micros()));
        }
    }

    fn addresses(&mut self, event: &EventView<'e>, fields: &Fields) {
        let mut last = None;
        for value in self.elements("sourceIPs", event.known("sourceIPs")) {
            last = self.typed("sourceIPs", Some(value), address);
            if let Some(address) = last {
                self.doc.add_ip_addr(fields.ip, address);
            }
        }
        if let Some(last) = last {
            self.doc.add_ip_addr(fields.ip_client, last);
        }
    }

    fn text(&mut self, field: Field, member: &'static str, value: Option<Json<'e>>) {
        if let Some(text) = self.typed(member, value, Json::as_str)
            && !text.is_empty()
        {
            self.doc.add_text(field, text);
        }
    }

    /// What `read` makes of the value. Null is as good as nothing, as it is to Kubernetes.
    fn typed<T>(
        &mut self,
        member: &'static str,
        value: Option<Json<'e>>,
        read: impl FnOnce(Json<'e>) -> Option<T>,
    ) -> Option<T> {
        let value = value.filter(|value| !value.is_null())?;
        let typed = read(value);
        if typed.is_none() {
            self.misfits.push(Misfit { member, value });
        }
        typed
    }

    /// Those members of an object.
    fn members<const N: usize>(
        &mut self,
        member: &'static str,
        value: Option<Json<'e>>,
        names: [&str; N],
    ) -> [Option<Json<'e>>; N] {
        let object = |value: Json<'e>| (value.kind() == JsonKind::Object).then_some(value);
        let mut found = [None; N];
        if let Some(object) = self.typed(member, value, object) {
            for member in object.members() {
                if let Some(n) = names.iter().position(|name| member.is(name)) {
                    found[n] = Some(member.value);
                }
            }
        }
        found
    }

    /// The elements of an array.
    fn elements(
        &mut self,
        member: &'static str,
        value: Option<Json<'e>>,
    ) -> impl Iterator<Item = Json<'e>> + use<'e> {
        let array = |value: Json<'e>| (value.kind() == JsonKind::Array).then_some(value);
        self.typed(member, value, array).into_iter().flat_map(Json::elements)
    }
}

/// An address; IPv4 is written as IPv4-mapped IPv6.
fn address(value: Json<'_>) -> Option<Ipv6Addr> {
    match value.as_str()?.parse().ok()? {
        IpAddr::V4(v4) => Some(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => Some(v6),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tantivy::Document;

    use super::*;

    fn whole() -> Value {
        json!({
            "verb": "get", "stage": "ResponseComplete", "level": "Request", "userAgent": "kubectl",
            "user": { "username": "anna", "groups": ["dev", "ops"] },
            "objectRef": {
                "resource": "pods", "namespace": "n", "name": "p", "apiGroup": "g", "subresource": "exec",
            },
            "responseStatus": { "code": 200 }, "sourceIPs": ["10.0.0.1", "10.0.0.2"],
            "requestReceivedTimestamp": "2026-11-24T10:00:00.000000Z",
            "annotations": { "authorization.k8s.io/decision": "allow" },
        })
    }

    /// The names of the columns that hold something, one for each value, and those of what did not fit.
    fn read(event: &Value) -> (Vec<String>, Vec<&'static str>) {
        let text = event.to_string();
        let (fields, mut doc) = (Fields::new(), TantivyDocument::new());
        let view = EventView::parse(text.as_bytes()).unwrap();
        let at = "2026-11-24T10:00:01Z".parse().unwrap();
        let misfits = add(&view, &mut doc, &fields, at);
        let name = |field| fields.schema.get_field_name(field).to_owned();
        let mut names: Vec<_> = doc.iter_fields_and_values().map(|(field, _)| name(field)).collect();
        names.sort();
        (names, misfits.into_iter().map(|misfit| misfit.member).collect())
    }

    #[test]
    fn every_column_is_read() {
        let (names, misfits) = read(&whole());
        let all = "api code decision group group ip ip ip_client latency level name ns received resource stage sub ua user verb";
        assert_eq!((names.join(" ").as_str(), misfits), (all, vec![]));
    }

    #[test]
    fn a_value_of_another_type_costs_its_own_column_alone_and_is_named() {
        let (all, _) = read(&whole());
        for (place, value, member, lost) in [
            ("/verb", json!(5), "verb", &["verb"][..]),
            ("/userAgent", json!(["a"]), "userAgent", &["ua"]),
            ("/user", json!("anna"), "user", &["user", "group", "group"]),
            ("/user/username", json!({}), "user.username", &["user"]),
            ("/user/groups", json!("dev"), "user.groups", &["group", "group"]),
            ("/user/groups/0", json!(7), "user.groups", &["group"]),
            ("/objectRef", json!([]), "objectRef", &["resource", "ns", "name", "api", "sub"]),
            ("/objectRef/name", json!(true), "objectRef.name", &["name"]),
            ("/responseStatus/code", json!("200"), "responseStatus.code", &["code"]),
            ("/responseStatus/code", json!(1.5), "responseStatus.code", &["code"]),
            ("/sourceIPs", json!("10.0.0.1"), "sourceIPs", &["ip", "ip", "ip_client"]),
            ("/sourceIPs/0", json!("somewhere"), "sourceIPs", &["ip"]),
            ("/sourceIPs/1", json!("somewhere"), "sourceIPs", &["ip", "ip_client"]),
            (
                "/requestReceivedTimestamp",
                json!("soon"),
                "requestReceivedTimestamp",
                &["received", "latency"],
            ),
            ("/annotations", json!(["x"]), "annotations", &["decision"]),
        ] {
            let mut event = whole();
            *event.pointer_mut(place).unwrap() = value;
            let (names, misfits) = read(&event);
            let mut expected = all.clone();
            for name in lost {
                let at = expected.iter().position(|other| other == name).unwrap();
                expected.remove(at);
            }
            assert_eq!((names, misfits), (expected, vec![member]), "{event}");
        }
    }

    #[test]
    fn null_is_as_good_as_nothing_and_of_a_member_that_stands_twice_the_last_counts() {
        let mut event = whole();
        for (_, value) in event.as_object_mut().unwrap() {
            *value = Value::Null;
        }
        assert_eq!(read(&event), (vec![], vec![]));
        let twice = br#"{"user":{"username":"first","username":"last"}}"#;
        let (fields, mut doc) = (Fields::new(), TantivyDocument::new());
        let misfits = add(&EventView::parse(twice).unwrap(), &mut doc, &fields, Timestamp::default());
        assert!(misfits.is_empty());
        let json = doc.to_json(&fields.schema);
        assert!(json.contains("last") && !json.contains("first"), "{json}");
    }
}
