//! Printing is the inverse of parsing, and no text makes the parser panic.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9][a-z0-9:/._-]{0,8}",
        "[a-zA-Z0-9]\\PC{0,6}",
        "(and|OR|not|Null|to|x y|-a|!a|/a/|now|é[*][?]|a\nb)",
    ]
}

fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    let wild = prop_oneof![Just(Piece::One), Just(Piece::Many)];
    (text(), wild, text(), any::<bool>()).prop_map(|(a, wild, b, tail)| {
        let mut pieces = vec![Piece::Literal(a), wild];
        pieces.extend(tail.then_some(Piece::Literal(b)));
        pieces
    })
}

fn pattern(slop: u32) -> impl Strategy<Value = Pattern> {
    prop_oneof![
        text().prop_map(Pattern::Word),
        (text(), 0..=slop).prop_map(|(text, slop)| Pattern::Phrase { text, slop }),
        pieces().prop_map(Pattern::Wildcard),
    ]
}

fn regex() -> impl Strategy<Value = Pattern> {
    ("[a-z.]{1,6}(\\\\/|\\\\ |\\|b|[*]|)", any::<bool>())
        .prop_filter_map("is a regex", |(source, i)| Regex::new(source, i).ok().map(Pattern::Regex))
}

fn matched(pattern: Pattern, exact: bool) -> Test {
    let ignored = match &pattern {
        Pattern::Regex(regex) => regex.ignores_case(),
        _ => !exact,
    };
    Test::Match(Match { pattern, case: if ignored { Case::Ignored } else { Case::Sensitive } })
}

fn compare<T: Copy + PartialOrd + std::fmt::Debug>(
    value: impl Strategy<Value = T> + Clone,
) -> impl Strategy<Value = Compare<T>> {
    (value.clone(), value, 0..6).prop_map(|(a, b, which)| match which {
        0 => Compare::Is(a),
        1 => Compare::Below(a),
        2 => Compare::AtMost(a),
        3 => Compare::Above(a),
        4 => Compare::AtLeast(a),
        _ if a <= b => Compare::Between(a, b),
        _ => Compare::Between(b, a),
    })
}

fn of_type(ty: Type) -> BoxedStrategy<Test> {
    let int = any::<i64>().prop_map(Number::Int);
    let number = prop_oneof![int.clone(), (-1e300..1e300).prop_map(Number::Float)];
    // All that has a text form.
    let time = (-377_705_023_201_000_000i64..=253_402_207_200_999_999).prop_map(Timestamp::from_micros);
    let own = match ty {
        Type::Keyword => prop_oneof![pattern(0), regex()]
            .prop_flat_map(|p| any::<bool>().prop_map(move |e| matched(p.clone(), e)))
            .boxed(),
        Type::Text => pattern(3).prop_map(|p| matched(p, false)).boxed(),
        Type::TextAndKeyword => prop_oneof![pattern(3), regex()].prop_map(|p| matched(p, false)).boxed(),
        Type::Number => prop_oneof![
            compare(int).prop_map(Test::Number),
            (1..999_999u32, 0..4u8, any::<bool>())
                .prop_filter("is more than a number", |(_, more, open)| *more > 0 || *open)
                .prop_map(|(prefix, more, open)| Test::Digits(Digits { prefix, more, open }))
        ]
        .boxed(),
        Type::Time => compare(time).prop_map(Test::Time).boxed(),
        Type::Duration => {
            compare((0..u64::MAX / 2).prop_map(Duration::from_micros)).prop_map(Test::Duration).boxed()
        }
        Type::Address => any::<std::net::IpAddr>()
            .prop_flat_map(|a| (Just(a), 0..=128u8))
            .prop_filter_map("is a network", |(address, prefix)| {
                value::addresses(&format!("{address}/{prefix}")).map(Test::Address)
            })
            .boxed(),
        Type::Any => prop_oneof![
            pattern(0).prop_map(|p| matched(p, false)),
            regex().prop_map(|p| matched(p, false)),
            compare(number).prop_filter("is a word", |c| !matches!(c, Compare::Is(_))).prop_map(Test::Number)
        ]
        .boxed(),
    };
    prop_oneof![1 => presence(), 9 => own].boxed()
}

/// Tests that a field of few values can meet; all of these fields are keywords.
fn of_few(values: Vec<&'static str>) -> BoxedStrategy<Test> {
    let known = (prop::sample::select(values), any::<[bool; 2]>()).prop_map(|(value, [exact, phrase])| {
        let text = if exact { value.to_owned() } else { value.to_uppercase() };
        matched(if phrase { Pattern::Phrase { text, slop: 0 } } else { Pattern::Word(text) }, exact)
    });
    let read = (prop_oneof![pieces().prop_map(Pattern::Wildcard), regex()], any::<bool>())
        .prop_map(|(pattern, exact)| matched(pattern, exact));
    prop_oneof![1 => presence(), 6 => known, 3 => read].boxed()
}

fn of_field(field: &Field) -> BoxedStrategy<Test> {
    known::values(field).map_or_else(|| of_type(field.ty()), of_few)
}

fn presence() -> impl Strategy<Value = Test> {
    prop_oneof![Just(Test::Exists), Just(Test::Missing)]
}

fn field() -> impl Strategy<Value = Field> {
    let roots = prop::sample::select(fields::ROOTS.to_vec());
    let keys = prop::collection::vec("[a-z]{1,5}[./ :*-]{0,1}[A-Z]{0,2}", 1..4);
    let path = (roots, keys).prop_filter_map("is of the root", |((root, ..), keys)| {
        let mut all = vec![root.name().to_owned()];
        all.extend(keys);
        Field::resolve(&all).ok()
    });
    let core = prop::sample::select(fields::TABLE.to_vec()).prop_map(|info| Field::Core(info.core));
    prop_oneof![core, path]
}

fn expr() -> impl Strategy<Value = Expr> {
    let clause = field()
        .prop_flat_map(|field| (Just(field.clone()), of_field(&field)))
        .prop_map(|(field, test)| Expr::Clause(Clause { field, test }));
    let free = pattern(3).prop_map(Expr::Text);
    prop_oneof![8 => clause, 2 => free, 1 => Just(Expr::everything())].prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Expr::all),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Expr::any),
            inner.prop_map(|part| !part),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same_query(filter in expr()) {
        // Some generated texts consist of signs, which the language refuses to search words for.
        let printed = filter.to_string();
        match parse(&printed, NOW) {
            Ok(query) => prop_assert_eq!(query.filter, filter, "{}", printed),
            Err(error) => prop_assert_eq!(error.message, "there is no word to search for here", "{}", printed),
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,60}") {
        let _ = parse(&text, NOW);
    }

    #[test]
    fn no_mixture_of_the_language_s_own_signs_makes_it_panic(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "verb", "code", "ts", "ip", "req.a", ":", ":=", "!=", ">", "<=", "(", ")", "[", "]", "{", "\"", "\\",
                "/", "*", "?", " ", "-", "!", "not", "and", "or", "to", ",", "~", "|", "4", "now-", "é", "\n", "1.5.*",
            ]),
            0..24,
        )
    ) {
        let text = parts.concat();
        if let Ok(query) = parse(&text, NOW) {
            let printed = query.to_string();
            prop_assert_eq!(parse(&printed, NOW).map_err(|e| e.to_string()), Ok(query), "{} from {}", printed, text);
        }
    }
}
