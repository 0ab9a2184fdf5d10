//! Settings from file, environment and flags; reloads while requests are under way; the end of the service; the commands around it.

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{GENEROUS, Service, Start, eventually, fresh, message, program, run, stderr, stdout, with_llm};
use crate::upstream::{Act, Upstream};

/// No guard decides it, and no model may ignore it.
const REQUEST: &str = "please add unit tests for the parser module when you are through with the rest of it";

fn check(config: &str, env: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("busy-router.toml");
    std::fs::write(&path, config).expect("written");
    run(&["check", "--config", path.to_str().expect("a path")], env)
}

#[test]
fn check_prints_the_effective_settings() {
    let output = check(
        "mode = \"shadow\"\n[model]\ntimeout_ms = 777\n[[override]]\nchat = \"group\"\n[override.guards]\nambient = \"ignore\"\n",
        &[("BUSY_ROUTER_ACK__LOCALE", "de")],
    );
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let settings: toml::Table = stdout(&output).parse().expect("what it prints is a config file");
    let at = |path: &str| path.split('.').try_fold(&toml::Value::Table(settings.clone()), |value, key| value.get(key)).cloned();
    for (path, value) in [
        ("mode", "shadow"),
        ("ack.locale", "de"),
        ("server.listen", "127.0.0.1:8710"),
        ("model.provider", "builtin"),
        ("state.backend", "memory"),
    ] {
        assert_eq!(at(path).and_then(|value| value.as_str().map(str::to_owned)).as_deref(), Some(value), "{path}");
    }
    for (path, value) in [
        ("model.timeout_ms", 777),
        ("guards.duplicate_window_s", 30),
        ("server.max_body_bytes", 65_536),
        ("model.max_concurrency", 64),
    ] {
        assert_eq!(at(path).and_then(|value| value.as_integer()), Some(value), "{path}");
    }
    // What it prints is itself a config file with the same meaning.
    let again = check(stdout(&output), &[]);
    assert_eq!((again.status.code(), stdout(&again)), (Some(0), stdout(&output)), "{}", stderr(&again));
}

#[test]
fn check_names_key_line_and_remedy() {
    for (config, words) in [
        (
            "mode = \"on\"\n\n[model]\ntimeout_mss = 5\n",
            &["busy-router.toml:4", "model.timeout_mss", "did you mean `timeout_ms`?"][..],
        ),
        ("[mdoel]\n", &["busy-router.toml:1", "did you mean `model`?"]),
        ("\n\nmode = \"onn\"\n", &["busy-router.toml:3", "mode", "did you mean `on`?"]),
        ("[guards]\nambient = \"drop\"\n", &["busy-router.toml:2", "guards.ambient", "queue", "ignore", "pass_through"]),
        ("[model]\ntimeout_ms = \"fast\"\n", &["busy-router.toml:2", "model.timeout_ms"]),
        ("[model]\ntimeout_ms = 0\n", &["busy-router.toml:2", "model.timeout_ms", "at least 1"]),
        ("[model]\nprovider = \"openai\"\n", &["busy-router.toml:2", "model.base_url"]),
        ("[model]\nbase_url = \"ftp://x\"\n", &["busy-router.toml:2", "http://"]),
        ("[fallback]\naction = \"steer\"\n", &["busy-router.toml:2", "fallback.action"]),
        ("[fallback]\nignore_with_content = \"ignore\"\n", &["busy-router.toml:2", "fallback.ignore_with_content"]),
        ("[actions]\nsteer = \"yes\"\n", &["busy-router.toml:2", "actions.steer", "suggest"]),
        ("[actions]\ninterrupt = \"off\"\n", &["busy-router.toml:2", "interrupt"]),
        ("[ack.text.en]\nqueued = \"x\"\n", &["busy-router.toml:1", "ack.text.en", "did you mean `queue`?"]),
        ("[commands.hermes]\nx = \"fast\"\n", &["busy-router.toml:2", "commands.hermes.x"]),
        ("[[override]]\nmode = \"on\"\n", &["busy-router.toml:1", "selects nothing"]),
        (
            "[[override]]\nplatform = \"x\"\n\n[[override]]\nplatfrom = \"y\"\n",
            &["busy-router.toml:5", "did you mean `platform`?"],
        ),
        ("[server]\nlisten = \"localhost\"\n", &["busy-router.toml:2", "server.listen"]),
        ("[server]\ntokens_file = \"no-such-file.toml\"\n", &["server.tokens_file", "no-such-file.toml", "cannot be read"]),
        (
            "[model]\nprovider = \"openai\"\nbase_url = \"http://x/v1\"\nmodel = \"m\"\napi_key_env = \"NOT_SET_ANYWHERE\"\n",
            &["model.api_key_env", "NOT_SET_ANYWHERE"],
        ),
        (
            "[model]\nprovider = \"openai\"\nbase_url = \"http://x/v1\"\nmodel = \"m\"\nprompt_dir = \"nowhere\"\n",
            &["model.prompt_dir", "nowhere"],
        ),
        ("mode = \n", &["busy-router.toml:1"]),
        ("mode = \"on\"\nmode = \"off\"\n", &["busy-router.toml:2"]),
    ] {
        let output = check(config, &[]);
        assert_eq!(output.status.code(), Some(2), "{config}");
        for word in words {
            assert!(stderr(&output).contains(word), "{word:?} is missing in {:?} about {config:?}", stderr(&output));
        }
        assert!(stdout(&output).is_empty());
    }
    let missing = run(&["check", "--config", "/no/such/file.toml"], &[]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).contains("/no/such/file.toml"), "{}", stderr(&missing));
    let by_variable = check("", &[("BUSY_ROUTER_MODE", "maybe")]);
    assert_eq!(by_variable.status.code(), Some(2));
    assert!(
        stderr(&by_variable).contains("BUSY_ROUTER_MODE") && stderr(&by_variable).contains("maybe"),
        "{}",
        stderr(&by_variable)
    );
    // `serve` refuses the same with the same words.
    let output = run(&["serve", "--listen", "127.0.0.1:0"], &[("BUSY_ROUTER_MODE", "maybe")]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(2), stderr(&by_variable)));
}

#[test]
fn check_shows_no_secrets() {
    let config = "[model]\nprovider = \"openai\"\nbase_url = \"http://me:hunter2@127.0.0.1/v1\"\nmodel = \"m\"\napi_key_env = \"THE_KEY\"\n\
        [model.extra_body]\napi_key = \"hunter3\"\nnested = { token = \"hunter4\" }\n";
    let env = [("THE_KEY", "hunter5"), ("BUSY_ROUTER_TOKEN", "hunter6"), ("BUSY_ROUTER_ADMIN_TOKEN", "hunter7")];
    let output = check(config, &env);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!stdout(&output).contains("hunter") && !stderr(&output).contains("hunter"), "{}", stdout(&output));
    assert!(stdout(&output).contains("THE_KEY"), "the name of the variable is no secret");
    // Nor when something is wrong.
    for wrong in [format!("{config}nonsense = \n"), format!("{config}[guards]\nx = 1\n")] {
        let output = check(&wrong, &env);
        assert!(output.status.code() == Some(2) && !stderr(&output).contains("hunter"), "{}", stderr(&output));
    }
}

/// "Environment variables override the file, flags override both."
#[tokio::test]
async fn layers() {
    let mode = async |start: Start| {
        let service = start.start().await;
        let decision = service.route(&message("stop", json!({}))).await;
        (decision["mode"].as_str().expect("a mode").to_owned(), decision["rule"].clone())
    };
    assert_eq!(mode(Start::with("")).await.0, "off", "the default");
    assert_eq!(mode(Start::with("mode = \"on\"")).await, ("on".to_owned(), json!("stop_phrase")));
    assert_eq!(mode(Start::with("mode = \"on\"").env("BUSY_ROUTER_MODE", "shadow")).await.0, "shadow");
    assert_eq!(mode(Start::with("mode = \"on\"").env("BUSY_ROUTER_MODE", "shadow").argument("--mode=off")).await.0, "off");
    // Two underscores go one level down; the type is that of the setting.
    let service = Start::on("[guards]\nignore_max_chars = 10\nambient = \"queue\"")
        .env("BUSY_ROUTER_GUARDS__AMBIENT", "ignore")
        .env("BUSY_ROUTER_GUARDS__COMMAND_PREFIXES", "[\"!\"]")
        .env("BUSY_ROUTER_ACK__ENABLED", "false")
        .env("BUSY_ROUTER_MODEL__TIMEOUTMS", "5")
        .env("BUSY_ROUTER_NONSENSE", "1")
        .start()
        .await;
    let talk = message("see you at eight", json!({"session": {"chat": "group"}, "message": {"addressed": false}}));
    service.expect(&talk, json!({"rule": "ambient", "action": "ignore"})).await;
    service.expect(&message("!stop now", json!({})), json!({"rule": "command"})).await;
    service.expect(&message("stop", json!({})), json!({"rule": "stop_phrase", "ack": null})).await;
    // What is unknown is a warning.
    let log = service.logged("BUSY_ROUTER_NONSENSE").await;
    assert!(log.contains("BUSY_ROUTER_MODEL__TIMEOUTMS") && log.contains("did you mean `timeout_ms`?"), "{log}");
}

/// `BUSY_ROUTER_LISTEN` is an alias of `BUSY_ROUTER_SERVER__LISTEN`; the flag wins.
#[tokio::test]
async fn where_to_listen() {
    for name in ["BUSY_ROUTER_LISTEN", "BUSY_ROUTER_SERVER__LISTEN"] {
        let service = Start::on("[server]\nlisten = \"127.0.0.1:1\"").own_listener().env(name, "127.0.0.1:0").start().await;
        service.expect(&message("stop", json!({})), json!({"mode": "on"})).await;
    }
    let service = Start::on("[server]\nlisten = \"127.0.0.1:1\"")
        .own_listener()
        .env("BUSY_ROUTER_LISTEN", "127.0.0.1:2")
        .argument("--listen=127.0.0.1:0")
        .start()
        .await;
    service.expect(&message("stop", json!({})), json!({"mode": "on"})).await;
}

async fn wait_for_mode(service: &Service, mode: &str) -> Value {
    eventually(&format!("mode {mode}"), async || {
        Some(service.route(&message("stop", json!({}))).await).filter(|decision| decision["mode"] == mode)
    })
    .await
}

/// Every way in which a file changes: written in place, replaced, behind a link that is swapped, behind a link and written in place.
#[tokio::test]
async fn a_changed_file_is_picked_up() {
    let service = Start::with("mode = \"off\"").start().await;
    // At once, by whoever waited for the line that says where it listens.
    std::fs::write(&service.config, "mode = \"shadow\"").expect("written");
    wait_for_mode(&service, "shadow").await;
    service.write_config("mode = \"on\"");
    wait_for_mode(&service, "on").await;
    // Away and back again: nothing happens while it is gone.
    std::fs::remove_file(&service.config).expect("removed");
    service.write_config("mode = \"shadow\"");
    wait_for_mode(&service, "shadow").await;
    assert!(!service.log().contains("refused"), "{}", service.log());
}

#[tokio::test]
async fn a_swapped_link_is_picked_up() {
    // As Kubernetes mounts a config map: file -> ..data/file, and ..data -> a folder that is replaced by renaming a new link over it.
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    for (version, mode) in [("..1", "off"), ("..2", "on")] {
        std::fs::create_dir(path(version)).expect("a folder");
        std::fs::write(path(version).join("busy-router.toml"), format!("mode = \"{mode}\"")).expect("written");
    }
    std::os::unix::fs::symlink("..1", path("..data")).expect("a link");
    std::os::unix::fs::symlink("..data/busy-router.toml", path("busy-router.toml")).expect("a link");
    let config = path("busy-router.toml");
    let swap = path("..new");
    std::os::unix::fs::symlink("..2", &swap).expect("a link");
    let data = path("..data");
    let service = Start::with("").start_in(folder, &config).await;
    wait_for_mode(&service, "off").await;
    std::fs::rename(&swap, &data).expect("renamed");
    wait_for_mode(&service, "on").await;
}

#[tokio::test]
async fn a_file_behind_a_link_is_picked_up() {
    let elsewhere = tempfile::tempdir().expect("a folder");
    let target = elsewhere.path().join("real.toml");
    std::fs::write(&target, "mode = \"off\"").expect("written");
    let folder = tempfile::tempdir().expect("a folder");
    let link = folder.path().join("busy-router.toml");
    std::os::unix::fs::symlink(&target, &link).expect("a link");
    let service = Start::with("").start_in(folder, &link).await;
    std::fs::write(&target, "mode = \"on\"").expect("written");
    wait_for_mode(&service, "on").await;
    // The link is turned to a file in yet another folder, and that one is changed.
    let third = tempfile::tempdir().expect("a folder");
    let other = third.path().join("other.toml");
    std::fs::write(&other, "mode = \"off\"").expect("written");
    let new_link = service.folder.path().join("new-link");
    std::os::unix::fs::symlink(&other, &new_link).expect("a link");
    std::fs::rename(&new_link, &service.config).expect("renamed");
    wait_for_mode(&service, "off").await;
    std::fs::write(&other, "mode = \"shadow\"").expect("written");
    wait_for_mode(&service, "shadow").await;
}

/// SIGHUP reloads what no watch of the file can see.
#[tokio::test]
async fn sighup_reloads() {
    let service = Start::with("mode = \"on\"\n").start().await;
    service.signal("HUP");
    service.logged("configuration reloaded").await;
    wait_for_mode(&service, "on").await;
    assert_eq!(service.metric("busy_router_config_reloads_total{result=\"applied\"}").await, Some(1.0));
}

/// Edited prompts are read on SIGHUP as the rest is.
#[tokio::test]
async fn sighup_reads_the_prompts_again() {
    let upstream = Upstream::start([Act::answer("queue", 0.9)]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let prompts = folder.path().join("prompts");
    std::fs::create_dir(&prompts).expect("a folder");
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("prompts")).expect("prompts") {
        let entry = entry.expect("a file");
        std::fs::copy(entry.path(), prompts.join(entry.file_name())).expect("copied");
    }
    let config = folder.path().join("busy-router.toml");
    std::fs::write(
        &config,
        format!("mode = \"on\"\n[model]\nprovider = \"openai\"\nbase_url = \"{}\"\nmodel = \"m\"\nprompt_dir = \"prompts\"\n{GENEROUS}", upstream.base_url()),
    )
    .expect("written");
    let service = Start::with("").start_in(folder, &config).await;
    let system = async || {
        service.expect(&message(REQUEST, json!({})), json!({"rule": "model"})).await;
        upstream.received().pop().expect("a request").json()["messages"][0]["content"].as_str().expect("a text").to_owned()
    };
    assert!(!system().await.contains("MARK"));
    std::fs::write(prompts.join("system.txt"), "MARK {labels} {examples} {format}").expect("written");
    service.signal("HUP");
    eventually("the new prompt is used", async || system().await.contains("MARK").then_some(())).await;
    // A broken one changes nothing, and is named.
    std::fs::write(prompts.join("system.txt"), "{labels}").expect("written");
    service.signal("HUP");
    let log = service.logged("the old one stays").await;
    assert!(log.contains("system.txt"), "{log}");
    assert!(system().await.contains("MARK"));
}

#[tokio::test]
async fn an_invalid_reload_keeps_the_old_settings() {
    let service = Start::on("").start().await;
    for wrong in [
        "mode = \"onn\"",
        "nonsense",
        "[model]\ntimeout_mss = 1",
        "mode = \"off\"\n[server]\ntokens_file = \"none.toml\"",
        "mode = \"off\"\n[model]\nprovider = \"openai\"\nbase_url = \"http://x\"\nmodel = \"m\"\nprompt_dir = \"none\"",
    ] {
        let before = service.log().len();
        service.write_config(wrong);
        eventually("it is refused", async || service.log()[before..].contains("refused").then_some(())).await;
        service.expect(&message("stop", json!({})), json!({"mode": "on", "action": "interrupt"})).await;
    }
    assert!(
        service.log().contains("did you mean `timeout_ms`?") && service.log().contains("busy-router.toml:2"),
        "{}",
        service.log()
    );
    assert_eq!(service.metric("busy_router_config_reloads_total{result=\"refused\"}").await, Some(5.0));
    service.write_config("mode = \"shadow\"");
    wait_for_mode(&service, "shadow").await;
}

/// "One request sees one config, never a mix."
#[tokio::test]
async fn a_request_sees_one_config() {
    let (service, llm) = with_llm([Act::answer("queue", 0.9).after(Duration::from_millis(400))], GENEROUS).await;
    let base_url = llm.base_url();
    let version = |action: &str, name: &str| {
        format!(
            "mode = \"on\"\n[model]\nprovider = \"openai\"\nbase_url = \"{base_url}\"\nmodel = \"tiny\"\n{GENEROUS}breaker = {{ failures = 1000000, open_s = 1 }}\n\
             [fallback]\naction = \"{action}\"\n[ack]\ncooldown_s = 0\n[ack.text.en]\nqueue = \"{name} queue\"\ninterrupt = \"{name} interrupt\"\n"
        )
    };
    let (one, two) = (version("queue", "one"), version("interrupt", "two"));
    service.write_config(&one);
    eventually("version one", async || {
        (service.route(&message("stop", json!({}))).await["ack"]["text"] == "one interrupt").then_some(())
    })
    .await;
    // One that was under way when the config changed ends by the config that it began with.
    let calls = llm.received().len();
    let under_way_request = message(REQUEST, json!({}));
    let (decision, ()) = tokio::join!(service.route(&under_way_request), async {
        eventually("it is with the LLM", async || (llm.received().len() > calls).then_some(())).await;
        service.write_config(&two.replace("mode = \"on\"", "mode = \"off\""));
    });
    assert_eq!((&decision["mode"], &decision["ack"]["text"]), (&json!("on"), &json!("one queue")), "{decision}");
    // Many, while it changes all the time.
    llm.set(Act::Status(500));
    let mut seen = std::collections::BTreeSet::new();
    let until = Instant::now() + Duration::from_secs(20);
    let mut writes = 0;
    let mut last_write: Option<Instant> = None;
    while seen.len() < 2 || writes < 5 {
        assert!(Instant::now() < until, "{seen:?} after {writes} writes");
        if last_write.is_none_or(|last| last.elapsed() > Duration::from_millis(150)) {
            service.write_config(if writes % 2 == 0 { &one } else { &two });
            last_write = Some(Instant::now());
            writes += 1;
        }
        let requests: Vec<Value> = (0..8).map(|_| message(&format!("{REQUEST} {}", fresh()), json!({}))).collect();
        for decision in futures_util::future::join_all(requests.iter().map(|request| service.route(request))).await {
            if decision["mode"] == "off" {
                continue;
            }
            let seen_now = (
                decision["action"].as_str().expect("an action").to_owned(),
                decision["ack"]["text"].as_str().expect("an ack").to_owned(),
            );
            seen.insert(seen_now);
        }
    }
    let pairs =
        [("interrupt", "two interrupt"), ("queue", "one queue")].map(|(action, text)| (action.to_owned(), text.to_owned()));
    assert!(seen.into_iter().eq(pairs), "a mix of two configs");
}

/// What a reload may not touch: duplicates, replays and budgets go on counting.
#[tokio::test]
async fn a_reload_forgets_nothing() {
    let (service, llm) = with_llm([Act::answer("queue", 0.9)], "budget = { per_minute = 100, per_session_per_minute = 2 }").await;
    let config = std::fs::read_to_string(&service.config).expect("the config");
    let request = |id: &str| message(REQUEST, json!({"session": {"id": "s"}, "message": {"id": id, "sender_id": "u"}}));
    let first = service.expect(&request("1"), json!({"rule": "model"})).await;
    service
        .expect(&message("something else, please, as soon as you can", json!({"session": {"id": "s"}})), json!({"rule": "model"}))
        .await;
    service.write_config(&format!("{config}\n[ack]\nlocale = \"de\"\n"));
    service.logged("configuration reloaded").await;
    service.expect(&request("1"), json!({"replayed": true, "decision_id": first["decision_id"]})).await;
    service.expect(&request("2"), json!({"rule": "duplicate", "duplicate_of": "1"})).await;
    service
        .expect(
            &message("and a third thing for later, when there is time", json!({"session": {"id": "s"}})),
            json!({"rule": "rate_limited"}),
        )
        .await;
    assert_eq!(llm.received().len(), 2);
}

/// "SIGTERM drains and ends."
#[tokio::test]
async fn sigterm_and_sigint_drain() {
    for signal in ["TERM", "INT"] {
        let (mut service, llm) = with_llm([Act::answer("interrupt", 0.9).after(Duration::from_millis(500))], GENEROUS).await;
        let mut wire = service.address.connect().await;
        wire.request("POST", "/v1/route", &[], message(REQUEST, json!({})).to_string().as_bytes()).await;
        eventually("the request is with the LLM", async || (!llm.received().is_empty()).then_some(())).await;
        service.signal(signal);
        service.logged("draining").await;
        let decision = wire.reply().await.expect("the answer is not cut off").ok();
        assert_eq!((&decision["action"], &decision["rule"]), (&json!("interrupt"), &json!("model")));
        assert_eq!(service.ended().await.code(), Some(0));
        assert!(!service.address.is_taken().await);
        let log = service.logged("stopped").await;
        assert!(log.contains("\"under_way\":1") && log.contains("\"all_closed\":true"), "{log}");
    }
    // Nothing under way, but a kept connection: it ends at once.
    let mut service = Start::on("").start().await;
    let mut kept = service.address.connect().await;
    kept.request("GET", "/livez", &[], b"").await;
    assert_eq!(kept.reply().await.map(|reply| reply.status), Some(200));
    let started = Instant::now();
    service.signal("TERM");
    assert_eq!(service.ended().await.code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    // A request that does not end is given up after `drain_ms`.
    let (mut service, llm) = with_llm([Act::HangBeforeHeaders], &format!("{GENEROUS}[server]\ndrain_ms = 200")).await;
    let mut wire = service.address.connect().await;
    wire.request("POST", "/v1/route", &[], message(REQUEST, json!({})).to_string().as_bytes()).await;
    eventually("the request is with the LLM", async || (!llm.received().is_empty()).then_some(())).await;
    let started = Instant::now();
    service.signal("TERM");
    assert_eq!(service.ended().await.code(), Some(0));
    assert!(
        started.elapsed() >= Duration::from_millis(200) && started.elapsed() < Duration::from_secs(8),
        "{:?}",
        started.elapsed()
    );
}

/// Who checks a file on the way to a machine must leave no traces there.
#[test]
fn check_writes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("busy-router.toml");
    let check = |journal: &str| {
        std::fs::write(&config, format!("[journal]\npath = \"{journal}\"\n")).expect("written");
        run(&["check", "--config", config.to_str().expect("a path")], &[])
    };
    let output = check("decisions.jsonl");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!folder.path().join("decisions.jsonl").exists());
    for (journal, why) in [("no-such-folder/decisions.jsonl", "its folder does not exist"), (".", "it is a folder")] {
        let output = check(journal);
        assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
        assert!(stderr(&output).contains("journal.path") && stderr(&output).contains(why), "{}", stderr(&output));
    }
}

/// A listener for everybody needs a token, which may be known to the service only.
#[test]
fn check_warns_of_a_public_listener() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("busy-router.toml");
    std::fs::write(&config, "[server]\nlisten = \"0.0.0.0:8710\"\n").expect("written");
    let check = |env: &[(&str, &str)]| run(&["check", "--config", config.to_str().expect("a path")], env);
    let output = check(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("# warning: ") && stdout(&output).contains("no token is configured"), "{}", stdout(&output));
    assert!(!stdout(&check(&[("BUSY_ROUTER_TOKEN", "t")])).contains("# warning: "));
}

/// The number of slots is that of the start; a reload that changes it must not confuse the drain.
#[tokio::test]
async fn a_drain_after_a_reload() {
    for (before, after) in [(1000, 10), (10, 1000)] {
        let (mut service, llm) = with_llm(
            [Act::answer("interrupt", 0.9).after(Duration::from_millis(500))],
            &format!("{GENEROUS}[server]\nmax_in_flight = {before}"),
        )
        .await;
        let config = std::fs::read_to_string(&service.config).expect("the config");
        service.write_config(&config.replace(&format!("max_in_flight = {before}"), &format!("max_in_flight = {after}")));
        service.logged("configuration reloaded").await;
        let mut wire = service.address.connect().await;
        wire.request("POST", "/v1/route", &[], message(REQUEST, json!({})).to_string().as_bytes()).await;
        eventually("the request is with the LLM", async || (!llm.received().is_empty()).then_some(())).await;
        let started = Instant::now();
        service.signal("TERM");
        assert_eq!(wire.reply().await.expect("the answer is not cut off").ok()["action"], "interrupt");
        assert_eq!(service.ended().await.code(), Some(0));
        assert!(started.elapsed() < Duration::from_secs(8), "it waited for requests that are not there: {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn health() {
    let service = Start::with("").start().await;
    let url = service.url();
    let address = url.trim_start_matches("http://");
    let ready = |arguments: &[&str], env: &[(&str, &str)]| run(&[&["health"], arguments].concat(), env);
    for output in [
        ready(&["--url", &url], &[]),
        ready(&[], &[("BUSY_ROUTER_LISTEN", address)]),
        ready(&[], &[("BUSY_ROUTER_SERVER__LISTEN", address)]),
    ] {
        assert_eq!((output.status.code(), stdout(&output)), (Some(0), "ready\n"), "{}", stderr(&output));
    }
    // A token is not needed, and everywhere is here.
    let port = address.rsplit(':').next().expect("a port");
    assert_eq!(ready(&[], &[("BUSY_ROUTER_LISTEN", &format!("0.0.0.0:{port}"))]).status.code(), Some(0));
    drop(service);
    let gone = ready(&["--url", &url], &[]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(stderr(&gone).contains("not ready"), "{}", stderr(&gone));
    // A service that drains is not ready.
    let (service, llm) = with_llm([Act::HangBeforeHeaders], GENEROUS).await;
    let mut wire = service.address.connect().await;
    wire.request("POST", "/v1/route", &[], message(REQUEST, json!({})).to_string().as_bytes()).await;
    eventually("the request is with the LLM", async || (!llm.received().is_empty()).then_some(())).await;
    service.signal("TERM");
    service.logged("draining").await;
    let draining = ready(&["--url", &service.url()], &[]);
    assert_eq!(draining.status.code(), Some(1));
    assert!(stderr(&draining).contains("503"), "{}", stderr(&draining));
}

#[test]
fn route_explains_a_decision() {
    let output = run(&["route", "--text", "stop", "--state", "running_tool"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    for words in
        ["not_busy", "unknown_command", "● stop_phrase", "➜ interrupt", "by guard", "The whole message is a stop phrase."]
    {
        assert!(text.contains(words), "{words} is missing:\n{text}");
    }
    assert!(!text.contains("duplicate") && !text.contains('\u{1b}'), "only what was tried, and no colours in a pipe:\n{text}");
    let output = run(
        &[
            "route",
            "--text",
            REQUEST,
            "--tool",
            "terminal",
            "--preview",
            "make",
            "--user",
            "build it",
            "--assistant",
            "Building.",
        ],
        &[],
    );
    assert!(stdout(&output).contains("the built-in model says"), "{}", stdout(&output));

    let json_of = |arguments: &[&str], env: &[(&str, &str)]| -> Value {
        let output = run(&[&["route", "--json"], arguments].concat(), env);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        serde_json::from_str(stdout(&output)).expect("JSON")
    };
    // In mode `on` unless told otherwise.
    let decision = json_of(&["--text", "/bg fix it", "--gateway", "hermes"], &[]);
    assert_eq!(
        (&decision["mode"], &decision["action"], &decision["command"]["lane"]),
        (&json!("on"), &json!("dispatch"), &json!("side"))
    );
    assert_eq!(json_of(&["--text", "stop", "--mode", "shadow"], &[])["shadow"]["action"], "interrupt");
    assert_eq!(json_of(&["--text", "stop", "--mode", "off"], &[])["rule"], "disabled");
    assert_eq!(json_of(&["--text", "stop"], &[("BUSY_ROUTER_MODE", "off")])["mode"], "on", "the flag's default is a flag");
    assert_eq!(json_of(&["--text", "stop", "--can", "queue"], &[])["suggested_action"], "interrupt");
    assert_eq!(
        json_of(&["--text", "yes", "--state", "awaiting_approval", "--question", "Deploy?"], &[])["rule"],
        "pending_reply"
    );
    assert_ne!(json_of(&["--text", "ok", "--assistant", "Shall I?"], &[])["rule"], "backchannel");
}

#[test]
fn route_takes_a_request() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("request.json");
    std::fs::write(&file, message("stop", json!({"session": {"turn_id": "t"}})).to_string()).expect("written");
    let output = run(&["route", "--json", "--request", file.to_str().expect("a path")], &[]);
    let decision: Value = serde_json::from_str(stdout(&output)).expect("JSON");
    assert_eq!((&decision["action"], &decision["expected_turn_id"]), (&json!("interrupt"), &json!("t")));

    let by_pipe = |input: &str| {
        let mut child = program()
            .args(["route", "--json", "--request", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("taken");
        child.wait_with_output().expect("it ends")
    };
    assert_eq!(by_pipe(&message("stop", json!({})).to_string()).status.code(), Some(0));
    for (input, words) in [
        ("{}", "/session is missing"),
        ("nope", "not valid JSON"),
        (r#"{"session":{"id":"s"},"message":{"text":"x"},"busy":{"state":"bored"}}"#, "/busy/state"),
    ] {
        let output = by_pipe(input);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
    for arguments in [
        &["route"][..],
        &["route", "--text", "x", "--state", "bored"],
        &["route", "--request", "x", "--text", "y"],
        &["route", "--request", "/no/such/file"],
        &["nonsense"],
        &[],
    ] {
        assert_eq!(run(arguments, &[]).status.code(), Some(2), "{arguments:?}");
    }
}

/// "Logs: one structured line a decision, ids in fields, without message text unless the operator asks for it."
#[tokio::test]
async fn logs_hold_no_text_and_no_token() {
    let secret = "the launch code is swordfish";
    let said = json!({
        "session": {"id": "the-session"}, "message": {"id": "the-message", "sender_id": "u", "reply_to": {"text": "swordfish in a reply"}},
        "busy": {"state": "running_tool", "tool": {"name": "terminal", "preview": "swordfish in a preview"}, "pending_question": "swordfish in a question"},
        "history": [{"role": "user", "text": "swordfish in the history"}]
    });
    let exercise = async |include_text: bool| {
        let upstream = Upstream::start([Act::Say(format!("{secret} {{"))]).await;
        let service =
            Start::llm(&upstream.base_url(), &format!("{GENEROUS}[log]\nlevel = \"trace\"\ninclude_text = {include_text}"))
                .env("BUSY_ROUTER_TOKEN", "sesame-route")
                .env("BUSY_ROUTER_ADMIN_TOKEN", "sesame-admin")
                .start()
                .await;
        let post = async |body: &str, token: &str| {
            let token = format!("Bearer {token}");
            service.address.send("POST", "/v1/route", &[("authorization", &token)], body.as_bytes()).await.status
        };
        let request = message(secret, said.clone()).to_string();
        assert_eq!(post(&request, "sesame-route").await, 200);
        assert_eq!(post(&request, "sesame-route").await, 200);
        assert_eq!(post(&message(&format!("/swordfish {secret}"), json!({})).to_string(), "sesame-route").await, 200);
        assert_eq!(post(&request, "sesame-wrong").await, 401);
        assert_eq!(post(&request, "sesame-admin").await, 403);
        assert_eq!(post(&request[..request.len() - 2], "sesame-route").await, 400);
        assert_eq!(post(&request.replace("running_tool", "swordfish"), "sesame-route").await, 422);
        let token = "Bearer sesame-route";
        let task = json!({"task_id": "the-task", "evidence": [{"source": "task", "status": "running"}]}).to_string();
        assert_eq!(
            service.address.send("POST", "/v1/tasks/status", &[("authorization", token)], task.as_bytes()).await.status,
            200
        );
        let done = json!({"task": {"id": "the-task", "status": "completed", "kind": "other", "summary": "swordfish in a summary"}, "origin": {"chat": "direct", "deliverable": false}}).to_string();
        assert_eq!(
            service.address.send("POST", "/v1/tasks/completion", &[("authorization", token)], done.as_bytes()).await.status,
            200
        );
        service.signal("HUP");
        service.logged("configuration reloaded").await
    };
    let log = exercise(false).await;
    assert!(!log.contains("swordfish"), "{log}");
    assert!(!log.contains("sesame"), "{log}");
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    let decided: Vec<&Value> = lines.iter().filter(|line| line["message"] == "decided").collect();
    assert_eq!(decided.len(), 3);
    for (field, value) in [
        ("level", "INFO"),
        ("session_id", "the-session"),
        ("message_id", "the-message"),
        ("gateway", "hermes"),
        ("mode", "on"),
        ("action", "queue"),
        ("rule", "invalid_output"),
        ("decided_by", "fallback"),
    ] {
        assert_eq!(decided[0][field], value, "{field}: {}", decided[0]);
    }
    assert!(
        decided[0]["decision_id"].is_string() && decided[0]["total_us"].is_u64() && decided[0]["model_us"].is_u64(),
        "{}",
        decided[0]
    );
    assert!(lines.iter().any(|line| line["message"] == "task completion" && line["task_id"] == "the-task"), "{log}");

    let log = exercise(true).await;
    let decided: Vec<Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|line: &Value| line["message"] == "decided")
        .collect();
    assert_eq!(decided[0]["text"], secret);
    assert!(!log.contains("sesame") && !log.contains("swordfish in a"), "{log}");
}

#[tokio::test]
async fn log_formats() {
    let service = Start::on("").argument("--log-format=pretty").start().await;
    service.route(&message("stop", json!({}))).await;
    let log = service.logged("decided").await;
    assert!(log.contains("stop_phrase") && !log.contains("{\"timestamp\""), "{log}");
    assert!(!log.contains('\u{1b}'), "no colours in a pipe");
    // Quiet, but for where it listens and how it ends.
    let mut service = Start::on("[log]\nlevel = \"error\"").start().await;
    service.route(&message("stop", json!({}))).await;
    service.signal("TERM");
    service.ended().await;
    let log = service.logged("stopped").await;
    assert!(log.contains("listening on") && !log.contains("decided"), "{log}");
}
