//! The settings: parsed once, into types that cannot be wrong.
//!
//! `config.example.toml` is the documentation, the defaults and the first layer of every load at once; see [`load`] for the layers
//! and for how an error finds its key and line, and [`watch`] for the reload while running.

pub mod load;
pub mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::Url;

pub use load::{ConfigError, Loaded, Sources};

use crate::protocol::{Action, ChatKind, Lane, Mode, Rule};

/// The example file: documentation, defaults and parsed input.
pub const EXAMPLE: &str = include_str!("../../config.example.toml");

/// Everything an operator can set. The doc of each setting is its line in `config.example.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.example.toml is the documentation, and a test holds the two together")]
pub struct Settings {
    pub mode: Mode,
    pub server: Server,
    pub metrics: Metrics,
    pub log: Log,
    pub model: Model,
    pub fallback: Fallback,
    pub guards: Guards,
    pub actions: Actions,
    pub ack: Ack,
    pub state: State,
    pub journal: Journal,
    /// Entries of command tables by gateway: a lane adds or changes, `false` removes.
    #[serde(default)]
    pub commands: BTreeMap<String, BTreeMap<String, CommandEntry>>,
    #[serde(default, rename = "override")]
    pub overrides: Vec<Override>,
}

/// `[server]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.example.toml is the documentation")]
pub struct Server {
    pub listen: std::net::SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unix_socket: Option<PathBuf>,
    pub max_body_bytes: usize,
    pub max_connections: usize,
    pub max_in_flight: usize,
    pub header_timeout_ms: u64,
    pub body_timeout_ms: u64,
    pub drain_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_file: Option<PathBuf>,
}

impl Server {
    /// Whether other machines can reach the listener.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.unix_socket.is_none() && !self.listen.ip().is_loopback()
    }

    /// Whether `other` differs in what is fixed once the service runs.
    #[must_use]
    pub fn needs_restart_for(&self, other: &Self) -> bool {
        let fixed = |server: &Self| {
            (server.listen, server.unix_socket.clone(), server.max_connections, server.max_in_flight, server.header_timeout_ms)
        };
        fixed(self) != fixed(other)
    }
}

/// `[metrics]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.example.toml is the documentation")]
pub struct Metrics {
    pub require_token: bool,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.example.toml is the documentation")]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
    pub include_text: bool,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the usual levels")]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Pretty on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// `[model]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.example.toml is the documentation")]
pub struct Model {
    pub provider: Provider,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_url: Option<Url>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_env: Option<String>,
    pub timeout_ms: u64,
    pub min_confidence: f32,
    pub structured_output: StructuredOutput,
    pub max_concurrency: usize,
    pub max_output_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_dir: Option<PathBuf>,
    pub extra_body: toml::Table,
    pub budget: Budget,
    pub breaker: Breaker,
}

/// Who answers what the guards leave open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// The classifier inside the binary.
    Builtin,
    /// An OpenAI-compatible endpoint.
    Openai,
    /// The built-in model when it is sure, else the endpoint.
    Cascade,
}

/// How the endpoint is made to answer in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum StructuredOutput {
    /// By a JSON schema.
    JsonSchema,
    /// By the older JSON mode.
    JsonObject,
    /// By the prompt alone.
    None,
}

/// `[model.budget]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.example.toml is the documentation")]
pub struct Budget {
    pub per_minute: u32,
    pub per_session_per_minute: u32,
}

/// `[model.breaker]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.example.toml is the documentation")]
pub struct Breaker {
    pub failures: u32,
    pub open_s: u64,
}

/// `[fallback]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each field is the rule code of the same name")]
pub struct Fallback {
    pub action: FallbackAction,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<FallbackAction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_error: Option<FallbackAction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invalid_output: Option<FallbackAction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limited: Option<FallbackAction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit_open: Option<FallbackAction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overloaded: Option<FallbackAction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low_confidence: Option<FallbackAction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignore_with_content: Option<FallbackAction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protected_run: Option<FallbackAction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsupported_action: Option<FallbackAction>,
}

impl Fallback {
    /// What to do for `cause`.
    ///
    /// `fallback.action` covers what could not be decided. What the review refused (`ignore_with_content`, `protected_run`,
    /// `unsupported_action`) is queued unless its own key says otherwise: a general `interrupt` must not undo a protection.
    #[must_use]
    pub fn for_cause(&self, cause: Rule) -> FallbackAction {
        let (own, general) = match cause {
            Rule::Timeout => (self.timeout, self.action),
            Rule::ModelError => (self.model_error, self.action),
            Rule::InvalidOutput => (self.invalid_output, self.action),
            Rule::RateLimited => (self.rate_limited, self.action),
            Rule::CircuitOpen => (self.circuit_open, self.action),
            Rule::Overloaded => (self.overloaded, self.action),
            Rule::LowConfidence => (self.low_confidence, self.action),
            Rule::IgnoreWithContent => (self.ignore_with_content, FallbackAction::Queue),
            Rule::ProtectedRun => (self.protected_run, FallbackAction::Queue),
            Rule::UnsupportedAction => (self.unsupported_action, FallbackAction::Queue),
            _ => (None, FallbackAction::Queue),
        };
        own.unwrap_or(general)
    }
}

/// What to do when the model could not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FallbackAction {
    /// Stop the run.
    Interrupt,
    /// Keep the message.
    Queue,
    /// Drop the message.
    Ignore,
    /// The request's `default_action`; `queue` if it has none.
    GatewayDefault,
}

/// `[guards]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.example.toml is the documentation")]
pub struct Guards {
    pub command_prefixes: Vec<String>,
    pub duplicate_window_s: u64,
    pub redelivery_window_s: u64,
    pub ambient: AmbientAction,
    pub ignore_max_chars: usize,
    pub protected_tools: Vec<String>,
    pub protect_subagents: bool,
}

/// What happens to talk in a group that is not for the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AmbientAction {
    /// Keep it for the next turn.
    Queue,
    /// Drop it.
    Ignore,
    /// Leave it to the gateway.
    PassThrough,
}

impl From<AmbientAction> for Action {
    fn from(action: AmbientAction) -> Self {
        match action {
            AmbientAction::Queue => Self::Queue,
            AmbientAction::Ignore => Self::Ignore,
            AmbientAction::PassThrough => Self::PassThrough,
        }
    }
}

/// `[actions]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each field is the action of the same name")]
pub struct Actions {
    pub steer: Permission,
    pub background: Permission,
    pub ask: Permission,
    pub detach: Permission,
}

impl Actions {
    /// Whether the operator lets `action` happen; what is not listed always may.
    #[must_use]
    pub fn permission(&self, action: Action) -> Permission {
        match action {
            Action::Steer => self.steer,
            Action::Background => self.background,
            Action::Ask => self.ask,
            Action::Detach => self.detach,
            _ => Permission::Execute,
        }
    }
}

/// How far an action may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// Never mentioned.
    Off,
    /// `queue`, with the action as a suggestion.
    Suggest,
    /// It happens, where the gateway declares the capability.
    Execute,
}

/// `[ack]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.example.toml is the documentation")]
pub struct Ack {
    pub enabled: bool,
    pub cooldown_s: u64,
    pub locale: String,
    #[serde(default)]
    pub text: BTreeMap<String, BTreeMap<Action, String>>,
}

/// `[state]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.example.toml is the documentation")]
pub struct State {
    pub backend: StateBackend,
}

/// Where decisions are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateBackend {
    /// In this process.
    Memory,
}

/// `[journal]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.example.toml is the documentation")]
pub struct Journal {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    pub include_text: bool,
}

/// One entry of a gateway's command table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CommandEntry {
    /// The command runs in this lane.
    Lane(CommandLane),
    /// `false`: the command does not exist here.
    Present(bool),
}

/// The lanes that a table can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandLane {
    /// Stops or resets the run.
    Control,
    /// Runs beside the run.
    Side,
    /// Answers at once, the run goes on.
    Inline,
}

impl From<CommandLane> for Lane {
    fn from(lane: CommandLane) -> Self {
        match lane {
            CommandLane::Control => Self::Control,
            CommandLane::Side => Self::Side,
            CommandLane::Inline => Self::Inline,
        }
    }
}

/// Settings for the messages that match all given selectors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the selectors are fields of the request's session, the rest the sections of the same name")]
pub struct Override {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat: Option<ChatKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    // Completed from the base sections while loading (see `load`), so a policy is always whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guards: Option<Guards>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions: Option<Actions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack: Option<Ack>,
}

/// The settings that may differ from message to message, resolved for one of them.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the sections of the same name")]
pub struct Policy {
    pub mode: Mode,
    pub fallback: Fallback,
    pub guards: Guards,
    pub actions: Actions,
    pub ack: Ack,
}

impl Settings {
    /// The settings that apply where no override matches.
    #[must_use]
    pub fn base_policy(&self) -> Policy {
        Policy {
            mode: self.mode,
            fallback: self.fallback.clone(),
            guards: self.guards.clone(),
            actions: self.actions.clone(),
            ack: self.ack.clone(),
        }
    }

    /// The settings that apply where `over` matches.
    #[must_use]
    pub fn policy_with(&self, over: &Override) -> Policy {
        let base = self.base_policy();
        Policy {
            mode: over.mode.unwrap_or(base.mode),
            fallback: over.fallback.clone().unwrap_or(base.fallback),
            guards: over.guards.clone().unwrap_or(base.guards),
            actions: over.actions.clone().unwrap_or(base.actions),
            ack: over.ack.clone().unwrap_or(base.ack),
        }
    }

    /// The effective settings as TOML, without secrets.
    #[must_use]
    pub fn redacted(&self) -> String {
        let mut shown = self.clone();
        if let Some(url) = &mut shown.model.base_url
            && (url.password().is_some() || !url.username().is_empty())
        {
            // Both setters fail only for URLs that cannot carry credentials, and such a URL has none.
            let _ = url.set_password(None);
            let _ = url.set_username("redacted");
        }
        redact_values(&mut shown.model.extra_body);
        toml::to_string_pretty(&shown).unwrap_or_else(|error| format!("# cannot be shown: {error}\n"))
    }
}

/// Hides string values whose key sounds like a secret: `extra_body` is free-form, and some servers take a key in it.
fn redact_values(table: &mut toml::Table) {
    for (key, value) in table {
        let key = key.to_ascii_lowercase();
        let secret = ["key", "token", "secret", "password", "authorization"].iter().any(|word| key.contains(word));
        match value {
            toml::Value::String(text) if secret => "redacted".clone_into(text),
            toml::Value::Table(inner) => redact_values(inner),
            _ => {}
        }
    }
}
