//! What a parsed query is: conditions over typed fields, joined by and, or and not.

use std::{
    net::{IpAddr, Ipv6Addr},
    ops::{Bound, RangeInclusive},
    time::Duration,
};

use ingest::time::Timestamp;

use super::{Field, MAX_REGEX_BYTES};

/// A whole query.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Which records are meant.
    pub filter: Expr,
    /// Which records there are for this query, whatever the filter says: nothing in an answer depends on any other.
    /// A text never sets it.
    pub within: Expr,
}

impl Query {
    /// A query over every record.
    pub const fn new(filter: Expr) -> Self {
        Self { filter, within: Expr::everything() }
    }

    /// The same query, for which only those records are there that meet `within` too.
    #[must_use]
    pub fn within(self, within: Expr) -> Self {
        Self { within: Expr::all(vec![self.within, within]), ..self }
    }

    /// Whether every record is there for this query.
    pub const fn is_over_all(&self) -> bool {
        self.within.is_everything()
    }
}

/// A condition on a record.
///
/// The parser builds the joins with [`Expr::all`] and [`Expr::any`], so no `All` stands directly in an `All`,
/// no `Any` in an `Any`, and neither holds exactly one part.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// Every part holds. Without parts it holds for every record: the empty query, and `*`.
    All(Vec<Expr>),
    /// At least one part holds. It always has parts.
    Any(Vec<Expr>),
    /// The part does not hold.
    Not(Box<Expr>),
    /// A field is tested.
    Clause(Clause),
    /// A word or phrase stands somewhere in URI, messages, annotations or bodies. Case is ignored; the pattern is
    /// never a [`Pattern::Regex`].
    Text(Pattern),
}

impl Expr {
    /// The condition that every record meets.
    pub const fn everything() -> Self {
        Self::All(Vec::new())
    }

    /// Whether this is that condition.
    pub const fn is_everything(&self) -> bool {
        matches!(self, Self::All(parts) if parts.is_empty())
    }

    /// All of the parts, flattened.
    pub fn all(parts: Vec<Self>) -> Self {
        let flat = parts.into_iter().flat_map(|part| match part {
            Self::All(inner) if !inner.is_empty() => inner,
            other => vec![other],
        });
        Self::single_or(flat.collect(), Self::All)
    }

    /// Any of the parts, flattened.
    pub fn any(parts: Vec<Self>) -> Self {
        let flat = parts.into_iter().flat_map(|part| match part {
            Self::Any(inner) => inner,
            other => vec![other],
        });
        Self::single_or(flat.collect(), Self::Any)
    }

    fn single_or(mut parts: Vec<Self>, join: fn(Vec<Self>) -> Self) -> Self {
        match parts.pop() {
            Some(only) if parts.is_empty() => only,
            Some(last) => {
                parts.push(last);
                join(parts)
            }
            None => join(parts),
        }
    }
}

impl std::ops::Not for Expr {
    type Output = Self;

    fn not(self) -> Self {
        Self::Not(Box::new(self))
    }
}

/// A test of one field.
#[derive(Clone, Debug, PartialEq)]
pub struct Clause {
    /// The field.
    pub field: Field,
    /// What it is tested for; of the field's type.
    pub test: Test,
}

/// What a field is tested for. A field with several values (groups, addresses, arrays in a body) passes when one
/// of them does.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// The field is there: `field:*`.
    Exists,
    /// The field is not there, or null: `field:null`.
    Missing,
    /// Keywords, texts and body paths.
    Match(Match),
    /// Numbers, and comparisons of body paths, which hold only where a number stands.
    Number(Compare<Number>),
    /// Numbers that begin with given digits: `code:4*`, `code:40?`.
    Digits(Digits),
    /// Times.
    Time(Compare<Timestamp>),
    /// Durations, in whole microseconds.
    Duration(Compare<Duration>),
    /// Addresses.
    Address(Addresses),
}

/// A test of characters.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    /// What must stand there.
    pub pattern: Pattern,
    /// Whether case counts: `:=` counts it, `:` does not. A regex says so for itself and has
    /// [`Case::Sensitive`] here unless it ends in `/i`.
    pub case: Case,
}

/// Whether upper and lower case are different.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Case {
    /// `Get` is `get`.
    Ignored,
    /// `Get` is not `get`.
    Sensitive,
}

/// What characters must stand in a value.
///
/// Keywords and body paths compare their whole value. Of [`Type::Text`](super::Type::Text) one word or a row of
/// words must fit. [`Type::TextAndKeyword`](super::Type::TextAndKeyword) does the latter for words and phrases
/// under `:`, and the former for everything else.
#[derive(Clone, Debug, PartialEq)]
pub enum Pattern {
    /// An unquoted word. In a body it also finds the number or truth value that is written so.
    Word(String),
    /// A quoted text: never a number, a truth value or a wildcard.
    Phrase {
        /// The text between the quotes.
        text: String,
        /// How many positions the words may be moved in all; only ever above 0 where words are compared.
        slop: u32,
    },
    /// A word with wildcards.
    Wildcard(Vec<Piece>),
    /// A regex that is found somewhere in the whole value, unless it anchors itself with `^` and `$`.
    Regex(Regex),
}

/// A part of a word with wildcards. No two `Literal`s and no two `Many`s are neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These characters.
    Literal(String),
    /// `?`: any one character.
    One,
    /// `*`: any characters, or none.
    Many,
}

/// A regex that compiles within [`MAX_REGEX_BYTES`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regex {
    source: String,
    ignores_case: bool,
}

impl Regex {
    /// Takes what stands between the slashes.
    ///
    /// # Errors
    /// When it is no regex, or too large a one.
    pub fn new(source: impl Into<String>, ignores_case: bool) -> Result<Self, regex::Error> {
        let regex = Self { source: source.into(), ignores_case };
        regex.compile()?;
        Ok(regex)
    }

    /// What stands between the slashes.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether `i` follows the second slash.
    pub const fn ignores_case(&self) -> bool {
        self.ignores_case
    }

    /// The regex, ready to be searched for in a whole value.
    ///
    /// # Errors
    /// None that [`Regex::new`] has not found already.
    pub fn compile(&self) -> Result<regex::Regex, regex::Error> {
        regex::RegexBuilder::new(&self.source)
            .case_insensitive(self.ignores_case)
            .size_limit(MAX_REGEX_BYTES)
            .build()
    }
}

/// A test of a value with an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare<T> {
    /// Equal.
    Is(T),
    /// Less.
    Below(T),
    /// Less or equal.
    AtMost(T),
    /// Greater.
    Above(T),
    /// Greater or equal.
    AtLeast(T),
    /// From the first to the second, both included; the first is never greater.
    Between(T, T),
}

impl<T> Compare<T> {
    /// The same as a range.
    pub fn bounds(&self) -> (Bound<&T>, Bound<&T>) {
        match self {
            Self::Is(v) => (Bound::Included(v), Bound::Included(v)),
            Self::Below(v) => (Bound::Unbounded, Bound::Excluded(v)),
            Self::AtMost(v) => (Bound::Unbounded, Bound::Included(v)),
            Self::Above(v) => (Bound::Excluded(v), Bound::Unbounded),
            Self::AtLeast(v) => (Bound::Included(v), Bound::Unbounded),
            Self::Between(from, to) => (Bound::Included(from), Bound::Included(to)),
        }
    }
}

/// A number as it was written. [`Core::Code`](super::Core::Code) is only compared with whole ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A whole number.
    Int(i64),
    /// Any other, always finite.
    Float(f64),
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (a, b) => a.as_f64().partial_cmp(&b.as_f64()),
        }
    }
}

impl Number {
    /// The nearest floating-point number.
    pub const fn as_f64(self) -> f64 {
        match self {
            Self::Int(n) => n as f64,
            Self::Float(n) => n,
        }
    }
}

/// Whole numbers that begin with some digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digits {
    /// The first digits, as a number above 0.
    pub prefix: u32,
    /// How many digits follow: the `?`s.
    pub more: u8,
    /// Whether any number of digits may follow these: `*`.
    pub open: bool,
}

impl Digits {
    /// The numbers up to `max`, as ranges in rising order.
    pub fn ranges(&self, max: i64) -> Vec<RangeInclusive<i64>> {
        let first = i64::from(self.prefix);
        let powers = (u32::from(self.more)..).map_while(|digits| 10i64.checked_pow(digits));
        powers
            .map_while(|power| first.checked_mul(power).map(|from| from..=from.saturating_add(power - 1)))
            .take_while(|range| *range.start() <= max)
            .take(if self.open { usize::MAX } else { 1 })
            .collect()
    }
}

/// Which addresses are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// A network; a single address has the full prefix. The bits past the prefix are 0.
    Network {
        /// The first address. IPv4-mapped IPv6 is written as IPv4.
        address: IpAddr,
        /// How many bits are fixed: up to 32, or 128.
        prefix: u8,
    },
    /// From the first to the second, both included and both of one family.
    Between(IpAddr, IpAddr),
}

impl Addresses {
    /// First and last address, IPv4 as IPv4-mapped IPv6.
    pub fn range(&self) -> RangeInclusive<Ipv6Addr> {
        match *self {
            Self::Between(from, to) => mapped(from)..=mapped(to),
            Self::Network { address, prefix } => {
                let family = if address.is_ipv4() { 32 } else { 128 };
                let free = u32::from(family - prefix.min(family));
                let first = mapped(address).to_bits();
                let ones = u128::MAX.checked_shr(128 - free).unwrap_or(0);
                Ipv6Addr::from_bits(first)..=Ipv6Addr::from_bits(first | ones)
            }
        }
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// The regex of a word with wildcards, which fits the whole value.
///
/// # Errors
/// When it is too large a one.
pub(crate) fn wildcard(pieces: &[Piece], case: Case) -> Result<regex::Regex, regex::Error> {
    let mut source = "^".to_owned();
    for piece in pieces {
        match piece {
            Piece::Literal(text) => source.push_str(&regex::escape(text)),
            Piece::One => source.push('.'),
            Piece::Many => source.push_str(".*"),
        }
    }
    source.push('$');
    regex::RegexBuilder::new(&source)
        .case_insensitive(case == Case::Ignored)
        .dot_matches_new_line(true)
        .size_limit(MAX_REGEX_BYTES)
        .build()
}
