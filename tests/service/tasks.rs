//! `POST /v1/tasks/status` and `POST /v1/tasks/completion`: in every mode, by every rule, and whatever arrives at once.

use std::collections::{HashMap, HashSet};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::docs;
use crate::harness::{Service, Start, assert_holds, changed, eventually, fresh};

const DOCS: &str = include_str!("../../docs/background-tasks.md");
const STATUS: &str = include_str!("../../fixtures/tasks/status.jsonl");
const COMPLETION: &str = include_str!("../../fixtures/tasks/completion.jsonl");

async fn expect(service: &Service, path: &str, request: &Value, expected: Value) -> Value {
    let answer = service.post(path, request).await.ok();
    assert_holds(&expected, &answer, &request.to_string());
    answer
}

async fn expect_status(service: &Service, request: &Value, expected: Value) -> Value {
    let answer = expect(service, "/v1/tasks/status", request, expected).await;
    for field in ["task_id", "session_id", "status", "terminal", "rule", "decided_by", "stale", "hint"] {
        assert!(answer.get(field).is_some(), "{field} is missing: {answer}");
    }
    assert_eq!(answer["task_id"], request["task_id"]);
    assert_eq!(answer["terminal"], matches!(answer["status"].as_str(), Some("completed" | "failed" | "cancelled")), "{answer}");
    answer
}

async fn expect_completion(service: &Service, request: &Value, expected: Value) -> Value {
    let answer = expect(service, "/v1/tasks/completion", request, expected).await;
    for field in ["delivery", "requires_handoff", "wake", "marker", "rule", "idempotency_key", "duplicate", "telemetry"] {
        assert!(answer.get(field).is_some(), "{field} is missing: {answer}");
    }
    assert_eq!(answer["marker"].is_object(), answer["delivery"] == "marker", "{answer}");
    let handed_over = answer["delivery"].as_str().is_some_and(|delivery| delivery.starts_with("parent_"));
    assert_eq!(answer["requires_handoff"], handed_over, "{answer}");
    if let Some(text) = answer["marker"]["text"].as_str() {
        assert!(text.chars().count() <= 200 && !text.contains('\n'), "{text}");
    }
    answer
}

fn status(evidence: Value) -> Value {
    json!({"task_id": fresh(), "session_id": "s", "evidence": evidence})
}

fn done(changes: Value) -> Value {
    let request = json!({"task": {"id": fresh(), "status": "completed", "kind": "subagent"}, "origin": {"chat": "direct"}});
    changed(&request, changes)
}

#[tokio::test]
async fn the_rules_of_status() {
    let service = Start::with("").start().await;
    let source = |source: &str, status: &str, more: Value| changed(&json!({"source": source, "status": status}), more);
    let age = |ms: u64| json!({"age_ms": ms});
    for (evidence, expected) in [
        (
            json!([source("run", "unfinished", json!({"age_ms": 45_000, "host_age_ms": 8_000}))]),
            json!({"status": "failed", "rule": "lost", "decided_by": "run"}),
        ),
        (json!([source("run", "unfinished", json!({"age_ms": 8_000, "host_age_ms": 45_000}))]), json!({"terminal": false})),
        (
            json!([source("session", "busy", age(100)), source("task", "completed", age(200))]),
            json!({"status": "running", "rule": "active_wins", "decided_by": "session", "stale": ["task"]}),
        ),
        (
            json!([source("heartbeat", "running", age(200)), source("task", "completed", age(200))]),
            json!({"status": "running", "rule": "active_wins"}),
        ),
        (
            json!([source("status_api", "running", age(300)), source("run", "completed", age(200))]),
            json!({"status": "completed", "rule": "session_terminal"}),
        ),
        (
            json!([source("session", "busy", json!({})), source("task", "completed", json!({}))]),
            json!({"status": "completed", "rule": "task_terminal"}),
        ),
        (
            json!([source("session", "ended", age(90_000)), source("task", "running", age(0))]),
            json!({"status": "completed", "rule": "session_terminal", "stale": ["task"]}),
        ),
        (
            json!([source("run", "aborted", json!({})), source("task", "running", age(0))]),
            json!({"status": "cancelled", "rule": "session_terminal", "stale": ["task"]}),
        ),
        (
            json!([source("task", "timed_out", json!({})), source("session", "idle", json!({}))]),
            json!({"status": "failed", "rule": "task_terminal", "decided_by": "task"}),
        ),
        (
            json!([source("session", "idle", json!({"has_output": true, "seen_busy": true}))]),
            json!({"status": "completed", "rule": "idle_with_output"}),
        ),
        (
            json!([source("session", "absent", json!({"has_output": true, "seen_busy": true, "open_todos": 2}))]),
            json!({"status": "unknown", "rule": "no_decision"}),
        ),
        (
            json!([source("session", "idle", json!({"has_output": true, "seen_busy": true, "open_todos": 2, "age_ms": 9_999}))]),
            json!({"status": "unknown"}),
        ),
        (
            json!([source("session", "idle", json!({"has_output": true, "seen_busy": true, "open_todos": 2, "age_ms": 10_000}))]),
            json!({"status": "completed", "rule": "idle_with_output"}),
        ),
        (json!([source("session", "idle", json!({"has_output": true}))]), json!({"status": "unknown", "rule": "no_decision"})),
        (
            json!([source("session", "absent", json!({"absent_polls": 3, "verified_missing": true}))]),
            json!({"status": "failed", "rule": "lost"}),
        ),
        (
            json!([source("session", "absent", json!({"absent_polls": 2, "verified_missing": true}))]),
            json!({"status": "unknown"}),
        ),
        (json!([source("session", "absent", json!({"absent_polls": 99}))]), json!({"status": "unknown"})),
        (json!([source("task", "working", json!({}))]), json!({"status": "running", "rule": "task_active"})),
        (json!([source("task", "submitted", json!({}))]), json!({"status": "pending", "rule": "task_active"})),
        (json!([source("task", "input-required", json!({}))]), json!({"status": "input_required", "rule": "task_active"})),
        (
            json!([source("task", "running", json!({})), source("status_api", "unavailable", json!({}))]),
            json!({"status": "unknown", "rule": "no_decision"}),
        ),
        (
            json!([source("task", "no such word", json!({}))]),
            json!({"status": "unknown", "rule": "no_decision", "decided_by": null}),
        ),
        (json!([]), json!({"status": "unknown", "terminal": false, "rule": "no_decision", "decided_by": null, "stale": []})),
    ] {
        let request = status(evidence);
        expect_status(&service, &request, expected.clone()).await;
        // The order of the reports does not count.
        let mut reversed = status(json!([]));
        reversed["evidence"] = request["evidence"].as_array().expect("evidence").iter().rev().cloned().collect();
        expect_status(&service, &reversed, expected).await;
    }
    // Words with more than one reading.
    for (word, meant) in [
        ("killed", "cancelled"),
        ("interrupt", "cancelled"),
        ("rejected", "failed"),
        ("refusal", "failed"),
        ("lost", "failed"),
        ("max_tokens", "failed"),
        ("MAX-TURN-REQUESTS", "failed"),
        ("canceled", "cancelled"),
    ] {
        expect_status(
            &service,
            &status(json!([{"source": "task", "status": word}])),
            json!({"status": meant, "rule": "task_terminal"}),
        )
        .await;
    }
    for word in ["ended", "closed", "deleted", "aborted", "finished"] {
        expect_status(
            &service,
            &status(json!([{"source": "session", "status": word}])),
            json!({"terminal": true, "rule": "session_terminal"}),
        )
        .await;
    }
}

/// oh-my-openagent 2387: five tasks whose registry says running, whose sessions have ended with their output.
#[tokio::test]
async fn five_tasks_that_ended_unseen() {
    let service = Start::with("").start().await;
    for n in 0..5 {
        let request = json!({"task_id": format!("bg_{n}"), "session_id": format!("ses_{n}"), "evidence": [
            {"source": "task", "status": "running", "age_ms": 0}, {"source": "session", "status": "ended", "age_ms": 900_000, "has_output": true}]});
        let answer =
            expect_status(&service, &request, json!({"status": "completed", "stale": ["task"], "rule": "session_terminal"}))
                .await;
        assert!(answer["hint"].as_str().is_some_and(|hint| hint.contains(&format!("ses_{n}"))), "{answer}");
    }
}

/// "This task was already found terminal here: that status, whatever comes later."
#[tokio::test]
async fn the_first_end_stays() {
    let service = Start::with("").start().await;
    let request = |task: &str, session: Value, word: &str| json!({"task_id": task, "session_id": session, "evidence": [{"source": "session", "status": word, "age_ms": 0}]});
    expect_status(&service, &request("t", json!("s"), "busy"), json!({"status": "running"})).await;
    expect_status(&service, &request("t", json!("s"), "failed"), json!({"status": "failed", "rule": "session_terminal"})).await;
    for word in ["busy", "completed", "idle", "cancelled", "who knows"] {
        expect_status(&service, &request("t", json!("s"), word), json!({"status": "failed", "rule": "first_terminal"})).await;
    }
    expect_status(
        &service,
        &json!({"task_id": "t", "session_id": "s", "evidence": []}),
        json!({"status": "failed", "rule": "first_terminal"}),
    )
    .await;
    // Another task, and the same id in another session.
    expect_status(&service, &request("u", json!("s"), "busy"), json!({"status": "running"})).await;
    expect_status(&service, &request("t", json!("other"), "busy"), json!({"status": "running"})).await;
    // Many at once, that contradict each other: one end for all.
    let requests: Vec<Value> =
        (0..64).map(|n| request("race", json!("s"), ["completed", "failed", "cancelled", "busy"][n % 4])).collect();
    join_all(requests.iter().map(|request| service.post("/v1/tasks/status", request))).await;
    let answers = join_all(requests.iter().map(|request| service.post("/v1/tasks/status", request))).await;
    let ends: HashSet<String> = answers.iter().map(|answer| answer.ok()["status"].to_string()).collect();
    assert_eq!(ends.len(), 1, "{ends:?}");
}

#[tokio::test]
async fn the_rules_of_completion() {
    let service = Start::with("").start().await;
    let parent = |busy: &str| json!({"parent": {"session_id": "p", "busy": busy}});
    expect_completion(
        &service,
        &done(json!({"notify": "silent"})),
        json!({"delivery": "none", "rule": "silent", "duplicate": false}),
    )
    .await;
    expect_completion(
        &service,
        &done(json!({"task": {"status": "working"}})),
        json!({"delivery": "none", "rule": "not_terminal"}),
    )
    .await;
    expect_completion(
        &service,
        &done(json!({"task": {"status": "who knows"}})),
        json!({"delivery": "none", "rule": "not_terminal"}),
    )
    .await;
    let progress = changed(&done(json!({"task": {"status": "working"}, "notify": "all"})), parent("idle"));
    expect_completion(&service, &progress, json!({"delivery": "parent_turn", "rule": "handoff"})).await;
    for (depth, max_depth, rule) in [
        (5, json!(null), "handoff"),
        (6, json!(null), "depth_exceeded"),
        (2, json!(1), "depth_exceeded"),
        (9, json!(9), "handoff"),
    ] {
        for chat in ["direct", "group"] {
            let request = changed(
                &done(json!({"task": {"depth": depth}, "max_depth": max_depth, "origin": {"chat": chat}})),
                parent("idle"),
            );
            let answer = expect_completion(
                &service,
                &request,
                json!({"rule": rule, "delivery": if rule == "handoff" { "parent_turn" } else { "marker" }}),
            )
            .await;
            assert!(answer["telemetry"]["note"].as_str().is_some_and(|note| !note.is_empty()));
        }
    }
    // A parent exists: never a raw marker.
    for chat in ["direct", "group", "channel", "thread"] {
        for (busy, delivery, wake) in [
            ("idle", "parent_turn", true),
            ("thinking", "parent_queue", false),
            ("streaming", "parent_queue", false),
            ("running_tool", "parent_queue", false),
            ("compacting", "parent_queue", false),
            ("awaiting_approval", "parent_queue", false),
            ("unknown", "parent_queue", true),
        ] {
            let request = changed(&done(json!({"origin": {"chat": chat}})), parent(busy));
            expect_completion(
                &service,
                &request,
                json!({"delivery": delivery, "rule": "handoff", "wake": wake, "marker": null, "requires_handoff": true}),
            )
            .await;
        }
        for parent in [json!({}), json!({"parent": null}), json!({"parent": {"session_id": "p", "exists": false}})] {
            let request = changed(&done(json!({"origin": {"chat": chat}, "task": {"summary": "Backup written."}})), parent);
            let answer =
                expect_completion(&service, &request, json!({"delivery": "marker", "rule": "parent_missing", "wake": false}))
                    .await;
            let text = answer["marker"]["text"].as_str().expect("a text");
            assert!(text.contains(request["task"]["id"].as_str().expect("an id")) && text.contains("completed"), "{text}");
            let away = changed(
                &done(json!({"origin": {"chat": chat, "deliverable": false}, "task": {"summary": "Backup written."}})),
                json!({}),
            );
            for _ in 0..2 {
                expect_completion(&service, &away, json!({"delivery": "none", "rule": "undeliverable", "duplicate": false, "telemetry": {"result": "Backup written."}})).await;
            }
        }
    }
    let long = done(json!({"task": {"id": "x".repeat(256), "outcome": "y".repeat(256), "summary": "ü\n".repeat(9_000)}}));
    expect_completion(&service, &long, json!({"delivery": "marker"})).await;
}

/// A busy parent is steered only where the operator lets it happen and its state allows it.
#[tokio::test]
async fn a_hand_off_into_the_running_turn() {
    let service = Start::with("[actions]\nsteer = \"execute\"").start().await;
    for (busy, delivery) in [
        ("thinking", "parent_steer"),
        ("streaming", "parent_steer"),
        ("running_tool", "parent_steer"),
        ("compacting", "parent_queue"),
        ("draining", "parent_queue"),
        ("stopping", "parent_queue"),
        ("awaiting_approval", "parent_queue"),
        ("idle", "parent_turn"),
    ] {
        let request = done(json!({"parent": {"session_id": "p", "busy": busy}}));
        expect_completion(&service, &request, json!({"delivery": delivery, "rule": "handoff"})).await;
    }
}

#[tokio::test]
async fn one_delivery_however_many_reports() {
    let service = Start::with("").start().await;
    for changes in [
        json!({}),
        json!({"origin": {"chat": "group"}, "parent": {"session_id": "p", "busy": "thinking"}}),
        json!({"task": {"depth": 9}}),
    ] {
        let request = done(changes);
        let answers = join_all((0..64).map(|_| service.post("/v1/tasks/completion", &request))).await;
        let answers: Vec<Value> = answers.iter().map(|answer| answer.ok()).collect();
        let delivered: Vec<&Value> = answers.iter().filter(|answer| answer["delivery"] != "none").collect();
        assert_eq!(delivered.len(), 1);
        assert_eq!(delivered[0]["duplicate"], false);
        assert!(
            answers
                .iter()
                .filter(|answer| answer["delivery"] == "none")
                .all(|answer| answer["duplicate"] == true && answer["rule"] == "already_delivered")
        );
        let keys: HashSet<String> = answers.iter().map(|answer| answer["idempotency_key"].to_string()).collect();
        assert_eq!(keys.len(), 1);
        // Another outcome or status is another result.
        for other in [json!({"task": {"outcome": "blocked"}}), json!({"task": {"status": "failed"}})] {
            let answer = service.post("/v1/tasks/completion", &changed(&request, other)).await.ok();
            assert_eq!(answer["duplicate"], false, "{answer}");
        }
        // The same status in another system's word is the same.
        let synonym =
            service.post("/v1/tasks/completion", &changed(&request, json!({"task": {"status": "succeeded"}}))).await.ok();
        assert_eq!(synonym["duplicate"], true, "{synonym}");
    }
}

/// "The task endpoints answer in every mode, `off` too."
#[tokio::test]
async fn the_task_endpoints_answer_in_every_mode() {
    for mode in ["off", "shadow", "on"] {
        let service = Start::with(&format!("mode = \"{mode}\"")).start().await;
        expect_status(&service, &status(json!([{"source": "session", "status": "ended"}])), json!({"status": "completed"})).await;
        let request = done(json!({}));
        expect_completion(&service, &request, json!({"delivery": "marker"})).await;
        expect_completion(&service, &request, json!({"delivery": "none", "duplicate": true})).await;
        let log = service.logged("task completion").await;
        assert!(
            log.contains("already_delivered")
                || eventually("the second line", async || service.log().contains("already_delivered").then_some(true)).await
        );
    }
}

/// Every example of the documentation, in its order, against the real service.
#[tokio::test]
async fn the_examples_of_the_documentation() {
    let service = Start::with("").start().await;
    let examples = docs::examples(DOCS);
    assert!(examples.len() >= 16, "{} examples", examples.len());
    let mut rules: HashMap<String, usize> = HashMap::new();
    for (call, expected) in &examples {
        let answer = docs::perform(&service, call).await.ok();
        assert_holds(expected.as_ref().expect("every example shows its answer"), &answer, &call.body);
        *rules.entry(answer["rule"].as_str().expect("a rule").to_owned()).or_default() += 1;
    }
    use busy_router::protocol::{CompletionRule, StatusRule};
    for rule in StatusRule::ALL.iter().map(|rule| rule.as_str()).chain(CompletionRule::ALL.iter().map(|rule| rule.as_str())) {
        assert!(rules.contains_key(rule), "no example of {rule}");
    }
}

/// The labelled cases, over HTTP.
#[tokio::test]
async fn the_fixtures() {
    let service = Start::with("").start().await;
    for (file, field, path) in
        [(STATUS, "task_status", "/v1/tasks/status"), (COMPLETION, "task_completion", "/v1/tasks/completion")]
    {
        for line in file.lines() {
            let fixture: Value = serde_json::from_str(line).expect("JSON");
            expect(&service, path, &fixture[field], fixture["expect"].clone()).await;
        }
    }
}
