//! Which known name was meant.

/// How alike two names are, from 0 to 1; capitals do not count.
pub fn similarity(known: &str, given: &str) -> f64 {
    strsim::normalized_damerau_levenshtein(&known.to_lowercase(), &given.to_lowercase())
}

/// The known name that is most like `given`.
pub fn nearest<'n>(given: &str, known: &[&'n str]) -> Option<&'n str> {
    known.iter().copied().max_by(|a, b| similarity(a, given).total_cmp(&similarity(b, given)))
}
