//! `empty` and `media`: messages without text.

use super::{Turn, Verdict};
use crate::protocol::{Action, Rule};

/// Neither text nor media: there is nothing to lose.
#[must_use]
pub fn empty(turn: &Turn<'_>) -> Option<Verdict> {
    (turn.text.is_empty() && !turn.has_media()).then(|| Verdict::guard(Rule::Empty, Action::Ignore))
}

/// Media without text: content that nobody here can read, kept for the next turn.
#[must_use]
pub fn media(turn: &Turn<'_>) -> Option<Verdict> {
    (turn.text.is_empty() && turn.has_media()).then(|| Verdict::guard(Rule::Media, Action::Queue))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{request, with_turn};
    use super::*;
    use crate::protocol::{Media, MediaKind};

    #[test]
    fn text_or_media_is_something() {
        let photo = |request: &mut crate::protocol::RouteRequest| {
            request.message.media = vec![Media { kind: MediaKind::Photo, album_id: None }];
        };
        for text in ["", "  \n", "\u{200b}\u{2066}"] {
            assert!(with_turn(&request(text, |_| {}), empty).is_some(), "{text:?}");
            assert!(with_turn(&request(text, photo), empty).is_none());
            assert_eq!(with_turn(&request(text, photo), media).map(|verdict| verdict.action), Some(Action::Queue));
        }
        assert!(with_turn(&request("look", photo), media).is_none());
        assert!(with_turn(&request("👍", |_| {}), empty).is_none());
    }
}
