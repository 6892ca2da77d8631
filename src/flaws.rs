//! What is wrong with a document that was given to be checked, a line for each flaw.

use std::path::Path;

use manifest::Refused;

/// `FILE:LINE:COLUMN: …` where there is a place, as editors and terminals link it.
pub(crate) fn lines(file: &Path, error: &Refused) -> String {
    let file = file.display();
    match error {
        Refused::Malformed { line: 1.., .. } => format!("{file}:{error}\n"),
        Refused::Malformed { message, .. } => format!("{file}: {message}\n"),
        Refused::Invalid(violations) => violations.iter().map(|v| format!("{file}: {v}\n")).collect(),
        other => format!("{file}: {other}\n"),
    }
}
