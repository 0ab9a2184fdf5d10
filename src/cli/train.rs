//! `busy-router train`

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use super::{Failure, print};
use crate::model::builtin::Builtin;
use crate::replay::fixture;
use crate::train::{Plan, train};

/// Arguments of `train`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// JSONL files of labelled fixtures, or folders of them.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Where the weights go.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Trains the built-in model: the same input gives the same bytes. Prints how it does on authors that it has not seen.
///
/// # Errors
/// Fixtures that cannot be read or learnt from, or a file that cannot be written.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let fixtures = fixture::load(&args.paths).map_err(Failure::bad_input)?;
    let progress = |text: &str| {
        // What is going on is for people; nobody may be there to read it.
        let _ = writeln!(std::io::stderr(), "{text}");
    };
    let trained = train(&fixtures, &Plan::default(), progress).map_err(Failure::bad_input)?;
    let bytes = trained.model.to_bytes();
    std::fs::write(&args.out, &bytes)
        .map_err(|error| Failure::other(format!("{}: cannot be written: {error}", args.out.display())))?;
    print(&trained.validation.table())?;
    let same = if bytes == Builtin::embedded_bytes() { "the same as" } else { "not the same as" };
    print(&format!("{} bytes written to {}; {same} the weights in this program\n", bytes.len(), args.out.display()))?;
    Ok(ExitCode::SUCCESS)
}
