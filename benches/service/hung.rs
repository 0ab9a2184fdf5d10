//! An endpoint that takes every request and never answers: does every message get its decision in time all the same?

use std::fs::File;

use crate::load::open_loop;
use crate::process::Process;
use crate::report::{Report, Row, Sample, Target};
use crate::upstream::Upstream;
use crate::{Outcome, Size, hop, requests, say};

/// Requests a second.
const PER_SECOND: u32 = 800;
/// Handles that this process needs at most: both ends of what is under way are its own.
const HANDLES: usize = 1_000;
/// The limit of a call.
const TIMEOUT_MS: u32 = 400;

/// Asks at a constant rate, whatever the answers do.
pub async fn measure(size: &Size, report: &mut Report) -> Outcome<()> {
    say("hung endpoint");
    let upstream = Upstream::hung()?;
    // The breaker would end the waiting after a few failures, and the bulkhead at some number of calls: neither may, here.
    let more = format!("timeout_ms = {TIMEOUT_MS}\nmax_concurrency = 1000\nbreaker = {{ failures = 1000000000, open_s = 10 }}\n");
    let service = Process::service(&hop::config(&upstream, &more))?;
    make_room_for_connections();
    let answered = open_loop(service.address, &requests::to_hung_model(), PER_SECOND, size.hung).await?;
    let latencies: Sample = answered.iter().map(|request| request.latency).collect();
    let late: Sample = answered.iter().map(|request| request.late).collect();
    let mut row = |name: &str, value: f64, at_most: Option<f64>| {
        report.row(Row {
            what: format!("hung endpoint, limit {TIMEOUT_MS} ms, {PER_SECOND} requests/s: {name}"),
            measured: format!("{value:.1} ms"),
            target: at_most.map(|at_most| (value, Target { at_most, aim: None, unit: " ms" })),
            ..Row::default()
        });
    };
    row("p50", latencies.quantile(0.5), None);
    row("p99", latencies.quantile(0.99), Some(405.0));
    row("slowest", latencies.quantile(1.0), None);
    report.note(format!(
        "Hung endpoint: {} s of an open loop, latencies from the moment when a request was due; the load generator sent 99 % within {:.1} ms of it. 0 of {} requests unanswered.",
        size.hung.as_secs(),
        late.quantile(0.99),
        answered.len(),
    ));
    Ok(())
}

/// Opens so many files as there will be connections, and closes them. Where a process with threads first needs more handles than it has room
/// for, Linux makes it wait for tens of milliseconds, which would look like late answers.
fn make_room_for_connections() {
    let handles: Vec<File> = (0..HANDLES).map_while(|_| File::open("/dev/null").ok()).collect();
    drop(handles);
}
