//! What a model may answer: one JSON object `{"action": "...", "confidence": 0.0..=1.0}`, and nothing else.
//!
//! The details of a refusal never quote the answer: a model may echo the message, and details end up in the log.

use std::borrow::Cow;

use serde::Deserialize;

use super::{Answer, Failure};
use crate::protocol::Action;

/// The actions that a model may name. `dispatch` and `pass_through` are the router's own.
pub const LABELS: [Action; 7] =
    [Action::Interrupt, Action::Queue, Action::Ignore, Action::Steer, Action::Background, Action::Ask, Action::Detach];

/// Reads a model's reply. Below `min_confidence` the answer abstains.
///
/// White space around the object and one code fence around it (```` ```json ````) are tolerated: many models cannot do without.
///
/// # Errors
/// [`Failure::InvalidOutput`] for everything else: prose, unknown, missing or repeated keys, an unknown label, a confidence that is no number
/// from 0 to 1, an array, an empty reply.
pub fn parse(reply: &str, min_confidence: f32) -> Result<Answer, Failure> {
    let object = without_fence(reply.trim());
    // Derived readers take an array for a struct, so the brace is asked for by name.
    if !object.starts_with('{') {
        return Err(invalid("the answer is not one JSON object"));
    }
    let Reply { action, confidence } = serde_json::from_str(object)
        .map_err(|_| invalid("the answer is not one JSON object of `action` and `confidence` alone"))?;
    let action = action
        .parse()
        .ok()
        .filter(|action| LABELS.contains(action))
        .ok_or_else(|| invalid("the answer names no known action"))?;
    if !(0.0..=1.0).contains(&confidence) {
        return Err(invalid("the confidence is not between 0 and 1"));
    }
    // The threshold has this precision, and a reply of exactly the threshold must not fall below it.
    let confidence = confidence as f32;
    Ok(Answer { action, confidence, abstains: confidence < min_confidence, suggestion: None })
}

/// Reads the body of a chat completion: its first choice's content, by [`parse`].
///
/// # Errors
/// [`Failure::InvalidOutput`] when the body is no chat completion, the model refused, was cut off or filtered, said nothing, or said something that
/// [`parse`] does not accept.
pub fn parse_completion(body: &[u8], min_confidence: f32) -> Result<Answer, Failure> {
    let completion: Completion<'_> = serde_json::from_slice(body).map_err(|_| invalid("the body is not a chat completion"))?;
    let choice = completion.choices.first().ok_or_else(|| invalid("the completion has no choice"))?;
    if choice.message.refusal.as_deref().is_some_and(|refusal| !refusal.is_empty()) {
        return Err(invalid("the model refused"));
    }
    match choice.finish_reason.as_deref() {
        Some("length") => return Err(invalid("the answer was cut off at `max_output_tokens`")),
        Some("content_filter") => return Err(invalid("the endpoint's content filter stopped the answer")),
        _ => {}
    }
    match choice.message.content.as_deref() {
        None | Some("") => Err(invalid("the completion has no content")),
        Some(content) => parse(content, min_confidence),
    }
}

/// The object in the wire's words. The action is read as text, because an enum would also be read from `{"queue": null}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reply<'a> {
    #[serde(borrow)]
    action: Cow<'a, str>,
    confidence: f64,
}

#[derive(Deserialize)]
struct Completion<'a> {
    #[serde(borrow)]
    choices: Vec<Choice<'a>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    message: Message<'a>,
    #[serde(borrow, default)]
    finish_reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    content: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    refusal: Option<Cow<'a, str>>,
}

/// What stands inside one code fence, or the text itself.
fn without_fence(text: &str) -> &str {
    let Some(inner) = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```")) else {
        return text;
    };
    let inner = match inner.get(..4) {
        Some(tag) if tag.eq_ignore_ascii_case("json") => &inner[4..],
        _ => inner,
    };
    inner.trim()
}

fn invalid(why: &str) -> Failure {
    Failure::InvalidOutput(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(reply: &str) -> Option<(Action, f32)> {
        match parse(reply, 0.0) {
            Ok(answer) => Some((answer.action, answer.confidence)),
            Err(Failure::InvalidOutput(_)) => None,
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_object_is_read() {
        for action in LABELS {
            assert_eq!(read(&format!(r#"{{"action":"{action}","confidence":0.5}}"#)), Some((action, 0.5)));
        }
        let queue = Some((Action::Queue, 1.0));
        for reply in [
            r#"{"confidence":1,"action":"queue"}"#,
            " \n{ \"action\" : \"queue\",\n\t\"confidence\" : 1e0 }\r\n",
            r#"{"action":"\u0071ueue","confidence":1.0}"#,
            "```json\n{\"action\":\"queue\",\"confidence\":1}\n```",
            "```JSON {\"action\":\"queue\",\"confidence\":1}```\n",
            "```\n{\"action\":\"queue\",\"confidence\":1}\n```",
        ] {
            assert_eq!(read(reply), queue, "{reply}");
        }
        assert_eq!(read(r#"{"action":"queue","confidence":0}"#), Some((Action::Queue, 0.0)));
    }

    #[test]
    fn anything_else_is_not() {
        for reply in [
            "",
            " ",
            "queue",
            "\"queue\"",
            "null",
            "[]",
            "{}",
            r#"["queue",0.9]"#,
            r#"[{"action":"queue","confidence":0.9}]"#,
            r#"{"action":"queue"}"#,
            r#"{"confidence":0.9}"#,
            r#"{"action":"queue","confidence":0.9,"reason":"x"}"#,
            r#"{"action":"queue","action":"queue","confidence":0.9}"#,
            r#"{"action":"queue","confidence":0.9,"confidence":0.9}"#,
            r#"{"action":"dispatch","confidence":0.9}"#,
            r#"{"action":"pass_through","confidence":0.9}"#,
            r#"{"action":"QUEUE","confidence":0.9}"#,
            r#"{"action":" queue","confidence":0.9}"#,
            r#"{"action":"dance","confidence":0.9}"#,
            r#"{"action":"","confidence":0.9}"#,
            r#"{"action":null,"confidence":0.9}"#,
            r#"{"action":1,"confidence":0.9}"#,
            r#"{"action":{"queue":null},"confidence":0.9}"#,
            r#"{"action":["queue"],"confidence":0.9}"#,
            r#"{"action":"queue","confidence":"0.9"}"#,
            r#"{"action":"queue","confidence":null}"#,
            r#"{"action":"queue","confidence":true}"#,
            r#"{"action":"queue","confidence":[0.9]}"#,
            r#"{"action":"queue","confidence":1.0000001}"#,
            r#"{"action":"queue","confidence":-0.1}"#,
            r#"{"action":"queue","confidence":95}"#,
            r#"{"action":"queue","confidence":1e999}"#,
            r#"{"action":"queue","confidence":NaN}"#,
            r#"{"action":"queue","confidence":0.9"#,
            r#"{"action":"queue","confidence":0.9}}"#,
            r#"{"action":"queue","confidence":0.9} I hope this helps"#,
            r#"Sure! {"action":"queue","confidence":0.9}"#,
            r#"<think>stop?</think>{"action":"queue","confidence":0.9}"#,
            r#"{"action":"queue","confidence":0.9}{"action":"ignore","confidence":0.9}"#,
            "{'action':'queue','confidence':0.9}",
            "{\"action\":\"queue\",\"confidence\":0.9,}",
            "```json\n{\"action\":\"queue\",\"confidence\":0.9}",
            "{\"action\":\"queue\",\"confidence\":0.9}\n```",
            "``````",
            "```json```",
            "```\n```json\n{\"action\":\"queue\",\"confidence\":0.9}\n```\n```",
            "```yaml\n{\"action\":\"queue\",\"confidence\":0.9}\n```",
            "Here: ```json\n{\"action\":\"queue\",\"confidence\":0.9}\n```",
            "```json\n[\"queue\",0.9]\n```",
        ] {
            assert_eq!(read(reply), None, "{reply}");
        }
    }

    #[test]
    fn below_the_threshold_it_abstains() {
        let abstains = |confidence: &str| {
            parse(&format!(r#"{{"action":"queue","confidence":{confidence}}}"#), 0.6)
                .map(|answer| answer.abstains)
                .expect("valid")
        };
        assert!(abstains("0.59"));
        assert!(!abstains("0.6"), "the threshold itself is enough");
        assert!(!abstains("0.61"));
    }

    #[test]
    fn the_first_choice_of_a_completion_counts() {
        let good = r#"{"action":"steer","confidence":0.75}"#;
        let read = |body: serde_json::Value| parse_completion(body.to_string().as_bytes(), 0.0);
        let choice = |content: serde_json::Value, finish: serde_json::Value, refusal: serde_json::Value| {
            json!({"id": "x", "usage": {}, "choices": [
                {"index": 0, "message": {"role": "assistant", "content": content, "refusal": refusal}, "finish_reason": finish},
                {"message": {"content": "something else"}}
            ]})
        };
        let answer = read(choice(json!(good), json!("stop"), json!(null))).expect("a good completion");
        assert_eq!((answer.action, answer.confidence), (Action::Steer, 0.75));
        read(choice(json!(good), json!(null), json!(""))).expect("some servers send empty values");
        read(json!({"choices": [{"message": {"content": good}}]})).expect("the bare minimum");

        let refused = |body, why: &str| {
            let Err(Failure::InvalidOutput(detail)) = read(body) else { panic!("{why} is invalid") };
            assert!(detail.contains(why), "{detail}");
        };
        refused(choice(json!(good), json!("length"), json!(null)), "cut off");
        refused(choice(json!(good), json!("content_filter"), json!(null)), "filter");
        refused(choice(json!(null), json!("stop"), json!("I cannot")), "refused");
        refused(choice(json!(good), json!("stop"), json!("I cannot")), "refused");
        refused(choice(json!(null), json!("tool_calls"), json!(null)), "no content");
        refused(choice(json!(""), json!("stop"), json!(null)), "no content");
        refused(choice(json!([{"type": "text", "text": good}]), json!("stop"), json!(null)), "not a chat completion");
        refused(json!({"choices": [{"message": {"role": "assistant"}}]}), "no content");
        refused(json!({"choices": [{"finish_reason": "stop"}]}), "not a chat completion");
        refused(json!({"choices": []}), "no choice");
        refused(json!({"error": {"message": "x"}}), "not a chat completion");
        refused(json!(good), "not a chat completion");
        for body in ["", "<html>", "{\"choices\":[", "\u{0}"] {
            assert!(matches!(parse_completion(body.as_bytes(), 0.0), Err(Failure::InvalidOutput(_))));
        }
        assert!(matches!(parse_completion(b"\xff\xfe{}", 0.0), Err(Failure::InvalidOutput(_))));
    }

    #[test]
    fn details_do_not_quote_the_answer() {
        for reply in
            ["secret words", r#"{"action":"secret","confidence":0.5}"#, r#"{"action":"queue","confidence":0.5,"secret":1}"#]
        {
            let Err(Failure::InvalidOutput(detail)) = parse(reply, 0.0) else { panic!("invalid") };
            assert!(!detail.contains("secret"), "{detail}");
        }
    }

    /// Texts that come close to an answer.
    fn almost() -> impl Strategy<Value = String> {
        let key = prop_oneof![Just("action"), Just("confidence"), Just("Action"), Just("reason")];
        let value = prop_oneof![
            prop::sample::select(Action::ALL).prop_map(|action| format!("\"{action}\"")),
            any::<f64>().prop_map(|number| number.to_string()),
            (0.0..=1.0).prop_map(|number: f64| number.to_string()),
            Just("null".to_owned()),
            Just("[1]".to_owned()),
        ];
        let entry = (key, value).prop_map(|(key, value)| format!("\"{key}\":{value}"));
        let edge = prop_oneof![8 => Just(""), 1 => Just("```"), 1 => Just(" "), 1 => Just("x"), 1 => Just("[")];
        (edge.clone(), prop::collection::vec(entry, 0..4), edge)
            .prop_map(|(before, entries, after)| format!("{before}{{{}}}{after}", entries.join(",")))
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>(), body in any::<Vec<u8>>()) {
            let _ = parse(&text, 0.5);
            let _ = parse_completion(&body, 0.5);
        }

        #[test]
        fn only_the_exact_object_is_accepted(text in prop_oneof![almost(), "\\PC*", "(```)?(json)?\\{.*\\}(```)?"]) {
            if let Ok(answer) = parse(&text, 0.0) {
                let inner = text.trim().trim_start_matches("```").trim_start_matches("json").trim_end_matches("```");
                let value: serde_json::Value = serde_json::from_str(inner).expect("an accepted text is JSON");
                let object = value.as_object().expect("an object");
                prop_assert_eq!(object.len(), 2);
                prop_assert_eq!(object["action"].as_str(), Some(answer.action.as_str()));
                prop_assert!(LABELS.contains(&answer.action));
                prop_assert_eq!(object["confidence"].as_f64().map(|number| number as f32), Some(answer.confidence));
                prop_assert!((0.0..=1.0).contains(&answer.confidence));
            }
        }

        #[test]
        fn every_exact_object_is_accepted(action in prop::sample::select(LABELS.to_vec()), confidence in 0.0..=1.0_f64, fenced: bool) {
            let object = json!({"action": action, "confidence": confidence}).to_string();
            let text = if fenced { format!("```json\n{object}\n```") } else { object };
            let answer = parse(&text, 0.0).expect("valid");
            prop_assert_eq!((answer.action, answer.confidence), (action, confidence as f32));
        }
    }
}
