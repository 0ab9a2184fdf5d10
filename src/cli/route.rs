//! `busy-router route`: one decision, step by step.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use super::{Failure, print};
use crate::clock::Clock;
use crate::config::{Provider, Sources};
use crate::http::body;
use crate::http::error::ApiError;
use crate::prepared::Prepared;
use crate::protocol::{
    Busy, BusyState, Capability, ChatKind, DecidedBy, Decision, HistoryEntry, Message, Mode, Role, RouteRequest, Rule, Session,
    Tool, Validate,
};
use crate::router::Router;

/// Arguments of `route`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The request as JSON, as the endpoint takes it; `-` reads standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["text", "state", "gateway", "chat", "tool", "preview", "user", "assistant", "question", "can"])]
    request: Option<PathBuf>,
    /// The message's text.
    #[arg(long, required_unless_present = "request")]
    text: Option<String>,
    /// What the agent is doing.
    #[arg(long, default_value = "thinking")]
    state: BusyState,
    /// Whose command table applies.
    #[arg(long, default_value = "default")]
    gateway: String,
    /// The kind of chat.
    #[arg(long, default_value = "direct")]
    chat: ChatKind,
    /// The running tool.
    #[arg(long)]
    tool: Option<String>,
    /// What the running tool works on.
    #[arg(long, requires = "tool")]
    preview: Option<String>,
    /// The last thing the user said.
    #[arg(long)]
    user: Option<String>,
    /// The last thing the agent said.
    #[arg(long)]
    assistant: Option<String>,
    /// The question that the agent waits on.
    #[arg(long)]
    question: Option<String>,
    /// What the gateway can do; repeat it. By default interrupt, queue and ignore.
    #[arg(long, value_name = "CAPABILITY")]
    can: Vec<Capability>,
    /// The config file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The mode to decide in.
    #[arg(long, default_value = "on")]
    mode: Mode,
    /// Print the decision as JSON instead of the steps.
    #[arg(long)]
    json: bool,
}

/// Decides one message in this process and explains the path that it took.
///
/// # Errors
/// A request or a setting that is wrong.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let request = match &args.request {
        Some(path) => read_request(path)?,
        None => request_from_flags(args),
    };
    if let Some(error) = request.violations().first() {
        return Err(Failure::bad_input(format!("{} {}", error.pointer, error.detail)));
    }
    let settings = Sources::from_process(args.config.clone(), None, Some(args.mode)).load()?.settings;
    let clock = Clock::system();
    let prepared = Prepared::new(settings, &clock, None)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let decision = runtime.block_on(Router::new(clock).route(&prepared, &request));
    if args.json {
        let json = serde_json::to_string_pretty(&decision).map_err(Failure::other)?;
        print(&format!("{json}\n"))?;
    } else {
        print(&explain(&decision, prepared.settings.model.provider, Paint { colour: std::io::stdout().is_terminal() }))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn read_request(path: &std::path::Path) -> Result<RouteRequest, Failure> {
    let mut bytes = Vec::new();
    let wrong = |error: std::io::Error| Failure::bad_input(format!("{}: cannot be read: {error}", path.display()));
    if path.as_os_str() == "-" {
        std::io::stdin().lock().read_to_end(&mut bytes).map_err(wrong)?;
    } else {
        bytes = std::fs::read(path).map_err(wrong)?;
    }
    body::parse(&bytes).map_err(|error| {
        Failure::bad_input(match error {
            ApiError::InvalidFields(errors) => {
                errors.iter().map(|error| format!("{} {}", error.pointer, error.detail)).collect::<Vec<_>>().join("; ")
            }
            ApiError::MalformedJson(why) => format!("the request is not valid JSON: {why}"),
            other => format!("{other:?}"),
        })
    })
}

fn request_from_flags(args: &Args) -> RouteRequest {
    let said = |role: Role, text: &Option<String>| text.clone().map(|text| HistoryEntry { role, text });
    RouteRequest {
        session: Session {
            id: "command-line".to_owned(),
            gateway: args.gateway.clone(),
            platform: None,
            chat: args.chat,
            turn_id: None,
            owner_id: None,
        },
        message: Message {
            id: None,
            text: args.text.clone().unwrap_or_default(),
            sender_id: None,
            addressed: None,
            media: Vec::new(),
            reply_to: None,
        },
        busy: Busy {
            state: args.state,
            elapsed_ms: None,
            tool: args.tool.clone().map(|name| Tool {
                name,
                preview: args.preview.clone(),
                task_id: None,
                detachable: None,
                interruptible: None,
            }),
            subagents: None,
            queued: None,
            pending_question: args.question.clone(),
            evidence: Vec::new(),
        },
        history: [said(Role::User, &args.user), said(Role::Assistant, &args.assistant)].into_iter().flatten().collect(),
        capabilities: (!args.can.is_empty()).then(|| args.can.clone()),
        default_action: None,
        deadline_ms: None,
    }
}

/// Colours where there is a terminal to show them.
#[derive(Clone, Copy)]
struct Paint {
    colour: bool,
}

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// The rules in the order in which they are tried, up to the one that decided; then what the model said, what the review made of it, and
/// the decision.
fn explain(decision: &Decision, provider: Provider, paint: Paint) -> String {
    let by_review =
        matches!(decision.rule, Rule::LowConfidence | Rule::IgnoreWithContent | Rule::ProtectedRun | Rule::UnsupportedAction);
    let asked_model = decision.rule == Rule::Model || by_review || decision.decided_by == DecidedBy::Fallback;
    let mut lines = Vec::new();
    for (number, rule) in Rule::ALL.iter().take_while(|rule| **rule != Rule::Model).enumerate() {
        if *rule == decision.rule {
            lines.push(format!("{:>3}  {}  {}", number + 1, paint.with("1;32", &format!("● {rule:<16}")), rule.meaning()));
            break;
        }
        lines.push(format!("{:>3}  {}", number + 1, paint.with("2", &format!("○ {rule:<16}  no"))));
    }
    if asked_model {
        let said = match (decision.model_action, decision.confidence) {
            (Some(action), Some(confidence)) => {
                format!("{} says {action}, {:.0} % sure", provider_name(provider), confidence * 100.0)
            }
            _ => format!("{} could not be used", provider_name(provider)),
        };
        let took = decision.latency.model_us.map(|us| format!(" after {us} µs")).unwrap_or_default();
        lines.push(format!("     {}  {said}{took}", paint.with("1;36", &format!("◆ {:<16}", "model"))));
        if decision.rule != Rule::Model {
            let name = if by_review { "review" } else { "fallback" };
            lines.push(format!(
                "     {}  {}: {}",
                paint.with("1;33", &format!("▲ {name:<16}")),
                decision.rule,
                decision.rule.meaning()
            ));
        }
    }
    let action = decision.shadow.as_ref().map_or(decision.action, |shadow| shadow.action);
    let mut verdict = format!(
        "\n     {}  by {} in {} µs",
        paint.with("1", &format!("➜ {action}")),
        decision.decided_by,
        decision.latency.total_us
    );
    if decision.shadow.is_some() {
        verdict.push_str("; shadow mode, so the gateway is told pass_through");
    }
    lines.push(verdict);
    lines.push(format!("     {}", decision.reason));
    if let Some(command) = &decision.command {
        lines.push(format!("     command {} on the {} lane", command.name, command.lane));
    }
    if let Some(suggested) = decision.suggested_action.or(decision.shadow.as_ref().and_then(|shadow| shadow.suggested_action)) {
        lines.push(format!("     better where it is allowed: {suggested}"));
    }
    if let Some(ack) = &decision.ack {
        lines.push(format!("     tells the user: {}", ack.text));
    }
    lines.join("\n") + "\n"
}

fn provider_name(provider: Provider) -> &'static str {
    match provider {
        Provider::Builtin => "the built-in model",
        Provider::Openai => "the endpoint",
        Provider::Cascade => "the cascade",
    }
}
