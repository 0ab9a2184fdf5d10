//! What is remembered of tasks: the first terminal status of each, and which completions were delivered.
//!
//! Both are firsts that stay: whoever comes first writes, everybody later reads. Memory is bounded; when it is full the entry
//! that was asked for longest ago goes.

use crate::keys::hash_parts;
use crate::memory::Recent;
use crate::protocol::{EvidenceSource, TaskStatus};

/// How many tasks, and how many deliveries, are remembered by default: some ten megabytes when full.
pub const DEFAULT_CAPACITY: u64 = 65_536;

/// How a task ended, as it was first found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its terminal status.
    pub status: TaskStatus,
    /// The source that said so.
    pub decided_by: Option<EvidenceSource>,
}

/// What is remembered of tasks. Cheap to share; safe to use from many threads.
#[derive(Debug)]
pub struct TaskMemory {
    ended: Firsts<Ended>,
    delivered: Firsts<()>,
}

impl Default for TaskMemory {
    fn default() -> Self {
        Self::new(DEFAULT_CAPACITY)
    }
}

impl TaskMemory {
    /// An empty memory for `capacity` tasks and as many deliveries.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self { ended: Firsts::new(capacity), delivered: Firsts::new(capacity) }
    }

    /// How the task ended, if it was found terminal before.
    #[must_use]
    pub fn ended(&self, task_id: &str, session_id: Option<&str>) -> Option<Ended> {
        self.ended.get(&Scope::new(&[task_id], session_id))
    }

    /// Remembers how the task ended, unless that is known already; returns what is remembered now, and whether this call wrote
    /// it.
    #[must_use]
    pub fn end(&self, task_id: &str, session_id: Option<&str>, ended: Ended) -> (Ended, bool) {
        self.ended.put(&Scope::new(&[task_id], session_id), ended)
    }

    /// Whether this completion was delivered before. The parts say which one it is.
    #[must_use]
    pub fn is_delivered(&self, completion: &[&str], session_id: Option<&str>) -> bool {
        self.delivered.get(&Scope::new(completion, session_id)).is_some()
    }

    /// Claims the delivery of this completion: true for exactly one of any number of callers.
    #[must_use]
    pub fn claim(&self, completion: &[&str], session_id: Option<&str>) -> bool {
        self.delivered.put(&Scope::new(completion, session_id), ()).1
    }
}

/// A name, and the session that it belongs to where the caller said so.
///
/// Ids of tasks are unique in some systems and unique within a session in others. So a name that is known with a session holds
/// for that session and for callers that name none, and a name that is known without a session holds for all: two sessions' tasks
/// do not mix, and leaving the session out once brings nothing back to life.
#[derive(Clone, Copy, Debug)]
struct Scope {
    /// Key of the name alone.
    name: u128,
    /// Key of the name within the session.
    within: Option<u128>,
}

impl Scope {
    fn new(parts: &[&str], session_id: Option<&str>) -> Self {
        let within = |session_id| {
            let mut parts = parts.to_vec();
            parts.push(session_id);
            hash_parts(&parts)
        };
        Self { name: hash_parts(parts), within: session_id.map(within) }
    }
}

/// One remembered value, and whose it is: a session's, or everybody's.
#[derive(Clone, Copy, Debug)]
struct First<V> {
    within: Option<u128>,
    value: V,
}

impl<V> First<V> {
    fn holds_for(&self, scope: &Scope) -> bool {
        self.within.is_none() || scope.within.is_none() || self.within == scope.within
    }
}

/// Values by scope, of which the first stays.
///
/// The first caller of a name takes the name's own entry, with or without a session; only callers of other sessions get entries
/// of their own. Each step is one atomic insertion, so no two callers for whom the same entry holds are both the first.
#[derive(Debug)]
struct Firsts<V> {
    values: Recent<First<V>>,
}

impl<V: Clone> Firsts<V> {
    fn new(capacity: u64) -> Self {
        Self { values: Recent::new(capacity) }
    }

    fn get(&self, scope: &Scope) -> Option<V> {
        let own = || scope.within.and_then(|within| self.values.get(within));
        self.values.get(scope.name).filter(|first| first.holds_for(scope)).or_else(own).map(|first| first.value)
    }

    fn put(&self, scope: &Scope, value: V) -> (V, bool) {
        let first = First { within: scope.within, value };
        let put = |key| self.values.get_or_put(key, 1, |_| true, || first.clone());
        let (known, is_first) = match (put(scope.name), scope.within) {
            ((known, false), Some(within)) if !known.holds_for(scope) => put(within),
            (entry, _) => entry,
        };
        (known.value, is_first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPLETED: Ended = Ended { status: TaskStatus::Completed, decided_by: Some(EvidenceSource::Session) };
    const FAILED: Ended = Ended { status: TaskStatus::Failed, decided_by: None };

    #[test]
    fn the_first_end_stays() {
        let memory = TaskMemory::default();
        assert_eq!(memory.ended("t", None), None);
        assert_eq!(memory.end("t", None, COMPLETED), (COMPLETED, true));
        assert_eq!(memory.end("t", None, FAILED), (COMPLETED, false));
        assert_eq!(memory.ended("t", None), Some(COMPLETED));
    }

    #[test]
    fn sessions_do_not_mix() {
        let memory = TaskMemory::default();
        assert!(memory.end("t", Some("a"), COMPLETED).1);
        assert_eq!(memory.ended("t", Some("b")), None);
        assert_eq!(memory.end("t", Some("b"), FAILED), (FAILED, true));
        assert_eq!(memory.ended("t", Some("a")), Some(COMPLETED));
        assert_eq!(memory.ended("t", Some("b")), Some(FAILED));
        assert_eq!(memory.end("t", Some("b"), COMPLETED), (FAILED, false));
    }

    #[test]
    fn leaving_the_session_out_brings_nothing_back_to_life() {
        let memory = TaskMemory::default();
        assert!(memory.end("known with a session", Some("a"), COMPLETED).1);
        assert_eq!(memory.ended("known with a session", None), Some(COMPLETED));
        assert_eq!(memory.end("known with a session", None, FAILED), (COMPLETED, false));
        assert_eq!(memory.ended("known with a session", Some("b")), None, "a caller without a session changes nothing");

        assert!(memory.end("known without", None, FAILED).1);
        assert_eq!(memory.ended("known without", Some("a")), Some(FAILED));
        assert_eq!(memory.end("known without", Some("b"), COMPLETED), (FAILED, false));
    }

    #[test]
    fn names_do_not_run_together() {
        let memory = TaskMemory::default();
        assert!(memory.claim(&["ab", "c"], None));
        assert!(memory.claim(&["a", "bc"], None));
        assert!(memory.claim(&["a", "b"], Some("c")));
        assert!(memory.claim(&["a", "b", "c"], None));
        assert!(!memory.claim(&["a", "bc"], None));
    }

    #[test]
    fn one_of_many_callers_claims() {
        let memory = TaskMemory::default();
        for round in 0..50 {
            let name = format!("t{round}");
            // Callers with the session, and callers that leave it out: they all mean one task.
            let claims: usize = std::thread::scope(|threads| {
                let callers: Vec<_> = (0..8)
                    .map(|caller| {
                        let (memory, name) = (&memory, &name);
                        threads.spawn(move || memory.claim(&[name], (caller % 2 == 0).then_some("a")))
                    })
                    .collect();
                callers.into_iter().map(|caller| usize::from(caller.join().expect("no panic"))).sum()
            });
            assert_eq!(claims, 1, "{name}");
        }
    }

    #[test]
    fn memory_is_bounded_and_forgets_the_oldest() {
        let memory = TaskMemory::new(160);
        for task in 0..10_000 {
            assert!(memory.end(&format!("t{task}"), Some("s"), COMPLETED).1);
        }
        assert!(memory.ended.values.count() <= 160);
        assert_eq!(memory.ended("t9999", Some("s")), Some(COMPLETED));
        assert_eq!(memory.ended("t0", Some("s")), None);
    }
}
