//! The HTTP side: what is refused and how, who may ask, and what clients do to a connection.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::{
    GENEROUS, Service, Start, assert_holds, changed, eventually, message, program, run, stderr, stdout, with_llm,
};
use crate::upstream::Act;
use crate::wire::{Address, Reply, encode};

async fn post(service: &Service, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    service.address.send("POST", "/v1/route", headers, body).await
}

fn stop() -> Value {
    message("stop", json!({}))
}

fn stop_bytes() -> Vec<u8> {
    stop().to_string().into_bytes()
}

#[tokio::test]
async fn malformed_json_is_a_400() {
    let service = Start::on("").start().await;
    let good = stop().to_string();
    let bodies: [&[u8]; 12] = [
        b"",
        b" ",
        b"{",
        b"nope",
        b"{\"session\": {\"id\": 5}",
        &good.as_bytes()[..good.len() - 1],
        b"{} {}",
        b"\xef\xbb\xbf{}",
        b"{\"a\": NaN}",
        b"\xff\xfe{}",
        b"\0",
        b"{\"session\": {\"id\": \"a\0b\"}}",
    ];
    for body in bodies {
        let problem = post(&service, &[], body).await.problem(400, "malformed_json");
        assert!(problem.get("errors").is_none(), "{problem}");
    }
    let nested = [vec![b'['; 60_000], format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000)).into_bytes()];
    for body in nested {
        let reply = post(&service, &[], &body).await;
        assert!(matches!(reply.status, 400 | 422), "{}", reply.text());
    }
    service.expect(&stop(), json!({"action": "interrupt"})).await;
}

#[tokio::test]
async fn wrong_fields_are_a_422_with_their_pointers() {
    let service = Start::on("").start().await;
    let good = message("stop", json!({"message": {"media": [{"kind": "photo"}]}, "busy": {"tool": {"name": "x"}}}));
    for (changes, pointer) in [
        (json!({"session": null}), "/session"),
        (json!({"session": {"id": 5}}), "/session/id"),
        (json!({"session": {"id": null}}), "/session/id"),
        (json!({"session": {"id": ""}}), "/session/id"),
        (json!({"session": {"id": "x".repeat(257)}}), "/session/id"),
        (json!({"session": {"chat": "pub"}}), "/session/chat"),
        (json!({"message": {"text": null}}), "/message/text"),
        (json!({"message": {"text": "x".repeat(32_769)}}), "/message/text"),
        (json!({"message": {"text": "ü".repeat(16_385)}}), "/message/text"),
        (json!({"message": {"addressed": "yes"}}), "/message/addressed"),
        (json!({"message": {"media": [{"kind": "photo"}, {"kind": "smell"}]}}), "/message/media/1/kind"),
        (json!({"message": {"reply_to": {"from": "nobody"}}}), "/message/reply_to/from"),
        (json!({"busy": {"state": "bored"}}), "/busy/state"),
        (json!({"busy": {"state": null}}), "/busy/state"),
        (json!({"busy": {"elapsed_ms": -1}}), "/busy/elapsed_ms"),
        (json!({"busy": {"elapsed_ms": 1.5}}), "/busy/elapsed_ms"),
        (json!({"busy": {"tool": {"name": 1}}}), "/busy/tool/name"),
        (json!({"busy": {"evidence": [{"source": "dream", "status": "x"}]}}), "/busy/evidence/0/source"),
        (json!({"history": [{"role": "user", "text": "a"}, {"role": "system", "text": "b"}]}), "/history/1/role"),
        (json!({"capabilities": ["queue", "fly"]}), "/capabilities/1"),
        (json!({"default_action": "ignore"}), "/default_action"),
        (json!({"deadline_ms": "soon"}), "/deadline_ms"),
    ] {
        assert_eq!(service.post("/v1/route", &changed(&good, changes.clone())).await.pointers(), [pointer], "{changes}");
    }
    for (body, pointer) in [
        (json!({}), "/session"),
        (json!({"session": {"id": "s"}}), "/message"),
        (json!({"session": {"id": "s"}, "message": {}}), "/message/text"),
        (json!({"session": {}, "message": {"text": ""}, "busy": {"state": "idle"}}), "/session/id"),
        (json!({"session": {"id": "s"}, "message": {"text": ""}, "busy": {}}), "/busy/state"),
        (json!(5), ""),
        (json!(null), ""),
        (json!("x"), ""),
        (json!([]), ""),
    ] {
        assert_eq!(service.post("/v1/route", &body).await.pointers(), [pointer], "{body}");
    }
    // All limits that are broken are named at once.
    let both = changed(&good, json!({"session": {"id": ""}, "message": {"text": "x".repeat(32_769)}}));
    assert_eq!(service.post("/v1/route", &both).await.pointers(), ["/session/id", "/message/text"]);
    // The limits themselves are allowed; a character is not a byte.
    let limits = changed(&good, json!({"session": {"id": "ü".repeat(256)}, "message": {"text": "ü".repeat(16_384)}}));
    service.expect(&limits, json!({"mode": "on"})).await;
    // The task endpoints too.
    assert_eq!(service.post("/v1/tasks/status", &json!({"task_id": "", "evidence": []})).await.pointers(), ["/task_id"]);
    assert_eq!(
        service
            .post(
                "/v1/tasks/completion",
                &json!({"task": {"id": "t", "status": "done", "kind": "robot"}, "origin": {"chat": "direct"}})
            )
            .await
            .pointers(),
        ["/task/kind"]
    );
}

/// "Unknown request fields are ignored", and null is the same as left out.
#[tokio::test]
async fn a_gateway_may_be_newer_than_the_router() {
    let service = Start::on("").start().await;
    let newer = json!({"session": {"new": 1}, "message": {"new": {}, "media": null, "reply_to": null, "id": null}, "busy": {"new": [], "evidence": null, "tool": null},
        "new": {"deep": [[[]]]}, "history": null, "capabilities": null, "default_action": null, "deadline_ms": null});
    service.expect(&changed(&stop(), newer), json!({"action": "interrupt"})).await;
    // Text may hold any character, the strange ones too.
    let strange = "\u{0}\u{1}\u{7f}\u{fffe}\u{10ffff}\r\n\"\\ 💥 please do not mind the noise in this message";
    service.expect(&message(strange, json!({})), json!({"mode": "on"})).await;
    let deep = format!("{{\"new\":{}{},{}", "[".repeat(20_000), "]".repeat(20_000), &stop().to_string()[1..]);
    assert_eq!(post(&service, &[], deep.as_bytes()).await.ok()["action"], "interrupt");
}

#[tokio::test]
async fn too_large_a_body_is_a_413() {
    let service = Start::on("[server]\nmax_body_bytes = 1000").start().await;
    let of = |length: usize| {
        let mut body = stop_bytes();
        body.resize(length, b' ');
        body
    };
    assert_eq!(post(&service, &[], &of(1000)).await.ok()["action"], "interrupt");
    post(&service, &[], &of(1001)).await.problem(413, "body_too_large");
    // Declared, but never sent: nobody waits for it.
    let mut wire = service.address.connect().await;
    wire.raw(b"POST /v1/route HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99999999999\r\n\r\n")
        .await;
    wire.reply().await.expect("an answer").problem(413, "body_too_large");
    // Chunked, without a declared length.
    let chunked = |size: usize| {
        let mut bytes =
            b"POST /v1/route HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
                .to_vec();
        for chunk in of(size).chunks(300) {
            bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
            bytes.extend(chunk);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\n\r\n");
        bytes
    };
    for (size, status) in [(1000, 200), (1001, 413), (5000, 413)] {
        let mut wire = service.address.connect().await;
        wire.raw(&chunked(size)).await;
        assert_eq!(wire.reply().await.expect("an answer").status, status, "{size}");
    }
    // The default.
    let service = Start::on("").start().await;
    assert_eq!(post(&service, &[], &of(65_536)).await.ok()["action"], "interrupt");
    post(&service, &[], &of(65_537)).await.problem(413, "body_too_large");
}

#[tokio::test]
async fn what_is_not_declared_as_json_is_a_415() {
    let service = Start::on("").start().await;
    for kind in
        ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonp", "multipart/form-data; boundary=x", "json"]
    {
        post(&service, &[("content-type", kind)], &stop_bytes()).await.problem(415, "not_json");
    }
    for kind in ["application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json"] {
        assert_eq!(post(&service, &[("content-type", kind)], &stop_bytes()).await.ok()["action"], "interrupt", "{kind}");
    }
}

#[tokio::test]
async fn paths_and_methods() {
    let service = Start::on("").start().await;
    for path in ["/nothing", "/v1", "/v1/route/", "/v1/route/x", "//v1/route", "/v2/route", "/V1/ROUTE", "/v1/%2e%2e/metrics"] {
        for method in ["GET", "POST"] {
            service.address.send(method, path, &[], b"{}").await.problem(404, "not_found");
        }
    }
    for path in ["/v1/route", "/v1/tasks/status", "/v1/tasks/completion"] {
        for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"] {
            let reply = service.address.send(method, path, &[], b"").await;
            reply.problem(405, "method_not_allowed");
            assert_eq!(reply.header("allow"), Some("POST"), "{method} {path}");
        }
    }
    for path in ["/livez", "/readyz", "/metrics", "/openapi.json"] {
        let reply = service.address.send("POST", path, &[], b"{}").await;
        reply.problem(405, "method_not_allowed");
        assert_eq!(reply.header("allow"), Some("GET, HEAD"));
        assert_eq!(service.get(path).await.status, 200, "{path}");
    }
    let query = service.address.send("POST", "/v1/route?debug=1", &[], &stop_bytes()).await;
    assert_eq!(query.ok()["action"], "interrupt");
    assert_eq!(query.header("cache-control"), Some("no-store"), "a decision holds for once");
}

/// The router's own limit of requests under way.
#[tokio::test]
async fn too_many_at_once_are_a_429() {
    let (service, llm) = with_llm([Act::HangBeforeHeaders], &format!("{GENEROUS}[server]\nmax_in_flight = 2")).await;
    let mut waiting = Vec::new();
    for n in 1..=2 {
        let mut wire = service.address.connect().await;
        wire.request("POST", "/v1/route", &[], message("please look at this too", json!({})).to_string().as_bytes()).await;
        eventually("the request is with the LLM", async || (llm.received().len() == n).then_some(())).await;
        waiting.push(wire);
    }
    let reply = post(&service, &[], &stop_bytes()).await;
    reply.problem(429, "too_many_requests");
    assert!(reply.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok_and(|seconds| seconds > 0)));
    // Probes are not held up.
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(service.get(path).await.status, 200);
    }
    drop(waiting);
    eventually("the slots are free again", async || (post(&service, &[], &stop_bytes()).await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn while_draining_new_requests_are_a_503() {
    let (mut service, llm) = with_llm([Act::HangBeforeHeaders], GENEROUS).await;
    let mut waiting = service.address.connect().await;
    waiting.request("POST", "/v1/route", &[], message("please look at this too", json!({})).to_string().as_bytes()).await;
    eventually("the request is with the LLM", async || (!llm.received().is_empty()).then_some(())).await;
    let mut kept = service.address.connect().await;
    kept.request("POST", "/v1/route", &[], &stop_bytes()).await;
    assert_eq!(kept.reply().await.expect("an answer").ok()["action"], "interrupt");
    service.signal("TERM");
    service.logged("draining").await;
    for path in ["/v1/route", "/v1/tasks/status", "/v1/tasks/completion"] {
        let reply = service.post(path, &stop()).await;
        reply.problem(503, "draining");
        assert!(reply.header("retry-after").is_some());
    }
    kept.request("POST", "/v1/route", &[], &stop_bytes()).await;
    kept.reply().await.expect("an answer").problem(503, "draining");
    service.get("/readyz").await.problem(503, "draining");
    assert_eq!(service.get("/livez").await.status, 200, "it drains, but it lives");
    // The last one goes away: that was all there was to wait for.
    drop(waiting);
    assert_eq!(service.ended().await.code(), Some(0));
}

#[tokio::test]
async fn slow_clients() {
    let service = Start::on("[server]\nheader_timeout_ms = 200\nbody_timeout_ms = 200").start().await;
    // A head that does not end, byte by byte or not at all.
    let mut silent = service.address.connect().await;
    let mut half = service.address.connect().await;
    half.raw(b"POST /v1/route HTTP/1.1\r\nhost: x\r\ncontent-").await;
    let mut idle = service.address.connect().await;
    idle.request("POST", "/v1/route", &[], &stop_bytes()).await;
    assert_eq!(idle.reply().await.expect("an answer").status, 200);
    assert!(silent.is_closed().await, "a connection that says nothing");
    assert!(half.reply().await.is_none_or(|reply| reply.status == 408), "a head that does not end");
    assert!(idle.is_closed().await, "a connection that is not used any more");
    // A body that does not come, and one that drips.
    let head = b"POST /v1/route HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 400\r\n\r\n";
    let mut late = service.address.connect().await;
    late.raw(head).await;
    late.reply().await.expect("an answer").problem(408, "slow_body");
    let mut dripping = service.address.connect().await;
    dripping.raw(head).await;
    let drip = async {
        loop {
            dripping.raw(b" ").await;
            if let Ok(reply) = tokio::time::timeout(Duration::from_millis(20), dripping.reply()).await {
                break reply.expect("an answer");
            }
        }
    };
    drip.await.problem(408, "slow_body");
    service.expect(&stop(), json!({"action": "interrupt"})).await;
}

/// Connections that make no sense are ended; nobody else notices.
#[tokio::test]
async fn strange_clients() {
    let service = Start::on("").start().await;
    let json_head = "host: x\r\ncontent-type: application/json\r\n";
    let body = stop().to_string();
    for (what, bytes, allowed) in [
        ("no HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}".to_owned(), &[400][..]),
        ("words", "hello\r\n\r\n".to_owned(), &[400]),
        ("a huge header", format!("POST /v1/route HTTP/1.1\r\nx: {}\r\n{json_head}\r\n", "y".repeat(40_000)), &[431]),
        ("many headers", format!("GET /livez HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(500)), &[431]),
        ("a huge path", format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "y".repeat(40_000)), &[414, 431]),
        ("a length that is none", format!("POST /v1/route HTTP/1.1\r\n{json_head}content-length: many\r\n\r\n{body}"), &[400]),
        ("a negative length", format!("POST /v1/route HTTP/1.1\r\n{json_head}content-length: -5\r\n\r\n{body}"), &[400]),
        (
            "two lengths",
            format!("POST /v1/route HTTP/1.1\r\n{json_head}content-length: 5\r\ncontent-length: 6\r\n\r\n{body}"),
            &[400],
        ),
        (
            "a broken chunk",
            format!("POST /v1/route HTTP/1.1\r\n{json_head}transfer-encoding: chunked\r\n\r\nzz\r\n{body}"),
            &[400],
        ),
        (
            "a body cut short by its length",
            format!("POST /v1/route HTTP/1.1\r\n{json_head}content-length: {}\r\n\r\n{body}", body.len() - 3),
            &[400],
        ),
        ("HTTP/2 by prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), &[400, 505]),
    ] {
        let mut wire = service.address.connect().await;
        wire.raw(bytes.as_bytes()).await;
        let reply = wire.reply().await;
        assert!(reply.as_ref().is_none_or(|reply| allowed.contains(&reply.status)), "{what}: {reply:?}");
    }
    // One that promises more than it sends and goes.
    let mut gone = service.address.connect().await;
    gone.raw(format!("POST /v1/route HTTP/1.1\r\n{json_head}content-length: 4000\r\n\r\n{body}").as_bytes()).await;
    drop(gone);
    service.expect(&stop(), json!({"action": "interrupt"})).await;
}

#[tokio::test]
async fn connections_are_kept_and_answers_come_in_order() {
    let service = Start::on("").start().await;
    let mut wire = service.address.connect().await;
    for _ in 0..50 {
        wire.request("POST", "/v1/route", &[], &stop_bytes()).await;
        assert_eq!(wire.reply().await.expect("an answer").ok()["action"], "interrupt");
        // A refusal does not cost the connection.
        wire.request("POST", "/v1/route", &[], b"{}").await;
        wire.reply().await.expect("an answer").problem(422, "invalid_field");
    }
    // Several in one piece.
    let piece: Vec<u8> = (0..10)
        .flat_map(|n| {
            encode(
                "POST",
                "/v1/route",
                &[],
                changed(&stop(), json!({"session": {"turn_id": n.to_string()}})).to_string().as_bytes(),
            )
        })
        .collect();
    wire.raw(&piece).await;
    for n in 0..10 {
        assert_eq!(wire.reply().await.expect("an answer").ok()["expected_turn_id"], n.to_string());
    }
    // One that asks before it sends the body.
    wire.raw(&encode(
        "POST",
        "/v1/route",
        &[("expect", "100-continue"), ("content-length", &stop_bytes().len().to_string())],
        b"",
    ))
    .await;
    assert_eq!(wire.reply().await.expect("an answer").status, 100);
    wire.raw(&stop_bytes()).await;
    assert_eq!(wire.reply().await.map(|reply| reply.status), Some(200));
    // One that does not want to be kept, and one of an older time.
    wire.request("POST", "/v1/route", &[("connection", "close")], &stop_bytes()).await;
    assert_eq!(wire.reply().await.expect("an answer").status, 200);
    assert!(wire.is_closed().await);
    let mut old = service.address.connect().await;
    old.raw(b"GET /livez HTTP/1.0\r\n\r\n").await;
    assert_eq!(old.reply().await.expect("an answer").text(), "ok\n");
    assert!(old.is_closed().await);
}

#[tokio::test]
async fn a_unix_socket() {
    let start = || Start::on("[server]\nunix_socket = \"router.sock\"").own_listener();
    let mut service = start().start().await;
    let Address::Unix(path) = service.address.clone() else { panic!("{:?}", service.address) };
    assert_eq!(path, service.folder.path().join("router.sock"), "relative to the config file");
    assert_eq!(std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o660);
    service.expect(&stop(), json!({"action": "interrupt"})).await;
    let requests: Vec<Value> = (0..20).map(|_| stop()).collect();
    assert!(
        join_all(requests.iter().map(|request| service.route(request)))
            .await
            .iter()
            .all(|decision| decision["action"] == "interrupt")
    );
    // Another one does not take it away.
    let second = program().args(["serve", "--config"]).arg(&service.config).output().expect("it starts");
    assert_eq!(second.status.code(), Some(2), "{}", stderr(&second));
    assert!(stderr(&second).contains("another process listens there"), "{}", stderr(&second));
    service.signal("TERM");
    assert_eq!(service.ended().await.code(), Some(0));
    assert!(!path.exists(), "it is tidied away");
    // What a killed one leaves behind is in nobody's way; a file that is something else is left alone.
    let mut killed = start().start().await;
    killed.signal("KILL");
    killed.ended().await;
    assert!(killed.folder.path().join("router.sock").exists());
    let again = program()
        .args(["serve", "--config"])
        .arg(&killed.config)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut again = Killed(again);
    eventually("the socket is taken over", async || {
        let there = Address::unix(&killed.folder.path().join("router.sock")).is_taken().await;
        assert!(there || again.0.try_wait().expect("a child").is_none(), "it ended");
        there.then_some(())
    })
    .await;
    drop(again);
    std::fs::remove_file(killed.folder.path().join("router.sock")).expect("removed");
    std::fs::write(killed.folder.path().join("router.sock"), "precious").expect("written");
    let refused = program().args(["serve", "--config"]).arg(&killed.config).output().expect("it starts");
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert_eq!(std::fs::read_to_string(killed.folder.path().join("router.sock")).expect("still there"), "precious");
}

/// A process without a [`Service`] around it. Dropped, it is killed.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test]
async fn tokens_of_the_environment() {
    let service = Start::on("[metrics]\nrequire_token = true")
        .env("BUSY_ROUTER_TOKEN", "route-token")
        .env("BUSY_ROUTER_ADMIN_TOKEN", "admin-token")
        .start()
        .await;
    assert_scopes(&service, "route-token", "admin-token").await;
}

/// An entry of the tokens file for a token, which is named like itself.
fn token_entry(token: &str, scope: &str) -> String {
    let hash = Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    format!("[[token]]\nname = \"{token}\"\nscope = \"{scope}\"\nsha256 = \"{hash}\"\n")
}

#[tokio::test]
async fn tokens_of_a_file() {
    let tokens = token_entry("one", "route") + &token_entry("two", "route") + &token_entry("boss", "admin");
    let service = Start::on("[server]\ntokens_file = \"tokens.toml\"\n[metrics]\nrequire_token = true")
        .file("tokens.toml", &tokens)
        .start()
        .await;
    assert_scopes(&service, "one", "boss").await;
    assert_scopes(&service, "two", "boss").await;
    // A token is taken away.
    std::fs::write(service.folder.path().join("tokens.toml"), token_entry("two", "route")).expect("written");
    service.signal("HUP");
    eventually("the first token is known no more", async || {
        (post(&service, &[("authorization", "Bearer one")], &stop_bytes()).await.status == 401).then_some(())
    })
    .await;
    assert_eq!(post(&service, &[("authorization", "Bearer two")], &stop_bytes()).await.status, 200);
}

/// Only at the start would be too late: a listener that others can reach must not lose its last token to a reload.
#[tokio::test]
async fn a_public_listener_keeps_its_tokens() {
    let tokens = token_entry("t", "route");
    let config = "[server]\ntokens_file = \"tokens.toml\"";
    let service = Start::on(config).file("tokens.toml", &tokens).own_listener().argument("--listen=0.0.0.0:0").start().await;
    let Address::Tcp(address) = &service.address else { panic!("TCP") };
    let loopback = Address::Tcp(address.replace("0.0.0.0", "127.0.0.1"));
    std::fs::write(service.folder.path().join("tokens.toml"), "").expect("written");
    service.signal("HUP");
    let refusal = service.logged("is refused; the old one stays").await;
    assert!(refusal.contains("no token is configured"), "{refusal}");
    loopback.send("POST", "/v1/route", &[], &stop_bytes()).await.problem(401, "unauthorized");
    assert_eq!(loopback.send("POST", "/v1/route", &[("authorization", "Bearer t")], &stop_bytes()).await.status, 200);
}

async fn assert_scopes(service: &Service, route: &str, admin: &str) {
    let with = |value: String| async move { post(service, &[("authorization", &value)], &stop_bytes()).await };
    assert_eq!(with(bearer(route)).await.ok()["action"], "interrupt");
    assert_eq!(with(format!("bearer  {route}")).await.status, 200);
    for wrong in [
        bearer("x"),
        bearer(""),
        bearer(&route[..route.len() - 1]),
        bearer(&format!("{route}x")),
        route.to_owned(),
        format!("Basic {route}"),
        String::new(),
    ] {
        let reply = with(wrong.clone()).await;
        reply.problem(401, "unauthorized");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"), "{wrong}");
    }
    let problem = with(bearer(admin)).await.problem(403, "forbidden");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("`route`")), "{problem}");
    for path in ["/v1/tasks/status", "/v1/tasks/completion"] {
        service.post(path, &json!({})).await.problem(401, "unauthorized");
        service.address.send("POST", path, &[("authorization", &bearer(admin))], b"{}").await.problem(403, "forbidden");
        service.address.send("POST", path, &[("authorization", &bearer(route))], b"{}").await.problem(422, "invalid_field");
    }
    // Who may not ask learns nothing, not even that the body is wrong.
    post(service, &[], b"nonsense").await.problem(401, "unauthorized");
    // Metrics are the operator's where they are told so; probes and the document are everybody's.
    service.get("/metrics").await.problem(401, "unauthorized");
    service.address.send("GET", "/metrics", &[("authorization", &bearer(route))], b"").await.problem(403, "forbidden");
    assert_eq!(service.address.send("GET", "/metrics", &[("authorization", &bearer(admin))], b"").await.status, 200);
    for path in ["/livez", "/readyz", "/openapi.json"] {
        assert_eq!(service.get(path).await.status, 200);
    }
}

#[tokio::test]
async fn metrics_need_a_token_only_where_told_so() {
    let service = Start::on("").env("BUSY_ROUTER_TOKEN", "t").start().await;
    assert_eq!(service.get("/metrics").await.status, 200);
    post(&service, &[], &stop_bytes()).await.problem(401, "unauthorized");
}

/// "Binding any other address without one is refused at start with the reason."
#[tokio::test]
async fn only_loopback_without_a_token() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let output = run(&["serve", "--listen", address], &[]);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains("token") && stderr(&output).contains("server.listen"), "{}", stderr(&output));
        assert!(!stderr(&output).contains("listening on"));
    }
    let service = Start::on("").env("BUSY_ROUTER_TOKEN", "t").own_listener().argument("--listen=0.0.0.0:0").start().await;
    let Address::Tcp(address) = &service.address else { panic!("TCP") };
    let loopback = Address::Tcp(address.replace("0.0.0.0", "127.0.0.1"));
    loopback.send("POST", "/v1/route", &[], &stop_bytes()).await.problem(401, "unauthorized");
    assert_eq!(loopback.send("POST", "/v1/route", &[("authorization", "Bearer t")], &stop_bytes()).await.status, 200);
    // An empty token would let everybody in.
    let output = run(&["serve", "--listen", "127.0.0.1:0"], &[("BUSY_ROUTER_TOKEN", " ")]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    // An address that somebody else has.
    let output = run(&["serve", "--listen", address.as_str()], &[("BUSY_ROUTER_TOKEN", "t")]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("cannot listen on"), "{}", stderr(&output));
}

#[tokio::test]
async fn probes() {
    let service = Start::with("").start().await;
    for path in ["/livez", "/readyz"] {
        assert_eq!(service.get(path).await.text(), "ok\n");
        let mut wire = service.address.connect().await;
        wire.raw(format!("HEAD {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await;
        assert!(wire.head().await.starts_with("HTTP/1.1 200 "));
    }
}

#[tokio::test]
async fn metrics() {
    let (service, llm) = with_llm([Act::answer("queue", 0.9), Act::Status(500)], GENEROUS).await;
    let text = "please look at this too, whenever you have the time for it";
    service.route(&message(text, json!({}))).await;
    service.route(&message(text, json!({}))).await;
    let twice = message("stop", json!({"message": {"id": "m"}, "session": {"gateway": "nobody-knows-it"}}));
    service.route(&twice).await;
    service.route(&twice).await;
    post(&service, &[], b"{}").await.problem(422, "invalid_field");
    service.post("/v1/tasks/status", &json!({"task_id": "t", "evidence": []})).await.ok();
    assert_eq!(llm.received().len(), 2);
    let reply = service.get("/metrics").await;
    assert!(
        reply.header("content-type").is_some_and(|kind| kind.starts_with("application/openmetrics-text")),
        "{:?}",
        reply.headers
    );
    let text = reply.text();
    assert!(text.ends_with("# EOF\n"), "{text}");
    for line in [
        "busy_router_decisions_total{action=\"queue\",rule=\"model\",decided_by=\"model\",mode=\"on\",gateway=\"hermes\"} 1",
        "busy_router_decisions_total{action=\"queue\",rule=\"model_error\",decided_by=\"fallback\",mode=\"on\",gateway=\"hermes\"} 1",
        "busy_router_decisions_total{action=\"interrupt\",rule=\"stop_phrase\",decided_by=\"guard\",mode=\"on\",gateway=\"other\"} 2",
        "busy_router_fallbacks_total{cause=\"model_error\"} 1",
        "busy_router_replayed_decisions_total 1",
        "busy_router_request_errors_total{endpoint=\"route\",status=\"422\"} 1",
        "busy_router_router_seconds_count 3",
        "busy_router_model_seconds_count 2",
        "busy_router_breaker_state 0",
        "busy_router_task_answers_total{endpoint=\"status\",rule=\"no_decision\"} 1",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is missing:\n{text}");
    }
    assert!(text.contains(&format!("busy_router_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"))));
    assert!(!text.contains("session-") && !text.contains("please look"), "no ids and no texts as labels");
}

/// `openapi.json` is what the types say; `UPDATE=1 cargo test openapi` writes it anew.
#[tokio::test]
async fn openapi() {
    let output = run(&["openapi"], &[]);
    assert!(output.status.success());
    let printed = stdout(&output);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, printed).expect("written");
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        checked_in == printed,
        "openapi.json is not what the types say; if that is meant, update it: UPDATE=1 cargo test --test service openapi"
    );
    let service = Start::with("").start().await;
    let reply = service.get("/openapi.json").await;
    assert_eq!(reply.text(), printed);
    let document: Value = reply.json();
    for (path, method) in [
        ("/v1/route", "post"),
        ("/v1/tasks/status", "post"),
        ("/v1/tasks/completion", "post"),
        ("/livez", "get"),
        ("/readyz", "get"),
        ("/metrics", "get"),
    ] {
        assert!(document["paths"][path][method].is_object(), "{method} {path}");
    }
    let schemas = &document["components"]["schemas"];
    assert_holds(
        &json!({"RouteRequest": {"type": "object"}, "Decision": {"type": "object"}, "Problem": {"type": "object"}}),
        schemas,
        "schemas",
    );
    for field in ["decision_id", "action", "rule", "reason", "ack", "latency", "replayed"] {
        assert!(schemas["Decision"]["properties"][field].is_object(), "{field}");
    }
    use busy_router::protocol::{BusyState, Capability, Rule, StatusRule};
    let words = |all: &[&str]| json!(all);
    assert_eq!(schemas["Rule"]["enum"], words(&Rule::ALL.iter().map(|word| word.as_str()).collect::<Vec<_>>()));
    assert_eq!(schemas["BusyState"]["enum"], words(&BusyState::ALL.iter().map(|word| word.as_str()).collect::<Vec<_>>()));
    assert_eq!(schemas["Capability"]["enum"], words(&Capability::ALL.iter().map(|word| word.as_str()).collect::<Vec<_>>()));
    assert_eq!(schemas["StatusRule"]["enum"], words(&StatusRule::ALL.iter().map(|word| word.as_str()).collect::<Vec<_>>()));
}
