//! What must hold for any text that is given as a query. Called by the fuzzer and by the test that replays its corpus.

use index::query::{self, MAX_QUERY_BYTES};
use ingest::time::Timestamp;

const NOW: Timestamp = Timestamp::from_micros(1_795_499_200_000_000);

/// A query is refused at a place in its text, or printing it gives the same query again.
pub(crate) fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match query::parse(text, NOW) {
        Ok(query) => {
            let printed = query.to_string();
            // Backslashes can make the printed text longer than a query may be.
            if printed.len() <= MAX_QUERY_BYTES {
                assert_eq!(query::parse(&printed, NOW).as_ref(), Ok(&query), "{printed}");
            }
        }
        Err(error) => {
            let line = text.split('\n').nth(error.line - 1).expect("the line of the error is in the text");
            assert!((1..=line.chars().count() + 1).contains(&error.column), "{error}");
        }
    }
}
