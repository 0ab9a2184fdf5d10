//! So many questions a minute and no more: endpoints bill, and limit, by the minute.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Spreads questions evenly. A place that was taken and not needed, because a guard decided, is given back.
#[derive(Debug)]
pub struct Pace {
    interval: Duration,
    next: Mutex<Instant>,
    given_back: Notify,
}

impl Pace {
    /// At most `per_minute` questions a minute.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        let interval = Duration::from_secs(60) / per_minute.max(1);
        Self { interval, next: Mutex::new(Instant::now()), given_back: Notify::new() }
    }

    /// Waits until the next question may be asked, and takes its place.
    pub async fn take(&self) {
        loop {
            let given_back = self.given_back.notified();
            let free_at = {
                let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
                let now = Instant::now();
                if *next <= now {
                    // Time in which nothing was asked is not made up for by a burst.
                    *next = (*next).max(now.checked_sub(self.interval).unwrap_or(now)) + self.interval;
                    return;
                }
                *next
            };
            tokio::select! {
                () = sleep_until(free_at) => {}
                () = given_back => {}
            }
        }
    }

    /// Gives a place back.
    pub fn give_back(&self) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = next.checked_sub(self.interval).unwrap_or(*next);
        drop(next);
        self.given_back.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn questions_are_spread_and_places_given_back() {
        // 6,000 a minute: 10 ms each.
        let pace = Pace::new(6_000);
        let started = Instant::now();
        for _ in 0..6 {
            pace.take().await;
        }
        assert!(started.elapsed() >= Duration::from_millis(40), "{:?}", started.elapsed());

        let pace = Pace::new(1);
        let started = Instant::now();
        for _ in 0..100 {
            pace.take().await;
            pace.give_back();
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    }
}
