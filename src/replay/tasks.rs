//! Cases about background tasks: a question to one of the task endpoints, and the parts of the answer that are prescribed.

use std::fmt::{self, Write as _};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::fixture::read;
use crate::protocol::tasks::MAX_ID_CHARS;
use crate::protocol::{CompletionRequest, CompletionResponse, StatusRequest, StatusResponse, Validate};
use crate::tasks::{TaskMemory, completion, status};

/// One question about a background task, and what the answer must say.
#[derive(Clone, Debug, Serialize)]
pub struct TaskCase {
    /// Names the case; unique in its file.
    pub id: String,
    /// What the case is about.
    pub tags: Vec<String>,
    /// Cases of the same sequence share a memory and run in file order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<String>,
    /// What the gateway asks.
    #[serde(flatten)]
    pub question: TaskQuestion,
    /// What the answer must say.
    pub expect: Parts,
}

/// A question to one of the task endpoints; in a case, the key that it stands under tells which.
#[derive(Clone, Debug, Serialize)]
pub enum TaskQuestion {
    /// `POST /v1/tasks/status`.
    #[serde(rename = "task_status")]
    Status(StatusRequest),
    /// `POST /v1/tasks/completion`.
    #[serde(rename = "task_completion")]
    Completion(CompletionRequest),
}

/// Some fields of an answer with their values; the others may be anything. An object among the values is a part of an object, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Parts(Map<String, Value>);

impl TaskCase {
    /// Reads one line.
    ///
    /// # Errors
    /// What is wrong with it, with the key where it stands.
    pub fn parse(line: &str) -> Result<Self, String> {
        /// The line as it is written. A flattened question would hide where it is wrong.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Line {
            id: String,
            #[serde(default)]
            tags: Vec<String>,
            sequence: Option<String>,
            task_status: Option<StatusRequest>,
            task_completion: Option<CompletionRequest>,
            expect: Parts,
        }

        let Line { id, tags, sequence, task_status, task_completion, expect } = read(line)?;
        let question = match (task_status, task_completion) {
            (Some(request), None) => TaskQuestion::Status(request),
            (None, Some(request)) => TaskQuestion::Completion(request),
            _ => return Err("give exactly one of `task_status`, `task_completion`".to_owned()),
        };
        let (key, violations) = match &question {
            TaskQuestion::Status(request) => ("task_status", request.violations()),
            TaskQuestion::Completion(request) => ("task_completion", request.violations()),
        };
        if let Some(error) = violations.into_iter().next() {
            return Err(format!("{key}{} {}", error.pointer.replace('/', "."), error.detail));
        }
        if expect.0.is_empty() {
            return Err("`expect` says nothing; give fields of the answer".to_owned());
        }
        // What is prescribed must be something that can be answered: a slip in it would otherwise look like a miss of the router.
        let mut answer = question.answer(&TaskMemory::new(1), false);
        expect.lay_over(&mut answer)?;
        question.check(&answer).map_err(|error| format!("`expect`: {error}"))?;
        Ok(Self { id, tags, sequence, question, expect })
    }
}

impl TaskQuestion {
    /// The path of the endpoint.
    #[must_use]
    pub const fn path(&self) -> &'static str {
        match self {
            Self::Status(_) => "/v1/tasks/status",
            Self::Completion(_) => "/v1/tasks/completion",
        }
    }

    /// The answer, as the endpoint would give it.
    #[must_use]
    pub fn answer(&self, memory: &TaskMemory, steer_allowed: bool) -> Value {
        // Answers are made of strings, numbers and lists of them, and always have a JSON form.
        match self {
            Self::Status(request) => serde_json::to_value(status::answer(request, memory)),
            Self::Completion(request) => serde_json::to_value(completion::decide(request, memory, steer_allowed)),
        }
        .unwrap_or_default()
    }

    /// Whether a value is an answer of the endpoint, and if not, why.
    ///
    /// # Errors
    /// The first field that is wrong or missing.
    pub fn check(&self, answer: &Value) -> Result<(), String> {
        fn reads_as<T: DeserializeOwned>(answer: &Value) -> Result<(), String> {
            serde_path_to_error::deserialize::<_, T>(answer).map(drop).map_err(|error| error.to_string())
        }
        match self {
            Self::Status(_) => reads_as::<StatusResponse>(answer),
            Self::Completion(_) => reads_as::<CompletionResponse>(answer),
        }
    }

    /// The question about a task of another name: `prefix` before the task's own.
    #[must_use]
    pub fn with_prefix(&self, prefix: &str) -> Self {
        let named = |id: &str| format!("{prefix}{id}").chars().take(MAX_ID_CHARS).collect();
        let mut question = self.clone();
        match &mut question {
            Self::Status(request) => request.task_id = named(&request.task_id),
            Self::Completion(request) => request.task.id = named(&request.task.id),
        }
        question
    }
}

impl fmt::Display for TaskQuestion {
    /// Such as `status of t1: session ended, task running`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(request) => {
                write!(f, "status of {}:", request.task_id)?;
                for (index, evidence) in request.evidence.iter().enumerate() {
                    write!(f, "{} {} {}", if index == 0 { "" } else { "," }, evidence.source, evidence.status)?;
                }
                if request.evidence.is_empty() { f.write_str(" no evidence") } else { Ok(()) }
            }
            Self::Completion(request) => {
                write!(f, "completion of {}: {}, asked for in a {}", request.task.id, request.task.status, request.origin.chat)?;
                match &request.parent {
                    Some(parent) => write!(f, ", parent {}", parent.session_id),
                    None => f.write_str(", no parent"),
                }
            }
        }
    }
}

impl Parts {
    /// Whether an answer says all of this.
    #[must_use]
    pub fn hold_in(&self, answer: &Value) -> bool {
        fn holds(expected: &Value, answer: &Value) -> bool {
            match (expected, answer) {
                (Value::Object(expected), Value::Object(answer)) => {
                    expected.iter().all(|(key, expected)| answer.get(key).is_some_and(|answer| holds(expected, answer)))
                }
                _ => expected == answer,
            }
        }
        self.0.iter().all(|(key, expected)| answer.get(key).is_some_and(|answer| holds(expected, answer)))
    }

    /// The same fields as an answer has them.
    #[must_use]
    pub fn of(&self, answer: &Value) -> Self {
        let fields = self.0.keys().map(|key| (key.clone(), answer.get(key).cloned().unwrap_or_default()));
        Self(fields.collect())
    }

    /// Puts these fields in the place of an answer's own.
    fn lay_over(&self, answer: &mut Value) -> Result<(), String> {
        for (key, expected) in &self.0 {
            let Some(field) = answer.get_mut(key) else {
                return Err(format!("`expect.{key}`: the answer has no such field"));
            };
            match (expected, field) {
                (Value::Object(part), field @ Value::Object(_)) => Self(part.clone()).lay_over(field)?,
                (expected, field) => field.clone_from(expected),
            }
        }
        Ok(())
    }
}

impl fmt::Display for Parts {
    /// Such as `status completed, rule session_terminal, stale [task]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn write_value(f: &mut fmt::Formatter<'_>, value: &Value) -> fmt::Result {
            match value {
                Value::String(text) => f.write_str(text),
                Value::Array(values) => {
                    f.write_char('[')?;
                    for (index, value) in values.iter().enumerate() {
                        f.write_str(if index == 0 { "" } else { ", " })?;
                        write_value(f, value)?;
                    }
                    f.write_char(']')
                }
                other => write!(f, "{other}"),
            }
        }
        for (index, (key, value)) in self.0.iter().enumerate() {
            write!(f, "{}{key} ", if index == 0 { "" } else { ", " })?;
            write_value(f, value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str =
        r#"{"id":"a","task_status":{"task_id":"t","evidence":[{"source":"session","status":"ended"}]},"expect":EXPECT}"#;
    const COMPLETION: &str = r#"{"id":"a","task_completion":{"task":{"id":"t","status":"completed","kind":"command"},"origin":{"chat":"group"}},"expect":EXPECT}"#;

    fn parse(line: &str, expect: &str) -> Result<TaskCase, String> {
        TaskCase::parse(&line.replace("EXPECT", expect))
    }

    fn refused(line: &str, expect: &str) -> String {
        parse(line, expect).expect_err("must be refused")
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said() {
        assert!(parse(STATUS, r#"{"status":"completed","stale":[],"decided_by":null}"#).is_ok());
        assert!(parse(COMPLETION, r#"{"marker":{"text":"x"},"telemetry":{"depth":0},"marker":null}"#).is_ok());
        assert!(refused(STATUS, "{}").contains("says nothing"));
        assert_eq!(refused(STATUS, r#"{"delivery":"none"}"#), "`expect.delivery`: the answer has no such field");
        let error = refused(STATUS, r#"{"status":"done"}"#);
        assert!(error.starts_with("`expect`: status: unknown variant `done`"), "{error}");
        assert_eq!(refused(COMPLETION, r#"{"telemetry":{"x":1}}"#), "`expect.x`: the answer has no such field");
        let error = refused(&STATUS.replace("session", "sesion"), "{}");
        assert!(error.starts_with("`task_status.evidence[0].source`: unknown variant"), "{error}");
        let error = refused(&COMPLETION.replace("\"t\"", "\"\""), "{}");
        assert!(error.starts_with("task_completion.task.id must"), "{error}");
        assert!(refused(r#"{"id":"a","expect":EXPECT}"#, "{}").contains("give exactly one of"));
        assert!(refused(&STATUS.replace("{\"id\"", "{\"lang\":\"en\",\"id\""), "{}").contains("lang"));
    }

    #[test]
    fn parts_are_compared_and_shown_field_by_field() {
        let case = parse(COMPLETION, r#"{"delivery":"marker","wake":false,"telemetry":{"status":"completed"}}"#).expect("a case");
        let memory = TaskMemory::default();
        let first = case.question.answer(&memory, false);
        assert!(case.expect.hold_in(&first), "{first}");
        let again = case.question.answer(&memory, false);
        assert!(!case.expect.hold_in(&again), "a memory knows the repeat");
        assert!(case.expect.hold_in(&case.question.with_prefix("other-").answer(&memory, false)), "another task");
        assert_eq!(case.question.to_string(), "completion of t: completed, asked for in a group, no parent");

        let case = parse(STATUS, r#"{"status":"failed","stale":["task","run"],"decided_by":null}"#).expect("a case");
        let shown = case.expect.to_string();
        assert!(shown.contains("status failed") && shown.contains("stale [task, run]"), "{shown}");
        let got = case.expect.of(&case.question.answer(&memory, false)).to_string();
        assert!(got.contains("status completed") && got.contains("decided_by session"), "{got}");
        assert_eq!(case.question.to_string(), "status of t: session ended");
    }
}
