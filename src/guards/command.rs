//! `command` and `unknown_command`: text for the gateway's own command handler, which no model ever sees.

use super::{Turn, Verdict};
use crate::config::Permission;
use crate::protocol::{Action, Capability, Command, Lane, Rule};

/// The text is a command of this gateway.
#[must_use]
pub fn command(turn: &Turn<'_>) -> Option<Verdict> {
    let (name, args) = parse(&turn.text.visible, &turn.policy.guards.command_prefixes)?;
    let name = name.to_ascii_lowercase();
    let lane = *turn.commands?.get(&name)?;
    let mut verdict = Verdict::guard(Rule::Command, Action::Dispatch);
    // "/bg" without a task, while a tool runs that can go to the background, means that tool.
    let asks_detach = matches!(name.as_str(), "detach" | "bg" | "background") && args.is_empty();
    if asks_detach && super::detach::target(turn).is_some() && turn.request.can(Capability::Detach) {
        verdict.suggested = Some(Action::Detach);
    }
    verdict.command = Some(Command { name, args: args.to_owned(), lane });
    Some(verdict)
}

/// `/detach` where the gateway has no such command, but a tool that can be detached: it can mean nothing else.
#[must_use]
pub fn detach_command(turn: &Turn<'_>) -> Option<Verdict> {
    let (name, args) = parse(&turn.text.visible, &turn.policy.guards.command_prefixes)?;
    let may_be_mentioned = turn.policy.actions.permission(Action::Detach) != Permission::Off;
    if !name.eq_ignore_ascii_case("detach") || !may_be_mentioned {
        return None;
    }
    super::detach::target(turn)?;
    let mut verdict = Verdict::guard(Rule::Command, Action::Detach);
    verdict.command = Some(Command { name: name.to_ascii_lowercase(), args: args.to_owned(), lane: Lane::Side });
    Some(verdict)
}

/// The text looks like a command, but this gateway has none of that name: kept verbatim for the next turn.
#[must_use]
pub fn unknown_command(turn: &Turn<'_>) -> Option<Verdict> {
    let (name, args) = parse(&turn.text.visible, &turn.policy.guards.command_prefixes)?;
    let mut verdict = Verdict::guard(Rule::UnknownCommand, Action::Queue);
    verdict.command = Some(Command { name: name.to_ascii_lowercase(), args: args.to_owned(), lane: Lane::Unknown });
    Some(verdict)
}

/// Takes a command apart: prefix, a name `[A-Za-z][A-Za-z0-9_-]*`, then the end, white space or `@botname`.
///
/// `/usr/bin/env`, `//comment` and `/5` are text.
fn parse<'t>(text: &'t str, prefixes: &[String]) -> Option<(&'t str, &'t str)> {
    let rest =
        text.strip_prefix(['/', '／']).or_else(|| prefixes.iter().find_map(|prefix| text.strip_prefix(prefix.as_str())))?;
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-')).unwrap_or(rest.len());
    let (name, mut after) = rest.split_at(end);
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    if let Some(mention) = after.strip_prefix('@') {
        let end = mention.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')).unwrap_or(mention.len());
        if end == 0 {
            return None;
        }
        after = &mention[end..];
    }
    (after.is_empty() || after.starts_with(char::is_whitespace)).then(|| (name, after.trim()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{request, with_turn};
    use super::*;
    use crate::protocol::Tool;
    use proptest::prelude::*;

    fn decided(gateway: &str, text: &str) -> Option<(Action, String, String, Lane)> {
        let request = request(text, |request| gateway.clone_into(&mut request.session.gateway));
        with_turn(&request, |turn| command(turn).or_else(|| unknown_command(turn))).map(|verdict| {
            let command = verdict.command.expect("a command");
            (verdict.action, command.name, command.args, command.lane)
        })
    }

    #[test]
    fn commands_of_a_gateway_are_dispatched_on_their_lane() {
        let (action, name, args, lane) = decided("hermes", "/background  fix the docs ").expect("a command");
        assert_eq!((action, name.as_str(), args.as_str(), lane), (Action::Dispatch, "background", "fix the docs", Lane::Side));
        for (gateway, text, lane) in [
            ("hermes", "/stop", Lane::Control),
            ("hermes", "/NEW", Lane::Control),
            ("hermes", "／reset", Lane::Control),
            ("hermes", " /btw@my_bot what time is it", Lane::Side),
            ("hermes", "\u{200b}/status", Lane::Inline),
            ("hermes", "/model\ngpt", Lane::Inline),
            ("openclaw", "/side hello", Lane::Side),
            ("openclaw", "/stop", Lane::Control),
        ] {
            let (action, _, _, found) = decided(gateway, text).expect(text);
            assert_eq!((action, found), (Action::Dispatch, lane), "{gateway} {text}");
        }
    }

    #[test]
    fn an_unknown_command_is_queued_verbatim() {
        for (gateway, text) in [("openclaw", "/background x"), ("hermes", "/foobar hello"), ("default", "/stop")] {
            let (action, _, _, lane) = decided(gateway, text).expect(text);
            assert_eq!((action, lane), (Action::Queue, Lane::Unknown), "{gateway} {text}");
        }
    }

    #[test]
    fn a_slash_alone_makes_no_command() {
        for text in [
            "/usr/bin/env",
            "/etc/hosts is broken",
            "//comment",
            "/5",
            "use /stop please",
            "/",
            "/ stop",
            "/-x",
            "/stop@ now",
            "/stop!",
            "/étage",
        ] {
            assert_eq!(decided("hermes", text), None, "{text}");
        }
    }

    #[test]
    fn a_prefix_of_ones_own_counts() {
        let request = request("!stop now", |_| {});
        let verdict = with_turn(&request, |turn| {
            let mut policy = turn.policy.clone();
            policy.guards.command_prefixes = vec!["!".to_owned()];
            command(&Turn { policy: &policy, text: turn.text.clone(), ..*turn })
        });
        assert_eq!(verdict.expect("a command").command.expect("taken apart").args, "now");
    }

    #[test]
    fn a_bare_background_command_may_mean_the_running_tool() {
        let detachable = |text: &str| {
            let request = request(text, |request| {
                request.capabilities = Some(vec![Capability::Queue, Capability::Detach]);
                request.busy.tool = Some(Tool {
                    name: "exec".to_owned(),
                    preview: None,
                    task_id: Some("b1".to_owned()),
                    detachable: Some(true),
                    interruptible: None,
                });
            });
            with_turn(&request, command).expect("a command").suggested
        };
        assert_eq!(detachable("/bg"), Some(Action::Detach));
        assert_eq!(detachable("/bg fix the docs"), None);
        assert_eq!(detachable("/status"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_taken_apart_without_a_panic(text in "\\PC{0,40}") {
            let _ = parse(&text, &["/".to_owned(), "¡".to_owned()]);
        }

        #[test]
        fn what_the_contract_calls_a_command_is_one(name in "[A-Za-z][A-Za-z0-9_-]{0,12}", bot in "(@[a-z_]{1,8})?", args in "( [a-z /]{0,10})?") {
            let text = format!("/{name}{bot}{args}");
            prop_assert_eq!(parse(text.trim_end(), &[]), Some((name.as_str(), args.trim())));
        }
    }
}
