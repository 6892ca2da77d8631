use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::*;

fn scope() -> Scope {
    Scope { has_params: true, variables: Some(vec!["replicas".into(), "broken".into()]), writes: false }
}

fn compile(source: &str, wanted: Wanted) -> Result<Program, String> {
    Program::compile(source, &scope(), wanted).map_err(|error| error.to_string())
}

/// On a thread like those that evaluate.
fn evaluate_on(object: Value, source: &str) -> Result<Answer, String> {
    let source = source.to_owned();
    let thread = std::thread::Builder::new().stack_size(crate::policy::STACK_BYTES);
    thread.spawn(move || evaluate_here(object, &source)).unwrap().join().unwrap()
}

fn evaluate_here(object: Value, source: &str) -> Result<Answer, String> {
    let program = compile(source, Wanted::Anything)?;
    let subject = Subject::new(Some(Arc::new(object)), None, json!({ "operation": "CREATE" }), None);
    let early = Scope { has_params: true, variables: Some(vec![]), writes: false };
    let variable = |name: &str, source: &str| Variable {
        name: name.into(),
        program: Ok(Arc::new(Program::compile(source, &early, Wanted::Anything).unwrap())),
    };
    let variables = [variable("replicas", "object.spec.replicas"), variable("broken", "object.no.such")];
    let params = Some(Some(Arc::new(json!({ "max": 3 }))));
    let ends = Instant::now() + Duration::from_secs(60);
    program.evaluate(&Activation::new(&subject, params, &variables, ends))
}

fn object() -> Value {
    json!({
        "metadata": { "name": "web", "labels": { "app": "web" } },
        "spec": { "replicas": 5, "share": 0.5, "ports": [80, 443], "memory": "1Gi", "cidr": "10.0.0.0/8" },
    })
}

fn holds(source: &str) {
    assert_eq!(evaluate_on(object(), source), Ok(Answer::Bool(true)), "{source}");
}

#[test]
fn expressions_see_the_request_and_call_what_kubernetes_adds() {
    for source in [
        "object.spec.replicas <= 5 && object.spec.replicas + 1 == 6",
        "object.spec.share < 1.0 && object.spec.replicas > params.max",
        "oldObject == null && request.operation == 'CREATE'",
        "has(object.metadata.labels) && !has(object.metadata.annotations)",
        "object.metadata.?annotations.?a.orValue('none') == 'none'",
        "variables.replicas == 5 && has(variables.replicas)",
        "object.spec.ports.all(p, p > 0) && object.spec.ports.exists(p, p == 443)",
        "object.spec.ports.map(p, p * 2) == [160, 886] && object.spec.ports.filter(p, p > 80) == [443]",
        "object.spec.ports.exists_one(p, p == 80)",
        "object.spec.ports.isSorted() && object.spec.ports.sum() == 523",
        "object.spec.ports.min() == 80 && object.spec.ports.max() == 443 && object.spec.ports.indexOf(443) == 1",
        "sets.contains([1, 2, 3], [2]) && sets.intersects([1], [1, 2]) && sets.equivalent([1, 1], [1])",
        "object.metadata.name.matches('^w.b$') && 'a1b22'.find('[0-9]+') == '1' && 'a1b22'.findAll('[0-9]+') == ['1', '22']",
        "'a-b'.replace('-', '+') == 'a+b' && ['a', 'b'].join('-') == 'a-b' && 'a,b'.split(',') == ['a', 'b']",
        "'x'.upperAscii() == 'X' && ' x '.trim() == 'x' && '%s=%d'.format(['a', 1]) == 'a=1'",
        "quantity(object.spec.memory).isGreaterThan(quantity('500Mi')) && isQuantity('1k') && !isQuantity('x')",
        "quantity('1k').add(quantity('500')).compareTo(quantity('1.5k')) == 0 && quantity('2').asInteger() == 2",
        "cidr(object.spec.cidr).containsIP('10.1.2.3') && !cidr(object.spec.cidr).containsIP(ip('11.0.0.1'))",
        "ip('::1').isLoopback() && ip('1.2.3.4').family() == 4 && isCIDR('::/0') && !isIP('1.2.3')",
        "timestamp('2026-01-02T03:04:05Z').getFullYear() == 2026 && duration('90s') == duration('1m30s')",
        "type(object.spec.replicas) == int && string(object.spec.replicas) == '5'",
    ] {
        holds(source);
    }
}

#[test]
fn errors_at_run_time_speak_as_kube_apiserver_does() {
    for (source, why) in [
        ("object.spec.none == 1", "no such key: none"),
        ("object.spec.ports[7] == 1", "index out of bounds: 7"),
        ("object.spec.replicas / 0 == 1", "division by zero"),
        ("object.metadata.name + 1 == 2", "no such overload"),
        ("variables.broken == 1", "composited variable \"broken\" fails to evaluate: no such key: no"),
    ] {
        let whole = format!("expression '{source}' resulted in error: {why}");
        assert_eq!(evaluate_on(object(), source), Err(whole), "{source}");
    }
    holds("object.spec.none == 1 || true");
}

#[test]
fn what_is_not_there_is_an_error_when_it_is_written() {
    for (source, wanted, error) in [
        (
            "foo == 1",
            Wanted::Bool,
            "compilation failed: ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')\n | foo == 1\n | ^",
        ),
        ("object.foo()", Wanted::Bool, "undeclared reference to 'foo' (in container '')"),
        ("variables.later == 1", Wanted::Bool, "undefined field 'later'"),
        ("request.object == null", Wanted::Bool, "undefined field 'object'"),
        (
            "authorizer.group('').resource('pods').check('get').allowed()",
            Wanted::Bool,
            "'authorizer' is not available",
        ),
        ("object.size(1) == 2", Wanted::Bool, "found no matching overload for 'size'"),
        (
            "object.name ==",
            Wanted::Bool,
            "compilation failed: ERROR: <input>:1:15: Syntax error: mismatched input '<EOF>'",
        ),
        ("'text'", Wanted::Bool, "must evaluate to bool but got string"),
        ("1 + 1", Wanted::Text, "must evaluate to string"),
        ("true", Wanted::TextOrNull, "must evaluate to one of [string null_type]"),
        ("'a' && true", Wanted::Bool, "found no matching overload for '_&&_'"),
        ("object.spec.flag", Wanted::Bool, "must evaluate to bool but got dyn"),
        ("params.a['b']", Wanted::Text, "must evaluate to string but got dyn"),
        ("'x'.matches('[')", Wanted::Bool, "ERROR: <input>:1:13: invalid matches argument"),
        ("Object{}", Wanted::Anything, "undeclared reference to 'Object'"),
    ] {
        let found = compile(source, wanted).unwrap_err();
        assert!(found.contains(error), "{source}: {found}");
    }
}

#[test]
fn expressions_have_bounds() {
    let long = format!("'{}' == ''", "x".repeat(11_000));
    assert!(compile(&long, Wanted::Bool).unwrap_err().contains("at most 10240"));
    for deep in [
        format!("{}1{} == 1", "(".repeat(300), ")".repeat(300)),
        format!("{}[0] == 1", "[".repeat(90) + &"]".repeat(90) + &"[0]".repeat(200)),
        format!("object{} == 1", ".a".repeat(3_000)),
        format!("1{} == 1", " + 1".repeat(2_000)),
    ] {
        assert!(compile(&deep, Wanted::Bool).is_err());
    }
}

#[test]
fn an_evaluation_that_costs_too_much_ends() {
    let hundred = format!("[{}]", (0..100).map(|n| n.to_string()).collect::<Vec<_>>().join(","));
    let turns =
        format!("{hundred}.all(a, {hundred}.all(b, {hundred}.all(c, {hundred}.all(d, a + b + c + d >= 0))))");
    let mut grown = "['xxxxxxxxxxxxxxxx']".to_owned();
    let mut joined = "'xxxxxxxxxxxxxxxx'".to_owned();
    for _ in 0..40 {
        grown += ".map(x, x + x)";
        joined = format!("[{joined}].map(x, x.replace('x', 'xxxx'))[0]");
        if joined.len() > 900 {
            break;
        }
    }
    let pairs = format!("[1]{} == []", ".map(x, [x, x])".repeat(40));
    for source in [
        turns,
        format!("{grown} == []"),
        pairs,
        format!(
            "{}.size() > 0",
            "'x'.replace('', 'xxxxxxxxxxxxxxxx')".to_owned()
                + &".replace('x', 'xxxxxxxxxxxxxxxx')".repeat(20)
        ),
    ] {
        let error = evaluate_on(object(), &source).unwrap_err();
        assert!(error.ends_with("operation cancelled: actual cost limit exceeded"), "{source}: {error}");
    }
}

#[test]
fn an_evaluation_ends_with_its_time() {
    let program = compile("[1, 2, 3].all(x, x > 0)", Wanted::Bool).unwrap();
    let subject = Subject::new(None, None, json!({}), None);
    let over = Activation::new(&subject, None, &[], Instant::now());
    let error = program.evaluate(&over).unwrap_err();
    assert!(error.ends_with("the time for an evaluation is over"), "{error}");
}
