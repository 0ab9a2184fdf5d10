//! `backchannel`: thanks, laughter, a thumb.

use super::{Turn, Verdict, text};
use crate::protocol::{Action, Rule};

/// The whole message is chatter, and nothing was asked that it could answer.
#[must_use]
pub fn backchannel(turn: &Turn<'_>) -> Option<Verdict> {
    // "ok?" asks, though the word alone is chatter.
    let asks = text::has_question_mark(&turn.text.visible);
    (!asks && !turn.has_media() && !turn.something_was_asked() && turn.lexicon.is_chatter(&turn.text))
        .then(|| Verdict::guard(Rule::Backchannel, Action::Ignore))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{request, with_turn};
    use super::*;
    use crate::protocol::{HistoryEntry, Media, MediaKind, ReplyTo, Role, RouteRequest};

    fn ignored(text: &str, change: impl FnOnce(&mut RouteRequest)) -> bool {
        with_turn(&request(text, change), backchannel).is_some()
    }

    #[test]
    fn chatter_needs_no_answer() {
        for text in [
            "thanks!",
            "Thank you so much",
            "ok cool thanks",
            "hahahaha",
            "lol 😂",
            "👍",
            "❤️🎉",
            "great, thanks!",
            "danke",
            "merci",
            "спасибо",
            "谢谢",
            "ありがとう",
            "ㅋㅋㅋㅋㅋ",
            "perfectoooo",
            "I really appreciate your help",
            "no, that's all, thank you",
            "uh huh",
        ] {
            assert!(ignored(text, |_| {}), "{text}");
        }
        for text in [
            "thanks, also add tests",
            "no thanks",
            "that's all wrong",
            "ok?",
            "yes",
            "great ✋",
            "no",
            "👎",
            "🛑",
            "5",
            "cool bug",
            "thanks for nothing",
            "⚠️",
        ] {
            assert!(!ignored(text, |_| {}), "{text}");
        }
    }

    #[test]
    fn whatever_may_answer_a_question_is_no_chatter() {
        assert!(!ignored("ok", |request| request.busy.pending_question = Some("Deploy?".to_owned())));
        assert!(!ignored("ok", |request| {
            request.history = vec![HistoryEntry { role: Role::Assistant, text: "Shall I deploy? 🙂".to_owned() }];
        }));
        assert!(!ignored("ok", |request| {
            request.message.reply_to = Some(ReplyTo { text: Some("deploy now?".to_owned()), ..ReplyTo::default() });
        }));
        assert!(!ignored("ok", |request| request.busy.state = crate::protocol::BusyState::AwaitingApproval));
        assert!(!ignored("nice", |request| request.message.media = vec![Media { kind: MediaKind::Photo, album_id: None }]));
        assert!(
            ignored("ok", |request| {
                request.history = vec![
                    HistoryEntry { role: Role::Assistant, text: "Which one?".to_owned() },
                    HistoryEntry { role: Role::Assistant, text: "Found it.".to_owned() },
                ];
            }),
            "only what was said last counts"
        );
    }
}
