//! What stands in a secret's place: which rule took it, its length, and a keyed hash by which equal ones are found.

use std::collections::BTreeSet;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::{
    identity::DeploymentKey,
    json::{Json, JsonKind},
};

const MEMBER: &str = "$redacted";
const OPENING: &str = "$redacted(rule=";

/// Makes markers under the deployment's key, and knows those that are there already.
#[derive(Debug)]
pub(super) struct Marks {
    mac: Hmac<Sha256>,
    names: BTreeSet<String>,
}

impl Marks {
    pub(super) fn new(key: &DeploymentKey, names: impl Iterator<Item = String>) -> Self {
        Self { mac: key.mac("muniment redaction v1"), names: names.collect() }
    }

    fn hmac(&self, value: &[u8]) -> String {
        hex::encode(self.mac.clone().chain_update(value).finalize().into_bytes())
    }

    /// The marker as a JSON object.
    pub(super) fn object(&self, rule: &str, value: &[u8]) -> String {
        let (len, hmac) = (value.len(), self.hmac(value));
        format!(r#"{{"{MEMBER}":{{"rule":"{rule}","len":{len},"hmac":"{hmac}"}}}}"#)
    }

    /// The marker within a text.
    pub(super) fn text(&self, rule: &str, value: &[u8]) -> String {
        format!("{OPENING}{rule},len={},hmac={})", value.len(), self.hmac(value))
    }

    /// True for an object that [`Marks::object`] writes.
    pub(super) fn is_object(&self, json: Json<'_>) -> bool {
        if json.kind() != JsonKind::Object || !json.raw().contains(MEMBER) {
            return false;
        }
        let mut members = json.members();
        let (Some(only), None) = (members.next(), members.next()) else { return false };
        only.is(MEMBER) && self.is_facts(only.value)
    }

    fn is_facts(&self, json: Json<'_>) -> bool {
        let [mut rule, mut len, mut hmac] = [false; 3];
        for member in json.members() {
            let seen = match &*member.name() {
                "rule" => std::mem::replace(
                    &mut rule,
                    member.value.as_str().is_some_and(|r| self.names.contains(&*r)),
                ),
                "len" => std::mem::replace(&mut len, is_len(member.value.raw())),
                "hmac" => std::mem::replace(&mut hmac, member.value.as_str().is_some_and(|h| is_hmac(&h))),
                _ => return false,
            };
            if seen {
                return false;
            }
        }
        rule && len && hmac
    }

    /// The length of the marker that `text` begins with.
    pub(super) fn text_len(&self, text: &str) -> Option<usize> {
        let rest = text.strip_prefix(OPENING)?;
        let (rule, rest) = rest.split_once(",len=")?;
        let (len, rest) = rest.split_once(",hmac=")?;
        let hmac = rest.get(..64)?;
        let valid = self.names.contains(rule) && is_len(len) && is_hmac(hmac) && rest[64..].starts_with(')');
        valid.then(|| text.len() - rest.len() + 65)
    }

    /// True for a text that is one marker.
    pub(super) fn is_text(&self, text: &str) -> bool {
        self.text_len(text) == Some(text.len())
    }

    /// The spans of the markers within a text.
    pub(super) fn spans(&self, text: &str) -> Vec<(usize, usize)> {
        let starts = memchr::memmem::find_iter(text.as_bytes(), OPENING);
        starts.filter_map(|start| Some((start, start + self.text_len(&text[start..])?))).collect()
    }
}

/// A length as we write it; more digits could carry something.
fn is_len(text: &str) -> bool {
    (1..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_hmac(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
