//! The rules: what is built in, and the YAML file that adds to it.
//!
//! ```yaml
//! builtin: true                 # keep the built-in rules (default); false leaves only those below
//! bodies:
//! - name: vault-secrets         # a-z, 0-9 and -; stands in every marker
//!   group: vault.example.com    # "" is the core group
//!   kind: VaultSecret
//!   resources: [vaultsecrets]   # or resource/subresource: applies when only the reference names the kind
//!   keep: [apiVersion, kind, metadata, spec.path]   # what stays; default apiVersion, kind, metadata
//!   keys: [spec.data]           # objects whose names stay while each value is removed
//!   base64: [spec.data]         # of these, objects whose values are base64: hashed decoded
//! texts:
//! - name: aws-key
//!   words: [AKIA]               # one of these must occur, or the pattern is not tried: they keep the fast path fast
//!   pattern: AKIA[0-9A-Z]{16}   # with a group (?P<secret>…) only that is removed
//! ```

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::from_file::{self, FromFile, NotText};

/// How many rules of a kind a file may have: the automaton over their words stays small.
const MAX_RULES: usize = 200;
/// How many bytes a name, word or path may have.
const MAX_NAME_BYTES: usize = 63;
/// How many bytes a pattern may have.
const MAX_PATTERN_BYTES: usize = 1000;
/// How many bytes a word must have: shorter ones occur in every event.
const MIN_WORD_BYTES: usize = 3;

/// A kind whose objects hold secrets. Everything of them that is not kept is removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BodyRule {
    /// Name of the rule, as markers carry it.
    pub name: String,
    /// API group, empty for core.
    #[serde(default)]
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Resources (`secrets`, with any subresource) and subresources (`serviceaccounts/token`) whose bodies are of the kind.
    #[serde(default)]
    pub resources: Vec<String>,
    /// Paths that are kept.
    #[serde(default = "kept")]
    pub keep: Vec<String>,
    /// Paths of objects whose names are kept while each value is removed.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Those of `keys` whose values are base64.
    #[serde(default)]
    pub base64: Vec<String>,
}

fn kept() -> Vec<String> {
    ["apiVersion", "kind", "metadata"].map(String::from).into()
}

/// What a secret looks like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextRule {
    /// Name of the rule, as markers carry it.
    pub name: String,
    /// Words of which one must occur in the text.
    pub words: Vec<String>,
    /// A regular expression over the decoded text; a group called `secret` is what is removed, else all of it.
    pub pattern: String,
    /// The match is base64, and is removed only when what it encodes matches another rule.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub base64: bool,
    /// The match is removed only when it looks like a token and not like a word.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub token: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default = "yes")]
    builtin: bool,
    #[serde(default)]
    bodies: Vec<BodyRule>,
    #[serde(default)]
    texts: Vec<TextRule>,
}

const fn yes() -> bool {
    true
}

/// Why a rules file is refused.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// It is not a text, or an empty one.
    #[error(transparent)]
    NotText(#[from] NotText),
    /// It is not YAML of the documented shape.
    #[error("the redaction rules do not read: {message}{}", suggestion.as_ref().map(|s| format!("; did you mean {s:?}?")).unwrap_or_default())]
    Syntax {
        /// What, with line and column.
        message: String,
        /// The nearest known name, for one that is unknown.
        suggestion: Option<String>,
    },
    /// A rule makes no sense.
    #[error("the redaction rule {name:?}: {what}")]
    Rule {
        /// The rule.
        name: String,
        /// What is wrong with it.
        what: String,
    },
}

/// A valid set of redaction rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSet {
    bodies: Vec<BodyRule>,
    texts: Vec<TextRule>,
    hash: String,
}

impl RuleSet {
    /// The rules that are in force unless a file says otherwise.
    pub fn builtin() -> Self {
        Self::hashed(builtin_bodies(), builtin_texts())
    }

    /// Reads a rules file; see the module's text for its form.
    ///
    /// # Errors
    /// When it is not such a file, or a rule makes no sense.
    pub fn from_yaml(yaml: &str) -> Result<Self, RulesError> {
        let file: File = serde_saphyr::from_str(yaml).map_err(|error| syntax(&error.to_string()))?;
        let (mut bodies, mut texts) =
            if file.builtin { (builtin_bodies(), builtin_texts()) } else { (vec![], vec![]) };
        bodies.extend(file.bodies);
        texts.extend(file.texts);
        validate(&bodies, &texts)?;
        Ok(Self::hashed(bodies, texts))
    }

    fn hashed(bodies: Vec<BodyRule>, texts: Vec<TextRule>) -> Self {
        // Raised when the code comes to apply the same rules differently.
        const MEANING: u32 = 1;
        let canonical = serde_json::json!({ "meaning": MEANING, "bodies": bodies, "texts": texts });
        let hash = hex::encode(Sha256::digest(canonical.to_string()));
        Self { bodies, texts, hash }
    }

    /// SHA-256 of the canonical form, lower-case hex: the same rules in the same order have the same hash,
    /// however the file is written.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The body rules, built-in ones first.
    pub fn bodies(&self) -> &[BodyRule] {
        &self.bodies
    }

    /// The text rules, built-in ones first.
    pub fn texts(&self) -> &[TextRule] {
        &self.texts
    }

    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        self.bodies.iter().map(|b| &b.name).chain(self.texts.iter().map(|t| &t.name)).cloned()
    }
}

impl FromFile for RuleSet {
    const NAME: &'static str = "redaction rules";
    type Error = RulesError;

    fn from_bytes(bytes: &[u8]) -> Result<Self, RulesError> {
        Self::from_yaml(from_file::text(bytes)?)
    }

    fn hash(&self) -> &str {
        self.hash()
    }
}

fn builtin_bodies() -> Vec<BodyRule> {
    let rule = |name: &str,
                group: &str,
                kind: &str,
                resource: &str,
                keep: &[&str],
                keys: &[&str],
                base64: &[&str]| BodyRule {
        name: name.into(),
        group: group.into(),
        kind: kind.into(),
        resources: vec![resource.into()],
        keep: kept().into_iter().chain(keep.iter().map(|k| (*k).to_owned())).collect(),
        keys: keys.iter().map(|k| (*k).to_owned()).collect(),
        base64: base64.iter().map(|k| (*k).to_owned()).collect(),
    };
    let group = "authentication.k8s.io";
    vec![
        rule("secret", "", "Secret", "secrets", &["type", "immutable"], &["data", "stringData"], &["data"]),
        rule(
            "token-review",
            group,
            "TokenReview",
            "tokenreviews",
            &["spec.audiences", "status"],
            &["spec"],
            &[],
        ),
        rule(
            "token-request",
            group,
            "TokenRequest",
            "serviceaccounts/token",
            &["spec", "status.expirationTimestamp"],
            &["status"],
            &[],
        ),
    ]
}

fn builtin_texts() -> Vec<TextRule> {
    // Separators as they stand in texts and, encoded, in URLs.
    const GAP: &str = r"(?:\s|\+|%20)";
    const DASHES: &str = "(?:-|%2[Dd]){5}";
    let rule = |name: &str, words: &[&str], pattern: String| TextRule {
        name: name.into(),
        words: words.iter().map(|w| (*w).to_owned()).collect(),
        pattern,
        base64: false,
        token: false,
    };
    let key = format!("PRIVATE{GAP}KEY(?:{GAP}BLOCK)?{DASHES}");
    let label = format!("(?:[A-Z0-9]+{GAP})*");
    vec![
        rule("jwt", &["eyJ"], r"eyJ[A-Za-z0-9_-]{8,}(?:(?:\.|%2[Ee])[A-Za-z0-9_-]*){1,4}".into()),
        // One that is cut off is removed to its end.
        rule(
            "private-key",
            &["PRIVATE"],
            format!(r"(?s){DASHES}BEGIN{GAP}{label}{key}.*?(?:{DASHES}END{GAP}{label}{key}|\z)"),
        ),
        TextRule {
            token: true,
            ..rule(
                "bearer-token",
                // The end of the word in any case: short words in each spelling keep the vector instructions, which
                // an automaton that takes either case has not.
                &["rer", "reR", "rEr", "rER", "Rer", "ReR", "REr", "RER"],
                format!(
                    r"(?i:bearer)(?:{GAP}+|\.authorization\.k8s\.io\.)(?P<secret>[A-Za-z0-9._~+/%-]{{8,}}=*)"
                ),
            )
        },
        rule(
            "url-secret",
            // The ends of the names below in any case.
            &[
                "en=", "eN=", "En=", "EN=", "et=", "eT=", "Et=", "ET=", "rd=", "rD=", "Rd=", "RD=", "wd=", "wD=",
                "Wd=", "WD=", "ey=", "eY=", "Ey=", "EY=",
            ],
            r#"[?&](?:[A-Za-z0-9]+[_-])*(?i:token|secret|password|passwd|api_?key)=(?P<secret>[^&\s"'<>]+)"#.into(),
        ),
        rule("url-password", &["://"], r#"://[^/\s:@"'<>]*:(?P<secret>[^/\s:@"'<>]+)@"#.into()),
        TextRule {
            base64: true,
            ..rule(
                "base64",
                // The beginnings of a JWT and of a PEM text wherever they lie in a group of three bytes.
                &["ZXlK", "V5S", "leUo", "leUp", "LS0tLS1CRUdJTi", "0tLS0tQkVHSU", "tLS0tLUJFR0lO"],
                // The programs that wrap base64 do so after 64 or 76 characters; a last line of fewer than 40 holds
                // little more than the closing line of a key.
                concat!(
                    "(?:ZXlK|[A-Za-z0-9+/_-]*(?:[GWm2]V5S[i-n]|leU[op]|LS0tLS1CRUdJTi|0tLS0tQkVHSU|tLS0tLUJFR0lO))",
                    "[A-Za-z0-9+/_-]{16,}",
                    r"(?:\r?\n[ \t]*[A-Za-z0-9+/_-]{40,})*={0,2}",
                )
                .into(),
            )
        },
    ]
}

fn syntax(message: &str) -> RulesError {
    const KNOWN: [&str; 14] = [
        "builtin",
        "bodies",
        "texts",
        "name",
        "group",
        "kind",
        "resources",
        "keep",
        "keys",
        "base64",
        "words",
        "pattern",
        "token",
        "secret",
    ];
    /// Below this two names have nothing to do with each other.
    const ALIKE: f64 = 0.7;
    let unknown = message.split_once("unknown field `").and_then(|(_, rest)| rest.split('`').next());
    let nearest = unknown.and_then(|name| {
        let scored = KNOWN.iter().map(|known| (strsim::jaro_winkler(name, known), *known));
        scored.filter(|(score, _)| *score > ALIKE).max_by(|a, b| a.0.total_cmp(&b.0))
    });
    RulesError::Syntax { message: message.to_owned(), suggestion: nearest.map(|(_, known)| known.to_owned()) }
}

fn validate(bodies: &[BodyRule], texts: &[TextRule]) -> Result<(), RulesError> {
    let wrong = |name: &str, what: String| Err(RulesError::Rule { name: name.to_owned(), what });
    let mut seen = std::collections::BTreeSet::new();
    for name in bodies.iter().map(|b| &b.name).chain(texts.iter().map(|t| &t.name)) {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(plain) {
            return wrong(name, format!("a name is 1 to {MAX_NAME_BYTES} of a-z, 0-9 and -"));
        }
        if !seen.insert(name) {
            return wrong(name, "another rule has this name".into());
        }
    }
    if let Some(rule) = seen.iter().nth(2 * MAX_RULES) {
        return wrong(rule, format!("a file may have {MAX_RULES} rules of each kind"));
    }
    bodies.iter().try_for_each(|rule| body_flaw(rule).map_or(Ok(()), |what| wrong(&rule.name, what)))?;
    texts.iter().try_for_each(|rule| text_flaw(rule).map_or(Ok(()), |what| wrong(&rule.name, what)))
}

fn body_flaw(rule: &BodyRule) -> Option<String> {
    let plain = |name: &String| {
        (1..=MAX_NAME_BYTES * 4).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_graphic() && b != b'"')
    };
    if rule.kind.len() < MIN_WORD_BYTES
        || rule.kind.len() > MAX_NAME_BYTES
        || !rule.kind.bytes().all(|b| b.is_ascii_alphanumeric())
    {
        return Some("kind is missing or no name of a kind".into());
    }
    let paths = rule.keep.iter().chain(&rule.keys).chain(&rule.base64).chain(&rule.resources);
    if let Some(path) = paths.clone().find(|p| !plain(p)) {
        return Some(format!("{path:?} is no path or resource"));
    }
    rule.base64
        .iter()
        .find(|p| !rule.keys.contains(p))
        .map(|path| format!("{path:?} in base64 is not one of keys"))
}

fn text_flaw(rule: &TextRule) -> Option<String> {
    if rule.words.is_empty() {
        return Some("words is empty: name what every match contains".into());
    }
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b'&' | b'<' | b'>');
    let usable = |w: &&String| (MIN_WORD_BYTES..=MAX_NAME_BYTES).contains(&w.len()) && w.bytes().all(plain);
    if let Some(word) = rule.words.iter().find(|w| !usable(w)) {
        return Some(format!(
            "the word {word:?} must be {MIN_WORD_BYTES} to {MAX_NAME_BYTES} printable ASCII characters without space, quote, backslash, & < >"
        ));
    }
    if rule.pattern.len() > MAX_PATTERN_BYTES {
        return Some(format!("a pattern may have {MAX_PATTERN_BYTES} bytes"));
    }
    match regex::Regex::new(&rule.pattern) {
        Err(error) => Some(format!("the pattern does not compile: {error}")),
        Ok(regex) if regex.is_match("") => Some("the pattern matches the empty text".into()),
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
bodies:
- name: vault
  group: vault.example.com
  kind: VaultSecret
  resources: [vaultsecrets]
  keys: [spec.data]
  base64: [spec.data]
texts:
- name: aws-key
  words: [AKIA]
  pattern: AKIA[0-9A-Z]{16}
"#;

    #[test]
    fn a_file_adds_to_the_built_in_rules() {
        let rules = RuleSet::from_yaml(FILE).unwrap();
        assert_eq!(rules.bodies().len(), RuleSet::builtin().bodies().len() + 1);
        assert_eq!(rules.bodies().last().unwrap().keep, kept());
        let alone = RuleSet::from_yaml(&format!("builtin: false\n{FILE}")).unwrap();
        assert_eq!((alone.bodies().len(), alone.texts().len()), (1, 1));
    }

    #[test]
    fn the_hash_follows_the_rules_and_not_the_file() {
        let hash = |yaml: &str| RuleSet::from_yaml(yaml).unwrap().hash().to_owned();
        assert_eq!(hash("{}"), RuleSet::builtin().hash());
        assert_eq!(hash(FILE), hash(&format!("# a comment\nbuiltin: true\n{FILE}")));
        assert_ne!(hash(FILE), RuleSet::builtin().hash());
        assert_eq!(hash(FILE).len(), 64);
    }

    #[test]
    fn the_built_in_rules_pass_their_own_validation() {
        validate(&builtin_bodies(), &builtin_texts()).unwrap();
    }

    #[test]
    fn a_typo_is_an_error_with_its_place_and_the_nearest_name() {
        let error = RuleSet::from_yaml("texts:\n- name: a\n  wrods: [abc]\n  pattern: abc\n")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("wrods") && error.contains("line 3") && error.contains("did you mean \"words\""),
            "{error}"
        );
    }

    #[test]
    fn rules_that_make_no_sense_are_refused_by_name() {
        let text = |fields: &str| format!("texts:\n- name: mine\n  {fields}");
        for (yaml, expected) in [
            (text("words: []\n  pattern: abc"), "words is empty"),
            (text("words: [ab]\n  pattern: abc"), "3 to 63"),
            (text("words: [abc]\n  pattern: a(b"), "does not compile"),
            (text("words: [abc]\n  pattern: a*"), "matches the empty text"),
            ("texts:\n- name: jwt\n  words: [abc]\n  pattern: abc".into(), "another rule"),
            ("texts:\n- name: My_Rule\n  words: [abc]\n  pattern: abc".into(), "a-z"),
            ("bodies:\n- name: x\n  kind: \"\"".into(), "kind is missing"),
            ("bodies:\n- name: x\n  kind: Xyz\n  base64: [data]".into(), "not one of keys"),
        ] {
            let error = RuleSet::from_yaml(&yaml).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
