//! What other systems' status words mean: `vocabulary.toml`, embedded, looked up by the whole word.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::LazyLock;

use serde::Deserialize;

use crate::protocol::{EvidenceSource, TaskStatus};

const FILE: &str = include_str!("vocabulary.toml");

/// No known word is longer, in bytes.
const MAX_WORD_BYTES: usize = 64;

/// What a word says of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reading {
    /// It is in this state.
    Is(TaskStatus),
    /// It is over; the word does not say how.
    Ended,
    /// Nothing runs now, which ends nothing by itself.
    Idle,
    /// The source does not know it, which ends nothing by itself.
    Absent,
    /// Nothing.
    Nothing,
}

impl Reading {
    /// The status that the word stands for.
    #[must_use]
    pub const fn status(self) -> TaskStatus {
        match self {
            Self::Is(status) => status,
            Self::Ended => TaskStatus::Completed,
            Self::Idle | Self::Absent | Self::Nothing => TaskStatus::Unknown,
        }
    }
}

/// What `word` says when `source` uses it.
#[must_use]
pub fn read(word: &str, source: EvidenceSource) -> Reading {
    if word.len() > MAX_WORD_BYTES {
        return Reading::Nothing;
    }
    let word = fold(word);
    let about_itself = matches!(source, EvidenceSource::StatusApi | EvidenceSource::Heartbeat);
    if about_itself && VOCABULARY.trouble.contains(&word) {
        return Reading::Nothing;
    }
    VOCABULARY.readings.get(&word).copied().unwrap_or(Reading::Nothing)
}

/// The form in which words are compared: lower case, no separators, one spelling for British and American.
fn fold(word: &str) -> String {
    let mut folded = String::with_capacity(word.len());
    for c in word.chars().filter(|c| !matches!(c, '-' | '_' | '.') && !c.is_whitespace()).flat_map(char::to_lowercase) {
        match c {
            // cancelled, canceled
            'l' if folded.ends_with('l') => {}
            // finalising, finalizing
            'z' => folded.push('s'),
            _ => folded.push(c),
        }
    }
    folded
}

type Words = BTreeMap<String, Vec<String>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    pending: Words,
    running: Words,
    input_required: Words,
    completed: Words,
    failed: Words,
    cancelled: Words,
    ended: Words,
    idle: Words,
    absent: Words,
    trouble: Words,
}

impl File {
    fn sections(&self) -> [(Reading, &Words); 9] {
        [
            (Reading::Is(TaskStatus::Pending), &self.pending),
            (Reading::Is(TaskStatus::Running), &self.running),
            (Reading::Is(TaskStatus::InputRequired), &self.input_required),
            (Reading::Is(TaskStatus::Completed), &self.completed),
            (Reading::Is(TaskStatus::Failed), &self.failed),
            (Reading::Is(TaskStatus::Cancelled), &self.cancelled),
            (Reading::Ended, &self.ended),
            (Reading::Idle, &self.idle),
            (Reading::Absent, &self.absent),
        ]
    }
}

#[derive(Default)]
struct Vocabulary {
    readings: HashMap<String, Reading>,
    trouble: HashSet<String>,
}

/// A broken file would be an empty vocabulary, which a test rules out.
static VOCABULARY: LazyLock<Vocabulary> = LazyLock::new(|| {
    let Ok(file) = toml::from_str::<File>(FILE) else { return Vocabulary::default() };
    let mut vocabulary =
        Vocabulary { trouble: file.trouble.values().flatten().map(|word| fold(word)).collect(), ..Default::default() };
    for (reading, words) in file.sections() {
        vocabulary.readings.extend(words.values().flatten().map(|word| (fold(word), reading)));
    }
    vocabulary
});

/// Every word of the file with its meaning, for tests of the tables.
#[cfg(test)]
pub(crate) fn all() -> Vec<(String, String, Reading)> {
    let file: File = toml::from_str(FILE).expect("vocabulary.toml parses");
    let mut all = Vec::new();
    for (reading, words) in file.sections() {
        for (system, words) in words {
            all.extend(words.iter().map(|word| (system.clone(), word.clone(), reading)));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use EvidenceSource::{Heartbeat, Session, StatusApi, Task};
    use TaskStatus::{Cancelled, Completed, Failed, InputRequired, Pending, Running};

    #[test]
    fn no_word_means_two_things() {
        let mut seen: HashMap<String, Reading> = HashMap::new();
        for (system, word, reading) in all() {
            let before = seen.insert(fold(&word), reading);
            assert!(before.is_none_or(|before| before == reading), "`{word}` ({system}) stands in two sections");
            assert_eq!(read(&word, Session), reading, "{word}");
            assert!(word.len() <= MAX_WORD_BYTES);
        }
        assert!(!VOCABULARY.trouble.is_empty());
    }

    /// The words of each system's own list, as its documentation has them.
    const SYSTEMS: &[(&str, &[(&str, TaskStatus)])] = &[
        (
            "A2A",
            &[
                ("submitted", Pending),
                ("working", Running),
                ("input-required", InputRequired),
                ("auth-required", InputRequired),
                ("completed", Completed),
                ("canceled", Cancelled),
                ("failed", Failed),
                ("rejected", Failed),
                ("TASK_STATE_INPUT_REQUIRED", InputRequired),
                ("TASK_STATE_CANCELED", Cancelled),
            ],
        ),
        (
            "MCP tasks",
            &[
                ("working", Running),
                ("input_required", InputRequired),
                ("completed", Completed),
                ("failed", Failed),
                ("cancelled", Cancelled),
            ],
        ),
        (
            "ACP",
            &[
                ("end_turn", Completed),
                ("max_tokens", Failed),
                ("max_turn_requests", Failed),
                ("refusal", Failed),
                ("cancelled", Cancelled),
            ],
        ),
        (
            "kimi-code",
            &[
                ("running", Running),
                ("completed", Completed),
                ("failed", Failed),
                ("timed_out", Failed),
                ("killed", Cancelled),
                ("lost", Failed),
            ],
        ),
        (
            "oh-my-openagent",
            &[
                ("pending", Pending),
                ("running", Running),
                ("completed", Completed),
                ("error", Failed),
                ("cancelled", Cancelled),
                ("interrupt", Cancelled),
            ],
        ),
        (
            "OpenClaw",
            &[
                ("queued", Pending),
                ("running", Running),
                ("succeeded", Completed),
                ("failed", Failed),
                ("timed_out", Failed),
                ("cancelled", Cancelled),
                ("lost", Failed),
                ("blocked", Failed),
            ],
        ),
        ("opencode", &[("busy", Running), ("retry", Running), ("stop", Completed), ("MessageAbortedError", Cancelled)]),
        (
            "Hermes",
            &[
                ("running", Running),
                ("dispatched", Running),
                ("finalizing", Running),
                ("completed", Completed),
                ("exited", Completed),
                ("already_exited", Completed),
                ("killed", Cancelled),
                ("interrupted", Cancelled),
                ("failed", Failed),
                ("error", Failed),
                ("timeout", Failed),
            ],
        ),
    ];

    #[test]
    fn each_systems_words_are_known() {
        for (system, words) in SYSTEMS {
            for (word, status) in *words {
                assert_eq!(read(word, Task).status(), *status, "{system}: {word}");
            }
        }
        for word in ["idle", "absent", "not_found", "404", "unknown", "", "?", "TASK_STATE_UNSPECIFIED"] {
            assert_eq!(read(word, Session).status(), TaskStatus::Unknown, "{word}");
        }
        for (word, status) in
            [("ended", Completed), ("closed", Completed), ("finished", Completed), ("deleted", Cancelled), ("aborted", Cancelled)]
        {
            assert_eq!(read(word, Session).status(), status, "{word}");
        }
    }

    #[test]
    fn spelling_does_not_count() {
        for word in ["timed_out", "timed-out", "timed out", "Timed Out", "TIMED_OUT", "timedOut"] {
            assert_eq!(read(word, Task), Reading::Is(Failed), "{word}");
        }
        for word in ["cancelled", "canceled", "CANCELED", "Cancelled"] {
            assert_eq!(read(word, Task), Reading::Is(Cancelled), "{word}");
        }
        assert_eq!(read("finalising", Task), Reading::Is(Running));
        assert_eq!(read("canceling", Task), Reading::Is(Running));
        assert_eq!(read(&"completed".repeat(10), Task), Reading::Nothing);
    }

    #[test]
    fn an_endpoint_in_trouble_says_nothing_of_the_task() {
        for word in ["error", "timeout", "unavailable"] {
            assert_eq!(read(word, StatusApi), Reading::Nothing, "{word}");
            assert_eq!(read(word, Heartbeat), Reading::Nothing, "{word}");
        }
        assert_eq!(read("error", Task), Reading::Is(Failed));
        assert_eq!(read("failed", StatusApi), Reading::Is(Failed));
    }
}
