//! What the way over a model's endpoint adds: the service in front of an endpoint that answers at once, less the endpoint alone.

use std::time::{Duration, Instant};

use crate::http::Connection;
use crate::load::{NUMBER, Template};
use crate::process::Process;
use crate::report::{Report, Row, Sample, Target};
use crate::upstream::{self, Upstream};
use crate::{Outcome, Size, requests, say};

/// The percentiles that are reported.
const SHARES: [f64; 2] = [0.5, 0.99];
/// How long one request may take before the run is broken.
const PATIENCE: Duration = Duration::from_secs(10);

/// Measures both over one connection each, turn by turn.
pub async fn measure(size: &Size, report: &mut Report) -> Outcome<()> {
    let upstream = Upstream::answering()?;
    let service = Process::service(&config(&upstream, ""))?;
    let mut template = requests::to_model(Some(NUMBER));
    let mut through = Connection::open(service.address).await?;
    over(&mut through, &mut template, size.hop_requests).await?;
    // What the service sends, to the last byte.
    let sent = upstream.first_request().ok_or("the service did not ask its endpoint")?;
    let mut direct = Connection::open(upstream.address).await?;
    let (mut alone, mut with_service): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut added = [Vec::new(), Vec::new()];
    for round in 0..size.hop_rounds {
        say(&format!("model hop: round {} of {}", round + 1, size.hop_rounds));
        let mut direct_now = Vec::with_capacity(size.hop_requests);
        for _ in 0..size.hop_requests {
            direct_now.push(timed(&mut direct, sent, upstream::ANSWER).await?);
        }
        let through_now = over(&mut through, &mut template, size.hop_requests).await?;
        for (added, share) in added.iter_mut().zip(SHARES) {
            added.push(quantile(&through_now, share) - quantile(&direct_now, share));
        }
        alone.extend(direct_now);
        with_service.extend(through_now);
    }
    let targets = [(150.0, 100.0), (300.0, 160.0)];
    for ((share, added), (at_most, aim)) in SHARES.into_iter().zip(added).zip(targets) {
        let (alone, with_service) = (quantile(&alone, share), quantile(&with_service, share));
        let range: Sample = added.into_iter().collect();
        report.row(Row {
            what: format!("model hop, added at one connection: p{:.0}", share * 100.0),
            measured: format!("{:.0} µs ({with_service:.0} − {alone:.0})", with_service - alone),
            range: range.range(0),
            target: Some((with_service - alone, Target { at_most, aim: Some(aim), unit: " µs" })),
        });
    }
    report.note(format!(
        "Model hop: {} requests to the service, and as many of those that it sends ({} bytes with head) to its endpoint alone, in {} rounds.",
        with_service.len(),
        sent.len(),
        size.hop_rounds
    ));
    Ok(())
}

fn quantile(values: &[f64], share: f64) -> f64 {
    values.iter().copied().collect::<Sample>().quantile(share)
}

/// A service with this endpoint, and limits that nobody reaches; `more` are settings of `[model]`.
pub fn config(upstream: &Upstream, more: &str) -> String {
    format!(
        "[model]\nprovider = \"openai\"\nbase_url = \"{}\"\nmodel = \"bench\"\nbudget = {{ per_minute = 100000000, per_session_per_minute = 100000000 }}\n{more}",
        upstream.base_url()
    )
}

/// The times of so many requests one after the other, in microseconds.
async fn over(connection: &mut Connection, template: &mut Template, requests: usize) -> Outcome<Vec<f64>> {
    let mut times = Vec::with_capacity(requests);
    let expected = template.expected().to_owned();
    for _ in 0..requests {
        times.push(timed(connection, template.next(), &expected).await?);
    }
    Ok(times)
}

async fn timed(connection: &mut Connection, request: &[u8], expected: &str) -> Outcome<f64> {
    let began = Instant::now();
    tokio::time::timeout(PATIENCE, connection.ask(request, expected)).await.map_err(|_| "a request was not answered")??;
    Ok(began.elapsed().as_secs_f64() * 1e6)
}
