//! Stands in for an OpenAI-compatible endpoint: one that answers at once, and one that never does. On a thread of its own, as a real one would
//! not share one with its clients either.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::Outcome;
use crate::http::Connection;

/// What is in every answer.
pub const ANSWER: &str = "chat.completion";

/// The endpoint. Dropped, it ends with all its connections.
#[derive(Debug)]
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    first: Arc<OnceLock<Vec<u8>>>,
    end: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    /// One that queues every message, and is sure of it.
    pub fn answering() -> Outcome<Self> {
        let body = json!({
            "id": "chatcmpl-1", "object": ANSWER, "created": 1_700_000_000, "model": "bench",
            "choices": [{
                "index": 0, "finish_reason": "stop",
                "message": {"role": "assistant", "content": r#"{"action":"queue","confidence":0.9}"#},
            }],
            "usage": {"prompt_tokens": 900, "completion_tokens": 12, "total_tokens": 912},
        })
        .to_string();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        Self::start(Some(head + &body))
    }

    /// One that takes every request and never answers.
    pub fn hung() -> Outcome<Self> {
        Self::start(None)
    }

    fn start(answer: Option<String>) -> Outcome<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (first, end) = (Arc::<OnceLock<_>>::default(), CancellationToken::new());
        let (recorded, ended) = (first.clone(), end.clone());
        let thread = std::thread::spawn(move || {
            // When it ends by itself, the requests to it fail and say so.
            let _ = runtime.block_on(ended.run_until_cancelled(serve(listener, answer.map(Arc::from), recorded)));
        });
        Ok(Self { address, first, end, thread: Some(thread) })
    }

    /// The address for `model.base_url`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The first request that came, head and body.
    pub fn first_request(&self) -> Option<&[u8]> {
        self.first.get().map(Vec::as_slice)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.end.cancel();
        if let Some(thread) = self.thread.take() {
            // It has nothing more to do, whether it ended well or not.
            let _ = thread.join();
        }
    }
}

async fn serve(listener: std::net::TcpListener, answer: Option<Arc<str>>, first: Arc<OnceLock<Vec<u8>>>) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        let (answer, first) = (answer.clone(), first.clone());
        connections.spawn(async move {
            let mut connection = Connection::of(stream)?;
            while connection.read().await?.is_some() {
                first.get_or_init(|| connection.message().to_vec());
                // Without an answer, on to the next read: that is how it notices that the client gave up.
                if let Some(answer) = &answer {
                    connection.send(answer.as_bytes()).await?;
                }
            }
            io::Result::Ok(())
        });
        while connections.try_join_next().is_some() {}
    }
}
