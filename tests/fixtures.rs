//! What the benchmark's datasheet and the label guide promise of the fixtures, held case by case.
#![allow(clippy::expect_used, reason = "that is how a test fails")]

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::LazyLock;

use busy_router::guards::text::{Text, has_question_mark};
use busy_router::protocol::{Action, BusyState};
use busy_router::replay::fixture::{self, Fixture};

/// From here on two texts are near duplicates: the Jaccard similarity of their character 5-grams.
const NEAR: f64 = 0.6;
/// Letters of a gram.
const GRAM: usize = 5;
/// Shorter texts are alike by chance, in characters.
const SHORTEST_COMPARED: usize = 12;

static BENCH: LazyLock<Vec<Fixture>> = LazyLock::new(|| load("bench"));
static TRAIN: LazyLock<Vec<Fixture>> = LazyLock::new(|| load("train"));

fn load(folder: &str) -> Vec<Fixture> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(folder);
    fixture::load(&[folder]).expect("the fixtures load")
}

fn text(fixture: &Fixture) -> &str {
    &fixture.request.message.text
}

/// The text as far as it matters for likeness: without case, punctuation, emoji and invisible characters, unless nothing is left then.
fn normal(fixture: &Fixture) -> String {
    let Text { folded, phrase, .. } = Text::new(text(fixture));
    if phrase.is_empty() { folded } else { phrase }
}

#[test]
fn there_is_enough_of_it() {
    let texts: HashSet<&str> = TRAIN.iter().map(text).collect();
    let languages: HashSet<&str> = TRAIN.iter().filter_map(|fixture| fixture.lang.as_deref()).collect();
    assert!(texts.len() >= 15_000, "{} distinct texts to train on", texts.len());
    assert!(languages.len() >= 20, "{} languages to train on", languages.len());
    assert!(BENCH.len() >= 1_500, "{} cases in the benchmark", BENCH.len());
}

#[test]
fn ids_are_unique_across_all_files() {
    let mut seen = HashSet::new();
    for fixture in BENCH.iter().chain(TRAIN.iter()) {
        assert!(seen.insert(fixture.id.as_str()), "{} stands twice", fixture.id);
    }
}

#[test]
fn every_benchmark_case_is_labelled_and_has_its_context() {
    for fixture in BENCH.iter() {
        let id = &fixture.id;
        let with = |prefix: &str| fixture.tags.iter().filter(|tag| tag.starts_with(prefix)).count();
        assert!(fixture.lang.is_some(), "{id}: no language");
        assert_eq!(with("intent:"), 1, "{id}: one intent");
        assert_eq!(with("difficulty:"), 1, "{id}: one difficulty");
        assert!(fixture.tags.iter().any(|tag| !tag.contains(':')), "{id}: no category");
        let busy = &fixture.request.busy;
        assert!(!fixture.request.history.is_empty(), "{id}: nothing was said before");
        assert_eq!(busy.tool.is_some(), busy.state == BusyState::RunningTool, "{id}: a tool is there exactly if one runs");
        if busy.state.awaits_user() {
            assert!(busy.pending_question.as_deref().is_some_and(|question| !question.is_empty()), "{id}: what was asked?");
        }
        assert!(
            fixture.expect.any_of.is_some() && fixture.expect.none_of.is_some(),
            "{id}: what is right, and what must not be?"
        );
    }
}

/// What of the label guide's table a case breaks.
fn broken_rule(fixture: &Fixture) -> Option<&'static str> {
    use Action::{Ignore, Interrupt, PassThrough, Queue, Steer};
    let right = fixture.expect.any_of.as_deref().unwrap_or_default();
    let one_of = |actions: &[Action]| actions.iter().any(|action| right.contains(action));
    let forbids = |action| fixture.expect.forbids(action);
    let (rule, holds) = match fixture.intent()? {
        "stop" => ("a stop may interrupt, so never only queue, and is never lost", one_of(&[Interrupt]) && forbids(Ignore)),
        "corr" => ("a correction may interrupt or steer, and is never lost", one_of(&[Interrupt, Steer]) && forbids(Ignore)),
        "add" => ("an addition may be queued or steered, and is never lost", one_of(&[Queue, Steer]) && forbids(Ignore)),
        "new" => (
            "a request may be queued, destroys nothing and is never lost",
            one_of(&[Queue]) && forbids(Ignore) && forbids(Interrupt),
        ),
        "ans" => ("an answer is handed over or queued, and is never lost", one_of(&[PassThrough, Queue]) && forbids(Ignore)),
        "back" => ("chatter may be ignored and destroys nothing", one_of(&[Ignore]) && forbids(Interrupt)),
        "ping" => ("a ping may be queued and destroys nothing", one_of(&[Queue]) && forbids(Interrupt)),
        _ => ("the intent is one of the guide's seven", false),
    };
    (!holds).then_some(rule)
}

/// Messages that a person has judged otherwise: this one wants something, perhaps, and is no loss if nothing comes of it.
const JUDGED_OTHERWISE: [&str; 1] = ["I'm bored"];

#[test]
fn the_label_guide_holds() {
    for fixture in BENCH.iter().chain(TRAIN.iter()).filter(|fixture| !JUDGED_OTHERWISE.contains(&text(fixture))) {
        assert_eq!(broken_rule(fixture), None, "{}: {}", fixture.id, text(fixture));
    }
    // In the benchmark a question is never ignored, except where it is no question to the agent: talk between people, "oh really?".
    for fixture in BENCH.iter().filter(|fixture| has_question_mark(text(fixture)) && fixture.intent() != Some("back")) {
        assert!(fixture.expect.forbids(Action::Ignore), "{}: {}", fixture.id, text(fixture));
    }
}

#[test]
fn bench_and_train_share_no_text() {
    let bench: HashMap<String, &str> = BENCH.iter().map(|fixture| (normal(fixture), fixture.id.as_str())).collect();
    let shared: Vec<String> = TRAIN
        .iter()
        // A message that is media alone has no text to share.
        .filter(|fixture| !text(fixture).is_empty())
        .filter_map(|fixture| bench.get(&normal(fixture)).map(|other| format!("{} and {other}: {}", fixture.id, text(fixture))))
        .collect();
    assert!(shared.is_empty(), "{shared:#?}");
}

/// A text's grams.
type Grams = BTreeSet<[char; GRAM]>;

/// The grams of a text that is long enough to compare.
fn grams(fixture: &Fixture) -> Option<Grams> {
    let chars: Vec<char> = normal(fixture).chars().collect();
    (chars.len() >= SHORTEST_COMPARED).then(|| chars.windows(GRAM).filter_map(|gram| gram.try_into().ok()).collect())
}

#[test]
fn no_text_of_bench_is_nearly_one_of_train() {
    let bench: Vec<(&Fixture, Grams)> = BENCH.iter().filter_map(|fixture| Some((fixture, grams(fixture)?))).collect();
    let mut holders: HashMap<&[char; GRAM], Vec<usize>> = HashMap::new();
    for (index, (_, grams)) in bench.iter().enumerate() {
        for gram in grams {
            holders.entry(gram).or_default().push(index);
        }
    }
    let mut near = Vec::new();
    let mut common = vec![0_usize; bench.len()];
    for (fixture, grams) in TRAIN.iter().filter_map(|fixture| Some((fixture, grams(fixture)?))) {
        // Only texts that share a gram are ever compared, which are few.
        let mut met = Vec::new();
        for index in grams.iter().filter_map(|gram| holders.get(gram)).flatten() {
            if common[*index] == 0 {
                met.push(*index);
            }
            common[*index] += 1;
        }
        for index in met {
            let both = std::mem::take(&mut common[index]);
            let (other, others) = &bench[index];
            let likeness = both as f64 / (grams.len() + others.len() - both) as f64;
            if likeness >= NEAR {
                near.push(format!("{likeness:.2} {}: {} / {}: {}", fixture.id, text(fixture), other.id, text(other)));
            }
        }
    }
    assert!(near.is_empty(), "{near:#?}");
}
