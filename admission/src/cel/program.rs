//! A compiled expression.

use std::thread;

use cel::{
    Context, ExecutionError, ParseErrors, Value,
    common::{
        ast::SourceInfo,
        types::{CelBool, CelNull, CelString},
        value::{CowVal, Val},
    },
    parser::Expression,
};
use serde_json::Value as Json;

use super::{
    check::{self, Flaw, Type},
    environment::environment,
    guard::{self, Spent},
    value::{detached, to_json},
    variables::{Activation, Scope},
};

/// The longest expression, in bytes.
const MAX_BYTES: usize = 10 * 1024;

/// How deep an expression may be nested.
const MAX_DEPTH: usize = 100;

/// Reading an expression goes as deep as it is nested, before that is known.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// What an expression has to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Yes or no.
    Bool,
    /// Text.
    Text,
    /// Text, or nothing.
    TextOrNull,
    /// Steps of a patch: `[JSONPatch{…}, …]`.
    Patch,
    /// Whatever it gives.
    Anything,
}

/// Why an expression cannot be compiled, as kube-apiserver says it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CompileError(String);

/// An expression that can be evaluated.
#[derive(Debug)]
pub struct Program {
    source: String,
    expression: Expression,
}

/// What an expression gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Bool(bool),
    Text(String),
    Null,
    /// Something of another type.
    Other(String),
}

impl Program {
    /// Compiles an expression that knows these names.
    ///
    /// # Errors
    /// When it is too long or nested too deep, is no CEL, speaks of something that is not there, calls what is not
    /// there, or visibly gives something else than what is wanted.
    pub fn compile(source: &str, scope: &Scope, wanted: Wanted) -> Result<Self, CompileError> {
        if source.len() > MAX_BYTES {
            let why = format!("the expression has {} bytes; at most {MAX_BYTES} are taken", source.len());
            return Err(CompileError(why));
        }
        let read = || read(source, scope, wanted);
        let run = thread::scope(|scope| {
            let thread = thread::Builder::new().name("cel".to_owned()).stack_size(STACK_BYTES);
            let running =
                thread.spawn_scoped(scope, read).map_err(|error| CompileError(error.to_string()))?;
            let panicked = |_| CompileError("compilation failed: the expression cannot be read".to_owned());
            running.join().map_err(panicked)?
        });
        Ok(Self { source: source.to_owned(), expression: run? })
    }

    /// Its text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Evaluates it. The sentence of an error is kube-apiserver's.
    pub(crate) fn evaluate(&self, activation: &Activation<'_>) -> Result<Answer, String> {
        let answer = self.run(activation, |value| Ok(answer(&*value)));
        answer.map_err(|why| format!("expression '{}' resulted in error: {why}", self.source))
    }

    /// Evaluates it to JSON, as [`Program::evaluate`].
    pub(crate) fn json(&self, activation: &Activation<'_>) -> Result<Json, String> {
        let answer = self.run(activation, |value| {
            to_json(&*value).ok_or_else(|| format!("a {} is no JSON", value.get_type().name()))
        });
        answer.map_err(|why| format!("expression '{}' resulted in error: {why}", self.source))
    }

    /// Evaluates it to a value that lasts.
    pub(super) fn value(&self, activation: &Activation<'_>) -> Result<Box<dyn Val>, String> {
        self.run(activation, |value| {
            detached(&*value).ok_or_else(|| format!("a variable cannot hold a {}", value.get_type().name()))
        })
    }

    fn run<T>(
        &self,
        activation: &Activation<'_>,
        take: impl FnOnce(CowVal<'_, '_>) -> Result<T, String>,
    ) -> Result<T, String> {
        let env = environment().map_err(|error| error.to_string())?;
        let mut context = Context::with_env(env);
        context.set_variable_resolver(activation);
        let outcome =
            guard::within(activation.ends, || match Value::resolve_val(&self.expression, &context) {
                Ok(value) => take(value),
                Err(error) => Err(described(&error, activation)),
            });
        match outcome {
            Ok(outcome) => outcome,
            Err(Spent::Cost) => Err("operation cancelled: actual cost limit exceeded".to_owned()),
            Err(Spent::Time) => Err("operation cancelled: the time for an evaluation is over".to_owned()),
        }
    }
}

fn answer(value: &dyn Val) -> Answer {
    if let Some(flag) = value.downcast_ref::<CelBool>() {
        return Answer::Bool(*flag.inner());
    }
    if let Some(text) = value.downcast_ref::<CelString>() {
        return Answer::Text(text.inner().to_owned());
    }
    if value.downcast_ref::<CelNull>().is_some() {
        return Answer::Null;
    }
    Answer::Other(value.get_type().name().to_owned())
}

/// An error in the words of the library that kube-apiserver has.
fn described(error: &ExecutionError, activation: &Activation<'_>) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => format!("no such key: {key}"),
        ExecutionError::UndeclaredReference(name) => {
            let failure = if name.as_str() == "variables" { activation.failure() } else { None };
            failure.unwrap_or_else(|| format!("no such attribute(s): {name}"))
        }
        ExecutionError::NoSuchOverload(_)
        | ExecutionError::UnsupportedBinaryOperator(..)
        | ExecutionError::UnexpectedType { .. }
        | ExecutionError::ValuesNotComparable(..) => "no such overload".to_owned(),
        ExecutionError::IndexOutOfBounds(Value::Int(at)) => format!("index out of bounds: {at}"),
        ExecutionError::DivisionByZero(_) => "division by zero".to_owned(),
        ExecutionError::RemainderByZero(_) => "modulus by zero".to_owned(),
        ExecutionError::Overflow(..) => "integer overflow".to_owned(),
        ExecutionError::FunctionError { function, message } if message.starts_with("string parse error") => {
            format!("type conversion error from 'string' to '{function}'")
        }
        ExecutionError::FunctionError { message, .. } => message.clone(),
        other => other.to_string(),
    }
}

fn read(source: &str, scope: &Scope, wanted: Wanted) -> Result<Expression, CompileError> {
    let env = environment().map_err(|error| CompileError(error.to_string()))?;
    let program = env.compile(source).map_err(|errors| unreadable(&errors, source))?;
    if check::is_deeper(program.expression(), MAX_DEPTH) {
        return Err(CompileError(format!("the expression is nested deeper than {MAX_DEPTH}")));
    }
    let (gives, flaws) = check::check(program.expression(), scope);
    if !flaws.is_empty() {
        return Err(flawed(flaws, program.source_info(), source));
    }
    let is_known = gives != Type::Any || check::is_untyped(program.expression());
    let is_wanted = match wanted {
        Wanted::Bool => gives == Type::Bool,
        Wanted::Text => gives == Type::Text,
        Wanted::TextOrNull => matches!(gives, Type::Text | Type::Null),
        Wanted::Patch => gives == Type::List,
        Wanted::Anything => true,
    };
    if is_known && !is_wanted {
        let what = match wanted {
            Wanted::Bool => "bool",
            Wanted::Text => "string",
            Wanted::Patch => "list(JSONPatch)",
            Wanted::TextOrNull | Wanted::Anything => "one of [string null_type]",
        };
        return Err(CompileError(format!("must evaluate to {what} but got {}", gives.name())));
    }
    Ok(guard::counted(program.expression().clone()))
}

fn unreadable(errors: &ParseErrors, source: &str) -> CompileError {
    let each = errors.errors.iter().map(|error| shown(error.pos, &error.msg, source));
    CompileError(format!("compilation failed: {}", each.collect::<Vec<_>>().join("\n")))
}

fn flawed(mut flaws: Vec<Flaw>, places: &SourceInfo, source: &str) -> CompileError {
    flaws.sort_by_key(|flaw| places.offset_for(flaw.at));
    let each = flaws.iter().map(|flaw| {
        let start = places.offset_for(flaw.at).map_or(0, |(start, _)| start as usize);
        let before: String = source.chars().take(start).collect();
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        let place = |n: usize| isize::try_from(n).unwrap_or(isize::MAX);
        shown((place(line), place(column)), &flaw.message, source)
    });
    CompileError(format!("compilation failed: {}", each.collect::<Vec<_>>().join("\n")))
}

/// What is wrong, with the line and a mark below its place.
fn shown((line, column): (isize, isize), message: &str, source: &str) -> String {
    let text = usize::try_from(line - 1).ok().and_then(|line| source.lines().nth(line)).unwrap_or_default();
    let dots = ".".repeat(usize::try_from(column - 1).unwrap_or_default().min(text.chars().count()));
    format!("ERROR: <input>:{line}:{column}: {message}\n | {text}\n | {dots}^")
}
