//! The command line: one file a command.

pub mod check;
pub mod health;
pub mod openapi;
pub mod replay;
pub mod route;
pub mod serve;
pub mod train;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit code for input that is wrong: a config file, a flag, a fixture.
pub const BAD_INPUT: u8 = 2;

/// Decides what happens to a chat message that arrives while an AI agent is busy.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service.
    Serve(serve::Args),
    /// Validate a config file and print the effective settings, secrets redacted.
    Check(check::Args),
    /// Decide one message and explain each step.
    Route(Box<route::Args>),
    /// Replay labelled fixtures and score the decisions.
    Replay(Box<replay::Args>),
    /// Train the built-in model from labelled fixtures.
    Train(train::Args),
    /// Print the `OpenAPI` document.
    Openapi,
    /// Exit 0 when the service is ready.
    Health(health::Args),
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let command = Cli::parse().command;
    let result = match command {
        Command::Serve(args) => serve::run(args),
        Command::Check(args) => check::run(&args),
        Command::Route(args) => route::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Openapi => openapi::run(),
        Command::Health(args) => health::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(Failure { code, message }) => {
            // Standard error may be gone; there is nobody left to tell then.
            let _ = writeln!(io::stderr(), "busy-router: {message}");
            ExitCode::from(code)
        }
    }
}

/// Why a command ended without doing its work.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// The input is wrong, and the message says how to mend it.
    pub fn bad_input(message: impl Display) -> Self {
        Self { code: BAD_INPUT, message: message.to_string() }
    }

    /// Something else went wrong.
    pub fn other(message: impl Display) -> Self {
        Self { code: 1, message: message.to_string() }
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::bad_input(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::other(error)
    }
}

/// Prints text to standard output. A reader that has gone away, such as `head`, is no error.
///
/// # Errors
/// Any other failure to write.
pub fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
