//! What a client wants its answer in, from `Accept` and the query, as Kubernetes reads them.

use axum::http::{HeaderMap, header};

use super::{request::parameter, status::Status, tables};

/// The media types of answers, first the one that is used when nothing is asked for.
const SERVED: [(&str, Encoding); 3] = [
    ("application/json", Encoding::Json),
    ("application/yaml", Encoding::Yaml),
    ("application/vnd.kubernetes.protobuf", Encoding::Protobuf),
];

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// `application/json`
    #[default]
    Json,
    /// `application/yaml`
    Yaml,
    /// `application/vnd.kubernetes.protobuf`
    Protobuf,
}

/// What is shown of objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// All of it.
    #[default]
    Whole,
    /// Rows of a table for people.
    Table(Version),
    /// Type and metadata.
    Metadata(Version),
}

/// The version of `meta.k8s.io` that a shape was asked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `v1`
    V1,
    /// `v1beta1`, the same under another name
    V1Beta1,
}

impl Version {
    /// As `apiVersion` writes it.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "meta.k8s.io/v1",
            Self::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// What the rows of a table carry beside their cells (`includeObject`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Included {
    /// Nothing.
    Nothing,
    /// Type and metadata.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

/// What was agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// How it is written.
    pub encoding: Encoding,
    /// What is shown.
    pub shape: Shape,
    /// What goes with the rows of a table.
    pub included: Included,
    /// Whether JSON is indented for people.
    pub is_pretty: bool,
}

impl Accepted {
    /// Reads what a request accepts.
    ///
    /// # Errors
    /// 406 when nothing of it can be served, 400 for a table with what no table has.
    pub fn of(headers: &HeaderMap, query: Option<&str>) -> Result<Self, Status> {
        let mut values = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).peekable();
        let mut accepted = if values.peek().is_none() { Some(Self::default()) } else { None };
        let mut best = 0.0;
        for clause in values.flat_map(|v| v.split(',')) {
            let (quality, clause) = Clause::read(clause);
            if quality > best
                && let Some(found) = clause.served()
            {
                (best, accepted) = (quality, Some(found));
            }
        }
        let mut accepted = accepted.ok_or_else(|| Status::not_acceptable(&served()))?;
        if matches!(accepted.shape, Shape::Table(_)) {
            accepted.included = tables::included(parameter(query, "includeObject").as_deref())?;
        }
        accepted.is_pretty |= match parameter(query, "pretty") {
            Some(value) => !matches!(&*value, "false" | "0"),
            None => is_read_by_people(headers),
        };
        Ok(accepted)
    }
}

/// The media types that bodies may have and answers can have, for messages.
pub fn served() -> String {
    SERVED.map(|(name, _)| name).join(", ")
}

/// The encoding of a media type, whatever its parameters.
pub fn encoding_of(media_type: &str) -> Option<Encoding> {
    let name = media_type.split(';').next()?.trim();
    SERVED.iter().find(|(served, _)| served.eq_ignore_ascii_case(name)).map(|(_, encoding)| *encoding)
}

/// Upstream indents for the programs that people type.
fn is_read_by_people(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|program| agent.starts_with(program))
}

#[derive(Default)]
struct Clause<'a> {
    media_type: &'a str,
    shape: &'a str,
    group: &'a str,
    version: &'a str,
    is_pretty: bool,
}

impl<'a> Clause<'a> {
    fn read(clause: &'a str) -> (f32, Self) {
        let mut parts = clause.split(';').map(str::trim);
        let mut read = Self { media_type: parts.next().unwrap_or_default(), ..Self::default() };
        let mut quality = 1.0;
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            match key {
                "q" => quality = value.parse().unwrap_or(0.0),
                "as" => read.shape = value,
                "g" => read.group = value,
                "v" => read.version = value,
                "pretty" => read.is_pretty = value != "0" && value != "false",
                _ => {}
            }
        }
        (quality, read)
    }

    fn served(&self) -> Option<Accepted> {
        let encoding = match self.media_type {
            "*/*" | "application/*" => Encoding::Json,
            other => encoding_of(other)?,
        };
        Some(Accepted { encoding, shape: self.shape()?, is_pretty: self.is_pretty, ..Accepted::default() })
    }

    fn shape(&self) -> Option<Shape> {
        if self.shape.is_empty() {
            return Some(Shape::Whole);
        }
        let version = match (self.group, self.version) {
            ("meta.k8s.io", "v1") => Version::V1,
            ("meta.k8s.io", "v1beta1") => Version::V1Beta1,
            _ => return None,
        };
        match self.shape {
            "Table" => Some(Shape::Table(version)),
            "PartialObjectMetadata" | "PartialObjectMetadataList" => Some(Shape::Metadata(version)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(accept: &str) -> Option<Accepted> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        Accepted::of(&headers, None).ok()
    }

    #[test]
    fn the_first_of_the_best_that_can_be_served_wins() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(accepted(kubectl).unwrap().shape, Shape::Table(Version::V1));
        assert_eq!(accepted("text/html, */*;q=0.1").unwrap().encoding, Encoding::Json);
        assert_eq!(accepted("application/json;q=0.5,application/yaml").unwrap().encoding, Encoding::Yaml);
        assert_eq!(
            accepted("application/vnd.kubernetes.protobuf,application/json").unwrap().encoding,
            Encoding::Protobuf
        );
        assert_eq!(
            accepted("application/json;as=Strange;v=v1;g=meta.k8s.io,application/json").unwrap().shape,
            Shape::Whole
        );
        assert_eq!(accepted("text/html"), None);
        assert_eq!(accepted("application/json;q=0"), None);
    }

    #[test]
    fn people_get_indented_json() {
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, "curl/8.0".parse().unwrap());
        assert!(Accepted::of(&headers, None).unwrap().is_pretty);
        assert!(!Accepted::of(&headers, Some("pretty=false")).unwrap().is_pretty);
        assert!(Accepted::of(&HeaderMap::new(), Some("pretty=true")).unwrap().is_pretty);
    }
}
