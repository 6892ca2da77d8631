//! What a request asks for, told from its method and URL alone, as kube-apiserver tells it (`RequestInfo`, 1.36).

use std::borrow::Cow;

/// Path elements that are verbs where a resource would stand (`/api/v1/watch/pods`).
const PATH_VERBS: [&str; 2] = ["watch", "proxy"];

/// What may stand behind `/namespaces/NAME` and is not a resource within it.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

/// What a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Whether it is about a resource; all else has only `verb` and `path`.
    pub is_resource: bool,
    /// The Kubernetes verb, or the method in lower case where there is no resource. Empty for unknown methods.
    pub verb: Cow<'static, str>,
    /// The path as received, without the query.
    pub path: String,
    /// Empty for the core group.
    pub group: String,
    /// As in the URL.
    pub version: String,
    /// Plural, in lower case. Empty where `is_resource` is false.
    pub resource: String,
    /// Empty for the resource itself.
    pub subresource: String,
    /// Empty for what is not in a namespace, and for requests over all namespaces.
    pub namespace: String,
    /// Empty for creates and for requests on many objects, unless a field selector names one.
    pub name: String,
    /// Whether the path says more than was read from it: no handler knows what stands there.
    pub has_rest: bool,
}

impl RequestInfo {
    /// Reads method, path and query.
    ///
    /// # Errors
    /// When the path names a verb and nothing that it is about.
    pub fn new(method: &str, path: &str, query: Option<&str>) -> Result<Self, Unclear> {
        let mut info = Self::of_path(method, path);
        let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let is_core = match parts.first() {
            Some(&"api") => true,
            Some(&"apis") => false,
            _ => return Ok(info),
        };
        if parts.len() < if is_core { 3 } else { 4 } {
            return Ok(info);
        }
        parts.remove(0);
        if !is_core {
            info.group = parts.remove(0).to_owned();
        }
        info.is_resource = true;
        info.version = parts.remove(0).to_owned();
        info.verb = match parts.first() {
            Some(first) if PATH_VERBS.contains(first) => {
                if parts.len() < 2 {
                    return Err(Unclear(path.to_owned()));
                }
                Cow::Owned(parts.remove(0).to_owned())
            }
            _ => Cow::Borrowed(verb(method)),
        };
        if parts.first() == Some(&"namespaces") && parts.len() > 1 {
            info.namespace = parts[1].to_owned();
            if parts.len() > 2 && !NAMESPACE_SUBRESOURCES.contains(&parts[2]) {
                parts.drain(..2);
            }
        }
        info.place(&parts);
        info.refine(query);
        Ok(info)
    }

    /// A request that is about no resource.
    pub fn of_path(method: &str, path: &str) -> Self {
        Self { path: path.to_owned(), verb: lower(method), ..Self::default() }
    }

    fn place(&mut self, parts: &[&str]) {
        let part = |n: usize| parts.get(n).map(|p| (*p).to_owned()).unwrap_or_default();
        self.resource = part(0);
        self.name = part(1);
        if self.verb != "proxy" {
            self.subresource = part(2);
        }
        self.has_rest = parts.len() > 3;
    }

    /// What only the query tells: a get without a name is a list or a watch.
    fn refine(&mut self, query: Option<&str>) {
        if !self.name.is_empty() {
            return;
        }
        if self.verb == "delete" {
            self.verb = Cow::Borrowed("deletecollection");
        }
        if self.verb == "get" {
            self.verb = Cow::Borrowed(if asks_to_watch(query) { "watch" } else { "list" });
        }
        if matches!(&*self.verb, "list" | "watch" | "deletecollection")
            && let Some(name) = selected_name(query)
        {
            self.name = name;
        }
    }

    /// Whether the answer is a stream that ends when its reader goes.
    pub fn is_long_running(&self) -> bool {
        let streams = ["attach", "exec", "proxy", "log", "portforward"];
        self.is_resource
            && (matches!(&*self.verb, "watch" | "proxy") || streams.contains(&self.subresource.as_str()))
            || !self.is_resource && self.path.starts_with("/debug/pprof/")
    }

    /// Whether it may change something.
    pub fn is_mutating(&self) -> bool {
        is_mutating(&self.verb)
    }

    /// `resource` or `resource/subresource`.
    pub fn combined(&self) -> Cow<'_, str> {
        if self.subresource.is_empty() {
            Cow::Borrowed(&self.resource)
        } else {
            Cow::Owned(format!("{}/{}", self.resource, self.subresource))
        }
    }
}

/// A path that names a verb and nothing that it is about.
#[derive(Debug, thiserror::Error)]
#[error("unable to determine kind and namespace from url, {0}")]
pub struct Unclear(String);

fn lower(method: &str) -> Cow<'static, str> {
    match method {
        "GET" => "get".into(),
        "POST" => "post".into(),
        "PUT" => "put".into(),
        "DELETE" => "delete".into(),
        "PATCH" => "patch".into(),
        other => other.to_ascii_lowercase().into(),
    }
}

/// Whether what a verb does may change something.
pub fn is_mutating(verb: &str) -> bool {
    matches!(verb, "create" | "update" | "patch" | "delete" | "deletecollection")
}

fn verb(method: &str) -> &'static str {
    match method {
        "POST" => "create",
        "GET" | "HEAD" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

/// Any value but `false` and `0` asks for a watch, an empty one as well.
fn asks_to_watch(query: Option<&str>) -> bool {
    parameter(query, "watch").is_some_and(|value| !matches!(&*value.to_ascii_lowercase(), "false" | "0"))
}

/// The name of `fieldSelector=metadata.name=NAME`, where it is one that can stand in a path.
fn selected_name(query: Option<&str>) -> Option<String> {
    let selector = parameter(query, "fieldSelector")?;
    let mut terms = selector.split(',');
    let name = terms.find_map(|term| {
        let (field, value) = term.split_once('=')?;
        (field == "metadata.name").then(|| value.strip_prefix('=').unwrap_or(value))
    })?;
    let is_segment = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '%']);
    is_segment.then(|| name.to_owned())
}

/// The first value of a parameter.
pub(crate) fn parameter<'q>(query: Option<&'q str>, name: &str) -> Option<Cow<'q, str>> {
    form_urlencoded::parse(query?.as_bytes()).find_map(|(key, value)| (key == name).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(method: &str, url: &str) -> RequestInfo {
        let (path, query) = url.split_once('?').map_or((url, None), |(p, q)| (p, Some(q)));
        RequestInfo::new(method, path, query).unwrap()
    }

    fn told(method: &str, url: &str) -> String {
        let i = info(method, url);
        if !i.is_resource {
            return format!("{} {}", i.verb, i.path);
        }
        format!("{} {}/{} ns={} {} name={}", i.verb, i.group, i.version, i.namespace, i.combined(), i.name)
    }

    #[test]
    fn verbs_and_places_are_told_as_upstream_tells_them() {
        let cases = [
            ("GET", "/api", "get /api"),
            ("GET", "/apis/apps/v1", "get /apis/apps/v1"),
            ("HEAD", "/version", "head /version"),
            ("POST", "/api/v1/namespaces", "create /v1 ns= namespaces name="),
            ("GET", "/api/v1/namespaces/shop", "get /v1 ns=shop namespaces name=shop"),
            ("PUT", "/api/v1/namespaces/shop/finalize", "update /v1 ns=shop namespaces/finalize name=shop"),
            ("GET", "/api/v1/namespaces/shop/status", "get /v1 ns=shop namespaces/status name=shop"),
            ("GET", "/api/v1/namespaces/shop/pods", "list /v1 ns=shop pods name="),
            ("GET", "/api/v1/namespaces/shop/pods/p/log", "get /v1 ns=shop pods/log name=p"),
            ("GET", "/api/v1/pods?watch=true", "watch /v1 ns= pods name="),
            ("GET", "/api/v1/pods?watch", "watch /v1 ns= pods name="),
            ("GET", "/api/v1/pods?watch=0", "list /v1 ns= pods name="),
            ("GET", "/api/v1/watch/pods", "watch /v1 ns= pods name="),
            ("DELETE", "/api/v1/namespaces/shop/pods", "deletecollection /v1 ns=shop pods name="),
            ("DELETE", "/apis/apps/v1/namespaces/a/deployments/d", "delete apps/v1 ns=a deployments name=d"),
            (
                "PATCH",
                "/apis/apps/v1/namespaces/a/deployments/d/scale",
                "patch apps/v1 ns=a deployments/scale name=d",
            ),
            ("GET", "/api/v1/pods?fieldSelector=metadata.name%3Dx", "list /v1 ns= pods name=x"),
            ("GET", "/api/v1/pods?fieldSelector=metadata.name%3Dx&watch=1", "watch /v1 ns= pods name=x"),
            ("OPTIONS", "/api/v1/pods", " /v1 ns= pods name="),
            ("GET", "/api/v1/namespaces", "list /v1 ns= namespaces name="),
        ];
        for (method, url, expected) in cases {
            assert_eq!(told(method, url), expected, "{method} {url}");
        }
    }

    #[test]
    fn a_verb_in_the_path_needs_an_object() {
        assert!(RequestInfo::new("GET", "/api/v1/watch", None).is_err());
    }

    #[test]
    fn streams_are_long_running_and_lists_are_not() {
        assert!(info("GET", "/api/v1/pods?watch=1").is_long_running());
        assert!(info("GET", "/api/v1/namespaces/a/pods/p/log").is_long_running());
        assert!(!info("GET", "/api/v1/pods").is_long_running());
    }
}
