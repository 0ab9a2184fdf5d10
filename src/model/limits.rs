//! How often and how many at one time an endpoint is called, and when it is left alone: bulkhead, budgets, circuit breaker.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::DashMapStateStore;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use tokio::sync::{Semaphore, SemaphorePermit};
use xxhash_rust::xxh3::xxh3_128;

use super::Failure;
use crate::clock::Clock;
use crate::config;

/// How often sessions that have their whole budget again are forgotten, in milliseconds. A budget is whole again after a minute.
const SWEEP_MS: u64 = 60_000;

/// A call that was given at least this much time, or half of `timeout_ms` if that is less, had a fair chance: its timeout speaks against the
/// endpoint. One that was given less speaks against an impatient caller, who must not open the breaker for everybody.
const FAIR_TIME: Duration = Duration::from_millis(250);

/// What stands before every call to an endpoint.
pub struct Limits {
    slots: Semaphore,
    breaker: Breaker,
    budgets: Budgets,
    fair_time: Duration,
}

/// The right to make one call. Dropped without [`Permit::settle`] it says nothing about the endpoint.
#[derive(Debug)]
pub struct Permit<'a> {
    passage: Passage<'a>,
    fair_time: Duration,
    _slot: SemaphorePermit<'a>,
}

impl Limits {
    /// Limits by the settings; `clock` moves the budgets and the time that the breaker stays open.
    #[must_use]
    pub fn new(settings: &config::Model, clock: Clock) -> Self {
        Self {
            slots: Semaphore::new(settings.max_concurrency.min(Semaphore::MAX_PERMITS)),
            breaker: Breaker::new(&settings.breaker, clock.clone()),
            budgets: Budgets::new(&settings.budget, clock),
            fair_time: FAIR_TIME.min(Duration::from_millis(settings.timeout_ms) / 2),
        }
    }

    /// Asks for one call on behalf of `session`; never waits.
    ///
    /// The breaker is asked twice: first without consequence, so that an endpoint that is left alone costs nothing; then for the permission
    /// itself, which may be the one probe. The budgets come last: whoever is refused for another reason keeps theirs, and a probe
    /// that the budget refuses is free again for the next.
    ///
    /// # Errors
    /// [`Failure::CircuitOpen`], [`Failure::Overloaded`] or [`Failure::RateLimited`].
    pub fn admit(&self, session: &str) -> Result<Permit<'_>, Failure> {
        if self.breaker.refuses() {
            return Err(Failure::CircuitOpen);
        }
        let slot = self.slots.try_acquire().map_err(|_| Failure::Overloaded)?;
        let passage = self.breaker.enter().ok_or(Failure::CircuitOpen)?;
        if !self.budgets.take(session) {
            return Err(Failure::RateLimited);
        }
        Ok(Permit { passage, fair_time: self.fair_time, _slot: slot })
    }

    /// The breaker's state now.
    #[must_use]
    pub fn breaker_state(&self) -> BreakerState {
        self.breaker.state()
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits")
            .field("free_slots", &self.slots.available_permits())
            .field("breaker", &self.breaker_state())
            .finish_non_exhaustive()
    }
}

impl Permit<'_> {
    /// Tells the breaker how the call went; `allowed` is the time it was given.
    ///
    /// An answer that is not the one asked for is still an answer: the endpoint lives.
    pub fn settle<T>(self, result: &Result<T, Failure>, allowed: Duration) {
        let outcome = match result {
            Ok(_) | Err(Failure::InvalidOutput(_)) => Outcome::Answered,
            Err(Failure::Error(_)) => Outcome::Failed,
            Err(Failure::Timeout) if allowed >= self.fair_time => Outcome::Failed,
            // The other failures are the router's own and never come from a call.
            Err(Failure::Timeout | Failure::RateLimited | Failure::CircuitOpen | Failure::Overloaded) => return,
        };
        self.passage.settle(outcome);
    }
}

/// What a call says about the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Answered,
    Failed,
}

/// What a circuit breaker does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// No call goes through.
    Open,
    /// One call goes through to probe the endpoint, or will as soon as there is one.
    HalfOpen,
}

impl BreakerState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// The word for metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

#[derive(Debug)]
struct Breaker {
    failures: u32,
    open_ms: u64,
    clock: Clock,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    phase: Phase,
    /// Counts changes of phase and probes. What a call reports counts only in the epoch in which it began: a straggler from before
    /// the breaker opened must not pass for the probe.
    epoch: u64,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed { failures_in_a_row: u32 },
    Open { until_ms: u64 },
    HalfOpen { is_probing: bool },
}

impl Inner {
    fn change(&mut self, phase: Phase) {
        self.phase = phase;
        self.epoch += 1;
    }
}

impl Breaker {
    fn new(settings: &config::Breaker, clock: Clock) -> Self {
        let phase = Phase::Closed { failures_in_a_row: 0 };
        Self {
            failures: settings.failures,
            open_ms: settings.open_s.saturating_mul(1000),
            clock,
            inner: Mutex::new(Inner { phase, epoch: 0 }),
        }
    }

    /// Nothing in here can stop half-way, so the state of a poisoned lock is whole.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a call would be refused now.
    fn refuses(&self) -> bool {
        match self.lock().phase {
            Phase::Closed { .. } => false,
            Phase::Open { until_ms } => self.clock.now_ms() < until_ms,
            Phase::HalfOpen { is_probing } => is_probing,
        }
    }

    /// The right to call, if there is one; it may be the probe.
    fn enter(&self) -> Option<Passage<'_>> {
        let mut inner = self.lock();
        match inner.phase {
            Phase::Closed { .. } => {}
            Phase::Open { until_ms } if self.clock.now_ms() < until_ms => return None,
            Phase::HalfOpen { is_probing: true } => return None,
            Phase::Open { .. } | Phase::HalfOpen { is_probing: false } => inner.change(Phase::HalfOpen { is_probing: true }),
        }
        Some(Passage { breaker: self, epoch: inner.epoch })
    }

    fn state(&self) -> BreakerState {
        match self.lock().phase {
            Phase::Closed { .. } => BreakerState::Closed,
            Phase::Open { until_ms } if self.clock.now_ms() < until_ms => BreakerState::Open,
            Phase::Open { .. } | Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }
}

/// The right to make one call. A probe that is dropped without a word, because its caller went away, frees its place.
#[derive(Debug)]
struct Passage<'a> {
    breaker: &'a Breaker,
    epoch: u64,
}

impl Passage<'_> {
    /// Counts the outcome. `self` is dropped last, after the lock is released.
    fn settle(self, outcome: Outcome) {
        let breaker = self.breaker;
        let mut inner = breaker.lock();
        if inner.epoch != self.epoch {
            return;
        }
        let opened = Phase::Open { until_ms: breaker.clock.now_ms().saturating_add(breaker.open_ms) };
        match (&mut inner.phase, outcome) {
            (Phase::Closed { failures_in_a_row }, Outcome::Answered) => *failures_in_a_row = 0,
            (Phase::Closed { failures_in_a_row }, Outcome::Failed) => {
                *failures_in_a_row += 1;
                if *failures_in_a_row >= breaker.failures {
                    inner.change(opened);
                }
            }
            (_, Outcome::Answered) => inner.change(Phase::Closed { failures_in_a_row: 0 }),
            (_, Outcome::Failed) => inner.change(opened),
        }
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        let mut inner = self.breaker.lock();
        // After a report the epoch has moved on, or the breaker is closed: either way this finds nothing to do.
        if inner.epoch == self.epoch
            && let Phase::HalfOpen { is_probing } = &mut inner.phase
        {
            *is_probing = false;
        }
    }
}

type Limiter<Key, State> = RateLimiter<Key, State, Clock, NoOpMiddleware<Nanos>>;

/// The budgets of all sessions together and of each. Sessions are kept by a hash of their id.
struct Budgets {
    clock: Clock,
    all: Limiter<NotKeyed, Refundable>,
    all_state: Refundable,
    refund: Duration,
    sessions: Limiter<u128, DashMapStateStore<u128>>,
    next_sweep_ms: AtomicU64,
}

impl Budgets {
    fn new(settings: &config::Budget, clock: Clock) -> Self {
        let per_minute = |calls: u32| Quota::per_minute(NonZeroU32::new(calls).unwrap_or(NonZeroU32::MIN));
        let quota = per_minute(settings.per_minute);
        let all_state = Refundable::default();
        Self {
            all: RateLimiter::new(quota, all_state.clone(), clock.clone()),
            all_state,
            refund: quota.replenish_interval(),
            sessions: RateLimiter::dashmap_with_clock(per_minute(settings.per_session_per_minute), clock.clone()),
            next_sweep_ms: AtomicU64::new(clock.now_ms().saturating_add(SWEEP_MS)),
            clock,
        }
    }

    /// Takes one call from both budgets, or from neither.
    ///
    /// The common one is asked first, so that the number of sessions in memory is bounded by it, and gets its call back if the session has
    /// none left: a noisy session must not use up what belongs to all.
    fn take(&self, session: &str) -> bool {
        self.sweep_if_due();
        if self.all.check().is_err() {
            return false;
        }
        let allowed = self.sessions.check_key(&xxh3_128(session.as_bytes())).is_ok();
        if !allowed {
            self.all_state.give_back(self.refund);
        }
        allowed
    }

    /// Forgets sessions whose budget is whole again.
    fn sweep_if_due(&self) {
        let now = self.clock.now_ms();
        let due = self.next_sweep_ms.load(Ordering::Relaxed);
        let next = now.saturating_add(SWEEP_MS);
        if now >= due && self.next_sweep_ms.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.sessions.retain_recent();
            self.sessions.shrink_to_fit();
        }
    }
}

/// A budget's state that can be given a call back; governor's limiters keep theirs to themselves.
#[derive(Clone, Debug, Default)]
struct Refundable(Arc<InMemoryState>);

impl Refundable {
    /// The state is the moment at which the budget will be whole again; a call moves it on by one interval, and this moves it back.
    fn give_back(&self, interval: Duration) {
        let refund = |whole_at: Option<Nanos>| -> Result<((), Nanos), ()> {
            whole_at.map(|whole_at| ((), whole_at.saturating_sub(interval.into()))).ok_or(())
        };
        // An error only says that nothing was ever taken.
        let _ = self.0.measure_and_replace(&NotKeyed::NonKey, refund);
    }
}

impl StateStore for Refundable {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, key: &NotKeyed, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0.measure_and_replace(key, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    const LONG: Duration = Duration::from_secs(9);
    const ANSWERED: Result<(), Failure> = Ok(());

    fn limits(text: &str) -> (Limits, Clock) {
        let settings = Sources::default().load_text(&format!("[model]\n{text}")).expect("loads").settings;
        let clock = Clock::manual();
        (Limits::new(&settings.model, clock.clone()), clock)
    }

    fn failed() -> Result<(), Failure> {
        Err(Failure::Error("x".to_owned()))
    }

    fn call(limits: &Limits, result: &Result<(), Failure>) {
        limits.admit("s").expect("admitted").settle(result, LONG);
    }

    fn refusal(limits: &Limits, session: &str) -> Option<Failure> {
        limits.admit(session).err()
    }

    fn opened() -> (Limits, Clock) {
        let (limits, clock) = limits("max_concurrency = 3\nbreaker = { failures = 3, open_s = 10 }");
        for _ in 0..3 {
            assert_eq!(limits.breaker_state(), BreakerState::Closed);
            call(&limits, &failed());
        }
        assert_eq!(limits.breaker_state(), BreakerState::Open);
        (limits, clock)
    }

    #[test]
    fn a_call_without_a_free_slot_is_overloaded_at_once() {
        let (limits, _) = limits("max_concurrency = 2\nbudget = { per_session_per_minute = 3, per_minute = 9 }");
        let first = limits.admit("s").expect("a slot");
        let second = limits.admit("s").expect("a slot");
        for _ in 0..5 {
            assert_eq!(refusal(&limits, "s"), Some(Failure::Overloaded));
        }
        drop((first, second));
        assert_eq!(refusal(&limits, "s"), None, "what was overloaded took nothing from the budget");
        assert_eq!(refusal(&limits, "s"), Some(Failure::RateLimited));
    }

    #[test]
    fn budgets_refill_evenly_over_a_minute() {
        let (limits, clock) = limits("budget = { per_session_per_minute = 2, per_minute = 3 }");
        assert_eq!(refusal(&limits, "a"), None);
        assert_eq!(refusal(&limits, "a"), None);
        assert_eq!(refusal(&limits, "a"), Some(Failure::RateLimited));
        assert_eq!(refusal(&limits, "b"), None, "another session has its own, and the refused call was given back");
        assert_eq!(refusal(&limits, "c"), Some(Failure::RateLimited), "all together");
        clock.advance(Duration::from_millis(19_999));
        assert_eq!(refusal(&limits, "c"), Some(Failure::RateLimited));
        clock.advance(Duration::from_millis(1));
        assert_eq!(refusal(&limits, "a"), Some(Failure::RateLimited), "a session's is two a minute");
        assert_eq!(refusal(&limits, "c"), None);
        assert_eq!(refusal(&limits, "c"), Some(Failure::RateLimited), "the common budget refuses");
        clock.advance(Duration::from_secs(600));
        let admitted = (0..9).filter(|_| refusal(&limits, "c").is_none()).count();
        assert_eq!(admitted, 2, "nothing is saved up, and what the common budget refused was not taken from the session's");
        assert_eq!(refusal(&limits, "d"), None);
        assert_eq!(refusal(&limits, "d"), Some(Failure::RateLimited));
    }

    #[test]
    fn a_noisy_session_does_not_use_up_what_belongs_to_all() {
        let (limits, _) = limits("budget = { per_session_per_minute = 1, per_minute = 5 }");
        assert_eq!(refusal(&limits, "noisy"), None);
        for _ in 0..1000 {
            assert_eq!(refusal(&limits, "noisy"), Some(Failure::RateLimited));
        }
        for session in ["a", "b", "c", "d"] {
            assert_eq!(refusal(&limits, session), None, "{session}");
        }
        assert_eq!(refusal(&limits, "e"), Some(Failure::RateLimited));
    }

    #[test]
    fn sessions_are_forgotten() {
        let (limits, clock) = limits("budget = { per_session_per_minute = 20, per_minute = 600 }");
        for second in 0..3600 {
            for call in 0..20 {
                let _ = limits.admit(&format!("{second} {call}"));
            }
            clock.advance(Duration::from_secs(1));
            assert!(limits.budgets.sessions.len() <= 1800, "{}", limits.budgets.sessions.len());
        }
        assert!(limits.budgets.sessions.len() >= 500, "those of the last minute are there");
    }

    #[test]
    fn failures_in_a_row_open_the_breaker_and_an_answer_resets_the_count() {
        let (limits, clock) = limits("breaker = { failures = 3, open_s = 10 }");
        let invalid = Err(Failure::InvalidOutput("x".to_owned()));
        for result in [failed(), failed(), ANSWERED, failed(), Err(Failure::Timeout), invalid, failed(), Err(Failure::Timeout)] {
            call(&limits, &result);
            assert_eq!(limits.breaker_state(), BreakerState::Closed);
        }
        call(&limits, &failed());
        assert_eq!(limits.breaker_state(), BreakerState::Open);
        assert_eq!(refusal(&limits, "s"), Some(Failure::CircuitOpen));
        clock.advance(Duration::from_millis(9_999));
        assert_eq!(refusal(&limits, "s"), Some(Failure::CircuitOpen));
        assert_eq!(limits.breaker_state(), BreakerState::Open);
    }

    #[test]
    fn what_an_open_breaker_refuses_takes_no_budget() {
        let (limits, clock) =
            limits("breaker = { failures = 1, open_s = 1 }\nbudget = { per_session_per_minute = 2, per_minute = 9 }");
        call(&limits, &failed());
        for _ in 0..50 {
            assert_eq!(refusal(&limits, "s"), Some(Failure::CircuitOpen));
        }
        clock.advance(Duration::from_secs(1));
        let probe = limits.admit("s").expect("the budget has one left");
        for _ in 0..50 {
            assert_eq!(refusal(&limits, "t"), Some(Failure::CircuitOpen));
        }
        probe.settle(&ANSWERED, LONG);
        assert_eq!(refusal(&limits, "s"), Some(Failure::RateLimited));
        assert_eq!((refusal(&limits, "t"), refusal(&limits, "t")), (None, None));
    }

    #[test]
    fn one_probe_goes_through_and_its_answer_closes() {
        let (limits, clock) = opened();
        clock.advance(Duration::from_secs(10));
        assert_eq!(limits.breaker_state(), BreakerState::HalfOpen);
        let probe = limits.admit("s").expect("the probe");
        assert_eq!(refusal(&limits, "s"), Some(Failure::CircuitOpen), "only one");
        assert_eq!(limits.breaker_state(), BreakerState::HalfOpen);
        probe.settle(&ANSWERED, LONG);
        assert_eq!(limits.breaker_state(), BreakerState::Closed);
        call(&limits, &failed());
        call(&limits, &failed());
        assert_eq!(limits.breaker_state(), BreakerState::Closed, "the count began anew");
    }

    #[test]
    fn a_failed_probe_opens_for_the_whole_time_again() {
        let (limits, clock) = opened();
        clock.advance(Duration::from_secs(60));
        call(&limits, &failed());
        assert_eq!(limits.breaker_state(), BreakerState::Open);
        clock.advance(Duration::from_millis(9_999));
        assert_eq!(refusal(&limits, "s"), Some(Failure::CircuitOpen));
        clock.advance(Duration::from_millis(1));
        call(&limits, &ANSWERED);
        assert_eq!(limits.breaker_state(), BreakerState::Closed);
    }

    #[test]
    fn a_probe_without_a_result_frees_its_place() {
        let (limits, clock) = opened();
        clock.advance(Duration::from_secs(10));
        drop(limits.admit("s").expect("the probe"));
        assert_eq!(limits.breaker_state(), BreakerState::HalfOpen);
        let impatient = limits.admit("s").expect("the next probe");
        impatient.settle(&Err::<(), _>(Failure::Timeout), Duration::from_millis(1));
        let probe = limits.admit("s").expect("an unfair timeout says nothing either");
        assert_eq!(refusal(&limits, "s"), Some(Failure::CircuitOpen));
        probe.settle(&ANSWERED, LONG);
        assert_eq!(limits.breaker_state(), BreakerState::Closed);
    }

    #[test]
    fn a_probe_that_the_budget_refuses_frees_its_place() {
        let (limits, clock) =
            limits("breaker = { failures = 1, open_s = 1 }\nbudget = { per_session_per_minute = 1, per_minute = 9 }");
        call(&limits, &failed());
        clock.advance(Duration::from_secs(1));
        assert_eq!(refusal(&limits, "s"), Some(Failure::RateLimited));
        limits.admit("t").expect("the probe").settle(&ANSWERED, LONG);
        assert_eq!(limits.breaker_state(), BreakerState::Closed);
    }

    #[test]
    fn stragglers_do_not_pass_for_the_probe() {
        let (limits, clock) = limits("breaker = { failures = 1, open_s = 1 }");
        let [late_answer, late_failure, dropped] = [(); 3].map(|()| limits.admit("s").expect("closed"));
        call(&limits, &failed());
        late_answer.settle(&ANSWERED, LONG);
        assert_eq!(limits.breaker_state(), BreakerState::Open);
        clock.advance(Duration::from_secs(1));
        let probe = limits.admit("s").expect("the probe");
        late_failure.settle(&failed(), LONG);
        drop(dropped);
        assert_eq!(refusal(&limits, "s"), Some(Failure::CircuitOpen), "the probe is still under way");
        probe.settle(&ANSWERED, LONG);
        assert_eq!(limits.breaker_state(), BreakerState::Closed);
    }

    #[test]
    fn impatient_callers_do_not_open_the_breaker() {
        let timeout = Err::<(), _>(Failure::Timeout);
        for (timeout_ms, fair_ms) in [(1500, 250), (400, 200)] {
            let (limits, _) = limits(&format!("timeout_ms = {timeout_ms}\nbreaker = {{ failures = 1, open_s = 1 }}"));
            for _ in 0..5 {
                limits.admit("s").expect("closed").settle(&timeout, Duration::from_millis(fair_ms - 1));
            }
            assert_eq!(limits.breaker_state(), BreakerState::Closed);
            limits.admit("s").expect("closed").settle(&timeout, Duration::from_millis(fair_ms));
            assert_eq!(limits.breaker_state(), BreakerState::Open);
        }
    }

    #[test]
    fn of_many_at_one_instant_exactly_one_is_the_probe() {
        let (limits, clock) = opened();
        clock.advance(Duration::from_secs(10));
        let admitted: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| limits.admit("s").ok())).collect();
            threads.into_iter().filter_map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(admitted.len(), 1);
    }

    #[test]
    fn states_have_words() {
        assert_eq!(BreakerState::ALL.map(BreakerState::as_str), ["closed", "open", "half_open"]);
    }
}
