//! What the language accepts, what it refuses and where, and that printing is the inverse of parsing.

mod meaning;
mod printed;
mod refused;

use ingest::time::Timestamp;

use super::*;

/// 2026-11-24T05:46:40Z
const NOW: Timestamp = Timestamp::from_micros(1_795_499_200_000_000);

fn ok(text: &str) -> Expr {
    parse(text, NOW).unwrap_or_else(|error| panic!("{text}\n{error}")).filter
}

fn clause(field: impl Into<Field>, test: Test) -> Expr {
    Expr::Clause(Clause { field: field.into(), test })
}

fn is(field: impl Into<Field>, pattern: Pattern) -> Expr {
    clause(field, Test::Match(Match { pattern, case: Case::Ignored }))
}

fn word(text: &str) -> Pattern {
    Pattern::Word(text.into())
}

fn path(root: Root, keys: &[&str]) -> Field {
    Field::Path(Path { root, keys: keys.iter().map(|key| (*key).to_owned()).collect() })
}

fn code(compare: Compare<i64>) -> Expr {
    let n = Number::Int;
    let compare = match compare {
        Compare::Is(a) => Compare::Is(n(a)),
        Compare::Below(a) => Compare::Below(n(a)),
        Compare::AtMost(a) => Compare::AtMost(n(a)),
        Compare::Above(a) => Compare::Above(n(a)),
        Compare::AtLeast(a) => Compare::AtLeast(n(a)),
        Compare::Between(a, b) => Compare::Between(n(a), n(b)),
    };
    clause(Core::Code, Test::Number(compare))
}
