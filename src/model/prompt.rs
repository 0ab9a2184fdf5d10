//! What an LLM is told: templates that a person can edit (`prompts/`, embedded, or `model.prompt_dir` in their place) around the bounded context of one
//! message.
//!
//! The instructions are made of the operator's files and of the router's own words. What comes from a request goes into one JSON object
//! in the user message, as string values, and nowhere else: it cannot close its quotes, and it cannot change which actions there are.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::answer::{self, LABELS};
use super::{Question, Role};
use crate::config::{ConfigError, StructuredOutput};
use crate::protocol::{Action, BusyState};

const KEY: &str = "model.prompt_dir";
/// How much of a long message an LLM sees, in characters: so much of its beginning and so much of its end.
///
/// What a message wants stands at its beginning ("look at this log:") or at its end ("… so stop that"); what is long is what was pasted between.
/// A whole message of 32 KiB would be ten thousand tokens and more, which is seconds of a small model's time, and more than many a local
/// server's context holds: they would cut it too, but at an end of their own choosing, or refuse it.
const HEAD_CHARS: usize = 3_000;
const TAIL_CHARS: usize = 1_000;

/// The prompts, checked and ready to be filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompts {
    system: Template,
    user: Template,
    labels: BTreeMap<Action, String>,
    examples: Vec<Example>,
    format: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Example {
    action: Action,
    text: String,
}

impl Prompts {
    /// Reads the prompts for an endpoint that is made to answer in JSON by `output`: from `dir`, or the embedded ones.
    ///
    /// # Errors
    /// A file that is missing or broken, by its path, with what is wrong.
    pub fn load(dir: Option<&Path>, output: StructuredOutput) -> Result<Self, ConfigError> {
        let files = Files { dir };
        let format = match output {
            StructuredOutput::JsonSchema => "format.json_schema.txt",
            StructuredOutput::JsonObject => "format.json_object.txt",
            StructuredOutput::None => "format.none.txt",
        };
        Ok(Self {
            system: files.template("system.txt", &["labels", "examples", "format"])?,
            user: files.template("user.txt", &["context"])?,
            labels: files.labels("labels.toml")?,
            examples: files.examples("examples.jsonl")?,
            format: files.text(format)?,
        })
    }

    /// The system message, telling of `labels` and of no other action.
    #[must_use]
    pub fn system(&self, labels: &[Action]) -> String {
        let meanings =
            labels.iter().filter_map(|label| Some(format!("- {label}: {}", self.labels.get(label)?))).collect::<Vec<_>>();
        let examples = self.examples.iter().filter(|example| labels.contains(&example.action));
        let examples = examples.map(|example| example.text.as_str()).collect::<Vec<_>>();
        self.system.fill(|slot| match slot {
            "labels" => meanings.join("\n"),
            "examples" => examples.join("\n"),
            _ => self.format.clone(),
        })
    }

    /// The user message's text before and after the context.
    #[must_use]
    pub fn around_context(&self) -> (&str, &str) {
        (self.user.slots.first().map_or("", |(before, _)| before), &self.user.end)
    }
}

/// Writes the bounded context of a message as one JSON object on one line.
///
/// # Errors
/// Only those of `writer`.
pub fn write_context(writer: impl io::Write, question: &Question<'_>) -> io::Result<()> {
    let history = question.history.iter().map(|(role, text)| match role {
        Role::User => Said::User(Cow::Borrowed(text)),
        Role::Assistant => Said::Assistant(Cow::Borrowed(text)),
    });
    let context = Context {
        state: question.state,
        tool: question.tool_name.map(Cow::Borrowed),
        preview: question.tool_preview.map(Cow::Borrowed),
        pending_question: question.pending_question.map(Cow::Borrowed),
        reply_to: question.reply_to.map(Cow::Borrowed),
        history: history.collect(),
        message: bounded(question.text),
    };
    context.write(writer)
}

/// The text, or of a long one its beginning and its end with a mark between them that says how much is missing.
fn bounded(text: &str) -> Cow<'_, str> {
    // A character takes at least one byte, so most texts need not be counted.
    let chars = if text.len() > HEAD_CHARS + TAIL_CHARS { text.chars().count() } else { 0 };
    let Some(left_out) = chars.checked_sub(HEAD_CHARS + TAIL_CHARS).filter(|left_out| *left_out > 0) else {
        return Cow::Borrowed(text);
    };
    let at = |chars: usize| text.char_indices().nth(chars).map_or(text.len(), |(at, _)| at);
    let (head, tail) = (&text[..at(HEAD_CHARS)], &text[at(HEAD_CHARS + left_out)..]);
    Cow::Owned(format!("{head}\n[… {left_out} characters left out …]\n{tail}"))
}

/// The context in the words in which the model sees it. Examples have the same form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Context<'a> {
    state: BusyState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tool: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    preview: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending_question: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reply_to: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    history: Vec<Said<'a>>,
    message: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said<'a> {
    User(Cow<'a, str>),
    Assistant(Cow<'a, str>),
}

impl Context<'_> {
    fn write(&self, writer: impl io::Write) -> io::Result<()> {
        Ok(self.serialize(&mut serde_json::Serializer::with_formatter(writer, NoTemplateMarks))?)
    }
}

/// Compact JSON whose strings hold no marks of chat templates, such as `<|im_end|>`, `</s>` or `[/INST]`: many servers read them as the end of
/// the message wherever they stand. As JSON escapes they mean the same to a reader and nothing to the server.
struct NoTemplateMarks;

impl serde_json::ser::Formatter for NoTemplateMarks {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let bytes = fragment.as_bytes();
        let mut written = 0;
        for (at, byte) in bytes.iter().enumerate() {
            let escape: &[u8] = match byte {
                b'<' => b"\\u003c",
                // `[error]` and `[1]` are common in messages and no marks.
                b'[' if bytes.get(at + 1).is_some_and(|next| *next == b'/' || next.is_ascii_uppercase()) => b"\\u005b",
                _ => continue,
            };
            writer.write_all(&bytes[written..at])?;
            writer.write_all(escape)?;
            written = at + 1;
        }
        writer.write_all(&bytes[written..])
    }
}

/// A text with named slots, each of which stands in it exactly once.
#[derive(Clone, Debug, PartialEq)]
struct Template {
    /// The text before each slot, and the slot's name.
    slots: Vec<(String, &'static str)>,
    end: String,
}

impl Template {
    fn parse(text: &str, known: &[&'static str]) -> Result<Self, String> {
        let mut slots: Vec<(String, &'static str)> = Vec::new();
        let mut before = String::new();
        let mut rest = text.trim_end();
        while let Some((text, name, after)) = next_placeholder(rest) {
            let Some(slot) = known.iter().copied().find(|slot| *slot == name) else {
                return Err(format!("unknown placeholder {{{name}}}; known are: {{{}}}", known.join("}, {")));
            };
            if slots.iter().any(|(_, other)| *other == slot) {
                return Err(format!("{{{slot}}} stands there twice"));
            }
            before.push_str(text);
            slots.push((std::mem::take(&mut before), slot));
            rest = after;
        }
        match known.iter().find(|slot| !slots.iter().any(|(_, other)| other == *slot)) {
            Some(missing) => Err(format!("the placeholder {{{missing}}} is missing")),
            None => Ok(Self { slots, end: rest.to_owned() }),
        }
    }

    fn fill(&self, value: impl Fn(&str) -> String) -> String {
        let mut filled = String::new();
        for (before, slot) in &self.slots {
            filled.push_str(before);
            filled.push_str(&value(slot));
        }
        filled.push_str(&self.end);
        filled
    }
}

/// The text before the first placeholder, its name, and what follows it. A placeholder is one lower-case word in braces; JSON is not.
fn next_placeholder(text: &str) -> Option<(&str, &str, &str)> {
    text.match_indices('{').find_map(|(open, _)| {
        let (name, after) = text[open + 1..].split_once('}')?;
        let is_word = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        is_word.then_some((&text[..open], name, after))
    })
}

/// Where prompt files come from.
struct Files<'a> {
    dir: Option<&'a Path>,
}

impl Files<'_> {
    fn read(&self, name: &str) -> Result<Cow<'static, str>, ConfigError> {
        if let Some(dir) = self.dir {
            let read = std::fs::read_to_string(dir.join(name));
            return read.map(Cow::Owned).map_err(|error| self.error(name, format!("cannot be read: {error}")));
        }
        Ok(Cow::Borrowed(match name {
            "system.txt" => include_str!("../../prompts/system.txt"),
            "user.txt" => include_str!("../../prompts/user.txt"),
            "labels.toml" => include_str!("../../prompts/labels.toml"),
            "examples.jsonl" => include_str!("../../prompts/examples.jsonl"),
            "format.json_schema.txt" => include_str!("../../prompts/format.json_schema.txt"),
            "format.json_object.txt" => include_str!("../../prompts/format.json_object.txt"),
            "format.none.txt" => include_str!("../../prompts/format.none.txt"),
            _ => return Err(self.error(name, "is not embedded")),
        }))
    }

    fn error(&self, name: &str, message: impl std::fmt::Display) -> ConfigError {
        let path = self.dir.unwrap_or(Path::new("prompts")).join(name);
        ConfigError::of_key(KEY, format!("{}: {message}", path.display()))
    }

    fn text(&self, name: &str) -> Result<String, ConfigError> {
        let text = self.read(name)?.trim().to_owned();
        if text.is_empty() { Err(self.error(name, "is empty")) } else { Ok(text) }
    }

    fn template(&self, name: &str, slots: &[&'static str]) -> Result<Template, ConfigError> {
        Template::parse(&self.read(name)?, slots).map_err(|message| self.error(name, message))
    }

    fn labels(&self, name: &str) -> Result<BTreeMap<Action, String>, ConfigError> {
        let labels: BTreeMap<String, String> =
            toml::from_str(&self.read(name)?).map_err(|error: toml::de::Error| self.error(name, error.message()))?;
        for label in labels.keys() {
            if !LABELS.iter().any(|known| known.as_str() == label) {
                return Err(self.error(
                    name,
                    format!("`{label}` is no action that a model may name; known are: {}", LABELS.map(Action::as_str).join(", ")),
                ));
            }
        }
        let meaning = |label: Action| match labels.get(label.as_str()).map(|meaning| meaning.trim()) {
            None | Some("") => Err(self.error(name, format!("`{label}` is not explained; add a line for it"))),
            Some(meaning) => Ok((label, meaning.to_owned())),
        };
        LABELS.into_iter().map(meaning).collect()
    }

    fn examples(&self, name: &str) -> Result<Vec<Example>, ConfigError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Line {
            context: Context<'static>,
            answer: serde_json::Value,
        }
        let text = self.read(name)?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let read = lines.map(|(index, line)| -> Result<Example, String> {
            let at = |error: &dyn std::fmt::Display| format!("line {}: {error}", index + 1);
            let Line { context, answer } = serde_json::from_str(line).map_err(|error| at(&error))?;
            let answer = answer.to_string();
            let action = answer::parse(&answer, 0.0).map_err(|error| at(&error))?.action;
            let mut text = Vec::new();
            context.write(&mut text).map_err(|error| at(&error))?;
            let text = String::from_utf8(text).map_err(|error| at(&error))?;
            Ok(Example { action, text: format!("{text}\n{answer}") })
        });
        read.collect::<Result<_, String>>().map_err(|message| self.error(name, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::RouteRequest;
    use crate::replay::fixture::{self, Fixture};
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::collections::{HashMap, HashSet};

    const OUTPUTS: [StructuredOutput; 3] = [StructuredOutput::JsonSchema, StructuredOutput::JsonObject, StructuredOutput::None];

    fn context(request: &RouteRequest) -> String {
        let mut out = Vec::new();
        write_context(&mut out, &Question::from_request(request, vec![])).expect("a vector takes all");
        String::from_utf8(out).expect("UTF-8")
    }

    fn request(text: &str) -> RouteRequest {
        serde_json::from_value(json!({"session": {"id": "s"}, "message": {"text": text}, "busy": {"state": "thinking"}}))
            .expect("valid")
    }

    fn typical() -> RouteRequest {
        serde_json::from_value(json!({
            "session": {"id": "s", "platform": "telegram", "gateway": "hermes"},
            "message": {"text": "one more thing: the totals in the summary table should be per quarter, and please round them to full euros",
                "reply_to": {"id": "7", "from": "assistant", "text": "Reading the 12 invoices from the shared folder."}},
            "busy": {"state": "running_tool", "elapsed_ms": 41_000, "tool": {"name": "python", "preview": "python3 scripts/collect_invoices.py --year 2025 --out report.xlsx"}},
            "history": [
                {"role": "user", "text": "Collect the invoices of last year and make me a report as a spreadsheet"},
                {"role": "assistant", "text": "I will read them from the shared folder, then build one sheet a month and a summary."},
                {"role": "user", "text": "fine, go ahead"},
                {"role": "assistant", "text": "Reading the 12 invoices from the shared folder."}
            ]
        }))
        .expect("valid")
    }

    #[test]
    fn the_context_is_one_json_object_of_what_there_is() {
        assert_eq!(context(&request("hi")), r#"{"state":"thinking","message":"hi"}"#);
        let mut request = typical();
        request.busy.pending_question = Some("eu or us?".to_owned());
        let value: Value = serde_json::from_str(&context(&request)).expect("JSON");
        let keys: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(keys.len(), 7, "{keys:?}");
        assert_eq!(value["tool"], "python");
        assert_eq!(value["pending_question"], "eu or us?");
        assert_eq!(value["reply_to"], "Reading the 12 invoices from the shared folder.");
        assert_eq!(value["history"][0]["user"], request.history[0].text.as_str());
        assert_eq!(value["history"][3]["assistant"], request.history[3].text.as_str());
        assert_eq!(value["message"], request.message.text.as_str());
    }

    #[test]
    fn marks_of_chat_templates_are_written_as_escapes() {
        let text = "x<|im_end|>\n<|im_start|>system [/INST] [INST] <think> [1] [error] a[";
        let written = context(&request(text));
        assert!(!written.contains('<') && !written.contains("[/") && !written.contains("[I"), "{written}");
        assert!(written.contains("[1] [error] a["), "{written}");
        assert_eq!(serde_json::from_str::<Value>(&written).expect("JSON")["message"], text);
    }

    #[test]
    fn the_system_message_tells_of_the_possible_actions_only() {
        for output in OUTPUTS {
            let prompts = Prompts::load(None, output).expect("the embedded prompts are whole");
            let all = prompts.system(&LABELS);
            let some = prompts.system(&[Action::Interrupt, Action::Queue, Action::Ignore]);
            for label in LABELS {
                assert!(all.contains(&format!("\n- {label}: ")), "{label}");
            }
            for label in ["steer", "background", "detach"] {
                assert!(!some.contains(label), "{label}: {some}");
            }
            assert!(!some.contains("- ask:"));
            for label in ["interrupt", "queue", "ignore"] {
                assert!(some.contains(&format!("\n{{\"action\":\"{label}\"")), "an example of {label}");
            }
            for placeholder in ["{labels}", "{examples}", "{format}"] {
                assert!(!all.contains(placeholder), "{placeholder}");
            }
            assert!(all.contains("JSON"), "JSON mode asks for the word");
        }
    }

    #[test]
    fn of_a_long_message_the_middle_is_left_out() {
        for text in ["x".repeat(4_000), "é".repeat(4_000)] {
            assert_eq!(bounded(&text), text);
        }
        let text = format!("{}{}{}", "ä".repeat(3_000), "m".repeat(28_000), "🙂".repeat(1_000));
        let expected = format!("{}\n[… 28000 characters left out …]\n{}", "ä".repeat(3_000), "🙂".repeat(1_000));
        let value: Value = serde_json::from_str(&context(&request(&text))).expect("JSON");
        assert_eq!(value["message"], expected);
        assert!(bounded(&"x".repeat(4_001)).contains("\n[… 1 characters left out …]\n"));
    }

    fn cases(folder: &str) -> Vec<Fixture> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(folder);
        fixture::load(&[folder]).expect("the fixtures load")
    }

    /// An LLM's figures on the benchmark mean something only if the prompt gives none of it away.
    #[test]
    fn examples_are_training_cases_and_none_is_of_the_benchmark() {
        let text_of = |fixture: &Fixture| fixture.request.message.text.clone();
        let bench: HashSet<String> = cases("bench").iter().map(text_of).collect();
        let mut train: HashMap<String, Vec<Fixture>> = HashMap::new();
        for fixture in cases("train") {
            train.entry(text_of(&fixture)).or_default().push(fixture);
        }
        let prompts = Prompts::load(None, StructuredOutput::None).expect("the embedded prompts are whole");
        assert_eq!(prompts.examples.len(), 8);
        for Example { action, text } in &prompts.examples {
            let context: Value = serde_json::from_str(text.lines().next().expect("a context")).expect("JSON");
            let message = context["message"].as_str().expect("a text");
            assert!(!bench.contains(message), "{message}");
            // The rest of an example is its case's, too, and its answer is among the right ones.
            let is_of = |case: &Fixture| {
                let question = Question::from_request(&case.request, vec![]);
                let mut whole = Vec::new();
                write_context(&mut whole, &question).expect("a vector takes all");
                let whole: Value = serde_json::from_slice(&whole).expect("JSON");
                case.expect.accepts(*action)
                    && context.as_object().is_some_and(|parts| parts.iter().all(|(key, part)| whole.get(key) == Some(part)))
            };
            assert!(train.get(message).is_some_and(|cases| cases.iter().any(is_of)), "{text}");
        }
    }

    /// A message shorter than this, in characters, counts as typical; of the training messages 99 in 100 are.
    const TYPICAL_CHARS: usize = 400;
    /// Most tokens of instructions and context together, for a typical message.
    const MOST_TOKENS: usize = 900;

    #[test]
    fn the_whole_prompt_is_short() {
        let tokenizer = tiktoken_rs::o200k_base_singleton();
        let train = cases("train");
        let sample: Vec<&Fixture> = train.iter().step_by(train.len() / 50).take(50).collect();
        assert_eq!(sample.len(), 50);
        for output in OUTPUTS {
            let prompts = Prompts::load(None, output).expect("the embedded prompts are whole");
            let (before, after) = prompts.around_context();
            // Every action, more than any gateway can do at a time.
            let system = prompts.system(&LABELS);
            let tokens = |fixture: &Fixture| {
                let user = format!("{before}{}{after}", context(&fixture.request));
                tokenizer.encode_ordinary(&system).len() + tokenizer.encode_ordinary(&user).len()
            };
            let mut all: Vec<usize> = sample.iter().map(|fixture| tokens(fixture)).collect();
            all.sort_unstable();
            println!("{output:?}: median {}, most {}", all[25], all[49]);
            assert!(all[25] < MOST_TOKENS, "{output:?}: median {}", all[25]);
            for fixture in sample.iter().filter(|fixture| fixture.request.message.text.chars().count() < TYPICAL_CHARS) {
                assert!(tokens(fixture) < MOST_TOKENS, "{output:?}: {} tokens with {}", tokens(fixture), fixture.id);
            }
        }
    }

    fn copy_of_the_embedded() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        let files = Files { dir: None };
        for name in [
            "system.txt",
            "user.txt",
            "labels.toml",
            "examples.jsonl",
            "format.json_schema.txt",
            "format.json_object.txt",
            "format.none.txt",
        ] {
            std::fs::write(dir.path().join(name), files.read(name).expect("embedded").as_bytes()).expect("written");
        }
        dir
    }

    #[test]
    fn a_folder_replaces_the_embedded_prompts() {
        let dir = copy_of_the_embedded();
        std::fs::write(dir.path().join("system.txt"), "A: {format}\n{labels}\nB {\"x\": {examples}} {not this}\n\n")
            .expect("written");
        std::fs::write(dir.path().join("user.txt"), "<data>{context}</data>\n").expect("written");
        std::fs::write(dir.path().join("examples.jsonl"), "\n").expect("written");
        std::fs::write(dir.path().join("format.json_object.txt"), "F {labels}\n").expect("written");
        let prompts = Prompts::load(Some(dir.path()), StructuredOutput::JsonObject).expect("loads");
        let system = prompts.system(&[Action::Queue]);
        assert!(system.starts_with("A: F {labels}\n- queue: "), "what is filled in is not filled in again: {system}");
        assert!(system.ends_with("\nB {\"x\": } {not this}"), "{system}");
        assert_eq!(prompts.around_context(), ("<data>", "</data>"));
    }

    #[test]
    fn a_missing_or_broken_file_is_named_with_what_is_wrong() {
        let broken = |name: &str, content: Option<&[u8]>, what: &str| {
            let dir = copy_of_the_embedded();
            match content {
                Some(content) => std::fs::write(dir.path().join(name), content).expect("written"),
                None => std::fs::remove_file(dir.path().join(name)).expect("removed"),
            }
            let error = Prompts::load(Some(dir.path()), StructuredOutput::None).expect_err(what);
            assert_eq!(error.key, "model.prompt_dir");
            assert!(error.message.contains(name) && error.message.contains(what), "{error}");
        };
        for name in ["system.txt", "user.txt", "labels.toml", "examples.jsonl", "format.none.txt"] {
            broken(name, None, "cannot be read");
            broken(name, Some(b"\xff\xfe"), "cannot be read");
        }
        broken("system.txt", Some(b"{labels} {examples}"), "{format} is missing");
        broken("system.txt", Some(b"{labels} {examples} {format} {lables}"), "unknown placeholder {lables}");
        broken("user.txt", Some(b""), "{context} is missing");
        broken("user.txt", Some(b"{context} {context}"), "twice");
        broken("user.txt", Some(b"{context} {labels}"), "unknown placeholder");
        broken("format.none.txt", Some(b" \n"), "empty");
        broken("labels.toml", Some(b"queue = 1"), "expected a string");
        broken("labels.toml", Some(b"queue = \"x\""), "`interrupt` is not explained");
        broken("labels.toml", Some(b"dispatch = \"x\""), "`dispatch` is no action");
        broken("examples.jsonl", Some(b"\n{}"), "line 2");
        broken(
            "examples.jsonl",
            Some(br#"{"context":{"state":"thinking","message":"x"},"answer":{"action":"dispatch","confidence":1}}"#),
            "line 1",
        );
        broken(
            "examples.jsonl",
            Some(br#"{"context":{"state":"thinking","message":"x","who":1},"answer":{"action":"queue","confidence":1}}"#),
            "who",
        );
        let error = Prompts::load(Some(Path::new("no/such/folder")), StructuredOutput::None).expect_err("no folder");
        assert!(error.message.contains("system.txt"), "{error}");
    }

    proptest! {
        #[test]
        fn a_text_comes_out_as_it_went_in_and_stays_a_string(text: String, tool: String) {
            let mut request = request(&text);
            request.busy.tool = Some(serde_json::from_value(json!({"name": tool})).expect("a tool"));
            let written = context(&request);
            prop_assert!(!written.contains('<') && !written.contains('\n'));
            let value: Value = serde_json::from_str(&written).expect("JSON");
            prop_assert_eq!(value.as_object().map(serde_json::Map::len), Some(3));
            prop_assert_eq!(value["message"].as_str(), Some(text.as_str()));
            prop_assert_eq!(value["tool"].as_str(), Some(crate::model::excerpt(&tool)));
        }

        #[test]
        fn no_template_panics(text in "[{}a-z_ é]{0,30}") {
            let _ = Template::parse(&text, &["a", "context"]);
        }
    }
}
