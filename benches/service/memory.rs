//! Resident memory: of a service that has just started, and of one that has decided a great many messages of many sessions.

use std::time::Duration;

use crate::load::{NUMBER, Sessions, closed_loop};
use crate::process::Process;
use crate::report::{Report, Row, Target};
use crate::{Outcome, Size, requests, say};

/// Connections of the load.
const CONNECTIONS: u64 = 32;
/// How long the service rests before it is looked at.
const REST: Duration = Duration::from_secs(1);
/// The longest that the decisions may take.
const LONGEST: Duration = Duration::from_secs(600);

/// Starts a service, and fills its memory with decisions of the built-in model, each of which has a message id and a text of its own.
pub async fn measure(size: &Size, report: &mut Report) -> Outcome<()> {
    say(&format!("memory: {} decisions", size.decisions));
    let service = Process::service("")?;
    tokio::time::sleep(REST).await;
    let (idle, _) = service.resident()?;
    let template = requests::to_model(Some(NUMBER)).of_sessions(Sessions::InTurn(size.sessions));
    let answered = closed_loop(service.address, &template, CONNECTIONS, size.decisions, LONGEST).await?;
    if answered < size.decisions {
        return Err(format!("only {answered} of {} decisions were made in {} s", size.decisions, LONGEST.as_secs()).into());
    }
    tokio::time::sleep(REST).await;
    let (after, peak) = service.resident()?;
    let mut row = |what: String, value: f64, at_most: Option<f64>| {
        report.row(Row {
            what: format!("resident memory {what}"),
            measured: format!("{value:.1} MB"),
            target: at_most.map(|at_most| (value, Target { at_most, aim: None, unit: " MB" })),
            ..Row::default()
        });
    };
    row("idle".to_owned(), idle, Some(20.0));
    row(format!("after {} decisions over {} sessions", grouped(size.decisions), grouped(size.sessions)), after, Some(60.0));
    row("at its peak".to_owned(), peak, None);
    Ok(())
}

/// A number with commas between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
