//! What the log says, and in which form.

use std::io::{self, IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

use super::json::JsonLines;
use super::lines::{Lines, LinesGuard};
use crate::config::{Log, LogFormat, LogLevel};
use crate::protocol::{Decision, RouteRequest};

/// Bytes of lines that may wait to be written.
const MAX_WAITING: usize = 1 << 20;

/// Starts logging to standard error; what is returned writes out the rest when it is dropped.
///
/// `RUST_LOG` wins over `log.level`. The lifecycle lines (what address is served, how a drain ended) are always shown.
///
/// # Errors
/// The system gives no thread to write them.
pub fn init(settings: &Log, format: Option<LogFormat>) -> io::Result<LinesGuard> {
    let (writer, guard) = Lines::start("log", MAX_WAITING, stderr())?;
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
    Ok(guard)
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
