//! A violated rule, and the words that all rules build their sentences from.

use std::collections::BTreeSet;

use crate::pod::{Pod, SecurityContext};

/// A rule that a Pod violates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The short form, such as `host namespaces`.
    pub reason: String,
    /// What exactly, such as `hostNetwork=true`.
    pub detail: String,
}

impl Violation {
    pub(super) fn new(reason: &str, detail: String) -> Option<Self> {
        Some(Self { reason: reason.to_owned(), detail })
    }
}

/// The word for one or for several.
pub(super) fn plural(count: usize, one: &'static str, many: &'static str) -> &'static str {
    if count == 1 { one } else { many }
}

/// `"a", "b"`; the names are not escaped.
pub(super) fn quoted<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let mut text = String::new();
    for name in names {
        let comma = if text.is_empty() { "\"" } else { ", \"" };
        text.push_str(comma);
        text.push_str(name.as_ref());
        text.push('"');
    }
    text
}

/// `container "a"`, `containers "a", "b"`.
pub(super) fn containers(names: &[&str]) -> String {
    format!("{} {}", plural(names.len(), "container", "containers"), quoted(names))
}

/// Who sets something: the Pod, some of its containers, or both.
#[derive(Debug, Default)]
pub(super) struct Setters<'a> {
    pub(super) pod: bool,
    pub(super) containers: Vec<&'a str>,
}

impl<'a> Setters<'a> {
    /// Those whose security context is like that; none where there are none.
    pub(super) fn of(pod: &Pod<'a>, is_bad: impl Fn(&SecurityContext<'a>) -> bool) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        let is_bad = |context: &Option<SecurityContext<'a>>| context.as_ref().is_some_and(&is_bad);
        let bad = spec.all_containers().filter(|container| is_bad(&container.security_context));
        let containers: Vec<_> = bad.map(|container| container.name()).collect();
        let setters = Self { pod: is_bad(&spec.security_context), containers };
        (!setters.is_empty()).then_some(setters)
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.pod && self.containers.is_empty()
    }

    /// `pod`, `containers "a", "b"`, `pod and container "a"`, with a last one where there is one.
    pub(super) fn and(&self, last: Option<&str>) -> String {
        let mut words = Vec::with_capacity(3);
        words.extend(self.pod.then(|| "pod".to_owned()));
        words.extend((!self.containers.is_empty()).then(|| containers(&self.containers)));
        words.extend(last.map(str::to_owned));
        words.join(" and ")
    }
}

/// Values, each of them once and in the order of their bytes.
pub(super) type Values<'a> = BTreeSet<&'a str>;
