//! What a policy says of a request, with one binding and one set of parameters.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    condition::{all_hold, evaluate},
    rules::{Rules, ValidatingRules, Validation},
};
use crate::{
    cel::{Activation, Answer, Subject},
    controller::FailurePolicy,
};

/// How long the expressions of a policy may take, with one binding and one set of parameters.
pub(super) const EVALUATION: Duration = Duration::from_secs(1);

/// The longest message that an expression may give, in bytes.
const MAX_MESSAGE: usize = 5 * 1024;

/// A validation that does not hold, or that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Which of the policy's validations.
    pub(super) at: usize,
    pub(super) message: String,
    pub(super) reason: Option<String>,
}

/// What came of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ruling {
    pub(super) refusals: Vec<Refusal>,
    /// Keys with their values.
    pub(super) annotations: Vec<(String, String)>,
    /// Annotations that failed, where that refuses.
    pub(super) failures: Vec<String>,
}

/// Evaluates a policy. It ends by itself within [`EVALUATION`].
pub(super) fn decide(rules: &ValidatingRules, subject: &Subject, params: Option<Arc<Value>>) -> Ruling {
    let ends = Instant::now() + EVALUATION;
    let common = rules.common();
    let params = common.param_kind.is_some().then_some(params);
    let activation = Activation::new(subject, params, &common.variables, ends);
    let is_closed = common.failure_policy == FailurePolicy::Fail;
    let mut ruling = Ruling::default();
    match all_hold(&common.conditions, &activation) {
        Ok(true) => {}
        Ok(false) => return ruling,
        Err(message) => {
            if is_closed {
                ruling.refusals.push(Refusal { at: 0, message, reason: None });
            }
            return ruling;
        }
    }
    for (at, validation) in rules.validations.iter().enumerate() {
        match evaluate(&validation.program, &activation) {
            Ok(Answer::Bool(true)) => {}
            Ok(_) => {
                let message = message(validation, &activation);
                let reason = Some(validation.reason.clone().unwrap_or_else(|| "Invalid".to_owned()));
                ruling.refusals.push(Refusal { at, message, reason });
            }
            Err(message) if is_closed => ruling.refusals.push(Refusal { at, message, reason: None }),
            Err(_) => {}
        }
    }
    for (key, program) in &rules.annotations {
        match evaluate(program, &activation) {
            Ok(Answer::Text(text)) if !text.trim().is_empty() => {
                ruling.annotations.push((key.clone(), text.trim().to_owned()));
            }
            Ok(Answer::Text(_) | Answer::Null) => {}
            Ok(Answer::Bool(_) | Answer::Other(_)) if is_closed => {
                ruling.failures.push(format!("valueExpression of {key:?} gave neither a string nor null"));
            }
            Err(why) if is_closed => ruling.failures.push(why),
            Ok(_) | Err(_) => {}
        }
    }
    ruling
}

/// What the expression for the message gives, if it can be shown; else the message; else the expression that failed.
fn message(validation: &Validation, activation: &Activation<'_>) -> String {
    let made = validation.message_program.as_ref().and_then(|program| match evaluate(program, activation) {
        Ok(Answer::Text(text)) => Some(text.trim().to_owned()),
        _ => None,
    });
    let is_shown = |text: &String| !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n');
    if let Some(made) = made.filter(is_shown) {
        return made;
    }
    match validation.message.trim() {
        "" => format!("failed expression: {}", validation.expression.trim()),
        message => message.to_owned(),
    }
}
