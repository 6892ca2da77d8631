//! How much one address, one user and all of them together may ask for at a time.
//!
//! Addresses are held to a rate before anything is known of a request, users after. Both are counted in a table of
//! fixed size, by a keyed hash: memory has its bound whatever strangers send, no table must be cleaned, and two that
//! meet in one place, which is rare, share its rate.

use std::{
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed, StateStore},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{request::RequestInfo, status::Status};
use crate::metrics;

/// Places for addresses, and as many for users: half a megabyte each.
const PLACES: usize = 65_536;

/// A time that never goes back, counted from wherever it likes.
#[derive(Clone)]
pub struct Ticks(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Ticks {
    /// The system's.
    pub fn system() -> Self {
        let start = Instant::now();
        Self(Arc::new(move || start.elapsed()))
    }

    /// One that answers with what `now` returns, for tests.
    pub fn from_fn(now: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    fn nanos(&self) -> u64 {
        u64::try_from((self.0)().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for Ticks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticks")
    }
}

impl Clock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.nanos().into()
    }
}

/// A rate that may be exceeded for a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// What goes on for ever.
    pub per_second: NonZeroU32,
    /// What may come at once after a silence.
    pub burst: NonZeroU32,
}

impl Rate {
    fn quota(self) -> Quota {
        Quota::per_second(self.per_second).allow_burst(self.burst)
    }
}

/// What is allowed. Nothing stands for no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Requests of one address, known or not.
    pub address: Option<Rate>,
    /// Requests of one address that show nobody who is known: what is more makes the address wait.
    pub failures: Option<Rate>,
    /// Requests of one user.
    pub user: Option<Rate>,
    /// Reads that run at one time.
    pub reads: usize,
    /// Writes that run at one time.
    pub writes: usize,
    /// Watches and other streams that are open at one time.
    pub streams: usize,
}

impl Default for Bounds {
    /// In flight what kube-apiserver allows. Rates are far above what clients of Kubernetes allow themselves, and hold
    /// one that runs wild.
    fn default() -> Self {
        let rate = |per_second, burst| {
            NonZeroU32::new(per_second)
                .zip(NonZeroU32::new(burst))
                .map(|(per_second, burst)| Rate { per_second, burst })
        };
        Self {
            address: rate(20_000, 40_000),
            failures: rate(5, 50),
            user: rate(10_000, 20_000),
            reads: 400,
            writes: 200,
            streams: 10_000,
        }
    }
}

/// It is too much now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Too many requests, please try again later.")]
pub struct Busy {
    /// When it may be tried again.
    pub wait: Duration,
}

impl From<Busy> for Status {
    fn from(busy: Busy) -> Self {
        let seconds = busy.wait.as_secs() + u64::from(busy.wait.subsec_nanos() > 0);
        Self::too_many_requests(busy.to_string(), u32::try_from(seconds.max(1)).unwrap_or(u32::MAX))
    }
}

/// What a request is to those in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It changes nothing.
    Read,
    /// It may change something.
    Write,
    /// It stays.
    Stream,
}

impl Class {
    /// What a request is.
    pub fn of(info: &RequestInfo) -> Self {
        if info.is_long_running() {
            Self::Stream
        } else if info.is_mutating() {
            Self::Write
        } else {
            Self::Read
        }
    }
}

/// A request's place among those in flight; free when it is dropped.
#[derive(Debug)]
pub struct Place {
    class: Class,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        metrics::in_flight(self.class, -1.0);
    }
}

/// Counts, and says when it is too much.
#[derive(Clone, Debug)]
pub struct Limits(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ticks: Ticks,
    places: RandomState,
    address: Option<Table>,
    failures: Option<Table>,
    /// Until when an address waits, in nanoseconds of `ticks`.
    waits: Box<[AtomicU64]>,
    user: Option<Table>,
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl Limits {
    /// With these bounds.
    pub fn new(bounds: Bounds, ticks: Ticks) -> Self {
        let table = |rate: Option<Rate>| rate.map(|rate| Table::new(rate, ticks.clone()));
        let in_flight = |places: usize| Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        Self(Arc::new(Inner {
            places: RandomState::new(),
            address: table(bounds.address),
            failures: table(bounds.failures),
            waits: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
            user: table(bounds.user),
            reads: in_flight(bounds.reads),
            writes: in_flight(bounds.writes),
            streams: in_flight(bounds.streams),
            ticks,
        }))
    }

    /// Counts a request of an address, before anything else is done for it.
    ///
    /// # Errors
    /// When the address has asked for too much, or has guessed too often.
    pub fn arrive(&self, address: IpAddr) -> Result<(), Busy> {
        let place = self.place(network(address));
        let until = self.0.waits[place].load(Ordering::Relaxed);
        if let Some(left) = until.checked_sub(self.0.ticks.nanos()).filter(|left| *left > 0) {
            return Err(Busy { wait: Duration::from_nanos(left) });
        }
        check(self.0.address.as_ref(), place)
    }

    /// Counts a request of an address that showed nobody who is known. From a number on, the address has to wait
    /// between one guess and the next.
    pub fn failed(&self, address: IpAddr) {
        let place = self.place(network(address));
        if let Err(busy) = check(self.0.failures.as_ref(), place) {
            let wait = u64::try_from(busy.wait.as_nanos()).unwrap_or(u64::MAX);
            let until = self.0.ticks.nanos().saturating_add(wait);
            self.0.waits[place].fetch_max(until, Ordering::Relaxed);
        }
    }

    /// Counts a request of somebody who is known.
    ///
    /// # Errors
    /// When the user has asked for too much.
    pub fn enter(&self, username: &str) -> Result<(), Busy> {
        check(self.0.user.as_ref(), self.place(username))
    }

    /// Takes a place among the requests in flight.
    ///
    /// # Errors
    /// When all of them are taken.
    pub fn start(&self, class: Class) -> Result<Place, Busy> {
        let places = match class {
            Class::Read => &self.0.reads,
            Class::Write => &self.0.writes,
            Class::Stream => &self.0.streams,
        };
        let permit = places.clone().try_acquire_owned().map_err(|_| Busy { wait: Duration::from_secs(1) })?;
        metrics::in_flight(class, 1.0);
        Ok(Place { class, _permit: permit })
    }

    fn place(&self, key: impl Hash) -> usize {
        self.0.places.hash_one(key) as usize % PLACES
    }
}

/// One customer of IPv6 has a network of 64 bits, and may call from every address of it.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & (u128::MAX << 64)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn check(table: Option<&Table>, place: usize) -> Result<(), Busy> {
    table.map_or(Ok(()), |table| table.check(place))
}

/// A rate in every place.
struct Table(RateLimiter<usize, Places, Ticks, NoOpMiddleware<Nanos>>);

impl Table {
    fn new(rate: Rate, ticks: Ticks) -> Self {
        Self(RateLimiter::new(rate.quota(), Places::default(), ticks))
    }

    fn check(&self, place: usize) -> Result<(), Busy> {
        let now = self.0.clock().now();
        self.0.check_key(&place).map_err(|until| Busy { wait: until.wait_time_from(now) })
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Table")
    }
}

struct Places(Box<[InMemoryState]>);

impl Default for Places {
    fn default() -> Self {
        Self((0..PLACES).map(|_| InMemoryState::default()).collect())
    }
}

impl StateStore for Places {
    type Key = usize;

    fn measure_and_replace<T, F, E>(&self, place: &usize, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0[place % PLACES].measure_and_replace(&NotKeyed::NonKey, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: u32, burst: u32) -> Option<Rate> {
        Some(Rate {
            per_second: NonZeroU32::new(per_second).unwrap(),
            burst: NonZeroU32::new(burst).unwrap(),
        })
    }

    /// Limits, and the milliseconds of their clock.
    fn limits(bounds: Bounds) -> (Limits, Arc<AtomicU64>) {
        let millis = Arc::new(AtomicU64::new(1_000));
        let read = millis.clone();
        let ticks = Ticks::from_fn(move || Duration::from_millis(read.load(Ordering::Relaxed)));
        (Limits::new(bounds, ticks), millis)
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn an_address_is_held_to_its_rate_and_told_when_to_come_again() {
        let (limits, millis) = limits(Bounds { address: rate(10, 2), ..Bounds::default() });
        assert!(limits.arrive(HERE).is_ok() && limits.arrive(HERE).is_ok());
        let busy = limits.arrive(HERE).unwrap_err();
        assert_eq!(busy.wait, Duration::from_millis(100));
        let status = Status::from(busy);
        assert_eq!((status.code, status.details.unwrap().retry_after_seconds), (429, 1));
        assert!(limits.arrive("10.0.0.1".parse().unwrap()).is_ok(), "another address is another matter");
        millis.fetch_add(100, Ordering::Relaxed);
        assert!(limits.arrive(HERE).is_ok());
    }

    #[test]
    fn whoever_guesses_waits_between_guesses() {
        let (limits, millis) = limits(Bounds { failures: rate(1, 3), ..Bounds::default() });
        for _ in 0..3 {
            limits.arrive(HERE).unwrap();
            limits.failed(HERE);
        }
        limits.arrive(HERE).unwrap();
        limits.failed(HERE);
        assert_eq!(limits.arrive(HERE).unwrap_err().wait, Duration::from_secs(1));
        millis.fetch_add(1_000, Ordering::Relaxed);
        assert!(limits.arrive(HERE).is_ok());
    }

    #[test]
    fn a_user_is_held_to_its_rate_wherever_it_calls_from() {
        let (limits, _) = limits(Bounds { user: rate(1, 1), ..Bounds::default() });
        assert!(limits.enter("alice").is_ok());
        assert!(limits.enter("alice").is_err());
        assert!(limits.enter("bob").is_ok());
    }

    #[test]
    fn places_in_flight_are_few_of_each_class_and_come_back() {
        let (limits, _) = limits(Bounds { reads: 1, writes: 1, streams: 0, ..Bounds::default() });
        let read = limits.start(Class::Read).unwrap();
        assert!(limits.start(Class::Read).is_err());
        assert!(limits.start(Class::Write).is_ok(), "reads leave writes their place");
        assert!(limits.start(Class::Stream).is_err());
        drop(read);
        assert!(limits.start(Class::Read).is_ok());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_ipv4_in_ipv6_is_ipv4() {
        let net = |text: &str| network(text.parse().unwrap());
        assert_eq!(net("2001:db8::1"), net("2001:db8::ffff:1"));
        assert_ne!(net("2001:db8::1"), net("2001:db8:0:1::1"));
        assert_eq!(net("::ffff:10.0.0.1"), net("10.0.0.1"));
    }
}
