//! `Time`, `MicroTime` and `Duration` in JSON and as numbers.

use jiff::Timestamp;

use super::ScalarError;

const NANOS_PER_SECOND: i64 = 1_000_000_000;
/// Units of Go's durations, the longest spelling of a letter first.
const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", NANOS_PER_SECOND),
    ("m", 60 * NANOS_PER_SECOND),
    ("h", 3_600 * NANOS_PER_SECOND),
];

/// The seconds since 1970 of an RFC 3339 text, fractions cut off.
///
/// # Errors
/// Any other text.
pub fn seconds(text: &str) -> Result<i64, ScalarError> {
    instant(text, "2006-01-02T15:04:05Z07:00")
        .map(|at| at.as_nanosecond().div_euclid(i128::from(NANOS_PER_SECOND)) as i64)
}

/// The seconds and nanoseconds since 1970 of an RFC 3339 text with six digits behind the point.
///
/// # Errors
/// Any other text.
pub fn micros(text: &str) -> Result<(i64, i32), ScalarError> {
    const LAYOUT: &str = "2006-01-02T15:04:05.000000Z07:00";
    let digits =
        text.split_once('.').map_or(0, |(_, rest)| rest.bytes().take_while(u8::is_ascii_digit).count());
    if digits != 6 {
        return Err(unparsed(text, LAYOUT));
    }
    let nanos = instant(text, LAYOUT)?.as_nanosecond();
    let second = i128::from(NANOS_PER_SECOND);
    Ok((nanos.div_euclid(second) as i64, nanos.rem_euclid(second) as i32))
}

fn instant(text: &str, layout: &str) -> Result<Timestamp, ScalarError> {
    // jiff reads more than RFC 3339: the separators and the zone have to be where Go's layout has them.
    let bytes = text.as_bytes();
    let at = |index: usize, byte: u8| bytes.get(index) == Some(&byte);
    let zoned = text.ends_with('Z')
        || matches!(bytes.len().checked_sub(6), Some(sign) if at(sign, b'+') || at(sign, b'-'));
    if !(at(4, b'-') && at(7, b'-') && at(10, b'T') && at(13, b':') && at(16, b':') && zoned) {
        return Err(unparsed(text, layout));
    }
    text.parse().map_err(|_| unparsed(text, layout))
}

fn unparsed(text: &str, layout: &str) -> ScalarError {
    ScalarError(format!("parsing time {text:?} as {layout:?}: cannot parse {text:?}"))
}

/// The text of a `Time`, or nothing outside of the years that RFC 3339 has.
pub fn from_seconds(seconds: i64) -> Option<String> {
    let text = Timestamp::from_second(seconds).ok()?.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    (text.len() == 20).then_some(text)
}

/// The text of a `MicroTime`, likewise.
pub fn from_micros(seconds: i64, nanos: i32) -> Option<String> {
    let at = Timestamp::new(seconds, nanos).ok()?;
    let text = format!(
        "{}.{:06}Z",
        at.strftime("%Y-%m-%dT%H:%M:%S"),
        at.as_nanosecond().rem_euclid(i128::from(NANOS_PER_SECOND)) / 1_000
    );
    (text.len() == 27).then_some(text)
}

/// The nanoseconds of a Go duration such as `1h30m` or `-1.5s`.
///
/// # Errors
/// Any other text, and what does not fit into 64 bits.
pub fn duration(text: &str) -> Result<i64, ScalarError> {
    let bad = || ScalarError(format!("time: invalid duration {text:?}"));
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (number, tail) = rest.split_at(end);
        let (unit, nanos) = UNITS.iter().find(|(unit, _)| is_unit(tail, unit)).ok_or_else(bad)?;
        total += scaled(number, i128::from(*nanos)).ok_or_else(bad)?;
        rest = &tail[unit.len()..];
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| bad())
}

/// Whether the unit stands here, and not as the beginning of another.
fn is_unit(text: &str, unit: &str) -> bool {
    let after = text.strip_prefix(unit).map(|rest| rest.chars().next());
    matches!(after, Some(next) if next.is_none_or(|c| c.is_ascii_digit() || c == '.'))
}

fn scaled(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || number.len() > 20 {
        return None;
    }
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<i128>().ok() };
    Some(digits(whole)? * unit + digits(fraction)? * unit / 10_i128.pow(fraction.len() as u32))
}

/// Go's text of a duration.
pub fn from_duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let decimal = |unit: u64, name: &str| {
        let text = format!("{}.{:0width$}", nanos / unit, nanos % unit, width = unit.ilog10() as usize);
        format!("{sign}{}{name}", text.trim_end_matches('0').trim_end_matches('.'))
    };
    match nanos {
        0..1_000 => format!("{sign}{nanos}ns"),
        1_000..1_000_000 => decimal(1_000, "µs"),
        1_000_000..1_000_000_000 => decimal(1_000_000, "ms"),
        _ => {
            let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
            let seconds = format!("{}.{:09}", rest / 1_000_000_000, rest % 1_000_000_000);
            let seconds = seconds.trim_end_matches('0').trim_end_matches('.');
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_reads_them() {
        assert_eq!(seconds("2026-11-24T00:00:01.9Z"), seconds("2026-11-24T01:00:01+01:00"));
        assert_eq!(from_seconds(seconds("1969-12-31T23:59:59Z").unwrap()).unwrap(), "1969-12-31T23:59:59Z");
        for wrong in
            ["2026-11-24", "2026-11-24 00:00:01Z", "2026-11-24T00:00:01", "20261124T000001Z", "", "x"]
        {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
        assert_eq!(from_micros(1, 5_000).unwrap(), "1970-01-01T00:00:01.000005Z");
        assert_eq!(micros("1970-01-01T00:00:01.000005Z"), Ok((1, 5_000)));
        assert!(micros("1970-01-01T00:00:01Z").is_err());
    }

    #[test]
    fn durations_have_gos_text() {
        for (text, nanos) in [
            ("0s", 0),
            ("1h30m0s", 5_400_000_000_000),
            ("-1.5s", -1_500_000_000),
            ("2m0.5s", 120_500_000_000),
            ("1.5ms", 1_500_000),
            ("3µs", 3_000),
            ("7ns", 7),
        ] {
            assert_eq!(duration(text), Ok(nanos), "{text}");
            assert_eq!(from_duration(nanos), text);
        }
        assert_eq!(duration("1h30m"), Ok(5_400_000_000_000));
        for wrong in ["", "1", "s", "1x", "1.2.3s", "99999999h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
