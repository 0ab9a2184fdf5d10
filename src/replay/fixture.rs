//! Labelled cases: one JSON object a line (see `fixtures/README.md`).

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::tasks::TaskCase;
use crate::model::scripted::Script;
use crate::protocol::{Action, DecidedBy, RouteRequest, Rule, Validate};

/// One line of a fixture file, whatever it is about. The key that holds the question tells the sorts apart (see [`Case::parse`]).
#[derive(Clone, Debug)]
pub enum Case {
    /// A chat message: `{id, …, request, expect}`.
    Message(Box<Fixture>),
    /// A question about a background task: `{id, …, task_status, expect}` or `{id, …, task_completion, expect}`.
    Task(Box<TaskCase>),
}

/// A case with the place that it was read from.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Names the case among all that were read: its id, or `file:id` where two files use the same id.
    pub key: String,
    /// The file.
    pub file: Arc<Path>,
    /// The line, counted from 1.
    pub line: usize,
    /// The case.
    pub case: Case,
}

/// One message with what the agent was doing, and what may and what must not happen to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fixture {
    /// Names the case; unique in its file.
    pub id: String,
    /// Language of the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lang: Option<String>,
    /// What the case is about, such as `intent:stop` or `negated-stop`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Cases of the same sequence share a session and run in file order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<String>,
    /// What the gateway sends.
    pub request: RouteRequest,
    /// What the model answers; without it the configured model is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Script>,
    /// What is right.
    pub expect: Expect,
}

/// What a decision must be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The one right action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// The right actions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any_of: Option<Vec<Action>>,
    /// The forbidden actions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub none_of: Option<Vec<Action>>,
    /// The rule that must decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// Who must decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<DecidedBy>,
}

impl Expect {
    /// Whether an action is right: listed as right, or nothing is listed and it is not forbidden.
    #[must_use]
    pub fn accepts(&self, action: Action) -> bool {
        match (self.action, &self.any_of) {
            (Some(right), _) if right == action => true,
            (_, Some(right)) => right.contains(&action),
            (Some(_), None) => false,
            (None, None) => !self.forbids(action),
        }
    }

    /// Whether an action is forbidden.
    #[must_use]
    pub fn forbids(&self, action: Action) -> bool {
        self.none_of.as_ref().is_some_and(|forbidden| forbidden.contains(&action))
    }

    /// Whether anything is said about the action. A case that only names a rule says nothing about how good the actions are.
    #[must_use]
    pub const fn judges_action(&self) -> bool {
        self.action.is_some() || self.any_of.is_some() || self.none_of.is_some()
    }

    /// Whether one decision is prescribed, rather than a set of them to choose from.
    #[must_use]
    pub const fn is_exact(&self) -> bool {
        self.any_of.is_none() && self.none_of.is_none()
    }

    /// Whether a decision is all that is expected, rule and decider included.
    #[must_use]
    pub fn is_met_by(&self, action: Action, rule: Rule, decided_by: DecidedBy) -> bool {
        (!self.judges_action() || self.accepts(action))
            && self.rule.is_none_or(|expected| expected == rule)
            && self.decided_by.is_none_or(|expected| expected == decided_by)
    }

    /// What makes it impossible to meet, or empty.
    fn contradiction(&self) -> Option<String> {
        if !self.judges_action() && self.rule.is_none() && self.decided_by.is_none() {
            return Some("`expect` says nothing; give one of action, any_of, none_of, rule, decided_by".to_owned());
        }
        if self.any_of.as_ref().is_some_and(Vec::is_empty) {
            return Some("`expect.any_of` is empty, so nothing would be right".to_owned());
        }
        let right = self.action.iter().chain(self.any_of.iter().flatten());
        let both = right.copied().find(|action| self.forbids(*action))?;
        Some(format!("`expect` lists {both} as right and as forbidden"))
    }
}

impl std::fmt::Display for Expect {
    /// Such as `interrupt|steer, not ignore, rule model`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let listed = |actions: &[Action]| actions.iter().map(|action| action.as_str()).collect::<Vec<_>>().join("|");
        let mut right: Vec<Action> = self.action.into_iter().collect();
        right.extend(self.any_of.iter().flatten().filter(|action| Some(**action) != self.action));
        let parts = [
            (!right.is_empty()).then(|| listed(&right)),
            self.none_of.as_ref().filter(|none| !none.is_empty()).map(|none| format!("not {}", listed(none))),
            self.rule.map(|rule| format!("rule {rule}")),
            self.decided_by.map(|who| format!("by {who}")),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

impl Case {
    /// Reads one line.
    ///
    /// # Errors
    /// What is wrong with it, with the key where it stands.
    pub fn parse(line: &str) -> Result<Self, String> {
        /// The keys of which each sort has one of its own.
        #[derive(Deserialize)]
        struct Sort {
            request: Option<IgnoredAny>,
            task_status: Option<IgnoredAny>,
            task_completion: Option<IgnoredAny>,
        }

        let sort: Sort = read(line)?;
        if sort.request.is_none() {
            return match sort.task_status.or(sort.task_completion) {
                Some(_) => Ok(Self::Task(Box::new(TaskCase::parse(line)?))),
                None => Err("has no `request`, `task_status` or `task_completion`, so nothing is asked".to_owned()),
            };
        }
        let fixture: Fixture = read(line)?;
        if let Some(error) = fixture.request.violations().into_iter().next() {
            return Err(format!("request{} {}", error.pointer.replace('/', "."), error.detail));
        }
        match fixture.expect.contradiction() {
            Some(message) => Err(message),
            None => Ok(Self::Message(Box::new(fixture))),
        }
    }

    /// Names the case; unique in its file.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Message(fixture) => &fixture.id,
            Self::Task(case) => &case.id,
        }
    }

    /// What the case is about.
    #[must_use]
    pub fn tags(&self) -> &[String] {
        match self {
            Self::Message(fixture) => &fixture.tags,
            Self::Task(case) => &case.tags,
        }
    }

    /// The sequence that the case is a step of.
    #[must_use]
    pub fn sequence(&self) -> Option<&str> {
        match self {
            Self::Message(fixture) => fixture.sequence.as_deref(),
            Self::Task(case) => case.sequence.as_deref(),
        }
    }

    /// The case, if it is about a message.
    #[must_use]
    pub fn message(&self) -> Option<&Fixture> {
        match self {
            Self::Message(fixture) => Some(fixture),
            Self::Task(_) => None,
        }
    }

    /// Whether one answer is prescribed, rather than a set of them to choose from.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.message().is_none_or(|fixture| fixture.expect.is_exact())
    }
}

/// Reads JSON and says where it is wrong.
pub(super) fn read<T: DeserializeOwned>(line: &str) -> Result<T, String> {
    let mut reader = serde_json::Deserializer::from_str(line);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.inner().to_string();
        // The line within the line is always 1; only the column helps.
        let inner = inner.replace(" at line 1 column ", ", at column ");
        if path == "." { inner } else { format!("`{path}`: {inner}") }
    })?;
    reader.end().map_err(|_| "more follows the object; one object a line".to_owned())?;
    Ok(value)
}

impl Fixture {
    /// The intent that the case was labelled with, from its tag `intent:…`.
    #[must_use]
    pub fn intent(&self) -> Option<&str> {
        self.tags.iter().find_map(|tag| tag.strip_prefix("intent:"))
    }
}

/// Why fixtures could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FixtureError {
    /// A file or folder that cannot be read.
    #[error("{path}: cannot be read: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line that is no fixture.
    #[error("{path}:{line}: {message}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
    /// No fixture anywhere.
    #[error("no fixtures found in {0}; give JSONL files or folders of them")]
    Empty(String),
}

/// All `.jsonl` files under the paths, folders in alphabetical order, each once.
///
/// # Errors
/// A path that cannot be read.
pub fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, FixtureError> {
    let mut found = Vec::new();
    for path in paths {
        collect(path, &mut found)?;
    }
    let mut seen = HashSet::new();
    found.retain(|path| seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())));
    Ok(found)
}

fn collect(path: &Path, found: &mut Vec<PathBuf>) -> Result<(), FixtureError> {
    let io = |source| FixtureError::Io { path: path.to_owned(), source };
    if !path.metadata().map_err(io)?.is_dir() {
        found.push(path.to_owned());
        return Ok(());
    }
    let mut entries: Vec<PathBuf> = std::fs::read_dir(path)
        .map_err(io)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(io)?;
    entries.sort();
    for entry in entries {
        if entry.is_dir() || entry.extension().is_some_and(|extension| extension == "jsonl") {
            collect(&entry, found)?;
        }
    }
    Ok(())
}

/// Reads the cases about messages under the paths, without those of other sorts.
///
/// # Errors
/// See [`load_cases`].
pub fn load(paths: &[PathBuf]) -> Result<Vec<Fixture>, FixtureError> {
    let fixture = |entry: Entry| match entry.case {
        Case::Message(fixture) => Some(*fixture),
        Case::Task(_) => None,
    };
    Ok(load_cases(paths)?.into_iter().filter_map(fixture).collect())
}

/// Reads all cases under the paths. Blank lines and lines that begin with `//` are skipped.
///
/// # Errors
/// The first line that is no case, or has the id of another one of its file, with its file and number; or that there are none.
pub fn load_cases(paths: &[PathBuf]) -> Result<Vec<Entry>, FixtureError> {
    let mut entries = Vec::new();
    for path in files(paths)? {
        let text = std::fs::read_to_string(&path).map_err(|source| FixtureError::Io { path: path.clone(), source })?;
        let file: Arc<Path> = Arc::from(path);
        let mut lines_of: HashMap<String, usize> = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_start_matches('\u{feff}').trim();
            if line.is_empty() || line.starts_with("//") {
                continue;
            }
            let wrong = |message| FixtureError::Line { path: file.to_path_buf(), line: index + 1, message };
            let case = Case::parse(line).map_err(wrong)?;
            if let Some(first) = lines_of.insert(case.id().to_owned(), index + 1) {
                return Err(wrong(format!("the id `{}` stands in line {first} already", case.id())));
            }
            entries.push(Entry { key: case.id().to_owned(), file: file.clone(), line: index + 1, case });
        }
    }
    if entries.is_empty() {
        let shown: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(FixtureError::Empty(shown.join(", ")));
    }
    tell_apart(&mut entries);
    Ok(entries)
}

/// Puts the file before ids that several files use.
fn tell_apart(entries: &mut [Entry]) {
    let mut uses: HashMap<String, usize> = HashMap::new();
    for entry in &*entries {
        *uses.entry(entry.key.clone()).or_default() += 1;
    }
    for entry in entries.iter_mut().filter(|entry| uses.get(&entry.key).is_some_and(|count| *count > 1)) {
        entry.key = format!("{}:{}", entry.file.display(), entry.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"id":"a","request":{"session":{"id":"s"},"message":{"text":"hi"},"busy":{"state":"thinking"}},"expect":{"any_of":["queue"]}}"#;

    fn refused(line: &str) -> String {
        Case::parse(line).expect_err("must be refused")
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said() {
        assert!(Case::parse(GOOD).is_ok());
        assert!(refused("{").contains("EOF"), "{}", refused("{"));
        assert_eq!(
            refused(r#"{"id":"a","expect":{"action":"queue"}}"#),
            "has no `request`, `task_status` or `task_completion`, so nothing is asked"
        );
        let error = refused(&GOOD.replace("thinking", "thinkin"));
        assert!(error.starts_with("`request.busy.state`: unknown variant `thinkin`"), "{error}");
        let error = refused(&GOOD.replace("\"any_of\"", "\"anyof\""));
        assert!(error.starts_with("`expect.anyof`: unknown field `anyof`"), "{error}");
        assert!(refused(&GOOD.replace(r#"{"id":"s"}"#, r#"{"id":""}"#)).starts_with("request.session.id must not be empty"));
        assert!(refused(&GOOD.replace(r#"["queue"]"#, r#"["queue"],"none_of":["queue"]"#)).contains("as right and as forbidden"));
        assert!(refused(&GOOD.replace(r#"["queue"]"#, "[]")).contains("empty"));
        assert!(refused(&GOOD.replace(r#""any_of":["queue"]"#, "")).contains("says nothing"));
        assert!(refused(&format!("{GOOD} {GOOD}")).contains("one object a line"));
    }

    #[test]
    fn files_are_read_in_order_and_ids_stay_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
        write("b.jsonl", GOOD);
        write("a.jsonl", &format!("// a remark\n\n{GOOD}\n{}\n", GOOD.replace("\"a\"", "\"b\"")));
        write("note.txt", "no fixtures");
        let paths = [folder.path().to_owned(), folder.path().join("b.jsonl")];
        let entries = load_cases(&paths).expect("loads");
        let keys: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys.len(), 3, "{keys:?}");
        assert!(keys[0].ends_with("a.jsonl:a") && keys[1] == "b" && keys[2].ends_with("b.jsonl:a"), "{keys:?}");
        assert_eq!((entries[0].line, entries[1].line), (3, 4));
        assert_eq!(load(&paths).expect("loads").len(), 3);
    }

    #[test]
    fn loader_errors_name_the_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.jsonl");
        let error = |text: &str| {
            std::fs::write(&path, text).expect("written");
            load(std::slice::from_ref(&path)).expect_err("must be refused").to_string()
        };
        assert!(error("\n{}").contains("a.jsonl:2: "), "{}", error("\n{}"));
        assert!(error(&format!("{GOOD}\n{GOOD}")).contains("a.jsonl:2: the id `a` stands in line 1 already"));
        assert!(error("// nothing").contains("no fixtures found"));
        let missing = load(&[folder.path().join("none.jsonl")]).expect_err("must be refused").to_string();
        assert!(missing.contains("none.jsonl: cannot be read"), "{missing}");
    }

    #[test]
    fn an_expectation_is_met_as_a_whole() {
        let expect = |json: &str| serde_json::from_str::<Expect>(json).expect("valid");
        let met = |expect: &Expect, action| expect.is_met_by(action, Rule::Model, DecidedBy::Model);
        let listed = expect(r#"{"any_of":["queue","steer"],"none_of":["ignore"],"rule":"model"}"#);
        assert!(met(&listed, Action::Steer) && !met(&listed, Action::Interrupt));
        assert!(!listed.is_met_by(Action::Queue, Rule::Media, DecidedBy::Guard));
        assert_eq!(listed.to_string(), "queue|steer, not ignore, rule model");
        let forbidden = expect(r#"{"none_of":["ignore"]}"#);
        assert!(met(&forbidden, Action::Interrupt) && !met(&forbidden, Action::Ignore));
        let rule_only = expect(r#"{"rule":"model"}"#);
        assert!(met(&rule_only, Action::Ignore) && !rule_only.judges_action() && rule_only.is_exact());
    }
}
