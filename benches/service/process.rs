//! The processes that are measured: started here, watched through `/proc`, and ended however the run ends.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

use crate::Outcome;

/// How long a process may take to say where it listens.
const START: Duration = Duration::from_secs(20);
/// A tick of the times in `/proc/PID/stat`: 100 a second wherever Linux runs.
const TICK: Duration = Duration::from_millis(10);
/// Names the program to measure in place of the one that was built for this run.
const PROGRAM_ENV: &str = "BUSY_ROUTER_BIN";

/// A process that serves HTTP. Dropped, it is killed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Where it listens, by its own words.
    pub address: SocketAddr,
    lines: Arc<AtomicU64>,
    _folder: Option<TempDir>,
}

impl Process {
    /// The service as users start it, in mode `on` on a free port; with a config file when there is anything in it.
    ///
    /// Its log goes into a pipe, which makes it JSON, and is read and thrown away.
    pub fn service(config: &str) -> Outcome<Self> {
        let program = env::var_os(PROGRAM_ENV).unwrap_or_else(|| env!("CARGO_BIN_EXE_busy-router").into());
        let mut command = Command::new(program);
        command.args(["serve", "--mode", "on", "--listen", "127.0.0.1:0"]).stdin(Stdio::null());
        let folder = if config.is_empty() {
            None
        } else {
            let folder = tempfile::tempdir()?;
            let file = folder.path().join("busy-router.toml");
            fs::write(&file, config)?;
            command.arg("--config").arg(file);
            Some(folder)
        };
        Self::start(command, folder)
    }

    /// The floor: this program again.
    pub fn floor() -> Outcome<Self> {
        let mut command = Command::new(env::current_exe()?);
        // It ends when the pipe does.
        command.arg("--serve-floor").stdin(Stdio::piped());
        Self::start(command, None)
    }

    fn start(mut command: Command, folder: Option<TempDir>) -> Outcome<Self> {
        // Nothing of this process's environment may change what it does.
        for (name, _) in env::vars_os() {
            let upper = name.to_string_lossy().to_uppercase();
            if upper.starts_with("BUSY_ROUTER_")
                || upper == "RUST_LOG"
                || upper.ends_with("_PROXY")
                || upper.starts_with("TOKIO_")
            {
                command.env_remove(&name);
            }
        }
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let lines = Arc::<AtomicU64>::default();
        let (said, heard) = mpsc::channel();
        if let Some(log) = child.stderr.take() {
            let lines = lines.clone();
            std::thread::spawn(move || drain(log, &said, &lines));
        }
        // From here on it is killed when this fails.
        let mut process = Self { child, address: ([127, 0, 0, 1], 0).into(), lines, _folder: folder };
        process.address = heard.recv_timeout(START).map_err(|_| "a process did not say where it listens")?;
        Ok(process)
    }

    /// The CPU time that it has taken, of all its threads, in user and kernel mode.
    pub fn cpu(&self) -> Outcome<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The second field is the name in parentheses, which may hold anything; the times are the 14th and the 15th.
        let (_, fields) = stat.rsplit_once(')').ok_or("/proc/PID/stat has another form")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u32>).sum::<Result<u32, _>>()?;
        Ok(TICK * ticks)
    }

    /// Its resident memory now and at most, in MB of a million bytes.
    pub fn resident(&self) -> Outcome<(f64, f64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let field = |name: &str| -> Outcome<f64> {
            let value = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("/proc/PID/status has another form")?;
            Ok(value.trim_end_matches("kB").trim().parse::<f64>()? * 1024.0 / 1e6)
        };
        Ok((field("VmRSS:")?, field("VmHWM:")?))
    }

    /// How many lines it has logged so far.
    pub fn log_lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a log to its end: tells where the process listens, then counts lines.
fn drain(log: ChildStderr, said: &mpsc::Sender<SocketAddr>, lines: &AtomicU64) {
    let mut log = BufReader::with_capacity(64 * 1024, log);
    let mut line = String::new();
    while log.read_line(&mut line).is_ok_and(|read| read > 0) {
        let address = line.split_once("listening on http://").and_then(|(_, rest)| rest.split(['"', '\n', ' ']).next());
        if let Some(address) = address.and_then(|address| address.parse().ok()) {
            // Nobody listens when the start took too long.
            let _ = said.send(address);
            break;
        }
        line.clear();
    }
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = log.read(&mut chunk) {
        let ends = chunk[..read].split(|byte| *byte == b'\n').count() - 1;
        lines.fetch_add(ends as u64, Ordering::Relaxed);
    }
}
