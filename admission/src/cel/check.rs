//! What an expression speaks of and calls is there: known when it is written, not when a request fails on it.

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, StructExpr, operators,
};

use super::variables::Scope;

/// What an expression gives, as far as that can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Bytes,
    List,
    Map,
    Null,
    /// Anything, and whatever is not looked into.
    Any,
}

impl Type {
    /// As errors name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Bool => "bool",
            Int => "int",
            Uint => "uint",
            Double => "double",
            Text => "string",
            Bytes => "bytes",
            List => "list(dyn)",
            Map => "map(dyn, dyn)",
            Null => "null_type",
            Any => "dyn",
        }
    }
}

use Type::{Any, Bool, Bytes, Double, Int, List, Map, Null, Text, Uint};

/// A function: its name, how many arguments it takes alone and with a target, and what it gives.
type Function = (&'static str, &'static [usize], &'static [usize], Type);

const FUNCTIONS: &[Function] = &[
    ("add", &[], &[1], Any),
    ("asApproximateFloat", &[], &[0], Double),
    ("asInteger", &[], &[0], Int),
    ("bool", &[1], &[], Bool),
    ("bytes", &[1], &[], Bytes),
    ("charAt", &[], &[1], Text),
    ("cidr", &[1], &[], Any),
    ("compareTo", &[], &[1], Int),
    ("contains", &[], &[1], Bool),
    ("containsCIDR", &[], &[1], Bool),
    ("containsIP", &[], &[1], Bool),
    ("double", &[1], &[], Double),
    ("duration", &[1], &[], Any),
    ("dyn", &[1], &[], Any),
    ("endsWith", &[], &[1], Bool),
    ("family", &[], &[0], Int),
    ("find", &[], &[1], Text),
    ("findAll", &[], &[1, 2], List),
    ("format", &[], &[1], Text),
    ("getDate", &[], &[0, 1], Int),
    ("getDayOfMonth", &[], &[0, 1], Int),
    ("getDayOfWeek", &[], &[0, 1], Int),
    ("getDayOfYear", &[], &[0, 1], Int),
    ("getFullYear", &[], &[0, 1], Int),
    ("getHours", &[], &[0, 1], Int),
    ("getMilliseconds", &[], &[0, 1], Int),
    ("getMinutes", &[], &[0, 1], Int),
    ("getMonth", &[], &[0, 1], Int),
    ("getSeconds", &[], &[0, 1], Int),
    ("hasValue", &[], &[0], Bool),
    ("indexOf", &[], &[1, 2], Int),
    ("int", &[1], &[], Int),
    ("ip", &[1], &[0], Any),
    ("ip.isCanonical", &[1], &[], Bool),
    ("isCIDR", &[1], &[], Bool),
    ("isGlobalUnicast", &[], &[0], Bool),
    ("isGreaterThan", &[], &[1], Bool),
    ("isIP", &[1], &[], Bool),
    ("isInteger", &[], &[0], Bool),
    ("isLessThan", &[], &[1], Bool),
    ("isLinkLocalMulticast", &[], &[0], Bool),
    ("isLinkLocalUnicast", &[], &[0], Bool),
    ("isLoopback", &[], &[0], Bool),
    ("isQuantity", &[1], &[], Bool),
    ("isSorted", &[], &[0], Bool),
    ("isUnspecified", &[], &[0], Bool),
    ("join", &[], &[0, 1], Text),
    ("jsonpatch.escapeKey", &[1], &[], Text),
    ("lastIndexOf", &[], &[1, 2], Int),
    ("lowerAscii", &[], &[0], Text),
    ("masked", &[], &[0], Any),
    ("matches", &[2], &[1], Bool),
    ("max", &[], &[0], Any),
    ("min", &[], &[0], Any),
    ("optional.none", &[0], &[], Any),
    ("optional.of", &[1], &[], Any),
    ("optional.ofNonZeroValue", &[1], &[], Any),
    ("or", &[], &[1], Any),
    ("orValue", &[], &[1], Any),
    ("prefixLength", &[], &[0], Int),
    ("quantity", &[1], &[], Any),
    ("replace", &[], &[2, 3], Text),
    ("sets.contains", &[2], &[], Bool),
    ("sets.equivalent", &[2], &[], Bool),
    ("sets.intersects", &[2], &[], Bool),
    ("sign", &[], &[0], Int),
    ("size", &[1], &[0], Int),
    ("split", &[], &[1, 2], List),
    ("startsWith", &[], &[1], Bool),
    ("string", &[1], &[], Text),
    ("strings.quote", &[1], &[], Text),
    ("sub", &[], &[1], Any),
    ("substring", &[], &[1, 2], Text),
    ("sum", &[], &[0], Any),
    ("timestamp", &[1], &[], Any),
    ("trim", &[], &[0], Text),
    ("type", &[1], &[], Any),
    ("uint", &[1], &[], Uint),
    ("upperAscii", &[], &[0], Text),
    ("value", &[], &[0], Any),
];

/// Names of types, which are values too.
const TYPES: [&str; 11] =
    ["bool", "bytes", "double", "int", "list", "map", "null_type", "optional_type", "string", "type", "uint"];

const REQUEST: [&str; 12] = [
    "dryRun",
    "kind",
    "name",
    "namespace",
    "operation",
    "options",
    "requestKind",
    "requestResource",
    "requestSubResource",
    "resource",
    "subResource",
    "userInfo",
];

/// What is wrong at a place of an expression.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) at: u64,
    pub(super) message: String,
}

/// Looks an expression through. What it gives, and everything that is wrong.
pub(super) fn check(expr: &IdedExpr, scope: &Scope) -> (Type, Vec<Flaw>) {
    let mut check = Check { scope, locals: Vec::new(), flaws: Vec::new() };
    let gives = check.expr(expr);
    (gives, check.flaws)
}

/// Whether an expression is a part of an object, of whose type nothing is known wherever it is evaluated.
pub(super) fn is_untyped(expr: &IdedExpr) -> bool {
    match &expr.expr {
        Expr::Ident(name) => ["object", "oldObject", "params"].contains(&name.as_str()),
        Expr::Select(select) => !select.test && is_untyped(&select.operand),
        Expr::Call(call) if call.func_name == operators::INDEX => call.args.first().is_some_and(is_untyped),
        _ => false,
    }
}

/// How deep an expression is nested, up to a bound.
pub(super) fn is_deeper(expr: &IdedExpr, bound: usize) -> bool {
    let Some(rest) = bound.checked_sub(1) else { return true };
    let deeper = |expr: &IdedExpr| is_deeper(expr, rest);
    match &expr.expr {
        Expr::Call(call) => call.target.iter().any(|target| deeper(target)) || call.args.iter().any(deeper),
        Expr::Comprehension(c) => {
            [&c.iter_range, &c.accu_init, &c.loop_cond, &c.loop_step, &c.result].into_iter().any(deeper)
        }
        Expr::List(list) => list.elements.iter().any(deeper),
        Expr::Map(map) => map.entries.iter().any(|entry| entry_is(&entry.expr, deeper)),
        Expr::Struct(made) => made.entries.iter().any(|entry| entry_is(&entry.expr, deeper)),
        Expr::Select(select) => deeper(&select.operand),
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => false,
    }
}

fn entry_is(entry: &EntryExpr, holds: impl Fn(&IdedExpr) -> bool) -> bool {
    match entry {
        EntryExpr::StructField(field) => holds(&field.value),
        EntryExpr::MapEntry(pair) => holds(&pair.key) || holds(&pair.value),
    }
}

struct Check<'c> {
    scope: &'c Scope,
    /// What loops call their items and sums.
    locals: Vec<String>,
    flaws: Vec<Flaw>,
}

impl Check<'_> {
    fn flaw(&mut self, at: u64, message: impl Into<String>) -> Type {
        self.flaws.push(Flaw { at, message: message.into() });
        Any
    }

    fn undeclared(&mut self, at: u64, name: &str) -> Type {
        if name == "authorizer" {
            return self
                .flaw(at, "'authorizer' is not available: this server does not evaluate it in expressions");
        }
        self.flaw(at, format!("undeclared reference to '{name}' (in container '')"))
    }

    fn all(&mut self, expressions: &[IdedExpr]) {
        for expr in expressions {
            self.expr(expr);
        }
    }

    fn expr(&mut self, expr: &IdedExpr) -> Type {
        match &expr.expr {
            Expr::Literal(literal) => match literal {
                LiteralValue::Boolean(_) => Bool,
                LiteralValue::Bytes(_) => Bytes,
                LiteralValue::Double(_) => Double,
                LiteralValue::Int(_) => Int,
                LiteralValue::Null => Null,
                LiteralValue::String(_) => Text,
                LiteralValue::UInt(_) => Uint,
            },
            Expr::Ident(name) => self.ident(expr.id, name),
            Expr::Select(select) => {
                if let Expr::Ident(root) = &select.operand.expr
                    && !self.locals.contains(root)
                {
                    self.field(expr.id, root, &select.field);
                    if root == "variables" && self.scope.variables.is_some() {
                        return if select.test { Bool } else { Any };
                    }
                }
                self.expr(&select.operand);
                if select.test { Bool } else { Any }
            }
            Expr::Call(call) => self.call(expr.id, call),
            Expr::List(list) => {
                self.all(&list.elements);
                List
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(pair) = &entry.expr {
                        self.expr(&pair.key);
                        self.expr(&pair.value);
                    }
                }
                Map
            }
            Expr::Struct(made) => self.written(expr.id, made),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Unspecified => self.flaw(expr.id, "unexpected expression"),
        }
    }

    /// A step of a patch, or a part of an object: of what objects have nothing is known.
    fn written(&mut self, at: u64, made: &StructExpr) -> Type {
        let name = made.type_name.trim_start_matches('.');
        let is_step = name == "JSONPatch";
        if !self.scope.writes || !(is_step || name == "Object" || name.starts_with("Object.")) {
            return self.undeclared(at, &made.type_name);
        }
        for entry in &made.entries {
            let EntryExpr::StructField(field) = &entry.expr else { continue };
            let gives = self.expr(&field.value);
            let wanted = match field.field.as_str() {
                "value" => continue,
                _ if !is_step => continue,
                "op" | "path" | "from" if matches!(gives, Text | Any) => continue,
                "op" | "path" | "from" => Text.name(),
                _ => "",
            };
            let (name, gives) = (&field.field, gives.name());
            self.flaw(
                entry.id,
                format!("expected type of field '{name}' is '{wanted}' but provided type is '{gives}'"),
            );
        }
        Map
    }

    fn ident(&mut self, at: u64, name: &str) -> Type {
        let bare = name.strip_prefix('.').unwrap_or(name);
        if self.locals.iter().any(|local| local == name) {
            return Any;
        }
        match bare {
            "object" | "oldObject" | "request" | "namespaceObject" => Any,
            "params" if self.scope.has_params => Any,
            "variables" if self.scope.variables.is_some() => {
                self.flaw(at, "'variables' is not available as a whole: name one, as in variables.name")
            }
            _ if TYPES.contains(&bare) => Any,
            _ => self.undeclared(at, bare),
        }
    }

    /// A field of what is known in all its fields.
    fn field(&mut self, at: u64, root: &str, field: &str) {
        let is_known = match root {
            "variables" => {
                self.scope.variables.as_ref().is_none_or(|names| names.iter().any(|name| name == field))
            }
            "request" => REQUEST.contains(&field),
            "namespaceObject" => ["metadata", "spec", "status"].contains(&field),
            _ => true,
        };
        if !is_known {
            self.flaw(at, format!("undefined field '{field}'"));
        }
    }

    fn comprehension(&mut self, whole: &ComprehensionExpr) -> Type {
        self.expr(&whole.iter_range);
        if [Some(&whole.iter_var), whole.iter_var2.as_ref()]
            .into_iter()
            .flatten()
            .any(|name| name == "variables")
        {
            self.flaw(whole.iter_range.id, "an item cannot be called 'variables'");
        }
        let start = self.expr(&whole.accu_init);
        let outer = self.locals.len();
        self.locals.extend([whole.iter_var.clone(), whole.accu_var.clone()]);
        self.locals.extend(whole.iter_var2.clone());
        for part in [&whole.loop_cond, &whole.loop_step] {
            self.expr(part);
        }
        let gives = self.expr(&whole.result);
        self.locals.truncate(outer);
        if gives == Any { start } else { gives }
    }

    fn call(&mut self, at: u64, call: &CallExpr) -> Type {
        if let Some(gives) = self.operator(call) {
            return gives;
        }
        let name = call.func_name.as_str();
        if let Some(target) = &call.target {
            if let Some(space) = qualified(target)
                && !self.locals.contains(&space)
                && let Some(function) = function(&format!("{space}.{name}"))
            {
                return self.arguments(at, call, function, function.1);
            }
            self.expr(target);
        }
        let Some(function) = function(name) else {
            self.all(&call.args);
            return self.undeclared(at, name);
        };
        self.arguments(at, call, function, if call.target.is_some() { function.2 } else { function.1 })
    }

    fn arguments(&mut self, at: u64, call: &CallExpr, function: &Function, counts: &[usize]) -> Type {
        self.all(&call.args);
        if function.0 == "matches"
            && let Some(IdedExpr { id, expr: Expr::Literal(LiteralValue::String(pattern)) }) =
                call.args.last()
            && regex::Regex::new(pattern.inner()).is_err()
        {
            self.flaw(*id, "invalid matches argument");
        }
        if !counts.contains(&call.args.len()) {
            let count = call.args.len();
            let how = if call.target.is_some() { "a target and " } else { "" };
            self.flaw(
                at,
                format!("found no matching overload for '{}' with {how}{count} arguments", function.0),
            );
        }
        function.3
    }

    /// An operator: what it gives, and what it takes where that can be seen.
    fn operator(&mut self, call: &CallExpr) -> Option<Type> {
        let gives = match call.func_name.as_str() {
            operators::LOGICAL_AND | operators::LOGICAL_OR | operators::LOGICAL_NOT => {
                for arg in &call.args {
                    let gives = self.expr(arg);
                    if !matches!(gives, Bool | Any) {
                        let name = &call.func_name;
                        self.flaw(
                            arg.id,
                            format!("found no matching overload for '{name}' applied to a {gives:?}"),
                        );
                    }
                }
                return Some(Bool);
            }
            operators::CONDITIONAL => {
                let types: Vec<Type> = call.args.iter().map(|arg| self.expr(arg)).collect();
                return Some(
                    if let [_, then, otherwise] = types[..]
                        && then == otherwise
                    {
                        then
                    } else {
                        Any
                    },
                );
            }
            operators::ADD
            | operators::SUBSTRACT
            | operators::MULTIPLY
            | operators::DIVIDE
            | operators::MODULO => {
                let types: Vec<Type> = call.args.iter().map(|arg| self.expr(arg)).collect();
                return Some(types.into_iter().find(|ty| *ty != Any).unwrap_or(Any));
            }
            operators::EQUALS
            | operators::NOT_EQUALS
            | operators::LESS
            | operators::LESS_EQUALS
            | operators::GREATER
            | operators::GREATER_EQUALS
            | operators::IN
            | operators::NOT_STRICTLY_FALSE => Bool,
            operators::NEGATE | operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT => Any,
            _ => return None,
        };
        self.all(&call.args);
        Some(gives)
    }
}

fn function(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.0 == name)
}

/// `a.b` of an expression that is such a name.
fn qualified(expr: &IdedExpr) -> Option<String> {
    match &expr.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) if !select.test => {
            Some(format!("{}.{}", qualified(&select.operand)?, select.field))
        }
        _ => None,
    }
}
