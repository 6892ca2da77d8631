//! Lists and sets.

use std::cmp::Ordering;

use cel::{
    DeclarationError, Env, ExecutionError,
    common::{
        types::{CelBool, CelDuration, CelInt, CelList, DYN_TYPE, LIST_TYPE},
        value::{CowVal, Val},
    },
};

use super::{Outcome, arg, global, member};
use crate::cel::guard::take;

pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    member!(env, "isSorted", LIST_TYPE, [], is_sorted);
    member!(env, "sum", LIST_TYPE, [], sum);
    member!(env, "min", LIST_TYPE, [], |args| extreme(args, "min", Ordering::Less));
    member!(env, "max", LIST_TYPE, [], |args| extreme(args, "max", Ordering::Greater));
    member!(env, "indexOf", LIST_TYPE, [DYN_TYPE], |args| index_of(args, false));
    member!(env, "lastIndexOf", LIST_TYPE, [DYN_TYPE], |args| index_of(args, true));
    global!(env, "sets.contains", [LIST_TYPE, LIST_TYPE], |args| {
        Ok(flag(holds_all(items(&args, 0)?, items(&args, 1)?)?))
    });
    global!(env, "sets.equivalent", [LIST_TYPE, LIST_TYPE], |args| {
        let (one, other) = (items(&args, 0)?, items(&args, 1)?);
        Ok(flag(holds_all(one, other)? && holds_all(other, one)?))
    });
    global!(env, "sets.intersects", [LIST_TYPE, LIST_TYPE], |args| {
        let (one, other) = (items(&args, 0)?, items(&args, 1)?);
        for item in one {
            if holds(other, &**item)? {
                return Ok(flag(true));
            }
        }
        Ok(flag(false))
    });
    Ok(())
}

type Items<'b, 'v> = &'b [Box<dyn Val + 'v>];

fn items<'b, 'v>(args: &'b [CowVal<'_, 'v>], at: usize) -> Result<Items<'b, 'v>, ExecutionError> {
    Ok(arg::<CelList>(args, at)?.inner())
}

fn flag<'b, 'v>(flag: bool) -> CowVal<'b, 'v> {
    CowVal::owned(CelBool::from(flag))
}

fn no_overload(function: &str) -> ExecutionError {
    ExecutionError::no_such_overload(function, vec![])
}

/// Two values in order, where they have one.
fn compared(one: &dyn Val, other: &dyn Val) -> Result<Ordering, ExecutionError> {
    one.as_comparer().ok_or_else(|| no_overload("<"))?.compare(other)
}

fn is_sorted<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Outcome<'b, 'v> {
    for pair in items(&args, 0)?.windows(2) {
        if compared(&*pair[0], &*pair[1])? == Ordering::Greater {
            return Ok(flag(false));
        }
    }
    Ok(flag(true))
}

fn extreme<'b, 'v>(args: Vec<CowVal<'b, 'v>>, name: &str, wanted: Ordering) -> Outcome<'b, 'v> {
    let mut items = items(&args, 0)?.iter();
    let none = || ExecutionError::function_error(name, format!("{name} called on empty list"));
    let mut best = items.next().ok_or_else(none)?;
    for item in items {
        if compared(&**item, &**best)? == wanted {
            best = item;
        }
    }
    Ok(CowVal::Owned(best.clone()))
}

/// Numbers and durations; of none it is 0.
fn sum<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Outcome<'b, 'v> {
    let mut items = items(&args, 0)?.iter();
    let Some(first) = items.next() else { return Ok(CowVal::owned(CelInt::from(0))) };
    let is_text = |value: &dyn Val| {
        value.as_negator().is_none()
            && value.downcast_ref::<CelDuration>().is_none()
            && value.as_subtractor().is_none()
    };
    if is_text(&**first) {
        return Err(no_overload("sum"));
    }
    let mut total = first.clone();
    for item in items {
        let sum = total.as_adder().ok_or_else(|| no_overload("sum"))?.add(&**item)?.into_owned();
        total = sum;
    }
    Ok(CowVal::Owned(total))
}

fn index_of<'b, 'v>(args: Vec<CowVal<'b, 'v>>, from_the_end: bool) -> Outcome<'b, 'v> {
    let (items, wanted) = (items(&args, 0)?, &*args[1]);
    let at = if from_the_end {
        items.iter().rposition(|item| item.equals(wanted))
    } else {
        items.iter().position(|item| item.equals(wanted))
    };
    Ok(CowVal::owned(CelInt::from(at.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1))))
}

/// Whether an item is there. Each look counts as a turn.
fn holds(items: Items<'_, '_>, wanted: &dyn Val) -> Result<bool, ExecutionError> {
    if !take(1 + u64::try_from(items.len()).unwrap_or(u64::MAX)) {
        return Err(ExecutionError::function_error("sets", "bounds are reached"));
    }
    Ok(items.iter().any(|item| item.equals(wanted)))
}

fn holds_all(items: Items<'_, '_>, wanted: Items<'_, '_>) -> Result<bool, ExecutionError> {
    for item in wanted {
        if !holds(items, &**item)? {
            return Ok(false);
        }
    }
    Ok(true)
}
