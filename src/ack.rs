//! What to tell the user about a decision: true of the action, and not too often.

use crate::guards::Turn;
use crate::memory::Memory;
use crate::protocol::{Ack, Action};

/// The ack of an action; nothing when acks are off, the action needs none, or the session heard the same a moment ago.
///
/// The question of `ask` is part of the action itself and always sent.
#[must_use]
pub fn ack(turn: &Turn<'_>, memory: &Memory, action: Action) -> Option<Ack> {
    let settings = &turn.policy.ack;
    let must_be_sent = action == Action::Ask;
    if !settings.enabled && !must_be_sent {
        return None;
    }
    let own = settings.text.get(&settings.locale).and_then(|texts| texts.get(&action));
    let text = own
        .and_then(|template| fill(turn, template))
        .or_else(|| turn.lexicon.ack(&settings.locale, action).and_then(|template| fill(turn, template)))?;
    (must_be_sent || memory.may_ack(turn.request, action, settings.cooldown_s)).then_some(Ack { key: action, text })
}

/// Fills in `{tool}` and `{elapsed}`; nothing when the template needs what is not known.
fn fill(turn: &Turn<'_>, template: &str) -> Option<String> {
    let busy = &turn.request.busy;
    let mut text = template.to_owned();
    if text.contains("{tool}") {
        text = text.replace("{tool}", &busy.tool.as_ref()?.name);
    }
    if text.contains("{elapsed}") {
        text = text.replace("{elapsed}", &human_duration(busy.elapsed_ms?));
    }
    (!text.trim().is_empty()).then_some(text)
}

/// `950 ms` as `0 s`, `75 s` as `1 min 15 s`, `2 h 5 min`: rough, because it is out of date when it is read.
fn human_duration(ms: u64) -> String {
    let seconds = ms / 1_000;
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, 0) => format!("{m} min"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, 0, _) => format!("{h} h"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::guards::testing::{LEXICON, request, with_turn};
    use std::time::Duration;

    #[test]
    fn every_spoken_action_has_a_text_in_every_locale_and_falls_back_to_english() {
        for locale in ["en", "de", "ja", "pt-BR", "xx"] {
            for action in [Action::Interrupt, Action::Queue, Action::Steer, Action::Background, Action::Ask, Action::Detach] {
                assert!(LEXICON.ack(locale, action).is_some(), "{locale} {action}");
            }
            for silent in [Action::Ignore, Action::PassThrough, Action::Dispatch] {
                assert_eq!(LEXICON.ack(locale, silent), None);
            }
        }
        assert_ne!(LEXICON.ack("de", Action::Queue), LEXICON.ack("en", Action::Queue));
    }

    #[test]
    fn one_ack_an_action_in_the_cool_down() {
        let clock = Clock::manual();
        let memory = Memory::new(clock.clone());
        let request = request("x", |_| {});
        with_turn(&request, |turn| {
            assert_eq!(ack(turn, &memory, Action::Queue).map(|ack| ack.key), Some(Action::Queue));
            assert_eq!(ack(turn, &memory, Action::Queue), None, "heard it");
            assert!(ack(turn, &memory, Action::Interrupt).is_some(), "another action is news");
            assert!(
                ack(turn, &memory, Action::Ask).is_some() && ack(turn, &memory, Action::Ask).is_some(),
                "a question is always asked"
            );
            clock.advance(Duration::from_secs(30));
            assert!(ack(turn, &memory, Action::Queue).is_some());
            assert_eq!(ack(turn, &memory, Action::Ignore), None);
        });
    }

    #[test]
    fn off_means_off_but_a_question_is_asked() {
        let request = request("x", |_| {});
        with_turn(&request, |turn| {
            let mut policy = turn.policy.clone();
            policy.ack.enabled = false;
            let turn = Turn { policy: &policy, text: turn.text.clone(), ..*turn };
            let memory = Memory::new(Clock::manual());
            assert_eq!(ack(&turn, &memory, Action::Queue), None);
            assert!(ack(&turn, &memory, Action::Ask).is_some());
        });
    }

    #[test]
    fn own_texts_are_filled_in_or_left_out() {
        let request = request("x", |request| request.busy.elapsed_ms = Some(75_000));
        with_turn(&request, |turn| {
            let mut policy = turn.policy.clone();
            let own = [(Action::Queue, "Busy for {elapsed}.".to_owned()), (Action::Interrupt, "Stopping {tool}.".to_owned())];
            policy.ack.text.insert("en".to_owned(), own.into());
            let turn = Turn { policy: &policy, text: turn.text.clone(), ..*turn };
            let memory = Memory::new(Clock::manual());
            assert_eq!(ack(&turn, &memory, Action::Queue).expect("an ack").text, "Busy for 1 min 15 s.");
            let text = ack(&turn, &memory, Action::Interrupt).expect("an ack").text;
            assert!(!text.contains('{') && !text.is_empty(), "without a tool the built-in text is used: {text}");
        });
    }
}
