//! Times in requests: RFC 3339, a day, or relative to now.

use std::ops::Range;

use index::ALL_TIME;
use ingest::time::{Day, Timestamp};

use crate::errors::ApiError;

/// The range from `from` to `to`; all of time where they are not given.
pub(crate) fn range(
    from: Option<&str>,
    to: Option<&str>,
    now: Timestamp,
) -> Result<Range<Timestamp>, ApiError> {
    let read = |name: &str, text: Option<&str>, default| match text.filter(|text| !text.is_empty()) {
        None => Ok(default),
        Some(text) => parse(text, now).ok_or_else(|| {
            let message =
                format!("{name}={text:?} is no time: write 2026-11-23, 2026-11-23T10:00:00Z, now or now-2h");
            ApiError::bad_request("bad_time", message)
        }),
    };
    Ok(read("from", from, ALL_TIME.start)?..read("to", to, ALL_TIME.end)?)
}

fn parse(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Some(offset) = text.strip_prefix("now") {
        if offset.is_empty() {
            return Some(now);
        }
        let (sign, length) = offset.split_at_checked(1)?;
        let micros = i64::try_from(length.trim().parse::<jiff::SignedDuration>().ok()?.as_micros()).ok()?;
        let micros = match sign {
            "-" => now.micros().checked_sub(micros)?,
            "+" => now.micros().checked_add(micros)?,
            _ => return None,
        };
        return Some(Timestamp::from_micros(micros));
    }
    text.parse().ok().or_else(|| text.parse::<Day>().ok().map(Day::start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_write_them() {
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let read = |text| parse(text, now).map(|t| t.to_string());
        assert_eq!(read("2026-11-23").unwrap(), "2026-11-23T00:00:00.000000Z");
        assert_eq!(read("now-2h").unwrap(), "2026-11-24T10:00:00.000000Z");
        assert_eq!(read("2026-11-24T13:00:00+02:00").unwrap(), "2026-11-24T11:00:00.000000Z");
        for bad in ["yesterday", "now*2h", "now-", "2026-13-01", ""] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
