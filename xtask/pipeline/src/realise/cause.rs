//! Explains why a derivation of a batch has no output.

use std::collections::{BTreeSet, HashMap};

use anyhow::Result;

use super::watch::{TAIL, Watched};
use crate::{
    job::{Failure, Stage},
    nix::{argv, event},
    process::{Cancel, End, Invocation},
};

/// Why `drv` has no output: the failing derivation among those it depends on, with its log's tail.
pub fn explain(watched: &Watched, end: End, drv: &str, closures: &mut Closures, cancel: &Cancel) -> Result<Failure> {
    let known = watched.errors.get_key_value(drv);
    let cause = match known {
        Some(found) => Some(found),
        None => {
            let closure = closures.of(drv, cancel)?;
            watched.errors.iter().find(|(failing, _)| closure.contains(*failing))
        }
    };
    let Some((failing, text)) = cause else {
        let said = watched.others.iter().find(|text| text.contains(drv)).or(watched.others.last());
        let message = said.map_or_else(|| format!("`nix build` ended ({end}) without a word about it"), |t| message(t));
        return Ok(failure(drv, message, vec![]));
    };
    let tail = match watched.tails.get(failing) {
        Some(tail) => tail.iter().cloned().collect(),
        None => stored_log(failing, cancel),
    };
    Ok(failure(failing, message(text), tail))
}

fn failure(drv: &str, message: String, log_tail: Vec<String>) -> Failure {
    let reproduce = Invocation::new(argv::build_again(drv)).display();
    Failure { stage: Stage::Build, message, position: None, drv: Some(drv.into()), log_tail, reproduce }
}

/// Closures of derivations, each asked for at most once.
#[derive(Default)]
pub struct Closures(HashMap<String, BTreeSet<String>>);

impl Closures {
    fn of(&mut self, drv: &str, cancel: &Cancel) -> Result<&BTreeSet<String>> {
        if !self.0.contains_key(drv) {
            let text = Invocation::new(argv::requisites(&[drv])).read(cancel)?;
            self.0.insert(drv.to_owned(), text.lines().map(str::to_owned).collect());
        }
        Ok(&self.0[drv])
    }
}

/// Nix's error without its prefix and without the log lines that we show ourselves, with advice where the
/// cause is a common one.
fn message(text: &str) -> String {
    const ADVICE: [(&str, &str); 5] = [
        ("No space left on device", "free space with `nix-collect-garbage`, then `cargo xtask doctor`"),
        ("is required to build", "`cargo xtask doctor` says which systems are built here; `ci/setup` brings emulation"),
        (
            "required system or feature not available",
            "`cargo xtask doctor` says which systems and features there are here",
        ),
        ("Exec format error", "binfmt_misc has no interpreter for this system; `ci/setup` registers one"),
        ("daemon disconnected unexpectedly", "often a full disk: `cargo xtask doctor`"),
    ];
    let body = text.trim().trim_start_matches("error:").trim();
    // From Nix 2.31 on the first line only repeats the derivation, which we name anyway.
    let body = body
        .split_once("Reason:")
        .filter(|_| body.starts_with("Cannot build"))
        .map_or(body, |(_, reason)| reason.trim());
    let until = ["last ", "Last ", "For full logs", "Output paths:"];
    let lines = body.lines().map(|line| line.trim().trim_end_matches(';'));
    let kept: Vec<&str> = lines.take_while(|line| !until.iter().any(|u| line.starts_with(u))).collect();
    let mut message = kept.join("\n");
    if let Some((_, advice)) = ADVICE.iter().find(|(sign, _)| text.contains(sign)) {
        message.push_str("\n  try: ");
        message.push_str(advice);
    }
    message
}

fn stored_log(drv: &str, cancel: &Cancel) -> Vec<String> {
    let log = Invocation::new(argv::own_log(drv)).capture(cancel);
    let text = log.ok().filter(|log| log.end.is_success()).map(|log| event::plain(&log.stdout)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].iter().map(|&line| line.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_lose_prefix_and_log_and_gain_advice() {
        let rows = [
            (
                "error: builder for '/nix/store/x-a.drv' failed with exit code 3;\n       last 2 log lines:\n       > hi\n       For full logs, run",
                "builder for '/nix/store/x-a.drv' failed with exit code 3",
            ),
            (
                "error: Cannot build '/nix/store/x-a.drv'.\n       Reason: builder failed with exit code 1.\n       Output paths:\n         /nix/store/x-a",
                "builder failed with exit code 1.",
            ),
        ];
        for (text, expected) in rows {
            assert_eq!(message(text), expected);
        }
        assert!(message("error: write: No space left on device").contains("try: free space"));
    }
}
