//! Durations as Go writes them: `3s`, `1m30s`, `1.5h`.

/// The nanoseconds of a duration, or nothing when the text is none.
pub(super) fn nanoseconds(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut sum = 0.0;
    while !rest.is_empty() || sum == 0.0 {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let after = &rest[end..];
        let (unit, size) = UNITS.iter().find(|(unit, _)| after.starts_with(unit))?;
        sum += number * size;
        rest = &after[unit.len()..];
        if rest.is_empty() {
            break;
        }
    }
    // Go refuses what does not fit; so far beyond any timeout the last bits do not matter.
    #[allow(clippy::cast_possible_truncation, reason = "the bound is looked at first")]
    (sum < i64::MAX as f64).then_some((sign * sum) as i64)
}

/// Longer names stand before those that they begin with.
const UNITS: [(&str, f64); 8] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];

#[cfg(test)]
mod tests {
    use super::nanoseconds;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, expected) in [
            ("3s", Some(3_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            ("-5ms", Some(-5_000_000)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("0s1s", Some(1_000_000_000)),
            ("7µs", Some(7_000)),
            ("", None),
            ("-", None),
            ("15", None),
            ("s", None),
            ("3 s", None),
            ("3s4", None),
            ("3d", None),
            ("1e9s", None),
            ("99999999999h", None),
        ] {
            assert_eq!(nanoseconds(text), expected, "{text:?}");
        }
    }
}
