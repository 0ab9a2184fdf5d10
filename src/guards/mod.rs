//! The rules that decide without a model: one file a rule or a few that belong together, each a small pure function from a
//! [`Turn`] to a [`Verdict`] or nothing. Their order is `router.rs`'s business.

pub mod ambient;
pub mod backchannel;
pub mod busy;
pub mod command;
pub mod detach;
pub mod media;
pub mod pending;
pub mod stop;
pub mod text;

use crate::config::Policy;
use crate::lexicon::{CommandTable, Lexicon};
use crate::protocol::{Action, Command, DecidedBy, RouteRequest, Rule};
use text::Text;

/// One message with everything that guards look at.
#[derive(Debug)]
pub struct Turn<'a> {
    /// What the gateway sent.
    pub request: &'a RouteRequest,
    /// The message's text in its normal forms.
    pub text: Text<'a>,
    /// The settings for this message.
    pub policy: &'a Policy,
    /// The word lists.
    pub lexicon: &'a Lexicon,
    /// The commands of this gateway; nothing when none are known.
    pub commands: Option<&'a CommandTable>,
}

impl Turn<'_> {
    /// Whether the agent waits for the user, or what it said last was a question: then nothing the user says is chatter.
    #[must_use]
    pub fn something_was_asked(&self) -> bool {
        let quoted = self.request.message.reply_to.as_ref().and_then(|reply| reply.text.as_deref());
        self.awaits_user()
            || self.request.last_assistant_text().is_some_and(text::ends_in_question)
            || quoted.is_some_and(text::ends_in_question)
    }

    /// Whether the agent waits for the user, by its state or by a pending question.
    #[must_use]
    pub fn awaits_user(&self) -> bool {
        let busy = &self.request.busy;
        busy.state.awaits_user() || busy.pending_question.as_deref().is_some_and(|question| !question.trim().is_empty())
    }

    /// Whether the sender is known to have started the run.
    #[must_use]
    pub fn sender_is_owner(&self) -> bool {
        let owner = self.request.session.owner_id.as_deref();
        owner.is_some() && owner == self.request.message.sender_id.as_deref()
    }

    /// Whether the message carries something besides text.
    #[must_use]
    pub fn has_media(&self) -> bool {
        !self.request.message.media.is_empty()
    }
}

/// What a rule says should happen, before the gateway's abilities and the operator's permissions are looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What should happen.
    pub action: Action,
    /// The rule that says so.
    pub rule: Rule,
    /// Who decided.
    pub decided_by: DecidedBy,
    /// What would be better, if only it were allowed.
    pub suggested: Option<Action>,
    /// The model's probability, when it was asked.
    pub confidence: Option<f32>,
    /// The model's raw label, when it was asked.
    pub model_action: Option<Action>,
    /// The command, when the text is one.
    pub command: Option<Command>,
    /// The message that this one repeats.
    pub duplicate_of: Option<String>,
    /// How long the model took, in microseconds.
    pub model_us: Option<u64>,
}

impl Verdict {
    /// A guard's verdict.
    #[must_use]
    pub fn guard(rule: Rule, action: Action) -> Self {
        Self {
            action,
            rule,
            decided_by: DecidedBy::Guard,
            suggested: None,
            confidence: None,
            model_action: None,
            command: None,
            duplicate_of: None,
            model_us: None,
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A turn from a few words, for the tests beside the guards.

    use super::{Policy, Turn, text::Text};
    use crate::config::Settings;
    use crate::lexicon::{CommandTable, Lexicon};
    use crate::protocol::RouteRequest;
    use std::sync::LazyLock;

    pub static LEXICON: LazyLock<Lexicon> = LazyLock::new(|| Lexicon::embedded().expect("the lexicon parses"));

    /// A request in state `thinking` with the given text, changed by `change`.
    pub fn request(text: &str, change: impl FnOnce(&mut RouteRequest)) -> RouteRequest {
        let mut request: RouteRequest = serde_json::from_value(serde_json::json!({
            "session": {"id": "s", "gateway": "hermes"}, "message": {"text": text}, "busy": {"state": "thinking"}
        }))
        .expect("a valid request");
        change(&mut request);
        request
    }

    /// Runs a guard on a request with the default settings.
    pub fn with_turn<T>(request: &RouteRequest, guard: impl FnOnce(&Turn<'_>) -> T) -> T {
        let policy: Policy = Settings::example().expect("the example parses").base_policy();
        let table: CommandTable = LEXICON.command_table(&request.session.gateway, None);
        guard(&Turn {
            request,
            text: Text::new(&request.message.text),
            policy: &policy,
            lexicon: &LEXICON,
            commands: Some(&table),
        })
    }
}
