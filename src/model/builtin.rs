//! The classifier inside the binary: seven intents, then the action of least expected cost.
//!
//! A linear model over hashed marks (see [`super::features`]): every mark votes for or against each intent by a table of small integers,
//! the votes become calibrated probabilities, and the probabilities meet the costs of the errors. `docs/builtin-model.md` is its model
//! card; `busy-router train` makes its weights.

use futures_util::future::BoxFuture;
use tokio::time::Instant;

pub use super::features::BUCKETS;
use super::features::{self, LENGTHS, Marks};
use super::{Answer, Failure, Model, Question};
use crate::config::ConfigError;
use crate::guards::text::has_question_mark;
use crate::protocol::Action;

/// The trained weights.
const EMBEDDED: &[u8] = include_bytes!("builtin.weights");
/// The first bytes of a weights file.
const MAGIC: &[u8; 8] = b"BSYRTRW3";
/// Numbers before the table.
const NUMBERS: usize = 2 + LENGTHS + 7 * LENGTHS;

/// What the user means by a message to a busy agent; the label guide in `fixtures/README.md` says when is which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Intent {
    /// The run shall end.
    Stop,
    /// The running work rests on a wrong premise.
    Correction,
    /// An addition to the running work.
    Addition,
    /// Another request.
    New,
    /// An answer to what was asked.
    Answer,
    /// Nothing that needs a reply.
    Backchannel,
    /// A question for progress, impatience, encouragement.
    Ping,
}

impl Intent {
    /// All intents, in the order of the weights.
    pub const ALL: [Self; 7] =
        [Self::Stop, Self::Correction, Self::Addition, Self::New, Self::Answer, Self::Backchannel, Self::Ping];

    /// The word in the tags of fixtures.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Correction => "corr",
            Self::Addition => "add",
            Self::New => "new",
            Self::Answer => "ans",
            Self::Backchannel => "back",
            Self::Ping => "ping",
        }
    }

    /// The intent of a fixture's tag.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|intent| intent.as_str() == word)
    }

    /// What it costs to do `action` when this is meant: a lost message 4, destroyed work 3, a missed stop 2, any other error 1 (the costs
    /// of the label guide).
    #[must_use]
    pub fn cost(self, action: Action) -> f32 {
        match (self, action) {
            (Self::Stop | Self::Correction, Action::Interrupt)
            | (Self::Addition | Self::New | Self::Answer | Self::Ping, Action::Queue)
            | (Self::Backchannel, Action::Ignore) => 0.0,
            (Self::Stop, Action::Queue) => 2.0,
            // Impatience without a question may be ignored; a question may not, and the decision never does (see `propose`).
            (Self::Ping, Action::Ignore) | (Self::Backchannel | Self::Correction, Action::Queue) => 1.0,
            (_, Action::Ignore) => 4.0,
            (_, Action::Interrupt) => 3.0,
            _ => 1.0,
        }
    }
}

/// The actions that the built-in model chooses from.
const ACTIONS: [Action; 3] = [Action::Queue, Action::Interrupt, Action::Ignore];

/// The votes of one bucket; the eighth is always 0 and makes a row one machine word.
pub(crate) type Row = [i8; 8];

/// A row of seven votes.
pub(crate) fn row(votes: [i8; 7]) -> Row {
    std::array::from_fn(|intent| votes.get(intent).copied().unwrap_or(0))
}

/// As many rows as can be summed in 16 bits.
const ROWS_IN_16_BITS: usize = 256;

/// How probable it must be of each part of a message that it is chatter, for the whole to be ignored. A part knows less of its meaning than
/// the whole ("that's it right now"), so this is less than what ignoring the whole takes.
const LEAST_CHATTER_OF_A_PART: f32 = 0.35;

/// How probable it must be of one sentence that it is a stop, for the message to be one. This and the next two were chosen on sets that are
/// not in the project; docs/builtin-model.md says what they bring.
const LEAST_STOP_OF_A_SENTENCE: f32 = 0.75;

/// The same where the whole message is less likely than [`LEAST_CHANCE_OF_THE_WHOLE`] to end the run.
const LEAST_STOP_AGAINST_THE_WHOLE: f32 = 0.93;

/// How probable it must be of the whole message that the run should end, to take one sentence's word for it.
const LEAST_CHANCE_OF_THE_WHOLE: f32 = 0.15;

/// Texts of more lines are pastes: what stands in them is not said to the agent.
const MOST_LINES: usize = 15;

/// The classifier with its weights.
#[derive(Clone, PartialEq)]
pub struct Builtin {
    /// Votes of every bucket for every intent, in steps of `scale`.
    pub(crate) table: Vec<Row>,
    /// The worth of one step.
    pub(crate) scale: f32,
    /// Votes that every message gets, by its length.
    pub(crate) bias: [[f32; 7]; LENGTHS],
    /// Divides the votes, by the message's length, so that probabilities are as often right as they say; found on messages by authors
    /// that the training did not see. Long messages hold more words that look like something, and need more doubt.
    pub(crate) temperatures: [f32; LENGTHS],
    /// Answers less sure than this are abstentions; derived from the curve that `train` prints.
    pub(crate) threshold: f32,
}

impl std::fmt::Debug for Builtin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builtin")
            .field("temperatures", &self.temperatures)
            .field("threshold", &self.threshold)
            .finish_non_exhaustive()
    }
}

impl Builtin {
    /// The model that was compiled in.
    ///
    /// # Errors
    /// Only if the embedded weights are broken, which a test rules out.
    pub fn embedded() -> Result<Self, ConfigError> {
        Self::from_bytes(EMBEDDED)
            .map_err(|message| ConfigError::of_key("", format!("the embedded weights are broken: {message}")))
    }

    /// The bytes of the embedded weights, to compare a training with.
    #[must_use]
    pub const fn embedded_bytes() -> &'static [u8] {
        EMBEDDED
    }

    /// Reads weights as [`Builtin::to_bytes`] writes them.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let expected = MAGIC.len() + 4 * NUMBERS + BUCKETS * 7;
        if bytes.len() != expected {
            return Err(format!("{} bytes long, {expected} expected", bytes.len()));
        }
        let (magic, rest) = bytes.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err("not a weights file of this version".to_owned());
        }
        let (numbers, votes) = rest.split_at(4 * NUMBERS);
        let mut numbers = numbers.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        let mut next = || numbers.next().filter(|number| number.is_finite()).ok_or("a number that is none");
        let (scale, threshold) = (next()?, next()?);
        let (mut temperatures, mut bias) = ([0.0; LENGTHS], [[0.0; 7]; LENGTHS]);
        for value in temperatures.iter_mut().chain(bias.as_flattened_mut()) {
            *value = next()?;
        }
        let table = votes.as_chunks::<7>().0.iter().map(|votes| row(votes.map(u8::cast_signed))).collect();
        Ok(Self { table, scale, bias, temperatures, threshold })
    }

    /// The weights as a file: the magic word, scale, threshold, the temperatures by length, the seven biases by length (little-endian
    /// `f32`), then seven signed bytes a bucket.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for number in [self.scale, self.threshold].into_iter().chain(self.temperatures).chain(self.bias.into_iter().flatten()) {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(self.table.iter().flat_map(|row| &row[..7]).map(|vote| *vote as u8));
        bytes
    }

    /// The probability of every intent.
    #[must_use]
    pub fn probabilities(&self, question: &Question<'_>) -> [f32; 7] {
        self.calibrated(&features::unordered_marks(question))
    }

    /// The probability of every intent, from a message's marks.
    pub(crate) fn calibrated(&self, marks: &Marks) -> [f32; 7] {
        let temperature = self.temperatures[marks.length_class()];
        softmax(self.votes(marks).map(|vote| vote / temperature))
    }

    /// The votes of some marks for every intent, before calibration.
    pub(crate) fn votes(&self, marks: &Marks) -> [f32; 7] {
        let mut votes = self.bias[marks.length_class()];
        for group in marks.groups() {
            let mut sums = [0i32; 8];
            // Narrow sums let the compiler add a whole row at once.
            for buckets in group.chunks(ROWS_IN_16_BITS) {
                let mut narrow = [0i16; 8];
                for bucket in buckets {
                    let Some(row) = self.table.get(*bucket as usize) else { continue };
                    for (sum, vote) in narrow.iter_mut().zip(row) {
                        *sum += i16::from(*vote);
                    }
                }
                for (sum, part) in sums.iter_mut().zip(narrow) {
                    *sum += i32::from(part);
                }
            }
            // Long messages have more marks; the square root keeps their votes comparable with those of short ones.
            let norm = self.scale / (group.len().max(1) as f32).sqrt();
            for (vote, sum) in votes.iter_mut().zip(sums) {
                *vote += sum as f32 * norm;
            }
        }
        votes
    }

    /// The action of least expected cost.
    #[must_use]
    pub fn propose(&self, question: &Question<'_>) -> Answer {
        let probabilities = self.probabilities(question);
        let mut answer = self.decide(question, &probabilities, true);
        if answer.action == Action::Ignore && !self.every_part_is_chatter(question) {
            answer = self.decide(question, &probabilities, false);
        }
        if answer.action == Action::Queue
            && let Some(confidence) = self.stop_at_an_end(question, interrupts(&probabilities))
        {
            return Answer { action: Action::Interrupt, confidence, abstains: false, suggestion: None };
        }
        answer
    }

    /// The probability that the first or the last of several sentences is a stop by itself, if it is sure enough: in "Please stop the upload.
    /// Then look at the three invoices and tell me …" the many words about something else outvote those that count. `whole` is the
    /// probability that the run should end by the message as a whole.
    ///
    /// Only where orders stand: sentences in between do not count, nor questions, nor messages that hold somebody else's words, code or a list.
    fn stop_at_an_end(&self, question: &Question<'_>, whole: f32) -> Option<f32> {
        if holds_more_than_speech(question.text) {
            return None;
        }
        let has_words = |part: &&str| part.chars().filter(|c| c.is_alphanumeric()).nth(1).is_some();
        let mut sentences = sentences(question.text).filter(has_words);
        let (first, last) = (sentences.next()?, sentences.last()?);
        let required = if whole >= LEAST_CHANCE_OF_THE_WHOLE { LEAST_STOP_OF_A_SENTENCE } else { LEAST_STOP_AGAINST_THE_WHOLE };
        [first, last]
            .into_iter()
            .filter(|sentence| !has_question_mark(sentence))
            .map(|sentence| self.probability_of_part(question, sentence, Intent::Stop))
            .filter(|stop| *stop >= required)
            .max_by(f32::total_cmp)
    }

    /// Whether no part of the message looks like content by itself: "I smell gas, thanks" sounds like thanks as a whole, and must not be lost.
    fn every_part_is_chatter(&self, question: &Question<'_>) -> bool {
        let mut parts = question
            .text
            .split([',', '.', '!', ';', ':', '\n', '，', '、', '。', '！', '،', '।'])
            .filter(|part| !part.trim().is_empty());
        parts.all(|part| self.probability_of_part(question, part, Intent::Backchannel) >= LEAST_CHATTER_OF_A_PART)
    }

    /// The probability of an intent if one part of the message were all of it.
    fn probability_of_part(&self, question: &Question<'_>, part: &str, intent: Intent) -> f32 {
        self.probabilities(&Question { text: part, ..question.clone() })[intent as usize]
    }

    /// The action of least expected cost, given the probabilities. `may_ignore` says whether ignoring is among them at all.
    pub(crate) fn decide(&self, question: &Question<'_>, probabilities: &[f32; 7], may_ignore: bool) -> Answer {
        let expected = |action: Action| -> f32 {
            Intent::ALL.iter().zip(probabilities).map(|(intent, probability)| probability * intent.cost(action)).sum()
        };
        // What is asked or awaited, and what asks, is never ignored.
        let may_ignore = may_ignore
            && !question.state.awaits_user()
            && question.pending_question.is_none()
            && !question.last_assistant_text().is_some_and(crate::guards::text::ends_in_question)
            && !has_question_mark(question.text);
        let mut action = Action::Queue;
        for candidate in ACTIONS {
            if (candidate != Action::Ignore || may_ignore) && expected(candidate) < expected(action) {
                action = candidate;
            }
        }
        // The probability that the action is right, which is what a reader takes a confidence for.
        let confidence: f32 = Intent::ALL
            .iter()
            .zip(probabilities)
            .filter(|(intent, _)| intent.cost(action) == 0.0)
            .map(|(_, probability)| probability)
            .sum();
        let independent = probabilities[Intent::New as usize];
        let suggestion = (action == Action::Queue && question.long_detachable && independent > 0.5).then_some(Action::Detach);
        Answer { action, confidence: confidence.clamp(0.0, 1.0), abstains: confidence < self.threshold, suggestion }
    }
}

impl Model for Builtin {
    /// Answers at once: microseconds, whatever the deadline.
    fn ask<'a>(&'a self, question: &'a Question<'a>, _deadline: Instant) -> BoxFuture<'a, Result<Answer, Failure>> {
        let answer = self.propose(question);
        Box::pin(std::future::ready(Ok(answer)))
    }
}

/// The sentences of a text. A sign inside a word ends none: "stop.py", "worker.stop".
fn sentences(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let ends = rest.char_indices().find_map(|(at, c)| {
            let after = at + c.len_utf8();
            let ends = match c {
                '.' | '!' | '?' | '؟' | '…' => rest[after..].chars().next().is_none_or(char::is_whitespace),
                _ => matches!(c, '\n' | '。' | '！' | '？' | '．' | '।' | '۔'),
            };
            ends.then_some(after)
        });
        let (sentence, others) = rest.split_at(ends.unwrap_or(rest.len()));
        rest = others;
        (!sentence.is_empty()).then_some(sentence)
    })
}

/// Whether a text holds quotations, code, labels or lists, or is a paste: there a stop is what is spoken of.
fn holds_more_than_speech(text: &str) -> bool {
    let labels = || text.split(':').skip(1).any(|after| after.chars().next().is_none_or(char::is_whitespace));
    text.contains(['"', '“', '”', '„', '«', '「', '『', '`', '：'])
        || labels()
        || text.lines().any(|line| line.trim_start().starts_with(['>', '-', '*', '•']))
        || text.lines().count() > MOST_LINES
}

/// The probability that the run should end: it is unwanted, or rests on a wrong premise.
fn interrupts(probabilities: &[f32; 7]) -> f32 {
    probabilities[Intent::Stop as usize] + probabilities[Intent::Correction as usize]
}

/// Probabilities from votes.
#[must_use]
pub(crate) fn softmax(votes: [f32; 7]) -> [f32; 7] {
    let highest = votes.iter().copied().fold(f32::MIN, f32::max);
    // The pure Rust `exp` gives the same bits on every machine; the system's does not.
    let powers = votes.map(|vote| libm::expf(vote - highest));
    let sum: f32 = powers.iter().sum();
    powers.map(|power| power / sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guards::testing::request;

    /// While an upload runs.
    fn action(text: &str) -> Action {
        let tool = serde_json::json!({"name": "bash", "preview": "rclone copy out remote:"});
        let request = request(text, |request| request.busy.tool = serde_json::from_value(tool).expect("a tool"));
        Builtin::embedded().expect("the weights are right").propose(&Question::from_request(&request, Vec::new())).action
    }

    #[test]
    fn a_stop_at_an_end_is_not_outvoted_by_the_rest() {
        let rest = "Then have a look at the three invoices from March that I put into the folder yesterday, and tell me which has the wrong tax number.";
        assert_eq!(action(rest), Action::Queue);
        assert_eq!(action(&format!("Please stop the upload. {rest}")), Action::Interrupt);
        assert_eq!(action(&format!("{rest} Stop everything!")), Action::Interrupt);
        assert_eq!(action(&format!("Don't stop the upload. {rest}")), Action::Queue);
    }

    #[test]
    fn a_stop_that_is_spoken_of_is_none() {
        for text in [
            "For the voice commands add these as well: play. pause. next track. stop.",
            "stop.py needs a docstring too, and the tests in that folder should be sorted by name",
            "Also rename the shutdown method to worker.stop",
            "> please stop the rollout immediately\nDraft a friendly answer to this, it is from Ben.",
            "Translate into German for the sign at the press:\nStop the machine immediately!",
            "Also add two more buttons to the toolbar: Cancel. Abort. Both should be grey like the ones on the left.",
            "Add a button to the page. Label: Stop. Color red.",
            "The error message should be: Operation aborted. Cancel everything? Yes or no.",
            "When the last invoice is done; stop. Then send me the totals per month.",
            "Translate this to French please: \"Stop. Put your hands up.\"",
            "From Anna:\nHi all,\nplease stop the rollout immediately!\nThanks, Anna\n\nCan you draft a friendly answer that I can send her?",
        ] {
            assert_eq!(action(text), Action::Queue, "{text}");
        }
    }

    #[test]
    fn what_stands_in_a_paste_is_not_said_to_the_agent() {
        let paste = "worker 3 is ready\n".repeat(MOST_LINES);
        assert_eq!(action(&format!("{paste}stop it now")), Action::Queue);
    }
}
