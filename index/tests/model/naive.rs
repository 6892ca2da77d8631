//! The query language, read off single events: slow, and without any of the index's code.

use std::{net::IpAddr, ops::RangeBounds, time::Duration};

use index::query::{
    Addresses, Case, Clause, Compare, Core, Expr, Field, Match, Number, Path, Pattern, Piece, Root, Test,
    Type,
};
use ingest::{
    record::{Record, RecordId},
    time::Timestamp,
};
use serde_json::Value;

pub(crate) struct Event {
    pub(crate) id: RecordId,
    pub(crate) json: Value,
    record: Record,
}

impl Event {
    pub(crate) fn of(record: &Record) -> Self {
        let mut json: Value = serde_json::from_slice(&record.event).unwrap();
        json = cleaned(json);
        Self { id: record.envelope.id, json, record: record.clone() }
    }

    pub(crate) fn matches(&self, expr: &Expr) -> bool {
        match expr {
            Expr::All(parts) => parts.iter().all(|part| self.matches(part)),
            Expr::Any(parts) => parts.iter().any(|part| self.matches(part)),
            Expr::Not(part) => !self.matches(part),
            Expr::Text(pattern) => free_text(&self.json).iter().any(|text| fits_words(pattern, text)),
            Expr::Clause(Clause { field, test }) => self.tests(field, test),
        }
    }

    fn tests(&self, field: &Field, test: &Test) -> bool {
        let values = self.values(field);
        let times = || values.iter().filter_map(|value| value.as_str()?.parse::<Timestamp>().ok());
        match test {
            Test::Exists => self.exists(field, &values),
            Test::Missing => !self.exists(field, &values),
            Test::Match(test) => values.iter().any(|value| fits(field.ty(), test, value)),
            Test::Number(test) => values.iter().filter_map(number).any(|n| compare(test, n)),
            Test::Digits(digits) => values
                .iter()
                .filter_map(Value::as_i64)
                .any(|n| digits.ranges(i64::MAX).iter().any(|range| range.contains(&n))),
            Test::Time(test) => times().any(|at| order(test, &at)),
            Test::Duration(test) => self.latency().is_some_and(|latency| {
                let micros = |length: &Duration| i64::try_from(length.as_micros()).unwrap();
                let (from, to) = test.bounds();
                (from.map(micros), to.map(micros)).contains(&latency)
            }),
            Test::Address(addresses) => {
                values.iter().filter_map(|value| value.as_str()?.parse().ok()).any(|ip| within(addresses, ip))
            }
        }
    }

    fn latency(&self) -> Option<i64> {
        let received: Timestamp = self.json["requestReceivedTimestamp"].as_str()?.parse().ok()?;
        Some(self.record.envelope.at.micros() - received.micros())
    }

    fn exists(&self, field: &Field, values: &[Value]) -> bool {
        match field {
            Field::Core(Core::Latency) => self.latency().is_some(),
            Field::Core(_) if field.ty() == Type::Address => {
                values.iter().any(|value| value.as_str().is_some_and(|text| text.parse::<IpAddr>().is_ok()))
            }
            _ => values.iter().any(is_there),
        }
    }

    /// Every value of a field, arrays walked through.
    fn values(&self, field: &Field) -> Vec<Value> {
        let envelope = &self.record.envelope;
        let text = |text: &str| vec![Value::from(text)];
        match field {
            Field::Core(Core::Cluster) => text(&envelope.cluster),
            Field::Core(Core::Source) => text(&envelope.source),
            Field::Core(Core::Kind) => text(envelope.kind.as_str()),
            Field::Core(Core::Ts) => text(&envelope.at.to_string()),
            Field::Core(Core::Journaled) => text(&envelope.received_at.to_string()),
            Field::Core(Core::Latency) => Vec::new(),
            Field::Core(Core::Decision) => self.at(&["annotations", "authorization.k8s.io/decision"]),
            Field::Core(Core::Why) => self.at(&["annotations", "authorization.k8s.io/reason"]),
            Field::Core(Core::IpClient) => {
                self.json["sourceIPs"].as_array().and_then(|all| all.last()).cloned().into_iter().collect()
            }
            Field::Core(Core::Path) => {
                let uri = self.json["requestURI"].as_str();
                uri.map(|uri| Value::from(uri.split('?').next().unwrap())).into_iter().collect()
            }
            Field::Core(core) => self.at(&core.info().json.split('.').collect::<Vec<_>>()),
            Field::Path(Path { root: Root::Parameter, keys }) => parameters(&self.json)
                .into_iter()
                .filter(|(key, _)| keys.first().is_none_or(|wanted| wanted == key))
                .map(|(_, value)| Value::from(value))
                .collect(),
            Field::Path(Path { root, keys }) => {
                let first: &[&str] = match root {
                    Root::Request => &["requestObject"],
                    Root::Response => &["responseObject"],
                    Root::Annotation => &["annotations"],
                    Root::Extra => &["user", "extra"],
                    _ => &[],
                };
                self.at(&first.iter().copied().chain(keys.iter().map(String::as_str)).collect::<Vec<_>>())
            }
        }
    }

    fn at(&self, keys: &[&str]) -> Vec<Value> {
        let mut found = Vec::new();
        collect(&self.json, keys, &mut found);
        found
    }
}

fn collect(value: &Value, keys: &[&str], found: &mut Vec<Value>) {
    match (value, keys) {
        (Value::Array(all), _) if !all.is_empty() => all.iter().for_each(|value| collect(value, keys, found)),
        (Value::Object(map), [first, rest @ ..]) => {
            if let Some(value) = map.get(*first) {
                collect(value, rest, found);
            }
        }
        (value, []) => found.push(value.clone()),
        _ => {}
    }
}

fn is_there(value: &Value) -> bool {
    !value.is_null()
}

/// Control characters are no part of the language.
fn cleaned(value: Value) -> Value {
    let clean = |text: &str| text.replace(|c: char| c < ' ' && !"\t\r\n".contains(c), "\u{fffd}");
    match value {
        Value::String(text) => Value::from(clean(&text)),
        Value::Array(all) => all.into_iter().map(cleaned).collect(),
        Value::Object(map) => map.into_iter().map(|(key, value)| (clean(&key), cleaned(value))).collect(),
        other => other,
    }
}

/// Strings, numbers and truth values in which free text is looked for.
pub(crate) fn free_text(event: &Value) -> Vec<String> {
    fn leaves(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Array(all) => all.iter().for_each(|value| leaves(value, found)),
            Value::Object(map) => map.values().for_each(|value| leaves(value, found)),
            Value::Null => {}
            Value::String(text) => found.push(text.clone()),
            Value::Number(n) if n.is_f64() => {}
            other => found.push(other.to_string()),
        }
    }
    let mut found = Vec::new();
    for place in [
        &event["requestURI"],
        &event["responseStatus"]["message"],
        &event["annotations"],
        &event["requestObject"],
        &event["responseObject"],
    ] {
        leaves(place, &mut found);
    }
    found
}

pub(crate) fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in text.chars() {
        if c.is_alphanumeric() {
            words.last_mut().unwrap().push(c);
        } else {
            words.push(String::new());
        }
    }
    words.into_iter().filter(|word| !word.is_empty()).map(|word| word.to_lowercase()).collect()
}

fn fits_words(pattern: &Pattern, text: &str) -> bool {
    let have = words(text);
    match pattern {
        Pattern::Word(text) => in_a_row(&words(text), &have, 0),
        Pattern::Phrase { text, slop } => in_a_row(&words(text), &have, *slop),
        Pattern::Wildcard(pieces) => have.iter().any(|word| wild(pieces, word, true)),
        Pattern::Regex(_) => unreachable!("the language has no regex over words"),
    }
}

/// Tries every start and every way to go on.
fn in_a_row(wanted: &[String], have: &[String], slop: u32) -> bool {
    fn go_on(wanted: &[String], have: &[String], slop: i64) -> bool {
        let [first, rest @ ..] = wanted else { return true };
        (0..have.len().min(slop.max(0) as usize + 1))
            .any(|skip| have[skip] == *first && go_on(rest, &have[skip + 1..], slop - skip as i64))
    }
    let [first, rest @ ..] = wanted else { return false };
    (0..have.len()).any(|at| have[at] == *first && go_on(rest, &have[at + 1..], slop.into()))
}

fn wild(pieces: &[Piece], text: &str, ignores_case: bool) -> bool {
    fn go_on(pieces: &[Piece], text: &str, ignores_case: bool) -> bool {
        let [first, rest @ ..] = pieces else { return text.is_empty() };
        match first {
            Piece::Literal(literal) => {
                let length: usize = literal.chars().count();
                let end = text.char_indices().nth(length).map_or(text.len(), |(at, _)| at);
                same(&text[..end], literal, ignores_case) && go_on(rest, &text[end..], ignores_case)
            }
            Piece::One => {
                let mut chars = text.chars();
                chars.next().is_some() && go_on(rest, chars.as_str(), ignores_case)
            }
            Piece::Many => {
                let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
                ends.into_iter().any(|at| go_on(rest, &text[at..], ignores_case))
            }
        }
    }
    go_on(pieces, text, ignores_case)
}

fn same(a: &str, b: &str, ignores_case: bool) -> bool {
    a == b || ignores_case && a.to_lowercase() == b.to_lowercase()
}

fn fits(ty: Type, test: &Match, value: &Value) -> bool {
    let ignores_case = test.case == Case::Ignored;
    let by_words = ty == Type::Text
        || ty == Type::TextAndKeyword
            && ignores_case
            && matches!(test.pattern, Pattern::Word(_) | Pattern::Phrase { .. });
    if by_words {
        return value.as_str().is_some_and(|text| fits_words(&test.pattern, text));
    }
    match (&test.pattern, value) {
        (Pattern::Word(word), Value::String(text)) => same(text, word, ignores_case),
        (Pattern::Word(word), Value::Bool(truth)) => ty == Type::Any && word == &truth.to_string(),
        (Pattern::Word(word), Value::Number(n)) => ty == Type::Any && written_so(word, n),
        (Pattern::Phrase { text: phrase, .. }, Value::String(text)) => same(text, phrase, ignores_case),
        (Pattern::Wildcard(pieces), Value::String(text)) => wild(pieces, text, ignores_case),
        (Pattern::Regex(regex), Value::String(text)) => regex.compile().unwrap().is_match(text),
        _ => false,
    }
}

fn written_so(word: &str, n: &serde_json::Number) -> bool {
    match (word.parse::<i128>(), n.as_i128()) {
        (Ok(word), Some(n)) => word == n,
        _ => word.parse::<f64>().is_ok_and(|word| Some(word) == n.as_f64()),
    }
}

fn number(value: &Value) -> Option<Number> {
    value.as_i64().map(Number::Int).or_else(|| value.as_f64().map(Number::Float))
}

fn compare(test: &Compare<Number>, n: Number) -> bool {
    use std::cmp::Ordering;
    // Wide enough for every whole number and half of the events of the test.
    let wide = |n: Number| match n {
        Number::Int(n) => i128::from(n) * 1_000_000,
        Number::Float(f) => (f * 1_000_000.0) as i128,
    };
    let is = |other: &Number| wide(n).cmp(&wide(*other));
    match test {
        Compare::Is(v) => is(v) == Ordering::Equal,
        Compare::Below(v) => is(v) == Ordering::Less,
        Compare::AtMost(v) => is(v) != Ordering::Greater,
        Compare::Above(v) => is(v) == Ordering::Greater,
        Compare::AtLeast(v) => is(v) != Ordering::Less,
        Compare::Between(from, to) => is(from) != Ordering::Less && is(to) != Ordering::Greater,
    }
}

fn order<T: Ord>(test: &Compare<T>, n: &T) -> bool {
    match test {
        Compare::Is(v) => n == v,
        Compare::Below(v) => n < v,
        Compare::AtMost(v) => n <= v,
        Compare::Above(v) => n > v,
        Compare::AtLeast(v) => n >= v,
        Compare::Between(from, to) => from <= n && n <= to,
    }
}

fn within(addresses: &Addresses, ip: IpAddr) -> bool {
    match (addresses, ip) {
        (Addresses::Network { address: IpAddr::V4(net), prefix }, IpAddr::V4(ip)) => {
            same_start(u128::from(net.to_bits()) << 96, u128::from(ip.to_bits()) << 96, *prefix)
        }
        (Addresses::Network { address: IpAddr::V6(net), prefix }, IpAddr::V6(ip)) => {
            same_start(net.to_bits(), ip.to_bits(), *prefix)
        }
        (Addresses::Between(from, to), ip) => from.is_ipv4() == ip.is_ipv4() && *from <= ip && ip <= *to,
        _ => false,
    }
}

fn same_start(a: u128, b: u128, bits: u8) -> bool {
    (0..u32::from(bits)).all(|bit| (a ^ b) >> (127 - bit) & 1 == 0)
}

/// The network of an address, its free bits cleared.
pub(crate) fn network(address: IpAddr, prefix: u8) -> Addresses {
    let address = match address {
        IpAddr::V4(ip) => IpAddr::V4((ip.to_bits() & (u32::MAX << (32 - prefix))).into()),
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() & (u128::MAX << (128 - prefix))).into()),
    };
    Addresses::Network { address, prefix }
}

fn parameters(event: &Value) -> Vec<(String, String)> {
    let Some((_, query)) = event["requestURI"].as_str().and_then(|uri| uri.split_once('?')) else {
        return Vec::new();
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent(key), percent(value))
        })
        .collect()
}

fn percent(text: &str) -> String {
    let mut out = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let pair = text.get(at + 1..at + 3).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match (bytes[at], pair) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8(out).unwrap()
}

/// Every field that the event has, with one of its values.
pub(crate) fn places(event: &Value) -> Vec<(Field, Value)> {
    let mut found = Vec::new();
    walk(event, &mut Vec::new(), &mut found);
    let mut fields: Vec<(Field, Value)> = found
        .into_iter()
        .filter_map(|(keys, value)| {
            let mut named = keys.clone();
            named.insert(0, "event".to_owned());
            let field = Field::resolve(&named).ok()?;
            Some((field, value))
        })
        .collect();
    let uri = event["requestURI"].clone();
    fields.extend(parameters(event).into_iter().map(|(key, value)| {
        (Field::Path(Path { root: Root::Parameter, keys: vec![key] }), Value::from(value))
    }));
    let core = |core: Core| Field::Core(core);
    fields.extend([
        (
            core(Core::Path),
            uri.as_str().and_then(|uri| uri.split('?').next()).map_or(Value::Null, Value::from),
        ),
        (core(Core::Cluster), Value::from("prod")),
        (core(Core::Kind), Value::from("audit")),
        (core(Core::Latency), Value::Null),
        (core(Core::Journaled), event["stageTimestamp"].clone()),
        (core(Core::Code), event["responseStatus"]["code"].clone()),
        (core(Core::IpClient), event["sourceIPs"][0].clone()),
        (core(Core::Decision), event["annotations"]["authorization.k8s.io/decision"].clone()),
        (core(Core::Why), event["annotations"]["authorization.k8s.io/reason"].clone()),
    ]);
    fields
}

fn walk(value: &Value, keys: &mut Vec<String>, found: &mut Vec<(Vec<String>, Value)>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map.iter().filter(|(key, _)| !key.is_empty()) {
                keys.push(key.clone());
                walk(value, keys, found);
                keys.pop();
            }
        }
        Value::Array(all) => all.iter().for_each(|value| walk(value, keys, found)),
        leaf if !keys.is_empty() => found.push((keys.clone(), leaf.clone())),
        _ => {}
    }
}
