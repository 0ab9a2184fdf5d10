//! `stop_phrase`: the whole message says stop, in any language of the lexicon.

use super::{Turn, Verdict};
use crate::lexicon::Kind;
use crate::protocol::{Action, Rule};

/// The whole message is a stop phrase, by someone who may stop the run.
#[must_use]
pub fn stop_phrase(turn: &Turn<'_>) -> Option<Verdict> {
    (may_stop(turn) && turn.lexicon.is(Kind::Stop, &turn.text)).then(|| Verdict::guard(Rule::StopPhrase, Action::Interrupt))
}

/// In groups a stop counts only from the run's owner, or when it is addressed to the agent, or when neither is known.
fn may_stop(turn: &Turn<'_>) -> bool {
    if !turn.request.session.chat.is_shared() || turn.sender_is_owner() {
        return true;
    }
    match turn.request.message.addressed {
        Some(addressed) => addressed,
        None => turn.request.session.owner_id.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{request, with_turn};
    use super::*;
    use crate::protocol::ChatKind;

    fn stops(text: &str) -> bool {
        with_turn(&request(text, |_| {}), stop_phrase).is_some()
    }

    #[test]
    fn stop_in_many_languages_and_spellings() {
        for text in [
            "stop",
            "STOP!!!",
            "stoooop",
            "ｓｔｏｐ",
            "s\u{200b}top",
            "🛑 stop 🛑",
            "Stop. Please stop.",
            "stop stop stop",
            "detente",
            "¡Detente!",
            "arrête",
            "Arrete!",
            "stopp",
            "aufhören",
            "pare",
            "fermati",
            "стоп",
            "остановись",
            "зупинись",
            "durdur",
            "توقف",
            "रुको",
            "berhenti",
            "dừng lại",
            "หยุด",
            "停止",
            "停下来",
            "停下來",
            "やめて",
            "止めて",
            "멈춰",
            "stop openclaw",
            "stop don't do anything",
            "please stop",
            "stop what you're doing right now",
            "Abort all ongoing operations!",
            "arrête toutes les opérations",
            "停止所有操作",
            "зогсоо",
        ] {
            assert!(stops(text), "{text}");
        }
    }

    #[test]
    fn near_misses_stay_out() {
        for text in [
            "bus stop",
            "don't stop",
            "Don't. Stop.",
            "please stop by the shop later",
            "wait",
            "non-stop",
            "stop the music when you are done",
            "ѕтор",
            "stop?ping",
            "the process was stopped",
            "nicht aufhören",
            "no pares",
            "kill all processes",
            "cancel all activities",
            "termina la tarea",
            "para esta tarea",
            "stad",
            "geldi",
            "",
            "🛑",
        ] {
            assert!(!stops(text), "{text}");
        }
    }

    #[test]
    fn in_groups_only_the_owner_or_an_addressed_stop_counts() {
        let stops = |chat: ChatKind, owner: Option<&str>, sender: Option<&str>, addressed: Option<bool>| {
            let request = request("stop", |request| {
                request.session.chat = chat;
                request.session.owner_id = owner.map(str::to_owned);
                request.message.sender_id = sender.map(str::to_owned);
                request.message.addressed = addressed;
            });
            with_turn(&request, stop_phrase).is_some()
        };
        for chat in [ChatKind::Group, ChatKind::Channel, ChatKind::Thread] {
            assert!(stops(chat, Some("a"), Some("a"), Some(false)), "the owner");
            assert!(stops(chat, Some("a"), Some("b"), Some(true)), "addressed");
            assert!(!stops(chat, Some("a"), Some("b"), None), "someone else");
            assert!(!stops(chat, Some("a"), None, None), "nobody known");
            assert!(stops(chat, None, Some("b"), None), "nothing known");
            assert!(!stops(chat, None, Some("b"), Some(false)), "to someone else");
        }
        assert!(stops(ChatKind::Direct, Some("a"), Some("b"), Some(false)), "direct chats have one user");
    }
}
