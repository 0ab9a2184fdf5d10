//! What is remembered between requests: decisions by message id, albums, accepted texts, acks. All of it bounded, all of it in this
//! process; what is forgotten costs a repeated ack or a missed duplicate, never a message.

mod recent;

use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::clock::Clock;
use crate::keys::hash_parts;
use crate::protocol::{Action, Decision, RouteRequest};
pub(crate) use recent::Recent;

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
    /// The outcome, once there is one.
    pub outcome: OnceCell<T>,
}

/// A message text that was accepted, or is about to be.
#[derive(Debug)]
struct Accepted {
    at_ms: u64,
    message_id: Option<Box<str>>,
}

/// The memory of one router.
#[derive(Debug)]
pub struct Memory {
    clock: Clock,
    replays: Recent<Arc<Flight<Arc<Decision>>>>,
    albums: Recent<Arc<Flight<Action>>>,
    texts: Arc<Recent<Arc<Accepted>>>,
    acks: Recent<u64>,
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
    texts: Arc<Recent<Arc<Accepted>>>,
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
        Self {
            clock,
            replays: Recent::new(REPLAY_BYTES),
            albums: Recent::new(SMALL_ENTRIES),
            texts: Arc::new(Recent::new(TEXT_BYTES)),
            acks: Recent::new(SMALL_ENTRIES),
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

    fn flight<T>(&self, flights: &Recent<Arc<Flight<T>>>, key: u128, weight: u32, window_s: u64) -> Arc<Flight<T>> {
        let make = || Arc::new(Flight { started_ms: self.clock.now_ms(), outcome: OnceCell::new() });
        flights.get_or_put(key, weight, |flight| self.within(flight.started_ms, window_s), make).0
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
        let weight = weight(TEXT_ENTRY_BYTES + request.message.id.as_ref().map_or(0, String::len));
        match self.texts.get_or_put(key, weight, |accepted| self.within(accepted.at_ms, window_s), make) {
            (entry, true) => Claim::Won(Ticket { texts: self.texts.clone(), key, entry, kept: false }),
            (entry, false) => Claim::Duplicate(entry.message_id.as_deref().map(str::to_owned)),
        }
    }

    /// Whether an ack of this action may be shown to the session now; if so, the cool-down begins.
    #[must_use]
    pub fn may_ack(&self, request: &RouteRequest, action: Action, cooldown_s: u64) -> bool {
        let now = self.clock.now_ms();
        let key = session_key(request, "ack", action.as_str());
        self.acks.get_or_put(key, 1, |shown_ms| self.within(*shown_ms, cooldown_s), || now).1
    }

    /// Whether a moment lies less than the window back; nothing does in a window of 0.
    fn within(&self, then_ms: u64, window_s: u64) -> bool {
        self.clock.now_ms().saturating_sub(then_ms) < window_s.saturating_mul(1_000)
    }
}

fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
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
