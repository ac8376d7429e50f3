//! One test derivation in, its verdict out: run by Nix in the sandbox, or by its driver outside of it.

use std::{
    fs,
    io::{BufWriter, Write as _},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};

use super::{
    accel::Choice,
    log::TestLog,
    place::{self, Place},
};
use crate::{
    job::Derivation,
    nix::{
        Nix,
        argv::{self, BuildOptions},
        event::{self, Event},
    },
    process::{Cancel, End, Invocation, Stream},
};

/// How one test came out.
#[derive(Debug)]
pub enum Verdict {
    Passed,
    /// The output was valid before, so Nix ran nothing.
    PassedBefore,
    /// Why, in words; what the driver says is in the log.
    Failed(String),
    Interrupted,
}

/// One run of a test.
#[derive(Debug)]
pub struct Run {
    pub verdict: Verdict,
    /// Wall-clock time of the test itself, without what had to be built before.
    pub took: Duration,
    pub log: TestLog,
}

/// Everything that a run needs to know.
pub struct Test<'a> {
    pub derivation: &'a Derivation,
    pub place: Place,
    pub choice: &'a Choice,
    /// The driver's program, for tests that run outside the sandbox.
    pub driver: Option<Utf8PathBuf>,
    /// Where log and screenshots go.
    pub dir: &'a Utf8Path,
    pub options: BuildOptions,
    /// What [`place::nix_options`] says.
    pub nix_options: &'a [String],
    /// Run it even if it passed before.
    pub rerun: bool,
    /// The wall-clock time of a run outside the sandbox.
    pub timeout: Duration,
    /// How much longer than written every deadline inside the test is.
    pub scale: u32,
}

/// What a watcher is told: a line of the log, or the subtest that runs now.
pub enum Said<'a> {
    Line(&'a str),
    Subtest(&'a str),
}

impl Test<'_> {
    /// Runs the test once. Its log goes to `log.txt` in [`Test::dir`], screenshots beside it.
    pub fn run(&self, cancel: &Cancel, say: &dyn Fn(Said<'_>)) -> Result<Run> {
        fs::create_dir_all(self.dir).with_context(|| format!("cannot make {}", self.dir))?;
        let file = self.dir.join("log.txt");
        let mut copy = BufWriter::new(fs::File::create(&file).with_context(|| format!("cannot write {file}"))?);
        let mut log = TestLog::default();
        let mut current = None;
        let mut take = |line: &str| {
            // Losing a line of the copy must not fail the test; the disk being full shows elsewhere.
            let _ = writeln!(copy, "{line}");
            if let Some(line) = log.take(line) {
                say(Said::Line(&line));
            }
            if log.current() != current.as_deref() {
                current = log.current().map(str::to_owned);
                say(Said::Subtest(current.as_deref().unwrap_or_default()));
            }
        };
        let (verdict, took, seen) = match self.place {
            Place::Sandbox => self.build(cancel, &mut take)?,
            Place::Outside => self.drive(cancel, &mut take)?,
        };
        if !seen && !cancel.is_set() {
            for line in self.stored_log(cancel).lines() {
                let _ = writeln!(copy, "{line}");
                let _ = log.take(line);
            }
        }
        drop(copy);
        for (name, bytes) in &log.screenshots {
            let file = self.dir.join(name);
            fs::write(&file, bytes).with_context(|| format!("cannot write {file}"))?;
        }
        Ok(Run { verdict, took, log })
    }

    /// As a Nix build. `--rebuild` runs a test again that passed before; that its output then differs in a
    /// few seconds' digits is no failure of the test. The last value is false if the test ran in an earlier
    /// or in another process, so that its log was not seen.
    fn build(&self, cancel: &Cancel, take: &mut dyn FnMut(&str)) -> Result<(Verdict, Duration, bool)> {
        let (drv, out) = (self.derivation.drv.as_str(), self.derivation.out.as_str());
        let valid = Nix::invalid(&[out], cancel)?.is_empty();
        if valid && !self.rerun {
            return Ok((Verdict::PassedBefore, Duration::ZERO, false));
        }
        let options = BuildOptions { rebuild: valid, ..self.options.clone() };
        let command = argv::build(&[drv], &options).into_iter().chain(self.nix_options.iter().cloned());
        let (mut ours, mut began, mut errors) = (None, Instant::now(), Vec::new());
        let mut differs = false;
        let end = Invocation::new(command).stream(cancel, &mut |stream, line| match (stream == Stream::Err)
            .then(|| event::parse(line))
            .flatten()
        {
            Some(Event::BuildStarted { id, drv: started, machine }) if started == drv => {
                (ours, began) = (Some(id), Instant::now());
                if !machine.is_empty() {
                    take(&format!("runs on {machine}"));
                }
            }
            Some(Event::BuildStarted { drv: started, .. }) => take(&format!("first builds {started}")),
            Some(Event::LogLine { id, line }) if Some(id) == ours => take(&line),
            Some(Event::Error { text }) => {
                differs |= text.contains("may not be deterministic");
                errors.push(text);
            }
            Some(Event::Note { text }) => take(&text),
            _ => {}
        })?;
        let took = began.elapsed();
        let passed = match valid {
            true => end.is_success() || differs,
            false => Nix::invalid(&[out], &Cancel::default())?.is_empty(),
        };
        let verdict = match (passed, end) {
            (true, _) => Verdict::Passed,
            (false, End::Cancelled) => Verdict::Interrupted,
            (false, _) => Verdict::Failed(reason(&errors, drv)),
        };
        Ok((verdict, took, ours.is_some()))
    }

    /// The log of the derivation's last build, if Nix still has it.
    fn stored_log(&self, cancel: &Cancel) -> String {
        let said = Invocation::new(argv::log(self.derivation.drv.as_str())).capture(cancel);
        said.ok().filter(|said| said.end.is_success()).map(|said| said.stdout).unwrap_or_default()
    }

    fn drive(&self, cancel: &Cancel, take: &mut dyn FnMut(&str)) -> Result<(Verdict, Duration, bool)> {
        let driver = self.driver.as_ref().context("a test outside the sandbox has a driver")?;
        let argv = vec![driver.to_string(), "-o".to_owned(), self.dir.to_string()];
        let invocation = place::outside(argv, self.choice, self.scale, cancel).dir(self.dir).timeout(self.timeout);
        let began = Instant::now();
        let end = invocation.stream(cancel, &mut |_, line| take(line))?;
        let verdict = match end {
            End::Exited(0) => Verdict::Passed,
            End::Cancelled => Verdict::Interrupted,
            End::TimedOut => Verdict::Failed(format!("it did not end within {} s (--timeout)", self.timeout.as_secs())),
            end => Verdict::Failed(format!("its driver ended with {end}")),
        };
        Ok((verdict, began.elapsed(), true))
    }
}

/// Nix's reason without the log's lines: the error that names our derivation, else the first.
fn reason(errors: &[String], drv: &str) -> String {
    let named = errors.iter().find(|text| event::blamed(text).is_some_and(|blamed| blamed == drv));
    let text = named.or(errors.first()).map_or("Nix ended without a word about it", String::as_str);
    let lines = text.trim().trim_start_matches("error:").trim().lines().map(|line| line.trim().trim_end_matches(';'));
    let until = ["last ", "Last ", "For full logs", "Output paths:"];
    lines.take_while(|line| !until.iter().any(|u| line.starts_with(u))).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_one_that_names_the_test() {
        let errors = [
            "error: builder for '/nix/store/x-other.drv' failed with exit code 1".to_owned(),
            "error: builder for '/nix/store/x-t.drv' failed with exit code 3;\n       last 2 log lines:\n       > hi"
                .to_owned(),
        ];
        assert_eq!(reason(&errors, "/nix/store/x-t.drv"), "builder for '/nix/store/x-t.drv' failed with exit code 3");
        assert_eq!(reason(&[], "/d"), "Nix ended without a word about it");
    }
}
