//! Starts the built program, talks to it, and ends it however the test ends.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::upstream::{Act, Upstream};
use crate::wire::{Address, Reply};

/// How long something that must happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked for.
const STEP: Duration = Duration::from_millis(5);

/// Waits until `probe` finds something.
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < until, "this never happened: {what}");
        tokio::time::sleep(STEP).await;
    }
}

/// The program, with nothing of this process's environment that could change what it does.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_busy-router"));
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy().to_uppercase();
        if name_text.starts_with("BUSY_ROUTER_") || name_text == "RUST_LOG" || name_text.ends_with("_PROXY") {
            command.env_remove(&name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Runs a command of the program to its end.
pub fn run(arguments: &[&str], env: &[(&str, &str)]) -> Output {
    program().args(arguments).envs(env.iter().copied()).output().expect("the program starts")
}

/// What a command wrote to standard output.
pub fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("text")
}

/// What a command wrote to standard error.
pub fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("text")
}

/// How a service shall be started.
pub struct Start {
    config: String,
    env: Vec<(String, String)>,
    arguments: Vec<String>,
    files: Vec<(String, String)>,
    listen: Option<String>,
}

impl Start {
    /// With this config file.
    pub fn with(config: &str) -> Self {
        Self { config: config.to_owned(), env: vec![], arguments: vec![], files: vec![], listen: Some("127.0.0.1:0".to_owned()) }
    }

    /// In mode `on`, with these sections.
    pub fn on(sections: &str) -> Self {
        Self::with(&format!("mode = \"on\"\n{sections}"))
    }

    /// In mode `on`, with an LLM behind `base_url`; `more` are settings of `[model]`, then other sections.
    pub fn llm(base_url: &str, more: &str) -> Self {
        let sections = more.lines().position(|line| line.starts_with('[')).unwrap_or(usize::MAX);
        let model: Vec<&str> = more.lines().take(sections).collect();
        let rest: Vec<&str> = more.lines().skip(sections).collect();
        Self::on(&format!(
            "[model]\nprovider = \"openai\"\nbase_url = \"{base_url}\"\nmodel = \"tiny\"\n{}\n{}\n",
            model.join("\n"),
            rest.join("\n")
        ))
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// A further file in the config's folder.
    pub fn file(mut self, name: &str, content: &str) -> Self {
        self.files.push((name.to_owned(), content.to_owned()));
        self
    }

    /// The address comes from the config or the environment instead of a flag.
    pub fn own_listener(mut self) -> Self {
        self.listen = None;
        self
    }

    /// Starts the service and waits until it says where it listens.
    pub async fn start(self) -> Service {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("busy-router.toml");
        std::fs::write(&config, &self.config).expect("written");
        self.start_in(folder, &config).await
    }

    /// The same with a config file that exists already.
    pub async fn start_in(self, folder: TempDir, config: &Path) -> Service {
        for (name, content) in &self.files {
            std::fs::write(folder.path().join(name), content).expect("written");
        }
        let mut command = program();
        command.arg("serve").arg("--config").arg(config).args(&self.arguments);
        if let Some(listen) = &self.listen {
            command.args(["--listen", listen]);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value))).current_dir(folder.path());
        Service::spawn(command, folder, config.to_owned()).await
    }
}

/// A running service. Dropped, it is killed.
pub struct Service {
    child: Child,
    log: Arc<Mutex<String>>,
    /// Where it listens, by its own words.
    pub address: Address,
    /// The folder of its config file.
    pub folder: TempDir,
    /// Its config file.
    pub config: PathBuf,
}

impl Service {
    async fn spawn(mut command: Command, folder: TempDir, config: PathBuf) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let log = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().expect("a pipe"));
        let sink = log.clone();
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let mut log = sink.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
        });
        let mut service = Self { child, log, address: Address::Tcp(String::new()), folder, config };
        service.address = eventually("the service says where it listens", async || {
            if let Ok(Some(status)) = service.child.try_wait() {
                panic!("the service ended with {status}: {}", service.log());
            }
            let log = service.log();
            let (_, said) = log.split_once("listening on ")?;
            let said = said.split(['"', '\n', ' ']).next()?;
            if let Some(path) = said.strip_prefix("unix:") {
                return Some(Address::unix(Path::new(path)));
            }
            Some(Address::Tcp(said.strip_prefix("http://")?.to_owned()))
        })
        .await;
        service
    }

    /// The address as a URL.
    pub fn url(&self) -> String {
        match &self.address {
            Address::Tcp(address) => format!("http://{address}"),
            Address::Unix(path) => panic!("{} has no URL", path.display()),
        }
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it has logged this; what it has logged by then.
    pub async fn logged(&self, needle: &str) -> String {
        eventually(&format!("{needle:?} in the log"), async || Some(self.log()).filter(|log| log.contains(needle))).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.address.send("POST", path, &[], body.to_string().as_bytes()).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.address.send("GET", path, &[], b"").await
    }

    /// The decision on a message; every decision must be complete and free of the message's text.
    pub async fn route(&self, request: &Value) -> Value {
        let decision = self.post("/v1/route", request).await.ok();
        assert_sound(request, &decision);
        decision
    }

    /// Decides a message and holds the decision to what is expected of it.
    pub async fn expect(&self, request: &Value, expected: Value) -> Value {
        let decision = self.route(request).await;
        assert_holds(&expected, &decision, &request.to_string());
        decision
    }

    /// Replaces the config file as an editor does: a new file takes the old one's name.
    pub fn write_config(&self, content: &str) {
        let new = self.folder.path().join(".new-config");
        std::fs::write(&new, content).expect("written");
        std::fs::rename(&new, &self.config).expect("renamed");
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        // `kill` is a built-in of every shell and not always a program.
        let status = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status().expect("a shell");
        assert!(status.success());
    }

    /// Waits until the process has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        eventually("the service ends", async || self.child.try_wait().expect("a child")).await
    }

    /// The value of a metric, by its name with labels.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let metrics = self.get("/metrics").await;
        metrics.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the service's log ---\n{}", self.log());
        }
    }
}

/// A service with an LLM that does `acts`, the last of them for ever.
pub async fn with_llm(acts: impl IntoIterator<Item = Act>, more: &str) -> (Service, Upstream) {
    let upstream = Upstream::start(acts).await;
    let service = Start::llm(&upstream.base_url(), more).start().await;
    (service, upstream)
}

/// An LLM that queues everything, with budgets that no test uses up.
pub async fn with_queueing_llm(more: &str) -> (Service, Upstream) {
    with_llm([Act::answer("queue", 0.9)], &format!("{GENEROUS}{more}")).await
}

/// Settings of `[model]` that keep limits out of a test's way.
pub const GENEROUS: &str = "timeout_ms = 20000\nbudget = { per_minute = 100000, per_session_per_minute = 100000 }\n";

/// A session id that no other request has.
pub fn fresh() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("session-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A message to a thinking Hermes agent in a session of its own, with `changes` laid over it.
pub fn message(text: &str, changes: Value) -> Value {
    let mut request = json!({
        "session": {"id": fresh(), "gateway": "hermes"}, "message": {"text": text}, "busy": {"state": "thinking"}
    });
    merge(&mut request, changes);
    request
}

/// Lays one JSON value over another: objects are merged, everything else is replaced.
pub fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

/// A copy with changes.
pub fn changed(request: &Value, changes: Value) -> Value {
    let mut request = request.clone();
    merge(&mut request, changes);
    request
}

/// Every expected field is in the answer with this value; objects are compared field by field.
#[track_caller]
pub fn assert_holds(expected: &Value, answer: &Value, what: &str) {
    fn difference(expected: &Value, answer: &Value, path: &str) -> Option<String> {
        match (expected, answer) {
            (Value::Object(expected), Value::Object(_)) => expected.iter().find_map(|(field, expected)| {
                difference(expected, answer.get(field).unwrap_or(&Value::Null), &format!("{path}/{field}"))
            }),
            // Numbers that are equal but for the precision of the wire.
            (Value::Number(expected), Value::Number(answer)) => {
                let close = (expected.as_f64()? - answer.as_f64()?).abs() < 1e-6;
                (!close).then(|| format!("{path} is {answer}, expected {expected}"))
            }
            _ => (expected != answer).then(|| format!("{path} is {answer}, expected {expected}")),
        }
    }
    if let Some(difference) = difference(expected, answer, "") {
        panic!("{difference}\nrequest: {what}\nanswer: {answer}");
    }
}

const DECISION_FIELDS: [&str; 17] = [
    "decision_id",
    "action",
    "decided_by",
    "rule",
    "reason",
    "confidence",
    "model_action",
    "mode",
    "shadow",
    "suggested_action",
    "command",
    "duplicate_of",
    "task_id",
    "expected_turn_id",
    "ack",
    "replayed",
    "latency",
];

/// What holds for every decision.
#[track_caller]
pub fn assert_sound(request: &Value, decision: &Value) {
    for field in DECISION_FIELDS {
        assert!(decision.get(field).is_some(), "{field} is missing: {decision}");
    }
    let id = decision["decision_id"].as_str().expect("an id");
    assert!(id.len() == 36 && id.as_bytes()[14] == b'7', "{id} is no UUIDv7");
    assert_eq!(decision["expected_turn_id"], request["session"]["turn_id"], "{decision}");
    let text = request["message"]["text"].as_str().unwrap_or_default();
    let reason = decision["reason"].as_str().expect("a reason");
    assert!(!reason.is_empty() && reason.ends_with('.'), "{reason}");
    // Short words occur in any sentence.
    assert!(text.chars().count() < 12 || !reason.contains(text), "the reason holds the text: {reason}");
    if let Some(ack) = decision["ack"].as_object() {
        assert_eq!(ack["key"], decision["action"], "an ack is true of the action: {decision}");
        assert!(ack["text"].as_str().is_some_and(|text| !text.is_empty()), "{decision}");
    }
    if decision["mode"] != "on" {
        assert_eq!((&decision["action"], &decision["ack"]), (&json!("pass_through"), &Value::Null), "{decision}");
    }
    assert_eq!(decision["shadow"].is_object(), decision["mode"] == "shadow", "{decision}");
    assert_eq!(decision["confidence"].is_null(), decision["model_action"].is_null(), "{decision}");
}
