//! How good decisions are. Pure: from records to figures.
//!
//! The errors and their costs are those of the label guide in `fixtures/README.md`: what is neither right nor forbidden is a nuisance;
//! losing a message, destroying work and letting an unwanted run go on are worse, in this order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::baselines::Baseline;
use super::fixture::{Expect, Fixture};
use super::record::{Judged, Record};
use super::statistics::{Estimate, Share, bootstrap_mean, percentile};
use crate::model::builtin::Intent;
use crate::protocol::Action;

/// Bins of the calibration, each a tenth of the confidence scale.
const BINS: usize = 10;
/// Points of the curve of share kept against accuracy.
const CURVE_POINTS: usize = 100;

/// What is wrong with an action, worst last. One action is one mistake: the worst that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mistake {
    /// Not among the right actions, but nothing was harmed by it.
    Other,
    /// The user wanted the run to end, and it goes on.
    MissedStop,
    /// Work that the user wanted was destroyed.
    DestroyedWork,
    /// A message with content was dropped.
    Lost,
}

impl Mistake {
    /// The mistake that an action is; nothing when it is right, or when the case says nothing about the action.
    #[must_use]
    pub fn of(expect: &Expect, intent: Option<&str>, action: Action) -> Option<Self> {
        if !expect.judges_action() || expect.accepts(action) {
            return None;
        }
        Some(match action {
            Action::Ignore if expect.forbids(action) => Self::Lost,
            Action::Interrupt if expect.forbids(action) => Self::DestroyedWork,
            Action::Interrupt => Self::Other,
            _ if intent == Some(Intent::Stop.as_str()) => Self::MissedStop,
            _ => Self::Other,
        })
    }

    /// What it costs, in the units of the label guide.
    #[must_use]
    pub const fn cost(self) -> u8 {
        match self {
            Self::Other => 1,
            Self::MissedStop => 2,
            Self::DestroyedWork => 3,
            Self::Lost => 4,
        }
    }
}

/// A case as the figures see it, whoever decided.
#[derive(Clone, Copy, Debug)]
pub struct Scored<'a> {
    /// What is right.
    pub expect: &'a Expect,
    /// What the user meant, if it was labelled.
    pub intent: Option<&'a str>,
    /// What was decided.
    pub action: Action,
}

impl<'a> Scored<'a> {
    /// A record's case; nothing when it says nothing about the action.
    fn of_record(record: &'a Record) -> Option<Self> {
        let Judged { expect, outcome } = record.message.as_ref()?;
        expect.judges_action().then_some(Self { expect, intent: record.intent(), action: outcome.action })
    }

    fn is_right(&self) -> bool {
        self.expect.accepts(self.action)
    }

    fn mistake(&self) -> Option<Mistake> {
        Mistake::of(self.expect, self.intent, self.action)
    }

    fn cost(&self) -> u8 {
        self.mistake().map_or(0, Mistake::cost)
    }

    fn is_stop(&self) -> bool {
        self.intent == Some(Intent::Stop.as_str())
    }

    /// Forbidden to ignore, and ignored.
    fn is_lost(&self) -> bool {
        self.action == Action::Ignore && self.expect.forbids(Action::Ignore)
    }

    /// Interrupted without that being right; strict: also where it would be forgiven.
    fn is_unwanted_interrupt(&self) -> bool {
        self.action == Action::Interrupt && !self.is_right()
    }

    /// A stop that nothing was done about: neither an interrupt nor what else is right there, such as a command's dispatch.
    fn is_missed_stop(&self) -> bool {
        self.is_stop() && self.action != Action::Interrupt && !self.is_right()
    }
}

/// The headline figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Actions that are right.
    pub accuracy: Share,
    /// Actions that are forbidden.
    pub forbidden: Share,
    /// Messages ignored although that is forbidden.
    pub lost: Share,
    /// Interrupts that are not right (strict: also where one is not forbidden).
    pub unwanted_interrupt: Share,
    /// Of the cases with intent `stop`, those without an interrupt or another right action.
    pub missed_stop: Share,
    /// Cost of 100 decisions: a lost message 4, destroyed work 3, a missed stop 2, any other error 1.
    pub cost_per_100: Estimate,
}

impl Figures {
    /// Counts.
    #[must_use]
    pub fn of(cases: &[Scored<'_>]) -> Self {
        let costs: Vec<u8> = cases.iter().map(Scored::cost).collect();
        Self {
            accuracy: Share::among(cases, Scored::is_right),
            forbidden: Share::among(cases, |case| case.expect.forbids(case.action)),
            lost: Share::among(cases, Scored::is_lost),
            unwanted_interrupt: Share::among(cases, Scored::is_unwanted_interrupt),
            missed_stop: Share::among(cases.iter().filter(|case| case.is_stop()), Scored::is_missed_stop),
            cost_per_100: bootstrap_mean(&costs, 100.0),
        }
    }
}

/// The figures of a part of the cases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// What the cases have in common, such as a language.
    pub name: String,
    /// Actions that are right.
    pub accuracy: Share,
    /// Messages lost.
    pub lost: u64,
    /// Unwanted interrupts (strict).
    pub unwanted_interrupt: u64,
    /// Missed stops.
    pub missed_stop: u64,
    /// Cost of 100 decisions.
    pub cost_per_100: f64,
}

impl Slice {
    fn of(name: &str, cases: &[Scored<'_>]) -> Self {
        let cost: u64 = cases.iter().map(|case| u64::from(case.cost())).sum();
        Self {
            name: name.to_owned(),
            accuracy: Share::among(cases, Scored::is_right),
            lost: cases.iter().filter(|case| case.is_lost()).count() as u64,
            unwanted_interrupt: cases.iter().filter(|case| case.is_unwanted_interrupt()).count() as u64,
            missed_stop: cases.iter().filter(|case| case.is_missed_stop()).count() as u64,
            cost_per_100: cost as f64 * 100.0 / cases.len().max(1) as f64,
        }
    }
}

/// The figures along every dimension; within each the largest part first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Slices {
    /// By what the user meant.
    pub intent: Vec<Slice>,
    /// By language of the message.
    pub language: Vec<Slice>,
    /// By tag, but for those of intent and difficulty; a case with several tags counts in each.
    pub category: Vec<Slice>,
    /// By difficulty.
    pub difficulty: Vec<Slice>,
    /// By the rule that decided.
    pub rule: Vec<Slice>,
    /// By who decided.
    pub decided_by: Vec<Slice>,
}

impl Slices {
    fn of(records: &[Record]) -> Self {
        Self {
            intent: slices(records, |record| record.intent().into_iter().collect()),
            language: slices(records, |record| record.lang.as_deref().into_iter().collect()),
            category: slices(records, |record| {
                let is_category = |tag: &&str| !tag.starts_with("intent:") && !tag.starts_with("difficulty:");
                record.tags.iter().map(String::as_str).filter(is_category).collect()
            }),
            difficulty: slices(records, |record| record.tag("difficulty:").into_iter().collect()),
            rule: slices(records, |record| record.message.iter().map(|judged| judged.outcome.rule.as_str()).collect()),
            decided_by: slices(records, |record| {
                record.message.iter().map(|judged| judged.outcome.decided_by.as_str()).collect()
            }),
        }
    }
}

fn slices<'a>(records: &'a [Record], names_of: impl Fn(&'a Record) -> Vec<&'a str>) -> Vec<Slice> {
    let mut parts: BTreeMap<&str, Vec<Scored<'_>>> = BTreeMap::new();
    for record in records {
        let Some(case) = Scored::of_record(record) else { continue };
        for name in names_of(record) {
            parts.entry(name).or_default().push(case);
        }
    }
    let mut slices: Vec<Slice> = parts.iter().map(|(name, cases)| Slice::of(name, cases)).collect();
    // Stable: parts of one size stay in alphabetical order.
    slices.sort_by_key(|slice| std::cmp::Reverse(slice.accuracy.of));
    slices
}

/// What was meant against what was done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Confusion {
    /// The actions that occurred, in the order of the contract: the columns.
    pub actions: Vec<Action>,
    /// One row an intent, in the order of the label guide.
    pub rows: Vec<ConfusionRow>,
}

/// One intent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfusionRow {
    /// The intent; `unlabelled` for cases without one.
    pub intent: String,
    /// One cell an action.
    pub cells: Vec<ConfusionCell>,
}

/// One intent with one action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfusionCell {
    /// Cases.
    pub cases: u64,
    /// Of them, where the action is right.
    pub right: u64,
    /// Of them, where the action is forbidden.
    pub forbidden: u64,
}

impl Confusion {
    /// Counts; `action_of` may leave a record out.
    fn of(records: &[Record], action_of: impl Fn(&Judged) -> Option<Action>) -> Self {
        let mut cells: BTreeMap<(usize, &str), BTreeMap<Action, ConfusionCell>> = BTreeMap::new();
        for record in records {
            let Some(judged) = record.message.as_ref().filter(|judged| judged.expect.judges_action()) else { continue };
            let Some(action) = action_of(judged) else { continue };
            let intent = record.intent().unwrap_or("unlabelled");
            let place = Intent::from_word(intent).map_or(Intent::ALL.len(), |intent| intent as usize);
            let cell = cells.entry((place, intent)).or_default().entry(action).or_default();
            cell.cases += 1;
            cell.right += u64::from(judged.expect.accepts(action));
            cell.forbidden += u64::from(judged.expect.forbids(action));
        }
        let occurs = |action: &Action| cells.values().any(|row| row.contains_key(action));
        let actions: Vec<Action> = Action::ALL.iter().copied().filter(occurs).collect();
        let rows = cells
            .iter()
            .map(|((_, intent), row)| ConfusionRow {
                intent: (*intent).to_owned(),
                cells: actions.iter().map(|action| row.get(action).copied().unwrap_or_default()).collect(),
            })
            .collect();
        Self { actions, rows }
    }
}

/// Whether the model is as often right as it says. Judged is what the model said (`model_action`), not what the review made of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Decisions with a confidence.
    pub cases: u64,
    /// Expected calibration error, 0 to 1: how far confidence and accuracy lie apart, averaged over the decisions.
    pub ece: f64,
    /// The bins with decisions in them.
    pub bins: Vec<Bin>,
    /// What is won by keeping only the surest answers: from the surest few to all.
    pub curve: Vec<CurvePoint>,
}

/// The decisions of about one confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// The confidence at which the bin begins, 0 to 1.
    pub from: f64,
    /// The confidence at which it ends.
    pub to: f64,
    /// Mean confidence.
    pub confidence: f64,
    /// How many were right.
    pub accuracy: Share,
}

/// What remains when answers below a confidence are left to something else.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// The least confidence that is kept, 0 to 1.
    pub threshold: f64,
    /// Share of the answers that are kept.
    pub kept: f64,
    /// Share of the kept that are right.
    pub accuracy: f64,
}

impl Calibration {
    fn of_records(records: &[Record]) -> Self {
        let judged = records.iter().filter_map(|record| record.message.as_ref()).filter(|judged| judged.expect.judges_action());
        let answers = judged.filter_map(|Judged { expect, outcome }| {
            let confidence = f64::from(outcome.confidence?);
            Some((confidence, expect.accepts(outcome.model_action.unwrap_or(outcome.action))))
        });
        Self::of(answers.collect())
    }

    /// From answers, each with its confidence and whether it is right.
    #[must_use]
    pub fn of(mut answers: Vec<(f64, bool)>) -> Self {
        answers.retain(|(confidence, _)| (0.0..=1.0).contains(confidence));
        let n = answers.len();
        let mut bins: Vec<Vec<(f64, bool)>> = vec![Vec::new(); BINS];
        for answer in &answers {
            let index = ((answer.0 * BINS as f64) as usize).min(BINS - 1);
            if let Some(bin) = bins.get_mut(index) {
                bin.push(*answer);
            }
        }
        let bins: Vec<Bin> = bins
            .iter()
            .enumerate()
            .filter(|(_, answers)| !answers.is_empty())
            .map(|(index, answers)| Bin {
                from: index as f64 / BINS as f64,
                to: (index + 1) as f64 / BINS as f64,
                confidence: answers.iter().map(|(confidence, _)| confidence).sum::<f64>() / answers.len() as f64,
                accuracy: Share::among(answers, |(_, right)| *right),
            })
            .collect();
        let gap = |bin: &Bin| (bin.accuracy.value - bin.confidence).abs() * bin.accuracy.of as f64;
        let ece = bins.iter().map(gap).sum::<f64>() / n.max(1) as f64;
        answers.sort_by(|a, b| b.0.total_cmp(&a.0));
        Self { cases: n as u64, ece, bins, curve: curve(&answers) }
    }
}

/// The curve over answers that are sorted by confidence, the surest first. Answers of one confidence are kept or left together.
fn curve(answers: &[(f64, bool)]) -> Vec<CurvePoint> {
    let n = answers.len();
    let mut points: Vec<CurvePoint> = Vec::new();
    let mut right = 0usize;
    let mut wanted = 1;
    for (index, (confidence, is_right)) in answers.iter().enumerate() {
        right += usize::from(*is_right);
        let kept = index + 1;
        let ends_group = answers.get(kept).is_none_or(|next| next.0 < *confidence);
        if ends_group && kept * CURVE_POINTS >= wanted * n {
            points.push(CurvePoint {
                threshold: *confidence,
                kept: kept as f64 / n as f64,
                accuracy: right as f64 / kept as f64,
            });
            wanted = kept * CURVE_POINTS / n + 1;
        }
    }
    points
}

/// How long decisions took, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latencies {
    /// The router's whole time.
    pub total: Option<Percentiles>,
    /// Waiting for the model, where one was asked.
    pub model: Option<Percentiles>,
}

/// Percentiles by nearest rank, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Measured decisions.
    pub cases: u64,
    /// Half took at most this.
    pub p50_us: u64,
    /// Nine of ten took at most this.
    pub p90_us: u64,
    /// 99 of 100 took at most this.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

impl Percentiles {
    /// Nothing when nothing was measured.
    #[must_use]
    pub fn of(mut micros: Vec<u64>) -> Option<Self> {
        micros.sort_unstable();
        let at = |rank| percentile(&micros, rank);
        Some(Self { cases: micros.len() as u64, p50_us: at(0.5)?, p90_us: at(0.9)?, p99_us: at(0.99)?, max_us: at(1.0)? })
    }
}

/// Everything that is known about a run's decisions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Cases of every sort that are as expected in all, rule and decider included.
    pub ok: Share,
    /// The headline figures, over the cases about messages that say something about the action.
    pub figures: Figures,
    /// The figures of parts of the cases.
    pub slices: Slices,
    /// What was meant against what was done.
    pub decisions: Confusion,
    /// What was meant against what the model said, where it was asked.
    pub model_answers: Confusion,
    /// Whether the model knows how sure it may be.
    pub calibration: Calibration,
    /// How long decisions took.
    pub latency: Latencies,
}

impl Score {
    /// Judges.
    #[must_use]
    pub fn of(records: &[Record]) -> Self {
        let cases: Vec<Scored<'_>> = records.iter().filter_map(Scored::of_record).collect();
        let outcomes = || records.iter().filter_map(|record| record.message.as_ref()).map(|judged| &judged.outcome);
        Self {
            ok: Share::among(records, |record| record.ok),
            figures: Figures::of(&cases),
            slices: Slices::of(records),
            decisions: Confusion::of(records, |judged| Some(judged.outcome.action)),
            model_answers: Confusion::of(records, |judged| judged.outcome.model_action),
            calibration: Calibration::of_records(records),
            latency: Latencies {
                total: Percentiles::of(outcomes().map(|outcome| outcome.total_us).collect()),
                model: Percentiles::of(outcomes().filter_map(|outcome| outcome.model_us).collect()),
            },
        }
    }
}

/// A baseline's figures on the same cases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaselineFigures {
    /// Its name.
    pub name: String,
    /// How it does.
    pub figures: Figures,
}

/// All baselines on some cases.
#[must_use]
pub fn baselines(fixtures: &[&Fixture]) -> Vec<BaselineFigures> {
    let figures = |baseline: Baseline| {
        let cases: Vec<Scored<'_>> = fixtures
            .iter()
            .filter(|fixture| fixture.expect.judges_action())
            .map(|fixture| Scored { expect: &fixture.expect, intent: fixture.intent(), action: baseline.decide(fixture) })
            .collect();
        BaselineFigures { name: baseline.name().to_owned(), figures: Figures::of(&cases) }
    };
    Baseline::ALL.into_iter().map(figures).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::record::Outcome;
    use super::*;
    use crate::protocol::{DecidedBy, Rule};

    fn expect(any_of: &[Action], none_of: &[Action]) -> Expect {
        Expect { any_of: Some(any_of.to_vec()), none_of: Some(none_of.to_vec()), ..Expect::default() }
    }

    /// What the label guide says about an intent.
    fn guide(intent: &str) -> Expect {
        use Action::{Background, Ignore, Interrupt, Queue, Steer};
        match intent {
            "stop" => expect(&[Interrupt], &[Ignore]),
            "corr" => expect(&[Interrupt, Steer], &[Ignore]),
            "add" => expect(&[Queue, Steer], &[Ignore, Interrupt]),
            "new" => expect(&[Queue, Background], &[Ignore, Interrupt]),
            _ => expect(&[Ignore], &[Interrupt]),
        }
    }

    fn record(intent: &str, action: Action, confidence: Option<f32>) -> Record {
        let expect = guide(intent);
        let outcome = Outcome {
            action,
            rule: Rule::Model,
            decided_by: DecidedBy::Model,
            confidence,
            model_action: confidence.map(|_| action),
            total_us: 10,
            model_us: confidence.map(|_| 5),
        };
        Record {
            id: "x".to_owned(),
            lang: Some("en".to_owned()),
            tags: vec![format!("intent:{intent}"), "difficulty:hard".to_owned(), "typo".to_owned()],
            text: String::new(),
            expected: expect.to_string(),
            got: action.to_string(),
            ok: expect.accepts(action),
            message: Some(Judged { expect, outcome }),
        }
    }

    #[test]
    fn a_mistake_costs_what_the_guide_says() {
        let mistake = |intent: &str, action| Mistake::of(&guide(intent), Some(intent), action);
        assert_eq!(mistake("stop", Action::Interrupt), None);
        assert_eq!(mistake("stop", Action::Queue), Some(Mistake::MissedStop));
        assert_eq!(mistake("stop", Action::Ignore), Some(Mistake::Lost));
        assert_eq!(mistake("corr", Action::Queue), Some(Mistake::Other));
        assert_eq!(mistake("add", Action::Interrupt), Some(Mistake::DestroyedWork));
        assert_eq!(mistake("add", Action::Ignore), Some(Mistake::Lost));
        assert_eq!(mistake("add", Action::Background), Some(Mistake::Other));
        assert_eq!(mistake("back", Action::Queue), Some(Mistake::Other));
        // Not right, but forgiven: it costs 1 and still counts as unwanted in the strict figure.
        let tolerated = expect(&[Action::Queue], &[Action::Ignore]);
        assert_eq!(Mistake::of(&tolerated, Some("add"), Action::Interrupt), Some(Mistake::Other));
        assert!(Scored { expect: &tolerated, intent: Some("add"), action: Action::Interrupt }.is_unwanted_interrupt());
        assert_eq!(Mistake::of(&Expect { rule: Some(Rule::Model), ..Expect::default() }, None, Action::Ignore), None);
        // A stop by command is dispatched, which is right there, so it is not missed.
        let command = Expect { action: Some(Action::Dispatch), ..Expect::default() };
        assert!(!Scored { expect: &command, intent: Some("stop"), action: Action::Dispatch }.is_missed_stop());
    }

    /// Ten cases whose figures can be counted by hand: costs 0 0 2 4 · 0 3 4 · 0 1 · 1 = 15.
    #[test]
    fn figures_by_hand() {
        let records: Vec<Record> = [
            ("stop", Action::Interrupt),
            ("stop", Action::Interrupt),
            ("stop", Action::Queue),
            ("stop", Action::Ignore),
            ("add", Action::Queue),
            ("add", Action::Interrupt),
            ("new", Action::Ignore),
            ("back", Action::Ignore),
            ("back", Action::Queue),
            ("corr", Action::Queue),
        ]
        .map(|(intent, action)| record(intent, action, None))
        .into();
        let score = Score::of(&records);
        let figures = &score.figures;
        let counts = |share: Share| (share.count, share.of);
        assert_eq!(counts(figures.accuracy), (4, 10));
        assert_eq!(counts(figures.forbidden), (3, 10));
        assert_eq!(counts(figures.lost), (2, 10));
        assert_eq!(counts(figures.unwanted_interrupt), (1, 10));
        assert_eq!(counts(figures.missed_stop), (2, 4));
        assert!((figures.cost_per_100.value - 150.0).abs() < 1e-9, "{:?}", figures.cost_per_100);
        assert_eq!(counts(score.ok), (4, 10));

        let stop = &score.slices.intent[0];
        assert_eq!((stop.name.as_str(), counts(stop.accuracy), stop.lost, stop.missed_stop), ("stop", (2, 4), 1, 2));
        assert!((stop.cost_per_100 - 150.0).abs() < 1e-9);
        assert_eq!(score.slices.category.len(), 1);
        assert_eq!((score.slices.difficulty[0].name.as_str(), score.slices.language[0].name.as_str()), ("hard", "en"));

        assert_eq!(score.decisions.actions, [Action::Interrupt, Action::Queue, Action::Ignore]);
        let intents: Vec<&str> = score.decisions.rows.iter().map(|row| row.intent.as_str()).collect();
        assert_eq!(intents, ["stop", "corr", "add", "new", "back"]);
        assert_eq!(score.decisions.rows[0].cells[0], ConfusionCell { cases: 2, right: 2, forbidden: 0 });
        assert_eq!(score.decisions.rows[0].cells[2], ConfusionCell { cases: 1, right: 0, forbidden: 1 });
        assert!(score.model_answers.rows.is_empty());
        assert_eq!(score.calibration.cases, 0);
        assert_eq!(score.latency.total.map(|latency| (latency.cases, latency.p50_us)), Some((10, 10)));
        assert_eq!(score.latency.model, None);
    }

    /// Two bins: 0.95 twice, right once (gap 0.45), and 0.6 twice, both right (gap 0.4): ECE = (2 * 0.45 + 2 * 0.4) / 4.
    #[test]
    fn calibration_by_hand() {
        let calibration = Calibration::of(vec![(0.6, true), (0.95, true), (0.6, true), (0.95, false), (f64::NAN, true)]);
        assert_eq!(calibration.cases, 4);
        assert!((calibration.ece - 0.425).abs() < 1e-9, "{}", calibration.ece);
        let bins: Vec<(u64, u64)> = calibration.bins.iter().map(|bin| (bin.accuracy.count, bin.accuracy.of)).collect();
        assert_eq!(bins, [(2, 2), (1, 2)]);
        // Answers of one confidence are kept together, so there are two points.
        let points: Vec<(f64, f64, f64)> =
            calibration.curve.iter().map(|point| (point.threshold, point.kept, point.accuracy)).collect();
        assert_eq!(points, [(0.95, 0.5, 0.5), (0.6, 1.0, 0.75)]);
        assert!(Calibration::of(vec![(1.0, true)]).bins[0].from > 0.89, "full confidence falls into the last bin");
        assert_eq!(Calibration::of(vec![]), Calibration::default());
    }

    #[test]
    fn calibration_judges_what_the_model_said() {
        let mut abstained = record("stop", Action::Queue, Some(0.4));
        if let Some(judged) = &mut abstained.message {
            judged.outcome.model_action = Some(Action::Interrupt);
        }
        let score = Score::of(&[abstained]);
        assert_eq!(score.calibration.bins[0].accuracy.count, 1);
        assert_eq!(score.model_answers.actions, [Action::Interrupt]);
        assert_eq!(score.figures.missed_stop.count, 1);
    }

    #[test]
    fn baselines_are_scored_on_the_same_cases() {
        let fixture = |intent: &str, text: &str| -> Fixture {
            serde_json::from_value(serde_json::json!({
                "id": text, "tags": [format!("intent:{intent}")], "expect": guide(intent),
                "request": {"session": {"id": "s"}, "message": {"text": text}, "busy": {"state": "thinking"}}
            }))
            .expect("a valid fixture")
        };
        let fixtures = [fixture("stop", "wait!!"), fixture("add", "also Y"), fixture("back", "thanks")];
        let all = baselines(&fixtures.iter().collect::<Vec<_>>());
        let right: Vec<(&str, u64)> = all.iter().map(|line| (line.name.as_str(), line.figures.accuracy.count)).collect();
        assert_eq!(right, [("keyword", 3), ("always queue", 1), ("always interrupt", 1)]);
        assert_eq!(all[1].figures.missed_stop.count, 1);
    }

    fn any_case() -> impl Strategy<Value = Record> {
        let intents = proptest::sample::select(vec!["stop", "corr", "add", "new", "back"]);
        let actions = proptest::sample::select(Action::ALL.to_vec());
        (intents, actions, proptest::option::of(0.0f32..=1.0))
            .prop_map(|(intent, action, confidence)| record(intent, action, confidence))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn figures_are_consistent(records in proptest::collection::vec(any_case(), 0..60)) {
            let score = Score::of(&records);
            let figures = &score.figures;
            let mistakes = records.iter().filter_map(Scored::of_record).filter(|case| case.mistake().is_some()).count() as u64;
            prop_assert_eq!(figures.accuracy.count + mistakes, records.len() as u64);
            prop_assert!(figures.lost.count <= figures.forbidden.count);
            prop_assert!(figures.forbidden.count <= mistakes);
            let cost = &figures.cost_per_100;
            prop_assert!(cost.value >= 0.0 && cost.low <= cost.value && cost.value <= cost.high && cost.high <= 400.0, "{:?}", cost);
            for share in [figures.accuracy, figures.lost, figures.missed_stop] {
                prop_assert!(0.0 <= share.low && share.high <= 1.0 && share.low <= share.high);
                prop_assert!(!share.is_known() || (share.low <= share.value && share.value <= share.high), "{:?}", share);
            }
            let cells: u64 = score.decisions.rows.iter().flat_map(|row| &row.cells).map(|cell| cell.cases).sum();
            prop_assert_eq!(cells, records.len() as u64);
            prop_assert!((0.0..=1.0).contains(&score.calibration.ece));
            prop_assert!(score.calibration.curve.windows(2).all(|pair| pair[0].kept < pair[1].kept));
            if let Some(last) = score.calibration.curve.last() {
                prop_assert!((last.kept - 1.0).abs() < 1e-9, "all are kept at the end");
            }
        }
    }
}
