//! Judges the attempts of a test, and keeps the files that a person looks at afterwards.

use std::fs;

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};

use super::{
    accel::Choice,
    attempt::{Attempt, Verdict},
    place::Place,
    screens,
    session::{folder, name},
};
use crate::{
    job::{Derivation, Failure, Job, JobId, Outcome, Stage},
    process::quote,
    record::{JobRecord, TestRecord},
};

/// Moves the files of a finished run to where they stay, and takes away those of earlier runs.
pub fn keep(dir: &Utf8Path, id: &JobId) -> Result<()> {
    let home = folder(id, "")?;
    for entry in home.read_dir_utf8().with_context(|| format!("cannot list {home}"))?.flatten() {
        if entry.path().is_file() {
            fs::remove_file(entry.path()).with_context(|| format!("cannot remove {}", entry.path()))?;
        }
    }
    for entry in dir.read_dir_utf8().with_context(|| format!("cannot list {dir}"))?.flatten() {
        let to = home.join(entry.file_name());
        if entry.path().is_file() {
            fs::rename(entry.path(), &to).with_context(|| format!("cannot move {} to {to}", entry.path()))?;
        }
    }
    Ok(())
}

/// The files that a run left for people: the log, screenshots, what the driver wrote.
fn files(id: &JobId) -> Vec<Utf8PathBuf> {
    let entries = folder(id, "").ok().and_then(|home| home.read_dir_utf8().ok());
    let mut files: Vec<Utf8PathBuf> = entries.into_iter().flatten().flatten().map(|e| e.path().to_owned()).collect();
    files.retain(|file| file.is_file());
    files.sort();
    files
}

/// The record of a test. `fleet` is what was typed to name the fleet.
pub fn record(
    job: &Job,
    derivation: &Derivation,
    place: Place,
    choice: &Choice,
    runs: Vec<Attempt>,
    fleet: &str,
) -> JobRecord {
    let passed = runs.iter().filter(|run| matches!(run.verdict, Verdict::Passed | Verdict::PassedBefore)).count();
    let count = runs.len();
    let all = runs.iter().map(|run| run.took.as_secs_f64()).sum::<f64>();
    let is_failure = |run: &Attempt| matches!(run.verdict, Verdict::Failed(_) | Verdict::Prevented(_));
    let telling = runs.iter().rposition(is_failure).unwrap_or(count.saturating_sub(1));
    let Some(run) = runs.into_iter().nth(telling) else {
        return JobRecord::new(job, Outcome::NotRun { reason: "interrupted".into() });
    };
    let outcome = match &run.verdict {
        Verdict::Passed => Outcome::Built,
        Verdict::PassedBefore => Outcome::Present,
        Verdict::Interrupted => Outcome::NotRun { reason: "interrupted".into() },
        Verdict::Prevented(failure) => Outcome::Failed(Failure {
            message: format!(
                "the test did not run, because something that it needs was not built: {}",
                failure.message
            ),
            ..failure.clone()
        }),
        Verdict::Failed(why) => Outcome::Failed(failure(&job.id, derivation, &run, why, fleet, (passed, count))),
    };
    let test = TestRecord {
        // The driver's own word, where it gives one: a sandboxed test decides for itself.
        accel: run.log.accel.clone().unwrap_or_else(|| choice.accel.as_str().to_owned()),
        why: choice.to_string(),
        place: place.as_str().into(),
        seconds: all / count.max(1) as f64,
        runs: count,
        passed,
        subtests: run.log.subtests.clone(),
        screens: match &outcome {
            Outcome::NotRun { .. } => vec![],
            _ => {
                folder(&job.id, "").map(|home| screens::list(&home, &run.log, outcome.is_success())).unwrap_or_default()
            }
        },
        files: if matches!(outcome, Outcome::Failed(_)) { files(&job.id) } else { vec![] },
    };
    let build_seconds = (!matches!(outcome, Outcome::Present)).then_some(all);
    JobRecord { derivation: Some(derivation.clone()), build_seconds, test: Some(test), ..JobRecord::new(job, outcome) }
}

fn failure(
    id: &JobId,
    drv: &Derivation,
    run: &Attempt,
    why: &str,
    fleet: &str,
    (passed, count): (usize, usize),
) -> Failure {
    let mut message = match run.log.failed() {
        Some(subtest) => format!("subtest \"{subtest}\" failed"),
        None => "the test failed outside of any subtest".into(),
    };
    if count > 1 {
        message.push_str(&format!("; {passed} of {count} runs passed"));
    }
    for line in run.log.complaint.iter().map(String::as_str).chain([why]) {
        message.push('\n');
        message.push_str(line);
    }
    let console = |(machine, lines): (&String, &std::collections::VecDeque<String>)| {
        lines.iter().map(|line| format!("{machine} # {line}")).collect::<Vec<_>>()
    };
    Failure {
        stage: Stage::Test,
        message,
        position: None,
        drv: Some(drv.drv.clone()),
        log_tail: run.log.consoles.iter().flat_map(console).collect(),
        reproduce: enter(id, fleet),
    }
}

/// The command that opens the driver's shell on the same machines.
fn enter(id: &JobId, fleet: &str) -> String {
    let fleet = if fleet == "." { String::new() } else { format!(" --fleet {}", quote(fleet)) };
    format!("cargo xtask test-vm {} --test {}{fleet} --interactive", id.host, name(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_to_enter_names_the_fleet_only_where_it_is_another() {
        let id = JobId::try_from("web.tests.live".to_owned()).unwrap();
        assert_eq!(enter(&id, "."), "cargo xtask test-vm web --test live --interactive");
        assert_eq!(enter(&id, "my fleet"), "cargo xtask test-vm web --test live --fleet 'my fleet' --interactive");
    }
}
