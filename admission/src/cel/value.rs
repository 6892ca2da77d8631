//! Values between JSON and expressions.

use std::collections::{BTreeMap, HashMap};

use base64::{Engine, engine::general_purpose::STANDARD};
use cel::common::{
    types::{
        CelBool, CelBytes, CelDouble, CelDuration, CelInt, CelList, CelMap, CelMapKey, CelNull, CelOptional,
        CelString, CelTimestamp, CelUInt,
    },
    value::{BuiltinRef, StaticVal, Val},
};
use serde_json::Value;

use super::functions::{Cidr, Ip, Quantity};

/// A value of an object: whole numbers are `int` where they fit, all others `double`.
pub(super) fn of_json(value: &Value) -> Box<dyn Val> {
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(flag) => Box::new(CelBool::from(*flag)),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Box::new(CelInt::from(whole)),
            None => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
        },
        Value::String(text) => Box::new(CelString::from(text.clone())),
        Value::Array(items) => Box::new(CelList::from(items.iter().map(of_json).collect::<Vec<_>>())),
        Value::Object(members) => {
            let entries = members.iter().map(|(key, value)| (CelMapKey::from(key.clone()), of_json(value)));
            Box::new(CelMap::from(entries.collect::<HashMap<_, _>>()))
        }
    }
}

/// The same value on its own, borrowing nothing; none where it is of a kind that cannot be kept.
pub(super) fn detached(value: &dyn Val) -> Option<Box<dyn Val>> {
    Some(match value.as_builtin() {
        BuiltinRef::String(text) => Box::new(CelString::from(text.inner().to_owned())),
        BuiltinRef::Bytes(bytes) => Box::new(CelBytes::from(bytes.inner().to_vec())),
        BuiltinRef::List(list) => {
            let items = list.inner().iter().map(|item| detached(&**item)).collect::<Option<Vec<_>>>()?;
            Box::new(CelList::from(items))
        }
        BuiltinRef::Map(map) => {
            let entries =
                map.inner().iter().map(|(key, item)| Some((key.clone().into_static(), detached(&**item)?)));
            Box::new(CelMap::from(entries.collect::<Option<HashMap<_, _>>>()?))
        }
        BuiltinRef::Optional(optional) => match optional.inner() {
            None => Box::new(CelOptional::none()),
            Some(inner) => Box::new(CelOptional::of(detached(inner)?)),
        },
        _ => return single(value),
    })
}

/// A value as JSON; none where JSON has nothing like it.
pub(super) fn to_json(value: &dyn Val) -> Option<Value> {
    Some(match value.as_builtin() {
        BuiltinRef::String(text) => text.inner().into(),
        BuiltinRef::Bytes(bytes) => STANDARD.encode(bytes.inner()).into(),
        BuiltinRef::List(list) => {
            list.inner().iter().map(|item| to_json(&**item)).collect::<Option<Vec<_>>>()?.into()
        }
        BuiltinRef::Map(map) => {
            let entries = map.inner().iter().map(|(key, item)| {
                let BuiltinRef::String(key) = key.inner().as_builtin() else { return None };
                Some((key.inner().to_owned(), to_json(&**item)?))
            });
            // The library keeps maps in no order.
            let entries = entries.collect::<Option<BTreeMap<_, _>>>()?;
            Value::Object(entries.into_iter().collect())
        }
        _ => {
            if let Some(flag) = value.downcast_ref::<CelBool>() {
                (*flag.inner()).into()
            } else if let Some(number) = value.downcast_ref::<CelInt>() {
                (*number.inner()).into()
            } else if let Some(number) = value.downcast_ref::<CelUInt>() {
                (*number.inner()).into()
            } else if let Some(number) = value.downcast_ref::<CelDouble>() {
                serde_json::Number::from_f64(*number.inner())?.into()
            } else {
                value.downcast_ref::<CelNull>().map(|_| Value::Null)?
            }
        }
    })
}

fn single(value: &dyn Val) -> Option<Box<dyn Val>> {
    fn copy<T: StaticVal + Clone>(value: &dyn Val) -> Option<Box<dyn Val>> {
        value.downcast_ref::<T>().map(|value| Box::new(value.clone()) as Box<dyn Val>)
    }
    copy::<CelBool>(value)
        .or_else(|| copy::<CelInt>(value))
        .or_else(|| copy::<CelUInt>(value))
        .or_else(|| copy::<CelDouble>(value))
        .or_else(|| copy::<CelNull>(value))
        .or_else(|| copy::<CelTimestamp>(value))
        .or_else(|| copy::<CelDuration>(value))
        .or_else(|| copy::<Quantity>(value))
        .or_else(|| copy::<Ip>(value))
        .or_else(|| copy::<Cidr>(value))
}
