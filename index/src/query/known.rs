//! Fields that hold one of a few values: another value would find nothing, ever.

use ingest::{
    event::{Level, Stage},
    record::Kind,
};

use super::{Case, Core, Field, Match, Pattern, error::Fault};

/// What the API server's authorizers answer.
const DECISIONS: [&str; 2] = ["allow", "forbid"];

/// The values that `field` can have, where these are few.
pub(super) fn values(field: &Field) -> Option<Vec<&'static str>> {
    Some(match field {
        Field::Core(Core::Level) => Level::ALL.map(Level::as_str).to_vec(),
        Field::Core(Core::Stage) => Stage::ALL.map(Stage::as_str).to_vec(),
        Field::Core(Core::Kind) => Kind::ALL.map(Kind::as_str).to_vec(),
        Field::Core(Core::Decision) => DECISIONS.to_vec(),
        _ => return None,
    })
}

/// Refuses a word or phrase that the field cannot hold, and names the nearest value that it can.
pub(super) fn holds(at: usize, field: &Field, test: &Match) -> Result<(), Fault> {
    let (Pattern::Word(text) | Pattern::Phrase { text, .. }) = &test.pattern else { return Ok(()) };
    let Some(values) = values(field) else { return Ok(()) };
    // A decision is an annotation, which intake takes as it is.
    let is_exact = test.case == Case::Sensitive && *field != Field::Core(Core::Decision);
    let is_known = |value: &&str| if is_exact { *value == text } else { value.eq_ignore_ascii_case(text) };
    if values.iter().any(is_known) {
        return Ok(());
    }
    let asked = text.to_lowercase();
    let similarity = |value: &str| strsim::normalized_damerau_levenshtein(&value.to_lowercase(), &asked);
    let nearest = values.iter().copied().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    Err(Fault::new(at, format!("\"{field}\" is never {text:?}, but one of {}", values.join(", ")))
        .suggest(format!("did you mean {}?", nearest.unwrap_or_default())))
}
