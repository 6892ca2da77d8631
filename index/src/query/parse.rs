//! The grammar, by recursive descent. What a value means for its field is for `check`.

use ingest::time::Timestamp;

use super::{
    Case, Expr, Field, MAX_CLAUSES, MAX_DEPTH, MAX_QUERY_BYTES, MAX_SLOP, Match, Pattern, Piece,
    check::{self, Op, Raw, Value},
    cursor::{Cursor, Word},
    error::Fault,
    fields::Nearest,
};

/// Longest first, so that the first that fits is the right one. `=` and `==` are there to be refused well.
const OPERATORS: [(&str, Option<Op>); 9] = [
    (":=", Some(Op::Exact)),
    ("!=", Some(Op::IsNot)),
    (">=", Some(Op::AtLeast)),
    ("<=", Some(Op::AtMost)),
    ("==", None),
    (":", Some(Op::Is)),
    (">", Some(Op::Above)),
    ("<", Some(Op::Below)),
    ("=", None),
];

pub(super) fn filter(text: &str, now: Timestamp) -> Result<Expr, Fault> {
    if text.len() > MAX_QUERY_BYTES {
        return Err(Fault::new(
            0,
            format!("a query has at most {MAX_QUERY_BYTES} bytes, this one {}", text.len()),
        ));
    }
    let mut parser = Parser { cursor: Cursor::new(text), now, depth: 0, clauses: 0, before: None };
    parser.cursor.skip_space();
    if parser.cursor.peek().is_none() {
        return Ok(Expr::everything());
    }
    let filter = parser.or()?;
    match parser.cursor.peek() {
        None => Ok(filter),
        Some('|') => Err(pipes(parser.cursor.at)),
        Some(c) => Err(Fault::new(parser.cursor.at, format!("{:?} is not open here", c.to_string()))),
    }
}

struct Parser<'t> {
    cursor: Cursor<'t>,
    now: Timestamp,
    depth: usize,
    clauses: usize,
    /// The keyword or sign that asks for a condition after it, and where it stands.
    before: Option<(&'static str, usize)>,
}

impl Parser<'_> {
    fn or(&mut self) -> Result<Expr, Fault> {
        let mut parts = vec![self.and()?];
        while self.keyword("or") {
            parts.push(self.and()?);
        }
        Ok(Expr::any(parts))
    }

    fn and(&mut self) -> Result<Expr, Fault> {
        let mut parts = vec![self.not()?];
        while self.keyword("and") || self.more() {
            parts.push(self.not()?);
        }
        Ok(Expr::all(parts))
    }

    fn not(&mut self) -> Result<Expr, Fault> {
        self.cursor.skip_space();
        let at = self.cursor.at;
        let sign = ["-", "!"].into_iter().find(|sign| self.cursor.eat(sign));
        let Some(sign) = sign.or_else(|| self.cursor.eat_keyword("not").then_some("not")) else {
            return self.prim();
        };
        self.before = Some((sign, at));
        self.nested(at, Self::not).map(|inner| !inner)
    }

    fn prim(&mut self) -> Result<Expr, Fault> {
        self.cursor.skip_space();
        let at = self.cursor.at;
        match self.cursor.peek() {
            None | Some(')') => Err(self.no_condition(at)),
            Some('|') => Err(pipes(at)),
            Some('(') => self.parenthesis(at),
            Some('"') => self.phrase(at),
            Some('/') if self.cursor.regex(|next| ends_value(next, "")).is_some() => {
                Err(Fault::new(at, "a regex needs a field")
                    .suggest("for example uri:/regex/; to search for the text, quote it"))
            }
            Some(_) => self.clause_or_word(at),
        }
    }

    fn parenthesis(&mut self, open: usize) -> Result<Expr, Fault> {
        self.cursor.bump();
        self.before = Some(("(", open));
        let inner = self.nested(open, Self::or)?;
        match self.cursor.peek() {
            Some(')') => {
                self.cursor.bump();
                self.before = None;
                Ok(inner)
            }
            Some('|') => Err(pipes(self.cursor.at)),
            Some(c) => Err(Fault::new(self.cursor.at, format!("expected \")\" before {:?}", c.to_string()))),
            None => Err(Fault::new(open, "\"(\" is never closed")),
        }
    }

    fn phrase(&mut self, at: usize) -> Result<Expr, Fault> {
        let Value { raw: Raw::Quoted { text, slop }, .. } = self.quoted()? else {
            return Err(Fault::new(at, "expected a phrase"));
        };
        self.value_ends("")?;
        self.text(at, Pattern::Phrase { text, slop })
    }

    fn clause_or_word(&mut self, at: usize) -> Result<Expr, Fault> {
        let head = self.cursor.word(|rest| {
            rest.starts_with([':', '=', '<', '>', '(', ')', '[', ']', '{', '}', '"', '|', ','])
                || rest.starts_with("!=")
        })?;
        let end = self.cursor.at;
        self.cursor.skip_space();
        if let Some((sign, op, op_at)) = self.operator()? {
            return self.clause(&head, sign, op, op_at);
        }
        self.cursor.at = end;
        self.word(at, &head)
    }

    fn word(&mut self, at: usize, word: &Word) -> Result<Expr, Fault> {
        let end = self.cursor.at;
        if let (Some('('), Some("")) = (self.cursor.peek(), word.keys().last().map(String::as_str)) {
            let message = "matching several keys at once (\"req.(a,b)\") is not available in this version";
            return Err(
                Fault::new(end, message).suggest("write one condition for each key, joined with \"or\"")
            );
        }
        if word.is("and") || word.is("or") {
            return Err(self
                .no_condition_before(at, &word.text())
                .suggest("quote it to search for the word"));
        }
        if word.is_empty() {
            return Err(
                self.no_condition_before(at, &self.cursor.peek().map_or_else(String::new, String::from))
            );
        }
        self.value_ends("")?;
        match word.pieces() {
            pieces if pieces == [Piece::Many] => Ok(Expr::everything()),
            pieces if word.has_wildcards() => self.text(at, Pattern::Wildcard(pieces)),
            _ => self.text(at, Pattern::Word(word.text())),
        }
    }

    fn text(&mut self, at: usize, pattern: Pattern) -> Result<Expr, Fault> {
        self.leaf(at)?;
        check::has_word(at, &pattern)?;
        check::compiles(at, &Match { pattern: pattern.clone(), case: Case::Ignored })?;
        Ok(Expr::Text(pattern))
    }

    fn operator(&mut self) -> Result<Option<(&'static str, Op, usize)>, Fault> {
        let at = self.cursor.at;
        match OPERATORS.into_iter().find(|(sign, _)| self.cursor.eat(sign)) {
            None => Ok(None),
            Some((sign, Some(op))) => Ok(Some((sign, op, at))),
            Some((sign, None)) => Err(Fault::new(at, format!("{sign:?} is not an operator"))
                .suggest("\":\" ignores case, \":=\" compares exactly")),
        }
    }

    fn clause(&mut self, head: &Word, sign: &'static str, op: Op, op_at: usize) -> Result<Expr, Fault> {
        if head.is_empty() {
            return Err(Fault::new(op_at, format!("expected a field before {sign:?}")));
        }
        if head.has_wildcards() {
            return Err(Fault::new(head.at, "the name of a field holds no wildcards")
                .suggest("a key with a \"*\" or \"?\" in it has a backslash before that"));
        }
        let field = Field::resolve(&head.keys()).map_err(|Nearest(name)| {
            Fault::new(head.at, format!("unknown field {:?}", head.text()))
                .suggest(format!("did you mean {name:?}? To search for text, quote it"))
        })?;
        let subject = check::Subject {
            field,
            at: head.at,
            operator: check::Operator { sign, op, at: op_at },
            now: self.now,
        };
        // "!=" is a negation as deep as "-" is.
        if op == Op::IsNot {
            self.nested(op_at, |parser| parser.right_side(&subject))
        } else {
            self.right_side(&subject)
        }
    }

    fn right_side(&mut self, subject: &check::Subject) -> Result<Expr, Fault> {
        self.cursor.skip_space();
        let at = self.cursor.at;
        match self.cursor.peek() {
            Some('(') => self.nested(at, |parser| parser.group(subject)),
            Some('{') => {
                let message = "matching within one element (\"field:{…}\") is not available in this version";
                Err(Fault::new(at, message)
                    .suggest("write the conditions one by one; they may then be met by different elements"))
            }
            _ => {
                let value = self.value(subject, "")?;
                check::clause(subject, value)
            }
        }
    }

    /// `(a or b)`, `(a, b)`, `(a and b)`, `(a b)`: the last two ask for both.
    fn group(&mut self, subject: &check::Subject) -> Result<Expr, Fault> {
        let open = self.cursor.at;
        self.cursor.bump();
        let each = check::Subject { operator: subject.operator.for_list()?, ..subject.clone() };
        let mut any = vec![self.group_and(&each)?];
        while self.keyword("or") || self.cursor.eat(",") {
            any.push(self.group_and(&each)?);
        }
        match self.cursor.peek() {
            Some(')') => self.cursor.bump(),
            Some(c) => {
                return Err(Fault::new(self.cursor.at, format!("expected \")\" before {:?}", c.to_string())));
            }
            None => return Err(Fault::new(open, "\"(\" is never closed")),
        };
        self.value_ends("")?;
        let any = Expr::any(any);
        Ok(if subject.operator.op == Op::IsNot { !any } else { any })
    }

    fn group_and(&mut self, subject: &check::Subject) -> Result<Expr, Fault> {
        let mut all = Vec::new();
        let mut fixed = false;
        loop {
            self.cursor.skip_space();
            let value = self.value(subject, ",")?;
            let (at, is_fixed) = (value.at, value.is_fixed());
            if is_fixed && fixed && !subject.can_be_two() {
                return Err(Fault::new(at, format!("{} has one value, so it cannot be both", subject.field))
                    .suggest("join the values with \"or\" or \",\""));
            }
            fixed |= is_fixed;
            all.push(check::clause(subject, value)?);
            if !self.keyword("and") && !self.more_values() {
                return Ok(Expr::all(all));
            }
        }
    }

    /// Takes one value; `also` holds further characters that end it.
    fn value(&mut self, subject: &check::Subject, also: &str) -> Result<Value, Fault> {
        let at = self.cursor.at;
        let missing =
            || Fault::new(subject.operator.at, format!("expected a value after {:?}", subject.operator.sign));
        let value = match self.cursor.peek() {
            None => return Err(missing()),
            Some('"') => self.quoted()?,
            Some('[') => self.range(at)?,
            Some('(') => return Err(Fault::new(at, "a list of values holds no further list")),
            Some('/')
                if let Some((source, ignores_case)) = self.cursor.regex(|next| ends_value(next, also)) =>
            {
                Value { at, raw: Raw::Regex { source, ignores_case } }
            }
            Some(_) => {
                let word = self.cursor.word(|rest| ends_word(rest, also))?;
                if word.is_empty() {
                    return Err(missing());
                }
                if word.is("and") || word.is("or") || word.is("not") {
                    return Err(missing().suggest(format!("quote {:?} to search for it", word.text())));
                }
                Value { at, raw: Raw::Word(word) }
            }
        };
        self.value_ends(also)?;
        self.leaf(at)?;
        Ok(value)
    }

    fn quoted(&mut self) -> Result<Value, Fault> {
        let at = self.cursor.at;
        let text = self.cursor.quoted()?;
        let slop_at = self.cursor.at;
        if !self.cursor.eat("~") {
            return Ok(Value { at, raw: Raw::Quoted { text, slop: 0 } });
        }
        let digits = self.cursor.word(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))?.text();
        match digits.parse() {
            Ok(slop) if slop <= MAX_SLOP => Ok(Value { at, raw: Raw::Quoted { text, slop } }),
            _ => Err(Fault::new(slop_at, format!("expected a number up to {MAX_SLOP} after \"~\""))),
        }
    }

    fn range(&mut self, open: usize) -> Result<Value, Fault> {
        self.cursor.bump();
        let from = self.range_end(open)?;
        self.cursor.skip_space();
        if !self.cursor.eat_keyword("to") {
            return Err(Fault::new(self.cursor.at, "expected \"to\"")
                .suggest("a range is \"[from to to]\", both included"));
        }
        let to = self.range_end(open)?;
        self.cursor.skip_space();
        if !self.cursor.eat("]") {
            return Err(Fault::new(self.cursor.at, "expected \"]\" after the range"));
        }
        Ok(Value { at: open, raw: Raw::Range(from, to) })
    }

    /// One end of a range: its place and text, none for `*`.
    fn range_end(&mut self, open: usize) -> Result<check::End, Fault> {
        self.cursor.skip_space();
        let at = self.cursor.at;
        if self.cursor.peek() == Some('"') {
            return Ok(check::End { at, text: Some(self.cursor.quoted()?) });
        }
        let word = self.cursor.word(|rest| ends_word(rest, ""))?;
        if word.is_empty() || word.is("to") {
            let fault = if self.cursor.peek().is_none() {
                Fault::new(open, "\"[\" is never closed")
            } else {
                Fault::new(at, "expected a value")
            };
            return Err(fault.suggest("a range is \"[from to to]\", both included; \"*\" leaves an end open"));
        }
        Ok(check::End { at, text: (!word.is("*")).then(|| word.text()) })
    }

    /// Takes a keyword that joins, and remembers it for the message when nothing follows.
    fn keyword(&mut self, keyword: &'static str) -> bool {
        self.cursor.skip_space();
        let at = self.cursor.at;
        let found = self.cursor.eat_keyword(keyword);
        if found {
            self.before = Some((keyword, at));
        }
        found
    }

    /// Whether another condition follows without a keyword.
    fn more(&mut self) -> bool {
        self.cursor.skip_space();
        let at = self.cursor.at;
        let or = self.cursor.eat_keyword("or");
        self.cursor.at = at;
        !or && self.cursor.peek().is_some_and(|c| !matches!(c, ')' | '|'))
    }

    fn more_values(&mut self) -> bool {
        self.more() && self.cursor.peek() != Some(',')
    }

    fn value_ends(&mut self, also: &str) -> Result<(), Fault> {
        self.before = None;
        if ends_value(self.cursor.peek(), also) {
            return Ok(());
        }
        Err(Fault::new(
            self.cursor.at,
            format!("expected a space before {:?}", self.cursor.peek().unwrap_or_default().to_string()),
        )
        .suggest("quote a value that holds signs"))
    }

    fn no_condition(&self, at: usize) -> Fault {
        match self.before {
            Some((sign, at)) => Fault::new(at, format!("expected a condition after {sign:?}")),
            None => Fault::new(at, "expected a condition"),
        }
    }

    fn no_condition_before(&self, at: usize, next: &str) -> Fault {
        match self.before {
            Some(_) => self.no_condition(at),
            None => Fault::new(at, format!("expected a condition before {next:?}")),
        }
    }

    fn leaf(&mut self, at: usize) -> Result<(), Fault> {
        self.clauses += 1;
        if self.clauses > MAX_CLAUSES {
            return Err(Fault::new(at, format!("a query has at most {MAX_CLAUSES} conditions")));
        }
        Ok(())
    }

    fn nested(
        &mut self,
        at: usize,
        inner: impl FnOnce(&mut Self) -> Result<Expr, Fault>,
    ) -> Result<Expr, Fault> {
        if self.depth == MAX_DEPTH {
            return Err(Fault::new(at, format!("conditions nest at most {MAX_DEPTH} deep")));
        }
        self.depth += 1;
        let inner = inner(self);
        self.depth -= 1;
        inner
    }
}

fn ends_value(next: Option<char>, also: &str) -> bool {
    next.is_none_or(|c| c.is_whitespace() || c == ')' || c == '|' || also.contains(c))
}

fn ends_word(rest: &str, also: &str) -> bool {
    rest.starts_with(|c: char| "()[]{}\"|".contains(c) || also.contains(c))
}

fn pipes(at: usize) -> Fault {
    Fault::new(at, "pipes (\"| stats …\") are not available in this version")
        .suggest("a query is a filter; quote \"|\" to search for it")
}
