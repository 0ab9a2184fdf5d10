//! `detach_phrase`: the user wishes the running tool into the background.

use super::{Turn, Verdict};
use crate::protocol::{Action, Rule};

/// The task that a detach would move: the running tool's, if the gateway says that it can be moved.
#[must_use]
pub fn target<'t>(turn: &Turn<'t>) -> Option<&'t str> {
    let tool = turn.request.busy.tool.as_ref()?;
    (tool.detachable == Some(true)).then_some(tool.task_id.as_deref()).flatten()
}

/// The message asks for the running tool to go to the background, alone or before the next request.
#[must_use]
pub fn detach_phrase(turn: &Turn<'_>) -> Option<Verdict> {
    target(turn)?;
    turn.lexicon.is_detach_wish(&turn.text).then(|| Verdict::guard(Rule::DetachPhrase, Action::Detach))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{request, with_turn};
    use super::*;
    use crate::protocol::Tool;

    fn wish(text: &str, detachable: Option<bool>, task_id: Option<&str>) -> bool {
        let request = request(text, |request| {
            request.busy.tool = Some(Tool {
                name: "exec".to_owned(),
                preview: None,
                task_id: task_id.map(str::to_owned),
                detachable,
                interruptible: None,
            });
        });
        with_turn(&request, detach_phrase).is_some()
    }

    #[test]
    fn a_wish_needs_a_tool_that_can_move() {
        assert!(wish("Run that in the background!", Some(true), Some("b1")));
        assert!(wish("put it in the background and start the docs", Some(true), Some("b1")));
        assert!(!wish("run that in the background", Some(false), Some("b1")));
        assert!(!wish("run that in the background", None, Some("b1")));
        assert!(!wish("run that in the background", Some(true), None), "without a task there is nothing to aim at");
        assert!(!wish("what is the background colour", Some(true), Some("b1")));
    }
}
