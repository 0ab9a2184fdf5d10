//! As much HTTP/1.1 as the two ends of a kept connection on loopback need: messages one after the other, each with its length.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Outcome;

/// Room for a message; a longer one makes its own.
const USUAL_BYTES: usize = 16 * 1024;

/// One end of a connection, with the message that was read last.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    message: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Outcome<Self> {
        Ok(Self::of(TcpStream::connect(address).await?)?)
    }

    /// Takes an accepted connection.
    pub fn of(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, message: Vec::with_capacity(USUAL_BYTES) })
    }

    /// Sends a whole request and reads its answer, which must be a 200 whose body holds `expected`.
    pub async fn ask(&mut self, request: &[u8], expected: &str) -> Outcome<()> {
        self.stream.write_all(request).await?;
        let Some(body) = self.read().await? else { return Err("the connection was closed instead of an answer".into()) };
        let holds = str::from_utf8(&self.message[body..]).is_ok_and(|body| body.contains(expected));
        if holds && self.message.starts_with(b"HTTP/1.1 200 ") {
            return Ok(());
        }
        Err(format!("expected {expected:?}, got {}", String::from_utf8_lossy(&self.message)).into())
    }

    /// Sends bytes.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Reads the next message; where its body begins, or nothing when the other end has closed the connection instead.
    pub async fn read(&mut self) -> io::Result<Option<usize>> {
        self.message.clear();
        let mut bounds = None;
        loop {
            if self.stream.read_buf(&mut self.message).await? == 0 {
                return if self.message.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
            if bounds.is_none() {
                bounds = find_body(&self.message)?;
            }
            match bounds {
                Some((start, end)) if self.message.len() == end => return Ok(Some(start)),
                Some((_, end)) if self.message.len() > end => return Err(invalid("more than one message")),
                _ => {}
            }
        }
    }

    /// The message that was read last, with its head.
    pub fn message(&self) -> &[u8] {
        &self.message
    }
}

/// Where the body begins and ends, once the head is there.
fn find_body(message: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let Some(end) = message.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = str::from_utf8(&message[..end]).map_err(|_| invalid("a head that is no text"))?;
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok())
        .ok_or_else(|| invalid("a message without a length"))?;
    Ok(Some((end + 4, end + 4 + length)))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
