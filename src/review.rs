//! What a model's answer must pass before it is believed.

use crate::guards::Turn;
use crate::guards::text::has_question_mark;
use crate::model::Answer;
use crate::protocol::{Action, Capability, Role, Rule};

/// The rule by which the answer is refused; nothing when it may be followed.
#[must_use]
pub fn refusal(turn: &Turn<'_>, answer: &Answer) -> Option<Rule> {
    if answer.abstains {
        return Some(Rule::LowConfidence);
    }
    match answer.action {
        Action::Ignore if has_content(turn) => Some(Rule::IgnoreWithContent),
        Action::Interrupt if is_protected(turn) => Some(Rule::ProtectedRun),
        action if !is_executable(turn, action) => Some(Rule::UnsupportedAction),
        _ => None,
    }
}

/// Whether the gateway and the operator let `action` happen in this state.
#[must_use]
pub fn is_executable(turn: &Turn<'_>, action: Action) -> bool {
    let declared = action.capability().is_none_or(|capability| turn.request.can(capability));
    let permitted = turn.policy.actions.permission(action) == crate::config::Permission::Execute;
    let possible = match action {
        Action::Interrupt => turn.request.busy.state.interruptible(),
        Action::Detach => crate::guards::detach::target(turn).is_some(),
        _ => true,
    };
    declared && permitted && possible
}

/// Whether an interrupt would destroy what must not be destroyed on a model's word.
fn is_protected(turn: &Turn<'_>) -> bool {
    let guards = &turn.policy.guards;
    let busy = &turn.request.busy;
    let tool_is_protected =
        busy.tool.as_ref().is_some_and(|tool| tool.interruptible == Some(false) || guards.protected_tools.contains(&tool.name));
    tool_is_protected || (guards.protect_subagents && busy.subagents.unwrap_or(0) > 0)
}

/// Whether the message may hold something that needs an answer: a question mark, a number, a URL, code, a reply to the agent, media,
/// something awaited, or simply length.
fn has_content(turn: &Turn<'_>) -> bool {
    let text = turn.text.visible.as_ref();
    let replies_to_agent = turn.request.message.reply_to.as_ref().is_some_and(|reply| reply.from != Some(Role::User));
    turn.has_media()
        || turn.awaits_user()
        || replies_to_agent
        || has_question_mark(text)
        || text.chars().any(char::is_numeric)
        || holds_url(&turn.text.folded)
        || holds_code(text)
        || text.chars().count() > turn.policy.guards.ignore_max_chars
}

/// An address with a scheme, one that begins with `www.`, or a name with a dot inside and letters after it ("example.org/x").
fn holds_url(folded: &str) -> bool {
    folded.contains("://")
        || folded.split_whitespace().any(|word| {
            let word = word.trim_matches(|c: char| !c.is_alphanumeric());
            word.starts_with("www.")
                || word.split(['/', ':']).next().is_some_and(|host| {
                    host.rsplit_once('.').is_some_and(|(name, end)| {
                        !name.is_empty() && !name.ends_with('.') && end.len() >= 2 && end.chars().all(|c| c.is_ascii_alphabetic())
                    })
                })
        })
}

/// Signs that people write in code and paths and hardly elsewhere. Several lines count too: a paste.
fn holds_code(text: &str) -> bool {
    text.chars().any(|c| matches!(c, '`' | '{' | '}' | '<' | '>' | '\\' | '|' | '=' | '$' | '#' | '@' | '[' | ']' | '\n'))
        || text.contains("()")
        || text.contains("::")
        || text.split_whitespace().any(|word| {
            let inner = word.trim_matches(|c: char| !c.is_alphanumeric());
            word.starts_with("--") && word.len() > 2 || inner.contains(['_', '/']) || word.starts_with('/') && word.len() > 1
        })
}

/// The actions that may be proposed to a model: what it can execute here, and what the operator wants suggested.
#[must_use]
pub fn labels(turn: &Turn<'_>) -> Vec<Action> {
    let mut labels = vec![Action::Interrupt, Action::Queue, Action::Ignore];
    for (action, capability) in
        [(Action::Steer, Capability::Steer), (Action::Background, Capability::Background), (Action::Ask, Capability::Ask)]
    {
        if turn.request.can(capability) && turn.policy.actions.permission(action) == crate::config::Permission::Execute {
            labels.push(action);
        }
    }
    if is_executable(turn, Action::Detach) {
        labels.push(Action::Detach);
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guards::testing::{request, with_turn};
    use crate::protocol::{BusyState, Media, MediaKind, ReplyTo, RouteRequest, Tool};
    use proptest::prelude::*;

    fn refused(action: Action, text: &str, change: impl FnOnce(&mut RouteRequest)) -> Option<Rule> {
        let answer = Answer { action, confidence: 0.9, abstains: false, suggestion: None };
        with_turn(&request(text, change), |turn| refusal(turn, &answer))
    }

    #[test]
    fn what_may_need_an_answer_is_not_ignored() {
        let content = Some(Rule::IgnoreWithContent);
        for text in [
            "really?",
            "本当？",
            "room 5",
            "пять ٥",
            "see https://x",
            "www.x",
            "example.org",
            "run `ls`",
            "foo()",
            "a::b",
            "use snake_case",
            "src/main",
            "cargo --help",
            "x = y",
            "@bob",
            "line\nline",
            "this is just a little longer than forty characters",
        ] {
            assert_eq!(refused(Action::Ignore, text, |_| {}), content, "{text}");
        }
        for text in ["neat", "well, that was quick", "oh wow. nice", "hmm… ok"] {
            assert_eq!(refused(Action::Ignore, text, |_| {}), None, "{text}");
        }
        assert_eq!(
            refused(Action::Ignore, "neat", |request| request.message.reply_to =
                Some(ReplyTo { from: Some(Role::Assistant), ..ReplyTo::default() })),
            content
        );
        assert_eq!(
            refused(Action::Ignore, "neat", |request| request.message.reply_to = Some(ReplyTo::default())),
            content,
            "maybe to the agent"
        );
        assert_eq!(
            refused(Action::Ignore, "neat", |request| request.message.reply_to =
                Some(ReplyTo { from: Some(Role::User), ..ReplyTo::default() })),
            None
        );
        assert_eq!(
            refused(Action::Ignore, "neat", |request| request.message.media =
                vec![Media { kind: MediaKind::Sticker, album_id: None }]),
            content
        );
        assert_eq!(
            refused(Action::Ignore, "neat", |request| request.busy.pending_question = Some("which one".to_owned())),
            content
        );
        assert_eq!(refused(Action::Ignore, "neat", |request| request.busy.state = BusyState::AwaitingApproval), content);
    }

    #[test]
    fn protected_runs_are_not_interrupted_on_a_models_word() {
        let protected = Some(Rule::ProtectedRun);
        let tool =
            |interruptible| Tool { name: "deploy".to_owned(), preview: None, task_id: None, detachable: None, interruptible };
        assert_eq!(refused(Action::Interrupt, "no wait", |_| {}), None);
        assert_eq!(refused(Action::Interrupt, "no wait", |request| request.busy.tool = Some(tool(Some(false)))), protected);
        assert_eq!(refused(Action::Interrupt, "no wait", |request| request.busy.tool = Some(tool(Some(true)))), None);
        assert_eq!(refused(Action::Interrupt, "no wait", |request| request.busy.subagents = Some(2)), protected);
        let listed = request("no wait", |request| request.busy.tool = Some(tool(None)));
        with_turn(&listed, |turn| {
            let mut policy = turn.policy.clone();
            policy.guards.protected_tools = vec!["deploy".to_owned()];
            let turn = Turn { policy: &policy, text: turn.text.clone(), ..*turn };
            assert!(is_protected(&turn));
        });
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let unsupported = Some(Rule::UnsupportedAction);
        assert_eq!(refused(Action::Steer, "x", |_| {}), unsupported, "only suggested by default");
        assert_eq!(refused(Action::Interrupt, "x", |request| request.capabilities = Some(vec![Capability::Queue])), unsupported);
        assert_eq!(refused(Action::Interrupt, "x", |request| request.busy.state = BusyState::Compacting), unsupported);
        assert_eq!(refused(Action::Queue, "x", |_| {}), None);
    }

    #[test]
    fn an_unsure_answer_is_not_followed() {
        let answer = Answer { action: Action::Interrupt, confidence: 0.3, abstains: true, suggestion: None };
        assert_eq!(with_turn(&request("x", |_| {}), |turn| refusal(turn, &answer)), Some(Rule::LowConfidence));
    }

    proptest! {
        #[test]
        fn nothing_with_a_digit_or_question_is_ever_ignored(before in "\\PC{0,20}", sign in "[0-9?？`]", after in "\\PC{0,20}") {
            let text = format!("{before}{sign}{after}");
            prop_assert_eq!(refused(Action::Ignore, &text, |_| {}), Some(Rule::IgnoreWithContent));
        }
    }
}
