//! Reads what a person answers at the terminal.

use std::{
    io::{self, BufRead as _, IsTerminal as _},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::Result;

use crate::{diagnostic::usage, process::Cancel};

/// Lines of standard input, read beside, so that an interrupt does not wait for the Enter key.
pub struct Answers(Receiver<String>);

/// True if there is a person to ask.
pub fn possible() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

impl Answers {
    pub fn from_terminal() -> Self {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in io::stdin().lock().lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self(receiver)
    }

    /// The next line without the spaces around it; `None` if the person interrupted.
    pub fn next(&self, cancel: &Cancel) -> Result<Option<String>> {
        loop {
            match self.0.recv_timeout(Duration::from_millis(50)) {
                Ok(line) => return Ok(Some(line.trim().to_owned())),
                Err(_) if cancel.is_set() => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(usage("the input ended before all was answered; nothing was changed"));
                }
            }
        }
    }

    /// These answers, for tests.
    #[cfg(test)]
    pub fn of(answers: &[&str]) -> Self {
        let (sender, receiver) = mpsc::channel();
        answers.iter().for_each(|answer| sender.send((*answer).to_owned()).unwrap());
        Self(receiver)
    }
}
