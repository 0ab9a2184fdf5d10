//! What is kept of a case once it is decided: enough to score it, to show it, and to compare it with another run.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fixture::{Expect, Fixture};
use super::tasks::TaskCase;
use crate::protocol::{Action, DecidedBy, Decision, Rule};

/// Longest text of a record, in characters; a report shows what a case was about, the fixture holds the whole.
pub const TEXT_CHARS: usize = 160;

/// One case and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Names the case among all of the run.
    pub id: String,
    /// Language of the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lang: Option<String>,
    /// What the case is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The beginning of the message's text, on one line; of another question, what was asked.
    pub text: String,
    /// What was expected, in words.
    pub expected: String,
    /// What came, in words.
    pub got: String,
    /// Whether what came is all that was expected, rule and decider included.
    pub ok: bool,
    /// For a case about a message: what it is scored by. Cases of other sorts are right or wrong and nothing between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Judged>,
}

/// A decision on a message and what it is judged by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// What is right.
    pub expect: Expect,
    /// What was decided.
    pub outcome: Outcome,
}

/// What was decided on a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The action.
    pub action: Action,
    /// The rule that decided.
    pub rule: Rule,
    /// Who decided.
    pub decided_by: DecidedBy,
    /// The model's probability for `model_action`, 0 to 1, when a model was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f32>,
    /// The model's raw label, when a model was asked and gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_action: Option<Action>,
    /// The router's time for the decision, in microseconds; without the network when it was asked over one.
    pub total_us: u64,
    /// Of it, waiting for the model, in microseconds, when a model was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_us: Option<u64>,
}

impl From<&Decision> for Outcome {
    /// A shadow decision is judged by what it would have been: what passes through in shadow mode says nothing about the router.
    fn from(decision: &Decision) -> Self {
        let shadow = decision.shadow.as_ref();
        Self {
            action: shadow.map_or(decision.action, |shadow| shadow.action),
            rule: shadow.map_or(decision.rule, |shadow| shadow.rule),
            decided_by: shadow.map_or(decision.decided_by, |shadow| shadow.decided_by),
            confidence: decision.confidence,
            model_action: decision.model_action,
            total_us: decision.latency.total_us,
            model_us: decision.latency.model_us,
        }
    }
}

impl Record {
    /// The record of a message.
    #[must_use]
    pub fn of_message(id: &str, fixture: &Fixture, outcome: Outcome) -> Self {
        Self {
            id: id.to_owned(),
            lang: fixture.lang.clone(),
            tags: fixture.tags.clone(),
            text: one_line(&fixture.request.message.text, TEXT_CHARS),
            expected: fixture.expect.to_string(),
            got: format!("{} ({})", outcome.action, outcome.rule),
            ok: fixture.expect.is_met_by(outcome.action, outcome.rule, outcome.decided_by),
            message: Some(Judged { expect: fixture.expect.clone(), outcome }),
        }
    }

    /// The record of a question about a background task.
    #[must_use]
    pub fn of_task(id: &str, case: &TaskCase, answer: &Value) -> Self {
        // An answer may quote a summary, which is anybody's text.
        let shown = |text: String| one_line(&text, TEXT_CHARS);
        Self {
            id: id.to_owned(),
            lang: None,
            tags: case.tags.clone(),
            text: shown(case.question.to_string()),
            expected: shown(case.expect.to_string()),
            got: shown(case.expect.of(answer).to_string()),
            ok: case.expect.hold_in(answer),
            message: None,
        }
    }

    /// What follows `prefix` in the first tag that has it.
    #[must_use]
    pub fn tag(&self, prefix: &str) -> Option<&str> {
        self.tags.iter().find_map(|tag| tag.strip_prefix(prefix))
    }

    /// The intent that the case was labelled with.
    #[must_use]
    pub fn intent(&self) -> Option<&str> {
        self.tag("intent:")
    }
}

/// The beginning of a text on one line, without what could move a cursor, colour a terminal or turn the reading direction of what
/// follows.
#[must_use]
pub fn one_line(text: &str, chars: usize) -> String {
    let mut line = String::new();
    let mut left = chars;
    let mut gap = false;
    for c in text.chars() {
        if c.is_whitespace() {
            gap = !line.is_empty();
            continue;
        }
        if c.is_control() || is_invisible(c) {
            continue;
        }
        if left == 0 {
            line.push('…');
            break;
        }
        if std::mem::take(&mut gap) {
            line.push(' ');
        }
        line.push(c);
        left -= 1;
    }
    line
}

/// Bidi controls, zero-width signs other than joiners (emoji and several scripts need those), and tag characters.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_becomes_one_harmless_line() {
        assert_eq!(one_line("  two\n\n words\t", 20), "two words");
        assert_eq!(one_line("\u{1b}[31mred\u{202e}txt\u{0}", 20), "[31mredtxt");
        assert_eq!(one_line("abcdef", 3), "abc…");
        assert_eq!(one_line("ab c", 3), "ab c");
        assert_eq!(one_line("👨‍👩‍👧", 20), "👨‍👩‍👧");
    }
}
