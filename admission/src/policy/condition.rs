//! Match conditions: expressions that say whether a policy or webhook is for a request at all.

use std::sync::Arc;

use serde::Deserialize;

use crate::cel::{Activation, Answer, Program, Scope, Wanted};

/// As it is stored.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StoredCondition {
    pub(crate) name: String,
    pub(crate) expression: String,
}

/// An expression that was compiled, or why it was not: another server may have stored it.
pub(crate) type Compiled = Result<Arc<Program>, String>;

/// Compiles a stored expression.
pub(crate) fn compiled(source: &str, scope: &Scope, wanted: Wanted) -> Compiled {
    Program::compile(source, scope, wanted)
        .map(Arc::new)
        .map_err(|error| format!("compilation error: {error}"))
}

/// Evaluates an expression that was compiled.
pub(crate) fn evaluate(program: &Compiled, activation: &Activation<'_>) -> Result<Answer, String> {
    program.as_ref().map_err(Clone::clone)?.evaluate(activation)
}

/// Whether all hold. One that does not decides, whatever fails beside it.
///
/// # Errors
/// What failed, when none says no.
pub(crate) fn all_hold(conditions: &[Compiled], activation: &Activation<'_>) -> Result<bool, String> {
    let mut failures = Vec::new();
    for condition in conditions {
        match evaluate(condition, activation) {
            Ok(Answer::Bool(true)) => {}
            Ok(Answer::Bool(false)) => return Ok(false),
            Ok(_) => failures.push("a match condition did not evaluate to bool".to_owned()),
            Err(why) => failures.push(why),
        }
    }
    if failures.is_empty() { Ok(true) } else { Err(crate::denial::aggregate(&failures)) }
}
