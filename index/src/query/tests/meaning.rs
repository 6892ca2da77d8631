//! What the language accepts, and what it means by it.

use std::time::Duration;

use super::*;

#[test]
fn an_empty_query_and_a_star_mean_every_record() {
    for text in ["", "  \n ", "*", "(*)", "**"] {
        assert_eq!(ok(text), Expr::everything(), "{text:?}");
    }
}

#[test]
fn juxtaposition_is_and_which_binds_tighter_than_or() {
    let (a, b, c) = (is(Core::Verb, word("get")), is(Core::Ns, word("x")), is(Core::User, word("u")));
    let both = Expr::All(vec![a.clone(), b.clone()]);
    for text in
        ["verb:get ns:x", "verb:get and ns:x", "verb:get AND ns:x", "verb : get ns: x", "(verb:get) (ns:x)"]
    {
        assert_eq!(ok(text), both, "{text}");
    }
    assert_eq!(ok("verb:get ns:x or user:u"), Expr::Any(vec![both, c.clone()]));
    assert_eq!(ok("verb:get (ns:x Or user:u)"), Expr::All(vec![a, Expr::Any(vec![b, c])]));
}

#[test]
fn negation_has_three_signs_and_binds_tightest() {
    let (a, b) = (is(Core::Verb, word("get")), is(Core::Ns, word("x")));
    for not in
        ["not verb:get ns:x", "-verb:get ns:x", "!verb:get ns:x", "NOT verb:get and ns:x", "verb!=get ns:x"]
    {
        assert_eq!(ok(not), Expr::All(vec![!a.clone(), b.clone()]), "{not}");
    }
    assert_eq!(
        ok("ns:x and not (verb:get ns:x)"),
        Expr::All(vec![b.clone(), !Expr::All(vec![a.clone(), b])])
    );
    assert_eq!(ok("not -verb:get"), !!a);
}

#[test]
fn a_list_of_values_is_a_list_of_conditions() {
    let any = Expr::Any(vec![is(Core::Verb, word("create")), is(Core::Verb, word("patch"))]);
    for text in
        ["verb:(create or patch)", "verb:(create, patch)", "verb:( create ,patch )", "verb:(create OR patch)"]
    {
        assert_eq!(ok(text), any, "{text}");
    }
    assert_eq!(ok("verb!=(create or patch)"), !any);
    let both = Expr::All(vec![is(Core::Group, word("dev")), is(Core::Group, word("ops"))]);
    assert_eq!(ok("group:(dev ops)"), both);
    assert_eq!(ok("group:(dev and ops)"), both);
    assert_eq!(ok("code:(401 or 403)"), Expr::Any(vec![code(Compare::Is(401)), code(Compare::Is(403))]));
}

#[test]
fn exact_keeps_case() {
    let expected = Match { pattern: word("System:Admin"), case: Case::Sensitive };
    assert_eq!(ok("user:=System:Admin"), clause(Core::User, Test::Match(expected)));
}

#[test]
fn words_hold_colons_slashes_and_escapes() {
    assert_eq!(ok("group:system:masters"), is(Core::Group, word("system:masters")));
    assert_eq!(ok("path:/api/v1/pods"), is(Core::Path, word("/api/v1/pods")));
    assert_eq!(ok("path:/readyz or path:/livez").to_string(), "path:\\/readyz or path:\\/livez");
    assert_eq!(ok(r"name:a\ b\*"), is(Core::Name, word("a b*")));
    assert_eq!(
        ok(r#"name:"a \"b\" *""#),
        is(Core::Name, Pattern::Phrase { text: "a \"b\" *".into(), slop: 0 })
    );
}

#[test]
fn wildcards_and_regexes() {
    let literal = |text: &str| Piece::Literal(text.into());
    assert_eq!(
        ok("user:system:*:default?"),
        is(
            Core::User,
            Pattern::Wildcard(vec![literal("system:"), Piece::Many, literal(":default"), Piece::One])
        )
    );
    assert_eq!(ok("ann.x:*"), clause(path(Root::Annotation, &["x"]), Test::Exists));
    let regex = Regex::new("command=.*(sh|bash|nc|curl)", true).unwrap();
    assert_eq!(ok("uri:/command=.*(sh|bash|nc|curl)/i"), is(Core::Uri, Pattern::Regex(regex)));
    let regex = Regex::new(r"^a\/b\ c", false).unwrap();
    let case = Case::Sensitive;
    assert_eq!(
        ok(r"user:/^a\/b\ c/"),
        clause(Core::User, Test::Match(Match { pattern: Pattern::Regex(regex), case }))
    );
}

#[test]
fn numbers_are_numbers() {
    assert_eq!(ok("code>=400"), code(Compare::AtLeast(400)));
    assert_eq!(ok("code < 400"), code(Compare::Below(400)));
    assert_eq!(ok("code:[400 to 499]"), code(Compare::Between(400, 499)));
    assert_eq!(ok("code:[* TO 499]"), code(Compare::AtMost(499)));
    assert_eq!(ok("code:[* to *]"), clause(Core::Code, Test::Exists));
    assert_eq!(ok("code:4*"), clause(Core::Code, Test::Digits(Digits { prefix: 4, more: 0, open: true })));
    assert_eq!(ok("code:40?"), clause(Core::Code, Test::Digits(Digits { prefix: 40, more: 1, open: false })));
    let replicas = path(Root::Request, &["spec", "replicas"]);
    assert_eq!(
        ok("req.spec.replicas>3"),
        clause(replicas.clone(), Test::Number(Compare::Above(Number::Int(3))))
    );
    assert_eq!(ok("req.spec.replicas:3"), is(replicas, word("3")));
}

#[test]
fn digits_are_ranges_of_numbers() {
    let digits = |more, open| Digits { prefix: 40, more, open };
    assert_eq!(digits(1, false).ranges(999), [400..=409]);
    assert_eq!(digits(0, true).ranges(9_999), [40..=40, 400..=409, 4_000..=4_099]);
    assert_eq!(digits(0, true).ranges(i64::MAX).len(), 18);
    assert_eq!(digits(200, true).ranges(i64::MAX), []);
}

#[test]
fn times_durations_and_addresses() {
    let time = |text: &str| text.parse::<Timestamp>().unwrap();
    let ts = |compare| clause(Core::Ts, Test::Time(compare));
    assert_eq!(
        ok("ts:[2026-01-01 to now-1h]"),
        ts(Compare::Between(time("2026-01-01T00:00:00Z"), time("2026-11-24T04:46:40Z")))
    );
    let (first, last) = (time("2026-01-02T00:00:00Z"), time("2026-01-02T23:59:59.999999Z"));
    assert_eq!(ok("ts:2026-01-02"), ts(Compare::Between(first, last)));
    assert_eq!(ok("ts>2026-01-02"), ts(Compare::Above(last)));
    assert_eq!(ok("ts>=2026-01-02"), ts(Compare::AtLeast(first)));
    assert_eq!(ok("ts<2026-01-02"), ts(Compare::Below(first)));
    assert_eq!(ok("ts<=2026-01-02"), ts(Compare::AtMost(last)));
    assert_eq!(
        ok("latency>2s"),
        clause(Core::Latency, Test::Duration(Compare::Above(Duration::from_secs(2))))
    );
    let v4 = Addresses::Network { address: [10, 0, 0, 0].into(), prefix: 8 };
    assert_eq!(ok("ip:10.0.0.0/8"), clause(Core::Ip, Test::Address(v4)));
    assert_eq!(ok("ip:10.*"), clause(Core::Ip, Test::Address(v4)));
    let v6 = Addresses::Network { address: "2001:db8::".parse().unwrap(), prefix: 32 };
    assert_eq!(ok("ip.client:2001:db8::/32"), clause(Core::IpClient, Test::Address(v6)));
    assert_eq!(
        ok("ip:[10.0.0.1 to 10.0.0.9]"),
        clause(Core::Ip, Test::Address(Addresses::Between([10, 0, 0, 1].into(), [10, 0, 0, 9].into())))
    );
}

#[test]
fn null_is_absence_and_quoted_null_a_word() {
    assert_eq!(ok("sub:null"), clause(Core::Sub, Test::Missing));
    assert_eq!(ok("sub!=NULL"), !clause(Core::Sub, Test::Missing));
    assert_eq!(ok("req:*"), clause(path(Root::Request, &[]), Test::Exists));
    assert_eq!(ok("sub:\"null\""), is(Core::Sub, Pattern::Phrase { text: "null".into(), slop: 0 }));
}

#[test]
fn free_text_is_words_and_phrases() {
    assert_eq!(
        ok(r#"forbidden "not found"~2 kube*"#),
        Expr::All(vec![
            Expr::Text(word("forbidden")),
            Expr::Text(Pattern::Phrase { text: "not found".into(), slop: 2 }),
            Expr::Text(Pattern::Wildcard(vec![Piece::Literal("kube".into()), Piece::Many])),
        ])
    );
}

#[test]
fn keys_with_dots_are_escaped_in_bodies_and_plain_in_maps() {
    assert_eq!(
        ok(r"req.metadata.annotations.a\.b/c:x"),
        is(path(Root::Request, &["metadata", "annotations", "a.b/c"]), word("x"))
    );
    let key = path(Root::Annotation, &["authorization.k8s.io/decision"]);
    assert_eq!(ok("ann.authorization.k8s.io/decision:allow"), is(key.clone(), word("allow")));
    assert_eq!(ok(r"ann.authorization\.k8s\.io/decision:allow"), is(key, word("allow")));
}

/// The queries of the reference page, without what this version refuses.
#[test]
fn an_analyst_s_first_queries_parse() {
    for text in [
        "verb:(create or patch) resource:(clusterroles or roles) req.rules.verbs:\"*\" -user:system:*",
        "resource:secrets verb:(get or list) code:200 -group:system:masters",
        "sub:exec uri:/command=.*(sh|bash|nc|curl)/i and not ip:10.0.0.0/8",
        "code:(401 or 403)",
        "ns:prod-* latency>2s",
        "verb:delete\n  resource:secrets\n  ts>=now-7d",
        "why:\"ClusterRoleBinding\" as:* as.group:system:masters",
        "extra.authentication.kubernetes.io/pod-name:web-0 param.limit:500",
        "kind:pipeline event.type:boot",
    ] {
        let parsed = ok(text);
        assert_eq!(ok(&parsed.to_string()), parsed, "{text}");
    }
}

#[test]
fn a_value_of_few_is_taken_in_any_case_and_by_wildcards() {
    for text in [
        "stage:panic",
        "level:METADATA",
        "decision:=Allow",
        "kind:=pipeline",
        "stage:Response*",
        "level:null",
    ] {
        ok(text);
    }
}
