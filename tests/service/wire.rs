//! A small HTTP client over raw connections: it can send what no library would, and shows what comes back as it came.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// No answer takes longer, even on a busy machine; what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a service listens.
#[derive(Clone, Debug)]
pub enum Address {
    Tcp(String),
    Unix(PathBuf),
}

impl Address {
    pub fn unix(path: &Path) -> Self {
        Self::Unix(path.to_owned())
    }

    pub async fn connect(&self) -> Wire {
        match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).await.unwrap_or_else(|error| panic!("connecting to {address}: {error}"));
                stream.set_nodelay(true).expect("a TCP socket");
                Wire::new(Box::new(stream))
            }
            Self::Unix(path) => Wire::new(Box::new(UnixStream::connect(path).await.expect("the socket takes connections"))),
        }
    }

    /// Whether somebody still takes connections there.
    pub async fn is_taken(&self) -> bool {
        match self {
            Self::Tcp(address) => TcpStream::connect(address).await.is_ok(),
            Self::Unix(path) => UnixStream::connect(path).await.is_ok(),
        }
    }

    /// One request on a connection of its own.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut wire = self.connect().await;
        wire.request(method, path, headers, body).await;
        wire.reply().await.unwrap_or_else(|| panic!("{method} {path}: the connection was closed without an answer"))
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// One connection.
pub struct Wire {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

impl Wire {
    fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// Sends bytes as they are. A peer that has closed already is no failure: what it said before can still be read.
    pub async fn raw(&mut self, bytes: &[u8]) {
        let _ = timeout(PATIENCE, self.stream.write_all(bytes)).await.expect("the bytes are taken");
    }

    /// Sends a request with its length; a header given here replaces the usual one.
    pub async fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        self.raw(&encode(method, path, headers, body)).await;
    }

    /// The next answer; nothing when the connection is closed instead.
    pub async fn reply(&mut self) -> Option<Reply> {
        timeout(PATIENCE, self.read_reply()).await.expect("an answer or the end of the connection")
    }

    /// Everything up to the end of the connection, which is a head where no body may follow.
    pub async fn head(&mut self) -> String {
        while timeout(PATIENCE, self.fill()).await.expect("the end of the connection") {}
        String::from_utf8(std::mem::take(&mut self.buffer)).expect("a head is text")
    }

    /// Whether the connection is closed without another word.
    pub async fn is_closed(&mut self) -> bool {
        let mut more = [0; 256];
        let read = timeout(PATIENCE, self.stream.read(&mut more)).await.expect("the end of the connection");
        self.buffer.is_empty() && matches!(read, Ok(0) | Err(_))
    }

    async fn read_reply(&mut self) -> Option<Reply> {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            if !self.fill().await {
                assert!(self.buffer.is_empty(), "half an answer: {:?}", String::from_utf8_lossy(&self.buffer));
                return None;
            }
        };
        let head = String::from_utf8(self.buffer[..end].to_vec()).expect("a head is text");
        self.buffer.drain(..end + 4);
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status line");
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut reply = Reply { status, headers, body: Vec::new() };
        let length: usize = reply.header("content-length").map_or(0, |length| length.parse().expect("a length"));
        while self.buffer.len() < length {
            assert!(self.fill().await, "the answer's body is cut off");
        }
        reply.body = self.buffer.drain(..length).collect();
        Some(reply)
    }

    async fn fill(&mut self) -> bool {
        let mut more = [0; 16 * 1024];
        match self.stream.read(&mut more).await {
            Ok(read) => {
                self.buffer.extend_from_slice(&more[..read]);
                read > 0
            }
            Err(_) => false,
        }
    }
}

/// A request as bytes.
pub fn encode(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\n");
    let given = |name: &str| headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
    for (name, value) in
        [("host", "router.test"), ("content-type", "application/json"), ("content-length", body.len().to_string().as_str())]
    {
        if !given(name) && !(method == "GET" && name.starts_with("content")) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    for (name, value) in headers {
        // An empty value leaves a usual header out.
        if !value.is_empty() {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("status {}: {error}: {:?}", self.status, self.text()))
    }

    /// The body of a 200.
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/json"));
        self.json()
    }

    /// The body of an error: a problem document whose status is the answer's.
    pub fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!((&problem["status"], &problem["code"]), (&status.into(), &code.into()), "{problem}");
        for field in ["type", "title", "detail"] {
            assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{field} is missing: {problem}");
        }
        problem
    }

    /// The JSON pointers of the fields that are wrong.
    pub fn pointers(&self) -> Vec<String> {
        let problem = self.problem(422, "invalid_field");
        let errors = problem["errors"].as_array().expect("errors");
        errors
            .iter()
            .map(|error| {
                assert!(error["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{error}");
                error["pointer"].as_str().expect("a pointer").to_owned()
            })
            .collect()
    }
}
