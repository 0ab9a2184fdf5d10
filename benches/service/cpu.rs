//! CPU time a request, against the floor's. Unlike the time that an answer takes, it hardly depends on what else the machine does.

use std::time::Duration;

use crate::load::{Sessions, Template, closed_loop};
use crate::process::Process;
use crate::report::{Report, Row, Sample, Target};
use crate::requests::{self, Question};
use crate::{Outcome, Size, say};

/// Connections of the load.
const CONNECTIONS: u64 = 32;
/// How long what was asked last may still be worked at, such as log lines that gather.
const SETTLE: Duration = Duration::from_millis(50);

/// A question to the service, and what its turns cost.
#[derive(Debug)]
struct Path {
    question: Question,
    target: Target,
    /// CPU time a request, in microseconds.
    micros: Vec<f64>,
    /// The same in multiples of the floor's.
    ratios: Vec<f64>,
}

/// What a request cost in one turn.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// CPU time, in microseconds.
    micros: f64,
    /// How many log lines were written.
    lines: f64,
    /// How many requests were answered in a second.
    rate: f64,
}

/// Measures every path in turn, over and over, and the floor before and after each.
pub async fn measure(size: &Size, report: &mut Report) -> Outcome<()> {
    let (floor, service) = (Process::floor()?, Process::service("")?);
    let to_floor = requests::to_floor();
    let (mut floor_turns, mut lines, mut paths) = (Vec::new(), Vec::new(), paths());
    for round in 0..size.rounds {
        say(&format!("CPU time: round {} of {}", round + 1, size.rounds));
        let mut before = turn(&floor, &to_floor, size.turn).await?;
        floor_turns.push(before);
        for path in &mut paths {
            let template = prepare(&service, &path.question, round).await?;
            let now = turn(&service, &template, size.turn).await?;
            let after = turn(&floor, &to_floor, size.turn).await?;
            path.micros.push(now.micros);
            path.ratios.push(now.micros / f64::midpoint(before.micros, after.micros));
            lines.push(now.lines);
            floor_turns.push(after);
            before = after;
        }
    }

    let floor_micros: Sample = floor_turns.iter().map(|turn| turn.micros).collect();
    report.row(Row {
        what: "CPU: the floor".to_owned(),
        measured: format!("{:.1} µs", floor_micros.median()),
        range: floor_micros.range(1),
        target: None,
    });
    for path in &paths {
        let ratios: Sample = path.ratios.iter().copied().collect();
        let micros: Sample = path.micros.iter().copied().collect();
        report.row(Row {
            what: format!("CPU: {}", path.question.name),
            measured: format!("{:.2} × the floor ({:.1} µs)", ratios.median(), micros.median()),
            range: ratios.range(2),
            target: Some((ratios.median(), path.target)),
        });
    }
    let bodies: Sample = paths.iter().map(|path| path.question.template.body_bytes() as f64).collect();
    let rates: Sample = floor_turns.iter().map(|turn| turn.rate).collect();
    report.note(format!(
        "CPU: user and kernel time of the server's process a request; {CONNECTIONS} connections in a closed loop; medians and ranges of {} rounds. Bodies of {} bytes (floor) and {} bytes (service). The floor answered {:.0} requests a second.",
        size.rounds,
        to_floor.body_bytes(),
        bodies.range(0),
        rates.median(),
    ));
    let lines: Sample = lines.into_iter().collect();
    report.note(format!(
        "Log: JSON lines into a pipe that is read and thrown away; {:.1} % of the requests got theirs ({:.1} % in the worst turn).",
        lines.median() * 100.0,
        lines.quantile(0.0) * 100.0,
    ));
    Ok(())
}

fn paths() -> Vec<Path> {
    let all = [
        (requests::to_guards(), times(1.5, Some(1.25))),
        (requests::to_builtin_model(), times(2.0, Some(1.6))),
        (requests::about_tasks(), times(1.5, None)),
    ];
    let path = |question, target| Path { question, target, micros: Vec::new(), ratios: Vec::new() };
    all.into_iter().flat_map(|(questions, target)| questions.into_iter().map(move |question| path(question, target))).collect()
}

fn times(at_most: f64, aim: Option<f64>) -> Target {
    Target { at_most, aim, unit: " ×" }
}

/// What to send in this round.
async fn prepare(service: &Process, question: &Question, round: u64) -> Outcome<Template> {
    if !question.repeats {
        return Ok(question.template.clone());
    }
    // A text that was accepted counts for half a minute, so each round has a session of its own, in which one is accepted first.
    let template = question.template.of_sessions(Sessions::One(round));
    closed_loop(service.address, &template.expecting(""), 1, 1, Duration::from_secs(1)).await?;
    Ok(template)
}

async fn turn(process: &Process, template: &Template, time: Duration) -> Outcome<Turn> {
    // Caches and connections of this path.
    closed_loop(process.address, template, CONNECTIONS, u64::MAX, time / 5).await?;
    tokio::time::sleep(SETTLE).await;
    let (cpu, lines) = (process.cpu()?, process.log_lines());
    let answered = closed_loop(process.address, template, CONNECTIONS, u64::MAX, time).await?;
    tokio::time::sleep(SETTLE).await;
    let (cpu, lines) = (process.cpu()?.saturating_sub(cpu), process.log_lines() - lines);
    let answered = answered as f64;
    Ok(Turn { micros: cpu.as_secs_f64() * 1e6 / answered, lines: lines as f64 / answered, rate: answered / time.as_secs_f64() })
}
