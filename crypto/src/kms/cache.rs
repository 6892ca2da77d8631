//! Data keys that the KMS has unwrapped, so that it is asked once for each and not once for each value.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// How many are kept. There is about one for each start of an API server and each key of the KMS since the values
/// were last written.
const MAX_KEYS: usize = 4096;

/// Unwrapped data keys by the fingerprint of what was wrapped. When it is full, the one goes that was used longest ago.
pub(super) struct KeyCache<T>(Mutex<Kept<T>>);

struct Kept<T> {
    keys: HashMap<[u8; 32], (T, u64)>,
    /// Grows with each use.
    now: u64,
}

impl<T> Default for KeyCache<T> {
    fn default() -> Self {
        Self(Mutex::new(Kept { keys: HashMap::new(), now: 0 }))
    }
}

impl<T: Clone> KeyCache<T> {
    pub(super) fn get(&self, fingerprint: &[u8; 32]) -> Option<T> {
        let mut kept = self.lock();
        kept.now += 1;
        let now = kept.now;
        let (key, used) = kept.keys.get_mut(fingerprint)?;
        *used = now;
        Some(key.clone())
    }

    pub(super) fn put(&self, fingerprint: [u8; 32], key: T) {
        let mut kept = self.lock();
        if kept.keys.len() >= MAX_KEYS && !kept.keys.contains_key(&fingerprint) {
            let oldest = kept.keys.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key);
            oldest.map(|oldest| kept.keys.remove(&oldest));
        }
        kept.now += 1;
        let now = kept.now;
        kept.keys.insert(fingerprint, (key, now));
    }

    fn lock(&self) -> MutexGuard<'_, Kept<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_that_was_used_longest_ago_goes_first() {
        let cache = KeyCache::default();
        let name = |i: usize| {
            let mut name = [0; 32];
            name[..8].copy_from_slice(&i.to_be_bytes());
            name
        };
        for i in 0..MAX_KEYS {
            cache.put(name(i), i);
        }
        assert!(cache.get(&name(0)).is_some());
        cache.put(name(MAX_KEYS), MAX_KEYS);
        assert!(cache.get(&name(0)).is_some());
        assert!(cache.get(&name(1)).is_none());
        assert_eq!(cache.lock().keys.len(), MAX_KEYS);
    }
}
