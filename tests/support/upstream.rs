//! A server that stands in for an OpenAI-compatible endpoint and misbehaves on demand: raw TCP on a free port, so that it can do what no HTTP
//! library would. It lives in the runtime of the test and ends with it, or when it is dropped.
#![allow(dead_code, reason = "each test target uses a part of it")]
#![allow(clippy::expect_used, reason = "a test without its server cannot go on")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What the server does with a request.
#[derive(Clone, Debug)]
pub enum Act {
    /// Answers 200 with a chat completion of this content, and keeps the connection.
    Say(String),
    /// Answers 200 with this body.
    Body(Vec<u8>),
    /// Answers with this status and an empty body; a 3xx points back to the server.
    Status(u16),
    /// Waits, then does the other.
    After(Duration, Box<Act>),
    /// Never answers.
    HangBeforeHeaders,
    /// Sends the head and a part of the body, then nothing more.
    HangMidBody,
    /// Sends a whole good answer, one byte each time.
    Trickle(Duration),
    /// Resets the connection instead of an answer.
    Reset,
    /// Resets the connection after a part of the body.
    ResetMidBody,
    /// Closes the connection instead of an answer.
    Close,
    /// Sends a body that does not end.
    Endless,
    /// Answers 200 with this body, but declares another length, and closes the connection if told to.
    Declares {
        /// The `content-length`.
        length: u64,
        /// What is sent.
        body: Vec<u8>,
        /// Whether the connection is closed after it.
        close: bool,
    },
    /// Sends these bytes for an answer and closes the connection.
    Raw(Vec<u8>),
}

impl Act {
    /// A good answer.
    pub fn answer(action: &str, confidence: f64) -> Self {
        Self::Say(format!(r#"{{"action":"{action}","confidence":{confidence}}}"#))
    }

    /// The same, later.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self::After(delay, Box::new(self))
    }
}

/// A request that the server got.
#[derive(Clone, Debug)]
pub struct Received {
    /// The request line and the headers, as they came.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
    /// Which connection it came by, counted from 0.
    pub connection: usize,
}

impl Received {
    /// The value of a header, its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the request's body is JSON")
    }
}

#[derive(Debug)]
struct Shared {
    acts: Mutex<Vec<Act>>,
    received: Mutex<Vec<Received>>,
}

/// The server.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    // Dropping it ends the server with all connections.
    _server: JoinSet<()>,
}

impl Upstream {
    /// A server that does `acts` one request after the other, and the last of them for ever.
    pub async fn start(acts: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let mut acts: Vec<Act> = acts.into_iter().collect();
        acts.reverse();
        let shared = Arc::new(Shared { acts: Mutex::new(acts), received: Mutex::default() });
        let mut server = JoinSet::new();
        server.spawn(serve(listener, shared.clone()));
        Self { address, shared, _server: server }
    }

    /// The address for `model.base_url`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// From now on the server does this.
    pub fn set(&self, act: Act) {
        *self.shared.acts.lock().unwrap_or_else(PoisonError::into_inner) = vec![act];
    }

    /// The requests so far, oldest first.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    for connection in 0.. {
        let Ok((stream, _)) = listener.accept().await else { return };
        // A connection that ends with an error is one that the client has left.
        let shared = shared.clone();
        connections.spawn(async move { _ = converse(stream, &shared, connection).await });
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(mut stream: TcpStream, shared: &Shared, connection: usize) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    while let Some(mut received) = read_request(&mut stream, &mut buffer).await? {
        received.connection = connection;
        shared.received.lock().unwrap_or_else(PoisonError::into_inner).push(received);
        let act = {
            let mut acts = shared.acts.lock().unwrap_or_else(PoisonError::into_inner);
            if acts.len() > 1 { acts.pop() } else { acts.last().cloned() }
        };
        if !perform(&mut stream, act.unwrap_or(Act::Close)).await? {
            return Ok(());
        }
    }
    Ok(())
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<Option<Received>> {
    let mut needed = None;
    loop {
        if needed.is_none()
            && let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n")
        {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            let received = Received { head, body: Vec::new(), connection: 0 };
            let length = received.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            needed = Some((received, end + 4, length));
        }
        if let Some((_, start, length)) = &needed
            && buffer.len() >= start + length
        {
            let (start, length) = (*start, *length);
            let rest = buffer.split_off(start + length);
            let body = std::mem::replace(buffer, rest).split_off(start);
            return Ok(needed.map(|(received, ..)| Received { body, ..received }));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// Does it; false when the connection shall be closed.
async fn perform(stream: &mut TcpStream, mut act: Act) -> std::io::Result<bool> {
    while let Act::After(delay, then) = act {
        tokio::time::sleep(delay).await;
        act = *then;
    }
    match act {
        Act::Say(content) => stream.write_all(&ok(&completion(&content))).await?,
        Act::Body(body) => stream.write_all(&ok(&body)).await?,
        Act::Status(status) => {
            let location = if status / 100 == 3 { "location: /v1/elsewhere\r\n" } else { "" };
            stream.write_all(format!("HTTP/1.1 {status} X\r\n{location}content-length: 0\r\n\r\n").as_bytes()).await?;
        }
        Act::HangBeforeHeaders => std::future::pending::<()>().await,
        Act::HangMidBody => {
            let whole = ok(&completion("x"));
            stream.write_all(&whole[..whole.len() - 9]).await?;
            std::future::pending::<()>().await;
        }
        Act::Trickle(every) => {
            for byte in ok(&completion(r#"{"action":"queue","confidence":0.9}"#)) {
                stream.write_all(&[byte]).await?;
                tokio::time::sleep(every).await;
            }
        }
        Act::Reset => {
            stream.set_zero_linger()?;
            return Ok(false);
        }
        Act::ResetMidBody => {
            let whole = ok(&completion("x"));
            stream.write_all(&whole[..whole.len() - 9]).await?;
            // A reset overtakes what the client has not read yet.
            tokio::time::sleep(Duration::from_millis(20)).await;
            stream.set_zero_linger()?;
            return Ok(false);
        }
        Act::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n").await?;
            loop {
                stream.write_all(&[b' '; 4096]).await?;
            }
        }
        Act::Declares { length, body, close } => {
            stream.write_all(&head(length)).await?;
            stream.write_all(&body).await?;
            if close {
                stream.shutdown().await?;
                return Ok(false);
            }
            std::future::pending::<()>().await;
        }
        Act::Raw(bytes) => {
            stream.write_all(&bytes).await?;
            stream.shutdown().await?;
            return Ok(false);
        }
        Act::Close | Act::After(..) => {
            stream.shutdown().await?;
            return Ok(false);
        }
    }
    Ok(true)
}

fn completion(content: &str) -> Vec<u8> {
    let message = serde_json::json!({"role": "assistant", "content": content});
    let completion = serde_json::json!({"id": "x", "object": "chat.completion", "model": "test", "choices": [
        {"index": 0, "message": message, "finish_reason": "stop"}]});
    completion.to_string().into_bytes()
}

fn head(length: u64) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n").into_bytes()
}

fn ok(body: &[u8]) -> Vec<u8> {
    let mut whole = head(body.len() as u64);
    whole.extend_from_slice(body);
    whole
}
