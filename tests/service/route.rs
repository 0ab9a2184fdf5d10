//! `POST /v1/route`: the order of decision row by row, and every sentence below its table.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{GENEROUS, Service, Start, changed, eventually, fresh, message, with_llm, with_queueing_llm};
use crate::upstream::{Act, Upstream};

/// A service whose guards are all that matters.
async fn guards(sections: &str) -> Service {
    Start::on(sections).start().await
}

/// A text that no guard decides and that no model may ignore.
const REQUEST: &str = "please add unit tests for the parser module when you are through with the rest of it";

fn by_guard(action: &str, rule: &str) -> Value {
    json!({"action": action, "decided_by": "guard", "rule": rule, "confidence": null, "model_action": null, "mode": "on", "replayed": false})
}

/// Row 1: as if the router were not there, and nothing is remembered.
#[tokio::test]
async fn disabled() {
    let service = Start::with("").start().await;
    for text in ["stop", "/stop", "", "thanks!", REQUEST] {
        let request = message(text, json!({"message": {"id": "m1"}, "session": {"id": "one", "turn_id": "t7"}}));
        let expected = json!({"action": "pass_through", "decided_by": "disabled", "rule": "disabled", "mode": "off", "ack": null,
            "command": null, "shadow": null, "suggested_action": null, "duplicate_of": null, "task_id": null, "replayed": false});
        let first = service.expect(&request, expected.clone()).await;
        let again = service.expect(&request, expected).await;
        assert_ne!(first["decision_id"], again["decision_id"], "nothing is kept, so nothing is replayed");
    }
    // Nothing of it is known when the router is turned on.
    service.write_config("mode = \"on\"\n");
    let request = message(REQUEST, json!({"message": {"id": "m1"}, "session": {"id": "one"}}));
    let decision =
        eventually("the router is on", async || Some(service.route(&request).await).filter(|decision| decision["mode"] == "on"))
            .await;
    assert_eq!((&decision["replayed"], &decision["duplicate_of"]), (&json!(false), &Value::Null), "{decision}");
    assert!(decision["ack"].is_object(), "no ack was used up while it was off: {decision}");
}

/// Row 3.
#[tokio::test]
async fn not_busy_passes_through_and_is_not_remembered() {
    let (service, _llm) = with_queueing_llm("").await;
    for text in ["stop", "/stop", "", REQUEST] {
        let request = message(
            text,
            json!({"busy": {"state": "idle"}, "message": {"id": "m", "sender_id": "u"}, "session": {"id": "idle"}}),
        );
        service.expect(&request, by_guard("pass_through", "not_busy")).await;
        assert_eq!(service.route(&request).await["ack"], Value::Null);
    }
    let busy = message(REQUEST, json!({"message": {"id": "m", "sender_id": "u"}, "session": {"id": "idle"}}));
    service.expect(&busy, json!({"rule": "model", "action": "queue", "replayed": false, "duplicate_of": null})).await;
    // What was decided while the run went on still holds when it has ended.
    let idle = changed(&busy, json!({"busy": {"state": "idle"}}));
    service.expect(&idle, json!({"rule": "model", "action": "queue", "replayed": true})).await;
}

/// Row 4: judged by the same function as a task's status.
#[tokio::test]
async fn stale_busy() {
    let service = guards("").await;
    let with = |evidence: Value| message("stop", json!({"session": {"turn_id": "t2"}, "busy": {"evidence": evidence}}));
    for evidence in [
        json!([{"source": "session", "status": "ended"}]),
        json!([{"source": "run", "id": "t2", "status": "completed", "age_ms": 5}]),
        json!([{"source": "task", "status": "failed"}]),
        json!([{"source": "task", "status": "running", "age_ms": 0}, {"source": "session", "status": "closed", "age_ms": 90_000}]),
        json!([{"source": "heartbeat", "status": "busy", "age_ms": 900}, {"source": "run", "status": "end_turn", "age_ms": 100}]),
    ] {
        service.expect(&with(evidence), by_guard("pass_through", "stale_busy")).await;
    }
    for evidence in [
        json!([]),
        json!([{"source": "session", "status": "idle"}]),
        json!([{"source": "session", "status": "never heard of it"}]),
        json!([{"source": "run", "id": "t1", "status": "completed"}]),
        json!([{"source": "heartbeat", "status": "busy", "age_ms": 100}, {"source": "run", "id": "t2", "status": "completed", "age_ms": 900}]),
    ] {
        service.expect(&with(evidence), by_guard("interrupt", "stop_phrase")).await;
    }
}

/// Row 5, with the paragraph "Command text".
#[tokio::test]
async fn command() {
    let service = guards("[guards]\ncommand_prefixes = [\"/\", \"!\"]\n[commands.hermes]\ndeploy = \"side\"\nmodel = \"control\"\ntitle = false\n[commands.own]\nGo = \"control\"\n").await;
    for (gateway, text, name, args, lane) in [
        ("hermes", "/stop", "stop", "", "control"),
        ("hermes", "/background fix the docs", "background", "fix the docs", "side"),
        ("hermes", "  /bg\tx  y ", "bg", "x  y", "side"),
        ("hermes", "/BTW what time is it?", "btw", "what time is it?", "side"),
        ("hermes", "／reset", "reset", "", "control"),
        ("hermes", "/status@my_bot", "status", "", "inline"),
        ("hermes", "/btw@my_bot hello", "btw", "hello", "side"),
        ("hermes", "/new\nand then\nmore", "new", "and then\nmore", "control"),
        ("hermes", "/reload-mcp", "reload-mcp", "", "inline"),
        ("hermes", "/set-home /tmp/x", "set-home", "/tmp/x", "inline"),
        ("hermes", "!stop now", "stop", "now", "control"),
        ("hermes", "/deploy prod", "deploy", "prod", "side"),
        ("hermes", "/model x", "model", "x", "control"),
        ("openclaw", "/side hello", "side", "hello", "side"),
        ("openclaw", "/stop", "stop", "", "control"),
        ("openclaw", "/status", "status", "", "inline"),
        ("own", "/go", "go", "", "control"),
    ] {
        let request = message(text, json!({"session": {"gateway": gateway}}));
        let mut expected = by_guard("dispatch", "command");
        expected["command"] = json!({"name": name, "args": args, "lane": lane});
        expected["ack"] = Value::Null;
        service.expect(&request, expected).await;
    }
    // A command needs no capability, is no duplicate of itself, and goes before everything that waits.
    for state in ["awaiting_answer", "awaiting_approval", "compacting", "draining", "starting", "stopping"] {
        let request = message(
            "/status",
            json!({"busy": {"state": state}, "capabilities": [], "session": {"id": "states"}, "message": {"sender_id": "u"}}),
        );
        service.expect(&request, by_guard("dispatch", "command")).await;
    }
    // In a group too, from whomever.
    let group = message(
        "/stop",
        json!({"session": {"chat": "group", "owner_id": "a"}, "message": {"sender_id": "b", "addressed": false}}),
    );
    service.expect(&group, by_guard("dispatch", "command")).await;
}

/// Row 6: verbatim, and never a model.
#[tokio::test]
async fn unknown_command() {
    let (service, llm) = with_llm([Act::answer("ignore", 1.0)], "[commands.hermes]\ntitle = false").await;
    for (gateway, text, name, args) in [
        ("hermes", "/foobar  Hello,  World ", "foobar", "Hello,  World"),
        ("hermes", "/title my chat", "title", "my chat"),
        ("openclaw", "/background x", "background", "x"),
        ("default", "/stop", "stop", ""),
        ("nobody-knows-it", "/Stop@bot", "stop", ""),
    ] {
        let request = message(text, json!({"session": {"gateway": gateway}}));
        let mut expected = by_guard("queue", "unknown_command");
        expected["command"] = json!({"name": name, "args": args, "lane": "unknown"});
        service.expect(&request, expected).await;
    }
    assert!(llm.received().is_empty(), "its text never reaches a model");
}

#[tokio::test]
async fn a_slash_alone_makes_no_command() {
    let (service, _llm) = with_queueing_llm("").await;
    for text in [
        "/usr/bin/env is missing",
        "/etc/hosts is broken",
        "//comment",
        "/5",
        "use /stop please",
        "/",
        "/ status",
        "/-x",
        "/status!",
        "/status, please",
        "/étage",
        "!status of it all",
        "C:/status",
        "http://stop",
        "/status@",
        "/status/now",
    ] {
        let decision = service.route(&message(text, json!({}))).await;
        assert_eq!((&decision["rule"], &decision["command"]), (&json!("model"), &Value::Null), "{text}: {decision}");
    }
    // What is no command may still be a stop: the signs around it do not count.
    service.expect(&message("/stop!", json!({})), by_guard("interrupt", "stop_phrase")).await;
}

/// Row 7.
#[tokio::test]
async fn empty() {
    let service = guards("").await;
    for text in ["", "   \n\t ", "\u{200b}\u{200d}\u{2066}", "\u{feff}"] {
        let mut expected = by_guard("ignore", "empty");
        expected["ack"] = Value::Null;
        service.expect(&message(text, json!({})), expected.clone()).await;
        service.expect(&message(text, json!({"busy": {"state": "awaiting_answer"}})), expected).await;
    }
}

/// Row 8, in every language of the lexicon.
#[tokio::test]
async fn stop_phrase() {
    let service = guards("").await;
    let phrases = [
        "stop",
        "please stop",
        "cancel that",
        "abort",
        "detente",
        "para por favor",
        "arrête",
        "arrête-toi",
        "stopp",
        "hör auf",
        "aufhören",
        "pare",
        "fermati",
        "hou op",
        "przestań",
        "стоп",
        "остановись",
        "хватит, остановись",
        "зупинись",
        "dur",
        "durdur",
        "توقف",
        "بس کن",
        "रुको",
        "থামো",
        "berhenti",
        "dừng lại",
        "หยุด",
        "停止",
        "停下来",
        "停下來",
        "やめて",
        "止めて",
        "멈춰",
        "sluta",
        "stop nu",
        "stans",
        "lopeta",
        "přestaň",
        "oprește",
        "állj le",
        "σταμάτα",
        "תפסיק",
        "atura't",
        "спри",
        "zaustavi",
        "prekini",
        "престани",
        "nehaj",
        "zastav to",
        "sustok",
        "apstājies",
        "peatu",
        "detén todo",
        "gelditu zaitez",
        "hættu",
        "stad anois",
        "stopiwch",
        "ndalo",
        "გაჩერდი",
        "դադարեցրու",
        "dayandır",
        "тоқтат",
        "to'xtat",
        "зогсоо",
        "hentikan semua",
        "itigil mo na",
        "sitisha",
        "hou nou op",
        "روک دو",
        "நிறுத்து",
        "ఆపండి",
        "ನಿಲ್ಲಿಸಿ",
        "നിർത്തൂ",
        "थांबवा",
        "અટકાવો",
        "ਰੋਕੋ",
        "रोक्नुहोस्",
        "නවත්වන්න",
        "ရပ်ပါ",
        "ឈប់",
        "ຢຸດ",
        "አቁም",
        "stop what you are doing",
        "cancel all ongoing operations",
        "abort the current task",
        "you can stop now",
        "put a stop to it",
        "detén todas las operaciones",
        "arrête ce que tu fais",
        "alle laufenden Vorgänge abbrechen",
        "останови все задачи",
        "取消当前任务",
        "現在の作業を中止して",
        "모든 작업을 중단해 주세요",
    ];
    for text in phrases {
        service.expect(&message(text, json!({})), by_guard("interrupt", "stop_phrase")).await;
    }
    for text in [
        "STOP",
        "Stop!",
        "stop…",
        "  stop  ",
        "stoooop",
        "STOP!!!",
        "ｓｔｏｐ",
        "st\u{200b}op",
        "\u{202e}stop\u{202c}",
        "🛑 stop 🛑",
        "stop stop stop",
        "Stop! Stop!",
        "Stop. Please stop.",
        "“stop”",
        "*stop*",
        "¡Detente!",
        "ПРЕКРАТИ",
        "ARRÊTE",
        "s\u{ad}top",
        "stop\u{fe0f}",
    ] {
        service.expect(&message(text, json!({})), by_guard("interrupt", "stop_phrase")).await;
    }
}

#[tokio::test]
async fn near_misses_of_a_stop_are_for_the_model() {
    let (service, _llm) = with_queueing_llm("").await;
    for text in [
        "bus stop",
        "don't stop",
        "Don't. Stop.",
        "please stop by the shop later",
        "stop the music when you are done",
        "non-stop",
        "nonstop",
        "ѕtop",
        "ѕтор",
        "stοp",
        "the process was stopped",
        "nicht aufhören",
        "no pares",
        "não pare",
        "ne t'arrête pas",
        "不要停",
        "止めないで",
        "how do I stop it",
        "unstoppable",
        "stop?ping",
        "stop if the tests fail",
        "add a stop button",
        "stop and then do the other thing",
        "stop the server",
        "kill all processes",
        "cancel all activities",
        "finish the current task",
        "termina la tarea",
        "para esta tarea",
        "заверши задачу",
        "stad",
        "geldi",
        "peata",
    ] {
        let decision = service.route(&message(text, json!({}))).await;
        assert_eq!(decision["rule"], "model", "{text}: {decision}");
    }
}

#[tokio::test]
async fn in_groups_a_stop_counts_from_the_owner_or_when_addressed() {
    let (service, _llm) = with_queueing_llm("").await;
    let stop = |chat: &str, owner: Option<&str>, sender: Option<&str>, addressed: Option<bool>| {
        message(
            "stop",
            json!({"session": {"chat": chat, "owner_id": owner}, "message": {"sender_id": sender, "addressed": addressed}}),
        )
    };
    for chat in ["group", "channel", "thread"] {
        for (owner, sender, addressed) in [
            (Some("a"), Some("a"), Some(false)),
            (Some("a"), Some("a"), None),
            (Some("a"), Some("b"), Some(true)),
            (Some("a"), None, Some(true)),
            (None, Some("b"), None),
            (None, None, None),
        ] {
            service.expect(&stop(chat, owner, sender, addressed), by_guard("interrupt", "stop_phrase")).await;
        }
        for (owner, sender, addressed) in [
            (Some("a"), Some("b"), Some(false)),
            (Some("a"), Some("b"), None),
            (Some("a"), None, None),
            (None, Some("b"), Some(false)),
        ] {
            let decision = service.route(&stop(chat, owner, sender, addressed)).await;
            assert_ne!(decision["action"], "interrupt", "{chat} {owner:?} {sender:?} {addressed:?}: {decision}");
        }
    }
    service.expect(&stop("direct", Some("a"), Some("b"), Some(false)), by_guard("interrupt", "stop_phrase")).await;
}

/// "A stop phrase is never a duplicate", and "interrupts also a protected tool or a run with children".
#[tokio::test]
async fn nothing_holds_a_stop_up() {
    let service = guards("[guards]\nprotected_tools = [\"deploy\"]\n").await;
    let request = message(
        "stop",
        json!({"message": {"sender_id": "u"}, "busy": {"state": "running_tool", "subagents": 3,
        "tool": {"name": "deploy", "interruptible": false}}}),
    );
    for _ in 0..3 {
        service.expect(&request, by_guard("interrupt", "stop_phrase")).await;
    }
    for state in ["awaiting_answer", "awaiting_approval", "unknown", "streaming"] {
        service.expect(&message("stop", json!({"busy": {"state": state}})), by_guard("interrupt", "stop_phrase")).await;
    }
}

/// Row 9.
#[tokio::test]
async fn pending_reply() {
    let (service, _llm) = with_queueing_llm("").await;
    let asked = |state: &str, text: &str| message(text, json!({"busy": {"state": state}}));
    for text in ["the second one, with tests", "thanks!", "yes", "5", REQUEST] {
        service.expect(&asked("awaiting_answer", text), by_guard("pass_through", "pending_reply")).await;
    }
    let photo = changed(&asked("awaiting_answer", ""), json!({"message": {"media": [{"kind": "photo"}]}}));
    service.expect(&photo, by_guard("pass_through", "pending_reply")).await;
    for text in [
        "yes",
        "Yes!",
        "ok, go ahead",
        "no",
        "no, don't",
        "👍",
        "👎",
        "✅",
        "sí",
        "oui",
        "ja",
        "nein",
        "sim",
        "da",
        "да",
        "так",
        "evet",
        "نعم",
        "हाँ",
        "হ্যাঁ",
        "iya",
        "có",
        "ใช่",
        "好的",
        "はい",
        "네",
        "ｎｏ",
    ] {
        let decision = service.route(&asked("awaiting_approval", text)).await;
        assert_eq!(
            (&decision["action"], &decision["rule"]),
            (&json!("pass_through"), &json!("pending_reply")),
            "{text}: {decision}"
        );
    }
    for text in ["what would that change?", "also add the tests", "yesterday it worked", "🎉"] {
        let decision = service.route(&asked("awaiting_approval", text)).await;
        assert_ne!(decision["rule"], "pending_reply", "{text}");
        assert_ne!(decision["action"], "ignore", "{text}");
    }
    // Answers may repeat: the agent may ask twice.
    let again =
        changed(&asked("awaiting_answer", "the second"), json!({"message": {"sender_id": "u"}, "session": {"id": "again"}}));
    for _ in 0..2 {
        service.expect(&again, by_guard("pass_through", "pending_reply")).await;
    }
    service.expect(&asked("thinking", "yes"), json!({"rule": "model"})).await;
}

/// Rows 10 and 11.
#[tokio::test]
async fn albums_and_media() {
    let (service, llm) = with_llm([Act::answer("interrupt", 0.9)], GENEROUS).await;
    for kind in ["photo", "voice", "audio", "video", "document", "sticker", "location", "contact", "other"] {
        let request = message("", json!({"message": {"media": [{"kind": kind}], "sender_id": "u"}, "session": {"id": "media"}}));
        // Two voice notes are two messages: media are no duplicates.
        service.expect(&request, by_guard("queue", "media")).await;
    }
    assert!(llm.received().is_empty());

    let part = |session: &str, text: &str, album: &str| {
        message(
            text,
            json!({"session": {"id": session}, "message": {"media": [{"kind": "photo", "album_id": album}], "sender_id": "u"}}),
        )
    };
    service.expect(&part("a", "no, use these logos instead", "x"), json!({"rule": "model", "action": "interrupt"})).await;
    service.expect(&part("a", "", "x"), by_guard("interrupt", "album")).await;
    service.expect(&part("a", "", "x"), by_guard("interrupt", "album")).await;
    service.expect(&part("a", "", "y"), by_guard("queue", "media")).await;
    service.expect(&part("a", "no, use these logos instead", "y"), by_guard("queue", "album")).await;
    service.expect(&part("b", "", "x"), by_guard("queue", "media")).await;
    assert_eq!(llm.received().len(), 1);

    // A caption that a guard decides speaks for its album too.
    service.expect(&part("c", "stop", "z"), by_guard("interrupt", "stop_phrase")).await;
    service.expect(&part("c", "", "z"), by_guard("interrupt", "album")).await;
    let answer = changed(&part("d", "these", "z"), json!({"busy": {"state": "awaiting_answer"}}));
    service.expect(&answer, by_guard("pass_through", "pending_reply")).await;
    service.expect(&part("d", "", "z"), by_guard("pass_through", "album")).await;
    // But a photo is no command, and nothing is known of what came while there was no run.
    service.expect(&part("e", "/background sort these", "z"), by_guard("dispatch", "command")).await;
    service.expect(&part("e", "", "z"), by_guard("queue", "media")).await;
    service.expect(&changed(&part("f", "", "z"), json!({"busy": {"state": "idle"}})), by_guard("pass_through", "not_busy")).await;
    service.expect(&part("f", "", "z"), by_guard("queue", "media")).await;
}

/// Row 12.
#[tokio::test]
async fn duplicate() {
    let (service, llm) = with_queueing_llm("").await;
    let said = |id: &str, text: &str, changes: Value| {
        let request = message(text, json!({"session": {"id": "dup"}, "message": {"id": id, "sender_id": "u"}}));
        changed(&request, changes)
    };
    let duplicate_of = |id: &str| {
        let mut expected = by_guard("ignore", "duplicate");
        expected["duplicate_of"] = json!(id);
        expected["ack"] = Value::Null;
        expected
    };
    let accepted = json!({"action": "queue", "rule": "model", "duplicate_of": null});
    service.expect(&said("1", "Fix the login page", json!({})), accepted.clone()).await;
    for (id, text) in [
        ("2", "Fix the login page"),
        ("3", "  fix the\nLOGIN  page!! "),
        ("4", "ｆix the lo\u{200b}gin page."),
        ("5", "Fix the login page…"),
    ] {
        service.expect(&said(id, text, json!({})), duplicate_of("1")).await;
    }
    for (id, changes) in [
        ("6", json!({"message": {"sender_id": "v"}})),
        ("7", json!({"session": {"id": "other"}})),
        ("8", json!({"session": {"gateway": "openclaw"}})),
        ("9", json!({"message": {"reply_to": {"id": "p1", "text": "the left one"}}})),
        ("10", json!({"message": {"media": [{"kind": "photo"}]}})),
        ("11", json!({"busy": {"pending_question": "Which page?"}})),
        ("12", json!({"busy": {"state": "awaiting_approval"}})),
    ] {
        let decision = service.route(&said(id, "Fix the login page", changes.clone())).await;
        assert_eq!((&decision["action"], &decision["duplicate_of"]), (&json!("queue"), &Value::Null), "{changes}: {decision}");
    }
    for (id, text) in [
        ("20", "Fix the login page?"),
        ("21", "Fix the login page 🙏"),
        ("22", "Fix the login page 2"),
        ("23", "Fix the logic page"),
    ] {
        service.expect(&said(id, text, json!({})), accepted.clone()).await;
    }
    // Without ids it is the text that counts, and there is none to name.
    let nameless = message("Rename the module", json!({}));
    service.expect(&nameless, accepted.clone()).await;
    let mut expected = by_guard("ignore", "duplicate");
    expected["duplicate_of"] = Value::Null;
    service.expect(&nameless, expected).await;

    // What was interrupted for is accepted as well; what the model ignores is not.
    llm.set(Act::answer("interrupt", 0.95));
    service.expect(&said("30", "no wait, the other branch", json!({})), json!({"action": "interrupt"})).await;
    service.expect(&said("31", "no wait, the other branch", json!({})), duplicate_of("30")).await;
    llm.set(Act::answer("ignore", 0.95));
    for id in ["40", "41"] {
        service.expect(&said(id, "neat stuff", json!({})), json!({"action": "ignore", "rule": "model"})).await;
    }
}

#[tokio::test]
async fn a_duplicate_is_one_only_within_its_window() {
    let (service, _llm) = with_queueing_llm("[guards]\nduplicate_window_s = 1").await;
    let request = message("Fix the login page", json!({"session": {"id": "w"}}));
    service.expect(&request, json!({"rule": "model"})).await;
    service.expect(&request, json!({"rule": "duplicate"})).await;
    eventually("the window ends", async || (service.route(&request).await["rule"] == "model").then_some(())).await;
    let (service, _llm) = with_queueing_llm("[guards]\nduplicate_window_s = 0").await;
    for _ in 0..3 {
        service.expect(&request, json!({"rule": "model"})).await;
    }
}

/// "What was passed through is not remembered: repeating it while busy is no duplicate."
#[tokio::test]
async fn what_was_passed_through_has_no_duplicate() {
    let (service, llm) = with_queueing_llm("[guards]\nambient = \"pass_through\"").await;
    let idle = message("Fix the login page", json!({"busy": {"state": "idle"}}));
    service.expect(&idle, json!({"rule": "not_busy"})).await;
    service.expect(&changed(&idle, json!({"busy": {"state": "thinking"}})), json!({"rule": "model", "action": "queue"})).await;

    let ambient = message("Fix the login page", json!({"session": {"chat": "group"}, "message": {"addressed": false}}));
    service.expect(&ambient, json!({"rule": "ambient", "action": "pass_through"})).await;
    service.expect(&ambient, json!({"rule": "ambient", "action": "pass_through"})).await;

    // A gateway that can do nothing but ignore does itself what it can; the router has accepted nothing.
    let weak = message("Fix the login page", json!({"capabilities": ["ignore"]}));
    for _ in 0..2 {
        service.expect(&weak, json!({"rule": "unsupported_action", "action": "pass_through", "suggested_action": "queue"})).await;
    }
    assert_eq!(llm.received().len(), 3);
}

/// Row 13.
#[tokio::test]
async fn backchannel() {
    let (service, _llm) = with_queueing_llm("").await;
    for text in [
        "thanks!",
        "Thank you so much",
        "ok cool thanks",
        "hahahaha",
        "lol 😂",
        "👍",
        "❤️🎉",
        "great, thanks!",
        "gracias",
        "merci",
        "danke",
        "obrigado",
        "grazie",
        "bedankt",
        "dzięki",
        "спасибо",
        "дякую",
        "teşekkürler",
        "شكرا",
        "ممنون",
        "धन्यवाद",
        "ধন্যবাদ",
        "terima kasih",
        "cảm ơn",
        "ขอบคุณ",
        "谢谢",
        "謝謝",
        "ありがとう",
        "고마워",
        "ㅋㅋㅋㅋ",
        "I really appreciate your help!",
        "Thanks for the response.",
        "No, that's all, thank you.",
        "mm-hmm",
        "oh wow, that's great",
        "gracias por tu ayuda",
        "das hilft mir sehr",
        "不错，谢谢你的帮助",
        "THANKS",
        "ｔｈａｎｋｓ",
    ] {
        let mut expected = by_guard("ignore", "backchannel");
        expected["ack"] = Value::Null;
        service.expect(&message(text, json!({})), expected).await;
    }
    for text in ["thanks, also add tests", "ok?", "great ✋", "👎", "🛑", "cool bug", "thanks for nothing", "no", "ok 5"] {
        let decision = service.route(&message(text, json!({}))).await;
        assert_eq!(decision["rule"], "model", "{text}: {decision}");
    }
    for changes in [
        json!({"busy": {"pending_question": "Deploy?"}}),
        json!({"busy": {"state": "awaiting_approval"}}),
        json!({"history": [{"role": "assistant", "text": "Shall I deploy? 🙂"}]}),
        json!({"history": [{"role": "assistant", "text": "続けますか。"}, {"role": "user", "text": "hm"}]}),
        json!({"message": {"reply_to": {"text": "deploy now?"}}}),
        json!({"message": {"media": [{"kind": "photo"}]}}),
    ] {
        let decision = service.route(&message("thanks", changes.clone())).await;
        assert_ne!(decision["action"], "ignore", "{changes}: {decision}");
    }
    let old_question =
        json!({"history": [{"role": "assistant", "text": "Which one?"}, {"role": "assistant", "text": "Found it."}]});
    service.expect(&message("ok", old_question), by_guard("ignore", "backchannel")).await;
}

/// Row 14, with all three settings.
#[tokio::test]
async fn ambient() {
    for (setting, action) in [
        ("", "queue"),
        ("ambient = \"queue\"", "queue"),
        ("ambient = \"ignore\"", "ignore"),
        ("ambient = \"pass_through\"", "pass_through"),
    ] {
        let (service, _llm) = with_queueing_llm(&format!("[guards]\n{setting}")).await;
        let talk = |chat: &str, addressed: Option<bool>, sender: &str| {
            message(
                "see you at eight, bring the cake",
                json!({"session": {"chat": chat, "owner_id": "owner"}, "message": {"addressed": addressed, "sender_id": sender}}),
            )
        };
        for chat in ["group", "channel", "thread"] {
            service.expect(&talk(chat, Some(false), "other"), by_guard(action, "ambient")).await;
            for (addressed, sender) in [(Some(true), "other"), (None, "other"), (Some(false), "owner")] {
                service.expect(&talk(chat, addressed, sender), json!({"rule": "model"})).await;
            }
        }
        service.expect(&talk("direct", Some(false), "other"), json!({"rule": "model"})).await;
        let no_owner = changed(&talk("group", Some(false), "other"), json!({"session": {"owner_id": null}}));
        service.expect(&no_owner, by_guard(action, "ambient")).await;
    }
}

/// Row 15, and what is told of the model.
#[tokio::test]
async fn model() {
    let (service, llm) = with_llm([], GENEROUS).await;
    for (action, confidence) in [("queue", 0.9), ("interrupt", 0.75), ("ignore", 0.6)] {
        llm.set(Act::answer(action, confidence));
        let text = if action == "ignore" { "neat stuff" } else { REQUEST };
        let decision = service
            .expect(
                &message(text, json!({})),
                json!({"action": action, "decided_by": "model", "rule": "model", "model_action": action, "confidence": confidence, "suggested_action": null}),
            )
            .await;
        let (total, model) = (decision["latency"]["total_us"].as_u64(), decision["latency"]["model_us"].as_u64());
        assert!(model > Some(0) && total >= model, "{decision}");
    }
    let built_in = guards("").await;
    let decision = built_in.route(&message(REQUEST, json!({}))).await;
    assert!(matches!(decision["rule"].as_str(), Some("model" | "low_confidence")), "{decision}");
    assert_eq!(decision["action"], "queue", "{decision}");
    assert!(decision["confidence"].as_f64().is_some_and(|confidence| (0.0..=1.0).contains(&confidence)), "{decision}");
}

/// The built-in model is asked first, and the LLM for what it is not sure of.
#[tokio::test]
async fn cascade() {
    let upstream = Upstream::start([Act::answer("interrupt", 0.99)]).await;
    let alone = guards("").await;
    let cascade = Start::on(&format!(
        "[model]\nprovider = \"cascade\"\nbase_url = \"{}\"\nmodel = \"tiny\"\n{GENEROUS}",
        upstream.base_url()
    ))
    .start()
    .await;
    let messages = include_str!("../../fixtures/bench/multi.jsonl").lines().step_by(7).map(|line| {
        let fixture: Value = serde_json::from_str(line).expect("a fixture");
        fixture["request"].clone()
    });
    let (mut sure, mut unsure) = (0, 0);
    for request in messages {
        let by_itself = alone.route(&request).await;
        if by_itself["confidence"].is_null() {
            continue;
        }
        let calls = upstream.received().len();
        let decision = cascade.route(&request).await;
        let asked = upstream.received().len() - calls;
        if by_itself["rule"] == "low_confidence" {
            unsure += 1;
            assert_eq!((asked, &decision["model_action"]), (1, &json!("interrupt")), "{request}: {decision}");
        } else {
            sure += 1;
            let same = ["action", "rule", "confidence", "model_action"].iter().all(|field| decision[field] == by_itself[field]);
            assert!(asked == 0 && same, "{request}: {decision}, but by itself {by_itself}");
        }
        if sure > 9 && unsure > 9 {
            break;
        }
    }
    // Weights without a threshold never abstain.
    let threshold =
        f32::from_le_bytes(busy_router::model::builtin::Builtin::embedded_bytes()[16..20].try_into().expect("four bytes"));
    assert!(sure > 0 && (unsure > 0 || threshold <= 0.0), "{sure} sure, {unsure} unsure");
}

fn by_review(rule: &str, said: &str) -> Value {
    json!({"action": "queue", "decided_by": "guard", "rule": rule, "model_action": said})
}

#[tokio::test]
async fn review_of_a_low_confidence() {
    let (service, llm) = with_llm([Act::answer("interrupt", 0.59)], &format!("{GENEROUS}min_confidence = 0.6\n")).await;
    let mut expected = by_review("low_confidence", "interrupt");
    expected["confidence"] = json!(0.59);
    expected["suggested_action"] = Value::Null;
    service.expect(&message(REQUEST, json!({})), expected).await;
    llm.set(Act::answer("interrupt", 0.6));
    service.expect(&message(REQUEST, json!({})), json!({"rule": "model", "action": "interrupt"})).await;

    let (service, _llm) =
        with_llm([Act::answer("queue", 0.1)], &format!("{GENEROUS}[fallback]\nlow_confidence = \"interrupt\"")).await;
    service
        .expect(
            &message(REQUEST, json!({})),
            json!({"rule": "low_confidence", "action": "interrupt", "decided_by": "guard", "model_action": "queue"}),
        )
        .await;
}

#[tokio::test]
async fn review_of_an_ignore_with_content() {
    let (service, _llm) = with_llm([Act::answer("ignore", 0.99)], GENEROUS).await;
    service.expect(&message("neat stuff", json!({})), json!({"rule": "model", "action": "ignore"})).await;
    let long = "well this one is just a little bit longer than forty characters";
    for text in [
        "neat, right?",
        "本当？",
        "هل هذا جيد؟",
        "neat 5",
        "neat ٥",
        "see https://x",
        "www.x",
        "neat example.org",
        "run `ls`",
        "foo()",
        "a::b",
        "use snake_case",
        "x = y",
        "cargo --help",
        long,
    ] {
        service.expect(&message(text, json!({})), by_review("ignore_with_content", "ignore")).await;
    }
    for changes in [
        json!({"message": {"reply_to": {"id": "p", "from": "assistant"}}}),
        json!({"message": {"media": [{"kind": "sticker"}]}}),
        json!({"busy": {"pending_question": "which one"}}),
        json!({"busy": {"state": "awaiting_approval"}}),
    ] {
        service.expect(&message("neat stuff", changes), by_review("ignore_with_content", "ignore")).await;
    }
    let to_a_person = json!({"message": {"reply_to": {"id": "p", "from": "user"}}});
    service.expect(&message("neat stuff", to_a_person), json!({"rule": "model", "action": "ignore"})).await;

    // The bound is a setting; so is what happens instead, but never what was refused.
    let (service, _llm) = with_llm(
        [Act::answer("ignore", 0.99)],
        &format!("{GENEROUS}[guards]\nignore_max_chars = 200\n[fallback]\nignore_with_content = \"interrupt\""),
    )
    .await;
    service.expect(&message(long, json!({})), json!({"rule": "model", "action": "ignore"})).await;
    service.expect(&message("neat?", json!({})), json!({"rule": "ignore_with_content", "action": "interrupt"})).await;
}

#[tokio::test]
async fn review_of_a_protected_run() {
    let (service, _llm) =
        with_llm([Act::answer("interrupt", 0.99)], &format!("{GENEROUS}[guards]\nprotected_tools = [\"deploy\"]")).await;
    for busy in [
        json!({"state": "running_tool", "tool": {"name": "terminal", "interruptible": false}}),
        json!({"state": "running_tool", "tool": {"name": "deploy"}}),
        json!({"state": "running_tool", "tool": {"name": "deploy", "interruptible": true}}),
        json!({"subagents": 1}),
    ] {
        service.expect(&message(REQUEST, json!({"busy": busy})), by_review("protected_run", "interrupt")).await;
    }
    for busy in [
        json!({}),
        json!({"subagents": 0}),
        json!({"state": "running_tool", "tool": {"name": "terminal", "interruptible": true}}),
    ] {
        service.expect(&message(REQUEST, json!({"busy": busy})), json!({"rule": "model", "action": "interrupt"})).await;
    }
    let (service, _llm) =
        with_llm([Act::answer("interrupt", 0.99)], &format!("{GENEROUS}[guards]\nprotect_subagents = false")).await;
    service.expect(&message(REQUEST, json!({"busy": {"subagents": 9}})), json!({"rule": "model", "action": "interrupt"})).await;
    // A general fallback does not undo the protection.
    let (service, _llm) =
        with_llm([Act::answer("interrupt", 0.99)], &format!("{GENEROUS}[fallback]\naction = \"interrupt\"")).await;
    service.expect(&message(REQUEST, json!({"busy": {"subagents": 9}})), by_review("protected_run", "interrupt")).await;
}

/// v1 executes interrupt, queue and ignore; the others only where the gateway declares them and the operator says `execute`.
#[tokio::test]
async fn actions_of_the_model_need_capability_and_permission() {
    for action in ["steer", "background", "ask"] {
        for (permission, can, expected) in [
            ("execute", true, json!({"action": action, "rule": "model", "decided_by": "model", "suggested_action": null})),
            (
                "execute",
                false,
                json!({"action": "queue", "rule": "unsupported_action", "decided_by": "guard", "suggested_action": action}),
            ),
            (
                "suggest",
                true,
                json!({"action": "queue", "rule": "unsupported_action", "decided_by": "guard", "suggested_action": action}),
            ),
            (
                "off",
                true,
                json!({"action": "queue", "rule": "unsupported_action", "decided_by": "guard", "suggested_action": null}),
            ),
        ] {
            let (service, _llm) =
                with_llm([Act::answer(action, 0.9)], &format!("{GENEROUS}[actions]\n{action} = \"{permission}\"")).await;
            let mut capabilities = vec!["interrupt", "queue", "ignore"];
            if can {
                capabilities.push(action);
            }
            let request = message(REQUEST, json!({"capabilities": capabilities}));
            let decision = service.expect(&request, expected).await;
            assert_eq!(decision["model_action"], action);
        }
    }
    // The defaults.
    let (service, llm) = with_llm([], GENEROUS).await;
    for (action, suggested) in
        [("steer", json!("steer")), ("background", json!("background")), ("ask", Value::Null), ("detach", json!("detach"))]
    {
        llm.set(Act::answer(action, 0.9));
        let request = message(
            REQUEST,
            json!({"capabilities": ["interrupt", "queue", "ignore", "steer", "background", "ask", "detach"],
            "busy": {"tool": {"name": "exec", "task_id": "b1", "detachable": true}}}),
        );
        service.expect(&request, json!({"action": "queue", "rule": "unsupported_action", "suggested_action": suggested})).await;
    }
}

/// "The same for any action that the gateway does not declare, guards' decisions included."
#[tokio::test]
async fn what_the_gateway_cannot_do_degrades() {
    let (service, llm) = with_llm([Act::answer("interrupt", 0.9)], GENEROUS).await;
    let cannot = |text: &str, capabilities: Value| message(text, json!({"capabilities": capabilities}));
    // Guards.
    service
        .expect(
            &cannot("stop", json!(["queue", "ignore"])),
            json!({"action": "queue", "rule": "stop_phrase", "suggested_action": "interrupt"}),
        )
        .await;
    service
        .expect(
            &cannot("stop", json!(["ignore"])),
            json!({"action": "pass_through", "rule": "stop_phrase", "suggested_action": "interrupt"}),
        )
        .await;
    service
        .expect(
            &cannot("stop", json!([])),
            json!({"action": "pass_through", "rule": "stop_phrase", "suggested_action": "interrupt"}),
        )
        .await;
    service
        .expect(
            &cannot("thanks", json!(["interrupt", "queue"])),
            json!({"action": "queue", "rule": "backchannel", "suggested_action": "ignore"}),
        )
        .await;
    service
        .expect(
            &cannot("", json!(["interrupt"])),
            json!({"action": "pass_through", "rule": "empty", "suggested_action": "ignore"}),
        )
        .await;
    service
        .expect(
            &cannot("/foobar", json!(["interrupt", "ignore"])),
            json!({"action": "pass_through", "rule": "unknown_command", "suggested_action": "queue"}),
        )
        .await;
    // The model and its review.
    service
        .expect(
            &cannot(REQUEST, json!(["queue", "ignore"])),
            json!({"action": "queue", "rule": "unsupported_action", "suggested_action": "interrupt"}),
        )
        .await;
    service.expect(&cannot(REQUEST, json!(["ignore"])), json!({"action": "pass_through", "suggested_action": "interrupt"})).await;
    // An unknown capability of a newer gateway is a mistake that is named; a field of one is not.
    service.post("/v1/route", &cannot(REQUEST, json!(["queue", "teleport"]))).await.problem(422, "invalid_field");
    // The fallback.
    llm.set(Act::Status(500));
    let (failing, _llm) = with_llm([Act::Status(500)], &format!("{GENEROUS}[fallback]\naction = \"interrupt\"")).await;
    failing
        .expect(
            &cannot(REQUEST, json!(["queue"])),
            json!({"action": "queue", "rule": "model_error", "suggested_action": "interrupt"}),
        )
        .await;
    failing
        .expect(
            &cannot(REQUEST, json!([])),
            json!({"action": "pass_through", "rule": "model_error", "suggested_action": "interrupt"}),
        )
        .await;
    failing
        .expect(
            &cannot(REQUEST, json!(["interrupt"])),
            json!({"action": "interrupt", "rule": "model_error", "suggested_action": null}),
        )
        .await;
}

/// "States `starting`, `compacting`, `draining`, `stopping` cannot be interrupted", but for a stop phrase in `starting`.
#[tokio::test]
async fn states_that_cannot_be_interrupted() {
    let (service, _llm) = with_llm([Act::answer("interrupt", 0.95)], GENEROUS).await;
    let (failing, _llm2) = with_llm(
        [Act::Status(500)],
        &format!("{GENEROUS}breaker = {{ failures = 1000, open_s = 1 }}\n[fallback]\naction = \"interrupt\""),
    )
    .await;
    let instead = json!({"action": "queue", "suggested_action": "interrupt"});
    for state in ["starting", "compacting", "draining", "stopping"] {
        let stop = message("stop", json!({"busy": {"state": state}}));
        if state == "starting" {
            service.expect(&stop, by_guard("interrupt", "stop_phrase")).await;
        } else {
            let decision = service.expect(&stop, instead.clone()).await;
            assert_eq!(decision["rule"], "stop_phrase");
        }
        let request = message(REQUEST, json!({"busy": {"state": state}}));
        let decision = service.expect(&request, instead.clone()).await;
        assert_eq!((&decision["rule"], &decision["model_action"]), (&json!("unsupported_action"), &json!("interrupt")));
        let decision = failing.expect(&request, instead.clone()).await;
        assert_eq!((&decision["rule"], &decision["decided_by"]), (&json!("model_error"), &json!("fallback")));
    }
    for state in ["thinking", "streaming", "running_tool", "unknown"] {
        service
            .expect(&message(REQUEST, json!({"busy": {"state": state}})), json!({"action": "interrupt", "rule": "model"}))
            .await;
        failing
            .expect(&message(REQUEST, json!({"busy": {"state": state}})), json!({"action": "interrupt", "rule": "model_error"}))
            .await;
    }
}

/// `detach`: by command, by plain words, by the model; the answer always carries `task_id`.
#[tokio::test]
async fn detach() {
    let tool = json!({"busy": {"state": "running_tool", "elapsed_ms": 120_000, "tool": {"name": "exec", "preview": "make world", "task_id": "b1", "detachable": true}},
        "capabilities": ["interrupt", "queue", "ignore", "detach"], "session": {"turn_id": "t9"}});
    let with_tool = |text: &str| message(text, tool.clone());
    for (permission, action, suggested, task) in [
        ("execute", "detach", Value::Null, json!("b1")),
        ("suggest", "queue", json!("detach"), json!("b1")),
        ("off", "queue", Value::Null, Value::Null),
    ] {
        let (service, _llm) =
            with_llm([Act::answer("detach", 0.9)], &format!("{GENEROUS}[actions]\ndetach = \"{permission}\"")).await;
        let aims = json!({"action": action, "suggested_action": suggested, "task_id": task, "expected_turn_id": "t9"});
        for text in [
            "run that in the background",
            "Put it in the background, please!",
            "put it in the background and start on the docs",
            "ponlo en segundo plano",
            "mets ça en arrière-plan",
            "lass das im hintergrund laufen",
            "background it",
        ] {
            let decision = service.expect(&with_tool(text), aims.clone()).await;
            assert_eq!(decision["rule"], "detach_phrase", "{text}");
        }
        let decision = service.expect(&with_tool(REQUEST), aims.clone()).await;
        assert_eq!(
            (&decision["model_action"], &decision["rule"]),
            (&json!("detach"), &json!(if permission == "execute" { "model" } else { "unsupported_action" }))
        );

        // A bare `/bg` is the running tool's only where that may happen; else it stays Hermes's own command.
        for text in ["/bg", "/background", "/BG@bot"] {
            let expected = match permission {
                "execute" => json!({"action": "detach", "rule": "command", "task_id": "b1", "suggested_action": null}),
                "suggest" => json!({"action": "dispatch", "rule": "command", "task_id": "b1", "suggested_action": "detach"}),
                _ => json!({"action": "dispatch", "rule": "command", "task_id": null, "suggested_action": null}),
            };
            service.expect(&with_tool(text), expected).await;
        }
        service
            .expect(
                &with_tool("/bg write the docs"),
                json!({"action": "dispatch", "rule": "command", "suggested_action": null, "task_id": null}),
            )
            .await;
        // `/detach` needs no entry in a table: it means nothing else.
        let decision = service.expect(&with_tool("/detach"), aims.clone()).await;
        assert_eq!(decision["rule"], if permission == "off" { "unknown_command" } else { "command" });

        // Without a task that can move, or a gateway that can move it, there is nothing to aim at.
        for changes in [
            json!({"busy": {"tool": {"detachable": false}}}),
            json!({"busy": {"tool": {"task_id": null}}}),
            json!({"busy": {"tool": null}}),
        ] {
            let decision = service.route(&changed(&with_tool("run that in the background"), changes.clone())).await;
            assert_ne!(decision["action"], "detach", "{changes}: {decision}");
            assert_eq!(decision["task_id"], Value::Null, "{changes}: {decision}");
            service
                .expect(
                    &changed(&with_tool("/detach"), changes),
                    json!({"action": "queue", "rule": "unknown_command", "task_id": null}),
                )
                .await;
        }
        let cannot = changed(&with_tool("run that in the background"), json!({"capabilities": ["interrupt", "queue", "ignore"]}));
        let suggested = if permission == "off" { Value::Null } else { json!("detach") };
        service.expect(&cannot, json!({"action": "queue", "suggested_action": suggested})).await;
    }
}

/// "`session.turn_id`: the run in flight; echoed as `expected_turn_id`."
#[tokio::test]
async fn the_turn_comes_back() {
    let service = guards("").await;
    for text in ["stop", "/stop", "thanks", REQUEST, ""] {
        service.expect(&message(text, json!({"session": {"turn_id": "turn-5"}})), json!({"expected_turn_id": "turn-5"})).await;
        service.expect(&message(text, json!({})), json!({"expected_turn_id": null})).await;
    }
}

#[tokio::test]
async fn acks() {
    let (service, llm) = with_llm([Act::answer("queue", 0.9)], &format!("{GENEROUS}[ack]\ncooldown_s = 1")).await;
    let said = |session: &str| message(&format!("{REQUEST} {}", fresh()), json!({"session": {"id": session}}));
    let first = service.expect(&said("a"), json!({"action": "queue", "ack": {"key": "queue"}})).await;
    let text = first["ack"]["text"].as_str().expect("a text");
    assert!(!text.to_lowercase().contains("stop") && !text.to_lowercase().contains("interrupt"), "{text}");
    service.expect(&said("a"), json!({"action": "queue", "ack": null})).await;
    service.expect(&said("b"), json!({"ack": {"key": "queue"}})).await;
    // Another action of the same session is news.
    llm.set(Act::answer("interrupt", 0.9));
    service.expect(&said("a"), json!({"action": "interrupt", "ack": {"key": "interrupt"}})).await;
    service.expect(&said("a"), json!({"action": "interrupt", "ack": null})).await;
    // An ack speaks of what happens, not of what would be better.
    let decision = service
        .expect(
            &changed(&said("c"), json!({"busy": {"state": "compacting"}})),
            json!({"action": "queue", "suggested_action": "interrupt", "ack": {"key": "queue"}}),
        )
        .await;
    assert_eq!(decision["ack"]["text"], first["ack"]["text"]);
    llm.set(Act::answer("queue", 0.9));
    eventually("the cool-down ends", async || service.route(&said("a")).await["ack"].is_object().then_some(())).await;
    // What needs no word gets none.
    for text in ["thanks", "/status", ""] {
        service.expect(&message(text, json!({})), json!({"ack": null})).await;
    }
}

#[tokio::test]
async fn acks_in_ones_own_words() {
    let sections = "[ack]\nlocale = \"de\"\n[ack.text.de]\nqueue = \"Nach {tool}, das läuft seit {elapsed}.\"\n";
    let (service, _llm) = with_queueing_llm(sections).await;
    let busy = json!({"busy": {"state": "running_tool", "elapsed_ms": 75_000, "tool": {"name": "terminal"}}});
    service.expect(&message(REQUEST, busy), json!({"ack": {"text": "Nach terminal, das läuft seit 1 min 15 s."}})).await;
    let decision = service.route(&message(REQUEST, json!({}))).await;
    let text = decision["ack"]["text"].as_str().expect("a text");
    assert!(!text.contains('{') && !text.contains("Nach"), "what is not known is not left open: {text}");
    // The rest comes from the lexicon, in the locale.
    let german = service.route(&message("stop", json!({}))).await["ack"]["text"].clone();
    let english = guards("").await.route(&message("stop", json!({}))).await["ack"]["text"].clone();
    let unknown = guards("[ack]\nlocale = \"tlh\"").await.route(&message("stop", json!({}))).await["ack"]["text"].clone();
    assert!(german != english && unknown == english, "{german} {english} {unknown}");
}

#[tokio::test]
async fn acks_off_but_a_question_is_always_asked() {
    let sections = "[ack]\nenabled = false\n[actions]\nask = \"execute\"\n";
    let (service, llm) = with_llm([Act::answer("ask", 0.9)], &format!("{GENEROUS}{sections}")).await;
    let ask = || {
        message(
            &format!("{REQUEST} {}", fresh()),
            json!({"session": {"id": "a"}, "capabilities": ["interrupt", "queue", "ignore", "ask"]}),
        )
    };
    for _ in 0..3 {
        let decision = service.expect(&ask(), json!({"action": "ask", "ack": {"key": "ask"}})).await;
        assert!(decision["ack"]["text"].as_str().is_some_and(|text| text.ends_with('?')), "{decision}");
    }
    llm.set(Act::answer("queue", 0.9));
    service.expect(&ask(), json!({"action": "queue", "ack": null})).await;
    service.expect(&message("stop", json!({})), json!({"action": "interrupt", "ack": null})).await;
}

#[tokio::test]
async fn shadow_mode_decides_and_changes_nothing() {
    let upstream = Upstream::start([Act::answer("interrupt", 0.9)]).await;
    let service = Start::with(&format!(
        "mode = \"shadow\"\n[model]\nprovider = \"openai\"\nbase_url = \"{}\"\nmodel = \"tiny\"\n{GENEROUS}",
        upstream.base_url()
    ))
    .start()
    .await;
    let shadow = |action: &str, by: &str, rule: &str| json!({"action": action, "decided_by": by, "rule": rule});
    let mut model = shadow("interrupt", "model", "model");
    model["confidence"] = json!(0.9);
    for (text, shadow) in [
        ("stop", shadow("interrupt", "guard", "stop_phrase")),
        ("thanks", shadow("ignore", "guard", "backchannel")),
        ("/bg x", shadow("dispatch", "guard", "command")),
        (REQUEST, model),
    ] {
        let request = message(text, json!({"session": {"id": "shadow"}, "message": {"sender_id": "u"}}));
        service
            .expect(
                &request,
                json!({"action": "pass_through", "mode": "shadow", "shadow": shadow, "ack": null, "suggested_action": null}),
            )
            .await;
    }
    // It remembers, else what it reports would not be what `on` does.
    let again = message(REQUEST, json!({"session": {"id": "shadow"}, "message": {"sender_id": "u"}}));
    service.expect(&again, json!({"action": "pass_through", "shadow": {"action": "ignore", "rule": "duplicate"}})).await;
    let cannot = message("stop", json!({"busy": {"state": "compacting"}}));
    service.expect(&cannot, json!({"action": "pass_through", "suggested_action": null, "shadow": {"action": "queue", "suggested_action": "interrupt"}})).await;
    let id = message("stop", json!({"message": {"id": "m1"}}));
    let first = service.route(&id).await;
    service.expect(&id, json!({"replayed": true, "decision_id": first["decision_id"], "action": "pass_through"})).await;
}

/// "first match wins; any of gateway, platform, chat, session"
#[tokio::test]
async fn overrides() {
    let service = guards(
        "[guards]\nambient = \"ignore\"\nignore_max_chars = 7\n\
         [[override]]\nplatform = \"telegram\"\nchat = \"group\"\nmode = \"off\"\n\
         [[override]]\nplatform = \"telegram\"\nmode = \"shadow\"\n\
         [[override]]\nsession = \"special\"\nack = { enabled = false }\n\
         [[override]]\ngateway = \"openclaw\"\n[override.guards]\nambient = \"pass_through\"\n",
    )
    .await;
    let stop = |session: Value| message("stop", json!({"session": session}));
    service.expect(&stop(json!({"platform": "telegram", "chat": "group"})), json!({"mode": "off", "rule": "disabled"})).await;
    service.expect(&stop(json!({"platform": "telegram"})), json!({"mode": "shadow", "shadow": {"action": "interrupt"}})).await;
    service.expect(&stop(json!({"id": "special", "platform": "telegram"})), json!({"mode": "shadow"})).await;
    service.expect(&stop(json!({"id": "special"})), json!({"mode": "on", "action": "interrupt", "ack": null})).await;
    service
        .expect(&stop(json!({"platform": "slack"})), json!({"mode": "on", "action": "interrupt", "ack": {"key": "interrupt"}}))
        .await;
    let talk = |gateway: &str| {
        message("see you at eight", json!({"session": {"gateway": gateway, "chat": "group"}, "message": {"addressed": false}}))
    };
    service.expect(&talk("openclaw"), json!({"rule": "ambient", "action": "pass_through"})).await;
    service.expect(&talk("hermes"), json!({"rule": "ambient", "action": "ignore"})).await;
}

/// Row 2: "same session and `message.id` decided within the window: that decision again".
#[tokio::test]
async fn replay() {
    let (service, llm) = with_queueing_llm("").await;
    let request = message(REQUEST, json!({"message": {"id": "m1", "sender_id": "u"}, "session": {"id": "r"}}));
    let first = service.expect(&request, json!({"replayed": false, "rule": "model"})).await;
    llm.set(Act::answer("interrupt", 0.99));
    let same = |decision: &Value| {
        let mut decision = decision.clone();
        decision["replayed"] = json!(false);
        decision["latency"] = first["latency"].clone();
        decision
    };
    for changes in [
        json!({}),
        json!({"message": {"text": "edited: something else entirely"}}),
        json!({"message": {"text": "stop"}}),
        json!({"message": {"text": "/stop"}}),
        json!({"message": {"sender_id": "v"}}),
        json!({"busy": {"state": "compacting"}}),
        json!({"busy": {"evidence": [{"source": "session", "status": "ended"}]}}),
    ] {
        let again = service
            .expect(&changed(&request, changes.clone()), json!({"replayed": true, "decision_id": first["decision_id"]}))
            .await;
        assert_eq!(same(&again), first, "{changes}");
    }
    assert_eq!(llm.received().len(), 1, "the model is asked once");
    for changes in [
        json!({"session": {"id": "s"}}),
        json!({"session": {"gateway": "openclaw"}}),
        json!({"message": {"id": "m2", "sender_id": "w"}}),
    ] {
        let other = service.expect(&changed(&request, changes.clone()), json!({"replayed": false})).await;
        assert_ne!(other["decision_id"], first["decision_id"], "{changes}");
    }
    // Guards' decisions are replayed as well, commands with their arguments.
    for text in ["stop", "/bg fix it", "thanks", ""] {
        let request = message(text, json!({"message": {"id": "g"}}));
        let first = service.route(&request).await;
        let again = service.route(&request).await;
        assert_eq!(
            (&again["decision_id"], &again["replayed"], &again["command"]),
            (&first["decision_id"], &json!(true), &first["command"])
        );
    }
}

#[tokio::test]
async fn a_replay_is_one_only_within_its_window() {
    let service = guards("[guards]\nredelivery_window_s = 1").await;
    let request = message("stop", json!({"message": {"id": "m1"}}));
    let first = service.route(&request).await;
    service.expect(&request, json!({"replayed": true})).await;
    let later = eventually("the window ends", async || {
        Some(service.route(&request).await).filter(|decision| decision["replayed"] == false)
    })
    .await;
    assert_ne!(later["decision_id"], first["decision_id"]);
    let part =
        |text: &str| message(text, json!({"session": {"id": "a"}, "message": {"media": [{"kind": "photo", "album_id": "x"}]}}));
    service.expect(&part("stop"), json!({"rule": "stop_phrase"})).await;
    eventually("the album's window ends", async || (service.route(&part("")).await["rule"] == "media").then_some(())).await;
}

/// Many at once, one after the other for the same session: answers do not get mixed up.
#[tokio::test]
async fn decisions_of_many_sessions_at_once() {
    let service = guards("").await;
    let texts = ["stop", "/stop", "thanks", "", REQUEST];
    let expected = ["stop_phrase", "command", "backchannel", "empty"];
    let requests: Vec<Value> =
        (0..100).map(|n| message(texts[n % texts.len()], json!({"session": {"turn_id": n.to_string()}}))).collect();
    let decisions = join_all(requests.iter().map(|request| service.route(request))).await;
    for (n, decision) in decisions.iter().enumerate() {
        assert_eq!(decision["expected_turn_id"], n.to_string());
        if let Some(rule) = expected.get(n % texts.len()) {
            assert_eq!(decision["rule"], *rule);
        }
    }
    let ids: std::collections::HashSet<&str> = decisions.iter().filter_map(|decision| decision["decision_id"].as_str()).collect();
    assert_eq!(ids.len(), 100);
}
