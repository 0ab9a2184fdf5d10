//! The pages for people are true: what they show is run, what they list is complete.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use busy_router::clock::Clock;
use busy_router::config::{EXAMPLE, Settings, Sources};
use busy_router::model::scripted::{Script, Scripted};
use busy_router::prepared::Prepared;
use busy_router::protocol::{Mode, RouteRequest, Rule, Validate};
use busy_router::router::Router;
use serde::Deserialize;
use serde_json::Value;

use crate::docs;
use crate::harness::{Start, assert_holds, assert_sound, program};

const README: &str = include_str!("../../README.md");
const DECISIONS: &str = include_str!("../../docs/decisions.md");
const CONFIGURATION: &str = include_str!("../../docs/configuration.md");
const GATEWAYS: &str = include_str!("../../docs/gateways.md");

/// Every page of the repository, with its path.
fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = Vec::new();
    for folder in ["", "docs", "fixtures", "fixtures/bench", "prompts", "integrations/hermes"] {
        let Ok(entries) = std::fs::read_dir(root.join(folder)) else { continue };
        for path in entries.map(|entry| entry.expect("an entry").path()) {
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = std::fs::read_to_string(&path).expect("a page");
                pages.push((path, text));
            }
        }
    }
    assert!(pages.len() >= 10, "{} pages", pages.len());
    pages
}

fn settings(toml: &str) -> Settings {
    Sources::default().load_text(toml).unwrap_or_else(|error| panic!("{error}\n{toml}")).settings
}

/// One decision of `docs/decisions.md`: what is asked, what the model says if it is asked, and a part of the answer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    request: Value,
    model: Option<Script>,
    answer: Value,
}

/// Decides like the service, in process: the model says what the example prescribes.
async fn decide(settings: &Settings, router: &Router, example: &Example) -> Value {
    let request: RouteRequest = serde_json::from_value(example.request.clone()).expect("a request");
    assert!(request.violations().is_empty(), "{}", example.request);
    let prepared = match &example.model {
        Some(script) => {
            let model = Arc::new(Scripted::new(script.clone(), settings.model.min_confidence));
            Prepared::with_model(settings.clone(), model, None)
        }
        None => Prepared::new(settings.clone(), &Clock::manual(), None),
    };
    let decision = router.route(&prepared.expect("settings that work"), &request).await;
    serde_json::to_value(decision).expect("JSON")
}

#[tokio::test]
async fn the_examples_of_the_order_of_decision() {
    let mut shown = Vec::new();
    let mut toml = String::new();
    for (language, content) in docs::blocks(DECISIONS) {
        match language.as_str() {
            // It applies to the next block of examples.
            "toml" => toml = content,
            "json" => {
                let mut settings = settings(&toml);
                if !toml.contains("mode = \"shadow\"") {
                    settings.mode = Mode::On;
                }
                let router = Router::new(Clock::manual());
                for example in serde_json::Deserializer::from_str(&content).into_iter::<Example>() {
                    let example = example.unwrap_or_else(|error| panic!("{error}\n{content}"));
                    let decision = decide(&settings, &router, &example).await;
                    assert_sound(&example.request, &decision);
                    assert_holds(&example.answer, &decision, &example.request.to_string());
                    let asked = decision["model_action"].is_string() || decision["decided_by"] == "fallback";
                    assert_eq!(example.model.is_some(), asked, "`model` stands where a model is asked: {decision}");
                    shown.push(decision["rule"].as_str().expect("a rule").to_owned());
                }
                toml.clear();
            }
            other => panic!("what is a block of {other}?"),
        }
    }
    // These need an endpoint and a certain history of calls, which tests of their own have.
    let told_only = [Rule::RateLimited, Rule::CircuitOpen, Rule::Overloaded];
    for rule in Rule::ALL {
        assert!(DECISIONS.contains(&format!("`{rule}`")), "docs/decisions.md does not know `{rule}`");
        assert!(told_only.contains(rule) || shown.iter().any(|shown| shown == rule.as_str()), "no example of `{rule}`");
    }
}

/// The rules stand in the table in the order in which they are tried.
#[test]
fn the_table_has_the_order_of_decision() {
    let table = DECISIONS.split_once("| # | rule |").expect("the table").1;
    let places: Vec<usize> =
        Rule::ALL.iter().map(|rule| table.find(&format!("`{rule}`")).unwrap_or_else(|| panic!("`{rule}` is missing"))).collect();
    assert!(places.is_sorted(), "{places:?}");
}

/// Every TOML block of every page is a configuration that works.
#[test]
fn settings_in_the_pages_are_accepted() {
    let mut count = 0;
    for (path, text) in pages() {
        for (_, toml) in docs::blocks(&text).into_iter().filter(|(language, _)| language == "toml") {
            let loaded = Sources::default().load_text(&toml);
            let loaded = loaded.unwrap_or_else(|error| panic!("{}: {error}\n{toml}", path.display()));
            assert!(loaded.warnings.is_empty(), "{}: {:?}\n{toml}", path.display(), loaded.warnings);
            Prepared::new(loaded.settings, &Clock::manual(), None)
                .unwrap_or_else(|error| panic!("{}: {error}\n{toml}", path.display()));
            count += 1;
        }
    }
    assert!(count >= 10, "{count} blocks");
}

/// The rows `| key | default | …` of each section are the settings of the example file with their values, no more and no fewer.
#[test]
fn every_setting_stands_in_the_page_with_its_default() {
    let mut documented = Vec::new();
    let mut section = String::new();
    for line in CONFIGURATION.lines() {
        if let Some(heading) = line.strip_prefix("### `[").and_then(|rest| rest.strip_suffix("]`")) {
            heading.clone_into(&mut section);
        }
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        if let [key, default, ..] = cells[..]
            && let Some(key) = key.strip_prefix('`').and_then(|key| key.strip_suffix('`'))
        {
            let default = default.trim_matches('`');
            documented.push(format!("{section}.{key} = {default}"));
        }
    }
    let mut real = Vec::new();
    let mut section = String::new();
    for line in EXAMPLE.lines() {
        let is_commented = line.starts_with("# ");
        let setting = line.strip_prefix("# ").unwrap_or(line).split(" # ").next().unwrap_or_default().trim();
        if let Some(name) = setting.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((key, value)) = setting.split_once(" = ")
            && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            // Free-form tables: their keys are the operator's.
            && !["ack.text.en", "commands.hermes", "[override]"].contains(&section.as_str())
            && !(section == "fallback" && is_commented)
        {
            let value = if is_commented { "none" } else { value };
            real.push(format!("{section}.{key} = {value}"));
        }
    }
    documented.sort();
    real.sort();
    assert!(real.len() > 40, "{} settings found", real.len());
    assert_eq!(documented, real);
    for cause in ["timeout", "model_error", "invalid_output", "rate_limited", "circuit_open", "overloaded"] {
        assert!(CONFIGURATION.contains(&format!("`{cause}`")), "{cause}");
    }
}

/// The calls of the pages, each to a fresh service in mode `on`, answer what the pages show.
#[tokio::test]
async fn the_calls_of_the_pages() {
    for (page, text) in [("README.md", README), ("docs/gateways.md", GATEWAYS)] {
        let service = Start::on("").start().await;
        let examples = docs::examples(text);
        assert!(!examples.is_empty(), "{page} shows no call");
        for (call, shown) in &examples {
            let answer = docs::perform(&service, call).await.ok();
            let mut shown = shown.clone().unwrap_or_else(|| panic!("{page}: a call without an answer"));
            let fields = shown.as_object_mut().expect("an object");
            if fields.contains_key("decision_id") {
                assert_eq!(fields.len(), answer.as_object().expect("an object").len(), "{page} shows the whole answer");
            }
            // What differs from time to time, and with every training.
            for field in ["decision_id", "latency", "confidence"] {
                fields.remove(field);
            }
            assert_holds(&shown, &answer, page);
        }
    }
}

/// The README's `route` prints what the README shows, but for the time it takes.
#[test]
fn the_glance_at_route() {
    let without_time = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split(" in ").next().unwrap_or_default().trim_end().to_owned()).collect()
    };
    let blocks = docs::blocks(README);
    let at = blocks.iter().position(|(language, _)| language == "text").expect("what route prints");
    let command = blocks[at - 1].1.trim().strip_prefix("cargo run --release -- ").expect("a command");
    let output = program().args(shell_words(command)).output().expect("the program runs");
    assert!(output.status.success());
    assert_eq!(without_time(&blocks[at].1), without_time(std::str::from_utf8(&output.stdout).expect("text")));
}

fn shell_words(command: &str) -> Vec<String> {
    let parts = command.split('\'').enumerate();
    parts
        .flat_map(|(index, part)| {
            // Every second part stood between quotes.
            if index % 2 == 1 { vec![part.to_owned()] } else { part.split_whitespace().map(str::to_owned).collect() }
        })
        .collect()
}

/// Links between pages lead somewhere, and nothing of the machine that a page was written on is in it.
#[test]
fn links_lead_somewhere_and_paths_are_the_repositorys() {
    for (path, text) in pages() {
        for word in ["/root/", "/home/", "/work/", "/Users/", "/tmp/"] {
            assert!(!text.contains(word), "{} holds {word}", path.display());
        }
        let folder = path.parent().expect("a folder");
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let linked = if file.is_empty() { path.clone() } else { folder.join(file) };
            assert!(linked.exists(), "{} links to {target}", path.display());
            if !heading.is_empty() {
                let text = std::fs::read_to_string(&linked).expect("a page");
                let headings: Vec<String> = text.lines().filter(|line| line.starts_with('#')).map(anchor).collect();
                assert!(headings.iter().any(|known| known == heading), "{} links to {target}", path.display());
            }
        }
    }
}

/// A heading as links name it.
fn anchor(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    words
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}
