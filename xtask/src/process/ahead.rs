//! argv in, a child out that is started before its input is known, so that nobody waits for its start.

use std::{
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process_group};

use super::{Cancel, Captured, End, Invocation, LINGER, Stream, as_lines, gather};

/// A child that waits for its standard input. It is ended with its process group if that never comes.
pub struct Ahead {
    invocation: Invocation,
    child: Option<Child>,
    group: Pid,
    cancel: Cancel,
}

impl Invocation {
    /// Starts the child. Its limits hold from when it is given its input; until then nobody reads what it
    /// says, which must be little. An error means that it could not be started.
    pub fn ahead(&self, cancel: &Cancel) -> Result<Ahead> {
        let (child, group) = self.start(Stdio::piped(), cancel)?;
        Ok(Ahead { invocation: self.clone(), child: Some(child), group, cancel: cancel.clone() })
    }
}

impl Ahead {
    /// Gives the child all of its input and hands over each line that it says, without its newline, to its end.
    pub fn feed(mut self, input: Vec<u8>, on_line: &mut dyn FnMut(Stream, &str)) -> End {
        self.attend(input, &mut as_lines(on_line))
    }

    /// Gives the child all of its input and returns how it ended and what it said.
    pub fn capture(mut self, input: Vec<u8>) -> Result<Captured> {
        gather(|on_bytes| Ok(self.attend(input, on_bytes)))
    }

    /// Like [`Self::capture`], but a child that does not exit with 0 is an error that shows the command.
    pub fn read(self, input: Vec<u8>) -> Result<String> {
        let invocation = self.invocation.clone();
        invocation.printed(self.capture(input)?)
    }

    fn attend(&mut self, input: Vec<u8>, on_bytes: &mut dyn FnMut(Stream, &[u8])) -> End {
        let Some(mut child) = self.child.take() else { return End::Cancelled };
        let end = self.invocation.attend(&mut child, self.group, &self.cancel, Some(input), on_bytes);
        self.cancel.lock().retain(|other| *other != self.group);
        end
    }
}

impl Drop for Ahead {
    /// A child that was given no input ends by itself when that is over, but that is not waited for long.
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        drop(child.stdin.take());
        let patience = Instant::now() + if self.cancel.is_set() { Duration::ZERO } else { LINGER };
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < patience {
            thread::sleep(Duration::from_millis(1));
        }
        let _ = kill_process_group(self.group, Signal::KILL);
        let _ = child.wait();
        self.cancel.lock().retain(|other| *other != self.group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::resident;

    fn shell(script: &str, cancel: &Cancel) -> Ahead {
        Invocation::new(["sh", "-c", script]).ahead(cancel).unwrap()
    }

    #[test]
    fn input_may_come_late() {
        let cancel = Cancel::default();
        let read = shell("read word; echo \"<$word>\"", &cancel).read(b"one\n".to_vec());
        assert_eq!(read.unwrap(), "<one>\n");
        let mut lines = Vec::new();
        let end = shell("cat; echo bye >&2; exit 3", &cancel)
            .feed(b"a\nb\n".to_vec(), &mut |stream, line| lines.push((stream, line.to_owned())));
        lines.sort_by_key(|(stream, _)| *stream == Stream::Err);
        assert_eq!(lines.iter().map(|(_, line)| line.as_str()).collect::<Vec<_>>(), ["a", "b", "bye"]);
        assert_eq!(end, End::Exited(3));
        let failed = shell("cat >/dev/null; echo why >&2; exit 3", &cancel).read(vec![]).unwrap_err();
        assert!(failed.to_string().ends_with("(exit code 3):\nwhy"), "{failed}");
        assert!(cancel.lock().is_empty());
    }

    #[test]
    fn one_that_is_never_needed_is_gone() {
        for script in ["cat >/dev/null", "sleep 60 & sleep 60"] {
            let cancel = Cancel::default();
            let child = shell(script, &cancel);
            let group = child.group;
            drop(child);
            assert!(resident(group).is_none() && cancel.lock().is_empty(), "{script}");
        }
    }

    #[test]
    fn an_interrupt_ends_it_before_and_after_its_input() {
        let cancel = Cancel::default();
        let (early, late) = (shell("cat; sleep 60", &cancel), shell("cat; sleep 60", &cancel));
        let other = cancel.clone();
        let fed = thread::spawn(move || early.feed(vec![], &mut |_, _| ()));
        thread::sleep(Duration::from_millis(100));
        other.set();
        assert_eq!(fed.join().unwrap(), End::Cancelled);
        assert_eq!(late.feed(vec![], &mut |_, _| ()), End::Cancelled);
    }
}
