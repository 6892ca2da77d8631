//! What the splitter gives for every form of input, whole and in pieces.

use proptest::prelude::*;

use super::*;

type Given = Vec<(Place, Result<String, Reason>)>;

fn split_in(input: &[u8], piece: usize) -> Given {
    let mut given = Vec::new();
    let mut give = |place, item: Result<&[u8], Rejection>| {
        given.push((place, item.map(|i| String::from_utf8_lossy(i).into_owned()).map_err(|r| r.reason)));
    };
    let mut splitter = Splitter::new();
    for chunk in input.chunks(piece.max(1)) {
        splitter.push(chunk, &mut give);
    }
    splitter.finish(&mut give);
    given
}

/// Splits the input whole and in pieces, which must agree.
fn split(input: &str) -> Given {
    let whole = split_in(input.as_bytes(), usize::MAX);
    for piece in [1, 2, 3, 7, 64] {
        assert_eq!(split_in(input.as_bytes(), piece), whole, "in pieces of {piece}: {input:.300}");
    }
    whole
}

fn items(input: &str) -> Vec<String> {
    split(input)
        .into_iter()
        .map(|(place, item)| item.unwrap_or_else(|r| panic!("{r} at {place}: {input:.300}")))
        .collect()
}

/// The items, an error as its reason.
fn outcome(input: &str) -> Vec<String> {
    split(input).into_iter().map(|(_, item)| item.unwrap_or_else(|r| format!("!{r}"))).collect()
}

fn event(n: usize) -> String {
    format!(r#"{{"level":"Metadata","auditID":"{n}","a":[1,{{"b":"}}]"}}]}}"#)
}

#[test]
fn every_form_gives_the_same_items() {
    let [a, b] = [event(1), event(2)];
    let expected = [a.clone(), b.clone()];
    for input in [
        format!("{a}\n{b}\n"),
        format!("{a}\r\n\n{b}"),
        format!("{a}{b}"),
        format!("[{a},{b}]"),
        format!(" [ {a} , {b} ] \n"),
        format!("[{a}]\n[{b}]"),
        format!(r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{{}},"items":[{a},{b}]}}"#),
        format!(
            r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1beta1","items":[{a}]}}{{"items" : [ {b} ], "kind":"EventList" }}"#
        ),
        format!("{{\n  \"items\" :\n [\n{a}\n,\n{b}\n]\n}}\n"),
        format!(r#"{{"items":[{a}],"items":[{b}]}}"#),
        format!("\u{feff}{a}{b}"),
    ] {
        assert_eq!(items(&input), expected, "{input}");
    }
}

#[test]
fn empty_inputs_and_lists_give_nothing() {
    for input in [
        "",
        " \n\n",
        "[]",
        "[ ]\n[]",
        r#"{"kind":"EventList","items":[]}"#,
        r#"{"kind":"EventList","items":null}"#,
        r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1"}"#,
    ] {
        assert!(items(input).is_empty(), "{input}");
    }
}

#[test]
fn an_event_may_have_a_member_called_items() {
    let event = r#"{"level":"Metadata","items":[{"a":1},{"b":2}]}"#;
    assert_eq!(items(event), [event]);
}

#[test]
fn a_list_of_something_else_is_one_error() {
    let [a, pods] = [event(1), r#"{"kind":"PodList","items":[{"a":1},{"b":2}]}"#.to_owned()];
    assert_eq!(outcome(&format!("{pods}\n{a}")), ["!wrong_kind", &a]);
    assert_eq!(outcome(&format!("{{\"kind\":\"EventList\",\"items\":{{}}}}{a}")), ["!wrong_kind", &a]);
}

#[test]
fn places_name_item_line_and_byte() {
    let a = event(1);
    let given = split(&format!("{a}\n\n {a}[{a},\n{a}]"));
    let places: Vec<_> = given.iter().map(|(p, _)| (p.item, p.line, p.offset)).collect();
    let len = a.len() as u64;
    assert_eq!(places, [(0, 1, 0), (1, 3, len + 3), (2, 3, 2 * len + 4), (3, 4, 3 * len + 6)]);
}

#[test]
fn a_broken_line_keeps_its_neighbours() {
    let [a, b] = [event(1), event(2)];
    for broken in [
        r#"{"level":"Metadata","auditID":"#,
        r#"{"level":"Metadata","auditID":"cut"#,
        r#"{"level":"Metadata","user":{"groups":["a","#,
        r#"{"level" "Metadata"}"#,
        "not json at all",
        "{{{{",
        "]]]]",
        "\"text\"",
        "17",
        &"[".repeat(5000),
        &"{\"a\":".repeat(5000),
    ] {
        for (after, expected) in [(format!("{b}\n"), vec![&b]), (format!("{a}\n{b}"), vec![&a, &b])] {
            let got = outcome(&format!("{a}\n{broken}\n{after}"));
            assert_eq!(got[0], a, "{broken:.100}");
            assert!(got[1].starts_with('!'), "{broken:.100}");
            assert_eq!(got[2..].iter().collect::<Vec<_>>(), expected, "{broken:.100}");
        }
    }
}

#[test]
fn a_broken_item_of_a_list_keeps_its_neighbours() {
    let [a, b, c] = [event(1), event(2), event(3)];
    for broken in [
        r#"{"level":"Metadata" "x":1}"#,
        r#"{"level":"Metadata","u":{"a":1}"#,
        r#"{"level":nope}"#,
        "nope",
        "",
    ] {
        let list = format!(r#"{{"kind":"EventList","items":[{a},{broken},{b},{c}]}}"#);
        let got = outcome(&list);
        assert_eq!((got.len(), &got[0], &got[2..]), (4, &a, &[b.clone(), c.clone()][..]), "{broken}");
        assert!(Json::parse(got[1].as_bytes()).is_err(), "{broken}");
        let got = outcome(&format!("{list}\n{a}"));
        assert_eq!(got.last(), Some(&a), "what follows the list is read: {broken}");
    }
}

#[test]
fn a_cut_input_keeps_what_was_complete() {
    let [a, b] = [event(1), event(2)];
    let list = format!(r#"{{"kind":"EventList","items":[{a},{b}]}}"#);
    for cut in 1..list.len() {
        let got = split(&list[..cut]);
        let errors = got.iter().filter(|(_, item)| item.is_err()).count();
        assert_eq!(errors, 1, "cut at {cut}: {got:?}");
        let complete = [&a, &b].iter().filter(|e| list[..cut].contains(e.as_str())).count();
        assert_eq!(got.len() - errors, complete, "cut at {cut}");
        assert_eq!(got.last().unwrap().1, Err(Reason::Truncated), "cut at {cut}");
    }
}

#[test]
fn an_item_that_is_too_large_is_refused_and_not_held() {
    let a = event(1);
    let mut given = Vec::new();
    let mut splitter = Splitter::new();
    let mut push = |bytes: &[u8]| {
        splitter.push(bytes, |_, item| given.push(item.map(<[u8]>::to_vec).map_err(|r| r.reason)));
        assert!(
            splitter.buffer.capacity() < 3 * MAX_EVENT_BYTES,
            "{} bytes are held",
            splitter.buffer.capacity()
        );
    };
    push(format!("{a}\n{{\"x\":\"").as_bytes());
    let megabyte = vec![b'y'; 1 << 20];
    for _ in 0..100 {
        push(&megabyte);
    }
    push(format!("\"}}\n{a}\n[{a},{{\"x\":\"").as_bytes());
    for _ in 0..20 {
        push(&megabyte);
    }
    push(format!("\"}},{a}]").as_bytes());
    let good = || Ok(a.clone().into_bytes());
    assert_eq!(given, [good(), Err(Reason::TooLarge), good(), good(), Err(Reason::TooLarge), good()]);
}

#[test]
fn a_line_of_a_hundred_megabytes_without_end_keeps_its_neighbours() {
    let a = event(1);
    let mut input = format!("{a}\n{{\"x\":\"").into_bytes();
    input.resize(100 << 20, b'y');
    input.extend_from_slice(format!("\n{a}\n").as_bytes());
    let given = split_in(&input, 1 << 20);
    assert_eq!(
        given.iter().map(|(_, item)| item.clone()).collect::<Vec<_>>(),
        [Ok(a.clone()), Err(Reason::TooLarge), Ok(a)]
    );
}

#[test]
fn looking_again_stays_linear() {
    // Every line opens what no line closes, so each would be followed to the end of the input again.
    let input = "{\"a\":[\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\",\n".repeat(20_000);
    let mut splitter = Splitter::new();
    splitter.push(input.as_bytes(), |_, _| {});
    assert!(splitter.again <= AGAIN_BYTES + AGAIN_TIMES * splitter.received);
}

proptest! {
    #[test]
    fn random_bytes_never_panic_and_pieces_agree(
        input in prop::collection::vec(prop::sample::select(&b"{}[]\",:\\ \n\tx1{[\xff"[..]), 0..200),
        piece in 1usize..9,
    ) {
        prop_assert_eq!(split_in(&input, piece), split_in(&input, usize::MAX));
    }

    #[test]
    fn good_lines_survive_any_bad_lines(lines in prop::collection::vec(
        prop::option::of("[ -~]{0,40}"), 1..12)) {
        let text: Vec<String> = lines.iter().enumerate()
            .map(|(n, bad)| bad.clone().unwrap_or_else(|| event(n))).collect();
        let got = split_in(text.join("\n").as_bytes(), 13);
        let mut good = got.iter().filter_map(|(_, item)| item.as_ref().ok());
        for (n, bad) in lines.iter().enumerate() {
            if bad.is_none() {
                prop_assert!(good.any(|g| *g == event(n)), "event {} of {:?} is missing", n, text);
            }
        }
    }
}
