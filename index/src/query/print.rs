//! A query as text that parses to the same query.

use std::{
    fmt::{self, Display, Formatter, Write},
    net::IpAddr,
    time::Duration,
};

use super::{Addresses, Case, Clause, Compare, Digits, Expr, Match, Number, Pattern, Piece, Query, Test};

impl Display for Query {
    /// With what it is within, as one filter.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.is_over_all() {
            return self.filter.fmt(f);
        }
        write!(f, "({}) and ({})", self.within, self.filter)
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(parts) if parts.is_empty() => f.write_str("*"),
            Self::All(parts) => join(f, parts, " and ", |part| matches!(part, Self::Any(_))),
            Self::Any(parts) => join(f, parts, " or ", |_| false),
            Self::Not(inner) => {
                f.write_str("-")?;
                let joined =
                    matches!(&**inner, Self::Any(_)) || matches!(&**inner, Self::All(p) if !p.is_empty());
                parenthesised(f, inner, joined)
            }
            Self::Clause(clause) => clause.fmt(f),
            Self::Text(pattern) => {
                write_pattern(f, pattern, |c, first| c.is_alphanumeric() || !first && "_.-/@".contains(c))
            }
        }
    }
}

fn join(f: &mut Formatter<'_>, parts: &[Expr], with: &str, nests: fn(&Expr) -> bool) -> fmt::Result {
    for (i, part) in parts.iter().enumerate() {
        f.write_str(if i == 0 { "" } else { with })?;
        parenthesised(f, part, nests(part))?;
    }
    Ok(())
}

fn parenthesised(f: &mut Formatter<'_>, part: &Expr, yes: bool) -> fmt::Result {
    if yes { write!(f, "({part})") } else { part.fmt(f) }
}

impl Display for Clause {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.field.fmt(f)?;
        match &self.test {
            Test::Exists => f.write_str(":*"),
            Test::Missing => f.write_str(":null"),
            Test::Match(Match { pattern: pattern @ Pattern::Regex(_), .. }) => write!(f, ":{pattern}"),
            Test::Match(Match { pattern, case: Case::Ignored }) => write!(f, ":{pattern}"),
            Test::Match(Match { pattern, case: Case::Sensitive }) => write!(f, ":={pattern}"),
            Test::Number(compare) => comparison(f, compare, |n| n.to_string()),
            Test::Digits(digits) => write!(f, ":{digits}"),
            Test::Time(compare) => comparison(f, compare, |t| t.to_string()),
            Test::Duration(compare) => comparison(f, compare, duration),
            Test::Address(addresses) => write!(f, ":{addresses}"),
        }
    }
}

fn comparison<T>(f: &mut Formatter<'_>, compare: &Compare<T>, text: impl Fn(&T) -> String) -> fmt::Result {
    match compare {
        Compare::Is(v) => write!(f, ":{}", text(v)),
        Compare::Below(v) => write!(f, "<{}", text(v)),
        Compare::AtMost(v) => write!(f, "<={}", text(v)),
        Compare::Above(v) => write!(f, ">{}", text(v)),
        Compare::AtLeast(v) => write!(f, ">={}", text(v)),
        Compare::Between(from, to) => write!(f, ":[{} to {}]", text(from), text(to)),
    }
}

fn duration(duration: &Duration) -> String {
    let micros = duration.as_micros();
    let units = [("s", 1_000_000), ("ms", 1_000), ("us", 1)];
    let whole = units.into_iter().find(|(_, length)| micros.is_multiple_of(*length));
    whole.map_or_else(String::new, |(unit, length)| format!("{}{unit}", micros / length))
}

impl Display for Number {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(n) => n.fmt(f),
            // Always with a point or an exponent, so that it is not read as a whole number.
            Self::Float(n) => write!(f, "{n:?}"),
        }
    }
}

impl Display for Digits {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.prefix, "?".repeat(self.more.into()), if self.open { "*" } else { "" })
    }
}

impl Display for Addresses {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Between(from, to) => write!(f, "[{from} to {to}]"),
            Self::Network { address: address @ IpAddr::V4(_), prefix: 32 } => address.fmt(f),
            Self::Network { address: address @ IpAddr::V6(_), prefix: 128 } => address.fmt(f),
            Self::Network { address, prefix } => write!(f, "{address}/{prefix}"),
        }
    }
}

impl Display for Pattern {
    /// As a value of a field.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_pattern(f, self, |c, first| {
            c.is_alphanumeric() || "_.@".contains(c) || !first && ":-/".contains(c)
        })
    }
}

/// `bare` says whether a character needs no backslash, at the start of a word and elsewhere.
fn write_pattern(f: &mut Formatter<'_>, pattern: &Pattern, bare: fn(char, bool) -> bool) -> fmt::Result {
    match pattern {
        Pattern::Word(text) if is_keyword(text) => write!(f, "\\{text}"),
        Pattern::Word(text) => literal(f, text, bare),
        Pattern::Phrase { text, slop } => {
            write!(f, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))?;
            if *slop == 0 { Ok(()) } else { write!(f, "~{slop}") }
        }
        Pattern::Wildcard(pieces) => pieces.iter().try_for_each(|piece| match piece {
            Piece::Literal(text) => literal(f, text, bare),
            Piece::One => f.write_char('?'),
            Piece::Many => f.write_char('*'),
        }),
        Pattern::Regex(regex) => {
            write!(f, "/{}/{}", regex.source(), if regex.ignores_case() { "i" } else { "" })
        }
    }
}

fn is_keyword(text: &str) -> bool {
    ["and", "or", "not", "null", "to"].iter().any(|keyword| keyword.eq_ignore_ascii_case(text))
}

fn literal(f: &mut Formatter<'_>, text: &str, bare: fn(char, bool) -> bool) -> fmt::Result {
    text.chars().enumerate().try_for_each(|(i, c)| {
        f.write_str(if bare(c, i == 0) { "" } else { "\\" })?;
        f.write_char(c)
    })
}
