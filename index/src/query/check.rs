//! What a value means for its field: the wrong operator and the wrong kind of value are found here.

use ingest::time::Timestamp;

use super::{
    Addresses, Case, Clause, Compare, Expr, Field, Match, Number, Pattern, Piece, Regex, Test, Type,
    ast::wildcard,
    cursor::Word,
    error::Fault,
    fields::{Path, Root},
    known,
    value::{self, Span},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Is,
    Exact,
    IsNot,
    Above,
    AtLeast,
    Below,
    AtMost,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Operator {
    pub(super) sign: &'static str,
    pub(super) op: Op,
    pub(super) at: usize,
}

/// The left side of a clause.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) field: Field,
    pub(super) at: usize,
    pub(super) operator: Operator,
    pub(super) now: Timestamp,
}

/// The right side of a clause, as it was written.
#[derive(Debug)]
pub(super) struct Value {
    pub(super) at: usize,
    pub(super) raw: Raw,
}

#[derive(Debug)]
pub(super) enum Raw {
    Word(Word),
    Quoted { text: String, slop: u32 },
    Regex { source: String, ignores_case: bool },
    Range(End, End),
}

/// An end of a range; without text it is open.
#[derive(Debug)]
pub(super) struct End {
    pub(super) at: usize,
    pub(super) text: Option<String>,
}

impl Value {
    /// Whether only one value can be equal to it.
    pub(super) fn is_fixed(&self) -> bool {
        match &self.raw {
            Raw::Word(word) => !word.has_wildcards(),
            Raw::Quoted { .. } => true,
            Raw::Regex { .. } | Raw::Range(..) => false,
        }
    }
}

impl Operator {
    const fn orders(self) -> bool {
        matches!(self.op, Op::Above | Op::AtLeast | Op::Below | Op::AtMost)
    }

    /// The operator for each value of a list. The list as a whole is negated, not its values.
    pub(super) fn for_list(self) -> Result<Self, Fault> {
        match self.op {
            _ if self.orders() => {
                Err(Fault::new(self.at, format!("{:?} takes one value, not a list", self.sign)))
            }
            Op::IsNot => Ok(Self { op: Op::Is, ..self }),
            _ => Ok(self),
        }
    }
}

impl Subject {
    /// Whether two different values may both be met by one record.
    pub(super) const fn can_be_two(&self) -> bool {
        self.field.holds_many() || matches!(self.field.ty(), Type::Text | Type::TextAndKeyword)
    }

    fn mistyped(&self, value: &Value, example: &str) -> Fault {
        let text = match &value.raw {
            Raw::Word(word) => word.text(),
            Raw::Quoted { text, .. } => text.clone(),
            Raw::Regex { source, .. } => format!("/{source}/"),
            Raw::Range(..) => "a range".to_owned(),
        };
        self.mistyped_text(value.at, &text, example)
    }

    fn mistyped_text(&self, at: usize, text: &str, example: &str) -> Fault {
        Fault::new(
            at,
            format!("{text:?} is not {}, which \"{}\" asks for", self.field.ty().phrase(), self.field),
        )
        .suggest(format!("for example {}:{example}", self.field))
    }
}

pub(super) fn clause(subject: &Subject, value: Value) -> Result<Expr, Fault> {
    let test = test(subject, &value)?;
    let clause = Expr::Clause(Clause { field: subject.field.clone(), test });
    Ok(if subject.operator.op == Op::IsNot { !clause } else { clause })
}

/// Refuses a text without a letter or digit: an index of words has nothing to look up for it.
pub(super) fn has_word(at: usize, pattern: &Pattern) -> Result<(), Fault> {
    let has = |text: &str| text.contains(char::is_alphanumeric);
    let found = match pattern {
        Pattern::Word(text) | Pattern::Phrase { text, .. } => has(text),
        Pattern::Wildcard(pieces) => pieces.iter().any(|p| matches!(p, Piece::Literal(text) if has(text))),
        Pattern::Regex(_) => true,
    };
    if found { Ok(()) } else { Err(Fault::new(at, "there is no word to search for here")) }
}

/// Refuses a wildcard that is too large a regex; a regex was compiled when it was read.
pub(super) fn compiles(at: usize, test: &Match) -> Result<(), Fault> {
    let Pattern::Wildcard(pieces) = &test.pattern else { return Ok(()) };
    wildcard(pieces, test.case)
        .map(drop)
        .map_err(|_| Fault::new(at, "the wildcards are too many").suggest("one * stands for any characters"))
}

fn test(subject: &Subject, value: &Value) -> Result<Test, Fault> {
    let root = match &subject.field {
        Field::Path(Path { root, keys }) if keys.is_empty() => Some(*root),
        _ => None,
    };
    match presence(value) {
        Some(_) if subject.operator.orders() => return Err(unordered(subject, value)),
        // There is always an event.
        Some(test) if root != Some(Root::Event) => return Ok(test),
        _ => {}
    }
    if let Some(root) = root {
        return Err(pathless(subject, root));
    }
    match subject.field.ty() {
        Type::Keyword | Type::Text | Type::TextAndKeyword => characters(subject, value).map(Test::Match),
        Type::Any if subject.operator.orders() || matches!(value.raw, Raw::Range(..)) => {
            compare(subject, value, |text| value::number(text).map(Span::point), "3").map(Test::Number)
        }
        Type::Any => characters(subject, value).map(Test::Match),
        Type::Number => number(subject, value),
        Type::Time => {
            compare(subject, value, |text| value::time(text, subject.now), "now-1h").map(Test::Time)
        }
        Type::Duration => compare(subject, value, |text| value::duration(text).map(Span::point), "250ms")
            .map(Test::Duration),
        Type::Address => address(subject, value).map(Test::Address),
    }
}

fn pathless(subject: &Subject, root: Root) -> Fault {
    let name = root.name();
    let presence =
        if root == Root::Event { String::new() } else { format!("; {name}:* asks whether there is one") };
    Fault::new(subject.at, format!("{name:?} needs a path after it"))
        .suggest(format!("for example {name}.name:…{presence}"))
}

fn presence(value: &Value) -> Option<Test> {
    match &value.raw {
        Raw::Word(word) if word.is("null") => Some(Test::Missing),
        Raw::Word(word) if word.pieces() == [Piece::Many] => Some(Test::Exists),
        Raw::Range(End { text: None, .. }, End { text: None, .. }) => Some(Test::Exists),
        _ => None,
    }
}

fn unordered(subject: &Subject, value: &Value) -> Fault {
    let (at, sign) = match value.raw {
        Raw::Range(..) if !subject.operator.orders() => (value.at, "[… to …]"),
        _ => (subject.operator.at, subject.operator.sign),
    };
    Fault::new(
        at,
        format!("{sign:?} does not work on \"{}\", which is {}", subject.field, subject.field.ty().phrase()),
    )
    .suggest("it compares numbers, times and durations")
}

fn characters(subject: &Subject, value: &Value) -> Result<Match, Fault> {
    let exact = subject.operator.op == Op::Exact;
    let ty = subject.field.ty();
    if subject.operator.orders() || matches!(value.raw, Raw::Range(..)) {
        return Err(unordered(subject, value));
    }
    if exact && ty == Type::Text {
        return Err(Fault::new(
            subject.operator.at,
            format!("\":=\" does not work on \"{}\", of which only the words are kept", subject.field),
        )
        .suggest("use \":\" and a phrase"));
    }
    let pattern = pattern(subject, value)?;
    let by_words = ty == Type::Text || ty == Type::TextAndKeyword && !exact;
    match &pattern {
        Pattern::Phrase { slop: 1.., .. } if !by_words => Err(Fault::new(
            value.at,
            format!("\"~\" does not work here: \"{}\" compares whole values, not words", subject.field),
        )),
        Pattern::Regex(_) if ty == Type::Text => Err(Fault::new(
            value.at,
            format!("a regex does not work on \"{}\", of which only the words are kept", subject.field),
        )
        .suggest("use words, a phrase, or a word with * and ?")),
        Pattern::Word(_) | Pattern::Phrase { .. } if by_words => has_word(value.at, &pattern),
        Pattern::Wildcard(_) if ty == Type::Text => has_word(value.at, &pattern),
        _ => Ok(()),
    }?;
    let ignored = match &pattern {
        Pattern::Regex(regex) => regex.ignores_case(),
        _ => !exact,
    };
    let test = Match { pattern, case: if ignored { Case::Ignored } else { Case::Sensitive } };
    compiles(value.at, &test)?;
    known::holds(value.at, &subject.field, &test)?;
    Ok(test)
}

fn pattern(subject: &Subject, value: &Value) -> Result<Pattern, Fault> {
    match &value.raw {
        Raw::Word(word) if word.has_wildcards() => Ok(Pattern::Wildcard(word.pieces())),
        Raw::Word(word) => Ok(Pattern::Word(word.text())),
        Raw::Quoted { text, slop } => Ok(Pattern::Phrase { text: text.clone(), slop: *slop }),
        Raw::Regex { source, ignores_case } => Regex::new(source.as_str(), *ignores_case)
            .map(Pattern::Regex)
            .map_err(|error| Fault::new(value.at, format!("not a regex: {}", reason(&error)))),
        Raw::Range(..) => Err(unordered(subject, value)),
    }
}

/// The last line of a regex error; those before it draw the regex.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).trim_end_matches('.').to_owned()
}

fn number(subject: &Subject, value: &Value) -> Result<Test, Fault> {
    const EXAMPLE: &str = "404 or 4*";
    if let Raw::Word(word) = &value.raw
        && word.has_wildcards()
    {
        let digits = value::digits(&word.pieces()).ok_or_else(|| subject.mistyped(value, EXAMPLE))?;
        return if subject.operator.orders() { Err(one_value(subject)) } else { Ok(Test::Digits(digits)) };
    }
    let whole = |text: &str| match value::number(text)? {
        Number::Int(n) => Some(Span::point(Number::Int(n))),
        Number::Float(_) => None,
    };
    compare(subject, value, whole, EXAMPLE).map(Test::Number)
}

fn one_value(subject: &Subject) -> Fault {
    Fault::new(subject.operator.at, format!("{:?} takes one value", subject.operator.sign))
}

fn compare<T: Copy + PartialOrd>(
    subject: &Subject,
    value: &Value,
    read: impl Fn(&str) -> Option<Span<T>>,
    example: &str,
) -> Result<Compare<T>, Fault> {
    let text = match &value.raw {
        Raw::Word(word) if !word.has_wildcards() => word.text(),
        Raw::Quoted { text, slop: 0 } => text.clone(),
        Raw::Range(..) if subject.operator.orders() => return Err(one_value(subject)),
        Raw::Range(from, to) => {
            let end = |end: &End| match &end.text {
                None => Ok(None),
                Some(text) => {
                    read(text).map(Some).ok_or_else(|| subject.mistyped_text(end.at, text, example))
                }
            };
            return between(value.at, end(from)?, end(to)?);
        }
        _ => return Err(subject.mistyped(value, example)),
    };
    let span = read(&text).ok_or_else(|| subject.mistyped(value, example))?;
    Ok(match subject.operator.op {
        Op::Is | Op::Exact | Op::IsNot if span.first == span.last => Compare::Is(span.first),
        Op::Is | Op::Exact | Op::IsNot => Compare::Between(span.first, span.last),
        Op::Above => Compare::Above(span.last),
        Op::AtLeast => Compare::AtLeast(span.first),
        Op::Below => Compare::Below(span.first),
        Op::AtMost => Compare::AtMost(span.last),
    })
}

fn between<T: Copy + PartialOrd>(
    at: usize,
    from: Option<Span<T>>,
    to: Option<Span<T>>,
) -> Result<Compare<T>, Fault> {
    match (from, to) {
        (Some(from), Some(to)) if from.first <= to.last => Ok(Compare::Between(from.first, to.last)),
        (Some(from), None) => Ok(Compare::AtLeast(from.first)),
        (None, Some(to)) => Ok(Compare::AtMost(to.last)),
        _ => Err(Fault::new(at, "the range is empty: it ends before it begins")),
    }
}

fn address(subject: &Subject, value: &Value) -> Result<Addresses, Fault> {
    const EXAMPLE: &str = "10.0.0.0/8";
    if subject.operator.orders() {
        return Err(unordered(subject, value));
    }
    let text = match &value.raw {
        Raw::Word(word) => word.text(),
        Raw::Quoted { text, slop: 0 } => text.clone(),
        Raw::Range(End { at, text: Some(from) }, End { at: to_at, text: Some(to) }) => {
            let end = |at: &usize, text| {
                value::address(text).ok_or_else(|| subject.mistyped_text(*at, text, EXAMPLE))
            };
            let (from, to) = (end(at, from)?, end(to_at, to)?);
            return if from.is_ipv4() != to.is_ipv4() {
                Err(Fault::new(value.at, "the ends of the range are of different address families"))
            } else if from > to {
                Err(Fault::new(value.at, "the range is empty: it ends before it begins"))
            } else {
                Ok(Addresses::Between(from, to))
            };
        }
        Raw::Range(..) => return Err(Fault::new(value.at, "a range of addresses needs both ends")),
        _ => return Err(subject.mistyped(value, EXAMPLE)),
    };
    value::addresses(&text).ok_or_else(|| subject.mistyped(value, EXAMPLE))
}
