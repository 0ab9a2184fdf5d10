//! Makes the built-in model's weights from labelled fixtures: the same input gives the same bytes, on every machine.
//!
//! A multinomial logistic regression over hashed marks, by Adagrad in a fixed order on one thread, averaged over a few runs. What is not
//! learnt but measured, the temperatures and the threshold, comes from messages by authors that the training did not see: every author
//! is left out once. `docs/builtin-model.md` says what was tried instead.

pub mod report;

use std::collections::BTreeMap;

use crate::model::Question;
use crate::model::builtin::{BUCKETS, Builtin, Intent, row, softmax};
use crate::model::features::{self, LENGTHS, Marks};
use crate::replay::fixture::Fixture;
use report::{CrossValidation, Judged};

/// How the training goes. The values were found on messages by authors that the training did not see.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Passes over all messages.
    pub epochs: usize,
    /// Step size of Adagrad.
    pub rate: f32,
    /// Share of the probability that is spread over all intents, because labels are sometimes wrong.
    pub smoothing: f32,
    /// Share of marks left out at random in every pass, so that no mark is relied on alone.
    pub dropout: f32,
    /// Runs in different orders whose weights are averaged.
    pub runs: u64,
    /// How much a composed or templated message counts beside a written one.
    pub composed_weight: f32,
    /// Taken from the votes for a stop, by the message's length. Two fifths of the training messages end the run; in
    /// sessions fewer do, long ones least of all, and destroyed work costs more than a missed stop.
    pub stop_caution: [f32; LENGTHS],
    /// Taken from the votes for a correction.
    pub correction_caution: [f32; LENGTHS],
    /// The model answers as long as it is sure enough that this share of its answers is right.
    pub kept_accuracy: f64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            epochs: 12,
            rate: 0.2,
            smoothing: 0.06,
            dropout: 0.3,
            runs: 8,
            composed_weight: 0.4,
            stop_caution: [0.0, 0.0, 0.3],
            correction_caution: [0.3, 0.3, 0.6],
            kept_accuracy: 0.8,
        }
    }
}

/// One message to learn from.
#[derive(Clone, Debug)]
struct Example<'a> {
    fixture: &'a Fixture,
    marks: Marks,
    intent: usize,
    weight: f32,
}

/// Why there is nothing to learn from.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// No fixture has an intent.
    #[error("none of the {0} fixtures has a tag `intent:…`; see fixtures/README.md")]
    NoIntents(usize),
    /// A tag that is no intent.
    #[error("{id}: `{word}` is not an intent; known are {}", Intent::ALL.map(Intent::as_str).join(", "))]
    UnknownIntent {
        /// The fixture.
        id: String,
        /// The word in its tag.
        word: String,
    },
}

/// A trained model, and how it did on messages by authors that it had not seen.
#[derive(Debug)]
pub struct Trained {
    /// The model.
    pub model: Builtin,
    /// Its cross-validation.
    pub validation: CrossValidation,
}

/// Trains a model. `progress` hears what is being done.
///
/// # Errors
/// No usable fixture.
pub fn train(fixtures: &[Fixture], plan: &Plan, mut progress: impl FnMut(&str)) -> Result<Trained, TrainError> {
    let examples = examples(fixtures, plan)?;
    let mut by_author: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, example) in examples.iter().enumerate() {
        by_author.entry(author(example.fixture)).or_default().push(index);
    }

    let mut held_out: Vec<Option<[f32; 7]>> = vec![None; examples.len()];
    if by_author.len() > 1 {
        for (author, own) in &by_author {
            progress(&format!("leaving out {author}: {} messages", own.len()));
            let others: Vec<&Example<'_>> = by_author
                .iter()
                .filter(|(name, _)| *name != author)
                .flat_map(|(_, all)| all)
                .map(|index| &examples[*index])
                .collect();
            // One run is enough to measure with.
            let model = fit(&others, &Plan { runs: 1, ..plan.clone() }).into_model(plan, [1.0; LENGTHS]);
            for index in own {
                held_out[*index] = Some(model.votes(&examples[*index].marks));
            }
        }
    }
    let temperatures = temperatures(&examples, &held_out);
    progress(&format!("training on all {} messages", examples.len()));
    let all: Vec<&Example<'_>> = examples.iter().collect();
    let mut model = fit(&all, plan).into_model(plan, temperatures);

    let judged: Vec<Judged<'_>> = examples
        .iter()
        .zip(&held_out)
        .filter_map(|(example, votes)| {
            let temperature = temperatures[example.marks.length_class()];
            let probabilities = softmax((*votes)?.map(|vote| vote / temperature));
            let question = Question::from_request(&example.fixture.request, Vec::new());
            let answer = model.decide(&question, &probabilities, true);
            Some(Judged::new(example.fixture, Intent::ALL[example.intent], answer))
        })
        .collect();
    let validation = CrossValidation::new(&judged, plan.kept_accuracy);
    model.threshold = validation.threshold;
    Ok(Trained { model, validation })
}

fn author(fixture: &Fixture) -> &str {
    fixture.tags.iter().find_map(|tag| tag.strip_prefix("author:")).unwrap_or("unknown")
}

fn examples<'a>(fixtures: &'a [Fixture], plan: &Plan) -> Result<Vec<Example<'a>>, TrainError> {
    let mut examples = Vec::with_capacity(fixtures.len());
    for fixture in fixtures {
        let Some(word) = fixture.intent() else { continue };
        let intent =
            Intent::from_word(word).ok_or_else(|| TrainError::UnknownIntent { id: fixture.id.clone(), word: word.to_owned() })?;
        let marks = features::marks(&Question::from_request(&fixture.request, Vec::new()));
        let written =
            !fixture.tags.iter().any(|tag| matches!(tag.as_str(), "origin:template" | "origin:composed" | "origin:aff"));
        let weight = if written { 1.0 } else { plan.composed_weight };
        examples.push(Example { fixture, marks, intent: intent as usize, weight });
    }
    if examples.is_empty() { Err(TrainError::NoIntents(fixtures.len())) } else { Ok(examples) }
}

/// A small generator whose numbers are the same everywhere (`SplitMix64`, by Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Fisher and Yates.
    fn shuffle(&mut self, order: &mut [usize]) {
        for last in (1..order.len()).rev() {
            order.swap(last, (self.next() % (last as u64 + 1)) as usize);
        }
    }
}

/// Weights while they are learnt.
struct Weights {
    table: Vec<[f32; 7]>,
    bias: [f32; 7],
}

fn fit(examples: &[&Example<'_>], plan: &Plan) -> Weights {
    let mut sum = Weights { table: vec![[0.0; 7]; BUCKETS], bias: [0.0; 7] };
    for run in 0..plan.runs {
        let weights = fit_once(examples, plan, run);
        let all = sum.table.iter_mut().zip(&weights.table).chain(std::iter::once((&mut sum.bias, &weights.bias)));
        for (sum, own) in all {
            for (sum, own) in sum.iter_mut().zip(own) {
                *sum += own / plan.runs as f32;
            }
        }
    }
    sum
}

/// One run of stochastic gradient descent with Adagrad (Duchi, Hazan and Singer, 2011): rare marks take large steps, common ones small.
fn fit_once(examples: &[&Example<'_>], plan: &Plan, run: u64) -> Weights {
    /// Squared gradients at the start, so that first steps are not too large.
    const CAUTION: f32 = 1e-2;
    let mut weights = Weights { table: vec![[0.0; 7]; BUCKETS], bias: [0.0; 7] };
    let mut squares = Weights { table: vec![[CAUTION; 7]; BUCKETS], bias: [CAUTION; 7] };
    let mut order: Vec<usize> = (0..examples.len()).collect();
    let mut random = Random(run);
    let mut kept: Vec<(u32, f32)> = Vec::new();
    for _ in 0..plan.epochs {
        random.shuffle(&mut order);
        for index in &order {
            let example = examples[*index];
            keep_some(&example.marks, plan.dropout, &mut random, &mut kept);
            let mut votes = weights.bias;
            for (bucket, norm) in &kept {
                for (vote, weight) in votes.iter_mut().zip(&weights.table[*bucket as usize]) {
                    *vote += weight * norm;
                }
            }
            let mut gradient = softmax(votes);
            for (intent, slope) in gradient.iter_mut().enumerate() {
                let target = plan.smoothing / 7.0 + if intent == example.intent { 1.0 - plan.smoothing } else { 0.0 };
                *slope = (*slope - target) * example.weight;
            }
            for (bucket, norm) in &kept {
                let bucket = *bucket as usize;
                step(&mut weights.table[bucket], &mut squares.table[bucket], &gradient, *norm, plan.rate);
            }
            step(&mut weights.bias, &mut squares.bias, &gradient, 1.0, plan.rate);
        }
    }
    weights
}

fn step(weights: &mut [f32; 7], squares: &mut [f32; 7], gradient: &[f32; 7], norm: f32, rate: f32) {
    for ((weight, square), slope) in weights.iter_mut().zip(squares).zip(gradient) {
        let slope = slope * norm;
        *square += slope * slope;
        *weight -= rate * slope / square.sqrt();
    }
}

/// A random share of the marks, each with the weight of its group.
fn keep_some(marks: &Marks, dropout: f32, random: &mut Random, kept: &mut Vec<(u32, f32)>) {
    let cut = (dropout * 65_536.0) as u64;
    kept.clear();
    let mut bits = 0;
    let mut drawn = 0;
    for group in marks.groups() {
        let start = kept.len();
        for bucket in group {
            if drawn % 4 == 0 {
                bits = random.next();
            }
            drawn += 1;
            if bits & 0xffff >= cut {
                kept.push((*bucket, 0.0));
            }
            bits >>= 16;
        }
        let norm = 1.0 / ((kept.len() - start).max(1) as f32).sqrt();
        for (_, weight) in &mut kept[start..] {
            *weight = norm;
        }
    }
}

impl Weights {
    /// Whole numbers from -127 to 127, without a threshold yet. The largest one in two thousand is cut: one outlier would cost all others
    /// their precision.
    fn into_model(self, plan: &Plan, temperatures: [f32; LENGTHS]) -> Builtin {
        let mut sizes: Vec<f32> = self.table.iter().flatten().map(|weight| weight.abs()).filter(|size| *size > 0.0).collect();
        sizes.sort_by(f32::total_cmp);
        let largest = sizes.get(sizes.len() - sizes.len() / 2_000 - 1).copied().unwrap_or(1.0);
        let scale = largest / 127.0;
        let table =
            self.table.iter().map(|votes| row(votes.map(|weight| (weight / scale).round().clamp(-127.0, 127.0) as i8))).collect();
        let bias = std::array::from_fn(|length| {
            let mut bias = self.bias;
            bias[Intent::Stop as usize] -= plan.stop_caution[length];
            bias[Intent::Correction as usize] -= plan.correction_caution[length];
            bias
        });
        Builtin { table, scale, bias, temperatures, threshold: 0.0 }
    }
}

/// For each class of length the temperature under which the true intents of unseen messages are least surprising.
fn temperatures(examples: &[Example<'_>], held_out: &[Option<[f32; 7]>]) -> [f32; LENGTHS] {
    let mut found = [1.0; LENGTHS];
    for (class, best) in found.iter_mut().enumerate() {
        let mut least = f64::INFINITY;
        for step in 8..=60 {
            let temperature = step as f32 * 0.05;
            let surprise: f64 = examples
                .iter()
                .zip(held_out)
                .filter(|(example, _)| example.marks.length_class() == class)
                .filter_map(|(example, votes)| {
                    let probability = softmax((*votes)?.map(|vote| vote / temperature))[example.intent].max(1e-9);
                    Some(-f64::from(libm::logf(probability)) * f64::from(example.weight))
                })
                .sum();
            if surprise > 0.0 && surprise < least {
                (least, *best) = (surprise, temperature);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(id: usize, author: &str, intent: &str, text: &str) -> Fixture {
        serde_json::from_value(serde_json::json!({
            "id": id.to_string(), "tags": [format!("intent:{intent}"), format!("author:{author}")],
            "request": {"session": {"id": "s"}, "message": {"text": text}, "busy": {"state": "thinking"}}, "expect": {}
        }))
        .expect("a fixture")
    }

    fn few() -> Vec<Fixture> {
        let texts = [
            ("stop", ["halt the run", "end this run now", "abort the run please"]),
            ("add", ["also add tests", "add a changelog too", "and add the docs"]),
            ("back", ["that is lovely", "how lovely", "lovely stuff"]),
        ];
        let authors = ["a", "b", "c"];
        let cases = texts
            .iter()
            .flat_map(|(intent, texts)| texts.iter().zip(authors).map(move |(text, author)| (*intent, *text, author)));
        cases.enumerate().map(|(id, (intent, text, author))| fixture(id, author, intent, text)).collect()
    }

    #[test]
    fn the_same_fixtures_give_the_same_bytes_and_a_model_that_has_learnt() {
        let plan = Plan { runs: 2, ..Plan::default() };
        let first = train(&few(), &plan, |_| {}).expect("trains").model;
        let second = train(&few(), &plan, |_| {}).expect("trains").model;
        assert!(first.to_bytes() == second.to_bytes());
        assert_eq!(Builtin::from_bytes(&first.to_bytes()).as_ref(), Ok(&first));
        for fixture in few() {
            let probabilities = first.probabilities(&Question::from_request(&fixture.request, Vec::new()));
            let best = (0..7).max_by(|a, b| probabilities[*a].total_cmp(&probabilities[*b])).expect("seven");
            assert_eq!(Intent::ALL[best].as_str(), fixture.intent().expect("an intent"), "{}", fixture.id);
        }
    }

    #[test]
    fn unusable_fixtures_are_named() {
        let error = train(&[fixture(1, "a", "shout", "x")], &Plan::default(), |_| {}).expect_err("refused");
        assert!(error.to_string().contains("`shout` is not an intent"), "{error}");
        assert!(matches!(train(&[], &Plan::default(), |_| {}), Err(TrainError::NoIntents(0))));
    }
}
