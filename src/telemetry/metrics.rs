//! Prometheus metrics: a fixed set, with labels from closed lists only, so that no caller can make it grow.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::model::limits::BreakerState;
use crate::protocol::{Action, DecidedBy, Decision, Mode, Rule};

/// The value of the `gateway` label for gateways that have no command table here: callers choose that name, and a label must not grow.
const OTHER_GATEWAY: &str = "other";

/// Words of the protocol as label values.
macro_rules! label {
    ($($name:ident),+) => {
        $(impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
                EncodeLabelValue::encode(&self.as_str(), encoder)
            }
        })+
    };
}
label!(Action, DecidedBy, Mode, Rule);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    action: Action,
    rule: Rule,
    decided_by: DecidedBy,
    mode: Mode,
    gateway: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabels {
    cause: Rule,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    endpoint: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TaskLabels {
    endpoint: &'static str,
    rule: &'static str,
}

/// All metrics of one service.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    decisions: Family<DecisionLabels, Counter>,
    fallbacks: Family<CauseLabels, Counter>,
    replayed: Counter,
    router_seconds: Histogram,
    model_seconds: Histogram,
    reloads: Family<ResultLabels, Counter>,
    errors: Family<StatusLabels, Counter>,
    tasks: Family<TaskLabels, Counter>,
    breaker: Gauge<i64>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("busy_router");
        let metrics = Self {
            decisions: Family::default(),
            fallbacks: Family::default(),
            replayed: Counter::default(),
            // From a microsecond to half a second, and to two minutes: guards take microseconds, models seconds.
            router_seconds: Histogram::new(exponential_buckets(1e-6, 2.0, 20)),
            model_seconds: Histogram::new(exponential_buckets(1e-6, 2.0, 27)),
            reloads: Family::default(),
            errors: Family::default(),
            tasks: Family::default(),
            breaker: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register(
            "decisions",
            "Decisions by what was decided; in shadow mode by what would have been",
            metrics.decisions.clone(),
        );
        registry.register("fallbacks", "Decisions made without the model, by cause", metrics.fallbacks.clone());
        registry.register("replayed_decisions", "Decisions repeated for a redelivered message id", metrics.replayed.clone());
        registry.register_with_unit(
            "router",
            "Time of a decision without the model's",
            Unit::Seconds,
            metrics.router_seconds.clone(),
        );
        registry.register_with_unit("model", "Time that the model took", Unit::Seconds, metrics.model_seconds.clone());
        registry.register("config_reloads", "Reloads of the config file", metrics.reloads.clone());
        registry.register("request_errors", "Requests that were refused", metrics.errors.clone());
        registry.register("task_answers", "Answers of the task endpoints by rule", metrics.tasks.clone());
        registry.register(
            "breaker_state",
            "Circuit breaker of the model: 0 closed, 1 half open, 2 open",
            metrics.breaker.clone(),
        );
        registry.register("build", "The running program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        Self { registry, ..metrics }
    }

    /// Counts a decision. `known_gateway` says whether the gateway's name is one of ours.
    pub fn decision(&self, decision: &Decision, gateway: &str, known_gateway: bool) {
        let action = decision.shadow.as_ref().map_or(decision.action, |shadow| shadow.action);
        self.decisions
            .get_or_create(&DecisionLabels {
                action,
                rule: decision.rule,
                decided_by: decision.decided_by,
                mode: decision.mode,
                gateway: if known_gateway { gateway } else { OTHER_GATEWAY }.to_owned(),
            })
            .inc();
        if decision.replayed {
            self.replayed.inc();
            return;
        }
        if decision.decided_by == DecidedBy::Fallback {
            self.fallbacks.get_or_create(&CauseLabels { cause: decision.rule }).inc();
        }
        let model_us = decision.latency.model_us.unwrap_or(0);
        self.router_seconds.observe(decision.latency.total_us.saturating_sub(model_us) as f64 / 1e6);
        if decision.latency.model_us.is_some() {
            self.model_seconds.observe(model_us as f64 / 1e6);
        }
    }

    /// Counts a reload of the config file.
    pub fn reload(&self, succeeded: bool) {
        self.reloads.get_or_create(&ResultLabels { result: if succeeded { "applied" } else { "refused" } }).inc();
    }

    /// Counts a request that was refused.
    pub fn error(&self, endpoint: &'static str, status: u16) {
        self.errors.get_or_create(&StatusLabels { endpoint, status }).inc();
    }

    /// Counts an answer of a task endpoint.
    pub fn task(&self, endpoint: &'static str, rule: &'static str) {
        self.tasks.get_or_create(&TaskLabels { endpoint, rule }).inc();
    }

    /// Everything in the text format of Prometheus.
    #[must_use]
    pub fn render(&self, breaker: Option<BreakerState>) -> String {
        // The higher, the worse; the help text says so.
        self.breaker.set(match breaker {
            None | Some(BreakerState::Closed) => 0,
            Some(BreakerState::HalfOpen) => 1,
            Some(BreakerState::Open) => 2,
        });
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}
