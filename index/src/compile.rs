//! Turns a checked query into one of the search engine. Every clause becomes exactly what the language says.

mod pattern;

use std::{net::Ipv6Addr, ops::Bound, sync::Arc};

use ingest::time::Timestamp;
use tantivy::{
    Term,
    query::{AllQuery, BooleanQuery, EmptyQuery, ExistsQuery, Occur, Query as Engine, RangeQuery, TermQuery},
    schema::{Field as Column, IndexRecordOption},
};

use self::pattern::{Tester, Words};
use crate::{
    budget::Budget,
    query::{
        Addresses, Case, Clause, Compare, Core, Digits, Expr, Field, Match, Number, Pattern, Query, Root,
        Test, Type,
    },
    scan::{Scan, TermTest, Verdict},
    schema::Fields,
    terms::{self, END, FREE_TEXT, MISFIT, NUMBER, SEP, SYNTHETIC, Stored, WORD},
};

/// A query that the index cannot answer. The language refuses nearly all of them before, with a place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// A field and a test that do not belong together.
    #[error("{field} cannot be tested that way")]
    Unfit {
        /// The field.
        field: String,
    },
    /// Text without a single letter or digit where words are compared.
    #[error(
        "{text:?} has no word to search for: search the whole value of a field with a wildcard or a regex"
    )]
    NoWord {
        /// The text.
        text: String,
    },
    /// A regex that does not compile.
    #[error("the regex does not compile: {0}")]
    Regex(String),
}

/// A query of the search engine that does what `query` says.
pub(crate) fn compile(
    query: &Query,
    fields: &Fields,
    budget: &Budget,
) -> Result<Box<dyn Engine>, CompileError> {
    let mut compiler = Compiler { fields, budget, within: None };
    if query.is_over_all() {
        return compiler.expr(&query.filter);
    }
    let within: Arc<dyn Engine> = compiler.expr(&query.within)?.into();
    compiler.within = Some(within.clone());
    let filter = compiler.expr(&query.filter)?;
    Ok(Box::new(BooleanQuery::intersection(vec![within.box_clone(), filter])))
}

struct Compiler<'c> {
    fields: &'c Fields,
    budget: &'c Budget,
    /// What holds for every record that is there for the query: nothing is read, and nothing said, for any other.
    within: Option<Arc<dyn Engine>>,
}

type Compiled = Result<Box<dyn Engine>, CompileError>;

impl Compiler<'_> {
    fn expr(&self, expr: &Expr) -> Compiled {
        match expr {
            Expr::All(parts) if parts.is_empty() => Ok(Box::new(AllQuery)),
            Expr::All(parts) => self.all(parts),
            Expr::Any(parts) => {
                let parts: Result<Vec<_>, _> = parts.iter().map(|part| self.expr(part)).collect();
                Ok(any(parts?))
            }
            Expr::Not(part) => Ok(not(self.expr(part)?)),
            Expr::Clause(clause) => self.clause(clause),
            Expr::Text(pattern) => self.text(pattern),
        }
    }

    /// Negated parts are taken away from the others instead of from everything.
    fn all(&self, parts: &[Expr]) -> Compiled {
        let mut joined = Vec::new();
        for part in parts {
            joined.push(match part {
                Expr::Not(part) => (Occur::MustNot, self.expr(part)?),
                part => (Occur::Must, self.expr(part)?),
            });
        }
        if joined.iter().all(|(occur, _)| *occur == Occur::MustNot) {
            joined.push((Occur::Must, Box::new(AllQuery)));
        }
        Ok(Box::new(BooleanQuery::new(joined)))
    }

    fn clause(&self, Clause { field, test }: &Clause) -> Compiled {
        let unfit = || CompileError::Unfit { field: field.to_string() };
        Ok(match test {
            Test::Exists => self.exists(field),
            Test::Missing => not(self.exists(field)),
            Test::Match(test) => return self.matches(field, test),
            Test::Number(test) => self.number(field, *test),
            Test::Digits(digits) => self.digits(field, *digits),
            Test::Time(test) => {
                self.range(self.column(field).ok_or_else(unfit)?, test, |t: &Timestamp| t.micros())
            }
            Test::Duration(test) => self.range(self.column(field).ok_or_else(unfit)?, test, |d| {
                i64::try_from(d.as_micros()).unwrap_or(i64::MAX)
            }),
            Test::Address(addresses) => self.address(self.column(field).ok_or_else(unfit)?, addresses),
        })
    }

    /// The column of a field that is compared by its column.
    fn column(&self, field: &Field) -> Option<Column> {
        let Field::Core(core) = field else { return None };
        Some(match core {
            Core::Ts => self.fields.ts,
            Core::Received => self.fields.received,
            Core::Journaled => self.fields.journaled,
            Core::Latency => self.fields.latency,
            Core::Ip => self.fields.ip,
            Core::IpClient => self.fields.ip_client,
            _ => return None,
        })
    }

    fn exists(&self, field: &Field) -> Box<dyn Engine> {
        if let Some(column) = self.column(field) {
            let name = self.fields.schema.get_field_name(column).to_owned();
            return Box::new(ExistsQuery::new(name, false));
        }
        let place = place(field);
        let at = self.scan(vec![format!("{place}{END}")], Arc::new(|value| (value != "\x08").into()));
        let below = self.scan(vec![format!("{place}{SEP}")], Arc::new(|_| Verdict::Match));
        any(vec![at, below])
    }

    fn matches(&self, field: &Field, test: &Match) -> Compiled {
        let place = format!("{}{END}", place(field));
        let by_words = match field.ty() {
            Type::Text => true,
            Type::TextAndKeyword => {
                test.case == Case::Ignored
                    && matches!(test.pattern, Pattern::Word(_) | Pattern::Phrase { .. })
            }
            _ => false,
        };
        if by_words {
            return self.words(&format!("{place}{WORD}"), vec![place.clone()], &test.pattern);
        }
        let whole_only = field.ty() == Type::TextAndKeyword;
        match &test.pattern {
            Pattern::Word(text) => {
                let mut found = vec![self.equal(&place, text, test.case, whole_only)];
                if field.ty() == Type::Any {
                    found.extend(self.written_so(&place, text));
                }
                Ok(any(found))
            }
            Pattern::Phrase { text, .. } => Ok(self.equal(&place, text, test.case, whole_only)),
            Pattern::Wildcard(_) | Pattern::Regex(_) => {
                let tester = Tester::new(&test.pattern, test.case)?;
                Ok(self.whole(place, tester))
            }
        }
    }

    /// Strings at `place` that pass.
    fn whole(&self, place: String, tester: Tester) -> Box<dyn Engine> {
        let test = move |value: &str| match terms::read_string(value) {
            None => Verdict::No,
            Some((text, false)) => tester.matches(text).into(),
            Some((beginning, true)) => tester.verdict_on_beginning(beginning),
        };
        self.scan(vec![place], Arc::new(test))
    }

    /// Strings at `place` that are `text`.
    fn equal(&self, place: &str, text: &str, case: Case, whole_only: bool) -> Box<dyn Engine> {
        let text = terms::clean(text).into_owned();
        let folded = terms::fold(&text).into_owned();
        let mut found = Vec::new();
        if !whole_only {
            match case {
                Case::Ignored => {
                    found.push(self.term(&format!("{place}{folded}")));
                    found.push(self.term(&format!("{place}\x02{folded}")));
                }
                Case::Sensitive if folded == text => found.push(self.term(&format!("{place}{text}"))),
                Case::Sensitive => found.push(self.term(&format!("{place}\x01{text}"))),
            }
        }
        // Folding changes lengths, by a factor of three at most.
        if whole_only || text.len() > terms::MAX_SHORT / 3 {
            let test = move |value: &str| match terms::read_string(value) {
                Some((kept, false)) => {
                    (kept == text || case == Case::Ignored && terms::fold(kept) == folded).into()
                }
                Some((kept, true)) if text.len() > kept.len() / 3 => Verdict::NotInKeptPart,
                _ => Verdict::No,
            };
            found.push(
                self.scan(vec![format!("{place}\x04")], Arc::new(move |value| test(&format!("\x04{value}")))),
            );
        }
        any(found)
    }

    /// The number and the truth value that are written as `text`.
    fn written_so(&self, place: &str, text: &str) -> Vec<Box<dyn Engine>> {
        let mut found = Vec::new();
        match text {
            "true" => found.push(self.term(&format!("{place}\x07t"))),
            "false" => found.push(self.term(&format!("{place}\x07f"))),
            _ => {}
        }
        let number = text.parse().map(Stored::Int).ok().or_else(|| {
            let float: f64 = text.parse().ok()?;
            (float.is_finite() && text.starts_with(|c: char| c.is_ascii_digit() || c == '-'))
                .then_some(Stored::Float(float))
        });
        found.extend(number.map(|number| self.term(&format!("{place}{}", terms::number(number)))));
        found
    }

    fn number(&self, field: &Field, test: Compare<Number>) -> Box<dyn Engine> {
        let passes = move |stored: Stored| {
            let (from, to) = test.bounds();
            is_above(stored, from) && is_below(stored, to)
        };
        self.scan(
            vec![format!("{}{END}{NUMBER}", place(field))],
            Arc::new(move |value| terms::read_number(&format!("{NUMBER}{value}")).is_some_and(passes).into()),
        )
    }

    fn digits(&self, field: &Field, digits: Digits) -> Box<dyn Engine> {
        let ranges = digits.ranges(i64::MAX);
        let within = move |stored: Stored| {
            ranges.iter().any(|range| {
                is_above(stored, Bound::Included(&Number::Int(*range.start())))
                    && is_below(stored, Bound::Included(&Number::Int(*range.end())))
            })
        };
        self.scan(
            vec![format!("{}{END}{NUMBER}", place(field))],
            Arc::new(move |value| {
                terms::read_number(&format!("{NUMBER}{value}")).is_some_and(&within).into()
            }),
        )
    }

    fn range<T>(&self, column: Column, test: &Compare<T>, micros: impl Fn(&T) -> i64) -> Box<dyn Engine> {
        let term = |value: &T| Term::from_field_i64(column, micros(value));
        let (from, to) = test.bounds();
        Box::new(RangeQuery::new(from.map(term), to.map(term)))
    }

    fn address(&self, column: Column, addresses: &Addresses) -> Box<dyn Engine> {
        let (from, to): (Ipv6Addr, Ipv6Addr) = addresses.range().into_inner();
        Box::new(RangeQuery::new(
            Bound::Included(Term::from_field_ip_addr(column, from)),
            Bound::Included(Term::from_field_ip_addr(column, to)),
        ))
    }

    /// Free text: a word or phrase in any of the places that hold prose.
    fn text(&self, pattern: &Pattern) -> Compiled {
        let places =
            FREE_TEXT.iter().chain([&MISFIT]).flat_map(|place| [END, SEP].map(|end| format!("{place}{end}")));
        self.words(&WORD.to_string(), places.collect(), pattern)
    }

    /// Words that have terms behind `words`, of strings that stand behind `places`.
    fn words(&self, words: &str, places: Vec<String>, pattern: &Pattern) -> Compiled {
        let (text, slop) = match pattern {
            Pattern::Word(text) => (text, 0),
            Pattern::Phrase { text, slop } => (text, *slop),
            Pattern::Wildcard(_) | Pattern::Regex(_) => {
                let tester = Tester::new(pattern, Case::Ignored)?;
                return Ok(
                    self.scan(vec![words.to_owned()], Arc::new(move |word| tester.matches(word).into()))
                );
            }
        };
        let row = Words::new(text).ok_or_else(|| CompileError::NoWord { text: text.clone() })?;
        let mut joined: Vec<(Occur, Box<dyn Engine>)> =
            row.distinct().map(|word| (Occur::Must, self.term(&format!("{words}{word}")))).collect();
        if row.len() > 1 {
            let test = move |rest: &str| {
                let value = rest.rsplit_once(END).map_or(rest, |(_, value)| value);
                match terms::read_string(value) {
                    Some((text, _)) if row.stand_in(text, slop) => Verdict::Match,
                    Some((_, true)) => Verdict::NotInKeptPart,
                    _ => Verdict::No,
                }
            };
            let words = joined.iter().map(|(occur, word)| (*occur, word.box_clone()));
            let within = self.within.iter().map(|within| (Occur::Must, within.box_clone()));
            let guard = BooleanQuery::new(words.chain(within).collect());
            let scan =
                Scan::new(self.fields.terms, places, self.budget, Arc::new(test)).guarded(Arc::new(guard));
            joined.push((Occur::Must, Box::new(scan)));
        }
        Ok(Box::new(BooleanQuery::new(joined)))
    }

    fn term(&self, term: &str) -> Box<dyn Engine> {
        if term.len() > tantivy::tokenizer::MAX_TOKEN_LEN {
            return Box::new(EmptyQuery);
        }
        Box::new(TermQuery::new(Term::from_field_text(self.fields.terms, term), IndexRecordOption::Basic))
    }

    fn scan(&self, prefixes: Vec<String>, test: TermTest) -> Box<dyn Engine> {
        let scan = Scan::new(self.fields.terms, prefixes, self.budget, test);
        Box::new(match &self.within {
            Some(within) => scan.guarded(within.clone()),
            None => scan,
        })
    }
}

fn any(mut parts: Vec<Box<dyn Engine>>) -> Box<dyn Engine> {
    match parts.len() {
        1 => parts.remove(0),
        _ => Box::new(BooleanQuery::union(parts)),
    }
}

fn not(part: Box<dyn Engine>) -> Box<dyn Engine> {
    Box::new(BooleanQuery::new(vec![(Occur::Must, Box::new(AllQuery)), (Occur::MustNot, part)]))
}

fn is_above(stored: Stored, bound: Bound<&Number>) -> bool {
    match bound {
        Bound::Unbounded => true,
        Bound::Included(n) => stored.compare(*n).is_ge(),
        Bound::Excluded(n) => stored.compare(*n).is_gt(),
    }
}

fn is_below(stored: Stored, bound: Bound<&Number>) -> bool {
    match bound {
        Bound::Unbounded => true,
        Bound::Included(n) => stored.compare(*n).is_le(),
        Bound::Excluded(n) => stored.compare(*n).is_lt(),
    }
}

/// The path that a field's terms begin with, without its end.
fn place(field: &Field) -> String {
    match field {
        Field::Core(core) => core_place(*core),
        Field::Path(path) => {
            let root: &[&str] = match path.root {
                Root::Request => &["requestObject"],
                Root::Response => &["responseObject"],
                Root::Annotation => &["annotations"],
                Root::Extra => &["user", "extra"],
                Root::Parameter | Root::Event => &[],
            };
            let keys: Vec<&str> = root.iter().copied().chain(path.keys.iter().map(String::as_str)).collect();
            let keys = terms::path(&keys);
            match path.root {
                Root::Parameter if keys.is_empty() => format!("{SYNTHETIC}param"),
                Root::Parameter => format!("{SYNTHETIC}param{SEP}{keys}"),
                _ => keys,
            }
        }
    }
}

fn core_place(core: Core) -> String {
    match core {
        Core::Decision => "annotations\x1fauthorization.k8s.io/decision".to_owned(),
        Core::Why => "annotations\x1fauthorization.k8s.io/reason".to_owned(),
        Core::Path => format!("{SYNTHETIC}path"),
        Core::Cluster | Core::Source | Core::Kind => format!("{SYNTHETIC}{}", core.info().name),
        _ => core.info().json.replace('.', "\x1f"),
    }
}
