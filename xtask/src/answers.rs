//! Reads what a person answers at the terminal.

use std::{
    io::{self, BufRead as _, IsTerminal as _},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

use anyhow::Result;

use crate::{diagnostic::usage, process::Cancel};

/// Lines of standard input, read beside, so that an interrupt does not wait for the Enter key. None is read before it is
/// asked for: what is typed later may be a password for sudo.
pub struct Answers {
    ask: Sender<()>,
    lines: Receiver<String>,
}

/// True if there is a person to ask.
pub fn possible() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

impl Answers {
    pub fn from_terminal() -> Self {
        let ((ask, asked), (sender, lines)) = (mpsc::channel(), mpsc::channel());
        thread::spawn(move || {
            let mut input = io::stdin().lock().lines();
            for () in asked {
                let Some(Ok(line)) = input.next() else { break };
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { ask, lines }
    }

    /// The next line without the spaces around it; `None` if the person interrupted.
    pub fn next(&self, cancel: &Cancel) -> Result<Option<String>> {
        // That the input has ended shows below.
        let _ = self.ask.send(());
        loop {
            match self.lines.recv_timeout(Duration::from_millis(50)) {
                Ok(line) => return Ok(Some(line.trim().to_owned())),
                Err(_) if cancel.is_set() => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(usage("the input ended before all was answered; nothing was changed"));
                }
            }
        }
    }
}
