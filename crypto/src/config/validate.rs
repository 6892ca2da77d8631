//! What a well-formed configuration must also keep to, with the field paths that kube-apiserver reports.

mod kms;
mod names;

use std::collections::HashSet;

use manifest::Violation;

use super::{
    Entry, Key, ProviderConfig,
    load::{ConfigText, EntryText, KeyText, KeysText, ProviderText},
};
use crate::{resource::GroupResource, secret::KeyBytes, transformer::BODIES};

/// The lengths of AES keys. That 16 and 24 bytes are good for CBC too is what kube-apiserver does, though its
/// manual speaks of 32.
const AES: &[usize] = &[16, 24, 32];
/// The length of a secretbox key.
const SECRETBOX: &[usize] = &[32];

/// The entries, or everything that is wrong with them.
pub(super) fn entries(text: ConfigText, reload: bool) -> Result<Vec<Entry>, Vec<Violation>> {
    let mut check = Check { reload, ..Check::default() };
    let entries: Vec<_> =
        text.resources.into_iter().flatten().enumerate().map(|(i, entry)| check.entry(i, entry)).collect();
    if entries.is_empty() {
        check.violated("resources", "required: at least one entry");
    }
    if check.violations.is_empty() {
        names::masked(&mut check, &entries);
        unsealed(&mut check, &entries);
    }
    if check.violations.is_empty() { Ok(entries) } else { Err(check.violations) }
}

/// Whoever names the bodies of events wants them sealed.
fn unsealed(check: &mut Check, entries: &[Entry]) {
    let bodies = GroupResource::from(BODIES);
    let Some((i, entry)) = entries.iter().enumerate().find(|(_, entry)| entry.resources.contains(&bodies))
    else {
        return;
    };
    if matches!(entry.providers[..], [ProviderConfig::Identity, ..]) {
        check.violated(
            format!("resources[{i}].providers[0].identity"),
            format!(
                "the first provider of {BODIES} must encrypt; leave {BODIES} out to keep bodies in the clear"
            ),
        );
    }
}

#[derive(Default)]
struct Check {
    reload: bool,
    violations: Vec<Violation>,
    /// The names of KMS plugins so far.
    plugins: HashSet<String>,
}

impl Check {
    fn violated(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.violations.push(Violation { path: path.into(), message: message.into() });
    }

    fn entry(&mut self, i: usize, text: EntryText) -> Entry {
        let names = text.resources.unwrap_or_default();
        let path = format!("resources[{i}].resources");
        if names.is_empty() {
            self.violated(&*path, "required: at least one resource");
        }
        names::overlap(self, &path, &names);
        names::each(self, &path, &names);
        let path = format!("resources[{i}].providers");
        let providers = text.providers.unwrap_or_default();
        if providers.is_empty() {
            self.violated(&*path, "required: at least one provider");
        }
        Entry {
            resources: names.iter().map(|name| GroupResource::from(name.as_str())).collect(),
            providers: providers
                .into_iter()
                .enumerate()
                .map(|(j, provider)| self.provider(&format!("{path}[{j}]"), provider))
                .collect(),
        }
    }

    fn provider(&mut self, path: &str, text: ProviderText) -> ProviderConfig {
        let kinds = [
            text.kms.is_some(),
            text.aesgcm.is_some(),
            text.aescbc.is_some(),
            text.secretbox.is_some(),
            text.identity.is_some(),
        ];
        match kinds.into_iter().filter(|given| *given).count() {
            0 => self.violated(path, "required: one of aesgcm, aescbc, secretbox, identity, kms"),
            1 => {}
            _ => self.violated(path, "more than one provider; each must be an element of its own"),
        }
        // Of several, the one that kube-apiserver looks into.
        match text {
            ProviderText { kms: Some(text), .. } => {
                ProviderConfig::Kms(kms::plugin(self, &format!("{path}.kms"), text))
            }
            ProviderText { aesgcm: Some(text), .. } => {
                ProviderConfig::AesGcm(self.keys(&format!("{path}.aesgcm.keys"), text, AES))
            }
            ProviderText { aescbc: Some(text), .. } => {
                ProviderConfig::AesCbc(self.keys(&format!("{path}.aescbc.keys"), text, AES))
            }
            ProviderText { secretbox: Some(text), .. } => {
                ProviderConfig::Secretbox(self.keys(&format!("{path}.secretbox.keys"), text, SECRETBOX))
            }
            _ => ProviderConfig::Identity,
        }
    }

    fn keys(&mut self, path: &str, text: KeysText, lengths: &[usize]) -> Vec<Key> {
        let keys = text.keys.unwrap_or_default();
        if keys.is_empty() {
            self.violated(path, "required: at least one key");
        }
        let keys = keys.into_iter().enumerate();
        keys.filter_map(|(i, key)| self.key(&format!("{path}[{i}]"), key, lengths)).collect()
    }

    fn key(&mut self, path: &str, text: KeyText, lengths: &[usize]) -> Option<Key> {
        let name = text.name.unwrap_or_default();
        if name.is_empty() {
            self.violated(format!("{path}.name"), "required: the name of the key");
        }
        let path = format!("{path}.secret");
        let text = text.secret.unwrap_or_default();
        if text.is_empty() {
            self.violated(path, "required: the key in base64");
            return None;
        }
        let Some(secret) = KeyBytes::from_base64(&text) else {
            self.violated(path, "not standard base64 (value REDACTED)");
            return None;
        };
        if !lengths.contains(&secret.len()) {
            self.violated(path, format!("{} bytes, expected {}", secret.len(), one_of(lengths)));
        }
        Some(Key { name, secret })
    }
}

/// `16, 24 or 32`.
fn one_of(lengths: &[usize]) -> String {
    let text: Vec<_> = lengths.iter().map(usize::to_string).collect();
    match text.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => text.concat(),
    }
}
