//! How slowly a body may come before its sender is cut off.

use std::time::Duration;

use axum::http::StatusCode;

use crate::errors::ApiError;

/// What a sender is allowed.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// How long it may pause within a body.
    pub pause: Duration,
    /// How long it may take for a body of any size.
    pub grace: Duration,
    /// What has to arrive in each second beyond that, on average.
    pub bytes_per_second: u32,
}

impl Default for Allowance {
    /// Half a minute for a network that hiccups, a minute for whatever is small, and a line of a quarter Mbit/s for
    /// the rest: a body of 64 MiB is over after 35 minutes at the latest, one of 1 MiB after a minute and a half.
    fn default() -> Self {
        Self { pause: Duration::from_secs(30), grace: Duration::from_secs(60), bytes_per_second: 32 * 1024 }
    }
}

/// Keeps count of the time that one sender has taken. What the server itself takes is not the sender's.
#[derive(Debug)]
pub(super) struct Pace {
    allowance: Allowance,
    waited: Duration,
}

impl Pace {
    pub(super) const fn new(allowance: Allowance) -> Self {
        Self { allowance, waited: Duration::ZERO }
    }

    /// How long the next bytes may take, after so many.
    pub(super) fn next(&self, received: u64) -> Duration {
        let Allowance { pause, grace, bytes_per_second } = self.allowance;
        let earned = Duration::from_secs_f64(received as f64 / f64::from(bytes_per_second.max(1)));
        pause.min((grace + earned).saturating_sub(self.waited))
    }

    /// The sender took so long for the latest bytes.
    pub(super) fn waited(&mut self, time: Duration) {
        self.waited += time;
    }

    /// The answer to a sender that did not send in [`Pace::next`].
    pub(super) fn broken(&self, received: u64) -> ApiError {
        let Allowance { pause, grace, bytes_per_second } = self.allowance;
        if self.next(received) >= pause {
            let message = format!("nothing of the body arrived for {pause:?}");
            return ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_stalled", message);
        }
        let message = format!(
            "the body comes too slowly: {received} bytes so far, and beyond {grace:?} at least {bytes_per_second} \
             bytes have to arrive in a second; send it in smaller parts"
        );
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_earned_by_bytes_and_used_up_by_waiting() {
        let seconds = Duration::from_secs;
        let mut pace =
            Pace::new(Allowance { pause: seconds(30), grace: seconds(60), bytes_per_second: 1_000 });
        assert_eq!(pace.next(0), seconds(30));
        pace.waited(seconds(55));
        assert_eq!(pace.next(0), seconds(5));
        assert_eq!(pace.next(10_000), seconds(15));
        pace.waited(seconds(20));
        assert_eq!(pace.next(10_000), seconds(0));
        assert_eq!(pace.next(1_000_000), seconds(30));
    }
}
