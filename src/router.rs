//! The decision, step by step, in the order and the words of the contract. Pure but for the two things it is handed: a memory and a
//! model.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::ack;
use crate::clock::Clock;
use crate::config::{FallbackAction, Permission};
use crate::guards::text::Text;
use crate::guards::{Turn, Verdict, ambient, backchannel, busy, command, detach, media, pending, stop};
use crate::memory::{Claim, Memory};
use crate::model::{Failure, Question};
use crate::prepared::Prepared;
use crate::protocol::{Action, BusyState, Capability, DecidedBy, Decision, Latency, Mode, RouteRequest, Rule, ShadowDecision};
use crate::review;

/// How much sooner than `deadline_ms` the model is given up, so that the answer reaches the caller in time: a tenth, within these bounds,
/// in milliseconds. The lower bound covers parsing, settling and a loopback round trip; the upper one a busy machine.
const MARGIN_MS: (u64, u64) = (5, 50);

/// How much later than the model's deadline a decision is given up as a whole. Only waiting for another request's decision on the same
/// message can take that long.
const GRACE: Duration = Duration::from_millis(2);

/// Decides what happens to messages.
#[derive(Debug)]
pub struct Router {
    memory: Memory,
}

impl Router {
    /// A router that remembers nothing yet.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { memory: Memory::new(clock) }
    }

    /// What should happen to the message. Always answers, and by the deadline: of the caller's patience and the model's limit the smaller.
    pub async fn route(&self, prepared: &Prepared, request: &RouteRequest) -> Decision {
        let started = Instant::now();
        let policy = prepared.policy(request);
        if policy.mode == Mode::Off {
            return disabled(request, started);
        }
        let turn = Turn {
            request,
            text: Text::new(&request.message.text),
            policy,
            lexicon: &prepared.lexicon,
            commands: prepared.commands(&request.session.gateway),
        };
        let deadline = model_deadline(prepared, request, started);

        let Some(message_id) = request.message.id.as_deref().filter(|id| !id.is_empty()) else {
            return self.decide(prepared, &turn, started, deadline).await;
        };
        let window = policy.guards.redelivery_window_s;
        let flight = if is_passing_through(&turn) {
            // Not remembered; but what was decided while the run went on still holds.
            match self.memory.decided(request, message_id, window).filter(|flight| flight.outcome.initialized()) {
                Some(flight) => flight,
                None => return self.decide(prepared, &turn, started, deadline).await,
            }
        } else {
            self.memory.decision_of(request, message_id, window)
        };
        let mut is_first = false;
        let decision = flight.outcome.get_or_init(|| {
            is_first = true;
            async { Arc::new(self.decide(prepared, &turn, started, deadline).await) }
        });
        match timeout_at(deadline + GRACE, decision).await {
            Ok(decision) if is_first => Decision::clone(decision),
            Ok(decision) => {
                let latency = Latency { total_us: micros(started), model_us: None };
                Decision { replayed: true, latency, ..Decision::clone(decision) }
            }
            // The same message is being decided for another request that has more time than this one.
            Err(_) => self.settle(&turn, fallback(&turn, &Failure::Timeout, None), started),
        }
    }

    async fn decide(&self, prepared: &Prepared, turn: &Turn<'_>, started: Instant, deadline: Instant) -> Decision {
        let verdict = match first_guard(turn) {
            Some(verdict) => {
                self.speak_for_album(turn, &verdict);
                verdict
            }
            None => self.album_or_rest(prepared, turn, deadline).await,
        };
        self.settle(turn, verdict, started)
    }

    /// A caption that a guard decided decides for the parts that follow it. They are no commands, though, and what came while there was no run
    /// is not remembered.
    fn speak_for_album(&self, turn: &Turn<'_>, verdict: &Verdict) {
        if let Some(album_id) = album_id(turn)
            && verdict.action != Action::Dispatch
            && verdict.rule != Rule::NotBusy
        {
            // An error says that a part before it decides already.
            let _ = self.memory.album(turn.request, album_id, turn.policy.guards.redelivery_window_s).outcome.set(verdict.action);
        }
    }

    /// `album`, and everything after it: the first part of an album decides for all.
    async fn album_or_rest(&self, prepared: &Prepared, turn: &Turn<'_>, deadline: Instant) -> Verdict {
        let Some(album_id) = album_id(turn) else {
            return self.rest(prepared, turn, deadline).await;
        };
        let flight = self.memory.album(turn.request, album_id, turn.policy.guards.redelivery_window_s);
        let mut first = None;
        let action = flight.outcome.get_or_init(|| async {
            let verdict = self.rest(prepared, turn, deadline).await;
            first.insert(verdict).action
        });
        match timeout_at(deadline + GRACE / 2, action).await {
            Ok(action) => {
                let action = *action;
                first.unwrap_or_else(|| Verdict::guard(Rule::Album, action))
            }
            // The first part is still being decided: keep this one like any media.
            Err(_) => media::media(turn).unwrap_or_else(|| fallback(turn, &Failure::Timeout, None)),
        }
    }

    /// From `media` to the model. `duplicate` stands between the guards in the contract's order, but is asked after them: they need no memory,
    /// and whether the message will be accepted decides how to ask.
    async fn rest(&self, prepared: &Prepared, turn: &Turn<'_>, deadline: Instant) -> Verdict {
        let by_guard = media::media(turn)
            .or_else(|| detach::detach_phrase(turn))
            .or_else(|| backchannel::backchannel(turn))
            .or_else(|| ambient::ambient(turn));
        let mut ticket = None;
        if can_be_duplicate(turn) {
            let (identity, window) = (turn.text.identity(), turn.policy.guards.duplicate_window_s);
            // What a guard ignores or passes through is not accepted, but may repeat what was.
            let will_be_accepted = by_guard.as_ref().is_none_or(|verdict| verdict.action.accepts());
            if will_be_accepted {
                // From here on the text is this message's until it turns out not to be accepted.
                match self.memory.claim(turn.request, identity, window) {
                    Claim::Duplicate(of) => return duplicate_of(of),
                    Claim::Won(won) => ticket = Some(won),
                }
            } else if let Some(of) = self.memory.repeats(turn.request, identity, window) {
                return duplicate_of(of);
            }
        }
        let verdict = match by_guard {
            Some(verdict) => verdict,
            None => by_model(prepared, turn, deadline).await,
        };
        // What the gateway cannot even queue passes through: then nothing was accepted here.
        if let Some(ticket) = ticket
            && permitted(turn, &verdict).0.accepts()
        {
            ticket.keep();
        }
        verdict
    }

    /// From a verdict to a decision: what the gateway can do and the operator permits, the ack, and shadow mode.
    fn settle(&self, turn: &Turn<'_>, verdict: Verdict, started: Instant) -> Decision {
        let (action, suggested) = permitted(turn, &verdict);
        let session = &turn.request.session;
        let mut decision = Decision {
            decision_id: Uuid::now_v7(),
            action,
            decided_by: verdict.decided_by,
            rule: verdict.rule,
            reason: reason(turn, &verdict, action, suggested),
            confidence: verdict.confidence,
            model_action: verdict.model_action,
            mode: turn.policy.mode,
            shadow: None,
            suggested_action: suggested,
            command: verdict.command,
            duplicate_of: verdict.duplicate_of,
            task_id: None,
            expected_turn_id: session.turn_id.clone(),
            ack: None,
            replayed: false,
            latency: Latency { total_us: 0, model_us: verdict.model_us },
        };
        if turn.policy.mode == Mode::Shadow {
            decision.shadow = Some(ShadowDecision {
                action,
                decided_by: decision.decided_by,
                rule: decision.rule,
                confidence: decision.confidence,
                suggested_action: suggested,
            });
            decision.action = Action::PassThrough;
            decision.suggested_action = None;
            decision.command = None;
        } else {
            if action == Action::Detach || suggested == Some(Action::Detach) {
                decision.task_id = detach::target(turn).map(str::to_owned);
            }
            decision.ack = ack::ack(turn, &self.memory, action);
        }
        decision.latency.total_us = micros(started);
        decision
    }
}

/// From `not_busy` to `pending_reply`: what needs no memory.
fn first_guard(turn: &Turn<'_>) -> Option<Verdict> {
    busy::not_busy(turn)
        .or_else(|| busy::stale_busy(turn))
        .or_else(|| command::command(turn))
        .or_else(|| command::detach_command(turn))
        .or_else(|| command::unknown_command(turn))
        .or_else(|| media::empty(turn))
        .or_else(|| stop::stop_phrase(turn))
        .or_else(|| pending::pending_reply(turn))
}

/// The album that the message is a part of.
fn album_id<'t>(turn: &Turn<'t>) -> Option<&'t str> {
    turn.request.message.media.iter().find_map(|media| media.album_id.as_deref()).filter(|id| !id.is_empty())
}

/// Whether there is no run: such a message is not remembered.
fn is_passing_through(turn: &Turn<'_>) -> bool {
    turn.request.busy.state == BusyState::Idle
}

/// A duplicate has text, no media, and answers nothing.
fn can_be_duplicate(turn: &Turn<'_>) -> bool {
    !turn.text.is_empty() && !turn.has_media() && !turn.awaits_user()
}

fn duplicate_of(message_id: Option<String>) -> Verdict {
    Verdict { duplicate_of: message_id, ..Verdict::guard(Rule::Duplicate, Action::Ignore) }
}

/// `model`, the review of its answer, and the fallback.
async fn by_model(prepared: &Prepared, turn: &Turn<'_>, deadline: Instant) -> Verdict {
    let question = Question::from_request(turn.request, review::labels(turn));
    let asked = Instant::now();
    let answer = prepared.model.ask(&question, deadline).await;
    let model_us = Some(micros(asked));
    let answer = match answer {
        Ok(answer) => answer,
        Err(failure) => {
            tracing::debug!(cause = %failure.rule(), detail = %failure, session_id = %turn.request.session.id, "the model could not be used");
            return fallback(turn, &failure, model_us);
        }
    };
    let mut verdict = match review::refusal(turn, &answer) {
        None => {
            Verdict { decided_by: DecidedBy::Model, suggested: answer.suggestion, ..Verdict::guard(Rule::Model, answer.action) }
        }
        Some(rule) => {
            let suggested = (rule == Rule::UnsupportedAction).then_some(answer.action);
            Verdict { suggested, ..Verdict::guard(rule, configured(turn, rule)) }
        }
    };
    verdict.confidence = Some(answer.confidence);
    verdict.model_action = Some(answer.action);
    verdict.model_us = model_us;
    verdict
}

/// The verdict when the model could not be used.
fn fallback(turn: &Turn<'_>, failure: &Failure, model_us: Option<u64>) -> Verdict {
    let rule = failure.rule();
    Verdict { decided_by: DecidedBy::Fallback, model_us, ..Verdict::guard(rule, configured(turn, rule)) }
}

/// What the operator wants done for a cause.
fn configured(turn: &Turn<'_>, cause: Rule) -> Action {
    match turn.policy.fallback.for_cause(cause) {
        FallbackAction::Interrupt => Action::Interrupt,
        FallbackAction::Queue => Action::Queue,
        FallbackAction::Ignore => Action::Ignore,
        FallbackAction::GatewayDefault => turn.request.default_action.map_or(Action::Queue, Action::from),
    }
}

/// The action that can and may happen, and the one that would be better if it cannot or may not.
fn permitted(turn: &Turn<'_>, verdict: &Verdict) -> (Action, Option<Action>) {
    let wanted = verdict.action;
    // A gateway that cannot stop a starting run yet stops it as soon as it can.
    let stops_a_start = verdict.rule == Rule::StopPhrase && turn.request.busy.state == BusyState::Starting;
    let declared = wanted.capability().is_none_or(|capability| turn.request.can(capability));
    if declared && (stops_a_start || review::is_executable(turn, wanted)) {
        return match verdict.suggested {
            // A bare `/bg` is the running tool's where that may happen; else it stays a command.
            Some(better) if wanted == Action::Dispatch && review::is_executable(turn, better) => (better, None),
            Some(better) if better != wanted => (wanted, mentioned(turn, better)),
            _ => (wanted, None),
        };
    }
    let instead = if turn.request.can(Capability::Queue) { Action::Queue } else { Action::PassThrough };
    (instead, mentioned(turn, verdict.suggested.filter(|_| wanted == Action::Queue).unwrap_or(wanted)))
}

/// An action as a suggestion; nothing where the operator does not want to hear of it.
fn mentioned(turn: &Turn<'_>, action: Action) -> Option<Action> {
    (turn.policy.actions.permission(action) != Permission::Off).then_some(action)
}

/// One sentence for a person, without the message's text.
fn reason(turn: &Turn<'_>, verdict: &Verdict, action: Action, suggested: Option<Action>) -> Cow<'static, str> {
    let meaning = verdict.rule.meaning();
    let state = turn.request.busy.state;
    if action == verdict.action || verdict.action == Action::Dispatch {
        return Cow::Borrowed(meaning);
    }
    let why = if verdict.action == Action::Interrupt && !state.interruptible() {
        format!("a run in state {state} cannot be interrupted")
    } else if turn.policy.actions.permission(verdict.action) != Permission::Execute {
        format!("the operator does not let {} happen", verdict.action)
    } else {
        format!("the gateway cannot {} now", verdict.action)
    };
    let better = suggested.map(|better| format!(", {better} would be better")).unwrap_or_default();
    Cow::Owned(format!("{meaning} It becomes {action}{better}: {why}."))
}

/// The decision while the router is off: as if it were not there.
fn disabled(request: &RouteRequest, started: Instant) -> Decision {
    Decision {
        decision_id: Uuid::now_v7(),
        action: Action::PassThrough,
        decided_by: DecidedBy::Disabled,
        rule: Rule::Disabled,
        reason: Cow::Borrowed(Rule::Disabled.meaning()),
        confidence: None,
        model_action: None,
        mode: Mode::Off,
        shadow: None,
        suggested_action: None,
        command: None,
        duplicate_of: None,
        task_id: None,
        expected_turn_id: request.session.turn_id.clone(),
        ack: None,
        replayed: false,
        latency: Latency { total_us: micros(started), model_us: None },
    }
}

/// When the model is given up: its own limit, or the caller's patience less a margin.
fn model_deadline(prepared: &Prepared, request: &RouteRequest, started: Instant) -> Instant {
    let limit = prepared.settings.model.timeout_ms;
    let patience = request.deadline_ms.map_or(u64::MAX, |ms| ms.saturating_sub((ms / 10).clamp(MARGIN_MS.0, MARGIN_MS.1)));
    started + Duration::from_millis(limit.min(patience))
}

fn micros(since: Instant) -> u64 {
    since.elapsed().as_micros() as u64
}
