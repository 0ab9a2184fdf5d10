//! The journal: one JSON line a decision, in a file of the operator's. With `journal.include_text` a line is a fixture that `replay` reads. When
//! it was made stands in its id, a `UUIDv7`.
//!
//! A thread of its own writes it. A disk that hangs or is full costs lines, never a decision.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use serde_json::json;

use super::lines::{Lines, LinesGuard};
use crate::config::{self, ConfigError};
use crate::protocol::{CompletionRequest, CompletionResponse, Decision, RouteRequest};

/// Bytes of lines that may wait to be written: with the users' text in them, some thousand.
const MAX_WAITING: usize = 8 << 20;

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    settings: config::Journal,
    lines: Lines,
    /// Writes out what waits when it is dropped.
    _guard: LinesGuard,
}

impl Journal {
    /// Opens the journal that the settings name, to append to it; nothing when they name none.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn open(settings: &config::Journal) -> Result<Option<Self>, ConfigError> {
        let Some(path) = &settings.path else { return Ok(None) };
        let (lines, guard) = open(path)
            .and_then(|file| Lines::start("journal", MAX_WAITING, file))
            .map_err(|error| ConfigError::of_key("journal.path", format!("{} cannot be opened: {error}", path.display())))?;
        Ok(Some(Self { settings: settings.clone(), lines, _guard: guard }))
    }

    /// Checks without touching anything that the journal's file could be opened.
    ///
    /// # Errors
    /// A folder that is not there, or a path that is no file.
    pub fn check(settings: &config::Journal) -> Result<(), ConfigError> {
        let Some(path) = &settings.path else { return Ok(()) };
        let wrong = |what: &str| Err(ConfigError::of_key("journal.path", format!("{} cannot be opened: {what}", path.display())));
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() {
            return wrong("its folder does not exist");
        }
        if path.is_dir() {
            return wrong("it is a folder");
        }
        Ok(())
    }

    /// Whether this journal is what the settings ask for.
    #[must_use]
    pub fn is_for(&self, settings: &config::Journal) -> bool {
        self.settings == *settings
    }

    /// Writes a decision. Without `journal.include_text` nothing that a user wrote is in the line.
    pub fn decision(&self, request: &RouteRequest, decision: &Decision) {
        let line = if self.settings.include_text {
            let taken = decision.shadow.as_ref().map_or(decision.action, |shadow| shadow.action);
            let mut fixture = json!({
                "id": decision.decision_id,
                "tags": ["journal"],
                "request": request,
                "expect": {"action": taken, "rule": decision.rule},
            });
            if let (Some(action), Some(confidence)) = (decision.model_action, decision.confidence) {
                fixture["model"] = json!({"action": action, "confidence": confidence});
            }
            fixture
        } else {
            let mut line = json!({
                "id": decision.decision_id,
                "session_id": request.session.id,
                "message_id": request.message.id,
                "gateway": request.session.gateway,
                "decision": decision,
            });
            if let Some(command) = &decision.command {
                // The arguments of a command are text too.
                line["decision"]["command"] = json!({"name": command.name, "lane": command.lane});
            }
            line
        };
        self.write(&line);
    }

    /// Writes who heard of a finished task. The result is in the line when nobody else keeps it.
    pub fn completion(&self, request: &CompletionRequest, response: &CompletionResponse) {
        self.write(&json!({
            "id": response.idempotency_key,
            "tags": ["journal", "task_completion"],
            "task_id": request.task.id,
            "delivery": response.delivery,
            "rule": response.rule,
            "duplicate": response.duplicate,
            "telemetry": response.telemetry,
        }));
    }

    fn write(&self, line: &serde_json::Value) {
        let mut text = line.to_string();
        text.push('\n');
        // One call a line, so that it waits or is dropped as a whole.
        let _ = (&self.lines).write_all(text.as_bytes());
    }
}

fn open(path: &Path) -> std::io::Result<std::fs::File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guards::testing::request;

    fn decision() -> Decision {
        serde_json::from_value(json!({
            "decision_id": uuid::Uuid::now_v7(), "action": "dispatch", "decided_by": "guard", "rule": "command", "reason": "r",
            "confidence": null, "model_action": null, "mode": "on", "shadow": null, "suggested_action": null,
            "command": {"name": "bg", "args": "hunter2", "lane": "side"}, "duplicate_of": null, "task_id": null,
            "expected_turn_id": null, "ack": null, "replayed": false, "latency": {"total_us": 1, "model_us": null}
        }))
        .expect("a decision")
    }

    fn lines(include_text: bool) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("decisions.jsonl");
        let settings = config::Journal { path: Some(path.clone()), include_text };
        let journal = Journal::open(&settings).expect("opens").expect("a journal");
        journal.decision(&request("/bg hunter2", |_| {}), &decision());
        drop(journal);
        std::fs::read_to_string(path).expect("written")
    }

    #[test]
    fn without_text_nothing_that_a_user_wrote_is_in_it() {
        let text = lines(false);
        assert_eq!(text.lines().count(), 1);
        assert!(!text.contains("hunter2") && text.contains("\"rule\":\"command\""), "{text}");
    }

    #[test]
    fn with_text_a_line_is_a_fixture() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.jsonl");
        std::fs::write(&path, lines(true)).expect("written");
        let fixtures = crate::replay::fixture::load(&[path]).expect("loads");
        assert_eq!(fixtures[0].request.message.text, "/bg hunter2");
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let settings = config::Journal { path: Some("/nowhere/at/all.jsonl".into()), include_text: false };
        let error = Journal::open(&settings).expect_err("refused").to_string();
        assert!(error.contains("journal.path") && error.contains("/nowhere/at/all.jsonl"), "{error}");
        assert!(Journal::open(&config::Journal { path: None, include_text: false }).expect("fine").is_none());
    }
}
