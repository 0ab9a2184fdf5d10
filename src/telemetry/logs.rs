//! Log lines, written by a thread of their own: a terminal or disk that hangs must not hold up a decision. Lines that it cannot keep up
//! with are dropped.

use std::io::{self, BufWriter, IsTerminal, Write, stderr};
use std::time::Duration;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use super::json::JsonLines;
use crate::config::{Log, LogFormat, LogLevel};
use crate::protocol::{Decision, RouteRequest};

/// Lines that may wait to be written, about 1 MB.
const WAITING_LINES: usize = 4_096;
/// How long lines gather before they are written in one go.
const GATHER: Duration = Duration::from_millis(5);
/// Room for the lines of one go.
const GATHERED_BYTES: usize = 64 << 10;

/// Starts logging to standard error; what is returned writes out the rest when it is dropped.
///
/// `RUST_LOG` wins over `log.level`. The lifecycle lines (what address is served, how a drain ended) are always shown.
pub fn init(settings: &Log, format: Option<LogFormat>) -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(WAITING_LINES)
        .thread_name("log")
        .finish(Gathering(BufWriter::with_capacity(GATHERED_BYTES, stderr())));
    let level = match settings.level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    };
    let filter = std::env::var("RUST_LOG").ok().filter(|directives| !directives.is_empty()).unwrap_or_else(|| {
        // The libraries below say little that an operator can use.
        format!("{level},hyper=warn,reqwest=warn,rustls=warn,notify=warn")
    });
    let filter = EnvFilter::try_new(&filter).unwrap_or_else(|_| EnvFilter::new(level));
    let filter = match "lifecycle=info".parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    };
    let pretty = match format.unwrap_or(settings.format) {
        LogFormat::Auto => stderr().is_terminal(),
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    // A second call (tests start several services in one process) keeps the first subscriber.
    let _ = if pretty {
        builder.with_ansi(stderr().is_terminal()).with_target(false).try_init()
    } else {
        builder.event_format(JsonLines).try_init()
    };
    guard
}

/// Writes many lines at a time: on a busy service, waking the log's thread and calling the system for each line cost more than deciding.
struct Gathering<W: Write>(BufWriter<W>);

impl<W: Write> Write for Gathering<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    /// The log's thread flushes when no line waits; while it rests here, lines wait for it without waking it.
    #[expect(clippy::disallowed_methods, reason = "the log's own thread rests, none of the runtime's")]
    fn flush(&mut self) -> io::Result<()> {
        let outcome = self.0.flush();
        std::thread::sleep(GATHER);
        outcome
    }
}

/// One line a decision, without the message's text unless the operator asks for it.
pub fn decision(request: &RouteRequest, decision: &Decision, include_text: bool) {
    let shadow = decision.shadow.as_ref();
    tracing::info!(
        decision_id = %decision.decision_id,
        session_id = %request.session.id,
        message_id = request.message.id.as_deref(),
        gateway = %request.session.gateway,
        platform = request.session.platform.as_deref(),
        mode = decision.mode.as_str(),
        action = decision.action.as_str(),
        shadow_action = shadow.map(|shadow| shadow.action.as_str()),
        rule = decision.rule.as_str(),
        decided_by = decision.decided_by.as_str(),
        suggested_action = decision.suggested_action.or(shadow.and_then(|shadow| shadow.suggested_action)).map(crate::protocol::Action::as_str),
        model_action = decision.model_action.map(crate::protocol::Action::as_str),
        confidence = decision.confidence,
        replayed = decision.replayed,
        total_us = decision.latency.total_us,
        model_us = decision.latency.model_us,
        text = include_text.then_some(request.message.text.as_str()),
        "decided"
    );
}
