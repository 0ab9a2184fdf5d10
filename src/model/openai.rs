//! Any endpoint that speaks the chat completions of `OpenAI`.
//!
//! One call, one deadline over all of it, no retry and no redirect. Everything that does not depend on the message is prepared once: the
//! address, the headers, and for each set of possible actions the request's body up to the message.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use reqwest::{Client, Method, Request, Response, StatusCode};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::answer::{self, LABELS};
use super::limits::{BreakerState, Limits};
use super::prompt::{self, Prompts};
use super::{Answer, Failure, Model, Question};
use crate::clock::Clock;
use crate::config::{self, ConfigError, StructuredOutput};
use crate::protocol::Action;

/// A longer answer is cut off, in bytes: the one wanted has fewer than a hundred, its envelope a few hundred.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Keys of the request that are the router's own: without them it would ask something else, or could not read the answer.
const OWN_KEYS: [&str; 3] = ["messages", "model", "stream"];

/// A model behind an OpenAI-compatible endpoint.
pub struct OpenAi {
    client: Client,
    url: Url,
    headers: HeaderMap,
    /// The constant parts of the request, without messages.
    body: Map<String, Value>,
    structured_output: StructuredOutput,
    prompts: Prompts,
    /// The frame for each set of labels, by their bits; made when it is first needed.
    frames: Box<[OnceLock<Frame>; 1 << LABELS.len()]>,
    limits: Limits,
    min_confidence: f32,
}

/// A request's body around the context, which is a part of a JSON string.
#[derive(Debug)]
struct Frame {
    before: String,
    after: String,
}

impl OpenAi {
    /// A client by the settings; the key is read from the environment now, and not again.
    ///
    /// # Errors
    /// A setting that is missing, the environment variable of the key if it is not set or cannot be a header, prompts that are missing or
    /// broken, a system without certificates for an `https://` endpoint.
    pub fn new(settings: &config::Model, clock: Clock) -> Result<Self, ConfigError> {
        Self::with_env(settings, clock, |name| std::env::var(name).ok())
    }

    fn with_env(settings: &config::Model, clock: Clock, env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let missing = |key: &str| ConfigError::of_key(key, "is needed by this provider");
        let base_url = settings.base_url.as_ref().ok_or_else(|| missing("model.base_url"))?;
        let model = settings.model.as_deref().ok_or_else(|| missing("model.model"))?;
        let client = client(settings, base_url)?;
        let mut request = request(settings, &client, base_url, env)?;
        Ok(Self {
            url: request.url().clone(),
            headers: std::mem::take(request.headers_mut()),
            client,
            body: constant_body(settings, model)?,
            structured_output: settings.structured_output,
            prompts: Prompts::load(settings.prompt_dir.as_deref(), settings.structured_output)?,
            frames: Box::new([const { OnceLock::new() }; 1 << LABELS.len()]),
            limits: Limits::new(settings, clock),
            min_confidence: settings.min_confidence,
        })
    }

    async fn call(&self, question: &Question<'_>) -> Result<Answer, Failure> {
        let mut request = Request::new(Method::POST, self.url.clone());
        *request.headers_mut() = self.headers.clone();
        *request.body_mut() = Some(self.request_body(question).into());
        let response = self.client.execute(request).await.map_err(|error| broken(&error))?;
        if !response.status().is_success() {
            return Err(refused_with(response.status().as_u16()));
        }
        answer::parse_completion(&read_body(response).await?, self.min_confidence)
    }

    fn request_body(&self, question: &Question<'_>) -> Vec<u8> {
        let frame = self.frame(&question.labels);
        let history: usize = question.history.iter().map(|(_, text)| text.len()).sum();
        // Room for the escapes of a usual message and for the words around it; more is found when it is needed.
        let context = question.text.len() + question.text.len() / 8 + history + 1024;
        let mut body = Vec::with_capacity(frame.before.len() + context + frame.after.len());
        body.extend_from_slice(frame.before.as_bytes());
        // A vector takes everything, and the context has no keys that JSON could not hold.
        let _ = prompt::write_context(InsideString(&mut body), question);
        body.extend_from_slice(frame.after.as_bytes());
        body
    }

    fn frame(&self, labels: &[Action]) -> &Frame {
        let mut bits = 0;
        for (bit, label) in LABELS.iter().enumerate() {
            bits |= usize::from(labels.contains(label)) << bit;
        }
        self.frames[bits].get_or_init(|| {
            let labels: Vec<Action> = LABELS.into_iter().filter(|label| labels.contains(label)).collect();
            self.make_frame(&labels)
        })
    }

    fn make_frame(&self, labels: &[Action]) -> Frame {
        let mut body = self.body.clone();
        let format = match self.structured_output {
            StructuredOutput::JsonSchema => Some(json!({"type": "json_schema", "json_schema": {
                "name": "decision",
                "strict": true,
                // The range of the confidence is left to the prompt and the parser: not every server knows `minimum`.
                "schema": {
                    "type": "object",
                    "properties": {"action": {"type": "string", "enum": labels}, "confidence": {"type": "number"}},
                    "required": ["action", "confidence"],
                    "additionalProperties": false
                }
            }})),
            StructuredOutput::JsonObject => Some(json!({"type": "json_object"})),
            StructuredOutput::None => None,
        };
        if let Some(format) = format {
            // The operator's `extra_body` wins here as elsewhere.
            body.entry("response_format").or_insert(format);
        }
        // Built as text, because the place of the context inside the last message must be known.
        let mut body = Value::Object(body).to_string();
        body.pop();
        let system = Value::from(self.prompts.system(labels));
        let (lead, tail) = self.prompts.around_context();
        let (lead, tail) = (inside_string(lead), inside_string(tail));
        Frame {
            before: format!(r#"{body},"messages":[{{"role":"system","content":{system}}},{{"role":"user","content":"{lead}"#),
            after: format!(r#"{tail}"}}]}}"#),
        }
    }
}

impl Model for OpenAi {
    fn ask<'a>(&'a self, question: &'a Question<'a>, deadline: Instant) -> BoxFuture<'a, Result<Answer, Failure>> {
        Box::pin(async move {
            let allowed = deadline.saturating_duration_since(Instant::now());
            if allowed.is_zero() {
                return Err(Failure::Timeout);
            }
            let permit = self.limits.admit(&question.session)?;
            let result = timeout_at(deadline, self.call(question)).await.unwrap_or(Err(Failure::Timeout));
            permit.settle(&result, allowed);
            result
        })
    }

    fn breaker_state(&self) -> Option<BreakerState> {
        Some(self.limits.breaker_state())
    }
}

/// Shows nothing that may hold a secret: headers, the address with its query, `extra_body`.
impl fmt::Debug for OpenAi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAi").field("host", &self.url.host_str()).field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// The failure that a status other than a success stands for.
pub(super) fn refused_with(status: u16) -> Failure {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("unknown");
    let hint = if (300..400).contains(&status) { "; redirects are not followed" } else { "" };
    Failure::Error(format!("the endpoint answered with status {status} ({reason}){hint}"))
}

/// The failure of a call that was broken off.
fn broken(error: &reqwest::Error) -> Failure {
    if error.is_timeout() {
        return Failure::Timeout;
    }
    let what = if error.is_connect() { "the endpoint cannot be reached" } else { "the connection to the endpoint broke" };
    Failure::Error(format!("{what}: {}", innermost(error)))
}

/// The deepest cause; the outer ones name the address, which may hold a key.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    while let Some(deeper) = cause.and_then(Error::source) {
        cause = Some(deeper);
    }
    cause.map_or_else(|| "no cause is given".to_owned(), ToString::to_string)
}

async fn read_body(mut response: Response) -> Result<Bytes, Failure> {
    let too_long = || Failure::InvalidOutput(format!("the answer is longer than {MAX_BODY_BYTES} bytes"));
    if response.content_length().is_some_and(|length| length > MAX_BODY_BYTES as u64) {
        return Err(too_long());
    }
    let mut body = Bytes::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| broken(&error))? {
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            return Err(too_long());
        }
        // A usual answer is one chunk and is not copied.
        body = if body.is_empty() { chunk } else { [body, chunk].concat().into() };
    }
    Ok(body)
}

fn client(settings: &config::Model, base_url: &Url) -> Result<Client, ConfigError> {
    crate::client::builder(base_url)
        .pool_max_idle_per_host(settings.max_concurrency)
        // The deadline ends a call, but a connection may go on being made for the next one: this ends that.
        .connect_timeout(Duration::from_millis(settings.timeout_ms))
        .build()
        .map_err(|error| ConfigError::of_key("model.base_url", format!("no client can be made: {}", innermost(&error))))
}

/// `base_url` with `/chat/completions` after its path; a query, such as an API version, stays.
fn completions_url(base_url: &Url) -> Result<Url, ConfigError> {
    let mut url = base_url.clone();
    url.path_segments_mut()
        .map_err(|()| ConfigError::of_key("model.base_url", "must be an address such as \"http://127.0.0.1:11434/v1\""))?
        .pop_if_empty()
        .extend(["chat", "completions"]);
    url.set_fragment(None);
    Ok(url)
}

/// The request without its body. Credentials in the address become a header, unless there is a key.
fn request(
    settings: &config::Model,
    client: &Client,
    base_url: &Url,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Request, ConfigError> {
    let mut request = client
        .post(completions_url(base_url)?)
        .build()
        .map_err(|error| ConfigError::of_key("model.base_url", format!("no request can be made: {}", innermost(&error))))?;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("busy-router/", env!("CARGO_PKG_VERSION"))));
    if let Some(name) = &settings.api_key_env {
        let error = |what: &str| ConfigError::of_key("model.api_key_env", format!("the environment variable {name} {what}"));
        // Keys that come from a file often end in a line break.
        let key = env(name).map(|key| key.trim().to_owned()).filter(|key| !key.is_empty()).ok_or_else(|| {
            error("is not set or empty; set it to the endpoint's key, or leave out `api_key_env` if there is none")
        })?;
        let mut bearer = HeaderValue::try_from(format!("Bearer {key}")).map_err(|_| error("holds signs that no key has"))?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
    }
    Ok(request)
}

fn constant_body(settings: &config::Model, model: &str) -> Result<Map<String, Value>, ConfigError> {
    let error = |message: String| ConfigError::of_key("model.extra_body", message);
    if let Some(key) = OWN_KEYS.into_iter().find(|key| settings.extra_body.contains_key(*key)) {
        return Err(error(format!("`{key}` is set by the router and cannot be changed here")));
    }
    let mut body = Map::new();
    body.insert("model".to_owned(), model.into());
    body.insert("temperature".to_owned(), 0.into());
    // The newer name of the same limit; endpoints that want it refuse the older one beside it.
    if !settings.extra_body.contains_key("max_completion_tokens") {
        body.insert("max_tokens".to_owned(), settings.max_output_tokens.into());
    }
    for (key, value) in &settings.extra_body {
        let value = serde_json::to_value(value).map_err(|cause| error(format!("`{key}` cannot be written as JSON: {cause}")))?;
        body.insert(key.clone(), value);
    }
    Ok(body)
}

/// A text as it stands inside a JSON string.
fn inside_string(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// Writes JSON into the inside of a JSON string. Compact JSON holds no control characters, so these two are all that needs an escape.
struct InsideString<'a>(&'a mut Vec<u8>);

impl io::Write for InsideString<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        for (at, byte) in bytes.iter().enumerate() {
            if matches!(byte, b'"' | b'\\') {
                self.0.extend_from_slice(&bytes[written..at]);
                self.0.push(b'\\');
                written = at;
            }
        }
        self.0.extend_from_slice(&bytes[written..]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "../../tests/support/upstream.rs"]
mod upstream;

#[cfg(test)]
mod tests {
    use super::upstream::{Act, Upstream};
    use super::*;
    use crate::config::Sources;
    use crate::protocol::RouteRequest;
    use proptest::prelude::*;

    const BASE: [Action; 3] = [Action::Interrupt, Action::Queue, Action::Ignore];
    /// For answers that come: far more than they take, even on a busy machine.
    const PATIENT: Duration = Duration::from_secs(20);
    /// For answers that do not come.
    const SHORT: Duration = Duration::from_millis(150);
    /// By when a call with the short limit has ended, even on a busy machine.
    const LATEST: Duration = Duration::from_millis(1500);

    fn settings(base_url: &str, more: &str) -> config::Model {
        let text =
            format!("[model]\nprovider = \"openai\"\nbase_url = \"{base_url}\"\nmodel = \"tiny\"\ntimeout_ms = 20000\n{more}");
        Sources::default().load_text(&text).expect("loads").settings.model
    }

    fn key(name: &str) -> Option<String> {
        (name == "THE_KEY").then(|| "sk-very-secret\n".to_owned())
    }

    fn model(base_url: &str, more: &str) -> OpenAi {
        OpenAi::with_env(&settings(base_url, more), Clock::manual(), key).expect("a model")
    }

    fn request(text: &str) -> RouteRequest {
        serde_json::from_value(json!({"session": {"id": "s"}, "message": {"text": text}, "busy": {"state": "thinking"}}))
            .expect("valid")
    }

    async fn ask(model: &OpenAi, within: Duration) -> Result<Answer, Failure> {
        let request = request("a secret message");
        model.ask(&Question::from_request(&request, BASE.to_vec()), Instant::now() + within).await
    }

    fn queue() -> Act {
        Act::answer("queue", 0.9)
    }

    #[tokio::test]
    async fn a_good_answer_is_an_answer() {
        let upstream = Upstream::start([queue(), Act::answer("interrupt", 0.4), queue().after(Duration::from_millis(30))]).await;
        let model = model(&upstream.base_url(), "");
        let answer = |action, confidence, abstains| Ok(Answer { action, confidence, abstains, suggestion: None });
        assert_eq!(ask(&model, PATIENT).await, answer(Action::Queue, 0.9, false));
        assert_eq!(ask(&model, PATIENT).await, answer(Action::Interrupt, 0.4, true));
        assert_eq!(ask(&model, PATIENT).await, answer(Action::Queue, 0.9, false));
        assert_eq!(ask(&model, PATIENT).await, answer(Action::Queue, 0.9, false));
        let connections: Vec<usize> = upstream.received().iter().map(|received| received.connection).collect();
        assert_eq!(connections, [0; 4], "the connection is kept");
    }

    #[tokio::test]
    async fn the_request_says_what_it_must() {
        let upstream = Upstream::start([queue()]).await;
        let more =
            "api_key_env = \"THE_KEY\"\n[model.extra_body]\nreasoning_effort = \"none\"\nseed = 7\noptions = { think = false }";
        let model = model(&format!("{}/?api-version=1", upstream.base_url()), more);
        let text = "quote \" backslash \\ break \n <|im_end|> ü 🙌 \u{2028} {context}";
        let mut request = request(text);
        request.history = serde_json::from_value(json!([{"role": "assistant", "text": "x \"y\""}])).expect("a history");
        let labels = vec![Action::Queue, Action::Steer, Action::Interrupt];
        model.ask(&Question::from_request(&request, labels), Instant::now() + PATIENT).await.expect("an answer");
        let received = upstream.received().remove(0);
        assert!(received.head.starts_with("POST /v1/chat/completions?api-version=1 HTTP/1.1\r\n"), "{}", received.head);
        assert_eq!(received.header("content-type"), Some("application/json"));
        assert_eq!(received.header("authorization"), Some("Bearer sk-very-secret"));
        assert_eq!(received.header("content-length"), Some(received.body.len().to_string().as_str()));
        let body = received.json();
        assert_eq!(body["model"], "tiny");
        assert_eq!(body["temperature"], 0);
        assert_eq!(body["max_tokens"], 40);
        assert_eq!(body["reasoning_effort"], "none");
        assert_eq!(body["seed"], 7);
        assert_eq!(body["options"], json!({"think": false}));
        assert_eq!(body["response_format"]["type"], "json_schema");
        let schema = &body["response_format"]["json_schema"];
        assert_eq!(schema["strict"], true);
        assert_eq!(schema["schema"]["properties"]["action"]["enum"], json!(["interrupt", "queue", "steer"]));
        assert_eq!(schema["schema"]["required"], json!(["action", "confidence"]));
        assert_eq!(schema["schema"]["additionalProperties"], false);
        let messages = body["messages"].as_array().expect("messages");
        assert_eq!((messages.len(), &messages[0]["role"], &messages[1]["role"]), (2, &json!("system"), &json!("user")));
        let system = messages[0]["content"].as_str().expect("a text");
        assert!(system.contains("\n- steer: ") && !system.contains("\n- ignore: "), "{system}");
        let user = messages[1]["content"].as_str().expect("a text");
        assert!(!user.contains("<|"), "{user}");
        let context: Value = serde_json::from_str(&user[user.find('{').expect("the context")..]).expect("the context is JSON");
        assert_eq!(context, json!({"state": "thinking", "history": [{"assistant": "x \"y\""}], "message": text}));
    }

    #[tokio::test]
    async fn servers_without_schemas_get_what_they_know() {
        let upstream = Upstream::start([queue()]).await;
        for (setting, expected) in [("json_object", json!({"type": "json_object"})), ("none", Value::Null)] {
            let more =
                format!("structured_output = \"{setting}\"\n[model.extra_body]\nmax_completion_tokens = 90\ntemperature = 1");
            ask(&model(&upstream.base_url(), &more), PATIENT).await.expect("an answer");
            let body = upstream.received().pop().expect("a request").json();
            assert_eq!(body["response_format"], expected, "{setting}");
            assert_eq!(
                (&body["max_completion_tokens"], &body["max_tokens"], &body["temperature"]),
                (&json!(90), &Value::Null, &json!(1))
            );
        }
        let forced = model(&upstream.base_url(), "[model.extra_body]\nresponse_format = { type = \"other\" }");
        ask(&forced, PATIENT).await.expect("an answer");
        assert_eq!(upstream.received().pop().expect("a request").json()["response_format"], json!({"type": "other"}));
    }

    #[tokio::test]
    async fn an_upstream_that_does_not_answer_in_time_is_a_timeout() {
        let partial = b"{\"choices\"".to_vec();
        for act in [
            Act::HangBeforeHeaders,
            Act::HangMidBody,
            Act::Trickle(Duration::from_millis(5)),
            queue().after(Duration::from_secs(10)),
            Act::Declares { length: 100, body: partial, close: false },
        ] {
            let upstream = Upstream::start([act.clone()]).await;
            let model = model(&upstream.base_url(), "");
            let started = Instant::now();
            assert_eq!(ask(&model, SHORT).await, Err(Failure::Timeout), "{act:?}");
            assert!(started.elapsed() >= SHORT && started.elapsed() < LATEST, "{act:?}: {:?}", started.elapsed());
            upstream.set(queue());
            ask(&model, PATIENT).await.expect("the next call is not disturbed");
        }
    }

    #[tokio::test]
    async fn a_call_without_time_is_not_made() {
        let upstream = Upstream::start([queue()]).await;
        assert_eq!(ask(&model(&upstream.base_url(), ""), Duration::ZERO).await, Err(Failure::Timeout));
        assert!(upstream.received().is_empty());
    }

    #[tokio::test]
    async fn an_upstream_that_fails_is_an_error_at_once() {
        let partial = b"{\"choices\"".to_vec();
        for (act, detail) in [
            (Act::Status(429), "429"),
            (Act::Status(500), "500"),
            (Act::Status(401), "401"),
            (Act::Status(302), "redirects are not followed"),
            (Act::Reset, "broke"),
            (Act::ResetMidBody, "broke"),
            (Act::Close, "broke"),
            (Act::Declares { length: 100, body: partial, close: true }, "broke"),
            (Act::Raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n".to_vec()), "broke"),
        ] {
            let upstream = Upstream::start([act.clone()]).await;
            let model = model(&upstream.base_url(), "api_key_env = \"THE_KEY\"");
            let Err(Failure::Error(text)) = ask(&model, PATIENT).await else { panic!("{act:?} is an error") };
            assert!(text.contains(detail), "{act:?}: {text}");
            assert!(!text.contains("secret") && !text.contains("127.0.0.1"), "{text}");
            assert_eq!(upstream.received().len(), 1, "{act:?}: no retry, no redirect");
            upstream.set(queue());
            ask(&model, PATIENT).await.expect("the next call is not disturbed");
        }
    }

    #[tokio::test]
    async fn an_upstream_that_cannot_be_reached_is_an_error() {
        let gone = Upstream::start([]).await.base_url();
        // The server went with its handle; a moment later its port refuses.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let Err(Failure::Error(text)) = ask(&model(&gone, ""), PATIENT).await else { panic!("nobody is there") };
        assert!(text.starts_with("the endpoint cannot be reached: "), "{text}");
    }

    #[tokio::test]
    async fn an_answer_that_is_not_the_object_is_invalid() {
        let say = |text: &str| Act::Say(text.to_owned());
        let good = r#"{"action":"queue","confidence":0.9}"#;
        for act in [
            say(&format!("Sure! {good}")),
            say("queue"),
            say(""),
            say(r#"{"action":"dance","confidence":0.9}"#),
            say(r#"{"action":"dispatch","confidence":0.9}"#),
            say(r#"{"action":"queue","confidence":9}"#),
            Act::Body(b"<html>not here</html>".to_vec()),
            Act::Body(Vec::new()),
            Act::Body(vec![0xff; 1000]),
            Act::Body(good.into()),
            Act::Body(vec![b' '; MAX_BODY_BYTES + 1]),
            Act::Status(204),
            Act::Endless,
            Act::Declares { length: 1 << 40, body: good.into(), close: false },
            Act::Declares { length: 20, body: br#"{"choices":[{"message":{"content":"x"}}]}"#.to_vec(), close: true },
        ] {
            let upstream = Upstream::start([act.clone()]).await;
            let model = model(&upstream.base_url(), "breaker = { failures = 1, open_s = 10 }");
            let started = Instant::now();
            let result = ask(&model, PATIENT).await;
            assert!(matches!(result, Err(Failure::InvalidOutput(_))), "{result:?}");
            assert!(started.elapsed() < PATIENT / 2);
            assert_eq!(model.breaker_state(), Some(BreakerState::Closed), "an answer, if not the one asked for");
            upstream.set(queue());
            ask(&model, PATIENT).await.expect("the next call is not disturbed");
        }
    }

    #[tokio::test]
    async fn a_slow_but_whole_answer_is_an_answer() {
        let upstream = Upstream::start([Act::Trickle(Duration::ZERO)]).await;
        assert_eq!(ask(&model(&upstream.base_url(), ""), PATIENT).await.map(|answer| answer.action), Ok(Action::Queue));
        let mut long = br#"{"choices":[{"message":{"content":"{\"action\":\"queue\",\"confidence\":1}"}}],"padding":""#.to_vec();
        long.resize(MAX_BODY_BYTES - 2, b'x');
        long.extend_from_slice(b"\"}");
        upstream.set(Act::Body(long));
        let model = model(&upstream.base_url(), "");
        assert_eq!(ask(&model, PATIENT).await.map(|answer| answer.action), Ok(Action::Queue), "exactly the limit");
    }

    #[tokio::test]
    async fn failures_open_the_breaker_and_a_probe_closes_it() {
        let upstream = Upstream::start([Act::Status(500), Act::Status(429), queue()]).await;
        let clock = Clock::manual();
        let settings = settings(&upstream.base_url(), "breaker = { failures = 2, open_s = 10 }");
        let model = OpenAi::new(&settings, clock.clone()).expect("a model");
        assert!(matches!(ask(&model, PATIENT).await, Err(Failure::Error(_))));
        assert!(matches!(ask(&model, PATIENT).await, Err(Failure::Error(_))));
        assert_eq!(model.breaker_state(), Some(BreakerState::Open));
        for _ in 0..3 {
            assert_eq!(ask(&model, PATIENT).await, Err(Failure::CircuitOpen));
        }
        assert_eq!(upstream.received().len(), 2, "it was left alone");
        clock.advance(Duration::from_secs(10));
        ask(&model, PATIENT).await.expect("the probe");
        assert_eq!(model.breaker_state(), Some(BreakerState::Closed));
    }

    #[tokio::test]
    async fn a_probe_that_is_cancelled_frees_the_breaker_and_the_slot() {
        let upstream = Upstream::start([Act::Status(500), Act::HangBeforeHeaders]).await;
        let clock = Clock::manual();
        let settings = settings(&upstream.base_url(), "max_concurrency = 1\nbreaker = { failures = 1, open_s = 10 }");
        let model = OpenAi::new(&settings, clock.clone()).expect("a model");
        assert!(matches!(ask(&model, PATIENT).await, Err(Failure::Error(_))));
        clock.advance(Duration::from_secs(10));
        // The caller goes away in the middle of the call.
        let probe = tokio::time::timeout(SHORT, ask(&model, PATIENT)).await;
        assert!(probe.is_err(), "it hangs");
        assert_eq!(upstream.received().len(), 2, "the probe went out");
        assert_eq!(model.breaker_state(), Some(BreakerState::HalfOpen));
        upstream.set(queue());
        ask(&model, PATIENT).await.expect("the next probe");
        assert_eq!(model.breaker_state(), Some(BreakerState::Closed));
    }

    #[tokio::test]
    async fn one_impatient_caller_does_not_open_the_breaker() {
        let upstream = Upstream::start([Act::HangBeforeHeaders]).await;
        let model = model(&upstream.base_url(), "breaker = { failures = 1, open_s = 10 }");
        assert_eq!(ask(&model, SHORT).await, Err(Failure::Timeout));
        assert_eq!(model.breaker_state(), Some(BreakerState::Closed));
        assert_eq!(ask(&model, Duration::from_millis(300)).await, Err(Failure::Timeout));
        assert_eq!(model.breaker_state(), Some(BreakerState::Open));
    }

    #[tokio::test]
    async fn a_call_without_a_free_slot_is_overloaded_at_once() {
        let upstream = Upstream::start([Act::HangBeforeHeaders]).await;
        let model = model(&upstream.base_url(), "max_concurrency = 2");
        let late = async {
            tokio::time::sleep(SHORT / 3).await;
            let started = Instant::now();
            (ask(&model, PATIENT).await, started.elapsed() < LATEST)
        };
        let (first, second, third) = tokio::join!(ask(&model, SHORT), ask(&model, SHORT), late);
        assert_eq!((first, second), (Err(Failure::Timeout), Err(Failure::Timeout)));
        assert_eq!(third, (Err(Failure::Overloaded), true));
        upstream.set(queue());
        ask(&model, PATIENT).await.expect("the slots are free again");
    }

    #[tokio::test]
    async fn the_budget_of_a_session_is_its_own() {
        let upstream = Upstream::start([queue()]).await;
        let model = model(&upstream.base_url(), "budget = { per_session_per_minute = 1 }");
        let mut request = request("x");
        for (session, admitted) in [("a", true), ("a", false), ("b", true)] {
            session.clone_into(&mut request.session.id);
            let result = model.ask(&Question::from_request(&request, BASE.to_vec()), Instant::now() + PATIENT).await;
            assert_eq!(result.is_ok(), admitted);
            if !admitted {
                assert_eq!(result, Err(Failure::RateLimited));
            }
        }
        assert_eq!(upstream.received().len(), 2);
    }

    #[test]
    fn wrong_settings_are_refused_by_name() {
        let error = |more: &str| {
            OpenAi::with_env(&settings("http://127.0.0.1:9/v1", more), Clock::manual(), |name| match name {
                "EMPTY" => Some(" \n".to_owned()),
                "BROKEN" => Some("sk-very\u{1}secret".to_owned()),
                _ => None,
            })
            .expect_err(more)
        };
        for (name, what) in [("NOT_SET", "is not set"), ("EMPTY", "is not set or empty"), ("BROKEN", "no key has")] {
            let error = error(&format!("api_key_env = \"{name}\""));
            assert_eq!(error.key, "model.api_key_env");
            assert!(error.message.contains(name) && error.message.contains(what), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        for key in OWN_KEYS {
            let error = error(&format!("[model.extra_body]\n{key} = true"));
            assert!(error.key == "model.extra_body" && error.message.contains(key), "{error}");
        }
        assert_eq!(error("prompt_dir = \"no/such/folder\"").key, "model.prompt_dir");
    }

    #[tokio::test]
    async fn secrets_are_not_shown() {
        let shown =
            format!("{:?}", model("http://user:sk-very-secret@127.0.0.1:9/v1?key=sk-very-secret", "api_key_env = \"THE_KEY\""));
        assert!(shown.contains("127.0.0.1") && !shown.contains("secret"), "{shown}");
        let model = model("http://127.0.0.1:9/v1", "api_key_env = \"THE_KEY\"");
        assert!(!format!("{:?}", model.headers).contains("secret"));
    }

    #[tokio::test]
    async fn credentials_in_the_address_are_sent_as_a_header() {
        let upstream = Upstream::start([queue()]).await;
        let address = upstream.base_url().replace("http://", "http://user:pass@");
        ask(&model(&address, ""), PATIENT).await.expect("an answer");
        assert_eq!(upstream.received()[0].header("authorization"), Some("Basic dXNlcjpwYXNz"));
    }

    #[test]
    fn loopback_is_known_in_every_form() {
        let is_local = |url: &str| crate::client::is_loopback(&Url::parse(url).expect("a URL"));
        for url in ["http://127.0.0.1:1", "http://127.9.9.9", "http://[::1]:80", "http://localhost/v1", "https://a.localhost"] {
            assert!(is_local(url), "{url}");
        }
        for url in ["http://10.0.0.1", "https://api.example.org", "http://localhost.example.org", "http://[fe80::1]"] {
            assert!(!is_local(url), "{url}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_message_stays_one_string_in_a_sound_request(text: String, bits in 0..1_usize << LABELS.len()) {
            let model = model("http://127.0.0.1:9/v1", "");
            let labels: Vec<Action> = LABELS.into_iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, label)| label).collect();
            let request = request(&text);
            let body: Value = serde_json::from_slice(&model.request_body(&Question::from_request(&request, labels.clone()))).expect("JSON");
            let messages = body["messages"].as_array().expect("messages");
            prop_assert_eq!(messages.len(), 2);
            prop_assert_eq!(&body["response_format"]["json_schema"]["schema"]["properties"]["action"]["enum"], &json!(labels));
            prop_assert_eq!(&messages[0]["content"], &json!(model.prompts.system(&labels)));
            let user = messages[1]["content"].as_str().expect("a text");
            let (lead, tail) = model.prompts.around_context();
            let context = user.strip_prefix(lead).and_then(|user| user.strip_suffix(tail)).expect("the template around it");
            prop_assert_eq!(serde_json::from_str::<Value>(context).expect("JSON"), json!({"state": "thinking", "message": text}));
        }
    }
}
