//! Talks to a child process line by line, for as long as it has something to answer.

use std::{
    io::Write as _,
    process::{Child, ChildStdin, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process_group};

use super::{Cancel, End, GRACE, Invocation, LINGER, Stream, end_of, forward, resident};

/// A running child with a pipe to its standard input. It is ended with its process group when dropped.
pub struct Talk {
    child: Child,
    group: Pid,
    stdin: Option<ChildStdin>,
    lines: Receiver<(Stream, Vec<u8>)>,
    cancel: Cancel,
    memory: Option<u64>,
    peak: u64,
    /// Why it is being ended, and since when.
    stopping: Option<(End, Instant)>,
    /// How it exited, and when that was seen.
    exited: Option<(End, Instant)>,
    ended: Option<End>,
}

/// What comes from a child.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// A line without its newline.
    Line(Stream, String),
    /// It is gone, and so is everything that it had to say.
    Ended(End),
}

impl Invocation {
    /// Starts the child. Its memory limit holds as long as somebody listens; the deadline is given anew
    /// with every question. An error means that it could not be started.
    pub fn talk(&self, cancel: &Cancel) -> Result<Talk> {
        let (mut child, group) = self.start(Stdio::piped(), cancel)?;
        let (sender, lines) = mpsc::sync_channel(1024);
        for (stream, pipe) in [
            (Stream::Out, child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn std::io::Read + Send>)),
            (Stream::Err, child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn std::io::Read + Send>)),
        ] {
            pipe.into_iter().for_each(|pipe| forward(stream, pipe, sender.clone()));
        }
        let stdin = child.stdin.take();
        let (cancel, memory) = (cancel.clone(), self.memory);
        Ok(Talk { child, group, stdin, lines, cancel, memory, peak: 0, stopping: None, exited: None, ended: None })
    }
}

impl Talk {
    /// Hands the child a line. A child that does not listen any more has ended or will: that is heard.
    pub fn say(&mut self, line: &str) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(line.as_bytes()).and_then(|()| stdin.flush());
        }
    }

    /// Waits for the next line, or for the end: the child's own, or the one that an interrupt, the deadline
    /// or its memory limit brings.
    pub fn hear(&mut self, deadline: Instant) -> Heard {
        loop {
            if let Some(end) = self.ended {
                // An interrupt signals every child itself, which may be quicker than we are.
                let end = if self.cancel.is_set() { End::Cancelled } else { end };
                return Heard::Ended(self.stopping.map_or(end, |(reason, _)| reason));
            }
            match self.lines.recv_timeout(Duration::from_millis(20)) {
                Ok((stream, bytes)) => {
                    let text = String::from_utf8_lossy(&bytes);
                    let line = text.strip_suffix('\n').unwrap_or(&text).to_owned();
                    // A child that never pauses must not outrun its limits.
                    self.hold_to_limits(deadline);
                    return Heard::Line(stream, line);
                }
                Err(RecvTimeoutError::Disconnected) => self.ended = Some(self.wait()),
                Err(RecvTimeoutError::Timeout) => match self.exited {
                    None => {
                        self.hold_to_limits(deadline);
                        let status = self.child.try_wait().ok().flatten();
                        self.exited = status.map(|status| (end_of(status), Instant::now()));
                    }
                    // A grandchild holds the pipes: ended with its group it lets go; one that has left the group
                    // is not waited for.
                    Some((_, at)) if at.elapsed() < LINGER => {}
                    Some((_, at)) if at.elapsed() < 10 * LINGER => {
                        let _ = kill_process_group(self.group, Signal::KILL);
                    }
                    Some((end, _)) => self.ended = Some(end),
                },
            }
        }
    }

    /// The child's resident memory in bytes; none once it has ended.
    pub fn resident(&self) -> Option<u64> {
        resident(self.group)
    }

    /// The most resident memory that it was seen with, in bytes; seen every few milliseconds while somebody listens.
    pub fn peak(&self) -> u64 {
        self.peak
    }

    fn hold_to_limits(&mut self, deadline: Instant) {
        match self.stopping {
            None => {
                let seen = self.resident().unwrap_or(0);
                self.peak = self.peak.max(seen);
                let grown = self.memory.filter(|limit| seen > *limit).map(|_| seen);
                let reason = match (self.cancel.is_set(), Instant::now() > deadline, grown) {
                    (true, _, _) => End::Cancelled,
                    (_, true, _) => End::TimedOut,
                    (_, _, Some(bytes)) => End::OutOfMemory(bytes),
                    _ => return,
                };
                self.stopping = Some((reason, Instant::now()));
                self.stdin = None;
                let _ = kill_process_group(self.group, Signal::TERM);
            }
            Some((_, since)) if since.elapsed() > GRACE => drop(kill_process_group(self.group, Signal::KILL)),
            Some(_) => {}
        }
    }

    fn wait(&mut self) -> End {
        if let Some((end, _)) = self.exited {
            return end;
        }
        // Both pipes are closed; a child that lives on regardless is ended.
        let patience = Instant::now() + LINGER;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return end_of(status),
                Ok(None) if Instant::now() > patience => drop(kill_process_group(self.group, Signal::KILL)),
                Ok(None) => {}
                Err(_) => return End::Signalled(0),
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Talk {
    /// Lets the child end by itself, which it does when its input ends, but does not wait for long.
    fn drop(&mut self) {
        self.stdin = None;
        let patience = Instant::now() + if self.cancel.is_set() { LINGER } else { GRACE };
        while self.ended.is_none() && Instant::now() < patience {
            match self.child.try_wait() {
                Ok(None) => drop(self.lines.recv_timeout(Duration::from_millis(5))),
                _ => break,
            }
        }
        let _ = kill_process_group(self.group, Signal::KILL);
        let _ = self.child.wait();
        self.cancel.ended(self.group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, cancel: &Cancel) -> Talk {
        Invocation::new(["sh", "-c", script]).memory(64 << 20).talk(cancel).unwrap()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn question_and_answer() {
        let mut talk = shell("while read line; do echo \"<$line>\"; done; echo bye >&2; exit 3", &Cancel::default());
        for word in ["one", "two"] {
            talk.say(&format!("{word}\n"));
            assert_eq!(talk.hear(soon()), Heard::Line(Stream::Out, format!("<{word}>")));
        }
        assert!(talk.resident().is_some_and(|bytes| bytes > 0));
        talk.stdin = None;
        assert_eq!(talk.hear(soon()), Heard::Line(Stream::Err, "bye".into()));
        assert_eq!(talk.hear(soon()), Heard::Ended(End::Exited(3)));
        assert_eq!(talk.hear(soon()), Heard::Ended(End::Exited(3)));
    }

    #[test]
    fn deadlines_interrupts_and_memory_end_it() {
        let mut late = shell("trap '' TERM; sleep 60 & wait; sleep 60", &Cancel::default());
        assert_eq!(late.hear(Instant::now()), Heard::Ended(End::TimedOut));

        let cancel = Cancel::default();
        let mut interrupted = shell("sleep 60", &cancel);
        cancel.set();
        assert_eq!(interrupted.hear(soon()), Heard::Ended(End::Cancelled));

        // Doubles a text until it is too much.
        let mut greedy = shell("t=0123456789; while :; do t=$t$t; done", &Cancel::default());
        assert!(matches!(greedy.hear(soon()), Heard::Ended(End::OutOfMemory(bytes)) if bytes > 64 << 20));
    }

    #[test]
    fn a_child_that_nobody_needs_any_more_is_gone() {
        let cancel = Cancel::default();
        let talk = shell("cat >/dev/null; sleep 60", &cancel);
        let group = talk.group;
        drop(talk);
        assert!(resident(group).is_none() && cancel.lock().is_empty());
    }
}
