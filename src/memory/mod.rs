//! What is remembered between requests: decisions by message id, albums, accepted texts, acks. All of it bounded, all of it in this
//! process; what is forgotten costs a repeated ack or a missed duplicate, never a message.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::sync::OnceCell;
use xxhash_rust::xxh3::Xxh3;

use crate::clock::Clock;
use crate::protocol::{Action, Decision, RouteRequest};

/// Bytes that remembered decisions may take, estimated; about 25,000 decisions.
const REPLAY_BYTES: u64 = 18 << 20;
/// Bytes that accepted texts may take, estimated; only a hash and the message id of each is kept.
const TEXT_BYTES: u64 = 6 << 20;
/// Albums and acks that are remembered.
const SMALL_ENTRIES: u64 = 10_000;
/// What one remembered decision takes besides its texts: the struct, its short strings and the cache's own entry, estimated on the safe side.
const DECISION_BYTES: usize = 700;
/// What one accepted text takes besides its message id.
const TEXT_ENTRY_BYTES: usize = 200;

/// A decision that is made once, however many ask for it at the same time: the first makes it, the others wait for it, and if the first
/// goes away before it is done the next one takes over.
#[derive(Debug)]
pub struct Flight<T> {
    started_ms: u64,
    weight: u32,
    /// The outcome, once there is one.
    pub outcome: OnceCell<T>,
}

/// A message text that was accepted, or is about to be.
#[derive(Debug)]
struct Accepted {
    at_ms: u64,
    message_id: Option<Box<str>>,
}

/// A bounded cache in which of many callers at one instant exactly one puts a value under a key.
///
/// The cache's own `entry` promises that too, but keeps a table of waiters for values that take long to make. These do not: a lock over
/// looking up and inserting does.
#[derive(Debug)]
struct Slots<V: Clone + Send + Sync + 'static> {
    cache: Cache<u128, V, BuildHasherDefault<KeyHasher>>,
    locks: [Mutex<()>; LOCKS],
}

/// Keys share so many locks; each is held for one look-up and one insertion.
const LOCKS: usize = 64;

impl<V: Clone + Send + Sync + 'static> Slots<V> {
    /// Room for so many bytes or entries, as `weigh` counts them.
    fn new(capacity: u64, weigh: impl Fn(&V) -> u32 + Send + Sync + 'static) -> Self {
        // Least recently used goes first: the default policy may refuse a new entry in favour of a popular old one, and the newest
        // decision is the one that is redelivered.
        let cache =
            Cache::builder().eviction_policy(EvictionPolicy::lru()).weigher(move |_, value| weigh(value)).max_capacity(capacity);
        Self { cache: cache.build_with_hasher(BuildHasherDefault::default()), locks: std::array::from_fn(|_| Mutex::default()) }
    }

    fn get(&self, key: u128) -> Option<V> {
        self.cache.get(&key)
    }

    /// The value under the key and whether it is the one that `make` made: it is made where there is none that `still_holds`.
    fn get_or_put(&self, key: u128, still_holds: impl Fn(&V) -> bool, make: impl FnOnce() -> V) -> (V, bool) {
        let _lock = self.lock(key);
        if let Some(value) = self.cache.get(&key).filter(still_holds) {
            return (value, false);
        }
        let value = make();
        self.cache.insert(key, value.clone());
        (value, true)
    }

    fn remove_if(&self, key: u128, is_it: impl Fn(&V) -> bool) {
        let _lock = self.lock(key);
        if self.cache.get(&key).is_some_and(|value| is_it(&value)) {
            self.cache.invalidate(&key);
        }
    }

    fn lock(&self, key: u128) -> impl Drop {
        self.locks[key as usize % LOCKS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keys are hashes already, see [`hash_parts`]; to hash them again would only cost time.
#[derive(Clone, Copy, Debug, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxhash_rust::xxh3::xxh3_64(bytes);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The memory of one router.
#[derive(Debug)]
pub struct Memory {
    clock: Clock,
    replays: Slots<Arc<Flight<Arc<Decision>>>>,
    albums: Slots<Arc<Flight<Action>>>,
    texts: Arc<Slots<Arc<Accepted>>>,
    acks: Slots<u64>,
}

/// What came of the attempt to be the one message with a text.
#[derive(Debug)]
pub enum Claim {
    /// This message is the one; the ticket must be kept once it is accepted.
    Won(Ticket),
    /// Another message with this text was there before; its id, if it has one.
    Duplicate(Option<String>),
}

/// The right to be the one message with a text. Dropped without [`Ticket::keep`], because the message was not accepted or its caller
/// went away, it frees the text for the next message: else a retry would be taken for a duplicate and lost.
#[derive(Debug)]
pub struct Ticket {
    texts: Arc<Slots<Arc<Accepted>>>,
    key: u128,
    entry: Arc<Accepted>,
    kept: bool,
}

impl Ticket {
    /// The message was accepted: the same text is a duplicate from now on.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.kept {
            self.texts.remove_if(self.key, |current| Arc::ptr_eq(current, &self.entry));
        }
    }
}

impl Memory {
    /// An empty memory that counts its windows on `clock`.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let text_bytes =
            |accepted: &Arc<Accepted>| weight(TEXT_ENTRY_BYTES + accepted.message_id.as_ref().map_or(0, |id| id.len()));
        Self {
            clock,
            replays: Slots::new(REPLAY_BYTES, |flight: &Arc<Flight<_>>| flight.weight),
            albums: Slots::new(SMALL_ENTRIES, |_| 1),
            texts: Arc::new(Slots::new(TEXT_BYTES, text_bytes)),
            acks: Slots::new(SMALL_ENTRIES, |_| 1),
        }
    }

    /// The decision on a message id that was asked for before within the window, finished or under way.
    #[must_use]
    pub fn decided(&self, request: &RouteRequest, message_id: &str, window_s: u64) -> Option<Arc<Flight<Arc<Decision>>>> {
        let flight = self.replays.get(session_key(request, "message", message_id))?;
        self.within(flight.started_ms, window_s).then_some(flight)
    }

    /// The one decision on a message id within the window.
    #[must_use]
    pub fn decision_of(&self, request: &RouteRequest, message_id: &str, window_s: u64) -> Arc<Flight<Arc<Decision>>> {
        let key = session_key(request, "message", message_id);
        // A command's arguments are remembered, so the text bounds what an entry can take.
        let weight = weight(DECISION_BYTES + message_id.len() + request.message.text.len());
        self.flight(&self.replays, key, weight, window_s)
    }

    /// The one decision on an album within the window.
    #[must_use]
    pub fn album(&self, request: &RouteRequest, album_id: &str, window_s: u64) -> Arc<Flight<Action>> {
        self.flight(&self.albums, session_key(request, "album", album_id), 1, window_s)
    }

    fn flight<T>(&self, flights: &Slots<Arc<Flight<T>>>, key: u128, weight: u32, window_s: u64) -> Arc<Flight<T>>
    where
        T: Send + Sync + 'static,
    {
        let make = || Arc::new(Flight { started_ms: self.clock.now_ms(), weight, outcome: OnceCell::new() });
        flights.get_or_put(key, |flight| self.within(flight.started_ms, window_s), make).0
    }

    /// The id of the message that `identity` repeats: `Some(None)` when that message had no id.
    #[must_use]
    pub fn repeats(&self, request: &RouteRequest, identity: &str, window_s: u64) -> Option<Option<String>> {
        let accepted = self.texts.get(text_key(request, identity))?;
        self.within(accepted.at_ms, window_s).then(|| accepted.message_id.as_deref().map(str::to_owned))
    }

    /// Tries to be the one message with this text within the window.
    #[must_use]
    pub fn claim(&self, request: &RouteRequest, identity: &str, window_s: u64) -> Claim {
        let key = text_key(request, identity);
        let make = || Arc::new(Accepted { at_ms: self.clock.now_ms(), message_id: request.message.id.as_deref().map(Box::from) });
        match self.texts.get_or_put(key, |accepted| self.within(accepted.at_ms, window_s), make) {
            (entry, true) => Claim::Won(Ticket { texts: self.texts.clone(), key, entry, kept: false }),
            (entry, false) => Claim::Duplicate(entry.message_id.as_deref().map(str::to_owned)),
        }
    }

    /// Whether an ack of this action may be shown to the session now; if so, the cool-down begins.
    #[must_use]
    pub fn may_ack(&self, request: &RouteRequest, action: Action, cooldown_s: u64) -> bool {
        let now = self.clock.now_ms();
        let key = session_key(request, "ack", action.as_str());
        self.acks.get_or_put(key, |shown_ms| self.within(*shown_ms, cooldown_s), || now).1
    }

    /// Whether a moment lies less than the window back; nothing does in a window of 0.
    fn within(&self, then_ms: u64, window_s: u64) -> bool {
        self.clock.now_ms().saturating_sub(then_ms) < window_s.saturating_mul(1_000)
    }
}

fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// A key of 128 bits: no two texts of a deployment's lifetime will share one by accident.
fn hash_parts(parts: &[&str]) -> u128 {
    let mut hasher = Xxh3::new();
    for part in parts {
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.digest128()
}

fn session_key(request: &RouteRequest, kind: &str, id: &str) -> u128 {
    hash_parts(&[kind, &request.session.gateway, &request.session.id, id])
}

/// Who said what to what: the same words in reply to something else are another message.
fn text_key(request: &RouteRequest, identity: &str) -> u128 {
    let reply = request.message.reply_to.as_ref();
    let reply_id = reply.and_then(|reply| reply.id.as_deref());
    let reply_text = reply.and_then(|reply| reply.text.as_deref());
    hash_parts(&[
        "text",
        &request.session.gateway,
        &request.session.id,
        request.message.sender_id.as_deref().unwrap_or_default(),
        reply_id.unwrap_or_default(),
        reply_text.unwrap_or_default(),
        identity,
    ])
}
