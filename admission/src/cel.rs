//! Expressions in CEL: compiled and checked when they are written, evaluated within bounds of our own.
//!
//! The library has no type checker, no cost model and no way to stop an evaluation. So names and calls are looked at
//! here, and what may repeat or grow is wrapped in calls that count, before an expression is ever evaluated.

mod check;
mod environment;
mod functions;
mod guard;
mod program;
#[cfg(test)]
mod tests;
mod value;
mod variables;

pub use program::{CompileError, Program, Wanted};
pub use variables::Scope;

pub(crate) use program::Answer;
pub(crate) use variables::{Activation, Subject, Variable};
