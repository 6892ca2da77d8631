//! The fields of a record: their names in queries, what they read, and their types.

use std::fmt;

/// What a query can test.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// A field with a name and a type of its own.
    Core(Core),
    /// A place in one of the parts of an event that have no fixed shape.
    Path(Path),
}

/// How a field's values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// A name; the whole value is compared.
    Keyword,
    /// Prose; its words are compared. There is no regex and no `:=`.
    Text,
    /// Words and phrases compare its words; wildcards, regexes and `:=` the whole value.
    TextAndKeyword,
    /// A number.
    Number,
    /// An instant, UTC.
    Time,
    /// A length of time.
    Duration,
    /// An IPv4 or IPv6 address.
    Address,
    /// Whatever the event holds there.
    Any,
}

impl Type {
    /// The type with its article, for messages.
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::Keyword => "a keyword",
            Self::Text | Self::TextAndKeyword => "a text",
            Self::Number => "a number",
            Self::Time => "a time",
            Self::Duration => "a duration",
            Self::Address => "an address",
            Self::Any => "part of a body",
        }
    }
}

/// A named field of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Core {
    /// stageTimestamp
    Ts,
    /// requestReceivedTimestamp
    Received,
    /// The envelope's `received_at`.
    Journaled,
    /// verb
    Verb,
    /// user.username
    User,
    /// user.uid
    Uid,
    /// user.groups
    Group,
    /// impersonatedUser.username
    As,
    /// impersonatedUser.groups
    AsGroup,
    /// objectRef.apiGroup
    Api,
    /// objectRef.apiVersion
    Version,
    /// objectRef.resource
    Resource,
    /// objectRef.subresource
    Sub,
    /// objectRef.namespace
    Ns,
    /// objectRef.name
    Name,
    /// responseStatus.code
    Code,
    /// responseStatus.status
    Status,
    /// responseStatus.reason
    Reason,
    /// responseStatus.message
    Message,
    /// The annotation authorization.k8s.io/decision
    Decision,
    /// The annotation authorization.k8s.io/reason
    Why,
    /// sourceIPs, all of them
    Ip,
    /// The last of sourceIPs, the only one that the client did not choose
    IpClient,
    /// userAgent
    Ua,
    /// requestURI
    Uri,
    /// requestURI up to the `?`
    Path,
    /// level
    Level,
    /// stage
    Stage,
    /// auditID
    AuditId,
    /// The envelope's `cluster`.
    Cluster,
    /// The envelope's `source`.
    Source,
    /// The envelope's `kind`: audit, access or pipeline.
    Kind,
    /// requestReceivedTimestamp to stageTimestamp
    Latency,
}

/// A row of the field table.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// The field.
    pub core: Core,
    /// Its name in queries.
    pub name: &'static str,
    /// Its path in an event's JSON, which is accepted as a name too; empty when it is not read from one place there.
    pub json: &'static str,
    /// How it is compared.
    pub ty: Type,
    /// Whether a record may hold several values.
    pub many: bool,
}

const fn one(core: Core, name: &'static str, json: &'static str, ty: Type) -> Info {
    Info { core, name, json, ty, many: false }
}

const fn many(core: Core, name: &'static str, json: &'static str, ty: Type) -> Info {
    Info { core, name, json, ty, many: true }
}

/// Every named field, in the order of [`Core`].
pub const TABLE: [Info; 33] = [
    one(Core::Ts, "ts", "stageTimestamp", Type::Time),
    one(Core::Received, "received", "requestReceivedTimestamp", Type::Time),
    one(Core::Journaled, "journaled", "", Type::Time),
    one(Core::Verb, "verb", "verb", Type::Keyword),
    one(Core::User, "user", "user.username", Type::Keyword),
    one(Core::Uid, "uid", "user.uid", Type::Keyword),
    many(Core::Group, "group", "user.groups", Type::Keyword),
    one(Core::As, "as", "impersonatedUser.username", Type::Keyword),
    many(Core::AsGroup, "as.group", "impersonatedUser.groups", Type::Keyword),
    one(Core::Api, "api", "objectRef.apiGroup", Type::Keyword),
    one(Core::Version, "version", "objectRef.apiVersion", Type::Keyword),
    one(Core::Resource, "resource", "objectRef.resource", Type::Keyword),
    one(Core::Sub, "sub", "objectRef.subresource", Type::Keyword),
    one(Core::Ns, "ns", "objectRef.namespace", Type::Keyword),
    one(Core::Name, "name", "objectRef.name", Type::Keyword),
    one(Core::Code, "code", "responseStatus.code", Type::Number),
    one(Core::Status, "status", "responseStatus.status", Type::Keyword),
    one(Core::Reason, "reason", "responseStatus.reason", Type::Keyword),
    one(Core::Message, "message", "responseStatus.message", Type::Text),
    one(Core::Decision, "decision", "", Type::Keyword),
    one(Core::Why, "why", "", Type::Text),
    many(Core::Ip, "ip", "sourceIPs", Type::Address),
    one(Core::IpClient, "ip.client", "", Type::Address),
    one(Core::Ua, "ua", "userAgent", Type::TextAndKeyword),
    one(Core::Uri, "uri", "requestURI", Type::TextAndKeyword),
    one(Core::Path, "path", "", Type::Keyword),
    one(Core::Level, "level", "level", Type::Keyword),
    one(Core::Stage, "stage", "stage", Type::Keyword),
    one(Core::AuditId, "audit_id", "auditID", Type::Keyword),
    one(Core::Cluster, "cluster", "", Type::Keyword),
    one(Core::Source, "source", "", Type::Keyword),
    one(Core::Kind, "kind", "", Type::Keyword),
    one(Core::Latency, "latency", "", Type::Duration),
];

impl Core {
    /// The field's row of the table.
    pub const fn info(self) -> &'static Info {
        &TABLE[self as usize]
    }
}

/// A part of an event that has no fixed shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Root {
    /// requestObject: `req.*`
    Request,
    /// responseObject: `resp.*`
    Response,
    /// annotations: `ann.*`. The rest of the path is one key.
    Annotation,
    /// user.extra: `extra.*`. The rest of the path is one key.
    Extra,
    /// The parameters of requestURI: `param.*`. The rest of the path is one key.
    Parameter,
    /// What no other field reads: `event.*`, by the JSON path from the top of the event. So the records that
    /// Muniment writes itself can be searched by their own fields.
    Event,
}

/// Every root with its name in queries and its path in an event's JSON.
pub const ROOTS: [(Root, &str, &str); 6] = [
    (Root::Request, "req", "requestObject"),
    (Root::Response, "resp", "responseObject"),
    (Root::Annotation, "ann", "annotations"),
    (Root::Extra, "extra", "user.extra"),
    (Root::Parameter, "param", ""),
    (Root::Event, "event", ""),
];

/// JSON paths of an event that are accepted without `event.` before them, with what is below them.
const EVENT_PATHS: [&str; 6] = [
    "responseStatus.details",
    "impersonatedUser.uid",
    "impersonatedUser.extra",
    "objectRef.uid",
    "objectRef.resourceVersion",
    "authenticationMetadata.impersonationConstraint",
];

impl Root {
    /// The name in queries.
    pub fn name(self) -> &'static str {
        ROOTS.iter().find(|(root, ..)| *root == self).map_or("", |(_, name, _)| name)
    }

    /// Whether this is a map of strings: below it a dot is an ordinary character of the key.
    pub const fn is_flat(self) -> bool {
        matches!(self, Self::Annotation | Self::Extra | Self::Parameter)
    }
}

/// A place below a [`Root`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// Where it starts.
    pub root: Root,
    /// The keys from there on; at most one below a flat root. Arrays are walked through without a key.
    /// Without keys the root as a whole is meant, which is only tested for being there.
    pub keys: Vec<String>,
}

impl Field {
    /// How the field is compared.
    pub const fn ty(&self) -> Type {
        match self {
            Self::Core(core) => core.info().ty,
            Self::Path(Path { root, .. }) if root.is_flat() => Type::Keyword,
            Self::Path(_) => Type::Any,
        }
    }

    /// Whether one record may hold several values of it.
    pub const fn holds_many(&self) -> bool {
        match self {
            Self::Core(core) => core.info().many,
            Self::Path(path) => !matches!(path.root, Root::Annotation),
        }
    }

    /// The field of a dotted name, given as its keys.
    ///
    /// # Errors
    /// With the nearest known name when there is none of this one.
    pub fn resolve(keys: &[String]) -> Result<Self, Nearest> {
        named(keys).or_else(|| by_json(keys)).ok_or_else(|| nearest(&keys.join(".")))
    }
}

impl From<Core> for Field {
    fn from(core: Core) -> Self {
        Self::Core(core)
    }
}

/// The known name that is most like an unknown one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nearest(pub &'static str);

fn named(keys: &[String]) -> Option<Field> {
    let name = keys.join(".");
    if let Some(info) = TABLE.iter().find(|info| info.name == name) {
        return Some(Field::Core(info.core));
    }
    let (first, rest) = keys.split_first()?;
    let (root, ..) = ROOTS.iter().find(|(_, name, _)| name == first)?;
    match root {
        // The path of a known field is that field, so that each field has one form.
        Root::Event => by_json(rest).or_else(|| below(Root::Event, rest)),
        root => below(*root, rest),
    }
}

fn by_json(keys: &[String]) -> Option<Field> {
    let path = keys.join(".");
    if let Some(info) = TABLE.iter().find(|info| !info.json.is_empty() && info.json == path) {
        return Some(Field::Core(info.core));
    }
    for (root, _, json) in ROOTS.iter().filter(|(.., json)| !json.is_empty()) {
        if let Some(rest) = strip(keys, json) {
            return below(*root, rest);
        }
    }
    EVENT_PATHS.iter().any(|known| strip(keys, known).is_some()).then(|| below(Root::Event, keys))?
}

fn strip<'k>(keys: &'k [String], prefix: &str) -> Option<&'k [String]> {
    let length = prefix.split('.').count();
    let (head, rest) = keys.split_at_checked(length)?;
    head.iter().map(String::as_str).eq(prefix.split('.')).then_some(rest)
}

fn below(root: Root, keys: &[String]) -> Option<Field> {
    if keys.iter().any(String::is_empty) {
        return None;
    }
    let keys = match keys {
        [] => Vec::new(),
        keys if root.is_flat() => vec![keys.join(".")],
        keys => keys.to_vec(),
    };
    Some(Field::Path(Path { root, keys }))
}

/// The nearest name, also by what the field is called in an event: `namespace` is near `ns`.
fn nearest(unknown: &str) -> Nearest {
    let unknown = unknown.to_lowercase();
    let fields = TABLE.iter().flat_map(|info| {
        [info.name, info.json, info.json.rsplit('.').next().unwrap_or_default()].map(|like| (like, info.name))
    });
    let roots = ROOTS.iter().flat_map(|(_, name, json)| [(*name, *name), (*json, *name)]);
    let similarity = |like: &str| strsim::normalized_damerau_levenshtein(&like.to_lowercase(), &unknown);
    let best = fields
        .chain(roots)
        .filter(|(like, _)| !like.is_empty())
        .map(|(like, name)| (similarity(like), name))
        .reduce(|best, next| if next.0 > best.0 { next } else { best });
    Nearest(best.map_or("", |(_, name)| name))
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Core(core) => f.write_str(core.info().name),
            Self::Path(path) => path.fmt(f),
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.root.name())?;
        for key in &self.keys {
            let plain_dots = self.root.is_flat() && !key.split('.').any(str::is_empty);
            f.write_str(".")?;
            for c in key.chars() {
                let bare = c.is_alphanumeric() || "_-/$".contains(c) || c == '.' && plain_dots;
                write!(f, "{}{c}", if bare { "" } else { "\\" })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(name: &str) -> Result<Field, Nearest> {
        Field::resolve(&name.split('.').map(str::to_owned).collect::<Vec<_>>())
    }

    fn path(root: Root, keys: &[&str]) -> Field {
        Field::Path(Path { root, keys: keys.iter().map(|k| (*k).to_owned()).collect() })
    }

    #[test]
    fn the_table_is_in_the_order_of_the_fields() {
        for (i, info) in TABLE.iter().enumerate() {
            assert_eq!(info.core as usize, i, "{}", info.name);
            assert_eq!(resolve(info.name), Ok(Field::Core(info.core)));
        }
    }

    #[test]
    fn an_event_s_own_path_is_the_same_field_as_the_short_name() {
        assert_eq!(resolve("objectRef.namespace"), Ok(Core::Ns.into()));
        assert_eq!(resolve("event.objectRef.namespace"), Ok(Core::Ns.into()));
        assert_eq!(resolve("requestObject.spec.replicas"), Ok(path(Root::Request, &["spec", "replicas"])));
        assert_eq!(resolve("user.extra.scopes"), Ok(path(Root::Extra, &["scopes"])));
        assert_eq!(
            resolve("responseStatus.details.kind"),
            Ok(path(Root::Event, &["responseStatus", "details", "kind"]))
        );
        assert_eq!(resolve("event.previous.boot"), Ok(path(Root::Event, &["previous", "boot"])));
    }

    #[test]
    fn a_dot_is_part_of_an_annotation_s_key() {
        let key = "pod-security.kubernetes.io/enforce-policy";
        assert_eq!(resolve(&format!("ann.{key}")), Ok(path(Root::Annotation, &[key])));
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest() {
        for (unknown, known) in [
            ("resorce", "resource"),
            ("namespace", "ns"),
            ("username", "user"),
            ("userAgent2", "ua"),
            ("Verb", "verb"),
            ("subresource", "sub"),
            ("objectRef.nam", "name"),
            ("requestObj", "req"),
            ("annotation", "ann"),
            ("req.", "req"),
        ] {
            assert_eq!(resolve(unknown), Err(Nearest(known)), "{unknown}");
        }
    }
}
