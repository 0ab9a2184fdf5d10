//! The load generator. Requests are made once and only get other numbers, so that it costs little beside the service on the same machine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::Outcome;
use crate::http::Connection;

/// The number of the next request, whatever it asks.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Stands in a body for the number of the request, which no other request of the run has.
pub const NUMBER: &str = "##########";
/// Stands in a body for the number of the session.
pub const SESSION: &str = "@@@@@@@@@@";

/// How long an answer may be late before it counts as none.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which session a request belongs to.
#[derive(Clone, Copy, Debug)]
pub enum Sessions {
    /// Each to one of its own.
    Own,
    /// To so many in turn.
    InTurn(u64),
    /// All to this one.
    One(u64),
}

/// A request with places for numbers, and what its answer must hold.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: Vec<u8>,
    body_bytes: usize,
    numbers_at: Vec<usize>,
    sessions_at: Vec<usize>,
    /// Which session a request belongs to.
    pub sessions: Sessions,
    expected: Arc<str>,
}

impl Template {
    /// A POST of this body.
    pub fn new(path: &str, body: &Value, expected: &str) -> Self {
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let text = head + &body;
        let places = |mark| text.match_indices(mark).map(|(at, _)| at).collect();
        Self {
            body_bytes: body.len(),
            numbers_at: places(NUMBER),
            sessions_at: places(SESSION),
            bytes: text.into_bytes(),
            sessions: Sessions::Own,
            expected: expected.into(),
        }
    }

    /// The same with another choice of sessions.
    #[must_use]
    pub fn of_sessions(&self, sessions: Sessions) -> Self {
        Self { sessions, ..self.clone() }
    }

    /// The same with other expectations of the answer.
    #[must_use]
    pub fn expecting(&self, expected: &str) -> Self {
        Self { expected: expected.into(), ..self.clone() }
    }

    /// The size of its body.
    pub fn body_bytes(&self) -> usize {
        self.body_bytes
    }

    /// What every answer must hold.
    pub fn expected(&self) -> &str {
        &self.expected
    }

    /// The next request.
    pub fn next(&mut self) -> &[u8] {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let session = match self.sessions {
            Sessions::Own => number,
            Sessions::InTurn(sessions) => number % sessions,
            Sessions::One(session) => session,
        };
        for (places, number) in [(&self.numbers_at, number), (&self.sessions_at, session)] {
            for &at in places {
                let mut rest = number;
                for digit in self.bytes[at..at + NUMBER.len()].iter_mut().rev() {
                    *digit = b'0' + (rest % 10) as u8;
                    rest /= 10;
                }
            }
        }
        &self.bytes
    }
}

/// Asks over so many connections, each of which waits for its answer before it asks again, until the time is over or so many requests were
/// made; how many were answered.
///
/// # Errors
/// A request without its answer, or with another one.
pub async fn closed_loop(
    address: SocketAddr,
    template: &Template,
    connections: u64,
    requests: u64,
    time: Duration,
) -> Outcome<u64> {
    let end = Instant::now() + time;
    let left = Arc::new(AtomicU64::new(requests));
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        let (mut template, left) = (template.clone(), left.clone());
        clients.spawn(async move {
            let mut connection = Connection::open(address).await?;
            let expected = template.expected.clone();
            let mut answered = 0;
            while Instant::now() < end
                && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
            {
                connection.ask(template.next(), &expected).await?;
                answered += 1;
            }
            Outcome::Ok(answered)
        });
    }
    let all = async {
        let mut answered = 0;
        while let Some(client) = clients.join_next().await {
            answered += client??;
        }
        Ok(answered)
    };
    timeout(time + PATIENCE, all).await.map_err(|_| "a request was not answered")?
}

/// A request of an open loop; both times count from the moment when it was due, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Timed {
    /// When it was sent.
    pub late: f64,
    /// When it was answered.
    pub latency: f64,
}

/// Asks so often a second, however long answers take.
///
/// # Errors
/// A request without its answer, or with another one.
pub async fn open_loop(address: SocketAddr, template: &Template, per_second: u32, time: Duration) -> Outcome<Vec<Timed>> {
    let interval = Duration::from_secs(1) / per_second;
    let requests = (time.as_micros() / interval.as_micros()) as usize;
    let (due, mut when_due) = mpsc::unbounded_channel();
    let pace = std::thread::spawn(move || pace(interval, requests, &due));
    let mut idle: Vec<Connection> = Vec::new();
    let mut answered = Vec::with_capacity(requests);
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            Some(due) = when_due.recv() => {
                let connection = idle.pop();
                let mut template = template.clone();
                under_way.spawn(async move {
                    let mut connection = match connection {
                        Some(connection) => connection,
                        None => Connection::open(address).await?,
                    };
                    let expected = template.expected.clone();
                    let late = milliseconds_since(due);
                    connection.ask(template.next(), &expected).await?;
                    Outcome::Ok((Timed { late, latency: milliseconds_since(due) }, connection))
                });
            }
            Ok(Some(done)) = timeout(PATIENCE, under_way.join_next()), if !under_way.is_empty() => {
                let (timed, connection) = done??;
                answered.push(timed);
                idle.push(connection);
            }
            // Nothing is due any more, and nothing more comes.
            else => break,
        }
    }
    pace.join().map_err(|_| "the pace was lost")?;
    match requests - answered.len() {
        0 => Ok(answered),
        unanswered => Err(format!("{unanswered} of {requests} requests were not answered").into()),
    }
}

fn milliseconds_since(then: Instant) -> f64 {
    then.elapsed().as_secs_f64() * 1e3
}

/// Says when each request is due. On a thread of its own, because the runtime's timers are up to a millisecond late.
#[expect(clippy::disallowed_methods, reason = "the pace's own thread sleeps, none of the runtime's")]
fn pace(interval: Duration, requests: usize, due: &mpsc::UnboundedSender<Instant>) {
    let mut next = Instant::now();
    for _ in 0..requests {
        next += interval;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        if due.send(next).is_err() {
            return;
        }
    }
}
