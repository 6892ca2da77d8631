//! What an expression may speak of.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Instant,
};

use cel::{
    common::value::{CowVal, Val},
    context::VariableResolver,
};
use serde_json::Value;

use super::{program::Program, value};

/// The names that an expression knows, beside those of every expression: `object`, `oldObject`, `request` and
/// `namespaceObject`.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Whether `params` is there.
    pub has_params: bool,
    /// The names below `variables`; none where there is no `variables`.
    pub variables: Option<Vec<String>>,
    /// Whether changes may be written out: `JSONPatch{…}`, and objects and parts of them as `Object.spec{…}`.
    pub writes: bool,
}

/// What all expressions about one request speak of. Objects are taken over when they are first asked for.
#[derive(Debug)]
pub(crate) struct Subject {
    object: Lazy,
    old_object: Lazy,
    request: Lazy,
    namespace: Lazy,
}

impl Subject {
    pub(crate) fn new(
        object: Option<Arc<Value>>,
        old_object: Option<Arc<Value>>,
        request: Value,
        namespace: Option<Arc<Value>>,
    ) -> Self {
        Self {
            object: Lazy::of(object),
            old_object: Lazy::of(old_object),
            request: Lazy::of(Some(Arc::new(request))),
            namespace: Lazy::of(namespace),
        }
    }
}

#[derive(Debug)]
struct Lazy {
    json: Arc<Value>,
    value: OnceLock<Box<dyn Val>>,
}

impl Lazy {
    /// What is not there is null.
    fn of(json: Option<Arc<Value>>) -> Self {
        Self { json: json.unwrap_or_default(), value: OnceLock::new() }
    }

    fn get(&self) -> &dyn Val {
        &**self.value.get_or_init(|| value::of_json(&self.json))
    }
}

/// A name below `variables`, with its expression.
#[derive(Clone, Debug)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) program: Result<Arc<Program>, String>,
}

/// What the expressions of one policy speak of. A variable is evaluated once, when it is first asked for.
pub(crate) struct Activation<'s> {
    subject: &'s Subject,
    params: Option<Lazy>,
    variables: &'s [Variable],
    values: Vec<OnceLock<Result<Box<dyn Val>, String>>>,
    failure: Mutex<Option<String>>,
    /// When everything ends.
    pub(super) ends: Instant,
}

impl<'s> Activation<'s> {
    /// `params` is none where the policy takes none.
    pub(crate) fn new(
        subject: &'s Subject,
        params: Option<Option<Arc<Value>>>,
        variables: &'s [Variable],
        ends: Instant,
    ) -> Self {
        let values = variables.iter().map(|_| OnceLock::new()).collect();
        Self { subject, params: params.map(Lazy::of), variables, values, failure: Mutex::default(), ends }
    }

    fn variable(&self, name: &str) -> Option<&Result<Box<dyn Val>, String>> {
        let at = self.variables.iter().position(|variable| variable.name == name)?;
        // A variable that asks for itself is no variable yet; the names of later ones are not in its scope.
        Some(self.values[at].get_or_init(|| {
            let program = self.variables[at].program.as_ref().map_err(Clone::clone)?;
            program.value(self)
        }))
    }

    /// The value of a variable. Why there is none is kept: the library only knows that it has found nothing.
    fn known(&self, name: &str) -> Option<&dyn Val> {
        match self.variable(name)? {
            Ok(value) => Some(&**value),
            Err(why) => {
                let why = format!("composited variable {name:?} fails to evaluate: {why}");
                *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
                None
            }
        }
    }

    /// Why the variable that was asked for last has no value.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl VariableResolver for Activation<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        let value = match name {
            "object" => self.subject.object.get(),
            "oldObject" => self.subject.old_object.get(),
            "request" => self.subject.request.get(),
            "namespaceObject" => self.subject.namespace.get(),
            "params" => self.params.as_ref()?.get(),
            _ => self.known(name.strip_prefix("variables.")?)?,
        };
        Some(CowVal::Borrowed(value))
    }
}
