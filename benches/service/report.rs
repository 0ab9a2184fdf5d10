//! The table.

use std::fmt::Write;
use std::{fs, thread};

/// A sorted sample.
#[derive(Clone, Debug, Default)]
pub struct Sample(Vec<f64>);

impl FromIterator<f64> for Sample {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }
}

impl Sample {
    /// The smallest value that so large a share of the values does not exceed; 0 of nothing.
    pub fn quantile(&self, share: f64) -> f64 {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.max(1) - 1).copied().unwrap_or_default()
    }

    /// The value in the middle.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The smallest and the largest, as they stand in a table.
    pub fn range(&self, decimals: usize) -> String {
        format!("{:.decimals$} – {:.decimals$}", self.quantile(0.0), self.quantile(1.0))
    }
}

/// What a figure should be at most.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The requirement.
    pub at_most: f64,
    /// What would be better than that, if anything.
    pub aim: Option<f64>,
    /// The unit of both, with the space before it.
    pub unit: &'static str,
}

impl Target {
    fn judge(&self, value: f64) -> &'static str {
        if value > self.at_most {
            "no"
        } else if self.aim.is_some_and(|aim| value <= aim) {
            "yes, the aim too"
        } else {
            "yes"
        }
    }
}

/// A row of the table.
#[derive(Debug, Default)]
pub struct Row {
    /// What is measured.
    pub what: String,
    /// The figure, in words for the table.
    pub measured: String,
    /// The least and the most of the rounds.
    pub range: String,
    /// The figure itself and its target, if it has one.
    pub target: Option<(f64, Target)>,
}

/// All that was measured.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Report {
    /// Adds a row.
    pub fn row(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Adds a sentence below the table.
    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// The whole as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!("busy-router {} on {}\n\n", env!("CARGO_PKG_VERSION"), machine());
        if cfg!(debug_assertions) {
            text.push_str("Not optimised: all that this run shows is that nothing is broken.\n\n");
        }
        text.push_str("| | measured | range | at most | aim | met |\n|---|---|---|---|---|---|\n");
        for Row { what, measured, range, target } in &self.rows {
            let (at_most, aim, met) = match target {
                Some((value, target)) => {
                    let words = |figure: f64| format!("{figure}{}", target.unit);
                    (words(target.at_most), target.aim.map(words).unwrap_or_default(), target.judge(*value))
                }
                None => Default::default(),
            };
            // A string takes everything.
            let _ = writeln!(text, "| {what} | {measured} | {range} | {at_most} | {aim} | {met} |");
        }
        text.push('\n');
        for note in &self.notes {
            let _ = writeln!(text, "- {note}");
        }
        text
    }
}

/// What the figures belong to.
fn machine() -> String {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let system = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("unknown", |(_, name)| name);
    format!("{cores} cores ({model}), Linux {}", system.trim())
}
