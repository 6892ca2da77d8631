//! What `docs/query.md` shows is what the language does.

#![allow(clippy::unwrap_used, reason = "a failed test panics")]

use index::query::{self, fields};
use ingest::time::Timestamp;

const PAGE: &str = include_str!("../../docs/query.md");
const NOW: Timestamp = Timestamp::from_micros(1_795_499_200_000_000);

/// The lines of the page's code blocks.
fn blocks() -> Vec<Vec<&'static str>> {
    PAGE.split("```").skip(1).step_by(2).map(|block| block.trim().lines().collect()).collect()
}

#[test]
fn every_query_of_the_examples_parses() {
    for text in &blocks()[0] {
        query::parse(text, NOW).unwrap_or_else(|error| panic!("{text}\n{error}"));
    }
}

#[test]
fn the_errors_of_the_page_are_the_errors_of_the_language() {
    let refused = ["namespace:x", "sub:exec and uri:", "stage:ResponseComplet", "verb>get"];
    let errors = refused.map(|text| query::parse(text, NOW).unwrap_err().to_string());
    assert_eq!(blocks()[1], errors);
}

#[test]
fn every_condition_of_the_table_parses() {
    let section = PAGE.split("## Conditions").nth(1).unwrap().split("## Fields").next().unwrap();
    let cells =
        section.lines().filter(|line| line.starts_with("| `")).map(|line| line.split(" | ").next().unwrap());
    let mut conditions = 0;
    for text in cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .filter(|text| text.contains([':', '=', '<', '>']))
    {
        query::parse(text, NOW).unwrap_or_else(|error| panic!("{text}\n{error}"));
        conditions += 1;
    }
    assert!(conditions > 15, "{conditions} conditions were found in the table");
}

#[test]
fn every_field_is_documented() {
    let section = PAGE.split("## Fields").nth(1).unwrap();
    for info in fields::TABLE {
        assert!(section.contains(&format!("`{}`", info.name)), "{} is missing", info.name);
    }
    for (_, root, _) in fields::ROOTS {
        assert!(section.contains(&format!("`{root}.")), "{root} is missing");
    }
}
