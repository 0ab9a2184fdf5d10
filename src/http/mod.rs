//! The HTTP side: thin handlers that turn a request into a call and an answer into JSON.

pub mod auth;
pub mod body;
pub mod error;
pub mod routes;
pub mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::config::{self, ConfigError, Settings, Sources};
use crate::prepared::Prepared;
use crate::router::Router;
use crate::tasks::TaskMemory;
use crate::telemetry::journal::Journal;
use crate::telemetry::metrics::Metrics;
use auth::Tokens;

/// What a request sees of the configuration, swapped as a whole on a reload.
#[derive(Debug)]
pub struct Live {
    /// Settings and what is derived from them.
    pub prepared: Prepared,
    /// Who may call.
    pub tokens: Tokens,
    /// Where decisions are written down, if anywhere.
    pub journal: Option<Arc<Journal>>,
}

impl Live {
    /// Prepares settings for serving; `previous` is what they replace.
    ///
    /// # Errors
    /// A setting, a prompt or a token that is wrong.
    pub fn new(settings: Settings, clock: &Clock, previous: Option<&Self>) -> Result<Self, ConfigError> {
        let tokens = Tokens::load_for(&settings.server)?;
        let journal = match previous.and_then(|live| live.journal.clone()).filter(|journal| journal.is_for(&settings.journal)) {
            Some(journal) => Some(journal),
            None => Journal::open(&settings.journal)?.map(Arc::new),
        };
        Ok(Self { prepared: Prepared::new(settings, clock, previous.map(|live| &live.prepared))?, tokens, journal })
    }
}

/// The service behind the listener.
#[derive(Debug)]
pub struct App {
    /// The decisions.
    pub router: Router,
    /// What is remembered of background tasks.
    pub tasks: TaskMemory,
    /// The current configuration.
    pub live: ArcSwap<Live>,
    /// What is counted.
    pub metrics: Metrics,
    /// Slots for requests under way; `server.max_in_flight`.
    in_flight: Arc<Semaphore>,
    /// How the service was started: the listener and the slots were made then, so a reload does not change them.
    at_start: AtStart,
    draining: AtomicBool,
    clock: Clock,
}

#[derive(Debug)]
struct AtStart {
    server: config::Server,
    log: config::Log,
}

impl App {
    /// A service that has decided nothing yet.
    #[must_use]
    pub fn new(live: Live, clock: Clock) -> Self {
        let settings = &live.prepared.settings;
        let at_start = AtStart { server: settings.server.clone(), log: settings.log.clone() };
        Self {
            router: Router::new(clock.clone()),
            tasks: TaskMemory::default(),
            in_flight: Arc::new(Semaphore::new(at_start.server.max_in_flight)),
            at_start,
            live: ArcSwap::from_pointee(live),
            metrics: Metrics::new(),
            draining: AtomicBool::new(false),
            clock,
        }
    }

    /// Loads the sources again and swaps the configuration in, or keeps the old one and says why.
    ///
    /// # Errors
    /// The setting that is wrong; nothing has changed then.
    pub fn reload(&self, sources: &Sources) -> Result<(), ConfigError> {
        let previous = self.live.load();
        let result = sources.load().and_then(|loaded| {
            let live = Live::new(loaded.settings, &self.clock, Some(&previous))?;
            live.tokens.suffice_for(&self.at_start.server)?;
            Ok((live, loaded.warnings))
        });
        self.metrics.reload(result.is_ok());
        let (live, warnings) = result?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let (settings, at_start) = (&live.prepared.settings, &self.at_start);
        if at_start.server.needs_restart_for(&settings.server) || at_start.log != settings.log {
            tracing::warn!(
                "changes of [server] listen, unix_socket, max_connections, max_in_flight, header_timeout_ms and of [log] take effect after a restart"
            );
        }
        self.live.store(Arc::new(live));
        Ok(())
    }

    /// From now on new requests are refused, and the readiness probe fails.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// Whether the service is shutting down.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Requests under way.
    #[must_use]
    pub fn requests_under_way(&self) -> usize {
        self.at_start.server.max_in_flight.saturating_sub(self.in_flight.available_permits())
    }
}
