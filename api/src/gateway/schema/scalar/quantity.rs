//! Amounts such as `500m` and `1Gi`, in the one form that upstream writes each of them in.

use super::ScalarError;

/// Amounts are kept in billionths, the smallest part that upstream keeps.
const SCALE: i32 = 9;
/// The largest amount: upstream caps at what fits into 63 bits.
const LARGEST: i128 = i64::MAX as i128 * 1_000_000_000;
const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const DIGITS: usize = 100;

#[derive(Clone, Copy, PartialEq)]
enum Form {
    Binary,
    Decimal,
    Exponent,
}

/// The canonical text of an amount.
///
/// # Errors
/// A text that is no amount.
pub fn canonical(text: &str) -> Result<String, ScalarError> {
    let (value, form) = parse(text)?;
    Ok(write(value, form))
}

/// The amount rounded up to thousandths, where it has smaller parts.
pub fn thousandths(text: &str) -> Option<String> {
    let (value, form) = parse(text).ok()?;
    let unit = 10_i128.pow(SCALE as u32 - 3);
    // Upstream rounds away from zero.
    let up = value.signum() * (value.abs() + unit - 1).div_euclid(unit) * unit;
    (up != value).then(|| write(up, form))
}

fn parse(text: &str) -> Result<(i128, Form), ScalarError> {
    let malformed = || {
        ScalarError(
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
                .into(),
        )
    };
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + fraction.len() == 0 || fraction.contains('.') {
        return Err(malformed());
    }
    let (power, exponent, form) =
        suffix_of(suffix).ok_or_else(|| ScalarError("unable to parse quantity's suffix".into()))?;
    let magnitude = amount(whole, fraction, power, exponent);
    Ok((if negative { -magnitude } else { magnitude }, form))
}

/// The power of two, the power of ten, and the form that a suffix stands for.
fn suffix_of(suffix: &str) -> Option<(u32, i32, Form)> {
    if let Some((_, power)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Some((*power, 0, Form::Binary));
    }
    if let Some((_, exponent)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some((0, *exponent, Form::Decimal));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    Some((0, exponent.parse().ok()?, Form::Exponent))
}

/// Billionths, rounded away from zero and capped.
fn amount(whole: &str, fraction: &str, power: u32, exponent: i32) -> i128 {
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    if whole.is_empty() && fraction.is_empty() {
        return 0;
    }
    let shift = i64::from(exponent) + i64::from(SCALE);
    if whole.len() as i64 + shift > 30 || whole.len() > DIGITS {
        return LARGEST;
    }
    // The digits that count: those behind the smallest part only round it up.
    let mut value: i128 = 0;
    let mut rest = false;
    let wanted = whole.len() as i64 + shift + if power > 0 { 10 } else { 0 };
    for (at, digit) in whole.bytes().chain(fraction.bytes()).enumerate() {
        if (at as i64) < wanted && at < 36 {
            value = value.saturating_mul(10).saturating_add(i128::from(digit - b'0'));
        } else {
            rest |= digit != b'0';
        }
    }
    let read = (whole.len() + fraction.len()).min(wanted.clamp(0, 36) as usize) as i64;
    let missing = whole.len() as i64 + shift - read;
    if power > 0 {
        value = value.saturating_mul(1_i128 << power.min(60));
    }
    if missing >= 0 {
        value = value.saturating_mul(10_i128.saturating_pow(missing.min(38) as u32));
    } else {
        let unit = 10_i128.saturating_pow((-missing).min(38) as u32);
        rest |= value % unit != 0;
        value /= unit;
    }
    value.saturating_add(i128::from(rest)).min(LARGEST)
}

fn write(value: i128, form: Form) -> String {
    if value == 0 {
        return "0".to_owned();
    }
    let one = 10_i128.pow(SCALE as u32);
    // Upstream drops the binary form where it would not be a whole number of at least 1024.
    let form = if form == Form::Binary && (value.abs() < 1024 * one || value % one != 0) {
        Form::Decimal
    } else {
        form
    };
    if form == Form::Binary {
        let mut whole = value / one;
        let mut suffix = "";
        for (name, _) in BINARY {
            if whole % 1024 != 0 {
                break;
            }
            whole /= 1024;
            suffix = name;
        }
        return format!("{whole}{suffix}");
    }
    let mut mantissa = value;
    let mut exponent = -SCALE;
    while mantissa % 1000 == 0 && exponent < 18 {
        mantissa /= 1000;
        exponent += 3;
    }
    match form {
        Form::Exponent if exponent != 0 => format!("{mantissa}e{exponent}"),
        _ => {
            let suffix = DECIMAL.iter().find(|(_, e)| *e == exponent).map_or("", |(name, _)| name);
            format!("{mantissa}{suffix}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_the_form_that_upstream_writes() {
        for (given, canonical_text) in [
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1000000", "1M"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("12e6", "12e6"),
            ("100e0", "100"),
            ("0", "0"),
            ("0.0Ki", "0"),
            ("-5Gi", "-5Gi"),
            ("512Mi", "512Mi"),
            ("1023", "1023"),
            ("0.5Ki", "512"),
            ("0.0000000001", "1n"),
            ("1n", "1n"),
            ("+3", "3"),
            ("9999999999E", "9223372036854775807"),
            ("1E", "1E"),
            ("1Ei", "1Ei"),
            (".5", "500m"),
            ("5.", "5"),
            ("1.1Mi", "1153433600m"),
        ] {
            assert_eq!(canonical(given).as_deref(), Ok(canonical_text), "{given}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for wrong in ["", "-", "Gi", "1.2.3", "1 Gi", "1gi", "1e", "1K", "1ee3", "0x5"] {
            assert!(canonical(wrong).is_err(), "{wrong}");
        }
    }
}
