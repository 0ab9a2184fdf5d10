//! Labelled cases: one JSON object a line (see `fixtures/README.md`).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::scripted::Script;
use crate::protocol::{Action, DecidedBy, RouteRequest, Rule};

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
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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

/// All `.jsonl` files under the paths, folders in alphabetical order.
///
/// # Errors
/// A path that cannot be read.
pub fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, FixtureError> {
    let mut found = Vec::new();
    for path in paths {
        collect(path, &mut found)?;
    }
    Ok(found)
}

fn collect(path: &Path, found: &mut Vec<PathBuf>) -> Result<(), FixtureError> {
    let io = |source| FixtureError::Io { path: path.to_owned(), source };
    if !path.metadata().map_err(io)?.is_dir() {
        found.push(path.to_owned());
        return Ok(());
    }
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(path).map_err(io)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>().map_err(io)?;
    entries.sort();
    for entry in entries {
        if entry.is_dir() || entry.extension().is_some_and(|extension| extension == "jsonl") {
            collect(&entry, found)?;
        }
    }
    Ok(())
}

/// Reads all fixtures under the paths. Blank lines and lines that begin with `//` are skipped.
///
/// # Errors
/// The first line that is no fixture, with its file and number; or that there are none.
pub fn load(paths: &[PathBuf]) -> Result<Vec<Fixture>, FixtureError> {
    let mut fixtures = Vec::new();
    for path in files(paths)? {
        let text = std::fs::read_to_string(&path).map_err(|source| FixtureError::Io { path: path.clone(), source })?;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with("//") {
                continue;
            }
            let fixture = serde_json::from_str(line).map_err(|error| FixtureError::Line {
                path: path.clone(),
                line: index + 1,
                message: error.to_string(),
            })?;
            fixtures.push(fixture);
        }
    }
    if fixtures.is_empty() {
        let shown: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(FixtureError::Empty(shown.join(", ")));
    }
    Ok(fixtures)
}
