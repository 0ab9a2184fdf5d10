//! A bounded map that forgets what was used longest ago.

use std::fmt;
use std::hash::BuildHasherDefault;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashlink::LinkedHashMap;

use crate::keys::KeyHasher;

/// Parts with a lock of their own, so that threads seldom wait for each other.
const PARTS: usize = 16;

/// Values by key, up to a weight: bytes or entries, whatever the caller counts. Every method is one atomic step; the closures that it
/// takes run under a lock and must be short.
///
/// A concurrent cache was tried first. Its upkeep took several microseconds for each entry that came and went, and most messages leave three.
pub(crate) struct Recent<V> {
    parts: [Mutex<Part<V>>; PARTS],
    part_weight: u64,
}

struct Part<V> {
    /// Used last comes last.
    entries: LinkedHashMap<u128, (V, u32), BuildHasherDefault<KeyHasher>>,
    weight: u64,
}

impl<V: Clone> Recent<V> {
    /// Room for so much weight, in equal parts: keys spread evenly, being hashes.
    pub(crate) fn new(max_weight: u64) -> Self {
        let part = |_| Mutex::new(Part { entries: LinkedHashMap::default(), weight: 0 });
        Self { parts: std::array::from_fn(part), part_weight: max_weight.div_ceil(PARTS as u64) }
    }

    /// The value of a key, which is used by that.
    pub(crate) fn get(&self, key: u128) -> Option<V> {
        self.part(key).entries.to_back(&key).map(|(value, _)| value.clone())
    }

    /// The value of a key and whether this call made it: it is made where there is none that `still_holds`.
    pub(crate) fn get_or_put(
        &self,
        key: u128,
        weight: u32,
        still_holds: impl FnOnce(&V) -> bool,
        make: impl FnOnce() -> V,
    ) -> (V, bool) {
        let mut part = self.part(key);
        if let Some((value, _)) = part.entries.to_back(&key)
            && still_holds(value)
        {
            return (value.clone(), false);
        }
        let value = make();
        part.weight += u64::from(weight);
        if let Some((_, weight)) = part.entries.insert(key, (value.clone(), weight)) {
            part.weight -= u64::from(weight);
        }
        while part.weight > self.part_weight
            && let Some((_, (_, weight))) = part.entries.pop_front()
        {
            part.weight -= u64::from(weight);
        }
        (value, true)
    }

    /// Forgets a key if its value is the one that is meant.
    pub(crate) fn remove_if(&self, key: u128, is_meant: impl FnOnce(&V) -> bool) {
        let mut part = self.part(key);
        if part.entries.get(&key).is_some_and(|(value, _)| is_meant(value))
            && let Some((_, weight)) = part.entries.remove(&key)
        {
            part.weight -= u64::from(weight);
        }
    }

    /// How many values there are.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.parts.iter().map(|part| lock(part).entries.len()).sum()
    }

    fn part(&self, key: u128) -> MutexGuard<'_, Part<V>> {
        // The map uses the lower half.
        lock(&self.parts[(key >> 64) as usize % PARTS])
    }
}

fn lock<V>(part: &Mutex<Part<V>>) -> MutexGuard<'_, Part<V>> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<V> fmt::Debug for Recent<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recent").field("part_weight", &self.part_weight).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLDS: fn(&u64) -> bool = |_| true;

    #[test]
    fn the_first_value_stays_until_it_no_longer_holds() {
        let recent = Recent::new(160);
        assert_eq!(recent.get(1), None);
        assert_eq!(recent.get_or_put(1, 1, HOLDS, || 5), (5, true));
        assert_eq!(recent.get_or_put(1, 1, HOLDS, || 6), (5, false));
        assert_eq!(recent.get_or_put(1, 1, |value| *value != 5, || 7), (7, true));
        assert_eq!((recent.get(1), recent.count()), (Some(7), 1));
    }

    #[test]
    fn only_the_value_that_is_meant_is_removed() {
        let recent = Recent::new(160);
        recent.get_or_put(1, 1, HOLDS, || 5);
        recent.remove_if(1, |value| *value == 6);
        assert_eq!(recent.get(1), Some(5));
        recent.remove_if(1, |value| *value == 5);
        recent.remove_if(1, |_| true);
        assert_eq!((recent.get(1), recent.count()), (None, 0));
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        // Small keys are all of one part, which forgets for itself.
        let recent = Recent::new(3 * PARTS as u64);
        for key in 1..=3 {
            recent.get_or_put(key, 1, HOLDS, || key as u64);
        }
        assert_eq!(recent.get(1), Some(1));
        recent.get_or_put(2, 1, HOLDS, || 0);
        recent.get_or_put(4, 1, HOLDS, || 4);
        assert_eq!([1, 2, 3, 4].map(|key| recent.get(key)), [Some(1), Some(2), None, Some(4)]);
    }

    #[test]
    fn weights_are_kept_whatever_happens() {
        let recent = Recent::new(100 * PARTS as u64);
        for n in 0..9_000_u64 {
            let weight = n as u32 % 50 + 1;
            recent.get_or_put(u128::from(n % 70), weight, |value| value % 3 == 0, || n);
            if n % 7 == 0 {
                recent.remove_if(u128::from(n % 90), |_| true);
            }
            let part = lock(&recent.parts[0]);
            assert_eq!(part.weight, part.entries.values().map(|(_, weight)| u64::from(*weight)).sum::<u64>());
            assert!(part.weight <= 100, "{}", part.weight);
        }
        recent.get_or_put(1_000, 101, HOLDS, || 0);
        assert_eq!(recent.count(), 0, "what is too heavy for all is not kept");
    }

    #[test]
    fn of_many_at_one_instant_exactly_one_makes_the_value() {
        let recent = Recent::new(1_000_000);
        for key in 0..200 {
            let made: usize = std::thread::scope(|scope| {
                let put = |caller| recent.get_or_put(key, 1, HOLDS, || caller).1;
                let callers: Vec<_> = (0..4).map(|caller| scope.spawn(move || put(caller))).collect();
                callers.into_iter().map(|caller| usize::from(caller.join().expect("no panic"))).sum()
            });
            assert_eq!(made, 1);
        }
    }
}
