//! Runs several ways of doing one thing in turn, round after round, and keeps what each took.
#![expect(clippy::print_stderr, reason = "a long measurement says where it is")]

use std::time::Duration;

use anyhow::{Result, bail};

use super::{
    memory::Watch,
    report::{self, Comparison, Sample, Series},
};
use crate::process::{Cancel, Captured, Invocation};

/// The longest that one measurement may take.
const PATIENCE: Duration = Duration::from_secs(1800);

/// One way to do something.
pub struct Way<'a> {
    pub name: String,
    /// What is done before each round and is not measured.
    before: Box<dyn Fn() -> Result<()> + 'a>,
    command: Invocation,
    /// A text that standard output or standard error must contain, and how often: a program that fails quietly is not
    /// quick.
    expected: Option<(&'static str, usize)>,
    once: bool,
}

impl<'a> Way<'a> {
    pub fn new(name: impl Into<String>, command: Invocation) -> Self {
        let command = command.timeout(PATIENCE);
        Self { name: name.into(), before: Box::new(|| Ok(())), command, expected: None, once: false }
    }

    pub fn after(mut self, before: impl Fn() -> Result<()> + 'a) -> Self {
        self.before = Box::new(before);
        self
    }

    pub fn expecting(mut self, text: &'static str, times: usize) -> Self {
        self.expected = Some((text, times));
        self
    }

    /// Only in the first round, for what takes long and decides nothing; its name says so.
    pub fn once(mut self) -> Self {
        self.once = true;
        self.name += " (once)";
        self
    }

    /// Does it once without measuring, for what must have been seen before.
    pub fn warm(&self, cancel: &Cancel) -> Result<()> {
        self.command.read(cancel).map(drop)
    }

    fn sample(&self, cancel: &Cancel) -> Result<Result<Sample, String>> {
        (self.before)()?;
        let watch = Watch::start();
        let captured = self.command.capture(cancel);
        let peak = watch.end();
        let captured = captured?;
        Ok(self.verdict(&captured).map(|()| Sample { seconds: captured.elapsed.as_secs_f64(), peak }))
    }

    fn verdict(&self, captured: &Captured) -> Result<(), String> {
        let said = captured.stderr.trim_end();
        if !captured.end.is_success() {
            return Err(format!("`{}` failed ({}):\n{said}", self.command.display(), captured.end));
        }
        let Some((text, times)) = self.expected else { return Ok(()) };
        let found = captured.stdout.matches(text).count().max(said.matches(text).count());
        match found >= times {
            true => Ok(()),
            false => Err(format!(
                "`{}` ended well, but said `{text}` {found} times instead of {times}:\n{}\n{said}",
                self.command.display(),
                captured.stdout.trim_end()
            )),
        }
    }
}

/// Runs the ways in turn, round after round, so that what else the machine does hits all alike, and each round begins
/// with another, so that nobody always comes behind the same one and what that leaves behind. The first way is our own:
/// its failure ends the measurement. Another's is shown, and its row says so.
pub fn compare(title: &str, rounds: u8, ways: &[Way<'_>], cancel: &Cancel) -> Result<Comparison> {
    let mut series: Vec<Series> = ways.iter().map(|way| Series::new(&way.name)).collect();
    for round in 1..=usize::from(rounds) {
        let turn = (0..ways.len()).cycle().skip(round - 1).take(ways.len());
        for index in turn {
            let (way, series) = (&ways[index], &mut series[index]);
            if series.failed || way.once && round > 1 {
                continue;
            }
            let sample = way.sample(cancel)?;
            if cancel.is_set() {
                bail!("interrupted");
            }
            match sample {
                Ok(sample) => {
                    eprintln!("{title}, {round} of {rounds}: {}: {}", way.name, report::seconds(sample.seconds));
                    series.samples.push(sample);
                }
                Err(why) if index == 0 => bail!("{title}: {why}"),
                Err(why) => {
                    eprintln!("{title}, {round} of {rounds}: {why}");
                    series.failed = true;
                }
            }
        }
    }
    Ok(Comparison { title: title.to_owned(), series })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn way(name: &str, script: &str) -> Way<'static> {
        Way::new(name, Invocation::new(["sh", "-c", script]))
    }

    #[test]
    fn everybody_has_a_turn_in_each_round() {
        let prepared = Cell::new(0);
        let ways = [
            way("first", "exit 0"),
            way("second", "exit 0").after(|| {
                prepared.set(prepared.get() + 1);
                Ok(())
            }),
        ];
        let comparison = compare("nothing", 3, &ways, &Cancel::default()).unwrap();
        assert_eq!(prepared.get(), 3);
        assert!(comparison.series.iter().all(|series| series.samples.len() == 3 && !series.failed));
    }

    #[test]
    fn what_is_done_once_is_not_done_again() {
        let ways = [way("first", "exit 0"), way("second", "exit 0").once()];
        let comparison = compare("nothing", 3, &ways, &Cancel::default()).unwrap();
        let counts: Vec<(&str, usize)> =
            comparison.series.iter().map(|series| (series.name.as_str(), series.samples.len())).collect();
        assert_eq!(counts, [("first", 3), ("second (once)", 1)]);
    }

    #[test]
    fn another_one_that_fails_or_says_too_little_is_no_measurement() {
        let ways = [
            way("ours", "echo one .drv two .drv >&2").expecting(".drv", 2),
            way("failing", "exit 3"),
            way("quiet", "echo one .drv; echo one .drv >&2").expecting(".drv", 2),
        ];
        let comparison = compare("something", 2, &ways, &Cancel::default()).unwrap();
        let failed: Vec<bool> = comparison.series.iter().map(|series| series.failed).collect();
        assert_eq!(failed, [false, true, true]);
        assert!(comparison.series[1].samples.is_empty() && comparison.series[2].samples.is_empty());
    }

    #[test]
    fn our_own_failure_ends_it() {
        let error = compare("something", 2, &[way("ours", "echo no >&2; exit 3")], &Cancel::default()).unwrap_err();
        assert!(error.to_string().contains("exit code 3") && error.to_string().contains("no"), "{error}");
    }
}
