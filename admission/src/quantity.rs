//! Amounts of resources, such as `500m` or `1.5Gi`: exact, and written in the one form that Kubernetes writes.

use std::{fmt, str::FromStr};

use serde_json::Value;

/// Billionths in a whole; nothing finer is counted.
const WHOLE: i128 = 1_000_000_000;

/// What a binary amount is capped at, in wholes.
const BINARY_MAX: i128 = i64::MAX as i128;

/// How an amount was written, and its sums are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Format {
    /// `k`, `M`, `G` …
    #[default]
    Decimal,
    /// `Ki`, `Mi`, `Gi` …
    Binary,
    /// `e3`, `e6` …
    Exponent,
}

/// An amount of a resource, exact to a billionth and up to 10²⁹. Amounts compare by value, however they are written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// A text that is no amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a number with a suffix.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// No such suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
    /// More than can be counted.
    #[error("the quantity is too large")]
    TooLarge,
}

impl Quantity {
    /// An amount of wholes.
    pub fn whole(number: i64) -> Self {
        Self { nanos: i128::from(number) * WHOLE, format: Format::Decimal }
    }

    /// An amount in an object: a string, or a bare number.
    ///
    /// # Errors
    /// When the value is neither, or no amount.
    pub fn of(value: &Value) -> Result<Self, QuantityError> {
        match value {
            Value::String(text) => text.parse(),
            Value::Number(number) => number.to_string().parse(),
            _ => Err(QuantityError::Format),
        }
    }

    /// Whether this is nothing.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Whether this is less than nothing.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// The sum, written as the first amount is unless that is nothing; beyond what can be counted it is the largest.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_add(other.nanos), format }
    }

    /// The difference, written as the first amount is unless that is nothing.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.plus(Self { nanos: other.nanos.saturating_neg(), ..other })
    }

    /// How many times another amount this is.
    pub(crate) fn ratio(self, other: Self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "a ratio is told to six digits")]
        let ratio = self.nanos as f64 / other.nanos as f64;
        ratio
    }

    /// The wholes; none where there is a fraction, or more than an `i64` holds.
    pub(crate) fn as_integer(self) -> Option<i64> {
        if self.nanos % WHOLE == 0 { i64::try_from(self.nanos / WHOLE).ok() } else { None }
    }

    /// The same in wholes, rounded away from nothing.
    #[must_use]
    pub fn rounded_up(self) -> Self {
        Self { nanos: divided_up(self.nanos, WHOLE) * WHOLE, ..self }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

fn divided_up(value: i128, by: i128) -> i128 {
    let (quotient, rest) = (value / by, value % by);
    quotient + if rest == 0 { 0 } else { rest.signum() }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(QuantityError::Format);
        }
        let (scale, format) = scale(suffix)?;
        let mut nanos = scaled(whole, fraction.trim_end_matches('0'), scale)?;
        let mut format = format;
        if format == Format::Binary {
            nanos = nanos.min(BINARY_MAX * WHOLE);
            if nanos < WHOLE {
                format = Format::Decimal;
            }
        }
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }
}

/// What a suffix multiplies by.
#[derive(Clone, Copy)]
enum Scale {
    Two(u32),
    Ten(i32),
}

fn scale(suffix: &str) -> Result<(Scale, Format), QuantityError> {
    let decimal = |exponent| Ok((Scale::Ten(exponent), Format::Decimal));
    let binary = |exponent| Ok((Scale::Two(exponent), Format::Binary));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
            let exponent = exponent.parse().map_err(|_| QuantityError::Suffix)?;
            Ok((Scale::Ten(exponent), Format::Exponent))
        }
    }
}

/// A number in billionths; what is finer is rounded up, so that whoever asks for something gets something.
fn scaled(whole: &str, fraction: &str, scale: Scale) -> Result<i128, QuantityError> {
    let too_large = QuantityError::TooLarge;
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Ok(0);
    }
    let places = i64::try_from(fraction.len()).map_err(|_| too_large)?;
    let ten = |power: i64| u32::try_from(power).ok().and_then(|power| 10_i128.checked_pow(power));
    let number = |digits: &str| digits.parse::<i128>().map_err(|_| too_large);
    let (factor, power) = match scale {
        Scale::Two(exponent) => (1_i128 << exponent, 9 - places),
        Scale::Ten(exponent) => (1, 9 - places + i64::from(exponent)),
    };
    if power >= 0 {
        let value = number(digits)?.checked_mul(factor).zip(ten(power));
        return value.and_then(|(value, ten)| value.checked_mul(ten)).ok_or(too_large);
    }
    let divisor = match ten(-power) {
        Some(divisor) => divisor,
        // So far behind the point that only its being there counts.
        None if digits.len() < 30 => return Ok(1),
        None => return Err(too_large),
    };
    let value = number(digits)?.checked_mul(factor).ok_or(too_large)?;
    Ok(divided_up(value, divisor))
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("0");
        }
        let is_small = self.nanos.abs() < 1024 * WHOLE;
        if self.format == Format::Binary && !is_small && self.nanos % WHOLE == 0 {
            return binary(self.nanos / WHOLE, f);
        }
        decimal(self.nanos, self.format == Format::Exponent, f)
    }
}

fn binary(mut wholes: i128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let mut at = 0;
    while wholes % 1024 == 0 && at + 1 < SUFFIXES.len() {
        wholes /= 1024;
        at += 1;
    }
    write!(f, "{wholes}{}", SUFFIXES[at])
}

fn decimal(mut number: i128, by_exponent: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const SUFFIXES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    let mut at = 0;
    while number % 1000 == 0 && (by_exponent || at + 1 < SUFFIXES.len()) {
        number /= 1000;
        at += 1;
    }
    let exponent = 3 * i32::try_from(at).unwrap_or(i32::MAX) - 9;
    match (by_exponent, exponent) {
        (true, 0) => write!(f, "{number}"),
        (true, exponent) => write!(f, "{number}e{exponent}"),
        (false, _) => write!(f, "{number}{}", SUFFIXES[at]),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> String {
        text.parse::<Quantity>().map_or_else(|error| format!("{error:?}"), |quantity| quantity.to_string())
    }

    #[test]
    fn every_amount_is_written_in_its_canonical_form() {
        for (text, expected) in [
            ("0", "0"),
            ("-0", "0"),
            ("0Gi", "0"),
            ("1", "1"),
            ("+1", "1"),
            ("1.", "1"),
            (".5", "500m"),
            ("0.5", "500m"),
            ("500m", "500m"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("100000", "100k"),
            ("1000", "1k"),
            ("1234", "1234"),
            ("1.5k", "1500"),
            ("1G", "1G"),
            ("1024", "1024"),
            ("1024Mi", "1Gi"),
            ("1Ki", "1Ki"),
            ("0.5Ki", "512"),
            ("0.5Mi", "512Ki"),
            ("1.5Gi", "1536Mi"),
            ("1.1Ki", "1126400m"),
            ("0.0001Ki", "102400u"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("12e5", "1200e3"),
            ("1e0", "1"),
            ("1e-3", "1e-3"),
            ("1E", "1E"),
            ("0.0000000001", "1n"),
            ("1n", "1n"),
            ("1.0000000001", "1000000001n"),
            ("-1.5Gi", "-1536Mi"),
            ("100Ei", "9223372036854775807"),
            ("0001", "1"),
            ("1000E", "1000E"),
        ] {
            assert_eq!(canonical(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", ".", "-", "m", "1.2.3"] {
            assert_eq!(text.parse::<Quantity>(), Err(QuantityError::Format), "{text:?}");
        }
        for text in ["1 ", "1kb", "1ki", "1K", "1e", "1ee3", "1e3.5", "0x10", "1i"] {
            assert_eq!(text.parse::<Quantity>(), Err(QuantityError::Suffix), "{text:?}");
        }
        assert_eq!("1e40".parse::<Quantity>(), Err(QuantityError::TooLarge));
    }

    #[test]
    fn sums_are_exact_and_keep_the_first_form() {
        let sum = |a: &str, b: &str| a.parse::<Quantity>().unwrap().plus(b.parse().unwrap()).to_string();
        assert_eq!(sum("100m", "0.9"), "1");
        assert_eq!(sum("1Gi", "1G"), "2073741824");
        assert_eq!(sum("0", "1Gi"), "1Gi");
        assert_eq!(sum("1G", "1Gi"), "2073741824");
        let minus = "1".parse::<Quantity>().unwrap().minus("1500m".parse().unwrap());
        assert_eq!((minus.to_string().as_str(), minus.is_negative()), ("-500m", true));
    }

    #[test]
    fn amounts_compare_by_value() {
        let quantity = |text: &str| text.parse::<Quantity>().unwrap();
        assert_eq!(quantity("1024Mi"), quantity("1Gi"));
        assert_eq!(quantity("1"), quantity("1000m"));
        assert!(quantity("1G") < quantity("1Gi"));
        assert_eq!(quantity("1100m").rounded_up(), quantity("2"));
    }

    proptest! {
        #[test]
        fn the_canonical_form_reads_back_as_the_same_amount(
            number in -1_000_000_000_000_i64..1_000_000_000_000,
            places in 0_u32..4,
            suffix in prop::sample::select(vec!["", "n", "u", "m", "k", "M", "G", "Ki", "Mi", "Gi", "e3", "e-3"]),
        ) {
            let sign = if number < 0 { "-" } else { "" };
            let (whole, fraction) = (number.unsigned_abs() / 10_u64.pow(places), number.unsigned_abs() % 10_u64.pow(places));
            let text = format!("{sign}{whole}.{fraction:0width$}{suffix}", width = places as usize);
            let quantity: Quantity = text.parse().unwrap();
            let written = quantity.to_string();
            prop_assert_eq!(written.parse::<Quantity>().unwrap(), quantity);
            prop_assert_eq!(canonical(&written), written);
        }
    }
}
