//! Time as an argument: windows and budgets read it from here, so tests move it by hand instead of sleeping.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A monotonic clock with millisecond steps.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clock, counted from the given moment.
    System(Instant),
    /// A clock that only moves when it is told to.
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::System(Instant::now())
    }

    /// A clock that stands still until [`Clock::advance`].
    #[must_use]
    pub fn manual() -> Self {
        Self::Manual(Arc::new(AtomicU64::new(0)))
    }

    /// Milliseconds since the clock was made.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        match self {
            Self::System(start) => start.elapsed().as_millis() as u64,
            Self::Manual(now) => now.load(Ordering::SeqCst),
        }
    }

    /// Moves a manual clock on; the machine's clock moves by itself.
    pub fn advance(&self, by: Duration) {
        if let Self::Manual(now) = self {
            now.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
        }
    }
}

/// The model budgets count on the same clock.
impl governor::clock::Clock for Clock {
    type Instant = governor::nanos::Nanos;

    fn now(&self) -> Self::Instant {
        Duration::from_millis(self.now_ms()).into()
    }
}
