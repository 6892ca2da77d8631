//! Chance that can be had again, and how much of it: what the tests that kill the process share.

/// A number from the environment.
#[allow(clippy::disallowed_methods, reason = "how long a test runs is told in the environment")]
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")),
        Err(_) => default,
    }
}

/// SplitMix64: a generator with a seed, so that a run can be had again.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A number from 0 to `bound`, without `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}
