//! The answers that fixtures prescribe.

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::{Answer, Failure, Model, Question, answer};

/// What a fixture's model does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected one of {\"reply\": \"...\"}, {\"action\": \"...\", \"confidence\": 0.9}, {\"timeout\": true}, {\"status\": 500}"
)]
pub enum Script {
    /// It says this, and it is read like a real reply.
    Reply(Reply),
    /// It answers with this object. The values may be wrong ones, which makes the answer invalid like a real one.
    Answer(Object),
    /// It does not answer in time.
    Timeout(Timeout),
    /// Its server answers with this HTTP status and no body.
    Status(Status),
}

/// `{"reply": "..."}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// The model's words.
    pub reply: String,
}

/// `{"action": "...", "confidence": 0.9}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// The label.
    pub action: Value,
    /// The probability; an answer without one is invalid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Value>,
}

/// `{"timeout": true}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timeout {
    /// Always true.
    #[serde(deserialize_with = "only_true")]
    pub timeout: bool,
}

/// `{"status": 500}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// The HTTP status.
    pub status: u16,
}

fn only_true<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    if bool::deserialize(deserializer)? { Ok(true) } else { Err(serde::de::Error::custom("must be true")) }
}

/// A model that always does what its script says, at once.
#[derive(Clone, Debug)]
pub struct Scripted {
    script: Script,
    min_confidence: f32,
}

impl Scripted {
    /// A model for one fixture; below `min_confidence` its answers abstain.
    #[must_use]
    pub fn new(script: Script, min_confidence: f32) -> Self {
        Self { script, min_confidence }
    }

    fn perform(&self) -> Result<Answer, Failure> {
        match &self.script {
            Script::Reply(Reply { reply }) => answer::parse(reply, self.min_confidence),
            Script::Answer(object) => {
                let object = serde_json::to_string(object).map_err(|error| Failure::InvalidOutput(error.to_string()))?;
                answer::parse(&object, self.min_confidence)
            }
            // Nobody gains by waiting for it.
            Script::Timeout(_) => Err(Failure::Timeout),
            Script::Status(Status { status: 200..=299 }) => answer::parse_completion(b"", self.min_confidence),
            Script::Status(Status { status }) => Err(super::openai::refused_with(*status)),
        }
    }
}

impl Model for Scripted {
    fn ask<'a>(&'a self, _: &'a Question<'a>, _: Instant) -> BoxFuture<'a, Result<Answer, Failure>> {
        Box::pin(std::future::ready(self.perform()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Action, Rule};

    fn script(json: &str) -> Script {
        serde_json::from_str(json).expect("a script")
    }

    fn perform(json: &str) -> Result<(Action, f32, bool), Rule> {
        let answer = Scripted::new(script(json), 0.6).perform();
        answer.map(|answer| (answer.action, answer.confidence, answer.abstains)).map_err(|failure| failure.rule())
    }

    #[test]
    fn every_form_does_what_it_says() {
        assert_eq!(perform(r#"{"reply": "{\"action\":\"steer\",\"confidence\":0.9}"}"#), Ok((Action::Steer, 0.9, false)));
        assert_eq!(perform(r#"{"reply": "I think queue"}"#), Err(Rule::InvalidOutput));
        assert_eq!(perform(r#"{"reply": ""}"#), Err(Rule::InvalidOutput));
        assert_eq!(perform(r#"{"action": "interrupt", "confidence": 0.9}"#), Ok((Action::Interrupt, 0.9, false)));
        assert_eq!(
            perform(r#"{"action": "interrupt", "confidence": 0.5}"#),
            Ok((Action::Interrupt, 0.5, true)),
            "below the threshold"
        );
        for invalid in [
            r#"{"action": "dance", "confidence": 0.9}"#,
            r#"{"action": "dispatch", "confidence": 0.9}"#,
            r#"{"action": "queue", "confidence": 1.5}"#,
            r#"{"action": "queue", "confidence": "high"}"#,
            r#"{"action": "queue"}"#,
            r#"{"status": 200}"#,
        ] {
            assert_eq!(perform(invalid), Err(Rule::InvalidOutput), "{invalid}");
        }
        assert_eq!(perform(r#"{"timeout": true}"#), Err(Rule::Timeout));
        for status in [302, 429, 500] {
            assert_eq!(perform(&format!(r#"{{"status": {status}}}"#)), Err(Rule::ModelError));
        }
    }

    #[test]
    fn other_forms_are_refused_with_the_known_ones() {
        for json in [
            "{}",
            "null",
            r#""queue""#,
            r#"{"timeout": false}"#,
            r#"{"timeout": true, "status": 500}"#,
            r#"{"reply": "x", "action": "queue"}"#,
            r#"{"confidence": 0.9}"#,
            r#"{"status": "500"}"#,
        ] {
            let error = serde_json::from_str::<Script>(json).expect_err(json).to_string();
            assert!(error.contains(r#"{"timeout": true}"#), "{error}");
        }
    }

    #[test]
    fn a_script_is_written_as_it_was_read() {
        for json in [r#"{"reply":"x"}"#, r#"{"action":"queue","confidence":0.9}"#, r#"{"timeout":true}"#, r#"{"status":500}"#] {
            assert_eq!(serde_json::to_string(&script(json)).expect("JSON"), json);
        }
    }
}
