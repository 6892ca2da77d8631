//! Strict reading of documents with `apiVersion` and `kind`, in YAML or JSON: what is unknown, repeated or of
//! another kind is refused with its place.
//!
//! It is a crate of its own because the crates that own such documents do not know each other.

mod names;
mod near;
mod refused;

pub use names::{is_label, is_subdomain};
pub use near::{nearest, similarity};
pub use refused::{Refused, Violation};

use serde::Deserialize;
use serde_saphyr::{DuplicateKeyPolicy, Error, MergeKeyPolicy, Spanned};

/// What a document must be before its fields are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// What it is called in messages: `policy`.
    pub what: &'static str,
    /// The pairs of `apiVersion` and `kind` that it may have. The first is the one to suggest.
    pub kinds: &'static [(&'static str, &'static str)],
    /// The most bytes.
    pub max_bytes: usize,
    /// Where each field belongs, for those that are often put in the wrong place.
    pub places: &'static [(&'static str, &'static [&'static str])],
    /// Whether values are left out of messages, because some of them are secret.
    pub confidential: bool,
}

/// The longest name of a field that a message about a confidential document shows. No field of a document is
/// longer, and a base64 key of 16 bytes is.
const MAX_SHOWN_NAME: usize = 20;

/// Reads a document.
///
/// # Errors
/// With the first flaw of its form. Values are for the caller to judge, as [`Refused::Invalid`].
pub fn read<'t, T: Deserialize<'t>>(form: &Form, bytes: &'t [u8]) -> Result<T, Refused> {
    if bytes.len() > form.max_bytes {
        return Err(Refused::TooLarge { what: form.what, max: form.max_bytes });
    }
    let text = str::from_utf8(bytes)
        .map_err(|error| Refused::NotUtf8 { what: form.what, from: error.valid_up_to() })?;
    let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#') || line == "---";
    if text.lines().all(blank) {
        return Err(Refused::Empty { what: form.what });
    }
    form.parse::<Head>(text)?.check(form, 1, 1)?;
    form.parse(text)
}

impl Form {
    fn parse<'t, T: Deserialize<'t>>(&self, text: &'t str) -> Result<T, Refused> {
        let options = serde_saphyr::options! {
            duplicate_keys: DuplicateKeyPolicy::Error,
            merge_keys: MergeKeyPolicy::Error,
            // A number is no name, here as there: Kubernetes refuses it too.
            no_schema: true,
            with_snippet: false,
        };
        serde_saphyr::from_str_with_options(text, options).map_err(|error| self.malformed(&error))
    }

    fn malformed(&self, error: &Error) -> Refused {
        let message = match error {
            Error::SerdeUnknownField { field, expected, .. } => self.unknown(field, expected),
            Error::DuplicateMappingKey { key: Some(key), .. } => {
                format!("{:?} is given twice", self.shown_name(key))
            }
            Error::MultipleDocuments { .. } => {
                format!("a {} is one document, and a second one begins here", self.what)
            }
            other => self.shown(&without_place(&other.render())),
        };
        let (line, column) = error.location().map_or((0, 0), |place| (place.line(), place.column()));
        Refused::Malformed { line, column, message }
    }

    fn unknown(&self, field: &str, expected: &[&str]) -> String {
        let elsewhere =
            self.places.iter().find(|(_, fields)| fields.contains(&field)).map(|(place, _)| place);
        let shown = self.shown_name(field);
        match (elsewhere, nearest(field, expected)) {
            (Some(place), _) => format!("{shown:?} does not belong here, it is a field of {place}"),
            (None, Some(nearest)) => format!("unknown field {shown:?}; did you mean {nearest:?}?"),
            (None, None) => format!("unknown field {shown:?}"),
        }
    }

    /// A key that was put where a field's name belongs is not shown.
    fn shown_name<'n>(&self, name: &'n str) -> &'n str {
        if self.confidential && name.len() > MAX_SHOWN_NAME { "REDACTED" } else { name }
    }

    /// A parser's message without the values that it quotes.
    fn shown(&self, message: &str) -> String {
        let Some(value) = message.find(['"', '\'', '`', '[']).filter(|_| self.confidential) else {
            return message.to_owned();
        };
        let expected = message.rfind(", expected ").filter(|at| *at > value);
        format!("{}REDACTED{}", &message[..value], expected.map_or("", |at| &message[at..]))
    }
}

/// What says of which kind a document is. It is read first, so that another document is refused for what it is
/// and not for its first field. Within another document it stands for one that is looked at later.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    api_version: Option<Spanned<String>>,
    kind: Option<Spanned<String>>,
}

impl Head {
    /// Checks that a document which begins at a line and a column is of the kind of a form.
    ///
    /// # Errors
    /// When it is of another kind, or does not say of which.
    pub fn check(&self, form: &Form, line: u64, column: u64) -> Result<(), Refused> {
        let versions: Vec<_> = form.kinds.iter().map(|(version, _)| *version).collect();
        let at = (line, column);
        let version = is("apiVersion", self.api_version.as_ref(), &versions, at)?;
        let kinds: Vec<_> = form.kinds.iter().filter(|(v, _)| *v == version).map(|(_, kind)| *kind).collect();
        is("kind", self.kind.as_ref(), &kinds, at).map(|_| ())
    }
}

fn is<'f>(
    field: &str,
    found: Option<&'f Spanned<String>>,
    right: &[&str],
    (line, column): (u64, u64),
) -> Result<&'f str, Refused> {
    let quoted = || right.iter().map(|right| format!("{right:?}")).collect::<Vec<_>>();
    match found {
        Some(found) if right.contains(&found.value.as_str()) => Ok(&found.value),
        Some(found) => Err(Refused::Malformed {
            line: found.referenced.line(),
            column: found.referenced.column(),
            message: format!(
                "{field} is {:?}, but only {} {} supported",
                found.value,
                quoted().join(" and "),
                if right.len() == 1 { "is" } else { "are" }
            ),
        }),
        None => Err(Refused::Malformed {
            line,
            column,
            message: format!("{field} is missing; it must be {}", quoted().join(" or ")),
        }),
    }
}

/// The first line of a parser's message without the place at its end, which is told apart.
fn without_place(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.rsplit_once(" at line ").map_or(line, |(message, _)| message).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize, Debug)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Vault {
        #[serde(rename = "apiVersion")]
        _api_version: String,
        #[serde(rename = "kind")]
        _kind: String,
        #[serde(default)]
        secret: String,
        #[serde(default)]
        count: Option<u8>,
    }

    const FORM: Form = Form {
        what: "vault",
        kinds: &[("example/v2", "Vault"), ("v1", "OldVault")],
        max_bytes: 200,
        places: &[("a door", &["hinge"])],
        confidential: true,
    };

    fn refused(text: &str) -> String {
        read::<Vault>(&FORM, text.as_bytes()).unwrap_err().to_string()
    }

    fn with(rest: &str) -> String {
        format!("apiVersion: v1\nkind: OldVault\n{rest}\n")
    }

    #[test]
    fn each_version_has_its_own_kind() {
        let vault = read::<Vault>(&FORM, with("secret: abc\ncount: 2").as_bytes()).unwrap();
        assert_eq!((vault.secret.as_str(), vault.count), ("abc", Some(2)));
        assert_eq!(
            refused("apiVersion: v1\nkind: Vault\n"),
            "2:7: kind is \"Vault\", but only \"OldVault\" is supported"
        );
        assert_eq!(
            refused("apiVersion: v3\nkind: Vault\n"),
            "1:13: apiVersion is \"v3\", but only \"example/v2\" and \"v1\" are supported"
        );
        assert_eq!(refused("a: b"), "1:1: apiVersion is missing; it must be \"example/v2\" or \"v1\"");
    }

    #[test]
    fn an_unknown_field_is_told_with_its_place_and_the_nearest_one() {
        assert_eq!(refused(&with("sekret: x")), "3:1: unknown field \"sekret\"; did you mean \"secret\"?");
        assert_eq!(
            refused(&with("hinge: x")),
            "3:1: \"hinge\" does not belong here, it is a field of a door"
        );
    }

    #[test]
    fn a_confidential_document_never_has_its_values_in_a_message() {
        const KEY: &str = "c2VjcmV0IGlzIHNlY3VyZQ";
        for rest in [
            format!("secret: [{KEY}]"),
            format!("secret: {{{KEY}: x}}"),
            format!("count: {KEY}"),
            format!("count: '{KEY}'"),
            format!("{KEY}: x"),
            format!("{KEY}: x\n{KEY}: x"),
            format!("secret: \"{KEY}\n"),
            format!("secret: *{KEY}"),
            format!("secret: {KEY}\nsecret: {KEY}"),
            "secret: 73786976294838206464".to_owned(),
        ] {
            let Err(error) = read::<Vault>(&FORM, with(&rest).as_bytes()) else {
                panic!("{rest} was taken");
            };
            let message = error.to_string();
            assert!(!message.contains(KEY) && !message.contains("737869"), "{rest}: {message}");
        }
    }

    #[test]
    fn size_encoding_and_emptiness_are_looked_at_first() {
        assert_eq!(refused(&" ".repeat(201)), "a vault has at most 200 bytes");
        assert_eq!(refused("---\n# nothing\n"), "the vault is empty");
        assert_eq!(
            read::<Vault>(&FORM, b"ab\xff").unwrap_err().to_string(),
            "the vault is not UTF-8 from byte 2 on"
        );
    }
}
