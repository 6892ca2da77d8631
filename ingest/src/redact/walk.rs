//! The walk over one text: what it finds becomes splices, and the rest is never touched.

use std::borrow::Cow;

use super::{Redactor, rules::BodyRule, text::decode_base64};
use crate::{
    json::{Json, JsonKind, Member, escape_into},
    splice::{RawPlaces, Splice, apply},
};

/// How many JSON texts may lie within each other; a string that goes deeper is removed whole.
const MAX_EMBEDDED: usize = 4;

/// How a removed value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As a JSON object: in bodies, whose readers take any JSON.
    Object,
    /// As a text: where readers of audit events expect one.
    Text,
}

/// Collects what is to be replaced in `text`.
pub(super) struct Walk<'r, 't> {
    pub(super) redactor: &'r Redactor,
    text: &'t str,
    splices: Vec<Splice>,
    count: u32,
    embedded: usize,
}

impl<'r, 't> Walk<'r, 't> {
    pub(super) const fn new(redactor: &'r Redactor, text: &'t str) -> Self {
        Self { redactor, text, splices: Vec::new(), count: 0, embedded: 0 }
    }

    /// The text without what was found, and how many values that were.
    pub(super) fn finish(self) -> (Cow<'t, [u8]>, u32) {
        if self.splices.is_empty() {
            return (Cow::Borrowed(self.text.as_bytes()), 0);
        }
        (Cow::Owned(apply(self.text, &self.splices)), self.count)
    }

    fn offset(&self, part: &str) -> usize {
        part.as_ptr() as usize - self.text.as_ptr() as usize
    }

    fn replace(&mut self, part: &str, with: Vec<u8>) {
        let start = self.offset(part);
        self.splices.push(Splice { start, end: start + part.len(), with });
    }

    /// Removes a whole value under the rule. `null`, and what was removed before, stays.
    pub(super) fn remove(&mut self, value: Json<'t>, rule: &str, base64: bool, form: Form) {
        let marks = &self.redactor.marks;
        if value.is_null() || marks.is_object(value) {
            return;
        }
        let decoded = value.as_str();
        let secret: Cow<'_, [u8]> = match &decoded {
            Some(text) if marks.is_text(text) => return,
            Some(text) if base64 => decode_base64(text).map_or_else(|| text.as_bytes().into(), Cow::Owned),
            Some(text) => text.as_bytes().into(),
            None => value.raw().as_bytes().into(),
        };
        let with = match form {
            Form::Object => marks.object(rule, &secret),
            Form::Text => format!("\"{}\"", marks.text(rule, &secret)),
        };
        self.replace(value.raw(), with.into_bytes());
        self.count += 1;
    }

    /// A value of which nothing is known: its strings are searched, and objects of ruled kinds found by their kind.
    pub(super) fn any(&mut self, value: Json<'t>, form: Form) {
        if !self.redactor.suspects(value.raw()) {
            return;
        }
        match value.kind() {
            JsonKind::String => self.string(value, form),
            JsonKind::Scalar => {}
            JsonKind::Array => value.elements().for_each(|element| self.any(element, form)),
            JsonKind::Object if self.redactor.marks.is_object(value) => {}
            JsonKind::Object => match self.redactor.rule_of_kind(value) {
                Some(rule) => self.ruled_body(value, rule),
                None => value.members().for_each(|member| self.member(member, form)),
            },
        }
    }

    fn member(&mut self, member: Member<'t>, form: Form) {
        let _ = self.name(member);
        self.any(member.value, form);
    }

    /// Searches a member's name. True when it is, or was before, not the name that the member came with: then nothing
    /// can be concluded from it.
    pub(super) fn name(&mut self, member: Member<'t>) -> bool {
        let before = self.count;
        self.string_parts(member.key, Form::Text);
        self.count > before || !self.redactor.marks.spans(&member.name()).is_empty()
    }

    /// Searches a string: as embedded JSON, as an embedded manifest, as a text.
    pub(super) fn string(&mut self, value: Json<'t>, form: Form) {
        let Some(decoded) = value.as_str() else { return };
        if !self.redactor.suspects(&decoded) {
            return;
        }
        if let Some(json) = embedded(&decoded) {
            let rule = self.redactor.first_rule();
            self.within(value, &decoded, rule, form, |inner| inner.any(json, Form::Object));
        } else if let Some(rule) = self.redactor.rule_of_manifest(&decoded) {
            self.remove(value, &rule.name, false, form);
        } else {
            self.string_parts(value, form);
        }
    }

    /// Removes the secrets within a string, the whole of it in the given form.
    fn string_parts(&mut self, value: Json<'t>, form: Form) {
        let Some(decoded) = value.as_str() else { return };
        let found = self.redactor.texts.find(&decoded, &self.redactor.marks);
        if let [whole] = &found[..]
            && form == Form::Object
            && (whole.start, whole.end) == (0, decoded.len())
        {
            self.replace(value.raw(), self.redactor.marks.object(whole.rule, &whole.value).into_bytes());
            self.count += 1;
            return;
        }
        let splices = found.iter().map(|secret| Splice {
            start: secret.start,
            end: secret.end,
            with: self.redactor.marks.text(secret.rule, &secret.value).into_bytes(),
        });
        let splices = splices.collect();
        self.count += found.len() as u32;
        self.splice_decoded(value, splices);
    }

    /// Walks the JSON text that a string holds.
    pub(super) fn within<'i>(
        &mut self,
        value: Json<'t>,
        decoded: &'i str,
        rule: &str,
        form: Form,
        walk: impl FnOnce(&mut Walk<'r, 'i>),
    ) {
        if self.embedded == MAX_EMBEDDED {
            return self.remove(value, rule, false, form);
        }
        let mut inner = Walk {
            redactor: self.redactor,
            text: decoded,
            splices: Vec::new(),
            count: 0,
            embedded: self.embedded + 1,
        };
        walk(&mut inner);
        self.count += inner.count;
        let splices = inner.splices;
        self.splice_decoded(value, splices);
    }

    /// Takes over splices of a string's decoded text, as splices of its raw one.
    fn splice_decoded(&mut self, value: Json<'t>, splices: Vec<Splice>) {
        let raw = value.raw();
        let base = self.offset(raw) + 1;
        let mut places = RawPlaces::new(&raw[1..raw.len() - 1]);
        for splice in splices {
            let (start, end) = (base + places.find(splice.start), base + places.find(splice.end));
            let mut with = Vec::with_capacity(splice.with.len() + 16);
            escape_into(&String::from_utf8_lossy(&splice.with), &mut with);
            self.splices.push(Splice { start, end, with });
        }
    }
}

impl BodyRule {
    /// True for a member that objects of the kind and lists of them have, and mere references to them do not.
    fn has_own(&self, name: &str) -> bool {
        matches!(name, "metadata" | "items")
            || self.keys.iter().any(|key| key.split('.').next() == Some(name))
    }
}

/// How many bytes of comments, tags and anchors between a key and its value are looked through: the same bytes may
/// stand before many values.
const MAX_ASIDE: usize = 1024;

/// Whether a YAML scalar behind `text` is the value of the key `kind`: on its line or a later one, behind quotes, tags,
/// anchors, the sign of a block, comments.
fn follows_kind(text: &[u8]) -> bool {
    let text = trimmed(text);
    let mut near = &text[text.len().saturating_sub(MAX_ASIDE)..];
    let mut ends = ends_with_kind(text);
    while !ends {
        let word = near.iter().rposition(|b| b" \t\r\n:".contains(b)).map_or(0, |at| at + 1);
        let comment = near.iter().rposition(|b| b"#\n".contains(b)).filter(|at| near[*at] == b'#');
        near = match comment {
            _ if near.get(word).is_some_and(|b| b"!&|>".contains(b)) => trimmed(&near[..word]),
            Some(at) => trimmed(&near[..at]),
            None => return false,
        };
        ends = ends_with_kind(near);
    }
    true
}

fn ends_with_kind(text: &[u8]) -> bool {
    text.strip_suffix(b":").is_some_and(|key| trimmed(key).ends_with(b"kind"))
}

/// Without white space and quotes at its end.
fn trimmed(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|b| !b"\"' \t\r\n".contains(b)).map_or(0, |at| at + 1);
    &text[..end]
}

/// The JSON object or array that a text is, if it is one.
fn embedded(text: &str) -> Option<Json<'_>> {
    matches!(text.trim_start().as_bytes().first(), Some(b'{' | b'[')).then(|| Json::parse_text(text).ok())?
}

impl Redactor {
    /// The body rule for what the object says it is: by its kind, or as a list of that kind.
    fn rule_of_kind(&self, object: Json<'_>) -> Option<&BodyRule> {
        let matches = |rule: &&BodyRule| {
            let kind = |kind: &str| kind.strip_suffix("List").unwrap_or(kind) == rule.kind;
            let group = |version: &str| version.rsplit_once('/').map_or("", |(group, _)| group) == rule.group;
            let texts =
                |name: &'static str| object.members().filter(move |m| m.is(name)).map(|m| m.value.as_str());
            texts("kind").flatten().any(|k| kind(&k))
                && texts("apiVersion").all(|version| version.is_none_or(|v| group(&v)))
                && object.members().any(|m| rule.has_own(&m.name()))
        };
        self.bodies.iter().find(matches)
    }

    /// The body rule for a YAML manifest that names a ruled kind.
    fn rule_of_manifest(&self, text: &str) -> Option<&BodyRule> {
        self.bodies.iter().find(|rule| {
            text.match_indices(&rule.kind).any(|(at, kind)| {
                let after = text[at + kind.len()..].trim_start_matches("List");
                !after.starts_with(|c: char| c.is_ascii_alphanumeric())
                    && follows_kind(&text.as_bytes()[..at])
            })
        })
    }

    /// The rule under which a string is removed that nests too deep to be searched.
    fn first_rule(&self) -> &str {
        self.bodies.first().map_or_else(|| self.texts.first_name(), |rule| &rule.name)
    }
}
