//! Runs a child process: streams its lines, ends it at a deadline or an interrupt with its whole
//! process group. The only file that starts processes.

mod cancel;
mod talk;
mod words;

use std::{
    io::{self, BufRead, BufReader, Read},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

pub use cancel::Cancel;
pub use talk::{Heard, Talk};
pub use words::{find_on_path, on_path, quote};

/// A line of a child's output longer than this is cut into pieces, so that a builder that writes without
/// newlines cannot fill the memory. Bytes.
const LONGEST_LINE: u64 = 64 * 1024;

/// How long a child has after SIGTERM before its group gets SIGKILL: inside the two seconds that an
/// interrupted run may take.
const GRACE: Duration = Duration::from_millis(1200);

/// How long the grandchildren of a child that has exited may go on.
const LINGER: Duration = Duration::from_millis(300);

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Exited(i32),
    Signalled(i32),
    /// The deadline passed and the child was killed with its group.
    TimedOut,
    /// The child grew over its memory limit and was killed with its group; its resident bytes then.
    OutOfMemory(u64),
    /// The run was interrupted and the child was killed with its group.
    Cancelled,
}

impl End {
    pub fn is_success(self) -> bool {
        self == Self::Exited(0)
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Signalled(signal) => write!(f, "killed by signal {signal}"),
            Self::TimedOut => f.write_str("its time limit passed"),
            Self::OutOfMemory(bytes) => write!(f, "it outgrew its memory limit at {} MiB", bytes >> 20),
            Self::Cancelled => f.write_str("interrupted"),
        }
    }
}

/// Everything a short-lived child said.
#[derive(Clone, Debug)]
pub struct Captured {
    pub end: End,
    pub stdout: String,
    pub stderr: String,
    pub elapsed: Duration,
}

/// One line of a child's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Out,
    Err,
}

/// A command line about to run. Arguments are passed as they are: no shell is between.
#[derive(Clone, Debug)]
pub struct Invocation {
    argv: Vec<String>,
    dir: Option<Utf8PathBuf>,
    env: Vec<(String, Option<String>)>,
    timeout: Option<Duration>,
    memory: Option<u64>,
}

impl Invocation {
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        let argv: Vec<String> = argv.into_iter().map(Into::into).collect();
        assert!(!argv.is_empty(), "a command line names its program");
        Self { argv, dir: None, env: Vec::new(), timeout: None, memory: None }
    }

    pub fn dir(mut self, dir: &Utf8Path) -> Self {
        self.dir = Some(dir.to_owned());
        self
    }

    pub fn env(mut self, key: &str, value: impl Into<String>) -> Self {
        self.env.push((key.to_owned(), Some(value.into())));
        self
    }

    pub fn env_remove(mut self, key: &str) -> Self {
        self.env.push((key.to_owned(), None));
        self
    }

    /// The wall-clock time after which the child is killed with its group.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The resident memory, in bytes, above which the child is killed with its group. It is looked at every
    /// few milliseconds and so is a budget, not a wall.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// The command as a person would paste it into a shell.
    pub fn display(&self) -> String {
        let env = self.env.iter().filter_map(|(k, v)| Some(format!("{k}={}", quote(v.as_deref()?))));
        env.chain(self.argv.iter().map(|a| quote(a))).collect::<Vec<_>>().join(" ")
    }

    /// Runs to the end and returns all output. An error means that it could not be started.
    pub fn capture(&self, cancel: &Cancel) -> Result<Captured> {
        let started = Instant::now();
        let mut texts = [Vec::new(), Vec::new()];
        let end = self.run(cancel, None, &mut |stream, bytes| texts[stream as usize].extend_from_slice(bytes))?;
        let [stdout, stderr] = texts.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok(Captured { end, stdout, stderr, elapsed: started.elapsed() })
    }

    /// Like [`Self::capture`], but a child that does not exit with 0 is an error that shows the command.
    pub fn read(&self, cancel: &Cancel) -> Result<String> {
        let captured = self.capture(cancel)?;
        if !captured.end.is_success() {
            let said = captured.stderr.trim_end();
            anyhow::bail!(
                "`{}` failed ({}){}{said}",
                self.display(),
                captured.end,
                if said.is_empty() { "" } else { ":\n" }
            );
        }
        Ok(captured.stdout)
    }

    /// Runs to the end and hands over each line, without its newline, as it comes.
    pub fn stream(&self, cancel: &Cancel, on_line: &mut dyn FnMut(Stream, &str)) -> Result<End> {
        self.feed(None, cancel, on_line)
    }

    /// Like [`Self::stream`], with `input` on the child's standard input.
    pub fn feed(&self, input: Option<Vec<u8>>, cancel: &Cancel, on_line: &mut dyn FnMut(Stream, &str)) -> Result<End> {
        self.run(cancel, input, &mut |stream, bytes| {
            let text = String::from_utf8_lossy(bytes);
            on_line(stream, text.strip_suffix('\n').unwrap_or(&text));
        })
    }

    /// Hands the terminal over to the child and waits for it; an interrupt from the keyboard reaches it
    /// because it stays in the terminal's foreground group. An interrupt that reaches only us is passed on.
    pub fn interactive(&self, cancel: &Cancel) -> Result<End> {
        if cancel.is_set() {
            return Ok(End::Cancelled);
        }
        let mut child = self.command().spawn().with_context(|| self.cannot_start())?;
        let mut asked: Option<Instant> = None;
        loop {
            if let Some(status) = child.try_wait().with_context(|| format!("cannot wait for `{}`", self.argv[0]))? {
                return Ok(if cancel.is_set() { End::Cancelled } else { end_of(status) });
            }
            if cancel.is_set() {
                let since = *asked.get_or_insert_with(|| {
                    let _ = kill_process(Pid::from_child(&child), Signal::TERM);
                    Instant::now()
                });
                if since.elapsed() > GRACE {
                    let _ = child.kill();
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn run(&self, cancel: &Cancel, input: Option<Vec<u8>>, on_bytes: &mut dyn FnMut(Stream, &[u8])) -> Result<End> {
        if cancel.is_set() {
            return Ok(End::Cancelled);
        }
        let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
        let (mut child, group) = self.start(stdin, cancel)?;
        let end = self.attend(&mut child, group, cancel, input, on_bytes);
        cancel.ended(group);
        Ok(end)
    }

    /// A child with pipes for what it says and a group of its own, which an interrupt reaches.
    fn start(&self, stdin: Stdio, cancel: &Cancel) -> Result<(Child, Pid)> {
        let mut command = self.command();
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let child = command.spawn().with_context(|| self.cannot_start())?;
        let group = Pid::from_child(&child);
        cancel.begins(group);
        Ok((child, group))
    }

    /// Waits for the child and its output. A grandchild that keeps a pipe open does not keep us waiting:
    /// what the child itself said is read, then the group is ended.
    fn attend(
        &self,
        child: &mut Child,
        group: Pid,
        cancel: &Cancel,
        input: Option<Vec<u8>>,
        on_bytes: &mut dyn FnMut(Stream, &[u8]),
    ) -> End {
        let started = Instant::now();
        let (sender, lines) = mpsc::sync_channel(1024);
        if let (Some(bytes), Some(mut stdin)) = (input, child.stdin.take()) {
            thread::spawn(move || io::Write::write_all(&mut stdin, &bytes));
        }
        let out = child.stdout.take().map(|pipe| forward(Stream::Out, pipe, sender.clone()));
        let err = child.stderr.take().map(|pipe| forward(Stream::Err, pipe, sender));
        debug_assert!(out.is_some() && err.is_some());
        let mut last = Instant::now();
        let mut ended: Option<(End, Instant)> = None;
        let mut stopping: Option<(End, Instant)> = None;
        loop {
            match lines.recv_timeout(Duration::from_millis(if ended.is_some() { 5 } else { 20 })) {
                Ok((stream, bytes)) => {
                    on_bytes(stream, &bytes);
                    // As long as something comes there may be more: a busy machine hands it over slowly.
                    last = Instant::now();
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => match ended {
                    Some((end, _)) => {
                        let _ = kill_process_group(group, Signal::KILL);
                        return stopping.map_or(end, |(reason, _)| reason);
                    }
                    // Both pipes are closed: nothing but the exit is left to wait for.
                    None => thread::sleep(Duration::from_millis(1)),
                },
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            if let Some((end, at)) = ended {
                // A grandchild holds a pipe open. Ended with its group it lets go, and what was written is read;
                // one that has left the group is not waited for.
                if at.elapsed() > LINGER {
                    let _ = kill_process_group(group, Signal::KILL);
                }
                let silence = if stopping.is_some() { LINGER } else { 10 * LINGER };
                if at.elapsed() > LINGER && last.elapsed() > silence {
                    return stopping.map_or(end, |(reason, _)| reason);
                }
                continue;
            }
            if stopping.is_none() {
                let late = self.timeout.is_some_and(|limit| started.elapsed() > limit);
                let grown = self.memory.and_then(|limit| resident(group).filter(|bytes| *bytes > limit));
                stopping = match (cancel.is_set(), late, grown) {
                    (true, _, _) => Some((End::Cancelled, Instant::now())),
                    (_, true, _) => Some((End::TimedOut, Instant::now())),
                    (_, _, Some(bytes)) => Some((End::OutOfMemory(bytes), Instant::now())),
                    _ => None,
                };
                if stopping.is_some() {
                    let _ = kill_process_group(group, Signal::TERM);
                }
            }
            if stopping.is_some_and(|(_, at)| at.elapsed() > GRACE) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            if let Ok(Some(status)) = child.try_wait() {
                last = Instant::now();
                ended = Some((end_of(status), last));
            }
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.argv[0]);
        command.args(&self.argv[1..]);
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        for (key, value) in &self.env {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        command
    }

    fn cannot_start(&self) -> String {
        format!("cannot start `{}`", self.argv[0])
    }
}

/// The resident memory of a process in bytes, from `/proc/PID/statm` (proc(5)).
fn resident(pid: Pid) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/statm", pid.as_raw_nonzero())).ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn forward(stream: Stream, pipe: impl Read + Send + 'static, to: mpsc::SyncSender<(Stream, Vec<u8>)>) {
    thread::spawn(move || {
        let mut reader = BufReader::with_capacity(64 * 1024, pipe);
        loop {
            let mut line = Vec::new();
            match reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) if to.send((stream, line)).is_err() => break,
                Ok(_) => {}
            }
        }
    });
}

fn end_of(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Exited(code),
        (None, signal) => End::Signalled(signal.unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests;
