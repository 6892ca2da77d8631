//! Faults as they are collected, in the words of Kubernetes.

use serde_json::{Value, json};

use crate::gateway::{object::Object, status::Cause};

/// What is wrong with an object.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Cause>);

impl Faults {
    fn add(&mut self, reason: &str, field: &str, message: String) {
        self.0.push(Cause { reason: reason.into(), message, field: field.into() });
    }

    /// It is not there.
    pub(super) fn required(&mut self, field: &str, detail: &str) {
        let colon = if detail.is_empty() { "" } else { ": " };
        self.add("FieldValueRequired", field, format!("Required value{colon}{detail}"));
    }

    /// It is there and wrong.
    pub(super) fn invalid(&mut self, field: &str, value: &Value, detail: &str) {
        self.add("FieldValueInvalid", field, format!("Invalid value: {}: {detail}", shown(value)));
    }

    /// The same, of a text.
    pub(super) fn invalid_text(&mut self, field: &str, text: &str, detail: &str) {
        self.invalid(field, &Value::from(text), detail);
    }

    /// It may not be there.
    pub(super) fn forbidden(&mut self, field: &str, detail: &str) {
        self.add("FieldValueForbidden", field, format!("Forbidden: {detail}"));
    }

    /// It is there before.
    pub(super) fn duplicate(&mut self, field: &str, value: &Value) {
        self.add("FieldValueDuplicate", field, format!("Duplicate value: {}", shown(value)));
    }

    /// Nothing has this name.
    pub(super) fn not_found(&mut self, field: &str, text: &str) {
        self.add("FieldValueNotFound", field, format!("Not found: {text:?}"));
    }

    /// It is none of these.
    pub(super) fn one_of(&mut self, field: &str, text: &str, allowed: &[&str]) {
        if allowed.contains(&text) {
            return;
        }
        let allowed: Vec<String> = allowed.iter().map(|word| format!("{word:?}")).collect();
        let message = format!("Unsupported value: {text:?}: supported values: {}", allowed.join(", "));
        self.add("FieldValueNotSupported", field, message);
    }

    /// It may be absent, and no number below zero.
    pub(super) fn not_negative(&mut self, field: &str, number: Option<i64>) {
        if let Some(number) = number.filter(|number| *number < 0) {
            self.invalid(field, &number.into(), "must be greater than or equal to 0");
        }
    }

    /// It takes more than it may.
    pub(super) fn too_long(&mut self, field: &str, max_bytes: usize) {
        self.add("FieldValueTooLong", field, format!("Too long: may not be more than {max_bytes} bytes"));
    }

    /// There are more than may be.
    pub(super) fn too_many(&mut self, field: &str, count: usize, max: usize) {
        self.add("FieldValueTooMany", field, format!("Too many: {count}: must have at most {max} items"));
    }

    /// No strategy of replacing Pods has this name; upstream shows the whole of it.
    pub(super) fn strategy(&mut self, field: &str, name: &str) {
        let shown = json!({ "Type": name, "RollingUpdate": null });
        let message = format!(r#"Unsupported value: {shown}: supported values: "Recreate", "RollingUpdate""#);
        self.add("FieldValueNotSupported", field, message);
    }

    /// It may not differ from what it was.
    pub(super) fn same(&mut self, new: &Object, old: &Object, pointer: &str) {
        let (new, old) = (new.at(pointer), old.at(pointer));
        if old.is_some() && new != old {
            let field = pointer.trim_start_matches('/').replace('/', ".");
            self.invalid(&field, new.unwrap_or(&Value::Null), "field is immutable");
        }
    }

    pub(super) fn into_causes(self) -> Vec<Cause> {
        self.0
    }
}

/// As Go writes it: texts in quotes, all else as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}
