//! Lines of the log or the journal on their way out. A thread of their own writes them, so that a terminal or a disk that hangs never
//! holds up a decision, and it writes many at once, because handing over every line by itself would cost more than the decision.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// How long the first line of a batch waits for others.
const GATHER: Duration = Duration::from_millis(5);
/// Room that is kept for the next lines; after a burst the rest is given back.
const KEPT_CAPACITY: usize = 256 << 10;
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
    /// Starts the thread that writes to `out`. No more than `max_waiting` bytes wait for it, and as
    /// many may be on their way.
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
        let mut cut = false;
        let mut lost = 0;
        loop {
            let waiting = self.lock();
            let waiting = self.changed.wait_while(waiting, |waiting| waiting.bytes.is_empty() && !waiting.is_closing);
            let waiting = waiting.unwrap_or_else(PoisonError::into_inner);
            let waiting = self.changed.wait_timeout_while(waiting, GATHER, |waiting| !waiting.is_closing);
            let (mut waiting, _) = waiting.unwrap_or_else(PoisonError::into_inner);
            if waiting.is_closing && waiting.bytes.is_empty() {
                waiting.is_done = true;
                self.changed.notify_all();
                return;
            }
            std::mem::swap(&mut batch, &mut waiting.bytes);
            let dropped = std::mem::take(&mut waiting.dropped);
            drop(waiting);
            // A line that an error has cut must not swallow the next one.
            if cut {
                batch.insert(0, b'\n');
            }
            let (written, outcome) = write(&mut out, &batch);
            cut = batch[..written].last().map_or(cut, |byte| *byte != b'\n');
            let lost_before = lost;
            lost += batch[written..].split_inclusive(|byte| *byte == b'\n').filter(|line| line.len() > 1).count();
            batch.clear();
            batch.shrink_to(KEPT_CAPACITY);
            // Said at the first loss and at its end: a log that cannot be written cannot take more of it.
            match outcome {
                Err(error) if lost_before == 0 => tracing::warn!(%error, lines = self.name, "lines could not be written"),
                Ok(()) if lost > 0 => {
                    tracing::warn!(lost, lines = self.name, "lines are written again; some were lost");
                    lost = 0;
                }
                _ => {}
            }
            if dropped > 0 {
                tracing::warn!(dropped, lines = self.name, "lines were dropped, because they could not be written fast enough");
            }
        }
    }
}

/// Writes as much as it can; how many bytes that was, and what went wrong.
fn write(out: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match out.write(&bytes[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, out.flush())
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
            (&lines).write_all(format!("{n}\n").as_bytes()).expect("taken");
        }
        drop(guard);
        let written: Vec<u8> = written.iter().flatten().collect();
        assert_eq!(String::from_utf8(written).expect("text"), "0\n1\n2\n3\n4\n5\n6\n7\n8\n");
    }

    #[test]
    fn a_log_that_hangs_holds_up_nobody_and_takes_no_more_memory() {
        let (sender, written) = mpsc::sync_channel(0);
        let (lines, guard) = Lines::start("test", MAX_WAITING, Out(sender)).expect("starts");
        let line = [b'x'; 1_000];
        (&lines).write_all(&line).expect("taken");
        while !lines.0.lock().bytes.is_empty() {
            std::thread::yield_now();
        }
        // From now on the thread hangs.
        for _ in 0..9_000 {
            (&lines).write_all(&line).expect("taken");
        }
        assert!(lines.0.lock().bytes.len() <= MAX_WAITING);
        assert_eq!(lines.0.lock().dropped, 9_000 - MAX_WAITING as u64 / 1_000);
        drop(written);
        drop(guard);
    }

    /// A disk that is full after so many bytes, and has room again later.
    struct Full {
        room: usize,
        then: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.room == 0 {
                self.room = usize::MAX;
                return Err(io::ErrorKind::StorageFull.into());
            }
            let taken = bytes.len().min(self.room);
            self.room -= taken;
            self.then.lock().expect("not poisoned").extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_an_error_cuts_does_not_swallow_the_next() {
        let written = Arc::default();
        let (lines, guard) = Lines::start("test", MAX_WAITING, Full { room: 5, then: Arc::clone(&written) }).expect("starts");
        (&lines).write_all(b"one\ntwo\n").expect("taken");
        while !lines.0.lock().bytes.is_empty() || written.lock().expect("not poisoned").len() < 5 {
            std::thread::yield_now();
        }
        (&lines).write_all(b"three\n").expect("taken");
        drop(guard);
        while !lines.0.lock().is_done {
            std::thread::yield_now();
        }
        assert_eq!(String::from_utf8_lossy(&written.lock().expect("not poisoned")), "one\nt\nthree\n");
    }
}
