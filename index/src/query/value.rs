//! Values from their text: numbers and sizes, durations, times, addresses.

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use ingest::time::Timestamp;

use super::{Addresses, Digits, Number, Piece};

/// What a value stands for: a date is every instant of its day, a number only itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Span<T> {
    pub(super) first: T,
    pub(super) last: T,
}

impl<T: Copy> Span<T> {
    pub(super) const fn point(value: T) -> Self {
        Self { first: value, last: value }
    }
}

const SIZES: [(&str, i64); 8] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
];

/// A number, or a size: `10Ki`, `1.5MB`.
pub(super) fn number(text: &str) -> Option<Number> {
    let starts = text.strip_prefix('-').unwrap_or(text).starts_with(|c: char| c.is_ascii_digit());
    if !starts {
        return None;
    }
    plain_number(text).or_else(|| {
        let text = text.strip_suffix('B').unwrap_or(text);
        let size = |(unit, factor): (&str, i64)| match plain_number(text.strip_suffix(unit)?)? {
            Number::Int(n) => n.checked_mul(factor).map(Number::Int),
            Number::Float(n) => Some(Number::Float(n * factor as f64)),
        };
        SIZES.into_iter().find_map(size)
    })
}

fn plain_number(text: &str) -> Option<Number> {
    let float = || text.parse().ok().filter(|n: &f64| n.is_finite()).map(Number::Float);
    text.parse().ok().map(Number::Int).or_else(float)
}

/// `4*`, `40?`: digits with `?`s and at most one `*` after them.
pub(super) fn digits(pieces: &[Piece]) -> Option<Digits> {
    let [Piece::Literal(prefix), wildcards @ ..] = pieces else { return None };
    let (ones, open) = match wildcards {
        [ones @ .., Piece::Many] => (ones, true),
        ones => (ones, false),
    };
    let starts = prefix.starts_with(|c: char| matches!(c, '1'..='9'));
    if !starts || ones.iter().any(|piece| *piece != Piece::One) {
        return None;
    }
    Some(Digits { prefix: prefix.parse().ok()?, more: u8::try_from(ones.len()).ok()?, open })
}

/// Units in microseconds; of two with one beginning the longer stands first.
const UNITS: [(&str, u64); 8] = [
    ("us", 1),
    ("µs", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
    ("w", 604_800_000_000),
];

/// A duration with its units: `2s`, `1.5h`, `1h30m`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut micros = 0u64;
    while !rest.is_empty() {
        let amount = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (amount, tail) = rest.split_at(amount);
        let (unit, factor) = UNITS.into_iter().find(|(unit, _)| tail.starts_with(unit))?;
        micros = micros.checked_add(scaled(amount, factor)?)?;
        rest = &tail[unit.len()..];
    }
    (!text.is_empty()).then(|| Duration::from_micros(micros))
}

/// A decimal number times a factor, rounded down.
fn scaled(amount: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, "0"));
    let fraction = fraction.get(..fraction.len().min(12))?;
    let part =
        u128::from(fraction.parse::<u64>().ok()?) * u128::from(factor) / 10u128.pow(fraction.len() as u32);
    whole.parse::<u64>().ok()?.checked_mul(factor)?.checked_add(u64::try_from(part).ok()?)
}

/// `now`, `now-1h`, a date, or a date with a time; without a zone it is UTC.
///
/// What is left out is free: `2026-01-01` is the whole day, `2026-01-01T10:30` the whole minute.
pub(super) fn time(text: &str, now: Timestamp) -> Option<Span<Timestamp>> {
    match text.get(..3) {
        Some(head) if head.eq_ignore_ascii_case("now") => relative(&text[3..], now).map(Span::point),
        _ => absolute(text),
    }
}

fn relative(offset: &str, now: Timestamp) -> Option<Timestamp> {
    let micros = match offset.split_at_checked(1) {
        None => 0,
        Some(("-", text)) => -i64::try_from(duration(text)?.as_micros()).ok()?,
        Some(("+", text)) => i64::try_from(duration(text)?.as_micros()).ok()?,
        Some(_) => return None,
    };
    writable(now.micros().checked_add(micros)?)
}

/// Only instants that have a text form, so that every query can be printed.
fn writable(micros: i64) -> Option<Timestamp> {
    jiff::Timestamp::from_microsecond(micros).ok().map(|_| Timestamp::from_micros(micros))
}

fn absolute(text: &str) -> Option<Span<Timestamp>> {
    let (date, clock) = match text.split_once(['T', 't']) {
        Some((date, clock)) => (date, Some(clock)),
        None => (text, None),
    };
    let (clock, zone, length) = match clock {
        None => ("00:00:00".to_owned(), "Z", 86_400_000_000),
        Some(clock) => completed(clock)?,
    };
    let first: Timestamp = format!("{date}T{clock}{zone}").parse().ok()?;
    Some(Span { first, last: writable(first.micros().checked_add(length - 1)?)? })
}

/// A time of day with its seconds, its zone, and how many microseconds it leaves open.
fn completed(clock: &str) -> Option<(String, &str, i64)> {
    let zone = clock.find(['Z', 'z', '+', '-']).unwrap_or(clock.len());
    let (clock, zone) = clock.split_at(zone);
    let zone = if zone.is_empty() { "Z" } else { zone };
    let length = match clock.split_once('.') {
        Some((_, fraction)) => 10i64.pow(6u32.saturating_sub(fraction.len() as u32)),
        None if clock.len() == 8 => 1_000_000,
        None if clock.len() == 5 => return Some((format!("{clock}:00"), zone, 60_000_000)),
        None => return None,
    };
    Some((clock.to_owned(), zone, length))
}

/// An address, a network (`10.0.0.0/8`, `2001:db8::/32`), or the first numbers of an IPv4 address (`10.1.*`).
pub(super) fn addresses(text: &str) -> Option<Addresses> {
    if let Some(numbers) = text.strip_suffix(".*") {
        return leading(numbers);
    }
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    network(address, prefix.unwrap_or(if address.is_ipv4() { 32 } else { 128 }))
}

/// One address; IPv4-mapped IPv6 becomes IPv4.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok().map(|address: IpAddr| address.to_canonical())
}

fn leading(numbers: &str) -> Option<Addresses> {
    let numbers = numbers.trim_end_matches(".*");
    let fixed = numbers.split('.').count();
    if !(1..=3).contains(&fixed) {
        return None;
    }
    let address: IpAddr = format!("{numbers}{}", ".0".repeat(4 - fixed)).parse().ok()?;
    network(address, 8 * fixed as u8)
}

fn network(address: IpAddr, prefix: u8) -> Option<Addresses> {
    let (address, prefix) = match (address.to_canonical(), address) {
        (canonical @ IpAddr::V4(_), IpAddr::V6(_)) if prefix >= 96 => (canonical, prefix - 96),
        (_, address) => (address, prefix),
    };
    let address = match address {
        IpAddr::V4(v4) if prefix <= 32 => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) if prefix <= 128 => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
        _ => return None,
    };
    Some(Addresses::Network { address, prefix })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

    #[test]
    fn numbers_and_sizes() {
        assert_eq!(number("404"), Some(Number::Int(404)));
        assert_eq!(number("-1"), Some(Number::Int(-1)));
        assert_eq!(number("1.5"), Some(Number::Float(1.5)));
        assert_eq!(number("10Ki"), Some(Number::Int(10_240)));
        assert_eq!(number("10KiB"), Some(Number::Int(10_240)));
        assert_eq!(number("1.5MB"), Some(Number::Float(1_500_000.0)));
        for bad in ["", "x", "inf", "nan", "1x", "--1", "1e999", "9999999999999G"] {
            assert_eq!(number(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_need_units() {
        let micros = |text| duration(text).map(|d| d.as_micros());
        assert_eq!(micros("2s"), Some(2_000_000));
        assert_eq!(micros("1h30m"), Some(5_400_000_000));
        assert_eq!(micros("1.5s"), Some(1_500_000));
        assert_eq!(micros("250ms"), Some(250_000));
        assert_eq!(micros("7µs"), Some(7));
        for bad in ["", "2", "s", "2 s", "2x", "1.2.3s", "-1s", "99999999999999w"] {
            assert_eq!(micros(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_time_with_less_precision_stands_for_its_whole_span() {
        let span = |text| time(text, NOW).map(|s| (s.first.to_string(), s.last.to_string()));
        let whole = |first: &str, last: &str| Some((first.to_owned(), last.to_owned()));
        assert_eq!(span("2026-01-01"), whole("2026-01-01T00:00:00.000000Z", "2026-01-01T23:59:59.999999Z"));
        assert_eq!(
            span("2026-01-01T10:30"),
            whole("2026-01-01T10:30:00.000000Z", "2026-01-01T10:30:59.999999Z")
        );
        assert_eq!(
            span("2026-01-01T10:30:05Z"),
            whole("2026-01-01T10:30:05.000000Z", "2026-01-01T10:30:05.999999Z")
        );
        assert_eq!(
            span("2026-01-01T10:30:05.5+02:00"),
            whole("2026-01-01T08:30:05.500000Z", "2026-01-01T08:30:05.599999Z")
        );
        assert_eq!(
            span("2026-01-01T10:30:05.123456Z"),
            whole("2026-01-01T10:30:05.123456Z", "2026-01-01T10:30:05.123456Z")
        );
        for bad in ["2026", "2026-13-01", "2026-01-01T", "2026-01-01T1", "2026-02-30", "yesterday", ""] {
            assert_eq!(span(bad), None, "{bad}");
        }
    }

    #[test]
    fn now_moves_by_durations() {
        let at = |text| time(text, NOW).map(|s| s.first.micros() - NOW.micros());
        assert_eq!(at("now"), Some(0));
        assert_eq!(at("now-1h"), Some(-3_600_000_000));
        assert_eq!(at("NOW+5m"), Some(300_000_000));
        for bad in ["now-", "now1h", "now-1", "now-3000000w", "now/d"] {
            assert_eq!(at(bad), None, "{bad}");
        }
    }

    #[test]
    fn addresses_of_both_families() {
        let range =
            |text| addresses(text).map(|a| a.range()).map(|r| (r.start().to_string(), r.end().to_string()));
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(range("10.0.0.0/8"), pair("::ffff:10.0.0.0", "::ffff:10.255.255.255"));
        assert_eq!(range("10.1.2.3"), pair("::ffff:10.1.2.3", "::ffff:10.1.2.3"));
        assert_eq!(range("10.1.*"), range("10.1.0.0/16"));
        assert_eq!(range("10.*.*.*"), range("10.0.0.0/8"));
        assert_eq!(range("::ffff:10.1.2.3"), range("10.1.2.3"));
        assert_eq!(range("0.0.0.0/0"), pair("::ffff:0.0.0.0", "::ffff:255.255.255.255"));
        assert_eq!(range("2001:db8::/32"), pair("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"));
        assert_eq!(range("::/0"), pair("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"));
        for bad in
            ["10.0.0.0/33", "10.0.0", "10.0.0.0.*", "10.300.*", "2001:db8::/129", "host", "1.2.3.4/", ".*"]
        {
            assert_eq!(range(bad), None, "{bad}");
        }
    }
}
