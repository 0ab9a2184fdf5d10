//! What a router must beat: rules that anyone could write in a minute. Scored by the same code on the same cases.

use super::fixture::Fixture;
use crate::protocol::Action;

/// A decision rule without a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baseline {
    /// By the message's first word, as a person would write it down.
    Keyword,
    /// Keeps everything for later.
    AlwaysQueue,
    /// Stops for everything.
    AlwaysInterrupt,
}

/// Whoever begins like this probably wants the run to end or to change.
const INTERRUPTS: [&str; 15] = [
    "stop",
    "cancel",
    "abort",
    "halt",
    "pause",
    "wait",
    "hold on",
    "no",
    "nope",
    "actually",
    "wrong",
    "never mind",
    "nevermind",
    "kill",
    "undo",
];
/// A short message that begins like this probably wants nothing.
const CHATTER: [&str; 19] = [
    "thanks",
    "thank you",
    "thx",
    "ty",
    "ok",
    "okay",
    "k",
    "cool",
    "nice",
    "great",
    "perfect",
    "awesome",
    "good",
    "got it",
    "lol",
    "haha",
    "👍",
    "🙏",
    "😂",
];
/// What is longer than this many words says more than thanks.
const CHATTER_WORDS: usize = 4;

impl Baseline {
    /// All of them, best first by experience.
    pub const ALL: [Self; 3] = [Self::Keyword, Self::AlwaysQueue, Self::AlwaysInterrupt];

    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Keyword => "keyword",
            Self::AlwaysQueue => "always queue",
            Self::AlwaysInterrupt => "always interrupt",
        }
    }

    /// What it would do.
    #[must_use]
    pub fn decide(self, fixture: &Fixture) -> Action {
        match self {
            Self::Keyword => keyword(&fixture.request.message.text),
            Self::AlwaysQueue => Action::Queue,
            Self::AlwaysInterrupt => Action::Interrupt,
        }
    }
}

fn keyword(text: &str) -> Action {
    let text = text.trim().to_lowercase();
    // Gateways had their commands before they had a router.
    if text.strip_prefix('/').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_lowercase())) {
        return Action::Dispatch;
    }
    let begins_with = |phrase: &&str| {
        text.strip_prefix(*phrase).is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '\''))
    };
    if INTERRUPTS.iter().any(begins_with) {
        return Action::Interrupt;
    }
    let is_short = text.split_whitespace().count() <= CHATTER_WORDS && !text.contains('?');
    if is_short && CHATTER.iter().any(begins_with) {
        return Action::Ignore;
    }
    Action::Queue
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keyword_router_looks_at_the_beginning() {
        use Action::{Dispatch, Ignore, Interrupt, Queue};
        let cases = [
            ("Stop!", Interrupt),
            ("STOP", Interrupt),
            ("hold on a second", Interrupt),
            ("no, the staging db", Interrupt),
            ("Actually, also add tests", Interrupt),
            ("nobody asked", Queue),
            ("stopping by later", Queue),
            ("please stop", Queue),
            ("don't stop", Queue),
            ("thanks!", Ignore),
            ("ok 👍", Ignore),
            ("👍👍", Ignore),
            ("ok?", Queue),
            ("thanks, and could you also look at the other file", Queue),
            ("oklahoma", Queue),
            ("/stop", Dispatch),
            ("", Queue),
        ];
        for (text, expected) in cases {
            assert_eq!(keyword(text), expected, "{text}");
        }
    }
}
