//! Runs a test once: as a build in Nix's sandbox, or by its driver outside of it.

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
    screens,
};
use crate::{
    job::{Derivation, Failure, JobId, Outcome},
    nix::{
        Nix,
        argv::{self, BuildOptions},
    },
    process::{End, Invocation},
    realise::{self, Update},
    run::Run,
};

/// How one test came out.
#[derive(Debug)]
pub enum Verdict {
    Passed,
    /// The output was valid before, so Nix ran nothing.
    PassedBefore,
    /// Why, in words; what the driver says is in the log.
    Failed(String),
    /// Something that the test needs could not be built, so it did not run.
    Prevented(Failure),
    Interrupted,
}

/// One run of a test.
#[derive(Debug)]
pub struct Attempt {
    pub verdict: Verdict,
    /// Wall-clock time of the test itself, without what had to be built before.
    pub took: Duration,
    pub log: TestLog,
}

/// Everything that an attempt needs to know.
pub struct Test<'a> {
    pub run: &'a Run<'a>,
    pub id: &'a JobId,
    pub derivation: &'a Derivation,
    pub place: Place,
    pub choice: &'a Choice,
    /// The driver's program, for tests that run outside the sandbox.
    pub driver: Option<Utf8PathBuf>,
    /// Where log and screenshots go.
    pub dir: &'a Utf8Path,
    pub options: BuildOptions,
    /// Run it even if it passed before.
    pub rerun: bool,
    /// The wall-clock time of a run outside the sandbox.
    pub timeout: Duration,
    /// How much longer than written every deadline inside the test is.
    pub scale: u32,
}

/// What a watcher is told: a line of the log, another that matters, or what goes on now, a subtest or what is built before.
pub enum Said<'a> {
    Log(&'a str),
    Line(&'a str),
    Now(&'a str),
}

impl Test<'_> {
    /// Runs the test once. Its log goes to `log.txt` in [`Test::dir`], screenshots beside it.
    pub fn attempt(&self, say: &dyn Fn(Said<'_>)) -> Result<Attempt> {
        fs::create_dir_all(self.dir).with_context(|| format!("cannot make {}", self.dir))?;
        let file = self.dir.join("log.txt");
        let mut copy = BufWriter::new(fs::File::create(&file).with_context(|| format!("cannot write {file}"))?);
        let mut log = TestLog::default();
        let mut current = None;
        let mut take = |line: &str| {
            // Losing a line of the copy must not fail the test; the disk being full shows elsewhere.
            let _ = writeln!(copy, "{line}");
            if let Some(line) = log.take(line) {
                say(Said::Log(&line));
            }
            if log.current() != current.as_deref() {
                current = log.current().map(str::to_owned);
                say(Said::Now(current.as_deref().unwrap_or_default()));
            }
        };
        let (verdict, took, seen) = match self.place {
            Place::Sandbox => self.build(&mut take, say)?,
            Place::Outside => self.drive(&mut take)?,
        };
        if !seen && !self.run.cancel.is_set() && !matches!(verdict, Verdict::Prevented(_)) {
            for line in self.stored_log().lines() {
                let _ = writeln!(copy, "{line}");
                let _ = log.take(line);
            }
        }
        drop(copy);
        let output = (self.place == Place::Sandbox).then_some(self.derivation.out.as_path());
        screens::collect(&verdict, output, &mut log, self.dir, say)?;
        Ok(Attempt { verdict, took, log })
    }

    /// As a Nix build. `--rebuild` runs a test again that passed before; that its output then differs in a
    /// few seconds' digits is no failure of the test. The last value is false if the test ran in an earlier
    /// or in another process, so that its log was not seen.
    fn build(&self, take: &mut dyn FnMut(&str), say: &dyn Fn(Said<'_>)) -> Result<(Verdict, Duration, bool)> {
        let drv = self.derivation.drv.as_str();
        let valid = Nix::invalid(&[self.derivation.out.as_str()], self.run.cancel)?.is_empty();
        if valid && !self.rerun {
            return Ok((Verdict::PassedBefore, Duration::ZERO, false));
        }
        let options = BuildOptions { rebuild: valid, ..self.options.clone() };
        let (mut began, mut seen) = (Instant::now(), false);
        let mut tell = |update: Update<'_>| match update {
            Update::Started { drv: started, machine } if started == drv => {
                (began, seen) = (Instant::now(), true);
                if !machine.is_empty() {
                    take(&format!("runs on {machine}"));
                }
            }
            Update::Log { drv: from, line } if from == drv => take(line),
            Update::Activity(activity) if !seen => say(Said::Now(&format!("first {activity}"))),
            Update::Note(text) => take(&text),
            Update::Started { .. } | Update::Ended { .. } | Update::Log { .. } | Update::Activity(_) => {}
        };
        let batch = [(self.id.clone(), self.derivation.clone())];
        let realised = realise::realise(self.run, &batch, &options, &mut tell)?;
        let took = began.elapsed();
        let outcome = realised.into_iter().next().map(|realised| realised.outcome);
        Ok((verdict(outcome, self.derivation.drv.as_path(), valid), took, seen))
    }

    /// The log of the derivation's last build, if Nix still has it; a cache is asked where this machine has none.
    fn stored_log(&self) -> String {
        let drv = self.derivation.drv.as_str();
        let read = |argv| Invocation::new(argv).capture(self.run.cancel).ok().filter(|said| said.end.is_success());
        let said = read(argv::own_log(drv)).or_else(|| read(argv::log(drv)));
        said.map(|said| said.stdout).unwrap_or_default()
    }

    fn drive(&self, take: &mut dyn FnMut(&str)) -> Result<(Verdict, Duration, bool)> {
        let driver = self.driver.as_ref().context("a test outside the sandbox has a driver")?;
        let argv = vec![driver.to_string(), "-o".to_owned(), self.dir.to_string()];
        let invocation =
            place::outside(argv, self.choice, self.scale, self.run.cancel).dir(self.dir).timeout(self.timeout);
        let began = Instant::now();
        let end = invocation.stream(self.run.cancel, &mut |_, line| take(line))?;
        let verdict = match end {
            End::Exited(0) => Verdict::Passed,
            End::Cancelled => Verdict::Interrupted,
            End::TimedOut => Verdict::Failed(format!("it did not end within {} s (--timeout)", self.timeout.as_secs())),
            end => Verdict::Failed(format!("its driver ended with {end}")),
        };
        Ok((verdict, began.elapsed(), true))
    }
}

/// What became of the test, by what became of its derivation, which was `again` built although it was valid.
fn verdict(outcome: Option<Outcome>, drv: &Utf8Path, again: bool) -> Verdict {
    match outcome {
        Some(Outcome::Failed(failure)) if again && failure.message.contains("may not be deterministic") => {
            Verdict::Passed
        }
        Some(Outcome::Failed(failure)) => match failure.drv.as_deref() == Some(drv) {
            true => Verdict::Failed(failure.message),
            false => Verdict::Prevented(failure),
        },
        Some(Outcome::NotRun { .. }) | None => Verdict::Interrupted,
        Some(Outcome::Present | Outcome::Fetched | Outcome::Built) => Verdict::Passed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Stage;

    #[test]
    fn a_test_fails_by_itself_or_is_prevented_by_what_it_needs() {
        let failed = |drv: &str, message: &str| {
            let (message, reproduce) = (message.to_owned(), String::new());
            let drv = Some(drv.into());
            Outcome::Failed(Failure { stage: Stage::Build, message, position: None, drv, log_tail: vec![], reproduce })
        };
        let of = |outcome, again| verdict(Some(outcome), "/t.drv".into(), again);
        assert!(matches!(of(Outcome::Built, false), Verdict::Passed));
        assert!(matches!(of(failed("/t.drv", "exit code 3"), false), Verdict::Failed(why) if why == "exit code 3"));
        assert!(matches!(of(failed("/dep.drv", "exit code 1"), false), Verdict::Prevented(_)));
        let differs = "derivation '/t.drv' may not be deterministic: output differs";
        assert!(matches!(of(failed("/t.drv", differs), true), Verdict::Passed));
        assert!(matches!(of(failed("/t.drv", differs), false), Verdict::Failed(_)));
    }
}
