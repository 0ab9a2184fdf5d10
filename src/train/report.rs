//! How a model does on messages by authors that it has not seen.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::model::Answer;
use crate::model::builtin::Intent;
use crate::protocol::Action;
use crate::replay::fixture::Fixture;

/// A held-out message and what the model made of it, guards left aside.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    fixture: &'a Fixture,
    answer: Answer,
    right: bool,
    cost: f64,
}

impl<'a> Judged<'a> {
    /// Judges an answer.
    #[must_use]
    pub fn new(fixture: &'a Fixture, intent: Intent, answer: Answer) -> Self {
        // While an answer is awaited everything but a stop is handed over by a guard; the model's `queue` is as right there.
        let right = fixture.expect.accepts(answer.action)
            || (answer.action == Action::Queue && fixture.expect.accepts(Action::PassThrough));
        let cost = if right { 0.0 } else { f64::from(intent.cost(answer.action).max(1.0)) };
        Self { fixture, answer, right, cost }
    }
}

/// Figures of one author's messages.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Messages.
    pub messages: usize,
    /// Share of right actions.
    pub accuracy: f64,
    /// Share of messages ignored though they must not be.
    pub lost: f64,
    /// Share of messages that interrupt though that is not right.
    pub unwanted_interrupt: f64,
    /// Cost per hundred messages.
    pub cost_per_100: f64,
}

impl Figures {
    fn of(judged: &[&Judged<'_>]) -> Self {
        let share = |count: usize| if judged.is_empty() { 0.0 } else { count as f64 / judged.len() as f64 };
        let wrong = |action: Action| judged.iter().filter(|one| !one.right && one.answer.action == action).count();
        Self {
            messages: judged.len(),
            accuracy: share(judged.iter().filter(|one| one.right).count()),
            lost: share(
                judged
                    .iter()
                    .filter(|one| one.answer.action == Action::Ignore && one.fixture.expect.forbids(Action::Ignore))
                    .count(),
            ),
            unwanted_interrupt: share(wrong(Action::Interrupt)),
            cost_per_100: 100.0 * judged.iter().map(|one| one.cost).sum::<f64>() / judged.len().max(1) as f64,
        }
    }
}

/// One point of the curve of how much is kept against how much of it is right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KeptPoint {
    /// Answers less sure than this are abstentions.
    pub threshold: f32,
    /// Share of messages that are answered.
    pub kept: f64,
    /// Share of the answers that are right.
    pub accuracy: f64,
}

/// A leave-one-author-out cross-validation.
#[derive(Clone, Debug, PartialEq)]
pub struct CrossValidation {
    /// Figures by author.
    pub authors: BTreeMap<String, Figures>,
    /// Figures of all messages together.
    pub all: Figures,
    /// How much is kept at which threshold, and how much of it is right.
    pub curve: Vec<KeptPoint>,
    /// The lowest threshold at which enough of the answers are right.
    pub threshold: f32,
    /// Expected calibration error over ten bins of confidence.
    pub calibration_error: f64,
}

impl CrossValidation {
    /// Sums up. The threshold is the lowest point of the curve at which `kept_accuracy` of the answers are right.
    #[must_use]
    pub fn new(judged: &[Judged<'_>], kept_accuracy: f64) -> Self {
        let mut by_author: BTreeMap<String, Vec<&Judged<'_>>> = BTreeMap::new();
        for one in judged {
            by_author.entry(super::author(one.fixture).to_owned()).or_default().push(one);
        }
        let curve: Vec<KeptPoint> = (0..20).map(|step| kept_at(judged, step as f32 * 0.05)).collect();
        let threshold = curve.iter().find(|point| point.accuracy >= kept_accuracy).map_or(0.0, |point| point.threshold);
        Self {
            authors: by_author.iter().map(|(author, own)| (author.clone(), Figures::of(own))).collect(),
            all: Figures::of(&judged.iter().collect::<Vec<_>>()),
            curve,
            threshold: if judged.is_empty() { 0.0 } else { threshold },
            calibration_error: calibration_error(judged),
        }
    }

    /// As a table for people, in Markdown.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::from(
            "| left out | messages | accuracy | lost | unwanted interrupt | cost per 100 |\n|---|---|---|---|---|---|\n",
        );
        let rows = self.authors.iter().map(|(author, figures)| (author.as_str(), figures)).chain([("all", &self.all)]);
        for (author, figures) in rows {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "| {author} | {} | {:.1} % | {:.2} % | {:.1} % | {:.1} |",
                figures.messages,
                figures.accuracy * 100.0,
                figures.lost * 100.0,
                figures.unwanted_interrupt * 100.0,
                figures.cost_per_100
            );
        }
        text.push_str("\n| threshold | kept | right of these |\n|---|---|---|\n");
        for point in &self.curve {
            let mark = if (point.threshold - self.threshold).abs() < f32::EPSILON { " (chosen)" } else { "" };
            let _ = writeln!(
                text,
                "| {:.2}{mark} | {:.1} % | {:.1} % |",
                point.threshold,
                point.kept * 100.0,
                point.accuracy * 100.0
            );
        }
        let _ = writeln!(text, "\nExpected calibration error: {:.3}", self.calibration_error);
        text
    }
}

fn kept_at(judged: &[Judged<'_>], threshold: f32) -> KeptPoint {
    let kept: Vec<&Judged<'_>> = judged.iter().filter(|one| one.answer.confidence >= threshold).collect();
    KeptPoint {
        threshold,
        kept: kept.len() as f64 / judged.len().max(1) as f64,
        accuracy: kept.iter().filter(|one| one.right).count() as f64 / kept.len().max(1) as f64,
    }
}

fn calibration_error(judged: &[Judged<'_>]) -> f64 {
    let mut bins = [(0usize, 0.0f64, 0usize); 10];
    for one in judged {
        let bin = &mut bins[((one.answer.confidence * 10.0) as usize).min(9)];
        bin.0 += 1;
        bin.1 += f64::from(one.answer.confidence);
        bin.2 += usize::from(one.right);
    }
    let total = judged.len().max(1) as f64;
    bins.iter()
        .filter(|bin| bin.0 > 0)
        .map(|(count, confidence, right)| (confidence - *right as f64).abs() * (*count as f64 / total) / *count as f64)
        .sum()
}
