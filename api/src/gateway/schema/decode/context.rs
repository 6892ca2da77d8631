//! What is known while a body is read: where we are, what was not expected, and why we stopped.

use super::DecodeError;
use crate::gateway::schema::{Shape, TypeId};

/// How many values a body may have: 3 MiB of the smallest entries of a ConfigMap stay below.
pub(super) const MAX_VALUES: usize = 500_000;
/// Upstream stops counting there, too.
const MAX_STRICT: usize = 100;

/// One step of the path to a value.
#[derive(Clone, Copy)]
enum Step {
    /// A member of a struct of this type.
    Member(&'static str, TypeId),
    /// A member of anything else; its name is in `keys` from here on.
    Key(usize),
    Index(usize),
}

pub(super) struct Context {
    path: Vec<Step>,
    keys: String,
    strict: Vec<String>,
    refused: Option<DecodeError>,
    values: usize,
    untyped: bool,
}

impl Context {
    pub(super) fn new() -> Self {
        Self {
            path: Vec::new(),
            keys: String::new(),
            strict: Vec::new(),
            refused: None,
            values: 0,
            untyped: false,
        }
    }

    /// Of a body without a type, whose duplicate members are reported as well.
    pub(super) fn untyped() -> Self {
        Self { untyped: true, ..Self::new() }
    }

    /// Whether duplicate members of what has no type are reported. In a typed body they are somebody else's JSON.
    pub(super) fn is_untyped(&self) -> bool {
        self.untyped
    }

    pub(super) fn finish(self) -> Result<Vec<String>, DecodeError> {
        self.refused.map_or(Ok(self.strict), Err)
    }

    pub(super) fn enter_member(&mut self, name: &'static str, of: TypeId) {
        self.path.push(Step::Member(name, of));
    }

    pub(super) fn enter_key(&mut self, key: &str) {
        self.path.push(Step::Key(self.keys.len()));
        self.keys.push_str(key);
    }

    pub(super) fn enter_index(&mut self, index: usize) {
        self.path.push(Step::Index(index));
    }

    pub(super) fn leave(&mut self) {
        if let Some(Step::Key(start)) = self.path.pop() {
            self.keys.truncate(start);
        }
    }

    pub(super) fn unknown(&mut self, name: &str) {
        self.strict_error("unknown", name);
    }

    pub(super) fn duplicate(&mut self, name: &str) {
        self.strict_error("duplicate", name);
    }

    fn strict_error(&mut self, what: &str, name: &str) {
        if self.strict.len() >= MAX_STRICT {
            return;
        }
        let path = self.path_to(name);
        let error = format!("{what} field {path:?}");
        if !self.strict.contains(&error) {
            self.strict.push(error);
        }
    }

    /// `spec.containers[0].name`.
    fn path_to(&self, name: &str) -> String {
        let mut path = String::new();
        let mut end = self.keys.len();
        let keys: Vec<&str> = self
            .path
            .iter()
            .rev()
            .filter_map(|step| match step {
                Step::Key(start) => {
                    let key = &self.keys[*start..end];
                    end = *start;
                    Some(key)
                }
                _ => None,
            })
            .collect();
        let mut keys = keys.into_iter().rev();
        for step in &self.path {
            let part = match step {
                Step::Member(name, _) => name,
                Step::Key(_) => keys.next().unwrap_or_default(),
                Step::Index(index) => {
                    path.push_str(&format!("[{index}]"));
                    continue;
                }
            };
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(part);
        }
        if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
    }

    /// Counts a value.
    pub(super) fn count(&mut self) -> Result<(), ()> {
        self.values += 1;
        if self.values > MAX_VALUES {
            self.refused.get_or_insert(DecodeError::Values);
            return Err(());
        }
        Ok(())
    }

    /// A value of the wrong type, in the words of Go's decoder.
    pub(super) fn wrong_type(&mut self, found: &str, shape: &Shape) {
        let members = self.path.iter().filter_map(|step| match step {
            Step::Member(name, of) => Some((*name, *of)),
            _ => None,
        });
        let (names, types): (Vec<_>, Vec<_>) = members.unzip();
        let wanted = shape.go_name();
        let text = match types.last() {
            Some(of) => {
                let of = of.get().short_name();
                format!(
                    "json: cannot unmarshal {found} into Go struct field {of}.{} of type {wanted}",
                    names.join(".")
                )
            }
            None => format!("json: cannot unmarshal {found} into Go value of type {wanted}"),
        };
        self.refuse(text);
    }

    /// A text that its type does not have.
    pub(super) fn refuse(&mut self, text: String) {
        self.refused.get_or_insert(DecodeError::Type(text));
    }
}
