//! What a gateway sends to `POST /v1/route`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::vocabulary::{BusyState, Capability, ChatKind, DefaultAction, EvidenceSource, MediaKind, Role};
use super::{FieldError, Validate, null_as_default};

/// Longest `session.id`, in characters.
pub const MAX_SESSION_ID_CHARS: usize = 256;
/// Longest `message.text`, in bytes of UTF-8.
pub const MAX_TEXT_BYTES: usize = 32_768;
/// How much of a history text, tool preview, question or quoted text is used, in characters.
pub const EXCERPT_CHARS: usize = 400;

/// One message that arrived while an agent may be busy, and what the gateway knows about the run.
///
/// Unknown fields are ignored: a gateway may be newer than the router.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RouteRequest {
    /// The conversation.
    pub session: Session,
    /// The message that arrived.
    pub message: Message,
    /// What the agent is doing.
    pub busy: Busy,
    /// Recent messages, oldest first; only the last two of each role are used, each cut to 400 characters.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<HistoryEntry>,
    /// What this gateway can execute now; `interrupt`, `queue` and `ignore` when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<Capability>>,
    /// What the gateway does by itself with a busy message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_action: Option<DefaultAction>,
    /// The caller's patience in milliseconds: the answer comes before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
}

/// The conversation that a message belongs to.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// The gateway's session key.
    #[schema(min_length = 1, max_length = 256)]
    pub id: String,
    /// Which command table applies, such as `hermes` or `openclaw`.
    #[serde(default = "default_gateway", deserialize_with = "gateway_or_default")]
    #[schema(default = "default")]
    pub gateway: String,
    /// The chat platform, such as `telegram`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// What kind of conversation it is.
    #[serde(default, deserialize_with = "null_as_default")]
    pub chat: ChatKind,
    /// The run in flight; comes back as `expected_turn_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn_id: Option<String>,
    /// Who started the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
}

/// The message that arrived.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Message {
    /// The platform's message id; the same id again is a redelivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The text, at most 32,768 bytes; may be empty.
    #[schema(max_length = 32768)]
    pub text: String,
    /// Who sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender_id: Option<String>,
    /// Whether it mentions or replies to the agent; null when unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addressed: Option<bool>,
    /// What it carries besides text.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<Media>,
    /// The message that it replies to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<ReplyTo>,
}

/// One attachment.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Media {
    /// What it is.
    pub kind: MediaKind,
    /// The album that it is a part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub album_id: Option<String>,
}

/// The message that a message replies to.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ReplyTo {
    /// Its platform id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its text; cut to 400 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Who wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Role>,
}

/// What the agent is doing.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Busy {
    /// The state of the run.
    pub state: BusyState,
    /// The age of the run, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elapsed_ms: Option<u64>,
    /// The tool that runs now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<Tool>,
    /// Children that an interrupt would kill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subagents: Option<u64>,
    /// Messages that already wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued: Option<u64>,
    /// The question or approval that the agent waits on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_question: Option<String>,
    /// What the gateway knows about whether the run still lives.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
}

/// The tool that runs now.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it works on, such as a command line; cut to 400 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview: Option<String>,
    /// The task by which it can be moved to the background.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// Whether it can be moved to the background.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detachable: Option<bool>,
    /// Whether it may be interrupted; `false` protects it from what a model says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interruptible: Option<bool>,
}

/// One report about whether a run or task still lives.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Evidence {
    /// Where it comes from.
    pub source: EvidenceSource,
    /// What it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The source's own word, in any of the known vocabularies.
    pub status: String,
    /// How old the report is, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
}

/// One message of the history.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HistoryEntry {
    /// Who wrote it.
    pub role: Role,
    /// What it says; cut to 400 characters.
    pub text: String,
}

impl RouteRequest {
    /// Whether the gateway can execute `capability` now.
    #[must_use]
    pub fn can(&self, capability: Capability) -> bool {
        match &self.capabilities {
            Some(declared) => declared.contains(&capability),
            None => matches!(capability, Capability::Interrupt | Capability::Queue | Capability::Ignore),
        }
    }

    /// The last thing the agent said, if the history holds it.
    #[must_use]
    pub fn last_assistant_text(&self) -> Option<&str> {
        self.history.iter().rev().find(|entry| entry.role == Role::Assistant).map(|entry| entry.text.as_str())
    }
}

impl Validate for RouteRequest {
    fn violations(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if self.session.id.is_empty() {
            errors.push(FieldError::new("/session/id", "must not be empty; send the gateway's session key"));
        } else if self.session.id.len() > MAX_SESSION_ID_CHARS && self.session.id.chars().count() > MAX_SESSION_ID_CHARS {
            errors.push(FieldError::new(
                "/session/id",
                format!("is longer than {MAX_SESSION_ID_CHARS} characters; send a shorter key, such as a hash of it"),
            ));
        }
        if self.message.text.len() > MAX_TEXT_BYTES {
            errors.push(FieldError::new(
                "/message/text",
                format!("is {} bytes long, the limit is {MAX_TEXT_BYTES}; send the first part of it", self.message.text.len()),
            ));
        }
        errors
    }
}

fn default_gateway() -> String {
    "default".to_owned()
}

fn gateway_or_default<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_else(default_gateway))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> RouteRequest {
        serde_json::from_str(json).expect("a valid request")
    }

    #[test]
    fn null_means_left_out_and_unknown_fields_are_ignored() {
        let request = parse(
            r#"{"session":{"id":"s","gateway":null,"chat":null,"new":1},"message":{"text":"","media":null,"reply_to":null},
                "busy":{"state":"thinking","evidence":null},"history":null,"capabilities":null,"from_the_future":{}}"#,
        );
        assert_eq!(request.session.gateway, "default");
        assert_eq!(request.session.chat, ChatKind::Direct);
        assert!(request.can(Capability::Interrupt) && !request.can(Capability::Steer));
        assert!(request.violations().is_empty());
    }

    #[test]
    fn declared_capabilities_replace_the_default() {
        let request =
            parse(r#"{"session":{"id":"s"},"message":{"text":"x"},"busy":{"state":"thinking"},"capabilities":["steer"]}"#);
        assert!(request.can(Capability::Steer) && !request.can(Capability::Queue));
    }

    #[test]
    fn limits_name_their_field() {
        let mut request = parse(r#"{"session":{"id":""},"message":{"text":"x"},"busy":{"state":"thinking"}}"#);
        request.message.text = "x".repeat(MAX_TEXT_BYTES + 1);
        let pointers: Vec<_> = request.violations().into_iter().map(|error| error.pointer).collect();
        assert_eq!(pointers, ["/session/id", "/message/text"]);
        request.session.id = "ü".repeat(MAX_SESSION_ID_CHARS);
        request.message.text.pop();
        assert!(request.violations().is_empty(), "the limits themselves are allowed");
        request.session.id.push('x');
        assert_eq!(request.violations()[0].pointer, "/session/id");
    }
}
