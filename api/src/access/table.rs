//! What each route of our own interface needs, as roles name it: one row for every route and method.

use axum::http::Method;

/// The API group that roles name our own interface by. It has no objects and no discovery.
pub const GROUP: &str = "muniment.io";

/// Records of the pipeline, of every kind.
pub(crate) const EVENTS: &str = "events";

/// Tokens of our own.
pub(crate) const TOKENS: &str = "tokens";

/// What somebody must be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: it tells no more than whether the process is well.
    Nothing,
    /// The verb on the path itself, as a rule with `nonResourceURLs` has it.
    Path,
    /// The verb on a resource of [`GROUP`], over everything. The object's name is what stands in the path.
    Resource(&'static str, &'static str),
    /// The verb on events, of which each caller sees its own part.
    Events,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The route, with its parameters in braces.
    pub path: &'static str,
    /// Its method. `GET` is `HEAD` too.
    pub method: &'static str,
    /// The verb in roles.
    pub verb: &'static str,
    /// See there.
    pub need: Need,
    /// Whether each use of it is recorded.
    pub is_recorded: bool,
}

const fn row(method: &'static str, path: &'static str, verb: &'static str, need: Need) -> Row {
    Row { path, method, verb, need, is_recorded: true }
}

/// A route that is asked for all the time, by machines, and tells nothing of what is kept.
const fn quiet(method: &'static str, path: &'static str, verb: &'static str, need: Need) -> Row {
    Row { is_recorded: false, ..row(method, path, verb, need) }
}

const fn of(resource: &'static str) -> Need {
    Need::Resource(resource, "")
}

/// Every route. What is not here is nobody's, and a test looks for such.
pub static TABLE: [Row; 22] = [
    quiet("GET", "/livez", "get", Need::Nothing),
    quiet("GET", "/readyz", "get", Need::Nothing),
    quiet("GET", "/metrics", "get", Need::Path),
    quiet("POST", "/v1/intake/audit/{cluster}", "create", of(EVENTS)),
    row("GET", "/v1/events", "list", Need::Events),
    row("GET", "/v1/events/{id}", "get", Need::Events),
    row("GET", "/v1/histogram", "list", Need::Events),
    row("GET", "/v1/tail", "watch", Need::Events),
    row("GET", "/v1/completeness", "get", of("integrity")),
    row("GET", "/v1/tokens", "list", of(TOKENS)),
    row("POST", "/v1/tokens", "create", of(TOKENS)),
    row("GET", "/v1/tokens/{id}", "get", of(TOKENS)),
    row("DELETE", "/v1/tokens/{id}", "delete", of(TOKENS)),
    row("GET", "/v1/rebuild", "get", of("rebuilds")),
    row("POST", "/v1/rebuild", "create", of("rebuilds")),
    row("GET", "/v1/keys", "list", of("keys")),
    row("GET", "/v1/keys/rotation", "get", Need::Resource("keys", "rotation")),
    row("GET", "/v1/keys/days", "list", Need::Resource("keys", "days")),
    row("DELETE", "/v1/keys/days/{day}", "delete", Need::Resource("keys", "days")),
    row("POST", "/admission/v1/mutate", "create", of("admissionreviews")),
    row("POST", "/admission/v1/validate", "create", of("admissionreviews")),
    row("POST", "/v1/keys/rotation", "create", Need::Resource("keys", "rotation")),
];

/// The row of a route, where there is one.
pub(crate) fn find(method: &Method, path: &str) -> Option<&'static Row> {
    let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
    TABLE.iter().find(|row| row.path == path && row.method == method)
}

/// What stands in `path` in place of the parameter of the route `pattern`; empty where it has none.
pub(crate) fn parameter<'p>(pattern: &str, path: &'p str) -> &'p str {
    let mut parts = pattern.split('/').zip(path.split('/'));
    parts.find_map(|(pattern, part)| pattern.starts_with('{').then_some(part)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_route_and_method_has_one_row() {
        for (n, row) in TABLE.iter().enumerate() {
            let others = TABLE.iter().skip(n + 1);
            assert!(
                !others.clone().any(|other| (other.path, other.method) == (row.path, row.method)),
                "{row:?}"
            );
        }
        assert!(find(&Method::HEAD, "/v1/events").is_some() && find(&Method::PUT, "/v1/events").is_none());
    }

    #[test]
    fn the_parameter_of_a_path_is_the_name() {
        assert_eq!(parameter("/v1/tokens/{id}", "/v1/tokens/x"), "x");
        assert_eq!(parameter("/v1/intake/audit/{cluster}", "/v1/intake/audit/demo"), "demo");
        assert_eq!(parameter("/v1/tokens", "/v1/tokens"), "");
    }
}
