//! The step `plan`: decides what is built, and writes plan.json and the outputs `any`, `matrix` and `compile_on`.
#![expect(clippy::print_stderr, reason = "a verb prints its report")]

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::runner_file;
use crate::{
    compare::{
        affected::Compared,
        difference,
        hosts::{self, Status},
    },
    diagnostic::{DONE, INTERRUPTED, counted, usage},
    differences,
    files::write,
    flags,
    fleet::Fleet,
    git::Repository,
    history::{self, History},
    job::{Failure, HostName, JobId, System},
    process::Cancel,
    report::github,
    run::Run,
    shard::{self, MatrixEntry},
};

/// The version of plan.json.
const VERSION: u32 = 1;

/// What `plan` hands to `merge`.
#[derive(Debug, Serialize, Deserialize)]
pub struct PlanFile {
    version: u32,
    /// The commit that the fleet was compared with.
    pub base: Option<String>,
    /// The fleet's folder in the repository with a slash at its end, or nothing.
    pub prefix: String,
    pub entries: Vec<MatrixEntry>,
    /// Jobs that do not evaluate; no entry attempts them.
    pub broken: Vec<Broken>,
    /// Jobs that a binary cache already has.
    pub cached: Vec<JobId>,
    /// Hosts that are not as they were at the base.
    pub affected: Vec<Affected>,
    /// How many hosts are as they were.
    pub unchanged: usize,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Broken {
    pub job: JobId,
    pub failure: Failure,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Affected {
    pub host: HostName,
    pub status: String,
    /// Its affected jobs in words: `iso, tests.live`.
    pub targets: String,
    /// What differs in it, of the first hosts of a change: titles with what stands below them.
    #[serde(default)]
    pub differences: Vec<(String, Vec<String>)>,
}

/// Hosts whose differences are looked for: each costs a second, and nobody reads those of a hundred.
const MOST_COMPARED: usize = 20;

impl PlanFile {
    /// The name under which it lies in the artifacts.
    pub const NAME: &'static str = "plan.json";

    /// Reads a plan that another runner wrote.
    pub fn read(file: &Utf8Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
        let plan: Self = serde_json::from_str(&text).with_context(|| format!("{file} is no plan"))?;
        anyhow::ensure!(plan.version == VERSION, "{file} is a plan of version {}, not {VERSION}", plan.version);
        Ok(plan)
    }
}

pub fn run(flags: &flags::Plan, cancel: &Cancel) -> Result<u8> {
    let Some(plan) = make(flags, cancel)? else { return Ok(INTERRUPTED) };
    if let Some(file) = runner_file("GITHUB_OUTPUT") {
        github::set_output(&file, "any", if plan.entries.is_empty() { "false" } else { "true" })?;
        github::set_output(&file, "matrix", &github::matrix(&plan.entries))?;
        github::set_output(&file, "compile_on", &github::other_runners(&plan.entries, System::native().as_str()))?;
    }
    // A host that does not evaluate fails the report and so the gate, not the plan: the others are built.
    Ok(DONE)
}

/// Decides what is built, writes it to plan.json and says it. Nothing after an interrupt.
pub fn make(flags: &flags::Plan, cancel: &Cancel) -> Result<Option<PlanFile>> {
    let fleet = Fleet::open(&flags.fleet.fleet, &flags.fleet.override_input)?;
    let run = Run::begin(fleet, flags.stages.options(), cancel)?;
    let packing = &flags.packing;
    // The first push of a branch comes with a base of zeros: there is nothing to compare with.
    let base = Some(flags.base.as_str()).filter(|base| !base.trim_matches('0').is_empty());
    let needed = run.needed(base, !packing.no_tests, packing.skip_cached)?;
    if cancel.is_set() {
        return Ok(None);
    }
    let jobs = History::read(&history::file(packing.history.as_deref())).weighed(&needed.derivations);
    let entries = shard::entries(&jobs, packing.shards.map(usize::from));
    let (affected, unchanged) = needed.compared.as_ref().map_or(Ok((vec![], 0)), |compared| summary(&run, compared))?;
    let plan = PlanFile {
        version: VERSION,
        base: needed.compared.map(|compared| compared.base),
        prefix: prefix(&run.fleet.root, cancel),
        entries,
        broken: needed.broken.into_iter().map(|(job, failure)| Broken { job, failure }).collect(),
        cached: needed.cached,
        affected,
        unchanged,
    };
    write(&flags.out.join(PlanFile::NAME), &serde_json::to_string_pretty(&plan)?)?;
    tell(&plan);
    Ok(Some(plan))
}

fn summary(run: &Run<'_>, compared: &Compared) -> Result<(Vec<Affected>, usize)> {
    let changed = compared.hosts.iter().filter(|host| host.status != Status::Unchanged);
    let affected = changed.enumerate().map(|(n, change)| {
        let differences = match n < MOST_COMPARED && change.status == Status::Changed {
            true => differences::sections(&difference::of_change(run, change, &compared.base)?),
            false => vec![],
        };
        let (host, status, targets) = (change.host.clone(), change.status.as_str().to_owned(), hosts::targets(change));
        Ok(Affected { host, status, targets, differences })
    });
    let affected = affected.collect::<Result<Vec<_>>>()?;
    let unchanged = compared.hosts.len() - affected.len();
    Ok((affected, unchanged))
}

/// The fleet's folder in its repository, as annotations have to name files.
pub fn prefix(root: &Utf8Path, cancel: &Cancel) -> String {
    let repository = Repository::around(root, cancel).ok();
    let inside = repository.and_then(|repo| Some(root.strip_prefix(&repo.toplevel).ok()?.to_owned()));
    inside.filter(|dir| dir.as_str() != "").map_or_else(String::new, |dir: Utf8PathBuf| format!("{dir}/"))
}

fn tell(plan: &PlanFile) {
    if let Some(base) = &plan.base {
        eprintln!("against {base}: {} affected, {} unchanged", counted(plan.affected.len(), "host"), plan.unchanged);
    }
    for entry in &plan.entries {
        eprintln!("{}: {} on {}, about {} s", entry.name, entry.jobs, entry.runner, entry.seconds);
    }
    for broken in &plan.broken {
        let place = broken.failure.position.as_ref().map(|p| format!("{}{p}: ", plan.prefix)).unwrap_or_default();
        eprintln!("{} does not evaluate: {place}{}", broken.job, broken.failure.message);
    }
    eprintln!(
        "{}, {} broken, {} cached",
        counted(plan.entries.len(), "entry"),
        counted(plan.broken.len(), "job"),
        plan.cached.len()
    );
}

/// An entry's name as it may stand in a file name: what came through a CI system is not believed.
pub fn checked_name(name: &str) -> Result<&str> {
    let safe = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    match starts && name.chars().all(safe) && name.len() <= 200 {
        true => Ok(name),
        false => Err(usage(format!("`{name}` is no name of a matrix entry; `cargo xtask matrix` prints the names"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_entries_are_safe_file_names() {
        for good in ["a.iso", "x86_64-linux-01", "0.tests.install"] {
            assert!(checked_name(good).is_ok(), "{good}");
        }
        for bad in ["", "../a", "a/b", "-x", ".a", "a b", "$(id)", "A"] {
            assert!(checked_name(bad).is_err(), "{bad}");
        }
    }
}
