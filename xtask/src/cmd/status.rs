//! `cargo xtask status`: says of each machine what it runs, and how far that is from the fleet.
#![expect(clippy::print_stdout, reason = "a verb prints its report")]

use std::{fs, thread};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::{
    diagnostic::{DONE, FAILED, INTERRUPTED, bytes, counted},
    flags::{SelectionFlags, Status},
    fleet::Fleet,
    job::{Artifact, HostName, Job, JobId, Target},
    matrix::Host,
    process::Cancel,
    run::{Options, Run},
    ship::{
        probe::{self, Machine},
        remote::Remote,
        turns,
    },
};

/// Machines that are asked at once.
const AT_ONCE: usize = 32;

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    hosts: &'a [Row],
}

#[derive(Serialize)]
struct Row {
    host: HostName,
    target: String,
    /// The system that the fleet has for it; absent if that does not evaluate, or was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    wanted: Option<String>,
    /// True if it runs that system.
    #[serde(skip_serializing_if = "Option::is_none")]
    up_to_date: Option<bool>,
    /// Days from the nixpkgs that it runs to the one in flake.lock, where both tell their date.
    #[serde(skip_serializing_if = "Option::is_none")]
    days_behind: Option<i64>,
    #[serde(flatten)]
    machine: Option<Machine>,
    /// Why it did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub fn run(flags: &Status, cancel: &Cancel) -> Result<u8> {
    let fleet = Fleet::open(&flags.fleet.fleet, &flags.fleet.override_input)?;
    let selection = SelectionFlags {
        hosts: flags.hosts.clone(),
        tag: flags.tag.clone(),
        artifact: vec!["system".into()],
        ..Default::default()
    };
    let hosts: Vec<Host> = selection.artifacts()?.hosts(&fleet.matrix)?.into_iter().cloned().collect();
    let target = Target::Artifact(Artifact::System);
    let job = |host: &Host| Job { id: JobId { host: host.name.clone(), target }, system: host.system.clone() };
    let jobs: Vec<Job> = hosts.iter().map(job).collect();
    let run = if flags.no_eval { None } else { Some(Run::begin(fleet.clone(), Options::default(), cancel)?) };
    let ask = |host: &Host| probe::probe(&Remote::new(host.destination()), &[], cancel);
    let (derived, answers) = thread::scope(|scope| {
        let derived = scope.spawn(|| run.as_ref().map(|run| run.evaluate(&jobs)).transpose());
        let answers = turns::take(&hosts, AT_ONCE, |_| None, ask);
        derived.join().ok().context("the evaluation ended with a defect").flatten().map(|derived| (derived, answers))
    })?;
    if cancel.is_set() {
        return Ok(INTERRUPTED);
    }
    let locked = locked_day(&fs::read_to_string(fleet.root.join("flake.lock")).unwrap_or_default());
    let rows: Vec<Row> = hosts
        .iter()
        .zip(&jobs)
        .zip(answers)
        .map(|((host, job), answer)| {
            let wanted = derived.as_ref().and_then(|derived| derived.derivations.get(&job.id));
            let wanted = wanted.map(|derivation| derivation.out.to_string());
            let error = answer.as_ref().err().map(|error| format!("{error:#}"));
            let machine = answer.ok();
            let up_to_date = machine.as_ref().zip(wanted.as_ref()).map(|(machine, wanted)| machine.current == *wanted);
            let runs = machine.as_ref().and_then(|machine| day_of_version(&machine.version));
            let days_behind = locked.zip(runs).map(|(locked, runs)| (locked - runs).max(0));
            let (host, target) = (host.name.clone(), host.destination().to_string());
            Row { host, target, wanted, up_to_date, days_behind, machine, error }
        })
        .collect();
    if flags.json {
        println!("{}", serde_json::to_string_pretty(&Document { version: 1, hosts: &rows })?);
    } else {
        print!("{}", table(&rows));
    }
    Ok(if rows.iter().any(|row| row.error.is_some()) { FAILED } else { DONE })
}

/// One line a machine; those that did not answer come first, with the reason.
fn table(rows: &[Row]) -> String {
    let head = ["HOST", "RUNS", "FLEET", "BEHIND", "RESTART", "FAILED", "FREE"].map(str::to_owned);
    let cells = |(row, machine): (&Row, &Machine)| {
        let generation = machine.generation.filter(|_| machine.current == machine.profile);
        [
            row.host.to_string(),
            match (machine.version.as_str(), generation) {
                (version, Some(number)) => format!("{version} (generation {number})"),
                (version, None) => format!("{version} (not the boot default)"),
            },
            match row.up_to_date {
                Some(true) => "same",
                Some(false) => "differs",
                None => "-",
            }
            .to_owned(),
            row.days_behind.map_or("-".to_owned(), |days| counted(usize::try_from(days).unwrap_or(0), "day")),
            if machine.reboot_pending { "pending" } else { "-" }.to_owned(),
            if machine.failed_units.is_empty() { "-".to_owned() } else { machine.failed_units.join(",") },
            bytes(machine.free),
        ]
    };
    let answered: Vec<(&Row, &Machine)> = rows.iter().filter_map(|row| Some((row, row.machine.as_ref()?))).collect();
    let lines: Vec<[String; 7]> = std::iter::once(head).chain(answered.into_iter().map(cells)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let line = |line: &[String; 7]| {
        let cells = line.iter().enumerate().map(|(n, cell)| format!("{cell:width$}  ", width = width(n)));
        cells.collect::<String>().trim_end().to_owned() + "\n"
    };
    let silent =
        rows.iter().filter_map(|row| Some(format!("{} ({}): {}\n", row.host, row.target, row.error.as_ref()?)));
    // Without an answer there is nothing that the first line could be above.
    let shown = if lines.len() > 1 { &lines[..] } else { &[] };
    silent.chain(shown.iter().map(line)).collect()
}

/// The day of the nixpkgs in a lock file, counted from 1970.
fn locked_day(lock: &str) -> Option<i64> {
    let lock: serde_json::Value = serde_json::from_str(lock).ok()?;
    let node = lock["nodes"][lock["root"].as_str()?]["inputs"]["nixpkgs"].as_str()?;
    Some(lock["nodes"][node]["locked"]["lastModified"].as_i64()?.div_euclid(86400))
}

/// The day in NixOS's version, such as `26.05.20260701.a1b2c3d`, counted from 1970.
fn day_of_version(version: &str) -> Option<i64> {
    let date = version.split('.').find(|part| part.len() == 8 && part.starts_with("20"))?;
    let number = |range: std::ops::Range<usize>| date.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(4..6)?, number(6..8)?);
    // Counted from March, leap days come last (Howard Hinnant, `days_from_civil`).
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_for_programs_is_left_to_the_schema() {
        let row = |machine, error| Row {
            host: "h".parse().unwrap(),
            target: "h".into(),
            wanted: Some("/nix/store/x".into()),
            up_to_date: Some(true),
            days_behind: Some(1),
            machine,
            error,
        };
        let rows = [row(Some(Machine::default()), None), row(None, Some("it is down".into()))];
        let text = serde_json::to_string(&Document { version: 1, hosts: &rows }).unwrap();
        drydock_model::samples::keep("status", &text);
    }

    #[test]
    fn days_are_read_from_versions_and_locks() {
        let rows = [
            ("26.05.19700101.abc", None),
            ("26.05.20000101.abc", Some(10957)),
            ("26.05.20240229.abc", Some(19782)),
            ("26.11.20261125.abc", Some(20782)),
            ("26.05pre-git", None),
        ];
        for (version, expected) in rows {
            assert_eq!(day_of_version(version), expected, "{version}");
        }
        let lock = r#"{"root": "root", "nodes": {"root": {"inputs": {"nixpkgs": "n"}}, "n": {"locked": {"lastModified": 1795564800}}}}"#;
        assert_eq!(locked_day(lock), Some(20782));
        assert_eq!(locked_day("{}"), None);
    }
}
