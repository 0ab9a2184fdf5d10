//! What a decision may cost at most, counted in allocations: unlike times these are the same on every machine, so a change that makes the
//! common path dearer fails here. From the bytes of the body to the bytes of the answer, the log line included.
//!
//! A limit is the count that was measured when it was set, and 2: caches tidy up now and then. Where a limit had to go up, say why in the
//! commit that raises it; where a count went down, lower the limit.
#![allow(clippy::expect_used, reason = "a test without its service cannot go on")]

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use busy_router::clock::Clock;
use busy_router::config::Sources;
use busy_router::http::{App, Live, routes};
use busy_router::telemetry::json::JsonLines;
use http_body_util::BodyExt;
use tokio::runtime::Runtime;
use tower::ServiceExt;

/// Requests that fill caches, tables and buffers before anything is counted.
const WARM_UP: usize = 200;
const COUNTED: usize = 500;

struct Service {
    router: axum::Router,
    runtime: Runtime,
}

impl Service {
    fn new() -> Self {
        let line = tracing_subscriber::fmt().event_format(JsonLines).with_writer(std::io::sink).finish();
        // The tests of this binary share one.
        let _ = tracing::subscriber::set_global_default(line);
        let settings = Sources::default().load_text("mode = \"on\"").expect("loads").settings;
        let clock = Clock::manual();
        let app = App::new(Live::new(settings, &clock, None).expect("prepares"), clock);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { router: routes::router(Arc::new(app)), runtime }
    }

    /// Allocations a request, rounded; every answer must hold `expected`.
    fn allocations(&self, path: &str, expected: &str, body: impl Fn(usize) -> String) -> u64 {
        let request =
            |n| Request::post(path).header("content-type", "application/json").body(Body::from(body(n))).expect("a request");
        let ask = |request: Request<Body>| self.runtime.block_on(self.router.clone().oneshot(request)).expect("an answer");
        (0..WARM_UP).for_each(|n| drop(ask(request(n))));
        let requests: Vec<_> = (WARM_UP..WARM_UP + COUNTED).map(request).collect();
        let mut answers: Vec<Response> = Vec::with_capacity(COUNTED);
        let counted = allocation_counter::measure(|| answers.extend(requests.into_iter().map(ask)));
        for answer in answers {
            assert_eq!(answer.status(), StatusCode::OK);
            let body = self.runtime.block_on(answer.into_body().collect()).expect("a body").to_bytes();
            let body = String::from_utf8_lossy(&body);
            assert!(body.contains(expected), "{body}");
        }
        (counted.count_total + COUNTED as u64 / 2) / COUNTED as u64
    }

    fn of_message(&self, expected: &str, id: impl Fn(usize) -> String, text: impl Fn(usize) -> String) -> u64 {
        self.allocations("/v1/route", expected, |n| {
            format!(
                r#"{{"session":{{"id":"s","gateway":"hermes","platform":"telegram","chat":"direct","turn_id":"t","owner_id":"u"}},
                    "message":{{"id":"{}","text":"{}","sender_id":"u"}},
                    "busy":{{"state":"running_tool","elapsed_ms":48211,"tool":{{"name":"terminal","preview":"cargo test"}}}},
                    "history":[{{"role":"user","text":"Fix the login."}},{{"role":"assistant","text":"The tests are running."}}],
                    "capabilities":["interrupt","queue","ignore"]}}"#,
                id(n),
                text(n)
            )
        })
    }
}

fn numbered(n: usize) -> String {
    format!("m{n}")
}

#[track_caller]
fn assert_at_most(limit: u64, count: u64) {
    assert!(count <= limit, "{count} allocations, the limit is {limit}");
}

#[test]
fn a_command() {
    let count = Service::new().of_message("\"rule\":\"command\"", numbered, |n| format!("/status {n}"));
    assert_at_most(42, count);
}

#[test]
fn a_stop_phrase() {
    let count = Service::new().of_message("\"rule\":\"stop_phrase\"", numbered, |_| "STOP!!!".to_owned());
    assert_at_most(40, count);
}

#[test]
fn a_duplicate() {
    let count = Service::new().of_message("\"rule\":\"duplicate\"", numbered, |_| "please update the changelog too".to_owned());
    assert_at_most(51, count);
}

#[test]
fn a_redelivery() {
    let count =
        Service::new().of_message("\"replayed\":true", |_| "m".to_owned(), |_| "please update the changelog too".to_owned());
    assert_at_most(35, count);
}

#[test]
fn the_built_in_model() {
    let count =
        Service::new().of_message("\"model_action\":\"", numbered, |n| format!("could you also look at job {n}, it seems slow"));
    assert_at_most(63, count);
}

#[test]
fn the_status_of_a_task() {
    let body = |n| {
        format!(
            r#"{{"task_id":"t{n}","evidence":[{{"source":"session","status":"busy","age_ms":1}},{{"source":"task","status":"running"}}]}}"#
        )
    };
    let count = Service::new().allocations("/v1/tasks/status", "\"status\":\"running\"", body);
    assert_at_most(25, count);
}

#[test]
fn the_completion_of_a_task() {
    let body = |n| {
        format!(
            r#"{{"task":{{"id":"t{n}","status":"completed","kind":"subagent"}},"origin":{{"chat":"direct","session_id":"s"}},"parent":{{"session_id":"p","busy":"thinking"}}}}"#
        )
    };
    let count = Service::new().allocations("/v1/tasks/completion", "\"rule\":\"handoff\"", body);
    assert_at_most(38, count);
}
