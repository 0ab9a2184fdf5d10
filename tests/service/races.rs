//! What arrives at the same instant, and who goes away in the middle.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{GENEROUS, Service, Start, changed, eventually, fresh, message, with_llm};
use crate::upstream::Act;

const N: usize = 64;
/// No guard decides it, and no model may ignore it.
const REQUEST: &str = "please add unit tests for the parser module when you are through with the rest of it";

/// Sends all requests at one instant; the decisions in the same order.
async fn at_once(service: &Service, requests: &[Value]) -> Vec<Value> {
    join_all(requests.iter().map(|request| service.route(request))).await
}

/// The same message N times, each with an id of its own.
fn copies() -> Vec<Value> {
    let request = message(REQUEST, json!({"message": {"sender_id": "u"}}));
    (0..N).map(|n| changed(&request, json!({"message": {"id": format!("m{n}")}}))).collect()
}

/// Exactly one of them was taken up, and the others repeat that very one.
fn assert_one_winner(requests: &[Value], decisions: &[Value]) -> Value {
    let winners: Vec<usize> = (0..decisions.len()).filter(|n| decisions[*n]["rule"] != "duplicate").collect();
    assert_eq!(winners.len(), 1, "{winners:?} were taken up");
    let winner = winners[0];
    for (n, decision) in decisions.iter().enumerate() {
        if n != winner {
            assert_eq!((&decision["action"], &decision["decided_by"]), (&json!("ignore"), &json!("guard")), "{decision}");
            assert_eq!(decision["duplicate_of"], requests[winner]["message"]["id"], "{decision}");
        }
    }
    decisions[winner].clone()
}

#[tokio::test]
async fn of_identical_messages_the_built_in_model_sees_one() {
    let service = Start::on("").start().await;
    for _ in 0..5 {
        let requests = copies();
        let winner = assert_one_winner(&requests, &at_once(&service, &requests).await);
        assert_eq!(winner["action"], "queue", "{winner}");
    }
}

#[tokio::test]
async fn of_identical_messages_a_slow_llm_sees_one() {
    let (service, llm) = with_llm([Act::answer("interrupt", 0.9).after(Duration::from_millis(300))], GENEROUS).await;
    let requests = copies();
    let winner = assert_one_winner(&requests, &at_once(&service, &requests).await);
    assert_eq!((&winner["action"], &winner["rule"]), (&json!("interrupt"), &json!("model")));
    assert_eq!(llm.received().len(), 1);
}

#[tokio::test]
async fn of_identical_messages_one_waits_for_a_hung_llm() {
    let (service, llm) = with_llm([Act::HangBeforeHeaders], &GENEROUS.replace("20000", "400")).await;
    let requests = copies();
    let decisions = at_once(&service, &requests).await;
    let winner = assert_one_winner(&requests, &decisions);
    assert_eq!(
        (&winner["action"], &winner["rule"], &winner["decided_by"]),
        (&json!("queue"), &json!("timeout"), &json!("fallback"))
    );
    assert_eq!(llm.received().len(), 1);
    // The fallback has taken it up: a later copy is one too.
    let late = changed(&requests[0], json!({"message": {"id": "late"}}));
    service.expect(&late, json!({"rule": "duplicate", "duplicate_of": requests.iter().zip(&decisions).find(|(_, decision)| decision["rule"] == "timeout").expect("a winner").0["message"]["id"]})).await;
}

/// Without ids there is nobody to name, but still one winner; other senders are none of its copies.
#[tokio::test]
async fn identical_messages_without_ids() {
    let (service, llm) = with_llm([Act::answer("queue", 0.9).after(Duration::from_millis(200))], GENEROUS).await;
    let request = message(REQUEST, json!({}));
    let mut requests = vec![request.clone(); N / 2];
    requests.extend((0..4).map(|n| changed(&request, json!({"message": {"sender_id": n.to_string()}}))));
    let decisions = at_once(&service, &requests).await;
    let taken_up = |decisions: &[Value]| decisions.iter().filter(|decision| decision["rule"] != "duplicate").count();
    assert_eq!((taken_up(&decisions[..N / 2]), taken_up(&decisions[N / 2..])), (1, 4));
    assert_eq!(llm.received().len(), 5);
}

/// A redelivery is not a duplicate: however many arrive at once, they get one decision.
#[tokio::test]
async fn one_decision_for_one_message_id() {
    for act in [Act::answer("interrupt", 0.9).after(Duration::from_millis(200)), Act::HangMidBody] {
        let hangs = matches!(act, Act::HangMidBody);
        let (service, llm) = with_llm([act], &GENEROUS.replace("20000", "400")).await;
        let request = message(REQUEST, json!({"message": {"id": "m", "sender_id": "u"}}));
        let decisions = at_once(&service, &vec![request; N]).await;
        let ids: HashSet<&str> = decisions.iter().filter_map(|decision| decision["decision_id"].as_str()).collect();
        let first: Vec<&Value> = decisions.iter().filter(|decision| decision["replayed"] == false).collect();
        assert_eq!((ids.len(), first.len(), llm.received().len()), (1, 1, 1));
        assert_eq!(first[0]["rule"], if hangs { "timeout" } else { "model" });
        for decision in &decisions {
            for field in ["action", "rule", "ack", "confidence"] {
                assert_eq!(decision[field], first[0][field]);
            }
        }
    }
    let service = Start::on("").start().await;
    for text in ["stop", "/bg x", "thanks", REQUEST] {
        let request = message(text, json!({"message": {"id": "m", "sender_id": "u"}}));
        let decisions = at_once(&service, &vec![request; N]).await;
        let ids: HashSet<&str> = decisions.iter().filter_map(|decision| decision["decision_id"].as_str()).collect();
        assert_eq!((ids.len(), decisions.iter().filter(|decision| decision["replayed"] == false).count()), (1, 1), "{text}");
    }
}

/// Copies and redeliveries of them, all at once.
#[tokio::test]
async fn redeliveries_of_duplicates() {
    let (service, llm) = with_llm([Act::answer("queue", 0.9).after(Duration::from_millis(200))], GENEROUS).await;
    let request = message(REQUEST, json!({"message": {"sender_id": "u"}}));
    let requests: Vec<Value> = (0..N).map(|n| changed(&request, json!({"message": {"id": format!("m{}", n % 8)}}))).collect();
    let decisions = at_once(&service, &requests).await;
    let ids: HashSet<&str> = decisions.iter().filter_map(|decision| decision["decision_id"].as_str()).collect();
    assert_eq!((ids.len(), llm.received().len()), (8, 1));
    let taken_up: HashSet<&str> = decisions
        .iter()
        .filter(|decision| decision["rule"] == "model")
        .filter_map(|decision| decision["decision_id"].as_str())
        .collect();
    assert_eq!(taken_up.len(), 1);
}

/// "Same `album_id` as a message decided within the window": also while the first part is still with a slow LLM.
#[tokio::test]
async fn parts_of_an_album_wait_for_the_first() {
    let (service, llm) =
        with_llm([Act::answer("interrupt", 0.9).after(Duration::from_millis(300)), Act::answer("queue", 0.9)], GENEROUS).await;
    let part = |n: usize, text: &str| {
        message(
            text,
            json!({"session": {"id": "album"}, "message": {"id": format!("m{n}"), "sender_id": "u", "media": [{"kind": "photo", "album_id": "x"}]}}),
        )
    };
    let first = part(0, "no, use these logos instead");
    let rest: Vec<Value> = (1..10).map(|n| part(n, "")).collect();
    let followers = async {
        eventually("the first part is with the LLM", async || (!llm.received().is_empty()).then_some(())).await;
        at_once(&service, &rest).await
    };
    let (first, rest) = tokio::join!(service.route(&first), followers);
    assert_eq!((&first["action"], &first["rule"]), (&json!("interrupt"), &json!("model")));
    for decision in &rest {
        assert_eq!((&decision["action"], &decision["rule"]), (&json!("interrupt"), &json!("album")), "{decision}");
    }
    assert_eq!(llm.received().len(), 1);
}

/// A part that has less time than the first part's LLM takes is kept.
#[tokio::test]
async fn a_part_of_an_album_does_not_wait_beyond_its_deadline() {
    let (service, llm) = with_llm([Act::HangBeforeHeaders], GENEROUS).await;
    let part = |text: &str| {
        message(text, json!({"session": {"id": "album"}, "message": {"media": [{"kind": "photo", "album_id": "x"}]}}))
    };
    let mut first = service.address.connect().await;
    first.request("POST", "/v1/route", &[], part("no, these").to_string().as_bytes()).await;
    eventually("the first part is with the LLM", async || (!llm.received().is_empty()).then_some(())).await;
    let impatient = changed(&part(""), json!({"deadline_ms": 150}));
    service.expect(&impatient, json!({"action": "queue", "rule": "media"})).await;
}

/// A gateway that goes away before the answer has not been answered: when it asks again it must not hear that the message was taken up.
#[tokio::test]
async fn who_goes_away_before_the_answer_may_ask_again() {
    for id in [Value::Null, json!("m1")] {
        let (service, llm) = with_llm([Act::HangBeforeHeaders, Act::answer("queue", 0.9)], GENEROUS).await;
        let request = message(REQUEST, json!({"message": {"id": id, "sender_id": "u"}, "session": {"id": fresh()}}));
        let mut gone = service.address.connect().await;
        gone.request("POST", "/v1/route", &[], request.to_string().as_bytes()).await;
        eventually("the message is with the LLM", async || (llm.received().len() == 1).then_some(())).await;
        // While somebody waits for the first one's answer, a copy is one.
        let copy = changed(&request, json!({"message": {"id": "copy"}}));
        service.expect(&copy, json!({"rule": "duplicate"})).await;
        drop(gone);
        let decision = eventually("the retry is taken up", async || {
            Some(service.route(&changed(&request, json!({"deadline_ms": 500}))).await)
                .filter(|decision| decision["rule"] == "model")
        })
        .await;
        assert_eq!((&decision["action"], &decision["replayed"]), (&json!("queue"), &json!(false)));
    }
}

/// The same with an album: its other parts do not wait for somebody who has gone.
#[tokio::test]
async fn who_goes_away_does_not_take_an_album_along() {
    let (service, llm) = with_llm([Act::HangBeforeHeaders, Act::answer("interrupt", 0.9)], GENEROUS).await;
    let part = |text: &str| {
        message(text, json!({"session": {"id": "album"}, "message": {"media": [{"kind": "photo", "album_id": "x"}]}}))
    };
    let mut gone = service.address.connect().await;
    gone.request("POST", "/v1/route", &[], part("no, these").to_string().as_bytes()).await;
    eventually("the first part is with the LLM", async || (llm.received().len() == 1).then_some(())).await;
    let second = part("no, these two");
    let (decision, ()) = tokio::join!(service.route(&second), async { drop(gone) });
    assert_eq!((&decision["action"], &decision["rule"]), (&json!("interrupt"), &json!("model")), "{decision}");
}
