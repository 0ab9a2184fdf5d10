//! Has cases decided: in process, by whatever model the settings name, or by a running service.

use std::cell::LazyCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use reqwest::{StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use super::checkpoint::{Checkpoint, CheckpointError};
use super::fixture::{Case, Entry, Fixture};
use super::pace::Pace;
use super::record::{Outcome, Record};
use super::tasks::TaskQuestion;
use crate::client;
use crate::clock::Clock;
use crate::config::{ConfigError, Permission, Provider, Settings};
use crate::model::Question;
use crate::model::builtin::Builtin;
use crate::model::prompt::{self, Prompts};
use crate::model::scripted::Scripted;
use crate::prepared::Prepared;
use crate::protocol::route::MAX_SESSION_ID_CHARS;
use crate::protocol::{Action, Decision, Mode, RouteRequest};
use crate::router::Router;
use crate::tasks::TaskMemory;

/// A running service that has not answered by then never will: its own limit for a model's answer is at most ten minutes.
const LIVE_TIMEOUT: Duration = Duration::from_secs(610);
/// How often a service may say that it is too busy before the run is given up.
const MAX_BUSY_ANSWERS: u32 = 8;
/// Longest wait that a busy service may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);
/// A budget that no run uses up; see [`Target::in_process`].
const NO_BUDGET: u32 = 1_000_000;
/// Where a service decides on messages.
const ROUTE: &str = "/v1/route";

/// Why a run could not be finished. All of these are the caller's to mend, none is a miss.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The settings.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The checkpoint.
    #[error("{0}")]
    Checkpoint(#[from] CheckpointError),
    /// The service cannot be asked.
    #[error("{url}: {message}")]
    Service {
        /// What was asked.
        url: String,
        /// What is wrong, and how to mend it.
        message: String,
    },
    /// The service refused one case.
    #[error("case `{id}`: {message}")]
    Case {
        /// The case.
        id: String,
        /// What the service said.
        message: String,
    },
}

/// What decides.
#[derive(Debug)]
pub enum Target {
    /// A router in this process.
    InProcess(Box<Local>),
    /// A running service.
    Live(Box<Live>),
}

/// A router in this process.
#[derive(Debug)]
pub struct Local {
    prepared: Prepared,
    /// Tells apart which questions go past the built-in model.
    cascade: Option<Builtin>,
    /// Tokens of the instructions, estimated.
    prompts: u64,
}

/// A running service.
#[derive(Debug)]
pub struct Live {
    client: reqwest::Client,
    /// The service, without the path of an endpoint.
    url: Url,
    token: Option<String>,
    /// Begins every session, message and task id of this run: a memory that saw these cases before must not take them for duplicates.
    run: String,
    /// Tokens of the instructions, estimated.
    prompts: u64,
}

/// The tokens of what stands around the context.
fn instruction_tokens(model: &crate::config::Model) -> Result<u64, ConfigError> {
    let prompts = Prompts::load(model.prompt_dir.as_deref(), model.structured_output)?;
    let (before, after) = prompts.around_context();
    Ok([prompts.system(&[Action::Interrupt, Action::Queue, Action::Ignore]).as_str(), before, after]
        .map(text_tokens)
        .iter()
        .sum())
}

/// A token is about four signs of English or JSON, and about one sign of most other scripts.
fn text_tokens(text: &str) -> u64 {
    let ascii = text.chars().filter(char::is_ascii).count();
    let others = text.chars().count() - ascii;
    (ascii.div_ceil(4) + others) as u64
}

impl Target {
    /// A router in this process, in mode `on`.
    ///
    /// The budgets and the breaker of an endpoint are out of force: here one run asks what a deployment asks in weeks, at a pace of its
    /// own, and one hiccup must not turn the next cases into fallbacks.
    ///
    /// # Errors
    /// A setting that only shows to be wrong when it is used.
    pub fn in_process(mut settings: Settings) -> Result<Self, ConfigError> {
        settings.mode = Mode::On;
        settings.model.budget.per_minute = NO_BUDGET;
        settings.model.budget.per_session_per_minute = NO_BUDGET;
        settings.model.breaker.failures = u32::MAX;
        let cascade = (settings.model.provider == Provider::Cascade).then(Builtin::embedded).transpose()?;
        let prompts = instruction_tokens(&settings.model)?;
        Ok(Self::InProcess(Box::new(Local { prepared: Prepared::new(settings, &Clock::system(), None)?, cascade, prompts })))
    }

    /// A running service.
    ///
    /// # Errors
    /// An address that is none.
    pub fn live(address: &str, token: Option<String>) -> Result<Self, RunError> {
        let wrong = |message: String| RunError::Service { url: address.to_owned(), message };
        let mut url =
            Url::parse(address).map_err(|error| wrong(format!("is no URL ({error}); give one such as http://127.0.0.1:8710")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("must begin with http:// or https://".to_owned()));
        }
        let path = url.path().strip_suffix(ROUTE).unwrap_or(url.path()).trim_end_matches('/').to_owned();
        url.set_path(&path);
        let client = client::builder(&url).timeout(LIVE_TIMEOUT).build().map_err(|error| wrong(chain(&error)))?;
        let run = format!("replay-{}-", Uuid::now_v7().simple());
        let prompts = instruction_tokens(&Settings::example()?.model)?;
        Ok(Self::Live(Box::new(Live { client, url, token, run, prompts })))
    }

    /// What decides, in a few words for a report.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Live(live) => format!("service at {}", shown(&live.url)),
            Self::InProcess(local) => {
                let model = &local.prepared.settings.model;
                let name = model.model.as_deref().unwrap_or("?");
                let at = model.base_url.as_ref().map(shown).unwrap_or_default();
                match model.provider {
                    Provider::Builtin => "built-in model".to_owned(),
                    Provider::Openai => format!("{name} at {at}"),
                    Provider::Cascade => format!("built-in model, then {name} at {at}"),
                }
            }
        }
    }

    /// What decides, in full: two targets with the same identity give the same decisions, as far as settings tell.
    #[must_use]
    pub fn identity(&self) -> String {
        match self {
            Self::Live(live) => live.url.to_string(),
            Self::InProcess(local) => local.prepared.settings.redacted(),
        }
    }

    /// The tokens of what an endpoint is told of a case, estimated: the prompts of these settings (for a service, the embedded ones) around
    /// the case's context. The exact number is the endpoint's secret.
    #[must_use]
    pub fn prompt_tokens(&self, fixture: &Fixture) -> u64 {
        let prompts = match self {
            Self::InProcess(local) => &local.prompts,
            Self::Live(live) => &live.prompts,
        };
        let mut context = Vec::new();
        // A vector takes everything.
        let _ = prompt::write_context(&mut context, &Question::from_request(&fixture.request, Vec::new()));
        prompts + text_tokens(&String::from_utf8_lossy(&context))
    }

    /// Whether a decision has cost a call to an endpoint, as far as can be told from here.
    #[must_use]
    pub fn asked_endpoint(&self, fixture: &Fixture, outcome: &Outcome) -> bool {
        if outcome.model_us.is_none() || fixture.model.is_some() {
            return false;
        }
        match self {
            Self::Live(_) => true,
            Self::InProcess(local) => match (local.prepared.settings.model.provider, &local.cascade) {
                (Provider::Cascade, Some(first)) => first.propose(&Question::from_request(&fixture.request, Vec::new())).abstains,
                (provider, _) => provider != Provider::Builtin,
            },
        }
    }
}

/// A URL without credentials.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Both fail only for URLs that cannot carry credentials.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.to_string()
}

/// How to run.
#[derive(Debug)]
pub struct Options {
    /// Cases under way at one time; at least 1.
    pub concurrency: usize,
    /// At most so many questions a minute to a model endpoint or a service.
    pub pace: Option<Pace>,
    /// Where results are kept while they come in.
    pub checkpoint: Option<Checkpoint>,
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Finished {
    /// The records, each with the place of its case among those that were given, in their order.
    pub records: Vec<(usize, Record)>,
    /// Cases whose model answers are scripted and that a running service therefore cannot be asked.
    pub skipped: usize,
    /// Cases whose results came from the checkpoint.
    pub resumed: usize,
}

/// The places of the cases that must run one after another: the steps of a sequence, or one case alone.
type Unit = Vec<usize>;

/// Cases in units, by the place of the first of each. The steps of a sequence belong to one file: two files may use a name twice.
fn units(entries: &[Entry]) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    let mut sequences: HashMap<(&std::path::Path, &str), usize> = HashMap::new();
    for (index, entry) in entries.iter().enumerate() {
        let Some(name) = entry.case.sequence() else {
            units.push(vec![index]);
            continue;
        };
        let unit = *sequences.entry((entry.file.as_ref(), name)).or_insert_with(|| {
            units.push(Vec::new());
            units.len() - 1
        });
        if let Some(unit) = units.get_mut(unit) {
            unit.push(index);
        }
    }
    units
}

/// The cases that a selection leaves: those that bear one of `tags` (all, when none are given), and of these at most `limit`, spread evenly,
/// because files are often in the order of what they are about. A sequence is taken whole if one of its steps is selected: later steps mean
/// nothing without the earlier ones.
#[must_use]
pub fn select(entries: Vec<Entry>, tags: &[String], limit: Option<usize>) -> Vec<Entry> {
    let bears = |entry: &Entry| tags.is_empty() || entry.case.tags().iter().any(|tag| tags.contains(tag));
    let mut selected = units(&entries);
    selected.retain(|unit| unit.iter().any(|index| entries.get(*index).is_some_and(bears)));
    let cases: usize = selected.iter().map(Vec::len).sum();
    let limit = limit.unwrap_or(cases).min(cases);
    let mut kept = vec![false; entries.len()];
    let (mut passed, mut taken) = (0, 0);
    for unit in &selected {
        passed += unit.len();
        // As many as are due after the share of the cases that has passed.
        if taken + unit.len() <= passed * limit / cases.max(1) {
            taken += unit.len();
            for index in unit {
                if let Some(kept) = kept.get_mut(*index) {
                    *kept = true;
                }
            }
        }
    }
    entries.into_iter().zip(kept).filter(|(_, kept)| *kept).map(|(entry, _)| entry).collect()
}

/// Has all cases decided. `progress` hears of every case that is done.
///
/// # Errors
/// The first case that gets no decision; what was decided until then is in the checkpoint, if there is one.
pub async fn run(entries: &[Entry], target: &Target, options: Options, progress: impl Fn()) -> Result<Finished, RunError> {
    let Options { concurrency, pace, mut checkpoint } = options;
    let runner = Runner { entries, target, pace };
    let advance = |cases| (0..cases).for_each(|_| progress());
    let mut finished = Finished::default();
    let mut open: Vec<Unit> = Vec::new();
    for unit in units(entries) {
        let cases = || unit.iter().filter_map(|index| Some((*index, entries.get(*index)?)));
        if matches!(target, Target::Live(_))
            && cases().any(|(_, entry)| entry.case.message().is_some_and(|case| case.model.is_some()))
        {
            finished.skipped += unit.len();
            advance(unit.len());
            continue;
        }
        // A sequence is taken up whole or not at all: its memory is not in the checkpoint.
        let saved: Option<Vec<(usize, Record)>> = checkpoint
            .as_ref()
            .and_then(|saved| cases().map(|(index, entry)| Some((index, saved.result(entry)?.clone()))).collect());
        match saved {
            Some(records) => {
                finished.resumed += records.len();
                finished.records.extend(records);
                advance(unit.len());
            }
            None => open.push(unit),
        }
    }

    let mut results = stream::iter(open).map(|unit| runner.unit(unit)).buffer_unordered(concurrency.max(1));
    while let Some(records) = results.next().await {
        for (index, record) in records? {
            if let (Some(checkpoint), Some(entry)) = (&mut checkpoint, entries.get(index)) {
                checkpoint.save(entry, &record)?;
            }
            finished.records.push((index, record));
            progress();
        }
    }
    finished.records.sort_by_key(|(index, _)| *index);
    Ok(finished)
}

struct Runner<'a> {
    entries: &'a [Entry],
    target: &'a Target,
    pace: Option<Pace>,
}

/// What the steps of one unit share.
struct Shared {
    /// The memory: in process every unit has one of its own, on a clock that stands still, so that no window ever closes.
    router: Router,
    /// The memory of tasks; few units ask about any.
    tasks: LazyCell<TaskMemory>,
    /// The session id of a sequence: that of its first message.
    session: Option<String>,
    /// The place of the unit's first case: makes its sessions unique in a service's memory.
    number: usize,
}

impl Runner<'_> {
    async fn unit(&self, unit: Unit) -> Result<Vec<(usize, Record)>, RunError> {
        let cases: Vec<(usize, &Entry)> = unit.iter().filter_map(|index| Some((*index, self.entries.get(*index)?))).collect();
        let session = cases
            .iter()
            .filter(|(_, entry)| entry.case.sequence().is_some())
            .find_map(|(_, entry)| Some(entry.case.message()?.request.session.id.clone()));
        let shared = Shared {
            router: Router::new(Clock::manual()),
            tasks: LazyCell::new(TaskMemory::default),
            session,
            number: cases.first().map_or(0, |(index, _)| *index),
        };
        let mut records = Vec::with_capacity(cases.len());
        for (index, entry) in cases {
            records.push((index, self.one(entry, &shared).await?));
        }
        Ok(records)
    }

    async fn one(&self, entry: &Entry, shared: &Shared) -> Result<Record, RunError> {
        match &entry.case {
            Case::Message(fixture) => {
                let outcome = self.message(&entry.key, fixture, shared).await?;
                Ok(Record::of_message(&entry.key, fixture, outcome))
            }
            Case::Task(case) => {
                let answer = match self.target {
                    Target::InProcess(local) => case.question.answer(&shared.tasks, local.steers()),
                    Target::Live(live) => {
                        if let Some(pace) = &self.pace {
                            pace.take().await;
                        }
                        live.answer(&entry.key, &case.question, shared.number).await?
                    }
                };
                Ok(Record::of_task(&entry.key, case, &answer))
            }
        }
    }

    async fn message(&self, id: &str, fixture: &Fixture, shared: &Shared) -> Result<Outcome, RunError> {
        let mut request = fixture.request.clone();
        if let Some(session) = &shared.session {
            request.session.id.clone_from(session);
        }
        if let Some(pace) = &self.pace {
            pace.take().await;
        }
        let decision = match self.target {
            Target::InProcess(local) => local.decide(&shared.router, fixture, &request).await?,
            Target::Live(live) => live.decide(id, request, shared.number).await?,
        };
        let outcome = Outcome::from(&decision);
        if let Some(pace) = &self.pace
            && !self.target.asked_endpoint(fixture, &outcome)
        {
            pace.give_back();
        }
        Ok(outcome)
    }
}

impl Local {
    /// Whether a task's result may be injected into its parent's running turn.
    fn steers(&self) -> bool {
        self.prepared.settings.actions.steer == Permission::Execute
    }

    async fn decide(&self, router: &Router, fixture: &Fixture, request: &RouteRequest) -> Result<Decision, ConfigError> {
        match &fixture.model {
            None => Ok(router.route(&self.prepared, request).await),
            Some(script) => {
                let settings = self.prepared.settings.clone();
                let model = Scripted::new(script.clone(), settings.model.min_confidence);
                let prepared = Prepared::with_model(settings, Arc::new(model), Some(&self.prepared))?;
                Ok(router.route(&prepared, request).await)
            }
        }
    }
}

/// The parts of a problem document that help the one who reads them.
#[derive(Deserialize)]
struct Refusal {
    detail: String,
    #[serde(default)]
    errors: Vec<RefusedField>,
}

#[derive(Deserialize)]
struct RefusedField {
    pointer: String,
    detail: String,
}

impl Live {
    /// What begins the ids of one unit's cases.
    fn prefix(&self, number: usize) -> String {
        format!("{}{number}-", self.run)
    }

    async fn decide(&self, id: &str, mut request: RouteRequest, number: usize) -> Result<Decision, RunError> {
        let session = format!("{}{}", self.prefix(number), request.session.id);
        request.session.id = session.chars().take(MAX_SESSION_ID_CHARS).collect();
        request.message.id = request.message.id.map(|id| format!("{}{id}", self.run));
        let body = self.ask(id, ROUTE, &request).await?;
        serde_json::from_slice(&body)
            .map_err(|error| self.wrong(format!("answered something that is no decision ({error}); is it busy-router?")))
    }

    async fn answer(&self, id: &str, question: &TaskQuestion, number: usize) -> Result<Value, RunError> {
        let prefix = self.prefix(number);
        let body = match question.with_prefix(&prefix) {
            TaskQuestion::Status(request) => self.ask(id, question.path(), &request).await?,
            TaskQuestion::Completion(request) => self.ask(id, question.path(), &request).await?,
        };
        // The answer names the task in several places; the case knows it by its own name.
        let body = String::from_utf8_lossy(&body).replace(&prefix, "");
        let answer = serde_json::from_str(&body).map_err(|error| error.to_string());
        answer.and_then(|answer| question.check(&answer).map(|()| answer)).map_err(|error| {
            self.wrong(format!("answered something at {} that is no answer ({error}); is it busy-router?", question.path()))
        })
    }

    /// Asks until there is an answer other than "too busy".
    async fn ask(&self, id: &str, path: &str, request: &impl Serialize) -> Result<Bytes, RunError> {
        let mut busy_answers = 0;
        loop {
            let response = self.post(path, request).await?;
            let status = response.status();
            if status == StatusCode::TOO_MANY_REQUESTS && busy_answers < MAX_BUSY_ANSWERS {
                busy_answers += 1;
                let seconds = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
                tokio::time::sleep(Duration::from_secs(seconds.unwrap_or(1)).min(MAX_RETRY_AFTER)).await;
                continue;
            }
            let body = response.bytes().await.map_err(|error| self.wrong(chain(&error)))?;
            return if status.is_success() { Ok(body) } else { Err(self.refused(id, status, &body)) };
        }
    }

    async fn post(&self, path: &str, body: &impl Serialize) -> Result<reqwest::Response, RunError> {
        let mut url = self.url.clone();
        url.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
        let mut post = self.client.post(url).json(body);
        if let Some(token) = &self.token {
            post = post.bearer_auth(token);
        }
        post.send().await.map_err(|error| self.wrong(format!("cannot be asked: {}", chain(&error))))
    }

    fn refused(&self, id: &str, status: StatusCode, body: &[u8]) -> RunError {
        let said = serde_json::from_slice::<Refusal>(body).map_or_else(
            |_| String::new(),
            |refusal| {
                let fields = refusal.errors.iter().map(|error| format!("; {} {}", error.pointer, error.detail));
                format!(": {}{}", refusal.detail, fields.collect::<String>())
            },
        );
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                self.wrong(format!("answered {status}{said}; put a token of scope `route` into BUSY_ROUTER_TOKEN"))
            }
            StatusCode::UNPROCESSABLE_ENTITY | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::BAD_REQUEST => {
                RunError::Case { id: id.to_owned(), message: format!("the service answered {status}{said}") }
            }
            _ => self.wrong(format!("answered {status}{said}")),
        }
    }

    fn wrong(&self, message: String) -> RunError {
        RunError::Service { url: shown(&self.url), message }
    }
}

/// An error with its causes: reqwest's own words end before the one that matters.
fn chain(error: &reqwest::Error) -> String {
    let mut words = Vec::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(inner) = cause {
        words.push(inner.to_string());
        cause = inner.source();
    }
    match words.last() {
        Some(innermost) => innermost.clone(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::HashSet;
    use std::path::Path;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::body::Body;
    use axum::http::{HeaderMap, Response};
    use axum::routing::post;
    use serde_json::json;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::protocol::{CompletionRule, DecidedBy, Rule, StatusRule};
    use crate::replay::fixture::load_cases;

    fn entry(id: &str, text: &str, more: Value) -> Entry {
        let mut line = json!({
            "id": id, "expect": {"any_of": ["queue"]},
            "request": {"session": {"id": "s"}, "message": {"text": text, "id": "m"}, "busy": {"state": "thinking"}}
        });
        if let (Some(line), Value::Object(more)) = (line.as_object_mut(), more) {
            line.extend(more);
        }
        let case = Case::parse(&line.to_string()).expect("a valid case");
        Entry { key: id.to_owned(), file: Arc::from(Path::new("a.jsonl")), line: 1, case }
    }

    fn options() -> Options {
        Options { concurrency: 4, pace: None, checkpoint: None }
    }

    fn local() -> Target {
        Target::in_process(Settings::example().expect("the example parses")).expect("prepares")
    }

    fn outcome(record: &Record) -> &Outcome {
        &record.message.as_ref().expect("a message").outcome
    }

    fn no_id(text: &str) -> Value {
        json!({"sequence": "twice", "request": {"session": {"id": text}, "message": {"text": "also do the other thing"}, "busy": {"state": "thinking"}}})
    }

    #[tokio::test]
    async fn only_a_sequence_shares_a_memory_and_it_shares_a_session() {
        let entries = [
            entry("one", "", no_id("first")),
            entry("between", "and now something else", json!({})),
            entry("two", "", no_id("second")),
            entry("again", "and now something else", json!({})),
        ];
        let done = Cell::new(0);
        let finished = run(&entries, &local(), options(), || done.set(done.get() + 1)).await.expect("runs");
        let rules: Vec<Rule> = finished.records.iter().map(|(_, record)| outcome(record).rule).collect();
        assert_eq!(finished.records.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(rules[2], Rule::Duplicate, "{rules:?}");
        assert_ne!(rules[3], Rule::Duplicate, "{rules:?}");
        assert_eq!(done.get(), 4);
    }

    #[tokio::test]
    async fn a_script_answers_for_the_model() {
        let script = |model: Value| json!({"model": model, "request": {"session": {"id": "s"}, "message": {"text": "hmm, about that"}, "busy": {"state": "thinking"}}});
        let entries = [
            entry("a", "", script(json!({"action": "interrupt", "confidence": 0.9}))),
            entry("b", "", script(json!({"timeout": true}))),
            entry("c", "", script(json!({"action": "interrupt", "confidence": 0.1}))),
        ];
        let finished = run(&entries, &local(), options(), || {}).await.expect("runs");
        let outcomes: Vec<(Action, Rule)> =
            finished.records.iter().map(|(_, record)| (outcome(record).action, outcome(record).rule)).collect();
        assert_eq!(
            outcomes,
            [(Action::Interrupt, Rule::Model), (Action::Queue, Rule::Timeout), (Action::Queue, Rule::LowConfidence)]
        );
        assert!(!local().asked_endpoint(entries[0].case.message().expect("a message"), outcome(&finished.records[0].1)));
    }

    #[test]
    fn a_selection_keeps_sequences_whole() {
        let tagged = |id: &str, tags: Value, sequence: Value| entry(id, "x", json!({"tags": tags, "sequence": sequence}));
        let entries = || {
            vec![
                tagged("a", json!(["t"]), Value::Null),
                tagged("b", json!([]), json!("q")),
                tagged("c", json!(["u"]), Value::Null),
                tagged("d", json!(["t"]), json!("q")),
            ]
        };
        let ids = |entries: Vec<Entry>| entries.into_iter().map(|entry| entry.key).collect::<Vec<_>>();
        assert_eq!(ids(select(entries(), &["t".to_owned()], None)), ["a", "b", "d"]);
        assert_eq!(ids(select(entries(), &["t".to_owned()], Some(2))), ["b", "d"], "never a part of a sequence");
        let many = || (0..100).map(|id| tagged(&id.to_string(), json!([]), Value::Null)).collect::<Vec<_>>();
        assert_eq!(ids(select(many(), &[], Some(4))), ["24", "49", "74", "99"]);
        assert_eq!(select(many(), &[], Some(37)).len(), 37);
        assert_eq!(select(many(), &[], Some(1_000)).len(), 100);
        assert_eq!(select(entries(), &[], None).len(), 4);
        assert!(select(entries(), &["v".to_owned()], None).is_empty());
    }

    #[tokio::test]
    async fn a_run_goes_on_where_it_stopped() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run.jsonl");
        let open = |asked: &str| Checkpoint::open(&path, asked);
        let with = |checkpoint| Options { checkpoint: Some(checkpoint), ..options() };
        let target = local();
        let entries = [entry("a", "one", json!({})), entry("b", "two", json!({})), entry("c", "three", json!({}))];
        let first = run(&entries[..2], &target, with(open("x").expect("opens")), || {}).await.expect("runs");
        assert_eq!((first.records.len(), first.resumed), (2, 0));

        // A line that was cut off in the middle, and a case that was edited.
        let text = std::fs::read_to_string(&path).expect("reads");
        std::fs::write(&path, format!("{text}{{\"case\":\"12")).expect("written");
        let edited = [entries[0].clone(), entry("b", "two, edited", json!({})), entries[2].clone()];
        let second = run(&edited, &target, with(open("x").expect("opens")), || {}).await.expect("runs");
        assert_eq!((second.records.len(), second.resumed), (3, 1));
        assert_eq!(second.records[0].1, first.records[0].1, "latency and all");
        let third = run(&edited, &target, with(open("x").expect("opens")), || {}).await.expect("runs");
        assert_eq!((third.records.len(), third.resumed), (3, 3));
        assert_eq!(third.records[1].1.text, "two, edited");

        assert!(open("y").expect_err("refused").to_string().contains("is not of this router"));
        std::fs::write(&path, "something else\n").expect("written");
        assert!(open("x").is_err(), "a file that is no checkpoint is left alone");
    }

    #[tokio::test]
    async fn the_contract_holds_row_by_row() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        let entries = load_cases(&[fixtures.join("contract"), fixtures.join("tasks")]).expect("loads");
        assert!(entries.iter().all(|entry| entry.case.is_exact()));
        let finished = run(&entries, &local(), options(), || {}).await.expect("runs");
        let missed = finished.records.iter().filter(|(_, record)| !record.ok);
        let missed: Vec<String> =
            missed.map(|(_, case)| format!("{}: expected {}, got {}", case.id, case.expected, case.got)).collect();
        assert!(missed.is_empty(), "{missed:#?}");

        let tags: HashSet<&str> = entries.iter().flat_map(|entry| entry.case.tags()).map(String::as_str).collect();
        // Replays run in mode `on`, without budgets and without a breaker, so these never apply.
        let cannot_occur = [Rule::Disabled, Rule::RateLimited, Rule::CircuitOpen, Rule::Overloaded];
        let rules = Rule::ALL.iter().filter(|rule| !cannot_occur.contains(rule)).map(|rule| rule.as_str());
        let rules = rules.chain(StatusRule::ALL.iter().map(|rule| rule.as_str()));
        for rule in rules.chain(CompletionRule::ALL.iter().map(|rule| rule.as_str())) {
            assert!(tags.contains(rule), "no case of {rule}");
        }
    }

    #[tokio::test]
    async fn a_sequence_of_tasks_shares_a_memory() {
        let finished = run(&tasks(), &local(), options(), || {}).await.expect("runs");
        let got: Vec<(&str, bool)> = finished.records.iter().map(|(_, record)| (record.got.as_str(), record.ok)).collect();
        assert_eq!(got, TASK_ANSWERS);
        assert!(finished.records.iter().all(|(_, record)| record.message.is_none()));
    }

    /// A sequence of three questions about one task, and one question outside of it.
    fn tasks() -> Vec<Entry> {
        let asked = |id: &str, word: &str, sequence: Value, status: &str| {
            let line = json!({
                "id": id, "sequence": sequence, "expect": {"status": status, "task_id": "t"},
                "task_status": {"task_id": "t", "evidence": [{"source": "task", "status": word}]}
            });
            let case = Case::parse(&line.to_string()).expect("a valid case");
            Entry { key: id.to_owned(), file: Arc::from(Path::new("a.jsonl")), line: 1, case }
        };
        vec![
            asked("a", "cancelled", json!("q"), "cancelled"),
            asked("b", "running", Value::Null, "running"),
            asked("c", "running", json!("q"), "cancelled"),
            asked("d", "completed", json!("q"), "completed"),
        ]
    }

    const TASK_ANSWERS: [(&str, bool); 4] = [
        ("status cancelled, task_id t", true),
        ("status running, task_id t", true),
        ("status cancelled, task_id t", true),
        ("status cancelled, task_id t", false),
    ];

    #[tokio::test]
    async fn a_service_does_not_take_the_tasks_of_a_run_for_those_of_another() {
        let memory = Arc::new(TaskMemory::default());
        let handler = async move |body: Bytes| {
            let request = serde_json::from_slice(&body).expect("a status request");
            TaskQuestion::Status(request).answer(&memory, false).to_string()
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let url = format!("http://{}/behind/", listener.local_addr().expect("an address"));
        let tracker = TaskTracker::new();
        let service = axum::Router::new().route("/behind/v1/tasks/status", post(handler));
        tracker.spawn(async move { axum::serve(listener, service).await });
        for _ in 0..2 {
            let target = Target::live(&url, None).expect("a target");
            let finished = run(&tasks(), &target, options(), || {}).await.expect("runs");
            let got: Vec<(&str, bool)> = finished.records.iter().map(|(_, record)| (record.got.as_str(), record.ok)).collect();
            assert_eq!(got, TASK_ANSWERS);
        }
        let target = Target::live(&url.replace("behind", "elsewhere"), None).expect("a target");
        let said = run(&tasks(), &target, options(), || {}).await.expect_err("must fail").to_string();
        assert!(said.contains("404"), "{said}");
    }

    /// The tokens and bodies of requests, in their order.
    type Asked = Arc<Mutex<Vec<(Option<String>, Value)>>>;

    /// A service that answers what `answer` says of the number of the question, and remembers what it was asked.
    async fn service(answer: fn(usize) -> Response<Body>) -> (String, Asked, TaskTracker) {
        let asked = Asked::default();
        let (seen, number) = (asked.clone(), Arc::new(AtomicUsize::new(0)));
        let handler = move |headers: HeaderMap, body: Bytes| {
            let token = headers.get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
            seen.lock().expect("a lock").push((token, serde_json::from_slice(&body).expect("JSON")));
            let number = number.fetch_add(1, Ordering::SeqCst);
            async move { answer(number) }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let tracker = TaskTracker::new();
        tracker.spawn(async move { axum::serve(listener, axum::Router::new().route("/v1/route", post(handler))).await });
        (url, asked, tracker)
    }

    fn response(status: u16, body: &Value) -> Response<Body> {
        let response = Response::builder().status(status).header("retry-after", "0");
        response.body(Body::from(body.to_string())).expect("a response")
    }

    fn decision() -> Value {
        json!({
            "decision_id": "0191e9a0-0000-7000-8000-000000000000", "action": "pass_through", "decided_by": "guard", "rule": "stop_phrase",
            "reason": "r", "confidence": null, "model_action": null, "mode": "shadow", "suggested_action": null, "command": null,
            "shadow": {"action": "interrupt", "decided_by": "guard", "rule": "stop_phrase", "confidence": null, "suggested_action": null},
            "duplicate_of": null, "task_id": null, "expected_turn_id": null, "ack": null, "replayed": false,
            "latency": {"total_us": 7, "model_us": null}
        })
    }

    #[tokio::test]
    async fn a_service_is_asked_with_ids_of_this_run_only() {
        let (url, asked, _tracker) = service(|number| match number {
            0 => response(429, &json!({})),
            _ => response(200, &decision()),
        })
        .await;
        let entries = [
            entry("a", "one", json!({"sequence": "q"})),
            entry("scripted", "x", json!({"model": {"timeout": true}})),
            entry("b", "two", json!({"sequence": "q"})),
            entry("c", "three", json!({})),
        ];
        let target = || Target::live(&url, Some("secret".to_owned())).expect("a target");
        let one_by_one = || Options { concurrency: 1, ..options() };
        let finished = run(&entries, &target(), one_by_one(), || {}).await.expect("runs");
        assert_eq!((finished.records.len(), finished.skipped), (3, 1));
        let first = outcome(&finished.records[0].1);
        assert_eq!(
            (first.action, first.rule, first.decided_by),
            (Action::Interrupt, Rule::StopPhrase, DecidedBy::Guard),
            "the shadow decision"
        );
        run(&entries[3..], &target(), one_by_one(), || {}).await.expect("runs");

        let asked = asked.lock().expect("a lock");
        assert_eq!(asked.len(), 5, "the first was told to come again");
        assert!(asked.iter().all(|(token, _)| token.as_deref() == Some("Bearer secret")));
        let session = |index: usize| asked[index].1["session"]["id"].as_str().expect("an id").to_owned();
        let message = |index: usize| asked[index].1["message"]["id"].as_str().expect("an id").to_owned();
        assert_eq!(session(1), session(2), "one sequence, one session");
        assert_ne!(session(2), session(3));
        assert_ne!(session(3), session(4), "another run, another session");
        assert_ne!(message(3), message(4));
        assert!(message(3).ends_with("-m") && session(3).ends_with("-s"));
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_service_is_said() {
        let entries = [entry("a", "one", json!({}))];
        let error = async |url: &str| {
            let target = Target::live(url, None).expect("a target");
            run(&entries, &target, options(), || {}).await.expect_err("must fail").to_string()
        };
        let (url, ..) = service(|_| response(401, &json!({"detail": "a token is needed"}))).await;
        let said = error(&url).await;
        assert!(said.contains("401") && said.contains("a token is needed") && said.contains("BUSY_ROUTER_TOKEN"), "{said}");
        let (url, ..) =
            service(|_| response(422, &json!({"detail": "d", "errors": [{"pointer": "/p", "detail": "wrong"}]}))).await;
        let said = error(&url).await;
        assert!(said.contains("case `a`") && said.contains("/p wrong"), "{said}");
        let (url, ..) = service(|_| response(200, &json!({"hello": "world"}))).await;
        assert!(error(&url).await.contains("no decision"));
        let said = error("http://127.0.0.1:1").await;
        assert!(said.contains("cannot be asked") && said.contains("refused"), "{said}");
        assert!(Target::live("localhost:8710", None).expect_err("refused").to_string().contains("http://"));
    }
}
