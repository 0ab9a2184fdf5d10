//! What the guards leave open is put to a model: the trait, what it is told, what it may answer, and how it can fail.
//!
//! Providers: [`builtin`] is the classifier inside the binary, [`openai`] any OpenAI-compatible endpoint, [`cascade`] the first when it is
//! sure and else the second, [`scripted`] the answers that fixtures prescribe.

pub mod answer;
pub mod builtin;
pub mod cascade;
pub mod features;
pub mod limits;
pub mod openai;
pub mod prompt;
pub mod scripted;

use std::borrow::Cow;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::protocol::route::EXCERPT_CHARS;
use crate::protocol::{Action, BusyState, ChatKind, Role, RouteRequest, Rule};

/// What a model is told: the bounded context of the contract and nothing else of the request. Excerpts are cut to 400 characters.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// The state of the run.
    pub state: BusyState,
    /// The running tool's name.
    pub tool_name: Option<&'a str>,
    /// What the running tool works on.
    pub tool_preview: Option<&'a str>,
    /// What the agent waits on.
    pub pending_question: Option<&'a str>,
    /// The text of the message that this one replies to.
    pub reply_to: Option<&'a str>,
    /// The last two messages of each role, oldest first.
    pub history: Vec<(Role, &'a str)>,
    /// The message.
    pub text: &'a str,
    /// The actions that may come of it; an LLM is told of no others.
    pub labels: Vec<Action>,
    /// For the built-in model only: the kind of chat.
    pub chat: ChatKind,
    /// For the built-in model only: whether the message is addressed to the agent.
    pub addressed: Option<bool>,
    /// For the built-in model only: whether the running tool has been at work for long and can move to the background.
    pub long_detachable: bool,
    /// For the budget of a session only.
    pub session: Cow<'a, str>,
}

/// A tool that has run this long, in milliseconds, is worth moving to the background for another request. Ours: shorter ones end before
/// the user has read the answer.
const LONG_TOOL_MS: u64 = 30_000;

impl<'a> Question<'a> {
    /// Takes from a request what a model may see.
    #[must_use]
    pub fn from_request(request: &'a RouteRequest, labels: Vec<Action>) -> Self {
        let tool = request.busy.tool.as_ref();
        let mut left = [2, 2];
        let mut history: Vec<(Role, &str)> = Vec::with_capacity(4);
        for entry in request.history.iter().rev() {
            let left = &mut left[usize::from(entry.role == Role::User)];
            if *left > 0 {
                *left -= 1;
                history.push((entry.role, excerpt(&entry.text)));
            }
        }
        history.reverse();
        Self {
            state: request.busy.state,
            tool_name: tool.map(|tool| excerpt(&tool.name)),
            tool_preview: tool.and_then(|tool| tool.preview.as_deref()).map(excerpt),
            pending_question: request.busy.pending_question.as_deref().map(excerpt),
            reply_to: request.message.reply_to.as_ref().and_then(|reply| reply.text.as_deref()).map(excerpt),
            history,
            text: &request.message.text,
            labels,
            chat: request.session.chat,
            addressed: request.message.addressed,
            long_detachable: tool.is_some_and(|tool| tool.detachable == Some(true) && tool.task_id.is_some())
                && request.busy.elapsed_ms.is_some_and(|elapsed| elapsed >= LONG_TOOL_MS),
            session: Cow::Borrowed(&request.session.id),
        }
    }

    /// The last thing the agent said, if the history holds it.
    #[must_use]
    pub fn last_assistant_text(&self) -> Option<&'a str> {
        self.history.iter().rev().find(|(role, _)| *role == Role::Assistant).map(|(_, text)| *text)
    }
}

/// The first [`EXCERPT_CHARS`] characters.
#[must_use]
pub fn excerpt(text: &str) -> &str {
    if text.len() <= EXCERPT_CHARS {
        return text;
    }
    text.char_indices().nth(EXCERPT_CHARS).map_or(text, |(end, _)| &text[..end])
}

/// What a model says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// The action it proposes.
    pub action: Action,
    /// Its probability for that action, 0 to 1.
    pub confidence: f32,
    /// Whether it is too unsure to be followed, by the provider's own threshold.
    pub abstains: bool,
    /// An action that would be better still where it is allowed.
    pub suggestion: Option<Action>,
}

/// Why there is no answer. The detail is for the operator's log; it holds no message text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Not before the deadline.
    #[error("no answer before the deadline")]
    Timeout,
    /// Not reachable, or an error status.
    #[error("{0}")]
    Error(String),
    /// An answer, but not the one JSON object that was asked for.
    #[error("{0}")]
    InvalidOutput(String),
    /// The router's own budget is used up.
    #[error("the budget of model calls is used up")]
    RateLimited,
    /// Left alone after repeated failures.
    #[error("the circuit breaker is open")]
    CircuitOpen,
    /// No free slot.
    #[error("all slots for model calls are taken")]
    Overloaded,
}

impl Failure {
    /// The rule code of this cause.
    #[must_use]
    pub const fn rule(&self) -> Rule {
        match self {
            Self::Timeout => Rule::Timeout,
            Self::Error(_) => Rule::ModelError,
            Self::InvalidOutput(_) => Rule::InvalidOutput,
            Self::RateLimited => Rule::RateLimited,
            Self::CircuitOpen => Rule::CircuitOpen,
            Self::Overloaded => Rule::Overloaded,
        }
    }
}

/// Something that can be asked what should happen to a message.
pub trait Model: Send + Sync + std::fmt::Debug {
    /// Asks once; never retries, and returns by `deadline` whatever the other side does.
    fn ask<'a>(&'a self, question: &'a Question<'a>, deadline: Instant) -> BoxFuture<'a, Result<Answer, Failure>>;

    /// The state of the circuit breaker, for the metrics; nothing for a model that has none.
    fn breaker_state(&self) -> Option<limits::BreakerState> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_sees_the_last_two_of_each_role_and_excerpts() {
        let long = "ä".repeat(EXCERPT_CHARS + 5);
        let request: RouteRequest = serde_json::from_value(serde_json::json!({
            "session": {"id": "s"}, "message": {"text": "x"}, "busy": {"state": "thinking", "tool": {"name": "exec", "preview": long}},
            "history": [
                {"role": "user", "text": "1"}, {"role": "assistant", "text": "2"}, {"role": "user", "text": "3"},
                {"role": "user", "text": "4"}, {"role": "assistant", "text": "5"}, {"role": "assistant", "text": long}
            ]
        }))
        .expect("a valid request");
        let question = Question::from_request(&request, vec![]);
        let texts: Vec<usize> = question.history.iter().map(|(_, text)| text.chars().count()).collect();
        assert_eq!(question.history[0].1, "3");
        assert_eq!(question.history[1].1, "4");
        assert_eq!(texts, [1, 1, 1, EXCERPT_CHARS]);
        assert_eq!(question.tool_preview.map(|preview| preview.chars().count()), Some(EXCERPT_CHARS));
        assert_eq!(excerpt("short"), "short");
    }
}
