//! `busy-router check`

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Failure, print};
use crate::clock::Clock;
use crate::config::{Loaded, Sources};
use crate::http::auth::Tokens;
use crate::prepared::Prepared;
use crate::telemetry::journal::Journal;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The config file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Validates a config file as `serve` would read it, prompts and tokens included. Writes and opens nothing that `serve` would write to.
///
/// # Errors
/// The first setting that is wrong.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let loaded = Sources::from_process(Some(args.config.clone()), None, None).load()?;
    let Loaded { settings, mut warnings, .. } = loaded;
    let tokens = Tokens::load_for(&settings.server)?;
    // The token may be in the environment of the service only.
    warnings.extend(tokens.suffice_for(&settings.server).err().map(|refusal| refusal.to_string()));
    Journal::check(&settings.journal)?;
    let prepared = Prepared::new(settings, &Clock::system(), None)?;
    let mut text = String::new();
    for warning in &warnings {
        text.extend(["# warning: ", warning, "\n"]);
    }
    text.push_str(&prepared.settings.redacted());
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
