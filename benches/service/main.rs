//! What a decision costs: `cargo bench --bench service`, or `cargo bench --bench service -- --quick` for a short look. Prints a Markdown table.
//!
//! It starts the program as users run it and talks to it over loopback. docs/benchmarks.md says what is measured, and how.

mod cpu;
mod floor;
mod hop;
mod http;
mod hung;
mod load;
mod memory;
mod process;
mod report;
mod requests;
mod upstream;

use std::error::Error;
use std::io::{Write, stderr, stdout};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use report::Report;

// The service's, so that the floor has the same.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A value, or why the run is broken. Slow is not broken.
pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Measures what decisions cost, and prints a Markdown table.
#[derive(Debug, Parser)]
struct Args {
    /// Less of everything: shows that all works, and roughly where it stands, in less than a minute.
    #[arg(long)]
    quick: bool,
    /// Only these; all when left out.
    sections: Vec<Section>,
    /// Given by `cargo bench`, and not by `cargo test`, which shall be quick.
    #[arg(long, hide = true)]
    bench: bool,
    /// Serves the floor instead of measuring anything.
    #[arg(long, hide = true)]
    serve_floor: bool,
}

/// A part of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Section {
    /// CPU time a request, against the floor's.
    Cpu,
    /// What the way over a model's endpoint adds to the endpoint's own time.
    Hop,
    /// An endpoint that never answers.
    Hung,
    /// Resident memory.
    Memory,
}

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Rounds of the CPU section; in each of them every path gets its turn, and the floor before and after it.
    pub rounds: u64,
    /// How long a turn takes.
    pub turn: Duration,
    /// Rounds of the hop section.
    pub hop_rounds: usize,
    /// Requests to the endpoint, and as many over the service, in such a round.
    pub hop_requests: usize,
    /// How long requests go to the service whose endpoint hangs.
    pub hung: Duration,
    /// Decisions of the memory section.
    pub decisions: u64,
    /// Sessions that they are spread over.
    pub sessions: u64,
}

impl Size {
    const FULL: Self = Self {
        rounds: 5,
        turn: Duration::from_millis(1_500),
        hop_rounds: 5,
        hop_requests: 2_000,
        hung: Duration::from_secs(10),
        decisions: 1_000_000,
        sessions: 100_000,
    };
    const QUICK: Self = Self {
        rounds: 3,
        turn: Duration::from_millis(250),
        hop_rounds: 3,
        hop_requests: 300,
        hung: Duration::from_secs(2),
        decisions: 50_000,
        sessions: 5_000,
    };
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = if args.serve_floor { floor::serve() } else { measure(&args) };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("broken run: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &Args) -> Outcome<()> {
    let size = if args.quick || !args.bench { Size::QUICK } else { Size::FULL };
    let wanted = |section| args.sections.is_empty() || args.sections.contains(&section);
    // One thread: the load comes from one core at most and leaves the rest to the service.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        let mut report = Report::default();
        let sections = async {
            if wanted(Section::Cpu) {
                cpu::measure(&size, &mut report).await?;
            }
            if wanted(Section::Hop) {
                hop::measure(&size, &mut report).await?;
            }
            if wanted(Section::Hung) {
                hung::measure(&size, &mut report).await?;
            }
            if wanted(Section::Memory) {
                memory::measure(&size, &mut report).await?;
            }
            Ok(())
        };
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        // What was started ends with the section that is dropped.
        let outcome: Outcome<()> = tokio::select! {
            outcome = sections => outcome,
            _ = interrupt.recv() => Err("interrupted".into()),
            _ = terminate.recv() => Err("terminated".into()),
        };
        outcome.map(|()| report)
    })?;
    stdout().write_all(report.markdown().as_bytes())?;
    Ok(())
}

/// Tells whoever waits how far it is.
pub fn say(line: &str) {
    // Nobody waits on a closed terminal.
    let _ = writeln!(stderr(), "{line}");
}
