//! What the language refuses, where, and with what remedy.

use super::*;

/// Text, place, message and remedy.
const REFUSED: [(&str, &str, &str); 71] = [
    ("event:*", "1:1: \"event\" needs a path after it", "for example event.name:…"),
    (
        "req.*.image:nginx",
        "1:1: the name of a field holds no wildcards",
        "a key with a \"*\" or \"?\" in it has a backslash before that",
    ),
    ("sub:exec and uri:", "1:17: expected a value after \":\"", ""),
    (
        "verb:get stage:ResponseComplet",
        "1:16: \"stage\" is never \"ResponseComplet\", but one of RequestReceived, ResponseStarted, ResponseComplete, Panic",
        "did you mean ResponseComplete?",
    ),
    (
        "stage:(Panic or Done)",
        "1:17: \"stage\" is never \"Done\", but one of RequestReceived, ResponseStarted, ResponseComplete, Panic",
        "did you mean Panic?",
    ),
    (
        "not level:=metadata",
        "1:12: \"level\" is never \"metadata\", but one of None, Metadata, Request, RequestResponse",
        "did you mean Metadata?",
    ),
    (
        "decision:\"forbiden\"",
        "1:10: \"decision\" is never \"forbiden\", but one of allow, forbid",
        "did you mean forbid?",
    ),
    (
        "event.kind:x kind:audits",
        "1:19: \"kind\" is never \"audits\", but one of audit, access, pipeline",
        "did you mean audit?",
    ),
    ("verb:and code:200", "1:5: expected a value after \":\"", "quote \"and\" to search for it"),
    ("verb:)", "1:5: expected a value after \":\"", ""),
    ("code>=", "1:5: expected a value after \">=\"", ""),
    ("namespace:x", "1:1: unknown field \"namespace\"", "did you mean \"ns\"? To search for text, quote it"),
    (
        "verb:get\n  resorce:x",
        "2:3: unknown field \"resorce\"",
        "did you mean \"resource\"? To search for text, quote it",
    ),
    (
        "é verb>x",
        "1:7: \">\" does not work on \"verb\", which is a keyword",
        "it compares numbers, times and durations",
    ),
    (
        "verb:[a to b]",
        "1:6: \"[… to …]\" does not work on \"verb\", which is a keyword",
        "it compares numbers, times and durations",
    ),
    (
        "ann.x>1",
        "1:6: \">\" does not work on \"ann.x\", which is a keyword",
        "it compares numbers, times and durations",
    ),
    (
        "ip>10.0.0.1",
        "1:3: \">\" does not work on \"ip\", which is an address",
        "it compares numbers, times and durations",
    ),
    (
        "verb>=*",
        "1:5: \">=\" does not work on \"verb\", which is a keyword",
        "it compares numbers, times and durations",
    ),
    ("code:abc", "1:6: \"abc\" is not a number, which \"code\" asks for", "for example code:404 or 4*"),
    ("code:4.5", "1:6: \"4.5\" is not a number, which \"code\" asks for", "for example code:404 or 4*"),
    ("code:*4", "1:6: \"*4\" is not a number, which \"code\" asks for", "for example code:404 or 4*"),
    ("code:/4../", "1:6: \"/4../\" is not a number, which \"code\" asks for", "for example code:404 or 4*"),
    ("code>4*", "1:5: \">\" takes one value", ""),
    ("code>[1 to 2]", "1:5: \">\" takes one value", ""),
    ("code>(1 or 2)", "1:5: \">\" takes one value, not a list", ""),
    ("code:[500 to 400]", "1:6: the range is empty: it ends before it begins", ""),
    ("code:[1 2]", "1:9: expected \"to\"", "a range is \"[from to to]\", both included"),
    (
        "code:[1 to",
        "1:6: \"[\" is never closed",
        "a range is \"[from to to]\", both included; \"*\" leaves an end open",
    ),
    ("code:[1 to 2", "1:13: expected \"]\" after the range", ""),
    (
        "code:(401 403)",
        "1:11: code has one value, so it cannot be both",
        "join the values with \"or\" or \",\"",
    ),
    (
        "verb:(get and list)",
        "1:15: verb has one value, so it cannot be both",
        "join the values with \"or\" or \",\"",
    ),
    ("verb:(get (list))", "1:11: a list of values holds no further list", ""),
    ("verb:()", "1:5: expected a value after \":\"", ""),
    ("verb:(get", "1:6: \"(\" is never closed", ""),
    ("latency>2", "1:9: \"2\" is not a duration, which \"latency\" asks for", "for example latency:250ms"),
    ("ts>yesterday", "1:4: \"yesterday\" is not a time, which \"ts\" asks for", "for example ts:now-1h"),
    ("ts:2026-*", "1:4: \"2026-*\" is not a time, which \"ts\" asks for", "for example ts:now-1h"),
    ("ts:[2026-01-01 to x]", "1:19: \"x\" is not a time, which \"ts\" asks for", "for example ts:now-1h"),
    (
        "ip:10.0.0.0/40",
        "1:4: \"10.0.0.0/40\" is not an address, which \"ip\" asks for",
        "for example ip:10.0.0.0/8",
    ),
    ("ip:[10.0.0.1 to ::1]", "1:4: the ends of the range are of different address families", ""),
    ("ip:[10.0.0.1 to *]", "1:4: a range of addresses needs both ends", ""),
    (
        "req.spec.replicas>many",
        "1:19: \"many\" is not part of a body, which \"req.spec.replicas\" asks for",
        "for example req.spec.replicas:3",
    ),
    (
        "req:nginx",
        "1:1: \"req\" needs a path after it",
        "for example req.name:…; req:* asks whether there is one",
    ),
    (
        "message:=x",
        "1:8: \":=\" does not work on \"message\", of which only the words are kept",
        "use \":\" and a phrase",
    ),
    (
        "message:/x/",
        "1:9: a regex does not work on \"message\", of which only the words are kept",
        "use words, a phrase, or a word with * and ?",
    ),
    ("message:\"\"", "1:9: there is no word to search for here", ""),
    ("user:\"a b\"~2", "1:6: \"~\" does not work here: \"user\" compares whole values, not words", ""),
    ("\"a b\"~999", "1:6: expected a number up to 100 after \"~\"", ""),
    ("user:/a(/", "1:6: not a regex: unclosed group", ""),
    (
        "user:/(((a{99}){99}){99}){99}/",
        "1:6: not a regex: Compiled regex exceeds size limit of 1048576 bytes",
        "",
    ),
    ("/a/", "1:1: a regex needs a field", "for example uri:/regex/; to search for the text, quote it"),
    (
        "verb:get | stats count()",
        "1:10: pipes (\"| stats …\") are not available in this version",
        "a query is a filter; quote \"|\" to search for it",
    ),
    (
        "verb:get|head 5",
        "1:9: pipes (\"| stats …\") are not available in this version",
        "a query is a filter; quote \"|\" to search for it",
    ),
    (
        "| head 5",
        "1:1: pipes (\"| stats …\") are not available in this version",
        "a query is a filter; quote \"|\" to search for it",
    ),
    (
        "req.rules:{verbs:x}",
        "1:11: matching within one element (\"field:{…}\") is not available in this version",
        "write the conditions one by one; they may then be met by different elements",
    ),
    (
        "req.(a,b):x",
        "1:5: matching several keys at once (\"req.(a,b)\") is not available in this version",
        "write one condition for each key, joined with \"or\"",
    ),
    ("a and", "1:3: expected a condition after \"and\"", ""),
    ("a or or b", "1:3: expected a condition after \"or\"", "quote it to search for the word"),
    ("and b", "1:1: expected a condition before \"and\"", "quote it to search for the word"),
    ("not", "1:1: expected a condition after \"not\"", ""),
    ("a -", "1:3: expected a condition after \"-\"", ""),
    ("()", "1:1: expected a condition after \"(\"", ""),
    ("(a b", "1:1: \"(\" is never closed", ""),
    ("a)", "1:2: \")\" is not open here", ""),
    ("a, b", "1:2: expected a space before \",\"", "quote a value that holds signs"),
    ("verb:get(x)", "1:9: expected a space before \"(\"", "quote a value that holds signs"),
    ("\"abc", "1:1: the quote is never closed", ""),
    ("code=404", "1:5: \"=\" is not an operator", "\":\" ignores case, \":=\" compares exactly"),
    (":x", "1:1: expected a field before \":\"", ""),
    ("name:a\\", "1:7: expected a character after \"\\\"", ""),
    ("&&", "1:1: there is no word to search for here", ""),
];

#[test]
fn what_is_refused_is_refused_with_its_place_and_remedy() {
    for (text, message, remedy) in REFUSED {
        let error = parse(text, NOW).expect_err(text);
        let expected = if remedy.is_empty() { message.to_owned() } else { format!("{message}; {remedy}") };
        assert_eq!(error.to_string(), expected, "{text}");
    }
}

#[test]
fn length_depth_and_number_of_conditions_are_bounded() {
    let refused = |text: &str| parse(text, NOW).expect_err("over the bound").message;
    assert!(parse(&"a".repeat(MAX_QUERY_BYTES), NOW).is_ok());
    assert!(refused(&"a".repeat(MAX_QUERY_BYTES + 1)).contains("at most 16384 bytes"));
    let nested = |depth| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
    assert!(parse(&nested(MAX_DEPTH), NOW).is_ok());
    assert!(refused(&nested(MAX_DEPTH + 1)).contains("at most 64 deep"));
    assert!(refused(&"-".repeat(10_000)).contains("at most 64 deep"));
    let deepest = format!("{}verb!=(a or b)", "-".repeat(MAX_DEPTH - 2));
    assert_eq!(ok(&ok(&deepest).to_string()), ok(&deepest));
    assert!(refused(&format!("-{deepest}")).contains("at most 64 deep"));
    assert!(parse(&"a ".repeat(MAX_CLAUSES), NOW).is_ok());
    assert!(refused(&"a ".repeat(MAX_CLAUSES + 1)).contains("at most 512 conditions"));
    assert!(refused(&format!("group:({})", "a ".repeat(MAX_CLAUSES + 1))).contains("at most 512 conditions"));
}

#[test]
fn wildcards_that_make_too_large_a_regex_are_refused_with_their_place() {
    let many = "?".repeat(MAX_QUERY_BYTES - 100);
    for text in [format!("verb:x{many}"), format!("x{many}")] {
        let error = parse(&text, NOW).unwrap_err();
        assert!(error.column < 10 && error.message.contains("wildcards"), "{error}");
    }
}
