//! Lines of the log or the journal on their way out. A thread of their own writes them, so that a terminal or a disk that hangs never
//! holds up a decision, and it writes many at once, because handing over every line by itself would cost more than the decision.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// How long the first line of a batch waits for others.
const GATHER: Duration = Duration::from_millis(5);
/// How long the last lines may take to be written when the program ends.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// Takes lines and returns at once.
#[derive(Clone, Debug)]
pub struct Lines(Arc<Shared>);

/// Writes out what still waits when it is dropped.
#[derive(Debug)]
pub struct LinesGuard(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Whose lines they are, for the log.
    name: &'static str,
    /// Bytes that may wait to be written; further lines are dropped and counted.
    max_waiting: usize,
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    dropped: u64,
    is_closing: bool,
    is_done: bool,
}

impl Lines {
    /// Starts the thread that writes to `out`. No more than `max_waiting` bytes wait for it.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(name: &'static str, max_waiting: usize, out: impl Write + Send + 'static) -> io::Result<(Self, LinesGuard)> {
        let lines = Self(Arc::new(Shared { name, max_waiting, waiting: Mutex::default(), changed: Condvar::new() }));
        let shared = lines.0.clone();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || shared.write_all_to(out))?;
        let guard = LinesGuard(lines.0.clone());
        Ok((lines, guard))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_all_to(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        let mut has_failed = false;
        loop {
            let waiting = self.lock();
            let waiting = self.changed.wait_while(waiting, |waiting| waiting.bytes.is_empty() && !waiting.is_closing);
            let waiting = waiting.unwrap_or_else(PoisonError::into_inner);
            let waiting = self.changed.wait_timeout_while(waiting, GATHER, |waiting| !waiting.is_closing);
            let (mut waiting, _) = waiting.unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut batch, &mut waiting.bytes);
            let dropped = std::mem::take(&mut waiting.dropped);
            let is_last = waiting.is_closing;
            drop(waiting);
            let outcome = out.write_all(&batch).and_then(|()| out.flush());
            batch.clear();
            if is_last {
                self.lock().is_done = true;
                self.changed.notify_all();
                return;
            }
            // Said once, for a log that cannot be written cannot take it either.
            if let Err(error) = &outcome
                && !has_failed
            {
                tracing::warn!(%error, lines = self.name, "lines could not be written");
            }
            has_failed = outcome.is_err();
            if dropped > 0 {
                tracing::warn!(dropped, lines = self.name, "lines were dropped, because they could not be written fast enough");
            }
        }
    }
}

impl Drop for LinesGuard {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.is_closing = true;
        self.0.changed.notify_all();
        // A log that hangs does not keep the program from ending.
        drop(self.0.changed.wait_timeout_while(waiting, LAST_WRITE, |waiting| !waiting.is_done));
    }
}

/// One call of `write` is one line.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.0.lock();
        if waiting.bytes.len() + line.len() > self.0.max_waiting {
            waiting.dropped += 1;
        } else {
            let is_first = waiting.bytes.is_empty();
            waiting.bytes.extend_from_slice(line);
            drop(waiting);
            if is_first {
                self.0.changed.notify_one();
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const MAX_WAITING: usize = 1 << 20;

    /// Hands on what is written, and hangs until somebody listens.
    struct Out(mpsc::SyncSender<Vec<u8>>);

    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_come_out_in_order_and_the_last_ones_at_the_end() {
        let (sender, written) = mpsc::sync_channel(100);
        let (lines, guard) = Lines::start("test", MAX_WAITING, Out(sender)).expect("starts");
        for n in 0..9 {
            writeln!(&lines, "{n}").expect("taken");
        }
        drop(guard);
        let written: Vec<u8> = written.iter().flatten().collect();
        assert_eq!(String::from_utf8(written).expect("text"), "0\n1\n2\n3\n4\n5\n6\n7\n8\n");
    }

    #[test]
    fn a_log_that_hangs_holds_up_nobody_and_takes_no_more_memory() {
        let (sender, written) = mpsc::sync_channel(0);
        let (lines, guard) = Lines::start("test", MAX_WAITING, Out(sender)).expect("starts");
        let line = [b'x'; 1000];
        for _ in 0..9_000 {
            (&lines).write_all(&line).expect("taken");
        }
        assert!(lines.0.lock().bytes.len() <= MAX_WAITING);
        assert!(lines.0.lock().dropped > 6_000);
        drop(written);
        drop(guard);
    }
}
