//! Log lines as JSON: time, level, then the event's message and fields, all on one level.
//!
//! Written straight into the line's buffer: a decision's line has so many fields that the general serialiser of `tracing-subscriber` took
//! 2.6 µs for it, a third of what a whole request costs the plainest HTTP service.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Formats events as JSON lines. Spans are not shown: the service opens none.
#[derive(Clone, Copy, Debug)]
pub struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        out.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut out)?;
        out.write_str("\",\"level\":\"")?;
        out.write_str(event.metadata().level().as_str())?;
        out.write_char('"')?;
        let mut fields = Fields { out, outcome: Ok(()) };
        event.record(&mut fields);
        fields.outcome?;
        fields.out.write_str("}\n")
    }
}

/// Appends fields to a line; after a failure it appends no more.
struct Fields<'w> {
    out: Writer<'w>,
    outcome: fmt::Result,
}

impl Fields<'_> {
    fn append(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        if self.outcome.is_ok() {
            self.outcome = self.try_append(field, value);
        }
    }

    fn try_append(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) -> fmt::Result {
        // Field names are identifiers of this program and need no escapes.
        self.out.write_str(",\"")?;
        self.out.write_str(field.name())?;
        self.out.write_str("\":")?;
        value(&mut self.out)
    }

    fn number(&mut self, field: &Field, number: impl fmt::Display) {
        self.append(field, |out| write!(out, "{number}"));
    }
}

impl Visit for Fields<'_> {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.append(field, |out| out.write_str(if value { "true" } else { "false" }));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.number(field, value);
        } else {
            // JSON has no such numbers.
            self.append(field, |out| out.write_str("null"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.append(field, |out| {
            out.write_char('"')?;
            Escaping(out).write_str(value)?;
            out.write_char('"')
        });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.append(field, |out| {
            out.write_char('"')?;
            write!(Escaping(out), "{value:?}")?;
            out.write_char('"')
        });
    }
}

/// Escapes what a JSON string cannot hold.
struct Escaping<'a, 'w>(&'a mut Writer<'w>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.bytes().position(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
            let (before, special) = rest.split_at(at);
            self.0.write_str(before)?;
            // What is escaped is one byte long.
            let (special, after) = special.split_at(1);
            match special {
                "\"" => self.0.write_str("\\\"")?,
                "\\" => self.0.write_str("\\\\")?,
                control => write!(self.0, "\\u{:04x}", control.as_bytes()[0])?,
            }
            rest = after;
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::io;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Out(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Out {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines_of(log: impl FnOnce()) -> Vec<Value> {
        let out = Out::default();
        let writer = out.clone();
        let subscriber = tracing_subscriber::fmt().event_format(JsonLines).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, log);
        let text = String::from_utf8(out.0.lock().expect("not poisoned").clone()).expect("text");
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    #[test]
    fn an_event_is_one_object_with_its_fields_beside_its_message() {
        let missing: Option<&str> = None;
        let lines = lines_of(|| {
            tracing::warn!(text = "a \"b\" \\ \n\u{1} ü", id = %"x\ty", n = 5u64, below = -5, p = 0.5, nan = f64::NAN, yes = true, missing, "it is {}", "so\"");
            tracing::info!(list = ?["a"], "second");
        });
        let mut first = lines[0].clone();
        let timestamp = first.as_object_mut().and_then(|line| line.remove("timestamp")).expect("a time");
        assert!(
            timestamp.as_str().is_some_and(|time| time.len() == 27 && time.starts_with("20") && time.ends_with('Z')),
            "{timestamp}"
        );
        assert_eq!(
            first,
            json!({"level": "WARN", "message": "it is so\"", "text": "a \"b\" \\ \n\u{1} ü", "id": "x\ty", "n": 5, "below": -5, "p": 0.5, "nan": null, "yes": true})
        );
        assert_eq!(lines[1]["list"], "[\"a\"]");
        assert_eq!(lines.len(), 2);
    }

    proptest! {
        #[test]
        fn any_text_comes_through(text: String) {
            let lines = lines_of(|| tracing::info!(text = text.as_str(), shown = %text, "x"));
            prop_assert_eq!(&lines[0]["text"], text.as_str());
            prop_assert_eq!(&lines[0]["shown"], text.as_str());
        }
    }
}
