//! The examples of documents: `curl` calls in fenced `sh` blocks, each with its answer in the `json` block behind it.

use serde_json::Value;

use crate::harness::Service;
use crate::wire::Reply;

/// A fenced block: its language and its content.
pub fn blocks(markdown: &str) -> Vec<(String, String)> {
    let mut blocks: Vec<(String, String)> = Vec::new();
    let mut open = false;
    for line in markdown.lines() {
        match (line.trim_start().strip_prefix("```"), open) {
            (Some(_), true) => open = false,
            (Some(language), false) => {
                blocks.push((language.trim().to_owned(), String::new()));
                open = true;
            }
            (None, true) => {
                let (_, content) = blocks.last_mut().expect("a block is open");
                content.push_str(line);
                content.push('\n');
            }
            (None, false) => {}
        }
    }
    blocks
}

/// A `curl` call of a document.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// An example: the call, and the answer that the document shows for it, if it shows one.
pub type Example = (Call, Option<Value>);

/// The examples of a document, in its order: every `curl` call of its `sh` blocks, with the `json` block that follows the last of a block.
pub fn examples(markdown: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut follows_a_call = false;
    for (language, content) in blocks(markdown) {
        match language.as_str() {
            "sh" | "bash" | "console" => {
                let calls: Vec<Call> = calls(&content);
                follows_a_call = !calls.is_empty();
                examples.extend(calls.into_iter().map(|call| (call, None)));
            }
            "json" if follows_a_call => {
                let answer = serde_json::from_str(&content).unwrap_or_else(|error| panic!("{error}: {content}"));
                examples.last_mut().expect("a call").1 = Some(answer);
                follows_a_call = false;
            }
            _ => follows_a_call = false,
        }
    }
    examples
}

/// Makes the call to a running service, wherever the document says that it listens.
pub async fn perform(service: &Service, call: &Call) -> Reply {
    // What curl says of a body unless it is told otherwise, so that an example that forgets the type fails here too.
    let usual = ("content-type", "application/x-www-form-urlencoded");
    let mut headers: Vec<(&str, &str)> = call.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    if !call.body.is_empty() && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(usual.0)) {
        headers.push(usual);
    }
    service.address.send(&call.method, &call.path, &headers, call.body.as_bytes()).await
}

/// The `curl` calls of a shell script.
fn calls(script: &str) -> Vec<Call> {
    let mut found = Vec::new();
    for command in commands(script) {
        let Some(("curl", arguments)) = command.split_first().map(|(name, rest)| (name.as_str(), rest)) else { continue };
        found.push(call(arguments));
    }
    found
}

fn call(arguments: &[String]) -> Call {
    let mut call = Call { method: String::new(), path: String::new(), headers: Vec::new(), body: String::new() };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().unwrap_or_else(|| panic!("{argument} needs a value")).clone();
        match argument.as_str() {
            "-H" | "--header" => {
                let header = value();
                let (name, value) = header.split_once(':').expect("a header");
                call.headers.push((name.trim().to_owned(), value.trim().to_owned()));
            }
            "-d" | "--data" | "--data-binary" => call.body = value(),
            "--json" => {
                call.body = value();
                call.headers.push(("content-type".to_owned(), "application/json".to_owned()));
            }
            "-X" | "--request" => call.method = value(),
            "-s" | "-S" | "-sS" | "-f" | "-i" | "-fsS" | "--silent" => {}
            url if !url.starts_with('-') => {
                let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
                call.path = after_scheme.find('/').map_or("/", |slash| &after_scheme[slash..]).to_owned();
            }
            other => panic!("teach this test the option {other}"),
        }
    }
    if call.method.is_empty() {
        call.method = if call.body.is_empty() { "GET" } else { "POST" }.to_owned();
    }
    call
}

/// The commands of a script as words: quotes, line continuations, comments, pipes and `&&` as far as examples need them.
fn commands(script: &str) -> Vec<Vec<String>> {
    let script = script.replace("\\\n", " ");
    let mut commands = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut in_comment = false;
    for c in script.chars() {
        match (quote, c) {
            _ if in_comment && c != '\n' => {}
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => in_comment = true,
            (None, c) if c.is_whitespace() || matches!(c, '|' | ';' | '&') => {
                in_comment = false;
                let command = commands.last_mut().expect("there is always one");
                command.extend(word.take());
                if !(c == ' ' || c == '\t') {
                    commands.push(Vec::new());
                }
            }
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    commands.last_mut().expect("there is always one").extend(word.take());
    commands.retain(|command| !command.is_empty());
    commands
}

#[test]
fn calls_are_read_as_a_shell_reads_them() {
    let script = "# start\nbusy-router serve &\ncurl -s http://127.0.0.1:8710/v1/route \\\n  -H 'content-type: application/json' \\\n  -d '{\"a\": \"it is\",\n \"b\": 1}' | jq .\ncurl http://x/livez";
    let found = calls(script);
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].method.as_str(), found[0].path.as_str()), ("POST", "/v1/route"));
    assert_eq!(found[0].headers, [("content-type".to_owned(), "application/json".to_owned())]);
    assert_eq!(serde_json::from_str::<Value>(&found[0].body).expect("JSON"), serde_json::json!({"a": "it is", "b": 1}));
    assert_eq!((found[1].method.as_str(), found[1].path.as_str(), found[1].body.as_str()), ("GET", "/livez", ""));
}
