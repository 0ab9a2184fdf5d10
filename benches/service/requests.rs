//! What is sent: bodies as a gateway sends them, all of about the size of the floor's.

use serde_json::{Value, json};

use crate::floor;
use crate::load::{NUMBER, SESSION, Template};

/// What was said before, in both forms.
const HISTORY: [(&str, &str); 10] = [
    ("user", "Can you find out why the weekly report is missing the numbers of the northern region?"),
    ("assistant", "I looked at the import first: the job of the region has not written anything since Monday."),
    ("user", "That is when we moved to the new warehouse, so have a look at the credentials as well."),
    ("assistant", "They are fine, but the schema has a new column that the importer refuses to read."),
    ("user", "Then please make it skip columns that it does not know, with a warning in the log."),
    ("assistant", "Done, with a test that feeds it a table with two more columns than it was made for."),
    ("user", "Good. Run it for last week, and then the report again, before the meeting starts."),
    ("assistant", "The import of last week is through, 48,211 rows; the report is being made right now."),
    ("user", "And check that the totals agree with those of the finance team when it is done."),
    ("assistant", "I will compare them by region and by day, and tell you of every difference I find."),
];

/// Whether a message has an id.
const IDS: [(&str, Option<&str>); 2] = [("no message id", None), ("own message id", Some(NUMBER))];

/// A request that goes through a rule of interest.
#[derive(Clone, Debug)]
pub struct Question {
    /// Its name in the table.
    pub name: String,
    /// The request and its answer.
    pub template: Template,
    /// Whether the first of a session gets another answer.
    pub repeats: bool,
}

/// The floor's request: the same conversation in its own form.
pub fn to_floor() -> Template {
    let recent: Vec<Value> = HISTORY.iter().map(|(role, content)| json!({"role": role, "content": content})).collect();
    let body = json!({
        "session_id": format!("agent:main:session-{SESSION}"),
        "message_id": format!("msg-{NUMBER}"),
        "platform": "telegram",
        "text": format!("{NUMBER} before you go on with that, could you also have a look at why the nightly import of the other regions takes so long, whether it stumbles over the same column, and what else has changed since Monday that nobody has told us of?"),
        "busy_since_ms": 48_211,
        "active_tool": "terminal",
        "recent": recent,
    });
    Template::new(floor::PATH, &body, r#""source":"floor""#)
}

/// Messages that guards decide, each without a message id and with one of its own: a decision on a message with an id is remembered.
pub fn to_guards() -> Vec<Question> {
    let texts = [
        ("command", "/status", r#""action":"dispatch","decided_by":"guard","rule":"command""#, false),
        (
            "duplicate",
            "before you go on with that, could you also have a look at why the nightly import takes so long?",
            r#""action":"ignore","decided_by":"guard","rule":"duplicate""#,
            true,
        ),
        ("stop phrase", "stop!", r#""action":"interrupt","decided_by":"guard","rule":"stop_phrase""#, false),
    ];
    let questions = texts.into_iter().flat_map(|(name, text, expected, repeats)| {
        IDS.map(|(which, id)| Question { name: format!("{name}, {which}"), template: route(id, text, expected), repeats })
    });
    questions.collect()
}

/// Messages that the built-in model decides, in the same two ways; no two have the same text.
pub fn to_builtin_model() -> Vec<Question> {
    IDS.map(|(which, id)| Question { name: format!("built-in model, {which}"), template: to_model(id), repeats: false }).to_vec()
}

/// A message that a model decides, which must queue it.
pub fn to_model(message_id: Option<&str>) -> Template {
    route(
        message_id,
        &format!("{NUMBER} before you go on with that, could you also have a look at why the nightly import takes so long?"),
        r#""action":"queue","decided_by":"model","rule":"model""#,
    )
}

/// A message for which no model answers in time.
pub fn to_hung_model() -> Template {
    route(Some(NUMBER), &format!("{NUMBER} use the other branch"), r#""action":"queue","decided_by":"fallback","rule":"timeout""#)
}

fn route(message_id: Option<&str>, text: &str, expected: &str) -> Template {
    let history: Vec<Value> = HISTORY.iter().map(|(role, text)| json!({"role": role, "text": text})).collect();
    let mut message = json!({"text": text, "sender_id": "user-1"});
    if let Some(id) = message_id {
        message["id"] = format!("msg-{id}").into();
    }
    let body = json!({
        "session": {
            "id": format!("agent:main:session-{SESSION}"), "gateway": "hermes", "platform": "telegram", "chat": "direct",
            "turn_id": "turn-7f3a", "owner_id": "user-1",
        },
        "message": message,
        "busy": {
            "state": "running_tool", "elapsed_ms": 48_211, "queued": 0,
            "tool": {"name": "terminal", "preview": "cargo test --workspace", "interruptible": true},
        },
        "history": history,
    });
    Template::new("/v1/route", &body, expected)
}

/// The two questions about background tasks: a task that still runs, and one that has ended, each time another one.
pub fn about_tasks() -> Vec<Question> {
    let session = format!("agent:main:session-{SESSION}");
    // What a gateway that polls every five seconds has gathered.
    let reports = [
        ("session", "busy", 800),
        ("session", "busy", 5_800),
        ("task", "running", 48_211),
        ("run", "in_progress", 1_200),
        ("run", "in_progress", 6_200),
        ("status_api", "busy", 900),
        ("status_api", "busy", 5_900),
        ("heartbeat", "alive", 400),
        ("heartbeat", "alive", 5_400),
    ];
    let evidence = reports.map(|(source, status, age_ms)| {
        json!({
            "source": source, "status": status, "age_ms": age_ms, "has_output": false, "open_todos": 3, "seen_busy": true,
            "absent_polls": 0, "verified_missing": false, "host_age_ms": 86_400_000,
        })
    });
    let status = json!({"task_id": format!("task-{NUMBER}"), "session_id": session, "evidence": evidence});
    let summary: Vec<&str> = HISTORY.iter().chain(&HISTORY[..4]).map(|(_, text)| *text).collect();
    let summary = summary.join(" ");
    let completion = json!({
        "task": {
            "id": format!("task-{NUMBER}"), "status": "completed", "outcome": "done", "summary": summary,
            "run_id": format!("run-{NUMBER}"), "kind": "subagent", "depth": 1,
        },
        "origin": {"chat": "direct", "session_id": session, "deliverable": true},
        "parent": {"session_id": session, "exists": true, "busy": "thinking"},
        "notify": "done",
        "max_depth": 5,
    });
    let question = |path: &str, body, expected| Question {
        name: path.to_owned(),
        template: Template::new(path, body, expected),
        repeats: false,
    };
    vec![
        question("/v1/tasks/status", &status, r#""status":"running","terminal":false,"rule":"active_wins""#),
        question("/v1/tasks/completion", &completion, r#""rule":"handoff""#),
    ]
}
