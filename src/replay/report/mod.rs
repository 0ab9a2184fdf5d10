//! The result of a replay, and its four forms: a table for the terminal, JSON (complete, and the baseline of later runs), short Markdown, and
//! one HTML page that needs nothing else.

mod html;
mod markdown;
pub mod terminal;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::compare::Comparison;
use super::record::Record;
use super::score::{BaselineFigures, Figures, Mistake, Score, Slice};
use super::statistics::{Estimate, Share};

/// Version of the JSON form. It goes up when a reader of the old one would misread the new one; new fields alone do not count.
pub const SCHEMA: u32 = 1;

/// The result of a replay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of this form; see [`SCHEMA`].
    pub schema: u32,
    /// The version of busy-router that replayed.
    pub version: String,
    /// What decided.
    pub target: String,
    /// Where the cases come from.
    pub sources: Vec<String>,
    /// What a reader must know to read the figures rightly.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What the model calls cost, where they cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spend: Option<Spend>,
    /// How good the decisions are.
    pub score: Score,
    /// How good simple rules are on the same cases.
    pub baselines: Vec<BaselineFigures>,
    /// The comparison with an earlier run, if one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
    /// Every case.
    pub cases: Vec<Record>,
}

/// What the calls of a model endpoint cost, by estimate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spend {
    /// Calls.
    pub calls: u64,
    /// Tokens sent, estimated from the length of the texts.
    pub tokens_in: u64,
    /// Tokens received, estimated.
    pub tokens_out: u64,
    /// Cost in the currency of the prices; nothing when no price was given.
    pub cost: Option<f64>,
}

/// Why a report could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The name does not tell what is wanted.
    #[error("{0}: a report is .html, .json or .md")]
    UnknownForm(PathBuf),
    /// A baseline that is none.
    #[error("{path}: is no report of `replay` ({message}); write one with --report FILE.json")]
    NoReport {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A template that fails, which a test rules out.
    #[error("the report cannot be rendered: {0}")]
    Render(String),
}

/// The forms that are files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One page.
    Html,
    /// Everything.
    Json,
    /// The short form.
    Markdown,
}

impl Form {
    /// The form that a file name asks for.
    ///
    /// # Errors
    /// A name without a known ending.
    pub fn of(path: &Path) -> Result<Self, ReportError> {
        match path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("html" | "htm") => Ok(Self::Html),
            Some("json") => Ok(Self::Json),
            Some("md" | "markdown") => Ok(Self::Markdown),
            _ => Err(ReportError::UnknownForm(path.to_owned())),
        }
    }
}

impl Report {
    /// Reads a report that an earlier run wrote as JSON.
    ///
    /// # Errors
    /// A file that cannot be read or is no such report.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let text = std::fs::read_to_string(path).map_err(|source| ReportError::Io { path: path.to_owned(), source })?;
        let no_report = |message: String| ReportError::NoReport { path: path.to_owned(), message };
        let report: Self = serde_json::from_str(&text).map_err(|error| no_report(error.to_string()))?;
        if report.schema == SCHEMA {
            Ok(report)
        } else {
            Err(no_report(format!("its schema is {}, not {SCHEMA}", report.schema)))
        }
    }

    /// The report in a form.
    ///
    /// # Errors
    /// None in practice; see [`ReportError::Render`].
    pub fn render(&self, form: Form) -> Result<String, ReportError> {
        match form {
            Form::Html => html::render(self),
            Form::Markdown => markdown::render(self),
            Form::Json => {
                let mut text = serde_json::to_string_pretty(self).map_err(|error| ReportError::Render(error.to_string()))?;
                text.push('\n');
                Ok(text)
            }
        }
    }

    /// The cases that are not as expected, the costliest first.
    #[must_use]
    pub fn misses(&self) -> Vec<&Record> {
        let mut misses: Vec<&Record> = self.cases.iter().filter(|record| !record.ok).collect();
        misses.sort_by_key(|record| std::cmp::Reverse(cost(record)));
        misses
    }
}

/// What a record's mistake costs; 0 where only the rule is another one.
fn cost(record: &Record) -> u8 {
    mistake(record).map_or(0, Mistake::cost)
}

fn mistake(record: &Record) -> Option<Mistake> {
    let judged = record.message.as_ref()?;
    Mistake::of(&judged.expect, record.intent(), judged.outcome.action)
}

/// What is wrong with a record, in two words.
fn kind_of_miss(record: &Record) -> &'static str {
    match mistake(record) {
        Some(Mistake::Lost) => "lost message",
        Some(Mistake::DestroyedWork) => "destroyed work",
        Some(Mistake::MissedStop) => "missed stop",
        Some(Mistake::Other) => "other error",
        None if record.message.is_none() => "other answer",
        None => "other rule",
    }
}

/// One headline figure: what it is called, what it means, and where it stands.
struct Headline {
    name: &'static str,
    meaning: &'static str,
    higher_is_better: bool,
    of: fn(&Figures) -> Value,
}

/// A figure as it is shown: a share in per cent, or a cost.
#[derive(Clone, Copy)]
enum Value {
    Share(Share),
    Cost(Estimate),
}

const HEADLINES: [Headline; 6] = [
    Headline {
        name: "Accuracy",
        meaning: "the action is among the right ones",
        higher_is_better: true,
        of: |figures| Value::Share(figures.accuracy),
    },
    Headline {
        name: "Cost per 100",
        meaning: "lost message 4, destroyed work 3, missed stop 2, any other error 1",
        higher_is_better: false,
        of: |figures| Value::Cost(figures.cost_per_100),
    },
    Headline {
        name: "Lost",
        meaning: "ignored although that is forbidden",
        higher_is_better: false,
        of: |figures| Value::Share(figures.lost),
    },
    Headline {
        name: "Unwanted interrupt",
        meaning: "interrupted although that is not right, forgiven or not",
        higher_is_better: false,
        of: |figures| Value::Share(figures.unwanted_interrupt),
    },
    Headline {
        name: "Missed stop",
        meaning: "of the stops: neither interrupted nor otherwise right",
        higher_is_better: false,
        of: |figures| Value::Share(figures.missed_stop),
    },
    Headline {
        name: "Forbidden",
        meaning: "the action is a forbidden one",
        higher_is_better: false,
        of: |figures| Value::Share(figures.forbidden),
    },
];

impl Value {
    fn number(self) -> f64 {
        match self {
            Self::Share(share) => share.value,
            Self::Cost(cost) => cost.value,
        }
    }

    fn interval(self) -> (f64, f64) {
        match self {
            Self::Share(share) => (share.low, share.high),
            Self::Cost(cost) => (cost.low, cost.high),
        }
    }

    fn is_known(self) -> bool {
        !matches!(self, Self::Share(share) if !share.is_known())
    }

    /// Such as `92.1 %`.
    fn text(self) -> String {
        match self {
            Self::Share(share) if share.is_known() => percent(share.value),
            Self::Share(_) => "–".to_owned(),
            Self::Cost(cost) => format!("{:.1}", cost.value),
        }
    }

    /// Such as `90.4–93.5`.
    fn interval_text(self) -> String {
        let (low, high) = self.interval();
        match self {
            Self::Share(share) if share.is_known() => format!("{:.1}–{:.1}", low * 100.0, high * 100.0),
            Self::Share(_) => String::new(),
            Self::Cost(_) => format!("{low:.1}–{high:.1}"),
        }
    }

    /// The difference to an earlier value, such as `+1.2` percentage points.
    fn difference_text(self, before: Self) -> String {
        let scale = if matches!(self, Self::Share(_)) { 100.0 } else { 1.0 };
        let difference = (self.number() - before.number()) * scale;
        // Never "-0.0".
        let difference = if difference.abs() < 0.05 { 0.0 } else { difference };
        format!("{difference:+.1}")
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A time in the unit that suits it.
fn time(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..10_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        _ => format!("{:.1} s", micros as f64 / 1e6),
    }
}

impl Spend {
    /// Such as `1500 model calls, about 1.05 M tokens in and 24.0 k out, cost about 0.34`.
    fn text(&self) -> String {
        let tokens = |count: u64| match count {
            0..1_000_000 => format!("{:.1} k", count as f64 / 1e3),
            _ => format!("{:.2} M", count as f64 / 1e6),
        };
        let cost = self.cost.map(|cost| format!(", cost about {cost:.2}")).unwrap_or_default();
        format!(
            "{} model calls, about {} tokens in and {} out{cost}",
            self.calls,
            tokens(self.tokens_in),
            tokens(self.tokens_out)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Action, DecidedBy, Rule};
    use crate::replay::fixture::Fixture;
    use crate::replay::record::Outcome;
    use crate::replay::score::baselines;

    /// A report over a few cases, one of them with a text that tries to break out.
    pub(super) fn report() -> Report {
        let nasty = "<script>alert(1)</script> | `x` & \"y\"\n# head\u{1b}[31m \u{202e}";
        let cases = [
            ("a", "stop", "stop now", Action::Interrupt, 0.9),
            ("b", "stop", nasty, Action::Queue, 0.6),
            ("c", "add", "also Y", Action::Ignore, 0.7),
            ("<i>d</i>", "add", "and Z", Action::Queue, 0.8),
        ];
        let mut fixtures = Vec::new();
        let mut records = Vec::new();
        for (id, intent, text, action, confidence) in cases {
            let right = if intent == "stop" { "interrupt" } else { "queue" };
            let fixture: Fixture = serde_json::from_value(serde_json::json!({
                "id": id, "lang": "en", "tags": [format!("intent:{intent}"), "<b>tag</b>"],
                "request": {"session": {"id": "s"}, "message": {"text": text}, "busy": {"state": "thinking"}},
                "expect": {"any_of": [right], "none_of": ["ignore"]}
            }))
            .expect("a valid fixture");
            let outcome = Outcome {
                action,
                rule: Rule::Model,
                decided_by: DecidedBy::Model,
                confidence: Some(confidence),
                model_action: Some(action),
                total_us: 12,
                model_us: Some(8),
            };
            records.push(Record::of_message(id, &fixture, outcome));
            fixtures.push(fixture);
        }
        let mut report = Report {
            schema: SCHEMA,
            version: "0.0.0".to_owned(),
            target: "built-in model".to_owned(),
            sources: vec!["fixtures/<x>".to_owned()],
            notes: vec!["a note".to_owned()],
            spend: Some(Spend { calls: 3, tokens_in: 2_000_000, tokens_out: 10_000, cost: Some(1.5) }),
            score: Score::of(&records),
            baselines: baselines(&fixtures.iter().collect::<Vec<_>>()),
            comparison: None,
            cases: records,
        };
        let mut earlier = report.cases.clone();
        if let Some(judged) = earlier[0].message.as_mut() {
            judged.outcome.action = Action::Queue;
        }
        earlier[0].got = "queue (model)".to_owned();
        report.comparison = Some(Comparison::of("earlier", &earlier, &report.cases));
        report
    }

    #[test]
    fn json_can_be_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("report.json");
        let report = report();
        std::fs::write(&path, report.render(Form::Json).expect("renders")).expect("written");
        let read = Report::read(&path).expect("reads");
        assert_eq!(read.cases, report.cases);
        // The last bit of a float may differ, which no reader sees.
        assert_eq!(read.score.figures.accuracy.count, report.score.figures.accuracy.count);
        std::fs::write(&path, "{}").expect("written");
        assert!(Report::read(&path).expect_err("refused").to_string().contains("is no report"));
        let newer = report.render(Form::Json).expect("renders").replace("\"schema\": 1", "\"schema\": 2");
        std::fs::write(&path, newer).expect("written");
        assert!(Report::read(&path).expect_err("refused").to_string().contains("its schema is 2, not 1"));
    }

    #[test]
    fn the_costliest_misses_come_first() {
        let report = report();
        let ids: Vec<&str> = report.misses().iter().map(|record| record.id.as_str()).collect();
        assert_eq!(ids, ["c", "b"]);
        assert_eq!(kind_of_miss(report.misses()[0]), "lost message");
    }

    #[test]
    fn html_escapes_what_people_wrote() {
        let page = report().render(Form::Html).expect("renders");
        assert!(!page.contains("<script"), "no script of anyone's");
        assert!(
            page.contains("alert(1)") && !page.contains("<b>tag") && !page.contains("<i>d") && !page.contains("fixtures/<x>")
        );
        assert!(!page.contains('\u{1b}') && !page.contains('\u{202e}'));
        for outside in ["http://", "https://", "url(", "@import", "<link", "<img"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(!page.contains("NaN") && !page.contains("inf"));
    }

    #[test]
    fn markdown_escapes_what_people_wrote() {
        let text = report().render(Form::Markdown).expect("renders");
        assert!(!text.contains("<script"), "{text}");
        let row = text.lines().find(|line| line.contains("alert")).expect("the miss");
        assert_eq!(row.matches('|').count() - row.matches("\\|").count(), 6, "{row}");
    }

    #[test]
    fn the_form_is_in_the_name() {
        assert_eq!(Form::of(Path::new("a/b.HTML")).ok(), Some(Form::Html));
        assert_eq!(Form::of(Path::new("b.md")).ok(), Some(Form::Markdown));
        assert!(Form::of(Path::new("b.txt")).is_err() && Form::of(Path::new("json")).is_err());
    }

    #[test]
    fn numbers_are_shown_in_words_that_fit() {
        assert_eq!([time(80), time(25_300), time(12_000_000)], ["80 µs", "25.3 ms", "12.0 s"]);
        let value = |count| Value::Share(Share::new(count, 1_000));
        assert_eq!(value(921).text(), "92.1 %");
        assert_eq!(value(921).difference_text(value(900)), "+2.1");
        assert_eq!(value(900).difference_text(value(900)), "+0.0");
        assert_eq!(Value::Share(Share::new(0, 0)).text(), "–");
    }
}
