//! `ambient`: talk between people in a group.

use super::{Turn, Verdict};
use crate::protocol::{Action, Rule};

/// A message in a shared chat that is not for the agent and not by the one whose run it is.
#[must_use]
pub fn ambient(turn: &Turn<'_>) -> Option<Verdict> {
    (turn.request.session.chat.is_shared() && turn.request.message.addressed == Some(false) && !turn.sender_is_owner())
        .then(|| Verdict::guard(Rule::Ambient, Action::from(turn.policy.guards.ambient)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{request, with_turn};
    use super::*;
    use crate::protocol::ChatKind;

    #[test]
    fn only_talk_that_is_known_to_be_for_others() {
        let ambient = |chat: ChatKind, addressed: Option<bool>, sender: &str| {
            let request = request("see you at eight", |request| {
                request.session.chat = chat;
                request.session.owner_id = Some("owner".to_owned());
                request.message.sender_id = Some(sender.to_owned());
                request.message.addressed = addressed;
            });
            with_turn(&request, super::ambient).map(|verdict| verdict.action)
        };
        assert_eq!(ambient(ChatKind::Group, Some(false), "other"), Some(Action::Queue));
        assert_eq!(ambient(ChatKind::Thread, Some(false), "other"), Some(Action::Queue));
        assert_eq!(ambient(ChatKind::Group, Some(false), "owner"), None);
        assert_eq!(ambient(ChatKind::Group, None, "other"), None);
        assert_eq!(ambient(ChatKind::Group, Some(true), "other"), None);
        assert_eq!(ambient(ChatKind::Direct, Some(false), "other"), None);
    }
}
