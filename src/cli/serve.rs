//! `busy-router serve`

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;
use crate::clock::Clock;
use crate::config::watch::FileWatch;
use crate::config::{LogFormat, Sources};
use crate::http::auth::Scope;
use crate::http::server::{Listener, serve};
use crate::http::{App, Live};
use crate::protocol::Mode;
use crate::telemetry::logs;

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The config file; without one the defaults apply (see config.example.toml).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The address to listen on; port 0 picks a free one.
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// off: every message passes through | shadow: decide and report | on.
    #[arg(long)]
    mode: Option<Mode>,
    /// How log lines look.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

/// Runs the service until SIGTERM or SIGINT.
///
/// # Errors
/// A setting that is wrong, or an address that cannot be bound.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let sources = Sources::from_process(args.config, args.listen, args.mode);
    let as_loaded = content(&sources);
    let loaded = sources.load()?;
    let _logs = logs::init(&loaded.settings.log, args.log_format)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let clock = Clock::system();
        let live = Live::new(loaded.settings, &clock, None)?;
        if !live.tokens.is_empty() && !live.tokens.has(Scope::Route) {
            tracing::warn!("no token has the scope `route`: nobody can ask for decisions");
        }
        live.tokens.suffice_for(&live.prepared.settings.server)?;
        let listener = Listener::bind(&live.prepared.settings.server).await?;
        let mode = live.prepared.settings.mode;
        let app = Arc::new(App::new(live, clock));
        // Before the line that says so: who reads it may send a signal at once.
        let terminate = Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
        let hangup = signal(SignalKind::hangup())?;
        // Likewise: who reads it may change the file at once.
        let watch = watch(&sources);
        tracing::info!(target: "lifecycle", mode = mode.as_str(), version = env!("CARGO_PKG_VERSION"), "listening on {}", listener.url());
        let reload = reload_on_change(app.clone(), sources, hangup, watch, as_loaded);
        tokio::select! {
            () = serve(listener, app, terminate.recv()) => {}
            // Never ends by itself.
            () = reload => {}
        }
        Ok(ExitCode::SUCCESS)
    })
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    async fn recv(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn watch(sources: &Sources) -> Option<FileWatch> {
    FileWatch::new(sources.file.as_deref()?)
        .inspect_err(|error| tracing::warn!(%error, "the config file cannot be watched; send SIGHUP to reload it"))
        .ok()
}

fn content(sources: &Sources) -> Option<Vec<u8>> {
    std::fs::read(sources.file.as_deref()?).ok()
}

/// Reloads on SIGHUP and when the config file has other content than `last` time.
async fn reload_on_change(
    app: Arc<App>,
    sources: Sources,
    mut hangup: Signal,
    mut watch: Option<FileWatch>,
    mut last: Option<Vec<u8>>,
) {
    let mut by_signal = false;
    loop {
        let now = content(&sources);
        // Other files live in the folder too, and a file that is being replaced is gone for a moment.
        if by_signal || (now.is_some() && now != last) {
            last = now;
            match app.reload(&sources) {
                Ok(()) => {
                    let mode = app.live.load().prepared.settings.mode;
                    tracing::info!(target: "lifecycle", mode = mode.as_str(), "configuration reloaded");
                }
                Err(error) => tracing::error!(%error, "the new configuration is refused; the old one stays"),
            }
        }
        by_signal = tokio::select! {
            _ = hangup.recv() => true,
            () = async { match &mut watch { Some(watch) => watch.changed().await, None => std::future::pending().await } } => false,
        };
    }
}
