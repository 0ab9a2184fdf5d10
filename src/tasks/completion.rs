//! `POST /v1/tasks/completion`: who hears that a background task is done.
//!
//! Two things must not happen: that nobody hears of it, and that somebody hears of it twice. `TABLE` says where a result goes,
//! one row a rule; a delivery is claimed before it is answered, so of any number of equal reports exactly one delivers.

use super::memory::TaskMemory;
use super::words;
use crate::protocol::tasks::{DEFAULT_MAX_DEPTH, MAX_MARKER_CHARS};
use crate::protocol::{
    BusyState, CompletionRequest, CompletionResponse, CompletionRule, Delivery, EvidenceSource, Marker, Notify, Parent, TaskKind,
    TaskStatus, Telemetry,
};

/// What stands in an idempotency key where the request names no outcome, as in the keys of `OpenClaw`.
const NO_OUTCOME: &str = "default";
/// How much of the outcome a marker shows, in characters: a long one must not push the task's id out.
const MAX_OUTCOME_CHARS: usize = 32;
/// A marker without this much room left goes without the summary, in characters.
const MIN_SUMMARY_CHARS: usize = 16;

/// What a row looks at.
struct Case<'a> {
    request: &'a CompletionRequest,
    status: TaskStatus,
    /// Whether this status and outcome of this task were delivered before.
    delivered: bool,
    /// Whether the operator lets results be injected into a running turn.
    steer_allowed: bool,
}

type Row = (CompletionRule, fn(&Case<'_>) -> Option<Delivery>);

/// The rules in the order in which they are tried. The last two leave nothing open: without a parent the origin can be told, or
/// not.
const TABLE: [Row; 7] = [
    (CompletionRule::Silent, silent),
    (CompletionRule::NotTerminal, not_terminal),
    (CompletionRule::AlreadyDelivered, already_delivered),
    (CompletionRule::DepthExceeded, depth_exceeded),
    (CompletionRule::Handoff, handoff),
    (CompletionRule::Undeliverable, undeliverable),
    (CompletionRule::ParentMissing, parent_missing),
];

/// Decides who hears of a task, and claims the delivery if there is one.
///
/// `steer_allowed` says whether the operator lets a result be injected into the parent's running turn (`[actions] steer =
/// "execute"`).
#[must_use]
pub fn decide(request: &CompletionRequest, memory: &TaskMemory, steer_allowed: bool) -> CompletionResponse {
    let status = words::read(&request.task.status, EvidenceSource::Task).status();
    let name = name(request, status);
    let session_id = request.origin.session_id.as_deref();

    let mut case = Case { request, status, delivered: memory.is_delivered(&name, session_id), steer_allowed };
    let (mut rule, mut delivery) = apply_table(&case);
    // Only what reaches somebody is claimed: a report that was silenced, too early or undeliverable must not swallow a later one.
    if reaches_somebody(request, delivery) && !memory.claim(&name, session_id) {
        case.delivered = true;
        (rule, delivery) = apply_table(&case);
    }
    respond(&case, rule, delivery, &name)
}

fn apply_table(case: &Case<'_>) -> (CompletionRule, Delivery) {
    let found = TABLE.iter().find_map(|(rule, applies)| applies(case).map(|delivery| (*rule, delivery)));
    found.unwrap_or((CompletionRule::ParentMissing, Delivery::Marker))
}

/// 1. The caller wants to hear nothing,
fn silent(case: &Case<'_>) -> Option<Delivery> {
    (case.request.notify == Notify::Silent).then_some(Delivery::None)
}

/// 1. or of ends only, and this is none.
fn not_terminal(case: &Case<'_>) -> Option<Delivery> {
    (!case.status.is_terminal() && case.request.notify != Notify::All).then_some(Delivery::None)
}

/// 2. The same task, status and outcome were delivered before.
fn already_delivered(case: &Case<'_>) -> Option<Delivery> {
    case.delivered.then_some(Delivery::None)
}

/// 3. Too deep to report upwards: a chain of tasks that wake each other ends here, and the origin is told directly.
fn depth_exceeded(case: &Case<'_>) -> Option<Delivery> {
    (depth(case.request) > max_depth(case.request)).then_some(Delivery::Marker)
}

/// 4. A parent exists and takes the result over.
///
/// So in groups, channels and threads people never see a raw marker where an agent can say what the result means.
fn handoff(case: &Case<'_>) -> Option<Delivery> {
    parent(case.request).map(|parent| match parent_state(parent) {
        BusyState::Idle => Delivery::ParentTurn,
        state if steerable(state) && case.steer_allowed => Delivery::ParentSteer,
        _ => Delivery::ParentQueue,
    })
}

/// 5. No parent, and the origin cannot be told: log, metrics and journal keep it.
fn undeliverable(case: &Case<'_>) -> Option<Delivery> {
    (!origin_deliverable(case.request)).then_some(Delivery::None)
}

/// 6. No parent: the origin is told directly, in groups too, so that the result is not lost.
#[expect(clippy::unnecessary_wraps, reason = "a row of the table like the others")]
fn parent_missing(_: &Case<'_>) -> Option<Delivery> {
    Some(Delivery::Marker)
}

/// The parent, unless it is known to be gone.
fn parent(request: &CompletionRequest) -> Option<&Parent> {
    request.parent.as_ref().filter(|parent| parent.exists != Some(false))
}

/// What the parent does. Idle where the gateway does not say: a turn too many waits its time, a result in an idle session's queue
/// lies there unread.
fn parent_state(parent: &Parent) -> BusyState {
    parent.busy.unwrap_or(BusyState::Idle)
}

/// Whether a running turn can take something in: there is one, it asks a model again, and it waits for nobody's answer.
const fn steerable(state: BusyState) -> bool {
    matches!(state, BusyState::Thinking | BusyState::Streaming | BusyState::RunningTool)
}

fn origin_deliverable(request: &CompletionRequest) -> bool {
    request.origin.deliverable != Some(false)
}

/// Whether this delivery has somebody at its end. A marker of a task that is too deep may have nobody.
fn reaches_somebody(request: &CompletionRequest, delivery: Delivery) -> bool {
    match delivery {
        Delivery::ParentTurn | Delivery::ParentSteer | Delivery::ParentQueue => true,
        Delivery::Marker => origin_deliverable(request),
        Delivery::None => false,
    }
}

fn depth(request: &CompletionRequest) -> u64 {
    request.task.depth.unwrap_or_default()
}

fn max_depth(request: &CompletionRequest) -> u64 {
    request.max_depth.unwrap_or(DEFAULT_MAX_DEPTH)
}

fn outcome(request: &CompletionRequest) -> Option<&str> {
    request.task.outcome.as_deref().map(str::trim).filter(|outcome| !outcome.is_empty())
}

/// What makes a completion the same as another: task, status and outcome; of a scheduled job also the run, because its id may
/// name the job, which ends the same way every night.
fn name(request: &CompletionRequest, status: TaskStatus) -> Vec<&str> {
    let mut name = vec![request.task.id.as_str(), status.as_str(), outcome(request).unwrap_or(NO_OUTCOME)];
    if request.task.kind == TaskKind::Cron {
        name.extend(request.task.run_id.as_deref());
    }
    name
}

fn respond(case: &Case<'_>, rule: CompletionRule, delivery: Delivery, name: &[&str]) -> CompletionResponse {
    let request = case.request;
    let requires_handoff = matches!(delivery, Delivery::ParentTurn | Delivery::ParentSteer | Delivery::ParentQueue);
    // A parent of which nobody can say whether it is idle is woken too, or the result might lie in its queue for good.
    let may_be_idle = parent(request).is_some_and(|parent| matches!(parent_state(parent), BusyState::Idle | BusyState::Unknown));
    let kind = if case.status.is_terminal() { "task-terminal" } else { "task-update" };
    CompletionResponse {
        delivery,
        requires_handoff,
        wake: requires_handoff && may_be_idle,
        marker: (delivery == Delivery::Marker).then(|| Marker { text: marker_text(request, case.status) }),
        rule,
        idempotency_key: format!("{kind}:{}", name.join(":")),
        duplicate: rule == CompletionRule::AlreadyDelivered,
        telemetry: telemetry(case, rule, delivery),
    }
}

fn telemetry(case: &Case<'_>, rule: CompletionRule, delivery: Delivery) -> Telemetry {
    let Case { request, status, .. } = *case;
    let (task, depth, max_depth) = (&request.task, depth(request), max_depth(request));
    let about = format!("task `{}` is {status}", task.id);
    let unheard = !reaches_somebody(request, delivery);
    let note = match rule {
        CompletionRule::Silent => format!("{about}; its caller wants no notice"),
        CompletionRule::NotTerminal if status == TaskStatus::Unknown => {
            format!("{about}: nobody knows its status word, so it counts as not ended; report it again with a known one")
        }
        CompletionRule::NotTerminal => format!("{about}, which is no end; its caller wants to hear of ends only"),
        CompletionRule::AlreadyDelivered => format!("{about}; this was delivered before"),
        CompletionRule::DepthExceeded if unheard => {
            format!("{about} at depth {depth}, over max_depth {max_depth}, and the origin cannot be delivered to; report again")
        }
        CompletionRule::DepthExceeded => {
            format!("{about} at depth {depth}, over max_depth {max_depth}; the origin is told directly")
        }
        CompletionRule::Handoff => format!("{about}; its parent takes it over ({delivery})"),
        CompletionRule::Undeliverable => {
            format!("{about}; it has no parent, and the origin cannot be delivered to; report again")
        }
        CompletionRule::ParentMissing => format!("{about}; it has no parent, so the origin is told directly"),
    };
    // Kept here where nobody else will: not what was asked to be silent, not what somebody got before, not a mere step on the
    // way.
    let over = status.is_terminal() || status == TaskStatus::Unknown;
    let kept = unheard && over && !matches!(rule, CompletionRule::Silent | CompletionRule::AlreadyDelivered);
    Telemetry {
        note,
        status,
        kind: task.kind,
        depth,
        run_id: task.run_id.clone(),
        result: if kept { task.summary.clone() } else { None },
    }
}

/// One line that names the task and how it ended, then as much of the summary as fits.
fn marker_text(request: &CompletionRequest, status: TaskStatus) -> String {
    let mut ended = status.as_str().to_owned();
    if let Some(outcome) = outcome(request).map(one_line).filter(|outcome| *outcome != ended) {
        ended = format!("{ended} ({})", cut(&outcome, MAX_OUTCOME_CHARS));
    }
    // The outcome stands after the id: only an id that leaves no room for it is cut.
    let (before, between) = ("Background task ", ": ");
    let room = MAX_MARKER_CHARS - before.len() - between.len() - ended.chars().count();
    let mut text = format!("{before}{}{between}{ended}", cut(&one_line(&request.task.id), room));
    let room = MAX_MARKER_CHARS - text.chars().count();
    let summary =
        request.task.summary.as_deref().map(one_line).filter(|summary| !summary.is_empty() && room >= MIN_SUMMARY_CHARS);
    if let Some(summary) = summary {
        text.push_str(". ");
        text.push_str(&summary);
    }
    cut(&text, MAX_MARKER_CHARS)
}

/// White space and control characters become single spaces; what turns the direction of text around is left out.
fn one_line(text: &str) -> String {
    let visible: String = text
        .chars()
        .filter(|c| !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    visible.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// At most `max` characters, the last of them an ellipsis where something was cut off.
fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(max.saturating_sub(1)).collect();
    cut.truncate(cut.trim_end().len());
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ChatKind;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// A finished task of a direct chat without a parent, changed field by field (JSON pointers).
    fn request(changes: &[(&str, Value)]) -> CompletionRequest {
        let mut request = json!({
            "task": {"id": "t1", "status": "completed", "outcome": null, "summary": "All 12 tests pass.", "run_id": null,
                "kind": "subagent", "depth": null},
            "origin": {"chat": "direct", "session_id": null, "deliverable": null},
            "parent": null, "notify": null, "max_depth": null
        });
        for (pointer, value) in changes {
            *request.pointer_mut(pointer).expect("the pointer exists") = value.clone();
        }
        serde_json::from_value(request).expect("a valid request")
    }

    fn fresh(changes: &[(&str, Value)]) -> CompletionResponse {
        decide(&request(changes), &TaskMemory::default(), false)
    }

    fn parent(busy: &str) -> (&'static str, Value) {
        ("/parent", json!({"session_id": "p", "busy": busy}))
    }

    // Row 1

    #[test]
    fn silent_hears_nothing_and_claims_nothing() {
        let memory = TaskMemory::default();
        for status in ["completed", "failed", "running"] {
            let answer = decide(&request(&[("/notify", json!("silent")), ("/task/status", json!(status))]), &memory, true);
            assert_eq!((answer.rule, answer.delivery), (CompletionRule::Silent, Delivery::None));
            assert!(!answer.duplicate && !answer.wake && !answer.requires_handoff);
            assert_eq!((answer.marker, answer.telemetry.result), (None, None));
        }
        assert_eq!(decide(&request(&[]), &memory, true).rule, CompletionRule::ParentMissing, "not swallowed");
        let answer = decide(&request(&[("/notify", json!("silent"))]), &memory, true);
        assert_eq!((answer.rule, answer.duplicate), (CompletionRule::Silent, false), "the first row that applies");
    }

    #[test]
    fn only_ends_are_told_unless_all_is_wanted() {
        for (system, word, reading) in words::all() {
            let status = reading.status();
            let status_word = ("/task/status", json!(word));
            let answer = fresh(&[status_word.clone(), ("/notify", json!("done"))]);
            let expected = if status.is_terminal() { CompletionRule::ParentMissing } else { CompletionRule::NotTerminal };
            assert_eq!(answer.rule, expected, "{system}: {word}");
            assert_eq!(answer.telemetry.status, status);
            let answer = fresh(&[status_word, ("/notify", json!("all"))]);
            assert_eq!((answer.rule, answer.delivery), (CompletionRule::ParentMissing, Delivery::Marker), "{system}: {word}");
        }
    }

    #[test]
    fn too_early_a_report_claims_nothing_and_updates_are_not_ends() {
        let memory = TaskMemory::default();
        let running = [("/task/status", json!("running"))];
        assert_eq!(decide(&request(&running), &memory, false).rule, CompletionRule::NotTerminal);
        let update = [running[0].clone(), ("/notify", json!("all"))];
        let first = decide(&request(&update), &memory, false);
        assert_eq!(
            (first.rule, first.idempotency_key.as_str()),
            (CompletionRule::ParentMissing, "task-update:t1:running:default")
        );
        assert!(decide(&request(&update), &memory, false).duplicate);
        assert_eq!(decide(&request(&[]), &memory, false).rule, CompletionRule::ParentMissing, "the end is news");
    }

    #[test]
    fn an_end_in_words_nobody_knows_is_kept() {
        let memory = TaskMemory::default();
        let answer = decide(&request(&[("/task/status", json!("a word of tomorrow"))]), &memory, false);
        assert_eq!((answer.rule, answer.delivery), (CompletionRule::NotTerminal, Delivery::None));
        assert_eq!(answer.telemetry.result.as_deref(), Some("All 12 tests pass."));
        assert!(answer.telemetry.note.contains("nobody knows its status word"));
        assert_eq!(fresh(&[("/task/status", json!("running"))]).telemetry.result, None, "a step on the way is not a result");
    }

    // Row 2

    #[test]
    fn the_same_again_is_a_duplicate() {
        let memory = TaskMemory::default();
        let first = decide(&request(&[parent("idle")]), &memory, false);
        assert_eq!((first.rule, first.duplicate), (CompletionRule::Handoff, false));
        // Whatever else has changed meanwhile.
        for changes in [
            vec![parent("idle")],
            vec![parent("thinking")],
            vec![],
            vec![("/task/status", json!("succeeded"))],
            vec![("/task/outcome", json!("  "))],
            vec![("/task/summary", json!("other"))],
            vec![("/task/run_id", json!("r2"))],
            vec![("/task/depth", json!(9))],
            vec![("/origin/chat", json!("group"))],
            vec![("/origin/deliverable", json!(false))],
        ] {
            let again = decide(&request(&changes), &memory, true);
            assert_eq!((again.rule, again.delivery), (CompletionRule::AlreadyDelivered, Delivery::None), "{changes:?}");
            assert!(again.duplicate && !again.requires_handoff && !again.wake && again.marker.is_none());
            assert_eq!(again.idempotency_key, first.idempotency_key);
            assert_eq!(again.telemetry.result, None, "somebody has it");
        }
        for changes in [[("/task/id", json!("t2"))], [("/task/status", json!("failed"))], [("/task/outcome", json!("blocked"))]] {
            assert!(!decide(&request(&changes), &memory, false).duplicate, "{changes:?}");
        }
    }

    #[test]
    fn two_sessions_tasks_do_not_mix() {
        let memory = TaskMemory::default();
        let of = |session: &str| decide(&request(&[("/origin/session_id", json!(session))]), &memory, false).duplicate;
        assert!(!of("a"));
        assert!(!of("b"), "another session's task with the same id");
        assert!(of("a") && of("b"));
        assert!(decide(&request(&[]), &memory, false).duplicate, "the session left out");
    }

    #[test]
    fn a_scheduled_job_ends_the_same_way_every_night() {
        let memory = TaskMemory::default();
        let night =
            |kind: &str, run: Value| decide(&request(&[("/task/kind", json!(kind)), ("/task/run_id", run)]), &memory, false);
        let first = night("cron", json!("monday"));
        assert_eq!(first.idempotency_key, "task-terminal:t1:completed:default:monday");
        assert!(night("cron", json!("monday")).duplicate);
        assert!(!night("cron", json!("tuesday")).duplicate);
        assert!(!night("cron", Value::Null).duplicate);
        assert!(night("cron", Value::Null).duplicate);
        assert!(night("command", json!("wednesday")).duplicate, "other tasks run once");
    }

    // Row 3

    #[test]
    fn too_deep_is_told_directly_and_said_so() {
        for chat in ChatKind::ALL {
            let chat = ("/origin/chat", json!(chat));
            let answer = fresh(&[chat.clone(), parent("idle"), ("/task/depth", json!(6))]);
            assert_eq!((answer.rule, answer.delivery), (CompletionRule::DepthExceeded, Delivery::Marker));
            assert!(answer.marker.is_some() && !answer.requires_handoff && !answer.wake);
            assert!(answer.telemetry.note.contains("depth 6, over max_depth 5"), "{}", answer.telemetry.note);
            assert_eq!(answer.telemetry.depth, 6);
            assert_eq!(fresh(&[chat, parent("idle"), ("/task/depth", json!(5))]).rule, CompletionRule::Handoff);
        }
        let limited = |depth: u64| fresh(&[parent("idle"), ("/task/depth", json!(depth)), ("/max_depth", json!(0))]).rule;
        assert_eq!((limited(0), limited(1)), (CompletionRule::Handoff, CompletionRule::DepthExceeded));
    }

    #[test]
    fn too_deep_and_nobody_to_tell_is_kept_and_not_swallowed() {
        let memory = TaskMemory::default();
        let deep = |deliverable: bool| {
            decide(&request(&[("/task/depth", json!(9)), ("/origin/deliverable", json!(deliverable))]), &memory, false)
        };
        let first = deep(false);
        assert_eq!((first.rule, first.telemetry.result.is_some()), (CompletionRule::DepthExceeded, true));
        assert_eq!((deep(true).rule, deep(true).rule), (CompletionRule::DepthExceeded, CompletionRule::AlreadyDelivered));
    }

    // Row 4

    #[test]
    fn a_parent_takes_it_over_by_its_state() {
        for (state, allowed, delivery, wake) in [
            (Some(BusyState::Idle), true, Delivery::ParentTurn, true),
            (Some(BusyState::Idle), false, Delivery::ParentTurn, true),
            (None, true, Delivery::ParentTurn, true),
            (Some(BusyState::Thinking), true, Delivery::ParentSteer, false),
            (Some(BusyState::Thinking), false, Delivery::ParentQueue, false),
            (Some(BusyState::Streaming), true, Delivery::ParentSteer, false),
            (Some(BusyState::Streaming), false, Delivery::ParentQueue, false),
            (Some(BusyState::RunningTool), true, Delivery::ParentSteer, false),
            (Some(BusyState::RunningTool), false, Delivery::ParentQueue, false),
            (Some(BusyState::Starting), true, Delivery::ParentQueue, false),
            (Some(BusyState::AwaitingApproval), true, Delivery::ParentQueue, false),
            (Some(BusyState::AwaitingAnswer), true, Delivery::ParentQueue, false),
            (Some(BusyState::Compacting), true, Delivery::ParentQueue, false),
            (Some(BusyState::Draining), true, Delivery::ParentQueue, false),
            (Some(BusyState::Stopping), true, Delivery::ParentQueue, false),
            (Some(BusyState::Unknown), true, Delivery::ParentQueue, true),
        ] {
            for chat in ChatKind::ALL {
                for deliverable in [Value::Null, json!(false)] {
                    let request = request(&[
                        ("/parent", json!({"session_id": "p", "busy": state})),
                        ("/origin/chat", json!(chat)),
                        ("/origin/deliverable", deliverable),
                    ]);
                    let answer = decide(&request, &TaskMemory::default(), allowed);
                    assert_eq!((answer.rule, answer.delivery), (CompletionRule::Handoff, delivery), "{state:?} {chat}");
                    assert_eq!((answer.requires_handoff, answer.wake), (true, wake), "{state:?}");
                    assert_eq!(answer.marker, None, "never a raw marker beside a parent");
                }
            }
        }
    }

    #[test]
    fn a_parent_that_is_gone_is_no_parent() {
        let gone = ("/parent", json!({"session_id": "p", "exists": false, "busy": "idle"}));
        let answer = fresh(std::slice::from_ref(&gone));
        assert_eq!((answer.rule, answer.requires_handoff, answer.wake), (CompletionRule::ParentMissing, false, false));
        assert_eq!(fresh(&[gone, ("/origin/deliverable", json!(false))]).rule, CompletionRule::Undeliverable);
        let there = ("/parent", json!({"session_id": "p", "exists": true}));
        assert_eq!(fresh(&[there]).delivery, Delivery::ParentTurn);
    }

    // Row 5

    #[test]
    fn undeliverable_is_kept_and_not_swallowed_later() {
        let memory = TaskMemory::default();
        let away = [("/origin/deliverable", json!(false))];
        for _ in 0..2 {
            let answer = decide(&request(&away), &memory, false);
            assert_eq!((answer.rule, answer.delivery), (CompletionRule::Undeliverable, Delivery::None));
            assert_eq!((answer.duplicate, answer.marker), (false, None));
            assert_eq!(answer.telemetry.result.as_deref(), Some("All 12 tests pass."));
            assert!(answer.telemetry.note.contains("cannot be delivered to"));
        }
        assert_eq!(decide(&request(&[]), &memory, false).delivery, Delivery::Marker, "the origin is back");
        assert!(decide(&request(&[]), &memory, false).duplicate);
    }

    // Row 6

    #[test]
    fn without_a_parent_the_origin_is_told_in_groups_too() {
        for chat in ChatKind::ALL {
            for deliverable in [Value::Null, json!(true)] {
                let answer = fresh(&[("/origin/chat", json!(chat)), ("/origin/deliverable", deliverable)]);
                assert_eq!((answer.rule, answer.delivery), (CompletionRule::ParentMissing, Delivery::Marker));
                assert_eq!((answer.requires_handoff, answer.wake), (false, false));
                assert_eq!(answer.marker.expect("a marker").text, "Background task t1: completed. All 12 tests pass.");
                assert_eq!(answer.telemetry.result, None, "the marker delivers it");
            }
        }
    }

    // Texts

    #[test]
    fn keys_name_task_status_and_outcome() {
        let key = |changes: &[(&str, Value)]| fresh(changes).idempotency_key;
        assert_eq!(key(&[]), "task-terminal:t1:completed:default");
        assert_eq!(
            key(&[("/task/status", json!("succeeded")), ("/task/outcome", json!("blocked"))]),
            "task-terminal:t1:completed:blocked"
        );
        assert_eq!(key(&[("/notify", json!("silent")), ("/task/status", json!("killed"))]), "task-terminal:t1:cancelled:default");
    }

    #[test]
    fn markers_name_the_task_and_how_it_ended() {
        let text = |changes: &[(&str, Value)]| fresh(changes).marker.expect("a marker").text;
        assert_eq!(
            text(&[("/task/status", json!("succeeded")), ("/task/outcome", json!("blocked")), ("/task/summary", Value::Null)]),
            "Background task t1: completed (blocked)"
        );
        assert_eq!(
            text(&[("/task/outcome", json!("completed")), ("/task/summary", json!(" \n"))]),
            "Background task t1: completed"
        );
        assert_eq!(
            text(&[("/task/summary", json!("line one\r\n\tline\u{0} two\u{202e}"))]),
            "Background task t1: completed. line one line two"
        );
    }

    #[test]
    fn markers_are_cut_on_characters_with_id_and_outcome_visible() {
        let (long, id) = ("ü".repeat(300), "i".repeat(140));
        let text = |changes: &[(&str, Value)]| fresh(changes).marker.expect("a marker").text;
        let all_long = text(&[("/task/id", json!(long)), ("/task/outcome", json!(long)), ("/task/summary", json!(long))]);
        assert_eq!(all_long.chars().count(), MAX_MARKER_CHARS);
        assert!(all_long.starts_with("Background task ü") && !all_long.contains(". "));
        assert!(
            all_long.starts_with("Background task ü") && all_long.contains("…: completed (ü") && all_long.ends_with("…)"),
            "{all_long}"
        );
        let long_summary = text(&[("/task/id", json!(id)), ("/task/outcome", json!("blocked")), ("/task/summary", json!(long))]);
        assert_eq!(long_summary.chars().count(), MAX_MARKER_CHARS);
        assert!(long_summary.starts_with(&format!("Background task {id}: completed (blocked). üü")), "{long_summary}");
        assert!(long_summary.ends_with("ü…"));
    }

    #[test]
    fn telemetry_notes_never_hold_the_summary() {
        for changes in [
            vec![("/notify", json!("silent"))],
            vec![("/task/status", json!("running"))],
            vec![("/task/status", json!("?"))],
            vec![("/task/depth", json!(9))],
            vec![("/task/depth", json!(9)), ("/origin/deliverable", json!(false))],
            vec![parent("idle")],
            vec![("/origin/deliverable", json!(false))],
            vec![],
        ] {
            let note = fresh(&changes).telemetry.note;
            assert!(note.contains("`t1`") && !note.contains("12 tests"), "{note}");
        }
    }

    // Properties

    fn any_request() -> impl Strategy<Value = CompletionRequest> {
        let statuses = vec!["completed", "failed", "cancelled", "running", "?"];
        let states: Vec<Option<BusyState>> = BusyState::ALL.iter().copied().map(Some).chain([None]).collect();
        let parent = (proptest::option::of(any::<bool>()), proptest::sample::select(states)).prop_map(|(exists, busy)| Parent {
            session_id: "p".to_owned(),
            exists,
            busy,
        });
        (
            proptest::sample::select(statuses),
            (0..8_u64, proptest::option::of("[a-z ]{0,5}"), ".{0,300}", ".{1,256}"),
            proptest::sample::select(ChatKind::ALL.to_vec()),
            proptest::option::of(any::<bool>()),
            proptest::option::of(parent),
            proptest::sample::select(Notify::ALL.to_vec()),
        )
            .prop_map(|(status, (depth, outcome, summary, id), chat, deliverable, parent, notify)| {
                let mut request = request(&[]);
                request.task.status = status.to_owned();
                request.task.depth = Some(depth);
                request.task.outcome = outcome;
                request.task.summary = Some(summary);
                request.task.id = id;
                request.origin.chat = chat;
                request.origin.deliverable = deliverable;
                request.parent = parent;
                request.notify = notify;
                request
            })
    }

    proptest! {
        #[test]
        fn a_result_is_delivered_once_or_kept(requests in proptest::collection::vec(any_request(), 1..6), steer: bool) {
            let memory = TaskMemory::default();
            let mut delivered = std::collections::HashSet::new();
            for request in requests {
                let answer = decide(&request, &memory, steer);
                let heard = reaches_somebody(&request, answer.delivery);
                if heard {
                    prop_assert!(delivered.insert(answer.idempotency_key.clone()), "delivered twice: {}", answer.idempotency_key);
                }
                prop_assert_eq!(answer.duplicate, answer.rule == CompletionRule::AlreadyDelivered);
                if answer.duplicate {
                    prop_assert!(delivered.contains(&answer.idempotency_key), "flagged though nobody heard of it");
                }
                // A terminal result that somebody wants reaches somebody, or is a duplicate, or is kept.
                if answer.telemetry.status.is_terminal() && request.notify != Notify::Silent {
                    prop_assert!(heard || answer.duplicate || answer.telemetry.result == request.task.summary);
                }
                prop_assert_eq!(answer.marker.is_some(), answer.delivery == Delivery::Marker);
                if let Some(marker) = &answer.marker {
                    prop_assert!(marker.text.chars().count() <= MAX_MARKER_CHARS);
                    prop_assert!(marker.text.contains(answer.telemetry.status.as_str()));
                    prop_assert!(answer.rule != CompletionRule::Handoff);
                    let has_parent = super::parent(&request).is_some();
                    prop_assert!(!has_parent || answer.rule == CompletionRule::DepthExceeded, "a raw marker beside a parent");
                }
                prop_assert!(answer.delivery != Delivery::ParentSteer || steer);
            }
        }

        #[test]
        fn of_equal_reports_at_once_one_delivers(threads in 2..9_usize, request in any_request()) {
            let memory = TaskMemory::default();
            let start = std::sync::Barrier::new(threads);
            let answers: Vec<CompletionResponse> = std::thread::scope(|scope| {
                let callers: Vec<_> = (0..threads)
                    .map(|_| {
                        scope.spawn(|| {
                            start.wait();
                            decide(&request, &memory, true)
                        })
                    })
                    .collect();
                callers.into_iter().map(|caller| caller.join().expect("no panic")).collect()
            });
            let heard = answers.iter().filter(|answer| reaches_somebody(&request, answer.delivery)).count();
            let duplicates = answers.iter().filter(|answer| answer.duplicate).count();
            if heard > 0 {
                prop_assert_eq!((heard, duplicates), (1, threads - 1));
            } else {
                prop_assert_eq!(duplicates, 0);
            }
        }
    }
}
