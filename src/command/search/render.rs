//! How found events look: a table for people, JSON lines and CSV for programs.

use std::io::Write;

use anyhow::Result;
use serde_json::Value;

use crate::table;

const HEADINGS: [&str; 7] = ["TIME", "CLUSTER", "USER", "VERB", "OBJECT", "CODE", "ID"];
const WIDTHS: [usize; 7] = [27, 12, 32, 10, 48, 4, 36];

const CSV_HEADINGS: [&str; 22] = [
    "id",
    "ts",
    "cluster",
    "kind",
    "level",
    "stage",
    "verb",
    "user",
    "groups",
    "ips",
    "user_agent",
    "api",
    "version",
    "resource",
    "subresource",
    "namespace",
    "name",
    "code",
    "decision",
    "uri",
    "audit_id",
    "message",
];

/// One of the looks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Format {
    /// Columns; in colour on a terminal.
    Table {
        /// Whether failures stand out in colour.
        colour: bool,
    },
    /// One object a line.
    Json,
    /// RFC 4180 with a heading.
    Csv,
}

/// Writes items as they come.
pub(crate) struct Renderer<'w, W: Write> {
    format: Format,
    out: &'w mut W,
    begun: bool,
}

impl<'w, W: Write> Renderer<'w, W> {
    /// Writes to `out`.
    pub(crate) fn new(format: Format, out: &'w mut W) -> Self {
        Self { format, out, begun: false }
    }

    /// Writes items.
    ///
    /// # Errors
    /// When `out` does not take them.
    pub(crate) fn items<'v>(&mut self, items: impl Iterator<Item = &'v Value>) -> Result<()> {
        self.begin()?;
        for item in items {
            match self.format {
                Format::Table { colour } => self.row(item, colour)?,
                Format::Json => writeln!(self.out, "{item}")?,
                Format::Csv => self.csv(&csv_row(item))?,
            }
        }
        Ok(())
    }

    /// What was written so far reaches its reader.
    ///
    /// # Errors
    /// When `out` does not take it.
    pub(crate) fn flush(&mut self) -> Result<()> {
        Ok(self.out.flush()?)
    }

    /// Ends the output; a table without rows still has its heading.
    ///
    /// # Errors
    /// When `out` does not take it.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.begin()?;
        self.flush()
    }

    /// Writes the heading, once.
    ///
    /// # Errors
    /// When `out` does not take it.
    pub(crate) fn begin(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.begun, true) {
            return Ok(());
        }
        match self.format {
            Format::Table { .. } => {
                writeln!(self.out, "{}", table::line(&HEADINGS.map(str::to_owned), &WIDTHS))?;
            }
            Format::Csv => self.csv(&CSV_HEADINGS.map(str::to_owned))?,
            Format::Json => {}
        }
        Ok(())
    }

    fn row(&mut self, item: &Value, colour: bool) -> Result<()> {
        let line = table::line(&table_row(item), &WIDTHS);
        let failed = item["event"]["responseStatus"]["code"].as_u64().is_some_and(|code| code >= 400);
        if colour && failed {
            writeln!(self.out, "\u{1b}[31m{line}\u{1b}[0m")?;
        } else {
            writeln!(self.out, "{line}")?;
        }
        Ok(())
    }

    fn csv(&mut self, row: &[String]) -> Result<()> {
        let mut writer = csv::Writer::from_writer(&mut *self.out);
        writer.write_record(row)?;
        writer.flush()?;
        Ok(())
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn list(value: &Value) -> String {
    value.as_array().map(|items| items.iter().map(text).collect::<Vec<_>>().join(" ")).unwrap_or_default()
}

/// The impersonated user stands behind the one who asked.
fn user(event: &Value) -> String {
    let user = text(&event["user"]["username"]);
    match event["impersonatedUser"]["username"].as_str() {
        Some(other) => format!("{user} as {other}"),
        None => user,
    }
}

/// `namespace/resource/name/subresource` of what there is, else the URI, else a fact's message.
fn object(event: &Value) -> String {
    let reference = &event["objectRef"];
    let parts = ["namespace", "resource", "name", "subresource"].map(|part| text(&reference[part]));
    let joined = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
    let fallbacks = [joined, text(&event["requestURI"]), text(&event["message"])];
    fallbacks.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
}

/// What the answer says, or the fact.
fn message(event: &Value) -> String {
    let answer = &event["responseStatus"]["message"];
    text(if answer.is_null() { &event["message"] } else { answer })
}

/// A fact has a type in place of a verb.
fn verb(event: &Value) -> String {
    text(if event["verb"].is_null() { &event["type"] } else { &event["verb"] })
}

fn table_row(item: &Value) -> [String; 7] {
    let event = &item["event"];
    [
        text(&item["at"]),
        text(&item["cluster"]),
        user(event),
        verb(event),
        object(event),
        text(&event["responseStatus"]["code"]),
        text(&item["id"]),
    ]
}

fn csv_row(item: &Value) -> Vec<String> {
    let event = &item["event"];
    let reference = &event["objectRef"];
    vec![
        text(&item["id"]),
        text(&item["at"]),
        text(&item["cluster"]),
        text(&item["kind"]),
        text(&event["level"]),
        text(&event["stage"]),
        verb(event),
        text(&event["user"]["username"]),
        list(&event["user"]["groups"]),
        list(&event["sourceIPs"]),
        text(&event["userAgent"]),
        text(&reference["apiGroup"]),
        text(&reference["apiVersion"]),
        text(&reference["resource"]),
        text(&reference["subresource"]),
        text(&reference["namespace"]),
        text(&reference["name"]),
        text(&event["responseStatus"]["code"]),
        text(&event["annotations"]["authorization.k8s.io/decision"]),
        text(&event["requestURI"]),
        text(&event["auditID"]),
        message(event),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(format: Format) -> String {
        let item = json!({
            "id": "i", "cluster": "demo", "kind": "audit", "at": "2026-11-24T05:00:00.000000Z",
            "event": {
                "verb": "delete", "user": { "username": "a,b", "groups": ["g", "h"] },
                "objectRef": { "resource": "pods", "namespace": "n", "name": "p" },
                "responseStatus": { "code": 403 },
            },
        });
        let mut out = Vec::new();
        let mut renderer = Renderer::new(format, &mut out);
        renderer.items([&item].into_iter()).unwrap();
        renderer.end().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_table_has_colours_only_when_asked() {
        let plain = render(Format::Table { colour: false });
        assert!(plain.lines().nth(1).unwrap().contains("n/pods/p"), "{plain}");
        assert!(!plain.contains('\u{1b}'));
        assert!(render(Format::Table { colour: true }).contains("\u{1b}[31m"));
    }

    #[test]
    fn csv_quotes_what_holds_commas() {
        let csv = render(Format::Csv);
        assert!(csv.starts_with("id,ts,cluster,") && csv.contains(",\"a,b\",g h,"), "{csv}");
    }

    #[test]
    fn json_is_one_object_a_line() {
        let json = render(Format::Json);
        assert_eq!(json.lines().count(), 1);
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["event"]["verb"], "delete");
    }
}
