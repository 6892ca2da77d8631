//! Writes numbers, ids, addresses and times without formatting machinery: most of the generator's speed.

/// Appends each string.
macro_rules! put {
    ($out:expr, $($text:expr),+ $(,)?) => {{ $($out.extend_from_slice($text.as_bytes());)+ }};
}
pub(super) use put;

/// Appends a number in decimal.
pub(super) fn num(mut n: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends 128 bits in the shape of a random UUID.
pub(super) fn hex_id((high, low): (u64, u64), out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bits =
        (u128::from(high) << 64 | u128::from(low)) & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    for place in 0..32 {
        if matches!(place, 8 | 12 | 16 | 20) {
            out.push(b'-');
        }
        out.push(HEX[(bits >> (124 - 4 * place) & 0xf) as usize]);
    }
}

/// Appends an IPv4 address.
pub(super) fn address(address: u32, out: &mut Vec<u8>) {
    for (i, byte) in address.to_be_bytes().into_iter().enumerate() {
        if i > 0 {
            out.push(b'.');
        }
        num(u64::from(byte), out);
    }
}

fn padded(n: i64, width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + width, b'0');
    let mut n = n;
    for place in (start..start + width).rev() {
        out[place] = b'0' + (n % 10) as u8;
        n /= 10;
    }
}

/// Appends `2026-11-23T14:46:22`.
fn second(seconds: i64, out: &mut Vec<u8>) {
    let (day, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days to a date in the proleptic Gregorian calendar, counted in eras of 400 years that begin in March.
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    padded(year_of_era + era * 400 + i64::from(month <= 2), 4, out);
    out.push(b'-');
    padded(month, 2, out);
    out.push(b'-');
    padded(of_year - (153 * march_month + 2) / 5 + 1, 2, out);
    out.push(b'T');
    padded(rest / 3_600, 2, out);
    out.push(b':');
    padded(rest / 60 % 60, 2, out);
    out.push(b':');
    padded(rest % 60, 2, out);
}

/// Appends an instant as audit events write it: six fractional digits.
pub(super) fn stamp(micros: i64, out: &mut Vec<u8>) {
    second(micros.div_euclid(1_000_000), out);
    out.push(b'.');
    padded(micros.rem_euclid(1_000_000), 6, out);
    out.push(b'Z');
}

/// Appends an instant as objects write it: whole seconds.
pub(super) fn whole_stamp(micros: i64, out: &mut Vec<u8>) {
    second(micros.div_euclid(1_000_000), out);
    out.push(b'Z');
}
