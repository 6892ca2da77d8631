//! Bodies of kinds that a rule names, in every shape: objects, lists, tables, patches, statuses.

use super::{
    rules::BodyRule,
    walk::{Form, Walk},
};
use crate::json::{Json, JsonKind, Member};

/// What a Status may hold beside its message and details.
const STATUS: [&str; 6] = ["kind", "apiVersion", "metadata", "status", "reason", "code"];
/// What DeleteOptions may hold.
const DELETE_OPTIONS: [&str; 8] = [
    "kind",
    "apiVersion",
    "gracePeriodSeconds",
    "preconditions",
    "orphanDependents",
    "propagationPolicy",
    "dryRun",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
];
/// What a list may hold beside its items, and a table beside its rows.
const LIST: [&str; 4] = ["kind", "apiVersion", "metadata", "columnDefinitions"];

/// What the rule says of a path.
enum Verdict {
    Keep,
    /// Its members are looked at one by one.
    Descend,
    Remove,
}

impl BodyRule {
    fn verdict(&self, path: &[String]) -> Verdict {
        let under = |kept: &String| {
            let mut names = kept.split('.');
            let all = names.by_ref().zip(path).all(|(name, at)| name == at);
            all && kept.split('.').count() <= path.len()
        };
        let above = |kept: &String| {
            let names = kept.split('.').count();
            names >= path.len() && kept.split('.').zip(path).all(|(name, at)| name == at)
        };
        if self.keep.iter().any(under) {
            Verdict::Keep
        } else if path.is_empty() || self.keys.iter().chain(&self.keep).any(above) {
            Verdict::Descend
        } else {
            Verdict::Remove
        }
    }

    /// True when the value at this path is base64.
    fn is_base64(&self, path: &[String]) -> bool {
        let Some((_, parent)) = path.split_last() else { return false };
        self.base64.iter().any(|p| p.split('.').eq(parent.iter().map(String::as_str)))
    }
}

impl<'t> Walk<'_, 't> {
    /// A request's or response's body, of the kind of `rule` by the event's reference.
    pub(super) fn body(&mut self, value: Json<'t>, rule: &BodyRule, delete: bool) {
        match value.kind() {
            JsonKind::Scalar => {}
            // An apply patch in YAML, or a body that nobody could decode.
            JsonKind::String => self.remove(value, &rule.name, false, Form::Object),
            JsonKind::Array => self.json_patch(value, rule),
            JsonKind::Object if delete => self.only(value, &DELETE_OPTIONS, rule),
            JsonKind::Object => self.ruled_body(value, rule),
        }
    }

    /// An object that is of the rule's kind, or a list, table or status about it.
    pub(super) fn ruled_body(&mut self, value: Json<'t>, rule: &BodyRule) {
        if self.redactor.marks.is_object(value) {
            return;
        }
        let kind = value.get("kind").and_then(Json::as_str).unwrap_or_default();
        let is_array = |name| value.get(name).is_some_and(|v| v.kind() == JsonKind::Array);
        match &*kind {
            "Status" => self.ruled_status(value, rule),
            "DeleteOptions" => self.only(value, &DELETE_OPTIONS, rule),
            "Table" => self.table(value, rule),
            kind if kind.ends_with("List") || is_array("items") => self.list(value, rule),
            _ => self.ruled(value, rule, &mut Vec::new()),
        }
    }

    /// Keeps the named members and removes the others.
    fn only(&mut self, value: Json<'t>, names: &[&str], rule: &BodyRule) {
        value.members().for_each(|member| self.keep_or_remove(member, names, rule));
    }

    fn keep_or_remove(&mut self, member: Member<'t>, names: &[&str], rule: &BodyRule) {
        let _ = self.name(member);
        if member.is("metadata") {
            self.ruled(member.value, rule, &mut vec!["metadata".to_owned()]);
        } else if names.contains(&&*member.name()) {
            self.any(member.value, Form::Object);
        } else {
            self.remove(member.value, &rule.name, false, Form::Object);
        }
    }

    fn list(&mut self, value: Json<'t>, rule: &BodyRule) {
        for member in value.members() {
            if member.is("items") && member.value.kind() == JsonKind::Array {
                member.value.elements().for_each(|item| self.ruled(item, rule, &mut Vec::new()));
            } else {
                self.keep_or_remove(member, &LIST, rule);
            }
        }
    }

    fn table(&mut self, value: Json<'t>, rule: &BodyRule) {
        for member in value.members() {
            if member.is("rows") && member.value.kind() == JsonKind::Array {
                member.value.elements().for_each(|row| self.row(row, rule));
            } else {
                self.keep_or_remove(member, &LIST, rule);
            }
        }
    }

    /// A row's cells print what the object holds; its name stands in the object's metadata.
    fn row(&mut self, row: Json<'t>, rule: &BodyRule) {
        if row.kind() != JsonKind::Object {
            return self.remove(row, &rule.name, false, Form::Object);
        }
        for member in row.members() {
            if member.is("object") && member.value.kind() == JsonKind::Object {
                self.ruled_body(member.value, rule);
            } else if member.is("cells") && member.value.kind() == JsonKind::Array {
                member.value.elements().for_each(|cell| self.remove(cell, &rule.name, false, Form::Object));
            } else {
                self.remove(member.value, &rule.name, false, Form::Object);
            }
        }
    }

    /// A Status about an object of the rule's kind, in a body or as the event's `responseStatus`.
    pub(super) fn ruled_status(&mut self, value: Json<'t>, rule: &BodyRule) {
        for member in value.members() {
            match &*member.name() {
                "message" => self.message(member.value, rule),
                "details" if member.value.kind() == JsonKind::Object => self.details(member.value, rule),
                _ => self.keep_or_remove(member, &STATUS, rule),
            }
        }
    }

    fn details(&mut self, value: Json<'t>, rule: &BodyRule) {
        const DETAILS: [&str; 5] = ["name", "group", "kind", "uid", "retryAfterSeconds"];
        for member in value.members() {
            if member.is("causes") && member.value.kind() == JsonKind::Array {
                for cause in member.value.elements() {
                    for member in cause.members() {
                        match &*member.name() {
                            "reason" | "field" => self.any(member.value, Form::Text),
                            _ => self.remove(member.value, &rule.name, false, Form::Text),
                        }
                    }
                }
            } else {
                self.keep_or_remove(member, &DETAILS, rule);
            }
        }
    }

    /// A JSON patch: each operation's value is judged by the operation's path.
    pub(super) fn json_patch(&mut self, value: Json<'t>, rule: &BodyRule) {
        for operation in value.elements() {
            if operation.kind() != JsonKind::Object {
                self.remove(operation, &rule.name, false, Form::Object);
                continue;
            }
            if self.redactor.marks.is_object(operation) {
                continue;
            }
            // Should two paths stand there, the value must pass under each; the last is what a server applies.
            let paths: Vec<_> = operation.members().filter(|m| m.is("path")).collect();
            let path = match &paths[..] {
                [only] => only.value.as_str().map(|p| pointer(&p)),
                _ => None,
            };
            for member in operation.members() {
                match (&*member.name(), &path) {
                    ("op" | "path" | "from", _) => self.any(member.value, Form::Text),
                    ("value", Some(path)) if path.is_empty() => self.ruled_body(member.value, rule),
                    ("value", Some(path)) => self.ruled(member.value, rule, &mut path.clone()),
                    _ => self.remove(member.value, &rule.name, false, Form::Object),
                }
            }
        }
    }

    /// A value within an object of the rule's kind, at `path`.
    fn ruled(&mut self, value: Json<'t>, rule: &BodyRule, path: &mut Vec<String>) {
        if self.redactor.marks.is_object(value) {
            return;
        }
        if holds_applied(path, value) {
            return self.remove(value, &rule.name, false, Form::Text);
        }
        let object = value.kind() == JsonKind::Object;
        match rule.verdict(path) {
            // An annotation may hold the object as it was applied.
            Verdict::Keep
                if object && matches!(&path[..], [m, rest @ ..] if m == "metadata" && rest.len() < 2) =>
            {
                self.ruled_members(value, rule, path);
            }
            Verdict::Keep => self.any(value, Form::Object),
            Verdict::Descend if object => self.ruled_members(value, rule, path),
            Verdict::Descend | Verdict::Remove => {
                self.remove(value, &rule.name, rule.is_base64(path), Form::Object);
            }
        }
    }

    fn ruled_members(&mut self, value: Json<'t>, rule: &BodyRule, path: &mut Vec<String>) {
        for member in value.members() {
            let renamed = self.name(member);
            path.push(member.name().into_owned());
            if renamed && is_annotation(path) {
                self.remove(member.value, &rule.name, false, Form::Text);
            } else {
                self.ruled(member.value, rule, path);
            }
            path.pop();
        }
    }
}

fn is_annotation(path: &[String]) -> bool {
    matches!(path, [metadata, annotations, _] if metadata == "metadata" && annotations == "annotations")
}

/// True for an annotation that holds the object itself: kubectl's, and those that other appliers write.
fn holds_applied(path: &[String], value: Json<'_>) -> bool {
    let Some(key) = path.last().filter(|_| is_annotation(path)) else { return false };
    let named = ["applied", "original", "last-"].iter().any(|word| key.contains(word));
    named || value.as_str().is_some_and(|text| text.trim_start().starts_with(['{', '[']))
}

/// The names of a JSON pointer (RFC 6901).
fn pointer(path: &str) -> Vec<String> {
    path.split('/').skip(1).map(|name| name.replace("~1", "/").replace("~0", "~")).collect()
}
