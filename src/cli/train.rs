//! `busy-router train`
use std::process::ExitCode;
use super::Failure;
/// x
#[derive(Debug, clap::Args)]
pub struct Args {}
/// x
pub fn run(_args: &Args) -> Result<ExitCode, Failure> { Err(Failure::other("todo")) }
