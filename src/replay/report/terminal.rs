//! The form for the terminal: a table, the misses, and what changed. Colours only where the caller says that they are wanted.

use std::fmt::{self, Write as _};

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table};

use super::{HEADLINES, Report, Value, kind_of_miss, percent, time};
use crate::replay::compare::{Change, Comparison};
use crate::replay::record::{Record, one_line};

/// Changes that are listed in each kind; the JSON form has all.
const CHANGES: usize = 25;
/// Weakest parts that are named.
const WEAK_PARTS: usize = 5;
/// Smallest part that is named: the figure of a smaller one is noise.
const WEAK_PART_CASES: u64 = 20;
/// Longest text of a miss, in characters.
const TEXT_CHARS: usize = 90;

/// How to show it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Whether colours are wanted.
    pub colour: bool,
    /// Columns of the terminal, if it is one.
    pub width: Option<u16>,
    /// Misses that are listed.
    pub misses: usize,
}

/// Everything: misses, changes, headline table, the rest.
#[must_use]
pub fn render(report: &Report, style: Style) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = misses(&mut text, report, style);
    if let Some(comparison) = &report.comparison {
        let _ = changes(&mut text, comparison, style);
    }
    let _ = summary(&mut text, report, style);
    text
}

/// The headline table and the rest of the figures, without the lists of misses and changes.
#[must_use]
pub fn summary_only(report: &Report, style: Style) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = summary(&mut text, report, style);
    text
}

fn paint(text: &str, code: &str, style: Style) -> String {
    if style.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

fn misses(text: &mut String, report: &Report, style: Style) -> fmt::Result {
    let misses = report.misses();
    for record in misses.iter().take(style.misses) {
        miss(text, record, style)?;
    }
    match misses.len().saturating_sub(style.misses) {
        0 if misses.is_empty() => Ok(()),
        0 => writeln!(text),
        left if style.misses == 0 => writeln!(text, "{left} misses\n"),
        left => writeln!(text, "… and {left} more misses; --report FILE.json lists all\n"),
    }
}

fn miss(text: &mut String, record: &Record, style: Style) -> fmt::Result {
    let code = if super::cost(record) >= 3 { "31" } else { "33" };
    let confidence = record.message.as_ref().and_then(|judged| judged.outcome.confidence);
    let confidence = confidence.map(|confidence| format!(", {:.0} % sure", confidence * 100.0)).unwrap_or_default();
    writeln!(text, "{} {}: {}", paint(kind_of_miss(record), code, style), plain(&record.id), one_line(&record.text, TEXT_CHARS))?;
    writeln!(text, "    expected {}, got {}{confidence}", record.expected, record.got)
}

fn changes(text: &mut String, comparison: &Comparison, style: Style) -> fmt::Result {
    let kinds: [(&str, &[Change], &str); 3] = [
        ("fixed", &comparison.fixed, "32"),
        ("changed", &comparison.changed, "36"),
        // Last, so that they are still on the screen.
        ("broken", &comparison.broken, "31"),
    ];
    for (kind, list, code) in kinds {
        for change in list.iter().take(CHANGES) {
            writeln!(text, "{} {}: {}", paint(kind, code, style), plain(&change.id), one_line(&change.text, TEXT_CHARS))?;
            writeln!(text, "    expected {}, was {}, is {}", change.expected, change.before, change.after)?;
        }
        if list.len() > CHANGES {
            writeln!(text, "… and {} more {kind}; --report FILE.json lists all", list.len() - CHANGES)?;
        }
    }
    if !comparison.is_unchanged() {
        writeln!(text)?;
    }
    Ok(())
}

fn summary(text: &mut String, report: &Report, style: Style) -> fmt::Result {
    let score = &report.score;
    writeln!(text, "{}", paint(&report.target, "1", style))?;
    writeln!(text, "{} cases, {} as expected ({})", score.ok.of, score.ok.count, Value::Share(score.ok).text())?;
    if score.figures.accuracy.is_known() {
        writeln!(text, "{}", headline_table(report, style))?;
        weakest(text, report)?;
    }
    if score.calibration.cases > 0 {
        let calibration = &score.calibration;
        writeln!(text, "calibration: error (ECE) {:.3} over {} answers", calibration.ece, calibration.cases)?;
    }
    for (name, latency) in [("latency", score.latency.total), ("model", score.latency.model)] {
        if let Some(latency) = latency {
            let [p50, p90, p99, max] = [latency.p50_us, latency.p90_us, latency.p99_us, latency.max_us].map(time);
            writeln!(text, "{name}: p50 {p50}, p90 {p90}, p99 {p99}, max {max}")?;
        }
    }
    if let Some(spend) = &report.spend {
        writeln!(text, "{}", spend.text())?;
    }
    if let Some(comparison) = &report.comparison {
        let Comparison { earlier, common, relabelled, fixed, broken, changed, added, removed, .. } = comparison;
        let counts = [fixed.len(), broken.len(), changed.len()];
        let [fixed, broken, changed] = counts;
        write!(
            text,
            "against {}: {fixed} fixed, {broken} broken, {changed} changed otherwise of {common} common cases",
            plain(earlier)
        )?;
        for (count, what) in [(added.len(), "new"), (removed.len(), "gone"), (*relabelled as usize, "relabelled")] {
            if count > 0 {
                write!(text, ", {count} {what}")?;
            }
        }
        writeln!(text)?;
    }
    for note in &report.notes {
        writeln!(text, "{} {note}", paint("note:", "33", style))?;
    }
    Ok(())
}

fn headline_table(report: &Report, style: Style) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    if style.colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    // Without a terminal the lines are as long as they need to be.
    table.set_width(style.width.unwrap_or(200));
    let mut header = vec![Cell::new(""), Cell::new("this run").add_attribute(Attribute::Bold)];
    header.extend(report.comparison.iter().map(|_| Cell::new("earlier")));
    header.extend(report.baselines.iter().map(|baseline| Cell::new(&baseline.name)));
    table.set_header(header);
    for headline in &HEADLINES {
        let mine = (headline.of)(&report.score.figures);
        let mut row = vec![Cell::new(headline.name), cell(mine).add_attribute(Attribute::Bold)];
        if let Some(comparison) = &report.comparison {
            let (before, after) = ((headline.of)(&comparison.before), (headline.of)(&comparison.after));
            let difference = after.difference_text(before);
            let is_better = (after.number() > before.number()) == headline.higher_is_better;
            let colour = if is_better { Color::Green } else { Color::Red };
            let shown = Cell::new(format!("{} ({difference})", before.text())).set_alignment(CellAlignment::Right);
            row.push(if difference == "+0.0" { shown } else { shown.fg(colour) });
        }
        row.extend(report.baselines.iter().map(|baseline| cell((headline.of)(&baseline.figures))));
        table.add_row(row);
    }
    table
}

fn cell(value: Value) -> Cell {
    let interval = value.interval_text();
    let text = if interval.is_empty() { value.text() } else { format!("{}  {interval}", value.text()) };
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// The parts of the cases where most goes wrong, so that one knows where to look.
fn weakest(text: &mut String, report: &Report) -> fmt::Result {
    let slices = &report.score.slices;
    for (name, parts) in [("intents", &slices.intent), ("languages", &slices.language), ("categories", &slices.category)] {
        let mut parts: Vec<_> = parts.iter().filter(|part| part.accuracy.of >= WEAK_PART_CASES).collect();
        parts.sort_by(|a, b| a.accuracy.value.total_cmp(&b.accuracy.value));
        if parts.len() > 1 {
            let named =
                parts.iter().take(WEAK_PARTS).map(|part| format!("{} {}", plain(&part.name), percent(part.accuracy.value)));
            writeln!(text, "weakest {name}: {}", named.collect::<Vec<_>>().join(", "))?;
        }
    }
    Ok(())
}

/// An id or a tag comes from a file, too.
fn plain(text: &str) -> String {
    one_line(text, TEXT_CHARS)
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;

    #[test]
    fn colours_only_where_wanted_and_nothing_of_the_texts_reaches_the_terminal() {
        let style = Style { misses: 10, ..Style::default() };
        let text = render(&report(), style);
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text}");
        assert!(text.contains("lost message c: also Y\n    expected queue, not ignore, got ignore (model), 70 % sure"), "{text}");
        assert!(text.contains("always interrupt") && text.contains("1 fixed, 0 broken"), "{text}");
        let coloured = render(&report(), Style { colour: true, ..style });
        assert!(coloured.contains("\u{1b}[31mlost message"));
        assert!(!coloured.contains("\u{1b}[31m \u{202e}"));
    }

    #[test]
    fn long_lists_say_how_much_is_left_out() {
        let text = render(&report(), Style { misses: 1, ..Style::default() });
        assert!(text.contains("… and 1 more misses"), "{text}");
    }
}
