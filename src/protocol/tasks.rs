//! What a gateway asks about background tasks (`POST /v1/tasks/status`, `POST /v1/tasks/completion`), and the answers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::route::MAX_SESSION_ID_CHARS;
use super::vocabulary::{BusyState, ChatKind, EvidenceSource, vocabulary};
use super::{FieldError, Validate, null_as_default};

/// Longest id of a task, run or session, and longest outcome word, in characters.
pub const MAX_ID_CHARS: usize = MAX_SESSION_ID_CHARS;
/// Generations of tasks that may report upwards when the request names no `max_depth`.
pub const DEFAULT_MAX_DEPTH: u64 = 5;
/// Longest text of a marker, in characters.
pub const MAX_MARKER_CHARS: usize = 200;

vocabulary! {
    /// What state a task is really in, whichever system's word said so.
    TaskStatus {
        /// It has not begun.
        Pending = "pending",
        /// It is at work.
        Running = "running",
        /// It waits for somebody: an answer, an approval, a login.
        InputRequired = "input_required",
        /// Terminal: it did what it was asked to do.
        Completed = "completed",
        /// Terminal: it ended without doing what it was asked to do.
        Failed = "failed",
        /// Terminal: somebody ended it.
        Cancelled = "cancelled",
        /// Nobody can say; the caller keeps what it had.
        Unknown = "unknown",
    }
}

impl TaskStatus {
    /// Whether the task has ended for good.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// Whether the task still has something before it.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Pending | Self::Running | Self::InputRequired)
    }
}

vocabulary! {
    /// The rule that found the status, in the order in which they are tried (`lost` is tried twice).
    StatusRule {
        /// This task was already found terminal here, and the first terminal status stays whatever comes later.
        FirstTerminal = "first_terminal",
        /// A run outlived by the process that hosted it, or a session that is gone without output.
        Lost = "lost",
        /// A session, run, status endpoint or heartbeat says that it is at work, and is fresher than every terminal word.
        ActiveWins = "active_wins",
        /// The session or the run has ended, whatever the task registry says.
        SessionTerminal = "session_terminal",
        /// The task registry says that it has ended.
        TaskTerminal = "task_terminal",
        /// The session went idle or absent after it was busy, and left output and no open todos.
        IdleWithOutput = "idle_with_output",
        /// Nothing but the task registry speaks, and it says that the task is alive.
        TaskActive = "task_active",
        /// Nothing here decides; the caller keeps what it had.
        NoDecision = "no_decision",
    }
}

vocabulary! {
    /// The rule that found who hears of a task, in the order in which they are tried.
    CompletionRule {
        /// The caller wants no notice of this task.
        Silent = "silent",
        /// The task has not ended, and the caller wants to hear of ends only.
        NotTerminal = "not_terminal",
        /// This task was delivered before with this status and outcome.
        AlreadyDelivered = "already_delivered",
        /// The task sits too many generations deep to report upwards.
        DepthExceeded = "depth_exceeded",
        /// A parent session exists and takes the result over.
        Handoff = "handoff",
        /// There is no parent, and the origin cannot be delivered to.
        Undeliverable = "undeliverable",
        /// There is no parent, so the origin is told directly.
        ParentMissing = "parent_missing",
    }
}

vocabulary! {
    /// Where a result goes.
    Delivery {
        /// It starts the parent's next turn.
        ParentTurn = "parent_turn",
        /// It is injected into the parent's running turn; if that has ended meanwhile it is queued, never dropped.
        ParentSteer = "parent_steer",
        /// It waits for the parent's next turn.
        ParentQueue = "parent_queue",
        /// A short text goes to the origin.
        Marker = "marker",
        /// Nowhere.
        None = "none",
    }
}

vocabulary! {
    /// What kind of work a task is.
    TaskKind {
        /// An agent that another agent started.
        Subagent = "subagent",
        /// An agent behind the Agent Client Protocol.
        Acp = "acp",
        /// A scheduled job; its id may name the job instead of one run of it, then `run_id` tells the runs apart.
        Cron = "cron",
        /// A command of the operating system.
        Command = "command",
        /// Anything else.
        Other = "other",
    }
}

vocabulary! {
    /// What the caller wants to hear of a task.
    Notify {
        /// That it has ended.
        Done = "done",
        /// Every change.
        All = "all",
        /// Nothing.
        Silent = "silent",
    }
}

#[expect(clippy::derivable_impls, reason = "`vocabulary!` takes no attributes on its words")]
impl Default for Notify {
    fn default() -> Self {
        Self::Done
    }
}

/// A question about one background task, with everything that the gateway knows of it.
///
/// Unknown fields are ignored: a gateway may be newer than the router.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StatusRequest {
    /// The task, by the gateway's id.
    #[schema(min_length = 1, max_length = 256)]
    pub task_id: String,
    /// The session that the task runs in. Send it always or never: tasks of two sessions may then share an id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 256)]
    pub session_id: Option<String>,
    /// What each source says, in any order; may be empty.
    pub evidence: Vec<TaskEvidence>,
}

/// What one source says of a task.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TaskEvidence {
    /// Who says it.
    pub source: EvidenceSource,
    /// The source's own word, in any of the known vocabularies; a word that nobody knows counts as saying nothing.
    pub status: String,
    /// How long ago this became so, or was seen to be so, in milliseconds. It says nothing for a task registry's "running".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// Whether there is output to read. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub has_output: Option<bool>,
    /// How many todos the session has left open. Default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_todos: Option<u64>,
    /// Whether the session was ever seen at work. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_busy: Option<bool>,
    /// How many polls in a row did not find the session. Default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absent_polls: Option<u64>,
    /// Whether the session was looked up by its id and does not exist. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified_missing: Option<bool>,
    /// How long the process that hosts the run has been up, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_age_ms: Option<u64>,
}

/// What state a task is really in. Every field is always present, `null` where there is nothing to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatusResponse {
    /// The task asked about.
    pub task_id: String,
    /// The session asked about.
    pub session_id: Option<String>,
    /// What state it is in.
    pub status: TaskStatus,
    /// Whether it has ended for good.
    pub terminal: bool,
    /// The rule that decided.
    pub rule: StatusRule,
    /// The source that decided; null when none did.
    pub decided_by: Option<EvidenceSource>,
    /// The sources whose word contradicts this answer.
    pub stale: Vec<EvidenceSource>,
    /// What to do with the answer, in one sentence for an agent or a person; null when there is nothing to add.
    pub hint: Option<String>,
}

/// A task that has ended, or changed, and the question who shall hear of it.
///
/// Unknown fields are ignored: a gateway may be newer than the router.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CompletionRequest {
    /// The task.
    pub task: FinishedTask,
    /// Where it was asked for.
    pub origin: Origin,
    /// The session that waits for its result; null when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// What the caller wants to hear of.
    #[serde(default, deserialize_with = "null_as_default")]
    pub notify: Notify,
    /// Deepest generation that may report upwards. Default 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_depth: Option<u64>,
}

/// The task that a result belongs to.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FinishedTask {
    /// The gateway's id of it.
    #[schema(min_length = 1, max_length = 256)]
    pub id: String,
    /// Its status, in any of the known vocabularies; a word that nobody knows counts as not terminal.
    pub status: String,
    /// How it ended beyond the status, such as `blocked`. With id and status it makes a delivery unique.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 256)]
    pub outcome: Option<String>,
    /// The result in a sentence or two; only a marker shows it, cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The run that ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 256)]
    pub run_id: Option<String>,
    /// What kind of work it is.
    pub kind: TaskKind,
    /// How many tasks stand above it: 0 for one that a user's own session started. Default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<u64>,
}

/// Where a task was asked for.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Origin {
    /// What kind of conversation it is.
    pub chat: ChatKind,
    /// The session of that conversation. Tasks of two origin sessions may share an id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 256)]
    pub session_id: Option<String>,
    /// Whether the gateway can send to it now. Default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliverable: Option<bool>,
}

/// The session that waits for a result.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Parent {
    /// Its key.
    #[schema(min_length = 1, max_length = 256)]
    pub session_id: String,
    /// Whether it still exists; false is the same as no parent. Default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exists: Option<bool>,
    /// What it is doing; idle when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busy: Option<BusyState>,
}

/// Who hears of a task. Every field is always present, `null` where there is nothing to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CompletionResponse {
    /// Where the result goes.
    pub delivery: Delivery,
    /// Whether the parent must take the result over and speak for it.
    pub requires_handoff: bool,
    /// Whether the parent must be woken, because it is idle or may be.
    pub wake: bool,
    /// The text for the origin, when `delivery` is `marker`.
    pub marker: Option<Marker>,
    /// The rule that decided.
    pub rule: CompletionRule,
    /// The same for every report of this task with this status and outcome; send it along with the delivery.
    pub idempotency_key: String,
    /// This was delivered before; do nothing.
    pub duplicate: bool,
    /// For log, metrics and journal; never for the conversation.
    pub telemetry: Telemetry,
}

/// A short text that stands for a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Marker {
    /// One line of at most 200 characters that names the task and how it ended.
    #[schema(max_length = 200)]
    pub text: String,
}

/// What log, metrics and journal keep of a completion; never for the conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Telemetry {
    /// What happened and why, in one sentence for the operator; never contains the summary.
    pub note: String,
    /// The task's status, in the router's words.
    pub status: TaskStatus,
    /// What kind of work it is.
    pub kind: TaskKind,
    /// How many tasks stand above it.
    pub depth: u64,
    /// The run that ended.
    pub run_id: Option<String>,
    /// The task's summary, when this answer delivers it nowhere: keep it, nobody else does. May hold personal data.
    pub result: Option<String>,
}

impl Validate for StatusRequest {
    fn violations(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        id(&mut errors, "/task_id", Some(&self.task_id));
        id(&mut errors, "/session_id", self.session_id.as_deref());
        errors
    }
}

impl Validate for CompletionRequest {
    fn violations(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        id(&mut errors, "/task/id", Some(&self.task.id));
        short(&mut errors, "/task/outcome", self.task.outcome.as_deref());
        short(&mut errors, "/task/run_id", self.task.run_id.as_deref());
        id(&mut errors, "/origin/session_id", self.origin.session_id.as_deref());
        id(&mut errors, "/parent/session_id", self.parent.as_ref().map(|parent| parent.session_id.as_str()));
        errors
    }
}

/// An id, where given, is neither empty nor too long.
fn id(errors: &mut Vec<FieldError>, pointer: &str, value: Option<&str>) {
    if value.is_some_and(str::is_empty) {
        errors.push(FieldError::new(pointer, "must not be empty; leave an optional id out instead"));
    }
    short(errors, pointer, value);
}

fn short(errors: &mut Vec<FieldError>, pointer: &str, value: Option<&str>) {
    // Bytes first: counting characters is only worth it for what may be too long.
    if value.is_some_and(|value| value.len() > MAX_ID_CHARS && value.chars().count() > MAX_ID_CHARS) {
        errors.push(FieldError::new(
            pointer,
            format!("is longer than {MAX_ID_CHARS} characters; send a shorter one, such as a hash of it"),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pointers(request: &impl Validate) -> Vec<String> {
        request.violations().into_iter().map(|error| error.pointer).collect()
    }

    fn completion(value: Value) -> CompletionRequest {
        serde_json::from_value(value).expect("a valid request")
    }

    #[test]
    fn null_means_left_out_and_unknown_fields_are_ignored() {
        let status: StatusRequest = serde_json::from_value(json!({
            "task_id": "t", "session_id": null, "new": 1,
            "evidence": [{"source": "session", "status": "tomorrow's", "age_ms": null, "has_output": null, "open_todos": null,
                "seen_busy": null, "absent_polls": null, "verified_missing": null, "host_age_ms": null, "new": {}}]
        }))
        .expect("a valid request");
        assert_eq!(status.session_id, None);
        assert!(status.violations().is_empty());

        let request = completion(json!({
            "task": {"id": "t", "status": "?", "outcome": null, "summary": null, "run_id": null, "kind": "other", "depth": null},
            "origin": {"chat": "direct", "session_id": null, "deliverable": null},
            "parent": null, "notify": null, "max_depth": null
        }));
        assert_eq!(request.notify, Notify::Done);
        assert!(request.violations().is_empty());
        let request = completion(json!({
            "task": {"id": "t", "status": "done", "kind": "cron"}, "origin": {"chat": "thread"},
            "parent": {"session_id": "p", "exists": null, "busy": null}
        }));
        assert!(request.parent.is_some_and(|parent| parent.exists.is_none() && parent.busy.is_none()));
    }

    #[test]
    fn words_of_the_protocol_are_strict_and_required_fields_required() {
        let good = json!({"task": {"id": "t", "status": "done", "kind": "cron"}, "origin": {"chat": "direct"}, "notify": "all"});
        assert!(serde_json::from_value::<CompletionRequest>(good.clone()).is_ok());
        for (pointer, bad) in [
            ("/task/kind", json!("robot")),
            ("/origin/chat", json!("pub")),
            ("/notify", json!("maybe")),
            ("/parent", json!({"session_id": "p", "busy": "bored"})),
            ("/parent", json!({"exists": true})),
            ("/task/depth", json!(-1)),
            ("/task/depth", json!("2")),
            ("/max_depth", json!(1.5)),
        ] {
            let mut request = good.clone();
            request["parent"] = Value::Null;
            request["max_depth"] = Value::Null;
            request["task"]["depth"] = Value::Null;
            *request.pointer_mut(pointer).expect("the pointer exists") = bad;
            assert!(serde_json::from_value::<CompletionRequest>(request).is_err(), "{pointer}");
        }
        for field in ["task", "origin"] {
            let mut request = good.clone();
            request.as_object_mut().expect("an object").remove(field);
            assert!(serde_json::from_value::<CompletionRequest>(request).is_err(), "{field}");
        }
        for bad in [
            json!({"task_id": "t"}),
            json!({"evidence": []}),
            json!({"task_id": "t", "evidence": [{"source": "gossip", "status": "x"}]}),
            json!({"task_id": "t", "evidence": [{"source": "task"}]}),
            json!({"task_id": "t", "evidence": [{"source": "task", "status": "x", "age_ms": -1}]}),
        ] {
            assert!(serde_json::from_value::<StatusRequest>(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_name_their_field() {
        let long = "ü".repeat(MAX_ID_CHARS + 1);
        let mut status: StatusRequest =
            serde_json::from_value(json!({"task_id": "", "session_id": long, "evidence": []})).expect("a valid request");
        assert_eq!(pointers(&status), ["/task_id", "/session_id"]);
        status.task_id = "ü".repeat(MAX_ID_CHARS);
        status.session_id = Some(String::new());
        assert_eq!(pointers(&status), ["/session_id"]);

        let request = completion(json!({
            "task": {"id": long, "status": "", "outcome": long, "run_id": long, "kind": "acp"},
            "origin": {"chat": "direct", "session_id": long}, "parent": {"session_id": ""}
        }));
        assert_eq!(pointers(&request), ["/task/id", "/task/outcome", "/task/run_id", "/origin/session_id", "/parent/session_id"]);
    }

    #[test]
    fn every_field_of_an_answer_is_present() {
        let answer = StatusResponse {
            task_id: "t".to_owned(),
            session_id: None,
            status: TaskStatus::Unknown,
            terminal: false,
            rule: StatusRule::NoDecision,
            decided_by: None,
            stale: vec![],
            hint: None,
        };
        assert_eq!(
            serde_json::to_value(answer).expect("serializes"),
            json!({"task_id": "t", "session_id": null, "status": "unknown", "terminal": false, "rule": "no_decision",
                "decided_by": null, "stale": [], "hint": null})
        );
        let answer = CompletionResponse {
            delivery: Delivery::None,
            requires_handoff: false,
            wake: false,
            marker: None,
            rule: CompletionRule::Silent,
            idempotency_key: "k".to_owned(),
            duplicate: false,
            telemetry: Telemetry {
                note: "n".to_owned(),
                status: TaskStatus::Failed,
                kind: TaskKind::Acp,
                depth: 0,
                run_id: None,
                result: None,
            },
        };
        assert_eq!(
            serde_json::to_value(answer).expect("serializes"),
            json!({"delivery": "none", "requires_handoff": false, "wake": false, "marker": null, "rule": "silent",
                "idempotency_key": "k", "duplicate": false,
                "telemetry": {"note": "n", "status": "failed", "kind": "acp", "depth": 0, "run_id": null, "result": null}})
        );
    }

    #[test]
    fn every_status_is_live_or_terminal_or_unknown() {
        for status in TaskStatus::ALL {
            let kinds = [status.is_live(), status.is_terminal(), *status == TaskStatus::Unknown];
            assert_eq!(kinds.into_iter().filter(|kind| *kind).count(), 1, "{status}");
        }
    }
}
