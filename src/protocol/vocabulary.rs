//! The closed word lists of the protocol. Each word exists once, with its meaning beside it: serde, the `OpenAPI` document, metric
//! labels and the docs all come from here.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Defines an enum whose variants are words of the protocol: the word on the wire, and a doc line that is also available at run
/// time as the word's meaning.
///
/// A word is taken as `tt`: the derive for the `OpenAPI` document does not see through a `literal` and would name the variant instead.
macro_rules! vocabulary {
    ($(#[$meta:meta])* $name:ident { $(#[doc = $doc:literal] $variant:ident = $word:tt,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        pub enum $name {
            $(#[doc = $doc] #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every word of this list, in the order of the contract.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word as it stands on the wire, in metric labels and in fixtures.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// What the word means, in one sentence.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $doc.trim_start(),)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(word: &str) -> Result<Self, String> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("`{word}` is not one of: {}", [$($word),+].join(", "))),
                }
            }
        }
    };
}

pub(crate) use vocabulary;

vocabulary! {
    /// What the gateway shall do with the message.
    Action {
        /// The gateway does what it would do without the router.
        PassThrough = "pass_through",
        /// The gateway runs `command` through its own command handler; the text never reaches a model.
        Dispatch = "dispatch",
        /// The run stops; this message is the next turn, ahead of what is queued.
        Interrupt = "interrupt",
        /// The message is kept for the next turn, in order of arrival.
        Queue = "queue",
        /// The message is dropped; nothing in it needs an answer.
        Ignore = "ignore",
        /// The message is injected into the running turn; if that turn has ended it is queued, never dropped.
        Steer = "steer",
        /// The message runs beside the current run.
        Background = "background",
        /// `ack.text` is shown as a question, and the message is queued until it is answered.
        Ask = "ask",
        /// `task_id` moves to the background, then this message is the next turn.
        Detach = "detach",
    }
}

impl Action {
    /// The capability that a gateway must declare before this action may be returned; `pass_through` and `dispatch` need none.
    #[must_use]
    pub const fn capability(self) -> Option<Capability> {
        match self {
            Self::PassThrough | Self::Dispatch => None,
            Self::Interrupt => Some(Capability::Interrupt),
            Self::Queue => Some(Capability::Queue),
            Self::Ignore => Some(Capability::Ignore),
            Self::Steer => Some(Capability::Steer),
            Self::Background => Some(Capability::Background),
            Self::Ask => Some(Capability::Ask),
            Self::Detach => Some(Capability::Detach),
        }
    }

    /// Whether a message with this action was taken up, so that the same text again is a duplicate.
    #[must_use]
    pub const fn accepts(self) -> bool {
        matches!(self, Self::Interrupt | Self::Queue | Self::Steer | Self::Background | Self::Ask | Self::Detach)
    }
}

vocabulary! {
    /// An action that a gateway can execute.
    Capability {
        /// Stop the run and take the message next.
        Interrupt = "interrupt",
        /// Keep the message for the next turn.
        Queue = "queue",
        /// Drop the message.
        Ignore = "ignore",
        /// Inject the message into the running turn.
        Steer = "steer",
        /// Run the message beside the current run.
        Background = "background",
        /// Show a question to the user.
        Ask = "ask",
        /// Move a running task to the background.
        Detach = "detach",
    }
}

vocabulary! {
    /// Who made the decision.
    DecidedBy {
        /// The router is off for this message.
        Disabled = "disabled",
        /// A rule that a person can read.
        Guard = "guard",
        /// The model, and the review agreed.
        Model = "model",
        /// The configured fallback, because the model could not be used.
        Fallback = "fallback",
    }
}

vocabulary! {
    /// The rule that decided, in the order in which rules are tried.
    Rule {
        /// The effective mode is off.
        Disabled = "disabled",
        /// No run is under way.
        NotBusy = "not_busy",
        /// Evidence shows that the run has already ended.
        StaleBusy = "stale_busy",
        /// The text is a command of this gateway.
        Command = "command",
        /// The text looks like a command that is not in this gateway's table.
        UnknownCommand = "unknown_command",
        /// The message has neither text nor media.
        Empty = "empty",
        /// The whole message is a stop phrase.
        StopPhrase = "stop_phrase",
        /// The agent waits for this reply.
        PendingReply = "pending_reply",
        /// The message belongs to an album of which a part was decided before.
        Album = "album",
        /// The message is media without text.
        Media = "media",
        /// The same sender's same text was accepted a moment ago.
        Duplicate = "duplicate",
        /// The whole message asks for the running tool to go to the background.
        DetachPhrase = "detach_phrase",
        /// The whole message is chatter, and nothing was asked.
        Backchannel = "backchannel",
        /// Talk in a group that is not addressed to the agent.
        Ambient = "ambient",
        /// The model answered in time, and the review agreed.
        Model = "model",
        /// Review: the model is not sure enough.
        LowConfidence = "low_confidence",
        /// Review: the model would ignore a message that has content.
        IgnoreWithContent = "ignore_with_content",
        /// Review: the model would interrupt a run that is protected.
        ProtectedRun = "protected_run",
        /// Review: the model's action cannot be executed here and now.
        UnsupportedAction = "unsupported_action",
        /// Fallback: the model did not answer before the deadline.
        Timeout = "timeout",
        /// Fallback: the model could not be reached or answered with an error.
        ModelError = "model_error",
        /// Fallback: the model's answer is not the one JSON object that was asked for.
        InvalidOutput = "invalid_output",
        /// Fallback: the router's own budget of model calls is used up.
        RateLimited = "rate_limited",
        /// Fallback: the model failed repeatedly and is left alone for a while.
        CircuitOpen = "circuit_open",
        /// Fallback: all slots for model calls are taken.
        Overloaded = "overloaded",
    }
}

vocabulary! {
    /// The router's mode for a message.
    Mode {
        /// Every message passes through, and no state is kept.
        Off = "off",
        /// Every message passes through; the decision is computed and reported.
        Shadow = "shadow",
        /// Decisions are returned to be acted on.
        On = "on",
    }
}

vocabulary! {
    /// Where a command runs.
    Lane {
        /// It stops or resets the run.
        Control = "control",
        /// It runs beside the run.
        Side = "side",
        /// It answers at once, and the run goes on.
        Inline = "inline",
        /// Not in this gateway's table.
        Unknown = "unknown",
    }
}

vocabulary! {
    /// What kind of conversation a session belongs to.
    ChatKind {
        /// One user and the agent.
        Direct = "direct",
        /// Several people and the agent.
        Group = "group",
        /// A broadcast channel.
        Channel = "channel",
        /// A thread inside a group or channel.
        Thread = "thread",
    }
}

#[expect(clippy::derivable_impls, reason = "the list above marks no word as the default")]
impl Default for ChatKind {
    fn default() -> Self {
        Self::Direct
    }
}

impl ChatKind {
    /// Whether people other than the run's owner can speak here.
    #[must_use]
    pub const fn is_shared(self) -> bool {
        !matches!(self, Self::Direct)
    }
}

vocabulary! {
    /// What the agent is doing for the session.
    BusyState {
        /// No run is under way.
        Idle = "idle",
        /// The run is being set up; most gateways cannot stop it yet.
        Starting = "starting",
        /// The model is being asked.
        Thinking = "thinking",
        /// The answer is being written.
        Streaming = "streaming",
        /// A tool runs.
        RunningTool = "running_tool",
        /// The agent waits for an approval or refusal.
        AwaitingApproval = "awaiting_approval",
        /// The agent waits for an answer.
        AwaitingAnswer = "awaiting_answer",
        /// The history is being compacted.
        Compacting = "compacting",
        /// The gateway finishes what runs and takes nothing new.
        Draining = "draining",
        /// The run is being stopped.
        Stopping = "stopping",
        /// The gateway cannot say.
        Unknown = "unknown",
    }
}

impl BusyState {
    /// Whether the agent waits for the user.
    #[must_use]
    pub const fn awaits_user(self) -> bool {
        matches!(self, Self::AwaitingApproval | Self::AwaitingAnswer)
    }

    /// Whether a run in this state can be interrupted at all.
    #[must_use]
    pub const fn interruptible(self) -> bool {
        !matches!(self, Self::Starting | Self::Compacting | Self::Draining | Self::Stopping)
    }
}

vocabulary! {
    /// What a message carries besides text.
    MediaKind {
        /// A picture.
        Photo = "photo",
        /// A voice note.
        Voice = "voice",
        /// A piece of music or other sound.
        Audio = "audio",
        /// A film.
        Video = "video",
        /// A file.
        Document = "document",
        /// A sticker.
        Sticker = "sticker",
        /// A place.
        Location = "location",
        /// A person's contact card.
        Contact = "contact",
        /// Anything else.
        Other = "other",
    }
}

vocabulary! {
    /// Who wrote a message of the history.
    Role {
        /// A person.
        User = "user",
        /// The agent.
        Assistant = "assistant",
    }
}

vocabulary! {
    /// What the gateway does by itself with a busy message.
    DefaultAction {
        /// It stops the run.
        Interrupt = "interrupt",
        /// It keeps the message for later.
        Queue = "queue",
        /// It injects the message into the run.
        Steer = "steer",
    }
}

impl From<DefaultAction> for Action {
    fn from(default: DefaultAction) -> Self {
        match default {
            DefaultAction::Interrupt => Self::Interrupt,
            DefaultAction::Queue => Self::Queue,
            DefaultAction::Steer => Self::Steer,
        }
    }
}

vocabulary! {
    /// Where a piece of evidence about a run or a task comes from.
    EvidenceSource {
        /// The agent's session.
        Session = "session",
        /// A registry of background tasks.
        Task = "task",
        /// The run itself, such as its last message.
        Run = "run",
        /// A status endpoint.
        StatusApi = "status_api",
        /// A sign of life.
        Heartbeat = "heartbeat",
    }
}
