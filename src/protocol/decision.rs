//! What `POST /v1/route` answers.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::vocabulary::{Action, DecidedBy, Lane, Mode, Rule};

/// What should happen to the message. Every field is always present, `null` where there is nothing to say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Decision {
    /// `UUIDv7` of this decision; in every log line and metric exemplar about it.
    pub decision_id: Uuid,
    /// What the gateway shall do.
    pub action: Action,
    /// Who decided.
    pub decided_by: DecidedBy,
    /// The rule that decided.
    pub rule: Rule,
    /// One sentence for a person; never contains the message's text.
    #[schema(value_type = String)]
    pub reason: Cow<'static, str>,
    /// The model's probability for `model_action`, when a model was asked.
    pub confidence: Option<f32>,
    /// The model's raw label, when a model was asked and gave one.
    pub model_action: Option<Action>,
    /// The mode that applied to this message.
    pub mode: Mode,
    /// In shadow mode: the decision that `on` would have made.
    pub shadow: Option<ShadowDecision>,
    /// What would be best, when the gateway or the operator does not allow it.
    pub suggested_action: Option<Action>,
    /// The command, when the text is one.
    pub command: Option<Command>,
    /// Id of the message that this one repeats.
    pub duplicate_of: Option<String>,
    /// The task that a detach aims at.
    pub task_id: Option<String>,
    /// The run that this decision is about; do not act on another one.
    pub expected_turn_id: Option<String>,
    /// What to show the user; null when nothing should be said.
    pub ack: Option<Ack>,
    /// This message id was decided before, and this is that same decision.
    pub replayed: bool,
    /// How long it took.
    pub latency: Latency,
}

/// The decision that mode `on` would have made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ShadowDecision {
    /// What the gateway would have been told to do.
    pub action: Action,
    /// Who would have decided.
    pub decided_by: DecidedBy,
    /// The rule that would have decided.
    pub rule: Rule,
    /// The model's probability, when a model was asked.
    pub confidence: Option<f32>,
    /// What would have been suggested.
    pub suggested_action: Option<Action>,
}

/// A command, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Command {
    /// Its name in lower case, without prefix and without `@botname`.
    pub name: String,
    /// What follows the name, verbatim but trimmed.
    pub args: String,
    /// Where it runs.
    pub lane: Lane,
}

/// What to show the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ack {
    /// The action that the text speaks of; gateways with texts of their own translate by it.
    pub key: Action,
    /// The text in the configured locale.
    pub text: String,
}

/// How long a decision took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Latency {
    /// From the parsed request to the answer, in microseconds.
    pub total_us: u64,
    /// Of it, waiting for the model, in microseconds.
    pub model_us: Option<u64>,
}
