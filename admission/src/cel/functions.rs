//! The functions that Kubernetes adds to CEL, as far as they are here; `docs/admission.md` lists them.

mod lists;
mod network;
mod quantity;
mod text;

use cel::{
    DeclarationError, Env, ExecutionError,
    common::{
        types::{CelInt, CelString},
        value::{CowVal, FromVal, Val},
    },
};

pub(super) use network::{Cidr, Ip};
pub(super) use quantity::Quantity;

/// What an overload gives.
type Outcome<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

/// Declares them all.
pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    text::declare(env)?;
    lists::declare(env)?;
    quantity::declare(env)?;
    network::declare(env)
}

/// An argument of the type that its overload was declared with.
fn arg<'b, 'v, T: FromVal<'b, 'v> + Val>(
    args: &'b [CowVal<'_, 'v>],
    at: usize,
) -> Result<&'b T, ExecutionError> {
    let value = args.get(at).ok_or_else(ExecutionError::missing_argument_or_target)?;
    (**value).downcast_ref::<T>().ok_or_else(|| ExecutionError::no_such_overload("", vec![]))
}

fn text<'b>(args: &'b [CowVal<'_, '_>], at: usize) -> Result<&'b str, ExecutionError> {
    Ok(arg::<CelString>(args, at)?.inner())
}

fn int(args: &[CowVal<'_, '_>], at: usize) -> Result<i64, ExecutionError> {
    Ok(*arg::<CelInt>(args, at)?.inner())
}

/// Declares an overload that belongs to a value.
macro_rules! member {
    ($env:expr, $name:literal, $target:expr, [$($arg:expr),*], $function:expr) => {
        $env.add_member_overload($name, concat!("k8s_", $name, "_", stringify!($target), stringify!($($arg)*)), $target, vec![$($arg),*], $function)?
    };
}

/// Declares an overload that stands alone.
macro_rules! global {
    ($env:expr, $name:literal, [$($arg:expr),*], $function:expr) => {
        $env.add_overload($name, concat!("k8s_", $name, "_", stringify!($($arg)*)), vec![$($arg),*], $function)?
    };
}

use {global, member};
