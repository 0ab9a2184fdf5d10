//! The wire types and nothing else: what callers send, what they get back.
//!
//! One source for three things: serde reads and writes these types, utoipa generates the `OpenAPI` document from them, and
//! [`Validate`] holds the limits that JSON types cannot express. Nothing in here knows of the rest of the program.

pub mod decision;
pub mod problem;
pub mod route;
pub mod tasks;
pub mod vocabulary;

use serde::{Deserialize, Deserializer};

pub use decision::{Ack, Command, Decision, Latency, ShadowDecision};
pub use problem::{FieldError, Problem};
pub use route::{Busy, Evidence, HistoryEntry, Media, Message, ReplyTo, RouteRequest, Session, Tool};
pub use tasks::{
    CompletionRequest, CompletionResponse, CompletionRule, Delivery, FinishedTask, Marker, Notify, Origin, Parent, StatusRequest,
    StatusResponse, StatusRule, TaskEvidence, TaskKind, TaskStatus, Telemetry,
};
pub use vocabulary::{
    Action, BusyState, Capability, ChatKind, DecidedBy, DefaultAction, EvidenceSource, Lane, MediaKind, Mode, Role, Rule,
};

/// Limits that a type cannot say, checked after parsing.
pub trait Validate {
    /// Every limit the value breaks, each with the JSON pointer of the field; empty when it is fine.
    fn violations(&self) -> Vec<FieldError>;
}

/// Reads `null` as the type's default, so that `"history": null` means the same as leaving the field out.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
