//! `cargo xtask doctor`: says what this machine can do for a fleet, as a table or as JSON.

use std::io::{self, Write as _};

use anyhow::Result;
use serde::Serialize;

use crate::{
    diagnostic::{DONE, INTERRUPTED, as_called},
    doctor::{Finding, Needs, State, examine},
    flags::Doctor,
    fleet::FleetFolder,
    process::Cancel,
};

/// What the machine lacks for the main job; the same number as of an error that says so.
const LACKING: u8 = 3;

/// What `--json` prints. The version changes when a field changes its meaning or goes away.
#[derive(Serialize)]
struct Report<'a> {
    version: u32,
    /// True if `build-all` can do its work for the whole fleet.
    ready: bool,
    findings: &'a [Finding],
}

pub fn run(flags: &Doctor, cancel: &Cancel) -> Result<u8> {
    let place = FleetFolder::find(&flags.fleet)?;
    let matrix = place.matrix()?;
    let repository = place.root.ancestors().find(|dir| dir.join(".git").exists());
    let demo = place.root.ends_with("ci/demo");
    let setup = place.root.ancestors().map(|dir| dir.join("ci/setup")).find(|file| file.is_file());
    let findings = examine(&Needs::of(&matrix, demo, repository.is_some() && !demo, setup), cancel);
    if cancel.is_set() {
        return Ok(INTERRUPTED);
    }
    let ready = findings.iter().all(|finding| finding.state < State::Missing);
    let text = match flags.json {
        true => serde_json::to_string_pretty(&Report { version: 1, ready, findings: &findings })? + "\n",
        false => table(&findings, place.root.as_str(), ready),
    };
    io::stdout().lock().write_all(as_called(&text).as_bytes())?;
    Ok(if ready { DONE } else { LACKING })
}

/// One line a finding, its advice below it; the last line is the sum.
fn table(findings: &[Finding], fleet: &str, ready: bool) -> String {
    let width = findings.iter().map(|finding| finding.check.chars().count()).max().unwrap_or(0);
    let line = |finding: &Finding| {
        let state = finding.state.as_str();
        let advice = finding.advice.iter().map(|advice| format!("{:width$}           try: {advice}\n", ""));
        format!("{state:<7}  {:<width$}  {}\n{}", finding.check, finding.found, advice.collect::<String>())
    };
    let count = |state: State| findings.iter().filter(|finding| finding.state == state).count();
    let sum = match (ready, count(State::Warn)) {
        (true, 0) => format!("This machine can build and test the whole fleet {fleet}."),
        (true, warnings) => format!("This machine can build the whole fleet {fleet}; {warnings} warning(s) above."),
        (false, _) => {
            let lacks = count(State::Missing);
            format!("This machine cannot build the whole fleet {fleet}: {lacks} thing(s) missing above.")
        }
    };
    findings.iter().map(line).chain(["\n".to_owned(), sum, "\n".to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_stands_below_its_finding() {
        let finding = |check: &str, state, advice: Option<&str>| Finding {
            check: check.into(),
            state,
            found: "found".into(),
            advice: advice.map(Into::into),
        };
        let findings = [finding("git", State::Ok, None), finding("nix-kvm", State::Missing, Some("mend it"))];
        let expected = "\
ok       git      found
missing  nix-kvm  found
                  try: mend it

This machine cannot build the whole fleet /f: 1 thing(s) missing above.
";
        assert_eq!(table(&findings, "/f", false), expected);
        let report = Report { version: 1, ready: false, findings: &findings };
        drydock_model::samples::keep("doctor", &serde_json::to_string(&report).unwrap());
    }
}
