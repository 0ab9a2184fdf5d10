//! Background work told truthfully: two decision tables and what they remember.
//!
//! [`status`] says what state a task is really in, [`completion`] who hears that it is done. Both are pure but for a
//! [`TaskMemory`], and ask no model.

pub mod completion;
pub mod memory;
pub mod status;
pub(crate) mod words;

pub use memory::TaskMemory;

#[cfg(test)]
mod tests {
    //! The examples of the docs, run through both tables.

    use super::*;
    use crate::protocol::{CompletionRequest, StatusRequest, Validate};
    use serde_json::Value;
    use std::collections::HashSet;

    const DOCS: &str = include_str!("../../docs/background-tasks.md");

    fn status(request: &Value, memory: &TaskMemory) -> Value {
        let request: StatusRequest = serde_json::from_value(request.clone()).expect("a valid request");
        assert!(request.violations().is_empty());
        serde_json::to_value(status::answer(&request, memory)).expect("serializes")
    }

    fn completion(request: &Value, memory: &TaskMemory) -> Value {
        let request: CompletionRequest = serde_json::from_value(request.clone()).expect("a valid request");
        assert!(request.violations().is_empty());
        serde_json::to_value(completion::decide(&request, memory, false)).expect("serializes")
    }

    /// Every expected field is in the answer with this value; objects are compared field by field.
    fn assert_holds(expected: &Value, answer: &Value, what: &str) {
        if let (Value::Object(expected), Value::Object(_)) = (expected, answer) {
            for (field, expected) in expected {
                assert_holds(expected, answer.get(field).unwrap_or(&Value::Null), &format!("{what}/{field}"));
            }
        } else {
            assert_eq!(expected, answer, "{what}");
        }
    }

    /// The fenced blocks of a document with their language.
    fn blocks(markdown: &str) -> Vec<(&str, String)> {
        let mut blocks: Vec<(&str, String)> = Vec::new();
        let mut open = false;
        for line in markdown.lines() {
            match (line.strip_prefix("```"), open) {
                (Some(_), true) => open = false,
                (Some(language), false) => {
                    blocks.push((language, String::new()));
                    open = true;
                }
                (None, true) => {
                    if let Some((_, block)) = blocks.last_mut() {
                        block.push_str(line);
                        block.push('\n');
                    }
                }
                (None, false) => {}
            }
        }
        blocks
    }

    #[test]
    fn the_examples_of_the_docs_are_true() {
        let memory = TaskMemory::default();
        let blocks = blocks(DOCS);
        let mut rules = HashSet::new();
        let mut pairs = blocks.chunks_exact(2);
        for pair in &mut pairs {
            let [(sh, call), (json, expected)] = pair else { panic!("chunks of two") };
            assert_eq!((*sh, *json), ("sh", "json"), "{call}");
            let body = call.split_once("-d '").and_then(|(_, rest)| rest.rsplit_once('\'')).expect("a body").0;
            let body: Value = serde_json::from_str(body).expect("JSON");
            let expected: Value = serde_json::from_str(expected).expect("JSON");
            let answer = if call.contains("http://127.0.0.1:8710/v1/tasks/status") {
                status(&body, &memory)
            } else {
                assert!(call.contains("http://127.0.0.1:8710/v1/tasks/completion"), "{call}");
                completion(&body, &memory)
            };
            assert_holds(&expected, &answer, call);
            rules.insert(answer["rule"].as_str().expect("a rule").to_owned());
        }
        assert!(pairs.remainder().is_empty(), "every call has its answer");
        let all = crate::protocol::StatusRule::ALL.iter().map(|rule| rule.as_str());
        for rule in all.chain(crate::protocol::CompletionRule::ALL.iter().map(|rule| rule.as_str())) {
            assert!(rules.contains(rule), "no example of {rule}");
        }
    }
}
