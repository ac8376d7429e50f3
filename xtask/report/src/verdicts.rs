//! Writes what came of tests at the end of a run: failures first, each with its subtest, the
//! end of its consoles, its files, and the command to enter the machine.

use std::fmt::Write as _;

use crate::{
    diagnostic::counted,
    job::{JobId, Outcome, Stage},
    record::TestRecord,
};

/// What the table says of one test.
pub struct Row<'a> {
    pub id: &'a JobId,
    pub outcome: &'a Outcome,
    pub test: Option<&'a TestRecord>,
}

/// The whole closing text. `seconds` is the wall-clock time of the run.
pub fn render(rows: &[Row<'_>], seconds: f64) -> String {
    let mut out = String::new();
    let mut sorted: Vec<&Row<'_>> = rows.iter().collect();
    sorted.sort_by_key(|row| (row.outcome.is_success(), row.id.clone()));
    let name = |row: &Row<'_>| row.id.to_string();
    let subtests = rows.iter().filter_map(|row| row.test).flat_map(|test| &test.subtests);
    let inner = subtests.map(|s| s.name.chars().count() + 2 * s.depth + 2).max().unwrap_or(0);
    let width = rows.iter().map(|row| name(row).len()).max().unwrap_or(0).max(inner.min(90));
    for row in &sorted {
        let times = row.test.map_or(String::new(), |test| format!("{:7.1} s  {}", test.seconds, how(test)));
        let _ = writeln!(out, "{:width$}  {:8}  {times}", name(row), word(row));
        for subtest in row.test.iter().flat_map(|test| &test.subtests) {
            let (state, time) = match subtest.seconds {
                Some(seconds) => ("passed", format!("{seconds:7.1} s")),
                None if matches!(row.outcome, Outcome::Failed(_)) => ("FAILED", String::new()),
                None => ("", String::new()),
            };
            let text = format!("{:indent$}{}", "", subtest.name, indent = 2 + 2 * subtest.depth);
            let _ = writeln!(out, "{}", format!("{text:width$}  {state:8}  {time}").trim_end());
        }
    }
    for row in &sorted {
        if let Outcome::Failed(failure) = row.outcome {
            let _ = writeln!(out, "\nFAILED: {}", row.id);
            for line in failure.message.lines() {
                let _ = writeln!(out, "  {line}");
            }
            for line in &failure.log_tail {
                let _ = writeln!(out, "    | {line}");
            }
            for file in row.test.iter().flat_map(|test| &test.files) {
                let _ = writeln!(out, "  {file}");
            }
            let to = if failure.stage == Stage::Test { "enter the machine" } else { "repeat it" };
            let _ = writeln!(out, "  to {to}: {}", failure.reproduce);
        }
    }
    let _ = writeln!(out, "\n{}", sum(rows, seconds));
    out
}

fn word(row: &Row<'_>) -> &'static str {
    match row.outcome {
        Outcome::Present => "passed*",
        Outcome::Failed(_) => "FAILED",
        Outcome::NotRun { .. } => "not run",
        Outcome::Built | Outcome::Fetched => "passed",
    }
}

fn how(test: &TestRecord) -> String {
    let runs = match test.runs {
        0 | 1 => String::new(),
        runs => format!(", passed {} of {runs}", test.passed),
    };
    let place = if test.place == "outside" { ", outside the sandbox" } else { "" };
    format!("{}{place}{runs}", test.accel.to_uppercase())
}

fn sum(rows: &[Row<'_>], seconds: f64) -> String {
    let count = |wanted: &str| rows.iter().filter(|row| word(row) == wanted).count();
    let words = ["FAILED", "not run", "passed", "passed*"];
    let counts: Vec<String> = words.iter().filter(|w| count(w) > 0).map(|w| format!("{} {w}", count(w))).collect();
    let mut out = format!("{}: {}; {seconds:.1} s", counted(rows.len(), "test"), counts.join(", "));
    if count("passed*") > 0 {
        out.push_str("\n* passed in an earlier run of the very same derivation; --rerun runs it again");
    }
    let mut whys: Vec<&str> = rows.iter().filter_map(|row| row.test).map(|test| test.why.as_str()).collect();
    whys.sort_unstable();
    whys.dedup();
    whys.iter().for_each(|why| out.push_str(&format!("\n{why}")));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Failure, Subtest};

    #[test]
    fn failures_come_first_with_everything_to_go_on() {
        let subtest = |name: &str, seconds, depth| Subtest { name: name.into(), seconds, depth };
        let record = |subtests| TestRecord {
            accel: "tcg".into(),
            why: "TCG (KVM is broken)".into(),
            place: "sandbox".into(),
            seconds: 12.34,
            runs: 1,
            passed: 0,
            subtests,
            files: vec!["target/xtask/vm/b/live/vm.png".into()],
            screens: vec![],
        };
        let good = record(vec![subtest("boots", Some(9.5), 0), subtest("pings", Some(1.0), 1)]);
        let bad = TestRecord { runs: 20, passed: 19, ..record(vec![subtest("boots", None, 0)]) };
        let failure = Failure {
            stage: Stage::Test,
            message: "subtest \"boots\"\nMachineError: no line".into(),
            position: None,
            drv: None,
            log_tail: vec!["vm # panic".into()],
            reproduce: "cargo xtask test-vm b --test live --interactive".into(),
        };
        let ids = ["a.tests.live", "b.tests.live"].map(|id| JobId::try_from(id.to_owned()).unwrap());
        let failed = Outcome::Failed(failure);
        let rows = [
            Row { id: &ids[0], outcome: &Outcome::Built, test: Some(&good) },
            Row { id: &ids[1], outcome: &failed, test: Some(&bad) },
        ];
        let expected = "\
b.tests.live  FAILED       12.3 s  TCG, passed 19 of 20
  boots       FAILED
a.tests.live  passed       12.3 s  TCG
  boots       passed        9.5 s
    pings     passed        1.0 s

FAILED: b.tests.live
  subtest \"boots\"
  MachineError: no line
    | vm # panic
  target/xtask/vm/b/live/vm.png
  to enter the machine: cargo xtask test-vm b --test live --interactive

2 tests: 1 FAILED, 1 passed; 30.0 s
TCG (KVM is broken)
";
        assert_eq!(render(&rows, 30.0), expected);
    }
}
