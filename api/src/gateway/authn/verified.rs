//! Signed tokens that were found valid a moment ago, so that a busy client's signature is not verified every time.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use ingest::time::Timestamp;

use crate::gateway::user::UserInfo;

/// How long a token counts as verified: a deleted service account is locked out after that time (upstream's value).
const KEPT: i64 = 10_000_000;

/// How many are kept: more holders than one gateway serves within [`KEPT`], in some megabytes.
const MAX: usize = 4_096;

/// By the hash of the token, so that no secret is kept.
#[derive(Debug, Default)]
pub(super) struct Verified(RwLock<HashMap<[u8; 32], (UserInfo, Timestamp)>>);

impl Verified {
    /// The holder of a token that still counts as verified.
    pub(super) fn get(&self, hash: &[u8; 32], now: Timestamp) -> Option<UserInfo> {
        let kept = self.0.read().unwrap_or_else(PoisonError::into_inner);
        kept.get(hash).filter(|(_, until)| now < *until).map(|(user, _)| user.clone())
    }

    /// Keeps a holder, never longer than until the second `expiry`.
    pub(super) fn keep(&self, hash: [u8; 32], user: &UserInfo, expiry: i64, now: Timestamp) {
        let expiry = expiry.saturating_mul(1_000_000);
        let until = Timestamp::from_micros(expiry.min(now.micros().saturating_add(KEPT)));
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX {
            kept.retain(|_, (_, until)| now < *until);
        }
        if kept.len() >= MAX {
            kept.clear();
        }
        kept.insert(hash, (user.clone(), until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_token_is_forgotten_in_time_and_never_outlives_itself() {
        let verified = Verified::default();
        let user = UserInfo { username: "alice".into(), ..UserInfo::default() };
        verified.keep([1; 32], &user, 1_000, at(0));
        assert_eq!(verified.get(&[1; 32], at(9)), Some(user.clone()));
        assert_eq!(verified.get(&[1; 32], at(10)), None);
        verified.keep([2; 32], &user, 5, at(0));
        assert_eq!(verified.get(&[2; 32], at(5)), None);
    }

    #[test]
    fn the_number_of_kept_tokens_has_a_bound() {
        let verified = Verified::default();
        for n in 0..=MAX {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&n.to_le_bytes());
            verified.keep(hash, &UserInfo::default(), i64::MAX, at(0));
        }
        assert!(verified.0.read().unwrap().len() <= MAX);
    }
}
