//! `app=web,tier in (a, b),!old`: what must hold of an object's labels.

use std::str::FromStr;

use serde_json::Value;

/// All of these must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
    Above(i64),
    Below(i64),
}

/// What was found where something else is needed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelSelectorError {
    /// A character or word that has no place there.
    #[error("found '{found}', expected: {expected}")]
    Unexpected {
        /// What stands there; empty at the end.
        found: String,
        /// What could stand there.
        expected: &'static str,
    },
    /// `>` and `<` compare whole numbers.
    #[error(
        "values[0][{key}]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
    )]
    NotANumber {
        /// The label.
        key: String,
        /// What it is compared with.
        value: String,
    },
}

impl LabelSelector {
    /// Whether nothing must hold.
    pub fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether labels (a JSON object, or nothing) are as this says.
    pub fn matches(&self, labels: Option<&Value>) -> bool {
        let labels = labels.and_then(Value::as_object);
        self.0.iter().all(|requirement| {
            let value = labels.and_then(|l| l.get(&requirement.key)).and_then(Value::as_str);
            requirement.test.holds(value)
        })
    }
}

impl Test {
    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match self {
            Self::Exists => value.is_some(),
            Self::Absent => value.is_none(),
            Self::In(values) => value.is_some_and(|v| values.iter().any(|w| w == v)),
            Self::NotIn(values) => value.is_none_or(|v| values.iter().all(|w| w != v)),
            Self::Above(bound) => number().is_some_and(|n| n > *bound),
            Self::Below(bound) => number().is_some_and(|n| n < *bound),
        }
    }
}

impl FromStr for LabelSelector {
    type Err = LabelSelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut rest = Tokens { text };
        let mut all = Vec::new();
        if rest.peek().is_empty() {
            return Ok(Self(all));
        }
        loop {
            all.push(rest.requirement()?);
            match rest.next() {
                "" => return Ok(Self(all)),
                "," => {}
                found => return Err(unexpected(found, "',' or 'end of string'")),
            }
        }
    }
}

fn unexpected(found: &str, expected: &'static str) -> LabelSelectorError {
    LabelSelectorError::Unexpected { found: found.to_owned(), expected }
}

/// Words and operators, one after the other; an empty one is the end.
struct Tokens<'t> {
    text: &'t str,
}

impl<'t> Tokens<'t> {
    fn peek(&self) -> &'t str {
        let text = self.text.trim_start();
        let is_sign = |c: char| matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<');
        let double = ["==", "!="].into_iter().find(|sign| text.starts_with(sign));
        if let Some(sign) = double {
            return &text[..sign.len()];
        }
        match text.chars().next() {
            None => "",
            Some(c) if is_sign(c) => &text[..1],
            Some(_) => &text[..text.find(|c: char| is_sign(c) || c.is_whitespace()).unwrap_or(text.len())],
        }
    }

    fn next(&mut self) -> &'t str {
        let token = self.peek();
        self.text = &self.text.trim_start()[token.len()..];
        token
    }

    fn word(&mut self, expected: &'static str) -> Result<&'t str, LabelSelectorError> {
        let token = self.next();
        if token.is_empty() || token.starts_with(['=', '!', '(', ')', ',', '>', '<']) {
            return Err(unexpected(token, expected));
        }
        Ok(token)
    }

    /// An empty word stands for an empty value: `a=` and `a in (,b)`.
    fn value(&mut self) -> Result<String, LabelSelectorError> {
        match self.peek() {
            "" | "," | ")" => Ok(String::new()),
            _ => Ok(self.word("identifier")?.to_owned()),
        }
    }

    fn requirement(&mut self) -> Result<Requirement, LabelSelectorError> {
        if self.peek() == "!" {
            self.next();
            let key = self.word("identifier")?.to_owned();
            return Ok(Requirement { key, test: Test::Absent });
        }
        let key = self.word("!, identifier, or 'end of string'")?.to_owned();
        let test = match self.peek() {
            "" | "," => Test::Exists,
            _ => self.test(&key)?,
        };
        Ok(Requirement { key, test })
    }

    fn test(&mut self, key: &str) -> Result<Test, LabelSelectorError> {
        match self.next() {
            "=" | "==" => Ok(Test::In(vec![self.value()?])),
            "!=" => Ok(Test::NotIn(vec![self.value()?])),
            "in" => Ok(Test::In(self.values()?)),
            "notin" => Ok(Test::NotIn(self.values()?)),
            ">" => Ok(Test::Above(self.number(key)?)),
            "<" => Ok(Test::Below(self.number(key)?)),
            found => Err(unexpected(found, "in, notin, =, ==, !=, gt, lt")),
        }
    }

    fn number(&mut self, key: &str) -> Result<i64, LabelSelectorError> {
        let value = self.word("identifier")?;
        value
            .parse()
            .map_err(|_| LabelSelectorError::NotANumber { key: key.to_owned(), value: value.to_owned() })
    }

    fn values(&mut self) -> Result<Vec<String>, LabelSelectorError> {
        match self.next() {
            "(" => {}
            found => return Err(unexpected(found, "'('")),
        }
        let mut values = Vec::new();
        loop {
            values.push(self.value()?);
            match self.next() {
                ")" => return Ok(values),
                "," => {}
                found => return Err(unexpected(found, "',' or ')'")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn matches(selector: &str) -> bool {
        let labels = json!({ "app": "web", "tier": "front", "n": "5", "empty": "" });
        selector.parse::<LabelSelector>().unwrap().matches(Some(&labels))
    }

    #[test]
    fn every_operator_holds_where_it_should_and_nowhere_else() {
        for yes in [
            "",
            "app=web",
            "app==web",
            " app = web ",
            "app!=x",
            "none!=x",
            "app",
            "!none",
            "app in (a, web)",
            "tier notin (a,b)",
            "none notin (a)",
            "n>4",
            "n<6",
            "app=web,tier=front",
            "empty=",
            "empty in (,x)",
        ] {
            assert!(matches(yes), "{yes}");
        }
        for no in [
            "app=x",
            "app!=web",
            "none",
            "!app",
            "app in (a)",
            "tier notin (front)",
            "n>5",
            "n<5",
            "none=x",
            "app=web,tier=x",
        ] {
            assert!(!matches(no), "{no}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused_with_what_was_expected() {
        for bad in ["=a", "a b", "a in", "a in (b", "a,,b", "n>x", "!", "a=b c", "(", "a=(b)"] {
            assert!(bad.parse::<LabelSelector>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_object_without_labels_has_none() {
        assert!(!"a".parse::<LabelSelector>().unwrap().matches(None));
        assert!("!a".parse::<LabelSelector>().unwrap().matches(None));
    }
}
