//! What holds for every request, setting and model there can be: the library in this process, its clocks moved by hand.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use busy_router::clock::Clock;
use busy_router::config::{FallbackAction, Permission, Settings, Sources};
use busy_router::guards::text::{Text, has_question_mark};
use busy_router::http::body;
use busy_router::http::error::ApiError;
use busy_router::model::{Answer, Failure, Model, Question};
use busy_router::prepared::Prepared;
use busy_router::protocol::{Action, BusyState, Capability, DecidedBy, Decision, Mode, RouteRequest, Rule};
use busy_router::router::Router;
use futures_util::future::{BoxFuture, join_all};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout, timeout_at};

use crate::harness::merge;

/// How much later than a deadline a decision may come: what the router itself allows for.
const GRACE: Duration = Duration::from_millis(2);

/// A model that takes its time and says anything; it looks at what it is told.
#[derive(Debug)]
struct Slow {
    delay: Duration,
    says: Result<Answer, Failure>,
    asked: AtomicUsize,
    told_too_much: AtomicBool,
}

impl Slow {
    fn new(delay_ms: u64, says: Result<Answer, Failure>) -> Arc<Self> {
        Arc::new(Self {
            delay: Duration::from_millis(delay_ms),
            says,
            asked: AtomicUsize::new(0),
            told_too_much: AtomicBool::new(false),
        })
    }
}

impl Model for Slow {
    fn ask<'a>(&'a self, question: &'a Question<'a>, deadline: Instant) -> BoxFuture<'a, Result<Answer, Failure>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let excerpts = [question.tool_name, question.tool_preview, question.pending_question, question.reply_to];
        let texts = excerpts.into_iter().flatten().chain(question.history.iter().map(|(_, text)| *text));
        let of_role = |role| question.history.iter().filter(|(other, _)| *other == role).count();
        use busy_router::protocol::Role;
        if texts.into_iter().any(|text| text.chars().count() > 400) || of_role(Role::User) > 2 || of_role(Role::Assistant) > 2 {
            self.told_too_much.store(true, Ordering::SeqCst);
        }
        Box::pin(async move {
            match timeout_at(deadline, tokio::time::sleep(self.delay)).await {
                Ok(()) => self.says.clone(),
                Err(_) => Err(Failure::Timeout),
            }
        })
    }
}

/// The word lists are read once.
static BASE: LazyLock<Prepared> =
    LazyLock::new(|| Prepared::new(settings("mode = \"on\""), &Clock::manual(), None).expect("prepares"));

fn settings(text: &str) -> Settings {
    Sources::default().load_text(text).unwrap_or_else(|error| panic!("{error}\n{text}")).settings
}

fn prepared(text: &str, model: Arc<Slow>) -> Prepared {
    Prepared::with_model(settings(text), model, Some(&BASE)).expect("prepares")
}

/// Runs in a world where time passes only when nothing else can happen.
fn in_paused_time<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(future)
}

fn parse(request: Value) -> RouteRequest {
    serde_json::from_value(request).expect("a valid request")
}

fn text() -> impl Strategy<Value = String> {
    let known = [
        "",
        " \u{200b}",
        "stop",
        "STOP!!",
        "停止",
        "thanks",
        "👍",
        "ok",
        "/stop",
        "/bg",
        "/BG now",
        "/foobar x",
        "/detach",
        "yes",
        "no",
        "run that in the background",
        "please add unit tests for the parser module when you are through with the rest",
        "neat",
        "ok?",
        "5",
        "and the docs",
        "thanks for nothing",
    ];
    prop_oneof![
        6 => prop::sample::select(known.to_vec()).prop_map(str::to_owned),
        1 => "\\PC{0,60}",
        1 => any::<String>(),
        1 => (prop::sample::select(known.to_vec()), "[ !?.,…🛑a-z]{0,4}").prop_map(|(text, end)| format!("{text}{end}")),
    ]
}

fn maybe(value: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Value> {
    prop_oneof![2 => Just(Value::Null), 3 => value]
}

fn one_of<T: Clone + std::fmt::Debug + Into<Value> + 'static>(values: &'static [T]) -> impl Strategy<Value = Value> {
    prop::sample::select(values).prop_map(Into::into)
}

fn busy() -> impl Strategy<Value = Value> {
    let states: Vec<&str> = BusyState::ALL.iter().map(|state| state.as_str()).collect();
    let state = prop_oneof![3 => Just("thinking"), 2 => Just("running_tool"), 5 => prop::sample::select(states)];
    let tool = (one_of(&["exec", "deploy"]), maybe(one_of(&["b1"])), maybe(any::<bool>().prop_map(Value::from)), maybe(any::<bool>().prop_map(Value::from)), 0..900_usize)
        .prop_map(|(name, task, detachable, interruptible, preview)| {
            json!({"name": name, "task_id": task, "detachable": detachable, "interruptible": interruptible, "preview": "é".repeat(preview)})
        });
    let evidence = prop_oneof![
        8 => Just(json!([])),
        1 => Just(json!([{"source": "session", "status": "ended"}])),
        1 => (one_of(&["session", "task", "run", "status_api", "heartbeat"]), "[a-z_]{0,9}", any::<Option<u64>>())
            .prop_map(|(source, status, age)| json!([{"source": source, "status": status, "age_ms": age}])),
    ];
    (state, maybe(tool), maybe((0..3_u64).prop_map(Value::from)), prop_oneof![4 => Just(Value::Null), 1 => Just(json!("Deploy?"))], evidence, any::<Option<u64>>()).prop_map(
        |(state, tool, subagents, question, evidence, elapsed)| {
            json!({"state": state, "tool": tool, "subagents": subagents, "pending_question": question, "evidence": evidence, "elapsed_ms": elapsed})
        },
    )
}

/// Any request; from few sessions, senders and ids, so that they meet.
fn request() -> impl Strategy<Value = Value> {
    let session = (one_of(&["s1", "s1", "s2"]), one_of(&["hermes", "openclaw", "default"]), one_of(&["direct", "direct", "group", "thread"]), maybe(one_of(&["u1"])), maybe(one_of(&["t1"])))
        .prop_map(|(id, gateway, chat, owner, turn)| json!({"id": id, "gateway": gateway, "chat": chat, "owner_id": owner, "turn_id": turn}));
    let media = prop_oneof![
        6 => Just(json!([])),
        1 => one_of(&["photo", "voice", "sticker"]).prop_map(|kind| json!([{"kind": kind}])),
        1 => one_of(&["a1", "a2"]).prop_map(|album| json!([{"kind": "photo", "album_id": album}])),
    ];
    let reply = prop_oneof![5 => Just(Value::Null), 1 => ("\\PC{0,500}", maybe(one_of(&["user", "assistant"]))).prop_map(|(text, from)| json!({"text": text, "from": from}))];
    let message = (maybe(one_of(&["m1", "m2", "m3"])), text(), maybe(one_of(&["u1", "u2"])), maybe(any::<bool>().prop_map(Value::from)), media, reply)
        .prop_map(|(id, text, sender, addressed, media, reply)| json!({"id": id, "text": text, "sender_id": sender, "addressed": addressed, "media": media, "reply_to": reply}));
    let entry = (one_of(&["user", "assistant"]), prop_oneof!["\\PC{0,20}", Just("Shall I?".to_owned()), Just("x".repeat(500))])
        .prop_map(|(role, text)| json!({"role": role, "text": text}));
    let capabilities = prop_oneof![
        2 => Just(Value::Null),
        2 => Just(json!(["interrupt", "queue", "ignore", "steer", "background", "ask", "detach"])),
        3 => prop::collection::vec(prop::sample::select(Capability::ALL), 0..7).prop_map(|all| json!(all)),
    ];
    let deadline = maybe(prop_oneof![0..20_u64, 20..3_000_u64, any::<u64>()].prop_map(Value::from));
    (session, message, busy(), prop::collection::vec(entry, 0..7), capabilities, maybe(one_of(&["interrupt", "queue", "steer"])), deadline).prop_map(
        |(session, message, busy, history, capabilities, default, deadline)| {
            json!({"session": session, "message": message, "busy": busy, "history": history, "capabilities": capabilities, "default_action": default, "deadline_ms": deadline})
        },
    )
}

fn configuration() -> impl Strategy<Value = String> {
    let actions = prop::sample::select(vec!["interrupt", "queue", "ignore", "gateway_default"]);
    let permission = || prop::sample::select(vec!["off", "suggest", "execute"]);
    let causes = prop::collection::vec(
        (
            prop::sample::select(vec![
                "timeout",
                "model_error",
                "invalid_output",
                "rate_limited",
                "circuit_open",
                "overloaded",
                "low_confidence",
            ]),
            actions.clone(),
        ),
        0..4,
    )
    .prop_map(|causes| causes.into_iter().collect::<std::collections::BTreeMap<_, _>>());
    (
        prop_oneof![8 => Just("on"), 2 => Just("shadow"), 1 => Just("off")],
        actions,
        causes,
        prop::sample::select(vec!["queue", "ignore", "pass_through"]),
        (prop::sample::select(vec![0_u64, 30, 30]), prop::sample::select(vec![0_u64, 300, 300]), any::<bool>(), any::<bool>()),
        [permission(), permission(), permission(), permission()],
        (1..3_000_u64, any::<bool>()),
    )
        .prop_map(|(mode, action, causes, ambient, (duplicates, redeliveries, protected, subagents), [steer, background, ask, detach], (limit, acks))| {
            let causes = causes.iter().map(|(cause, action)| format!("{cause} = \"{action}\"\n")).collect::<Vec<_>>().concat();
            let protected = if protected { "[\"deploy\"]" } else { "[]" };
            format!(
                "mode = \"{mode}\"\n[model]\ntimeout_ms = {limit}\n[fallback]\naction = \"{action}\"\n{causes}\
                 [guards]\nambient = \"{ambient}\"\nduplicate_window_s = {duplicates}\nredelivery_window_s = {redeliveries}\nprotected_tools = {protected}\nprotect_subagents = {subagents}\n\
                 [actions]\nsteer = \"{steer}\"\nbackground = \"{background}\"\nask = \"{ask}\"\ndetach = \"{detach}\"\n[ack]\nenabled = {acks}\n"
            )
        })
}

fn says() -> impl Strategy<Value = Result<Answer, Failure>> {
    let labels = busy_router::model::answer::LABELS.to_vec();
    let answer = (
        prop::sample::select(labels.clone()),
        0.0..=1.0_f32,
        prop::bool::weighted(0.2),
        prop::option::weighted(0.1, prop::sample::select(labels)),
    )
        .prop_map(|(action, confidence, abstains, suggestion)| Ok(Answer { action, confidence, abstains, suggestion }));
    let failure = prop::sample::select(vec![
        Failure::Timeout,
        Failure::Error("x".to_owned()),
        Failure::InvalidOutput("x".to_owned()),
        Failure::RateLimited,
        Failure::CircuitOpen,
        Failure::Overloaded,
    ]);
    prop_oneof![3 => answer, 1 => failure.prop_map(Err)]
}

/// A model: how long it takes, and what it says then.
fn model() -> impl Strategy<Value = (u64, Result<Answer, Failure>)> {
    (prop_oneof![Just(0_u64), 0..4_000_u64, Just(u64::from(u32::MAX))], says())
}

/// What the decision would have the gateway do, in shadow mode too.
fn effective(decision: &Decision) -> Action {
    decision.shadow.as_ref().map_or(decision.action, |shadow| shadow.action)
}

fn suggested(decision: &Decision) -> Option<Action> {
    decision.shadow.as_ref().map_or(decision.suggested_action, |shadow| shadow.suggested_action)
}

const BY_REVIEW: [Rule; 4] = [Rule::LowConfidence, Rule::IgnoreWithContent, Rule::ProtectedRun, Rule::UnsupportedAction];

/// What holds for a decision by itself.
fn check(settings: &Settings, request: &RouteRequest, decision: &Decision) -> Result<(), TestCaseError> {
    let action = effective(decision);
    let busy = &request.busy;
    let text = Text::new(&request.message.text);

    prop_assert_eq!(&decision.expected_turn_id, &request.session.turn_id);
    prop_assert_eq!(decision.mode, settings.mode);
    prop_assert_eq!(decision.shadow.is_some(), settings.mode == Mode::Shadow);
    if settings.mode != Mode::On {
        prop_assert_eq!((decision.action, &decision.ack, &decision.suggested_action), (Action::PassThrough, &None, &None));
    }
    if settings.mode == Mode::Off {
        prop_assert_eq!((decision.decided_by, decision.rule), (DecidedBy::Disabled, Rule::Disabled));
        return Ok(());
    }
    prop_assert_ne!(decision.rule, Rule::Disabled);
    if text.visible.chars().count() > 11 {
        prop_assert!(!decision.reason.contains(text.visible.as_ref()), "the reason holds the text");
    }

    // Nothing is lost: it is passed on, dispatched, or what the gateway says it can do, and ignored only by a rule that may ignore.
    prop_assert!(action.capability().is_none_or(|capability| request.can(capability)), "{} cannot be done", action);
    let configured_ignore = settings.fallback.for_cause(decision.rule) == FallbackAction::Ignore;
    if action == Action::Ignore {
        let by = decision.decided_by;
        let allowed = match decision.rule {
            Rule::Empty => request.message.media.is_empty() && text.is_empty(),
            Rule::Duplicate | Rule::Backchannel => {
                request.message.media.is_empty()
                    && !text.is_empty()
                    && !busy.state.awaits_user()
                    && busy.pending_question.is_none()
            }
            Rule::Ambient => request.session.chat.is_shared() && request.message.addressed == Some(false),
            Rule::Album => !request.message.media.is_empty(),
            Rule::Model => {
                by == DecidedBy::Model
                    && decision.model_action == Some(Action::Ignore)
                    && request.message.media.is_empty()
                    && !has_question_mark(&text.visible)
                    && !text.visible.chars().any(char::is_numeric)
                    && text.visible.chars().count() <= settings.guards.ignore_max_chars
                    && busy.pending_question.is_none()
            }
            _ => configured_ignore && (by == DecidedBy::Fallback || BY_REVIEW.contains(&decision.rule)),
        };
        prop_assert!(allowed, "ignored by {} {}", by, decision.rule);
    }

    // An interrupt reaches a run that can be interrupted, and a protected one only by a stop phrase, an album of it, or the operator's fallback.
    if action == Action::Interrupt {
        let starts = decision.rule == Rule::StopPhrase && busy.state == BusyState::Starting;
        prop_assert!(busy.state.interruptible() || starts, "{} was interrupted", busy.state);
        let protected = busy
            .tool
            .as_ref()
            .is_some_and(|tool| tool.interruptible == Some(false) || settings.guards.protected_tools.contains(&tool.name))
            || (settings.guards.protect_subagents && busy.subagents.unwrap_or(0) > 0);
        prop_assert!(!(protected && decision.decided_by == DecidedBy::Model), "a model's word interrupted a protected run");
    }
    // What v1 does not do by itself needs the operator.
    if let Action::Steer | Action::Background | Action::Ask | Action::Detach = action {
        prop_assert_eq!(settings.actions.permission(action), Permission::Execute);
    }
    if let Some(better) = suggested(decision) {
        prop_assert!(
            better != action && settings.actions.permission(better) != Permission::Off,
            "{} suggested beside {}",
            better,
            action
        );
    }
    if decision.action == Action::Detach {
        prop_assert!(decision.task_id.is_some());
    }
    if action == Action::Dispatch {
        prop_assert_eq!(decision.rule, Rule::Command);
        prop_assert!(decision.command.is_some() || settings.mode == Mode::Shadow);
    }
    if let Some(ack) = &decision.ack {
        prop_assert_eq!(ack.key, decision.action);
        prop_assert!(!ack.text.is_empty() && (settings.ack.enabled || ack.key == Action::Ask));
    }

    // Who decided, and what is told of the model.
    let by_model = decision.rule == Rule::Model;
    prop_assert_eq!(by_model, decision.decided_by == DecidedBy::Model);
    prop_assert_eq!(decision.model_action.is_some(), by_model || BY_REVIEW.contains(&decision.rule));
    prop_assert_eq!(decision.model_action.is_some(), decision.confidence.is_some());
    prop_assert_eq!(decision.duplicate_of.is_some() && decision.rule != Rule::Duplicate, false);
    if decision.command.is_some() {
        prop_assert!(matches!(decision.rule, Rule::Command | Rule::UnknownCommand));
    }
    Ok(())
}

/// By when the answer to a request must be there.
fn latest(settings: &Settings, request: &RouteRequest) -> Duration {
    Duration::from_millis(settings.model.timeout_ms.min(request.deadline_ms.unwrap_or(u64::MAX))) + GRACE
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    /// A conversation of some messages, one after the other, with pauses.
    #[test]
    fn whatever_is_asked_the_answer_is_sound_and_in_time(
        config in configuration(),
        (delay, says) in model(),
        messages in prop::collection::vec((request(), prop::sample::select(vec![0_u64, 1, 29, 31, 299, 301])), 1..6),
    ) {
        let model = Slow::new(delay, says);
        let prepared = prepared(&config, model.clone());
        let settings = &prepared.settings;
        let clock = Clock::manual();
        let router = Router::new(clock.clone());
        let mut before: Vec<(u64, RouteRequest, Decision)> = Vec::new();
        for (request, pause) in messages {
            clock.advance(Duration::from_secs(pause));
            let now = clock.now_ms() / 1000;
            let request = parse(request);
            let asked = model.asked.load(Ordering::SeqCst);
            let (decision, took) = in_paused_time(async {
                let started = Instant::now();
                let decision = router.route(&prepared, &request).await;
                (decision, started.elapsed())
            });
            prop_assert!(took <= latest(settings, &request), "{:?}", took);
            if let Some(patience) = request.deadline_ms.filter(|ms| *ms >= 10) {
                prop_assert!(took < Duration::from_millis(patience), "{:?} of {} ms", took, patience);
            }
            let was_asked = model.asked.load(Ordering::SeqCst) > asked;
            let same_session = |other: &RouteRequest| other.session.id == request.session.id && other.session.gateway == request.session.gateway;
            if decision.replayed {
                // The very decision that this id got before.
                let first = before.iter().rev().find(|(_, other, first)| same_session(other) && other.message.id == request.message.id && first.decision_id == decision.decision_id);
                let Some((then, _, first)) = first else { return Err(TestCaseError::fail("replays what nobody heard")) };
                prop_assert!(now - then < settings.guards.redelivery_window_s && !was_asked);
                prop_assert_eq!(&Decision { replayed: first.replayed, latency: first.latency, ..decision.clone() }, first);
            } else {
                check(settings, &request, &decision)?;
                prop_assert!(before.iter().all(|(_, _, other)| other.decision_id != decision.decision_id));
                let id = request.message.id.as_deref();
                let known = before.iter().any(|(then, other, first)| {
                    id.is_some() && same_session(other) && other.message.id.as_deref() == id && !first.replayed
                        && now - then < settings.guards.redelivery_window_s && other.busy.state != BusyState::Idle
                });
                prop_assert!(!known || settings.mode == Mode::Off, "decided twice");
            }
            if was_asked {
                prop_assert!(decision.latency.model_us.is_some());
            }
            if decision.rule == Rule::Duplicate && !decision.replayed {
                // Somebody said that before, and it was taken up.
                let taken_up = before.iter().any(|(then, other, first)| {
                    same_session(other)
                        && other.message.sender_id == request.message.sender_id
                        && Text::new(&other.message.text).identity() == Text::new(&request.message.text).identity()
                        && now - then < settings.guards.duplicate_window_s
                        && effective(first).accepts()
                        && (decision.duplicate_of.is_none() || decision.duplicate_of == other.message.id)
                });
                prop_assert!(taken_up, "a duplicate of nothing");
            }
            if decision.rule == Rule::Album && !decision.replayed {
                let album = &request.message.media[0].album_id;
                let first = before.iter().any(|(then, other, _)| {
                    same_session(other) && other.message.media.first().is_some_and(|media| media.album_id == *album) && now - then < settings.guards.redelivery_window_s
                });
                prop_assert!(first, "a part of nothing");
            }
            before.push((now, request, decision));
        }
        prop_assert!(!model.told_too_much.load(Ordering::SeqCst));
    }

    /// Copies of one message at one instant, some of whose callers go away: at most one is taken up, and a later copy is a duplicate if and only if
    /// somebody heard that one was.
    #[test]
    fn of_identical_messages_one_wins(
        (delay, says) in model().prop_filter("taken up", |(_, says)| says.as_ref().map_or(true, |answer| matches!(answer.action, Action::Queue | Action::Interrupt))),
        callers in prop::collection::vec((prop::option::of(0..2_500_u64), any::<bool>()), 2..20),
    ) {
        let model = Slow::new(delay, says);
        let prepared = prepared("mode = \"on\"\n[model]\ntimeout_ms = 2000\n", model.clone());
        let router = Router::new(Clock::manual());
        let message = |id: Value| {
            let mut message = json!({"session": {"id": "s"}, "message": {"text": "please add unit tests", "sender_id": "u"}, "busy": {"state": "thinking"}});
            merge(&mut message, json!({"message": {"id": id}}));
            parse(message)
        };
        let requests: Vec<(RouteRequest, u64)> = callers
            .iter()
            .enumerate()
            .map(|(n, (patience, named))| (message(if *named { json!(format!("m{n}")) } else { Value::Null }), patience.unwrap_or(60_000)))
            .collect();
        let (decisions, late) = in_paused_time(async {
            let all = requests.iter().map(|(request, patience)| timeout(Duration::from_millis(*patience), router.route(&prepared, request)));
            let decisions: Vec<Decision> = join_all(all).await.into_iter().flatten().collect();
            (decisions, router.route(&prepared, &message(Value::Null)).await)
        });
        let taken_up = decisions.iter().filter(|decision| decision.rule != Rule::Duplicate).count();
        prop_assert!(taken_up <= 1, "{} were taken up", taken_up);
        prop_assert!(decisions.iter().all(|decision| decision.action.accepts() != (decision.rule == Rule::Duplicate)));
        prop_assert_eq!(late.rule == Rule::Duplicate, taken_up == 1, "{:?}", late);
        if callers.iter().all(|(patience, _)| patience.is_none()) {
            prop_assert_eq!((taken_up, model.asked.load(Ordering::SeqCst)), (1, 1));
        }
    }

    /// Deliveries of one message at one instant, some of whose callers go away: who hears anything hears the same.
    #[test]
    fn of_one_message_there_is_one_decision(
        request in request(),
        config in configuration(),
        (delay, says) in model(),
        callers in prop::collection::vec(prop::option::of(0..4_000_u64), 2..20),
    ) {
        let prepared = prepared(&config, Slow::new(delay, says));
        let settings = &prepared.settings;
        if settings.mode == Mode::Off || settings.guards.redelivery_window_s == 0 || request["busy"]["state"] == "idle" {
            return Ok(());
        }
        let mut request = request;
        request["message"]["id"] = json!("m1");
        let request = parse(request);
        let router = Router::new(Clock::manual());
        let (decisions, late) = in_paused_time(async {
            let all = callers.iter().map(|patience| timeout(Duration::from_millis(patience.unwrap_or(60_000)), router.route(&prepared, &request)));
            let decisions: Vec<Decision> = join_all(all).await.into_iter().flatten().collect();
            (decisions, router.route(&prepared, &request).await)
        });
        for decision in &decisions {
            let same = Decision { replayed: late.replayed, latency: late.latency, ..decision.clone() };
            prop_assert_eq!(&same, &late);
        }
        prop_assert!(decisions.iter().filter(|decision| !decision.replayed).count() <= 1);
        prop_assert_eq!(late.replayed, !decisions.is_empty());
    }

    /// The limit of the text is one of bytes, whatever it is made of.
    #[test]
    fn a_text_has_at_most_32768_bytes(c in prop::sample::select(vec!['x', 'ü', '停', '🛑', '"', '\u{1}']), length in 32_700..32_800_usize) {
        let text: String = c.to_string().repeat(length / c.len_utf8() + 1);
        let request = json!({"session": {"id": "s"}, "message": {"text": text}, "busy": {"state": "thinking"}});
        match body::parse::<RouteRequest>(request.to_string().as_bytes()) {
            Ok(_) => prop_assert!(text.len() <= 32_768),
            Err(ApiError::InvalidFields(errors)) => {
                prop_assert!(text.len() > 32_768);
                prop_assert_eq!(errors.len(), 1);
                prop_assert_eq!(&errors[0].pointer, "/message/text");
            }
            Err(other) => return Err(TestCaseError::fail(format!("{other:?}"))),
        }
    }

    /// A request that is broken in one place is refused for that place, or it was not broken.
    #[test]
    fn the_place_that_is_wrong_is_named(
        request in request(),
        at in prop::sample::select(vec![
            "/session", "/session/id", "/session/chat", "/session/owner_id", "/message", "/message/id", "/message/text", "/message/addressed", "/message/media", "/message/reply_to",
            "/busy", "/busy/state", "/busy/tool", "/busy/subagents", "/busy/evidence", "/busy/elapsed_ms", "/history", "/capabilities", "/default_action", "/deadline_ms",
        ]),
        wrong in prop::sample::select(vec![json!(null), json!(true), json!(-1), json!(1.5), json!("x"), json!([]), json!([5]), json!({}), json!({"kind": 5}), json!("")]),
    ) {
        let mut request = request;
        *request.pointer_mut(at).expect("it is there") = wrong;
        match body::parse::<RouteRequest>(request.to_string().as_bytes()) {
            Ok(_) => {}
            Err(ApiError::InvalidFields(errors)) => {
                prop_assert!(!errors.is_empty() && errors.iter().all(|error| error.pointer.starts_with(at) && !error.detail.is_empty()), "{} for {}", errors[0].pointer, at);
            }
            Err(other) => return Err(TestCaseError::fail(format!("{other:?}"))),
        }
    }
}
