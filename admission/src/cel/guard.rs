//! Bounds of an evaluation. Every turn of a loop and everything that a call makes is counted; where the count or the
//! time is used up, nothing more is evaluated.

use std::{cell::Cell, time::Instant};

use cel::{
    DeclarationError, Env, ExecutionError,
    common::{
        ast::{
            CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedEntryExpr, IdedExpr, LiteralValue,
            MapEntryExpr, MapExpr, operators,
        },
        types::{CelBool, DYN_TYPE},
        value::{BuiltinRef, CowVal, Val},
    },
};

/// What one expression may cost: a turn of a loop is 1, a value that is made 4, and each 16 bytes of text 1.
const COST: u64 = 1_000_000;

/// What a value costs.
const VALUE: u64 = 4;

/// How much text costs 1.
const TEXT: u64 = 16;

const TICK: &str = "@tick";
const CHARGE: &str = "@charge";

/// `replace` and `join`, counted.
pub(super) const REPLACE: &str = "@replace";
pub(super) const JOIN: &str = "@join";

/// What ended an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spent {
    Cost,
    Time,
}

#[derive(Clone, Copy)]
struct Meter {
    left: u64,
    ends: Instant,
    spent: Option<Spent>,
}

thread_local! {
    /// An evaluation keeps to one thread, and the library hands nothing to its functions but their arguments.
    static METER: Cell<Option<Meter>> = const { Cell::new(None) };
}

/// Runs an evaluation within what it may cost and until it ends. One within another counts with the other.
///
/// # Errors
/// When the bound was reached, whatever the evaluation made of it.
pub(super) fn within<T>(ends: Instant, run: impl FnOnce() -> T) -> Result<T, Spent> {
    if METER.get().is_some() {
        return Ok(run());
    }
    METER.set(Some(Meter { left: COST, ends, spent: None }));
    let _reset = Reset;
    let outcome = run();
    match METER.get().and_then(|meter| meter.spent) {
        Some(spent) => Err(spent),
        None => Ok(outcome),
    }
}

struct Reset;

impl Drop for Reset {
    fn drop(&mut self) {
        METER.set(None);
    }
}

/// Takes from what is left; false when there is not enough.
pub(super) fn take(cost: u64) -> bool {
    let Some(mut meter) = METER.get() else { return true };
    if meter.spent.is_none() {
        match meter.left.checked_sub(cost) {
            None => meter.spent = Some(Spent::Cost),
            Some(_) if Instant::now() >= meter.ends => meter.spent = Some(Spent::Time),
            Some(left) => meter.left = left,
        }
        METER.set(Some(meter));
    }
    meter.spent.is_none()
}

/// Takes what a text of this length costs.
///
/// # Errors
/// When there is not enough left.
pub(super) fn take_text(bytes: usize) -> Result<(), ExecutionError> {
    let cost = VALUE + u64::try_from(bytes).unwrap_or(u64::MAX) / TEXT;
    if take(cost) { Ok(()) } else { Err(ExecutionError::function_error(CHARGE, "bounds are reached")) }
}

/// What a value costs with all that it holds.
fn cost(value: &dyn Val) -> u64 {
    let text = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX) / TEXT;
    VALUE
        + match value.as_builtin() {
            BuiltinRef::String(string) => text(string.inner().len()),
            BuiltinRef::List(list) => list.inner().iter().map(|item| cost(&**item)).sum(),
            BuiltinRef::Map(map) => map.inner().values().map(|item| VALUE + cost(&**item)).sum(),
            BuiltinRef::Optional(optional) => optional.inner().map_or(0, cost),
            _ => 0,
        }
}

/// Declares what counts. Their names cannot be written.
pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_overload(TICK, "tick()", vec![], tick)?;
    env.add_overload(CHARGE, "charge(dyn)", vec![DYN_TYPE], charge)
}

fn tick<'b, 'v>(_: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    if take(1) {
        return Ok(CowVal::owned(CelBool::from(true)));
    }
    Err(ExecutionError::function_error(TICK, "bounds are reached"))
}

fn charge<'b, 'v>(mut args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let value = args.pop().ok_or_else(ExecutionError::missing_argument_or_target)?;
    if take(cost(&*value)) {
        return Ok(value);
    }
    Err(ExecutionError::function_error(CHARGE, "bounds are reached"))
}

/// The same expression, counted.
pub(super) fn counted(expr: IdedExpr) -> IdedExpr {
    let id = expr.id;
    match expr.expr {
        Expr::Call(call) => self::call(id, call),
        Expr::Comprehension(comprehension) => {
            let expr = Expr::Comprehension(Box::new(self::comprehension(*comprehension)));
            IdedExpr { id, expr }
        }
        Expr::List(mut list) => {
            list.elements = list.elements.into_iter().map(counted).collect();
            charged(IdedExpr { id, expr: Expr::List(list) })
        }
        Expr::Map(mut map) => {
            map.entries = map.entries.into_iter().map(entry).collect();
            charged(IdedExpr { id, expr: Expr::Map(map) })
        }
        Expr::Struct(made) => {
            let entries = made.entries.into_iter().map(|field| entry(member(field))).collect();
            charged(IdedExpr { id, expr: Expr::Map(MapExpr { entries }) })
        }
        Expr::Select(select)
            if select.test && matches!(&select.operand.expr, Expr::Ident(name) if name == "variables") =>
        {
            // What is declared below `variables` is there; `check` knows that it is declared.
            IdedExpr { id, expr: Expr::Literal(LiteralValue::Boolean(true.into())) }
        }
        Expr::Select(mut select) => {
            select.operand = Box::new(counted(*select.operand));
            IdedExpr { id, expr: Expr::Select(select) }
        }
        expr @ (Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_)) => IdedExpr { id, expr },
    }
}

fn call(id: u64, mut call: CallExpr) -> IdedExpr {
    call.args = call.args.into_iter().map(counted).collect();
    call.target = call.target.map(|target| Box::new(counted(*target)));
    let is_operator = call.target.is_none() && call.func_name.starts_with(['_', '!', '-', '@']);
    let makes = !is_operator || call.func_name == operators::ADD;
    if call.target.is_some() {
        // What these make can be far larger than what they are given, so they count before they make it.
        match call.func_name.as_str() {
            "replace" => call.func_name = REPLACE.to_owned(),
            "join" => call.func_name = JOIN.to_owned(),
            _ => {}
        }
    }
    let expr = IdedExpr { id, expr: Expr::Call(call) };
    if makes { charged(expr) } else { expr }
}

/// What is written out as a type is a map of what is given: the library knows no such types.
fn member(entry: IdedEntryExpr) -> IdedEntryExpr {
    let IdedEntryExpr { id, expr: EntryExpr::StructField(field) } = entry else { return entry };
    let key = IdedExpr { id, expr: Expr::Literal(LiteralValue::String(field.field.into())) };
    let pair = MapEntryExpr { key, value: field.value, optional: field.optional };
    IdedEntryExpr { id, expr: EntryExpr::MapEntry(pair) }
}

fn entry(mut entry: IdedEntryExpr) -> IdedEntryExpr {
    match &mut entry.expr {
        EntryExpr::StructField(field) => field.value = counted(std::mem::take(&mut field.value)),
        EntryExpr::MapEntry(pair) => {
            pair.key = counted(std::mem::take(&mut pair.key));
            pair.value = counted(std::mem::take(&mut pair.value));
        }
    }
    entry
}

/// Only what a turn evaluates is wrapped: the library knows the steps of its macros by their shape.
fn comprehension(mut whole: ComprehensionExpr) -> ComprehensionExpr {
    whole.iter_range = counted(whole.iter_range);
    whole.accu_init = counted(whole.accu_init);
    whole.loop_step = step(whole.loop_step, &whole.accu_var);
    let is_sum = matches!(&whole.result.expr, Expr::Ident(name) if *name == whole.accu_var);
    if !is_sum {
        whole.result = counted(whole.result);
    }
    whole
}

fn step(expr: IdedExpr, sum: &str) -> IdedExpr {
    let is_sum = |expr: &IdedExpr| matches!(&expr.expr, Expr::Ident(name) if name == sum);
    let IdedExpr { id, expr: Expr::Call(mut call) } = expr else { return turn(counted(expr)) };
    match (call.func_name.as_str(), call.args.as_mut_slice()) {
        (operators::CONDITIONAL, [guard, then, otherwise]) if is_sum(otherwise) => {
            *guard = turn(counted(std::mem::take(guard)));
            *then = step(std::mem::take(then), sum);
        }
        (operators::LOGICAL_AND | operators::LOGICAL_OR, [first, second]) if is_sum(first) => {
            *second = turn(counted(std::mem::take(second)));
        }
        (operators::ADD, [first, second]) if is_sum(first) => match &mut second.expr {
            Expr::List(list) => {
                let elements = std::mem::take(&mut list.elements);
                list.elements = elements.into_iter().map(|item| turn(charged(counted(item)))).collect();
            }
            _ => *second = turn(counted(std::mem::take(second))),
        },
        _ => return turn(self::call(id, call)),
    }
    IdedExpr { id, expr: Expr::Call(call) }
}

/// Counts a turn before its expression is evaluated.
fn turn(expr: IdedExpr) -> IdedExpr {
    let id = expr.id;
    let tick = call_of(id, TICK, vec![]);
    let never = IdedExpr { id, expr: Expr::Literal(LiteralValue::Null) };
    call_of(id, operators::CONDITIONAL, vec![tick, expr, never])
}

fn charged(expr: IdedExpr) -> IdedExpr {
    call_of(expr.id, CHARGE, vec![expr])
}

fn call_of(id: u64, name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    IdedExpr { id, expr: Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args }) }
}
