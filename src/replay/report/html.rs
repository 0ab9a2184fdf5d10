//! One page that needs nothing else: no script, no font, no picture from elsewhere. The plots are SVG, drawn from the geometry that is
//! worked out here; the template escapes every text.

use std::fmt::Write as _;

use askama::Template;

use super::{HEADLINES, Headline, Report, ReportError, Value, kind_of_miss, percent, time};
use crate::protocol::Action;
use crate::replay::compare::{Change, Comparison};
use crate::replay::record::Record;
use crate::replay::score::{Calibration, Confusion, ConfusionCell, Figures, Percentiles, Slice};

/// Misses on the page; the JSON form has all.
const MISSES: usize = 400;
/// Changes of each kind on the page.
const CHANGES: usize = 200;
/// Longest list of changes that is open from the start.
const OPEN_LIST: usize = 12;
/// Parts of one dimension on the page, the largest.
const PARTS: usize = 40;

/// The drawing area of a plot, in the units of its view box: left, top, right and bottom edge.
const AREA: (f64, f64, f64, f64) = (38.0, 12.0, 328.0, 232.0);
/// Height of the histogram under the reliability plot.
const HISTOGRAM: f64 = 34.0;

#[derive(Template)]
#[template(path = "replay.html")]
struct Page<'a> {
    report: &'a Report,
    columns: Vec<&'a str>,
    headlines: Vec<HeadlineRow>,
    comparison: Option<ComparisonView<'a>>,
    confusions: Vec<ConfusionView<'a>>,
    dimensions: Vec<Dimension>,
    reliability: Option<Reliability>,
    curve: Option<Curve>,
    latencies: Vec<LatencyRow>,
    spend: Option<String>,
    misses: Vec<Miss<'a>>,
    all_misses: usize,
    area: (f64, f64, f64, f64),
}

/// A headline figure with all that are compared by it.
struct HeadlineRow {
    name: &'static str,
    meaning: &'static str,
    cells: Vec<Bar>,
}

/// A value as a bar with its interval; positions in per cent of the bar's length.
struct Bar {
    value: String,
    interval: String,
    width: f64,
    low: f64,
    high: f64,
    is_known: bool,
    is_best: bool,
}

struct Dimension {
    title: &'static str,
    parts: Vec<Part>,
    left: usize,
}

struct Part {
    name: String,
    cases: u64,
    bar: Bar,
    cost: String,
    /// Lost messages, unwanted interrupts, missed stops.
    harms: [u64; 3],
}

struct ConfusionView<'a> {
    title: &'static str,
    meaning: &'static str,
    actions: &'a [Action],
    rows: Vec<ConfusionRowView<'a>>,
}

struct ConfusionRowView<'a> {
    intent: &'a str,
    cases: u64,
    cells: Vec<CellView>,
}

struct CellView {
    cases: u64,
    share: String,
    /// `right`, `harm` or `other`: what most of the cell's cases are.
    kind: &'static str,
    /// Strength of the colour, 0 to 1: the cell's share of its row.
    strength: f64,
}

struct Reliability {
    ece: String,
    cases: u64,
    points: Vec<ReliabilityPoint>,
    ticks: Vec<Tick>,
    columns: Vec<Column>,
}

struct ReliabilityPoint {
    x: f64,
    y: f64,
    low: f64,
    high: f64,
    title: String,
}

/// A bar of the histogram.
struct Column {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

struct Tick {
    at: f64,
    label: String,
}

struct Curve {
    path: String,
    x_ticks: Vec<Tick>,
    y_ticks: Vec<Tick>,
    /// What is kept and how good it is at some round shares.
    marks: Vec<CurveMark>,
}

struct CurveMark {
    x: f64,
    y: f64,
    kept: String,
    accuracy: String,
    threshold: String,
}

struct LatencyRow {
    name: &'static str,
    cases: u64,
    values: [String; 4],
}

struct Miss<'a> {
    record: &'a Record,
    kind: &'static str,
    cost: u8,
    got: &'a str,
    confidence: String,
}

struct ComparisonView<'a> {
    comparison: &'a Comparison,
    figures: Vec<FigureChange>,
    lists: Vec<ChangeList<'a>>,
}

struct FigureChange {
    name: &'static str,
    before: String,
    after: String,
    difference: String,
    /// `better`, `worse` or `same`.
    kind: &'static str,
}

struct ChangeList<'a> {
    title: &'static str,
    all: usize,
    changes: &'a [Change],
}

pub(super) fn render(report: &Report) -> Result<String, ReportError> {
    let score = &report.score;
    let slices = &score.slices;
    let misses = report.misses();
    let has_figures = score.figures.accuracy.is_known();
    let page = Page {
        columns: std::iter::once("this run").chain(report.baselines.iter().map(|baseline| baseline.name.as_str())).collect(),
        headlines: if has_figures {
            HEADLINES.iter().map(|headline| headline_row(headline, report)).collect()
        } else {
            Vec::new()
        },
        comparison: report.comparison.as_ref().map(comparison_view),
        confusions: [
            ("What was decided", "all cases: what was meant against the action", &score.decisions),
            (
                "What the model said",
                "only cases that reached the model: what was meant against its label, before the review",
                &score.model_answers,
            ),
        ]
        .into_iter()
        .filter(|(_, _, confusion)| !confusion.rows.is_empty())
        .map(|(title, meaning, confusion)| confusion_view(title, meaning, confusion))
        .collect(),
        dimensions: [
            ("Intent", &slices.intent),
            ("Language", &slices.language),
            ("Category", &slices.category),
            ("Difficulty", &slices.difficulty),
            ("Rule", &slices.rule),
            ("Decided by", &slices.decided_by),
        ]
        .into_iter()
        .filter(|(_, slices)| !slices.is_empty())
        .map(|(title, slices)| dimension(title, slices))
        .collect(),
        reliability: reliability(&score.calibration),
        curve: curve(&score.calibration),
        latencies: [("decision", score.latency.total), ("model", score.latency.model)]
            .into_iter()
            .filter_map(|(name, latency)| latency.map(|latency| latency_row(name, latency)))
            .collect(),
        spend: report.spend.as_ref().map(super::Spend::text),
        all_misses: misses.len(),
        misses: misses.into_iter().take(MISSES).map(miss).collect(),
        area: AREA,
        report,
    };
    page.render().map_err(|error| ReportError::Render(error.to_string()))
}

fn headline_row(headline: &Headline, report: &Report) -> HeadlineRow {
    let figures = std::iter::once(&report.score.figures).chain(report.baselines.iter().map(|baseline| &baseline.figures));
    let values: Vec<Value> = figures.map(|figures: &Figures| (headline.of)(figures)).collect();
    let highest = values.iter().filter(|value| value.is_known()).map(|value| value.interval().1).fold(0.0, f64::max);
    // Accuracy is read against all of it; for errors the longest bar is the scale.
    let scale = if headline.higher_is_better { 1.0 } else { highest.max(1e-9) };
    let known = || values.iter().filter(|value| value.is_known()).map(|value| value.number());
    let best = if headline.higher_is_better { known().fold(f64::MIN, f64::max) } else { known().fold(f64::MAX, f64::min) };
    let cells = values.iter().map(|value| bar(*value, scale, value.is_known() && (value.number() - best).abs() < 1e-9));
    HeadlineRow { name: headline.name, meaning: headline.meaning, cells: cells.collect() }
}

fn bar(value: Value, scale: f64, is_best: bool) -> Bar {
    let (low, high) = value.interval();
    let position = |number: f64| (number / scale * 100.0).clamp(0.0, 100.0);
    Bar {
        value: value.text(),
        interval: value.interval_text(),
        width: position(value.number()),
        low: position(low),
        high: position(high),
        is_known: value.is_known(),
        is_best,
    }
}

fn dimension(title: &'static str, slices: &[Slice]) -> Dimension {
    let part = |slice: &Slice| Part {
        name: slice.name.clone(),
        cases: slice.accuracy.of,
        bar: bar(Value::Share(slice.accuracy), 1.0, false),
        cost: format!("{:.1}", slice.cost_per_100),
        harms: [slice.lost, slice.unwanted_interrupt, slice.missed_stop],
    };
    Dimension { title, parts: slices.iter().take(PARTS).map(part).collect(), left: slices.len().saturating_sub(PARTS) }
}

fn confusion_view<'a>(title: &'static str, meaning: &'static str, confusion: &'a Confusion) -> ConfusionView<'a> {
    let rows = confusion.rows.iter().map(|row| {
        let cases: u64 = row.cells.iter().map(|cell| cell.cases).sum();
        ConfusionRowView { intent: &row.intent, cases, cells: row.cells.iter().map(|cell| cell_view(*cell, cases)).collect() }
    });
    ConfusionView { title, meaning, actions: &confusion.actions, rows: rows.collect() }
}

fn cell_view(cell: ConfusionCell, row: u64) -> CellView {
    let share = cell.cases as f64 / row.max(1) as f64;
    let kind = if cell.right * 2 >= cell.cases {
        "right"
    } else if cell.forbidden * 2 >= cell.cases {
        "harm"
    } else {
        "other"
    };
    // A rare error must still be seen.
    CellView { cases: cell.cases, share: format!("{:.0} %", share * 100.0), kind, strength: 0.12 + 0.5 * share }
}

/// The place of a share on the horizontal axis.
fn x_of(share: f64) -> f64 {
    let (left, _, right, _) = AREA;
    left + share.clamp(0.0, 1.0) * (right - left)
}

/// The place of a value on a vertical axis that begins at `from` and ends at 1.
fn y_of(value: f64, from: f64) -> f64 {
    let (_, top, _, bottom) = AREA;
    bottom - ((value - from) / (1.0 - from)).clamp(0.0, 1.0) * (bottom - top)
}

fn tick(at: f64, share: f64) -> Tick {
    Tick { at, label: format!("{:.0}", share * 100.0) }
}

const QUARTERS: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];

fn reliability(calibration: &Calibration) -> Option<Reliability> {
    let most = calibration.bins.iter().map(|bin| bin.accuracy.of).max()?;
    let points = calibration.bins.iter().map(|bin| ReliabilityPoint {
        x: x_of(bin.confidence),
        y: y_of(bin.accuracy.value, 0.0),
        low: y_of(bin.accuracy.low, 0.0),
        high: y_of(bin.accuracy.high, 0.0),
        title: format!("{} answers: {} sure, {} right", bin.accuracy.of, percent(bin.confidence), percent(bin.accuracy.value)),
    });
    let columns = calibration.bins.iter().map(|bin| {
        let height = bin.accuracy.of as f64 / most.max(1) as f64 * HISTOGRAM;
        Column { x: x_of(bin.from) + 1.0, y: AREA.3 - height, width: x_of(bin.to) - x_of(bin.from) - 2.0, height }
    });
    Some(Reliability {
        ece: format!("{:.3}", calibration.ece),
        cases: calibration.cases,
        points: points.collect(),
        ticks: QUARTERS.map(|share| tick(x_of(share), share)).into(),
        columns: columns.collect(),
    })
}

fn curve(calibration: &Calibration) -> Option<Curve> {
    let last = calibration.curve.last()?;
    // The few surest answers are a coin or two: they would stretch the axis for nothing.
    let solid = || calibration.curve.iter().filter(|point| point.kept >= 0.05);
    let lowest = solid().map(|point| point.accuracy).fold(last.accuracy, f64::min);
    // A tenth below the lowest point, in tenths; never so narrow that noise looks like a slope.
    let from = (((lowest - 0.02) * 10.0).floor() / 10.0).clamp(0.0, 0.8);
    let mut path = String::new();
    for (index, point) in solid().enumerate() {
        let sign = if index == 0 { 'M' } else { 'L' };
        // Writing to a string cannot fail.
        let _ = write!(path, "{sign}{:.1} {:.1}", x_of(point.kept), y_of(point.accuracy, from));
    }
    let at_share = |share: f64| calibration.curve.iter().find(|point| point.kept >= share - 1e-9);
    let mut marks: Vec<CurveMark> = Vec::new();
    for point in [0.5, 0.7, 0.8, 0.9, 1.0].into_iter().filter_map(at_share) {
        let mark = CurveMark {
            x: x_of(point.kept),
            y: y_of(point.accuracy, from),
            kept: format!("{:.0} %", point.kept * 100.0),
            accuracy: percent(point.accuracy),
            threshold: format!("{:.2}", point.threshold),
        };
        // Several shares may fall on one point where many answers have one confidence.
        if marks.last().is_none_or(|last| last.x < mark.x) {
            marks.push(mark);
        }
    }
    // Between three and seven lines.
    let step = match 1.0 - from {
        span if span < 0.35 => 0.05,
        span if span < 0.65 => 0.1,
        _ => 0.2,
    };
    let steps = ((1.0 - from) / step + 1e-9) as usize;
    let y_ticks = (0..=steps).map(|index| 1.0 - index as f64 * step).map(|share| tick(y_of(share, from), share));
    Some(Curve { path, x_ticks: QUARTERS.map(|share| tick(x_of(share), share)).into(), y_ticks: y_ticks.collect(), marks })
}

fn latency_row(name: &'static str, latency: Percentiles) -> LatencyRow {
    LatencyRow { name, cases: latency.cases, values: [latency.p50_us, latency.p90_us, latency.p99_us, latency.max_us].map(time) }
}

fn miss(record: &Record) -> Miss<'_> {
    let confidence = record.message.as_ref().and_then(|judged| judged.outcome.confidence);
    Miss {
        record,
        kind: kind_of_miss(record),
        cost: super::cost(record),
        got: &record.got,
        confidence: confidence.map(|confidence| format!("{:.0} %", confidence * 100.0)).unwrap_or_default(),
    }
}

fn comparison_view(comparison: &Comparison) -> ComparisonView<'_> {
    let figures = HEADLINES.iter().map(|headline| {
        let (before, after) = ((headline.of)(&comparison.before), (headline.of)(&comparison.after));
        let difference = after.difference_text(before);
        let kind = if difference == "+0.0" {
            "same"
        } else if (after.number() > before.number()) == headline.higher_is_better {
            "better"
        } else {
            "worse"
        };
        FigureChange { name: headline.name, before: before.text(), after: after.text(), difference, kind }
    });
    let lists = [("Broken", &comparison.broken), ("Fixed", &comparison.fixed), ("Changed otherwise", &comparison.changed)];
    let lists = lists.into_iter().filter(|(_, changes)| !changes.is_empty()).map(|(title, changes)| ChangeList {
        title,
        all: changes.len(),
        changes: changes.get(..CHANGES).unwrap_or(changes),
    });
    ComparisonView { comparison, figures: figures.collect(), lists: lists.collect() }
}
