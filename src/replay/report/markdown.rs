//! The short form: what goes into a pull request.

use askama::Template;

use super::{HEADLINES, Report, ReportError, Slice, kind_of_miss, percent};
use crate::replay::compare::Comparison;

/// Misses that are listed; the JSON form has all.
const MISSES: usize = 20;

#[derive(Template)]
#[template(path = "replay.md", escape = "none")]
struct Page<'a> {
    report: &'a Report,
    columns: Vec<&'a str>,
    rows: Vec<Row>,
    dimensions: Vec<(&'static str, &'a [Slice])>,
    misses: Vec<[String; 5]>,
    misses_left: usize,
    comparison: Option<&'a Comparison>,
    differences: Vec<[String; 4]>,
}

struct Row {
    name: &'static str,
    cells: Vec<String>,
}

pub(super) fn render(report: &Report) -> Result<String, ReportError> {
    let figures = || std::iter::once(&report.score.figures).chain(report.baselines.iter().map(|baseline| &baseline.figures));
    let rows = HEADLINES.iter().map(|headline| {
        let cell = |value: super::Value| match value.interval_text() {
            interval if interval.is_empty() => value.text(),
            interval => format!("{} ({interval})", value.text()),
        };
        Row { name: headline.name, cells: figures().map(|figures| cell((headline.of)(figures))).collect() }
    });
    let all = report.misses();
    let misses = all.iter().take(MISSES).map(|record| {
        [record.id.as_str(), record.text.as_str(), record.expected.as_str(), record.got.as_str(), kind_of_miss(record)]
            .map(escape)
    });
    let differences = report.comparison.iter().flat_map(|comparison| {
        HEADLINES.iter().map(|headline| {
            let (before, after) = ((headline.of)(&comparison.before), (headline.of)(&comparison.after));
            [headline.name.to_owned(), before.text(), after.text(), after.difference_text(before)]
        })
    });
    Page {
        columns: std::iter::once("this run").chain(report.baselines.iter().map(|baseline| baseline.name.as_str())).collect(),
        rows: rows.collect(),
        dimensions: vec![("intent", &report.score.slices.intent), ("language", &report.score.slices.language)],
        misses: misses.collect(),
        misses_left: all.len().saturating_sub(MISSES),
        comparison: report.comparison.as_ref(),
        differences: differences.collect(),
        report,
    }
    .render()
    .map_err(|error| ReportError::Render(error.to_string()))
}

fn accuracy(slice: &Slice) -> String {
    percent(slice.accuracy.value)
}

/// Text that means nothing in Markdown, in a table cell or elsewhere.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '#' | '|' | '~' | '!' => escaped.extend(['\\', c]),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            // A mention or a reference must not reach anyone.
            '@' => escaped.push_str("@\u{2060}"),
            _ => escaped.push(c),
        }
    }
    escaped
}
