//! Who follows now: bounded in all, and for each user, so that nobody takes every place.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio_util::sync::CancellationToken;

use crate::errors::ApiError;

/// Clients that follow at once. Each costs one query for every commit of the index, twice a second under load.
const MAX_FOLLOWERS: usize = 64;

/// Of one user, whatever tokens and addresses it has: eight can fill all places together.
const MAX_OF_ONE_USER: usize = 8;

/// Bounds how many follow, and ends them when the process stops.
#[derive(Clone, Debug)]
pub struct Followers {
    /// How many each user has. Who has none is not in it.
    counts: Arc<Mutex<HashMap<String, usize>>>,
    /// When all of them end.
    pub(super) stop: CancellationToken,
}

impl Followers {
    /// Streams end at `stop`, because they would not by themselves.
    pub fn new(stop: CancellationToken) -> Self {
        Self { counts: Arc::default(), stop }
    }

    /// A place for one more of a user, until it is dropped.
    ///
    /// # Errors
    /// 429 when the user or all together have as many as they may.
    pub(super) fn enter(&self, user: &str) -> Result<Follower, ApiError> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.values().sum::<usize>() >= MAX_FOLLOWERS {
            return Err(ApiError::too_much("busy", format!("{MAX_FOLLOWERS} clients follow already")));
        }
        let own = counts.get(user).copied().unwrap_or(0);
        if own >= MAX_OF_ONE_USER {
            let why = format!("{user} follows {MAX_OF_ONE_USER} times already: end one of these first");
            return Err(ApiError::too_much("busy", why));
        }
        counts.insert(user.to_owned(), own + 1);
        Ok(Follower { counts: self.counts.clone(), user: user.to_owned() })
    }
}

/// A place among those who follow.
#[derive(Debug)]
pub(super) struct Follower {
    counts: Arc<Mutex<HashMap<String, usize>>>,
    user: String,
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(&self.user) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(counts.remove(&self.user)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_some_places_all_have_more_and_each_is_given_back() {
        let followers = Followers::new(CancellationToken::new());
        let take =
            |user: &str, n: usize| (0..n).map(|_| followers.enter(user)).collect::<Result<Vec<_>, _>>();
        let anna = take("anna", MAX_OF_ONE_USER).unwrap();
        let refused = followers.enter("anna").unwrap_err();
        assert_eq!(refused.status(), 429);
        assert!(refused.message().contains("anna follows 8 times"), "{}", refused.message());
        let users = MAX_FOLLOWERS / MAX_OF_ONE_USER;
        let others: Vec<_> =
            (1..users).map(|n| take(&format!("user-{n}"), MAX_OF_ONE_USER).unwrap()).collect();
        assert_eq!(followers.enter("late").unwrap_err().message(), "64 clients follow already");
        drop(anna);
        assert!(followers.enter("late").is_ok());
        drop(others);
        assert!(followers.counts.lock().unwrap().is_empty(), "who follows no more is forgotten");
    }
}
