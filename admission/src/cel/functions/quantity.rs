//! Amounts of resources.

use std::any::Any;

use cel::{
    DeclarationError, Env, ExecutionError,
    common::{
        types::{CelBool, CelDouble, CelInt, INT_TYPE, STRING_TYPE, Type},
        value::{CowVal, StaticVal, Val},
    },
};

use super::{Outcome, arg, global, int, member, text};
use crate::quantity;

/// An amount.
#[derive(Clone, Debug)]
pub(in crate::cel) struct Quantity(quantity::Quantity);

static QUANTITY: Type = Type::new_unspecified_type("kubernetes.Quantity");

impl Val for Quantity {
    fn get_type(&self) -> &Type {
        Self::cel_type()
    }

    fn cel_type() -> &'static Type {
        &QUANTITY
    }

    fn equals(&self, other: &dyn Val) -> bool {
        other.downcast_ref::<Self>().is_some_and(|other| self.0 == other.0)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Quantity {}

pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_type(QUANTITY.to_owned())?;
    let kind = || QUANTITY.to_owned();
    global!(env, "quantity", [STRING_TYPE], |args| made(text(&args, 0)?.parse()));
    global!(env, "isQuantity", [STRING_TYPE], |args| {
        Ok(CowVal::owned(CelBool::from(text(&args, 0)?.parse::<quantity::Quantity>().is_ok())))
    });
    member!(env, "isGreaterThan", kind(), [kind()], |args| {
        Ok(CowVal::owned(CelBool::from(of(&args, 0)? > of(&args, 1)?)))
    });
    member!(env, "isLessThan", kind(), [kind()], |args| {
        Ok(CowVal::owned(CelBool::from(of(&args, 0)? < of(&args, 1)?)))
    });
    member!(env, "compareTo", kind(), [kind()], |args| {
        Ok(CowVal::owned(CelInt::from(of(&args, 0)?.cmp(&of(&args, 1)?) as i64)))
    });
    member!(env, "add", kind(), [kind()], |args| made(Ok(of(&args, 0)?.plus(of(&args, 1)?))));
    member!(env, "sub", kind(), [kind()], |args| made(Ok(of(&args, 0)?.minus(of(&args, 1)?))));
    member!(env, "add", kind(), [INT_TYPE], |args| {
        made(Ok(of(&args, 0)?.plus(quantity::Quantity::whole(int(&args, 1)?))))
    });
    member!(env, "sub", kind(), [INT_TYPE], |args| {
        made(Ok(of(&args, 0)?.minus(quantity::Quantity::whole(int(&args, 1)?))))
    });
    member!(env, "sign", kind(), [], |args| {
        Ok(CowVal::owned(CelInt::from(of(&args, 0)?.cmp(&quantity::Quantity::default()) as i64)))
    });
    member!(env, "isInteger", kind(), [], |args| {
        Ok(CowVal::owned(CelBool::from(of(&args, 0)?.as_integer().is_some())))
    });
    member!(env, "asInteger", kind(), [], |args| {
        let whole = of(&args, 0)?.as_integer();
        let none = || ExecutionError::function_error("asInteger", "cannot convert value to integer");
        Ok(CowVal::owned(CelInt::from(whole.ok_or_else(none)?)))
    });
    member!(env, "asApproximateFloat", kind(), [], |args| {
        Ok(CowVal::owned(CelDouble::from(of(&args, 0)?.ratio(quantity::Quantity::whole(1)))))
    });
    Ok(())
}

fn of(args: &[CowVal<'_, '_>], at: usize) -> Result<quantity::Quantity, ExecutionError> {
    Ok(arg::<Quantity>(args, at)?.0)
}

fn made<'b, 'v>(amount: Result<quantity::Quantity, quantity::QuantityError>) -> Outcome<'b, 'v> {
    let amount = amount.map_err(|error| ExecutionError::function_error("quantity", error))?;
    Ok(CowVal::owned(Quantity(amount)))
}
