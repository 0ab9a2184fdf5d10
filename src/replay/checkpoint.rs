//! Results of a long run, written as they come in, so that a run that was cut off goes on where it stopped.
//!
//! A JSONL file: the first line names what was asked, each further line holds one record and a hash of its case. A case that was edited
//! since is asked again.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::fixture::{Case, Entry};
use super::record::Record;

/// The first line.
#[derive(Serialize, Deserialize)]
struct Head {
    /// Hash of what decided: another router's results must not be mixed in.
    replay_of: String,
}

/// A further line.
#[derive(Serialize, Deserialize)]
struct Saved {
    case: String,
    record: Record,
}

/// A checkpoint that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Not readable or not writable.
    #[error("checkpoint {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Of another run, or no checkpoint at all.
    #[error("checkpoint {0}: is not of this router and these settings; remove it or name another file")]
    Foreign(PathBuf),
}

/// An open checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    file: File,
    saved: HashMap<String, (String, Record)>,
}

impl Checkpoint {
    /// Opens a checkpoint, or begins one. `asked` says what decides, in any words, as long as they are the same next time.
    ///
    /// # Errors
    /// A file that cannot be read or written, or that belongs to another run.
    pub fn open(path: &Path, asked: &str) -> Result<Self, CheckpointError> {
        let io = |source| CheckpointError::Io { path: path.to_owned(), source };
        let head = Head { replay_of: format!("{:016x}", xxh3_64(asked.as_bytes())) };
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        let text = std::io::read_to_string(&file).map_err(io)?;
        // What follows the last line's end was cut off while it was written.
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let mut lines = whole.lines();
        match lines.next().map(serde_json::from_str::<Head>) {
            Some(Ok(found)) if found.replay_of == head.replay_of => {}
            None if text.is_empty() || text.starts_with("{\"replay_of\"") => {}
            _ => return Err(CheckpointError::Foreign(path.to_owned())),
        }
        let saved = lines
            .filter_map(|line| serde_json::from_str::<Saved>(line).ok())
            .map(|saved| (saved.record.id.clone(), (saved.case, saved.record)))
            .collect();
        file.set_len(whole.len() as u64).map_err(io)?;
        file.seek(SeekFrom::End(0)).map_err(io)?;
        let mut checkpoint = Self { path: path.to_owned(), file, saved };
        if whole.is_empty() {
            checkpoint.line(&head)?;
        }
        Ok(checkpoint)
    }

    /// The result of a case, if it was saved and the case is still the same.
    #[must_use]
    pub fn result(&self, entry: &Entry) -> Option<&Record> {
        let (case, record) = self.saved.get(&entry.key)?;
        (*case == case_hash(entry)).then_some(record)
    }

    /// Saves a result.
    ///
    /// # Errors
    /// A file that cannot be written any more.
    pub fn save(&mut self, entry: &Entry, record: &Record) -> Result<(), CheckpointError> {
        self.line(&Saved { case: case_hash(entry), record: record.clone() })
    }

    /// One write a line, so that no line is torn unless the machine goes down.
    fn line(&mut self, value: &impl Serialize) -> Result<(), CheckpointError> {
        let io = |source| CheckpointError::Io { path: self.path.clone(), source };
        let mut line = serde_json::to_vec(value).map_err(|error| io(error.into()))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(io)
    }
}

fn case_hash(entry: &Entry) -> String {
    let json = match &entry.case {
        Case::Message(fixture) => serde_json::to_vec(fixture),
        Case::Task(case) => serde_json::to_vec(case),
    };
    // A case was read from JSON, so it can be written as JSON; if not, it is asked again each time.
    json.map_or_else(|_| String::new(), |json| format!("{:016x}", xxh3_64(&json)))
}
