//! `busy-router check`

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Failure, print};
use crate::clock::Clock;
use crate::config::Sources;
use crate::http::Live;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The config file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Validates a config file as `serve` would read it, prompts and tokens included.
///
/// # Errors
/// The first setting that is wrong.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let loaded = Sources::from_process(Some(args.config.clone()), None, None).load()?;
    let live = Live::new(loaded.settings, &Clock::system(), None)?;
    let mut text = String::new();
    for warning in &loaded.warnings {
        text.extend(["# warning: ", warning, "\n"]);
    }
    text.push_str(&live.prepared.settings.redacted());
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
