//! Text: searching by regular expressions, and what makes long texts from short ones.

use cel::{
    DeclarationError, Env, ExecutionError,
    common::{
        types::{CelList, CelString, INT_TYPE, LIST_TYPE, STRING_TYPE},
        value::{CowVal, Val},
    },
};
use regex::Regex;

use super::{Outcome, arg, int, member, text};
use crate::cel::guard::{JOIN, REPLACE, take_text};

pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_overload("jsonpatch.escapeKey", "k8s_jsonpatch_escapeKey", vec![STRING_TYPE], escape_key)?;
    member!(env, "find", STRING_TYPE, [STRING_TYPE], find);
    member!(env, "findAll", STRING_TYPE, [STRING_TYPE], find_all);
    member!(env, "findAll", STRING_TYPE, [STRING_TYPE, INT_TYPE], find_all);
    env.add_member_overload(REPLACE, "replace3", STRING_TYPE, vec![STRING_TYPE, STRING_TYPE], replace)?;
    env.add_member_overload(
        REPLACE,
        "replace4",
        STRING_TYPE,
        vec![STRING_TYPE, STRING_TYPE, INT_TYPE],
        replace,
    )?;
    env.add_member_overload(JOIN, "join1", LIST_TYPE, vec![], join)?;
    env.add_member_overload(JOIN, "join2", LIST_TYPE, vec![STRING_TYPE], join)
}

/// A key as a part of a JSON pointer (RFC 6901, section 3).
fn escape_key<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Outcome<'b, 'v> {
    Ok(CowVal::owned(CelString::from(text(&args, 0)?.replace('~', "~0").replace('/', "~1"))))
}

fn pattern(args: &[CowVal<'_, '_>]) -> Result<Regex, ExecutionError> {
    let pattern = text(args, 1)?;
    Regex::new(pattern)
        .map_err(|error| ExecutionError::function_error("find", format!("illegal regex: {error}")))
}

fn find<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Outcome<'b, 'v> {
    let found = pattern(&args)?.find(text(&args, 0)?).map_or("", |found| found.as_str());
    Ok(CowVal::owned(CelString::from(found.to_owned())))
}

/// With a number: the first ones; a negative one means all.
fn find_all<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Outcome<'b, 'v> {
    let limit =
        if args.len() > 2 { usize::try_from(int(&args, 2)?).unwrap_or(usize::MAX) } else { usize::MAX };
    let pattern = pattern(&args)?;
    let mut found: Vec<Box<dyn Val>> = Vec::new();
    for part in pattern.find_iter(text(&args, 0)?).take(limit) {
        take_text(part.len())?;
        found.push(Box::new(CelString::from(part.as_str().to_owned())));
    }
    Ok(CowVal::owned(CelList::from(found)))
}

/// Of an empty text every place between two letters is one. A negative number means all.
fn replace<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Outcome<'b, 'v> {
    let (whole, from, to) = (text(&args, 0)?, text(&args, 1)?, text(&args, 2)?);
    let limit =
        if args.len() > 3 { usize::try_from(int(&args, 3)?).unwrap_or(usize::MAX) } else { usize::MAX };
    let times = whole.matches(from).take(limit).count();
    take_text(whole.len().saturating_add(times.saturating_mul(to.len())))?;
    Ok(CowVal::owned(CelString::from(whole.replacen(from, to, times))))
}

fn join<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Outcome<'b, 'v> {
    let between = if args.len() > 1 { text(&args, 1)? } else { "" };
    let mut joined = String::new();
    for (n, item) in arg::<CelList>(&args, 0)?.inner().iter().enumerate() {
        let item = (**item).downcast_ref::<CelString>();
        let item = item.ok_or_else(|| ExecutionError::no_such_overload("join", vec![]))?.inner();
        take_text(between.len() + item.len())?;
        if n > 0 {
            joined.push_str(between);
        }
        joined.push_str(item);
    }
    Ok(CowVal::owned(CelString::from(joined)))
}
