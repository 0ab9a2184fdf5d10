//! `pending_reply`: the agent waits for this.

use super::{Turn, Verdict};
use crate::protocol::{Action, BusyState, Rule};

/// The agent waits for an answer, or for an approval and this is one or its refusal: the gateway hands it over.
#[must_use]
pub fn pending_reply(turn: &Turn<'_>) -> Option<Verdict> {
    let expected = match turn.request.busy.state {
        BusyState::AwaitingAnswer => true,
        BusyState::AwaitingApproval => turn.lexicon.is_approval_or_refusal(&turn.text),
        _ => false,
    };
    expected.then(|| Verdict::guard(Rule::PendingReply, Action::PassThrough))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{request, with_turn};
    use super::*;

    fn passes(state: BusyState, text: &str) -> bool {
        with_turn(&request(text, |request| request.busy.state = state), pending_reply).is_some()
    }

    #[test]
    fn any_answer_passes_but_only_approvals_approve() {
        assert!(passes(BusyState::AwaitingAnswer, "the second one, with tests"));
        for text in ["yes", "Yes!", "ok, go ahead", "no", "👍", "👎", "да", "sí", "好的", "ｎｏ", "nein", "oui"] {
            assert!(passes(BusyState::AwaitingApproval, text), "{text}");
        }
        for text in ["what would that change?", "also add the tests", "yesterday it worked", "🎉"] {
            assert!(!passes(BusyState::AwaitingApproval, text), "{text}");
        }
        assert!(!passes(BusyState::Thinking, "yes"));
    }
}
