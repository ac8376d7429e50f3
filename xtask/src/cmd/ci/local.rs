//! `cargo xtask ci --local`: does what the jobs of .github/workflows/ci.yml do, one after another on this machine.
#![expect(clippy::print_stderr, reason = "a verb prints its report")]

use std::collections::BTreeMap;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};

use super::{
    entry,
    gate::{self, Need},
    merge,
    plan::{self, PlanFile},
};
use crate::{
    diagnostic::{self, DONE, FAILED, INTERRUPTED, usage},
    files::Temporary,
    flags::{self, FleetFlags, LocalFlags, PackingFlags, StageFlags},
    fleet::Fleet,
    process::Cancel,
    setup,
};

pub fn run(flags: &LocalFlags, cancel: &Cancel) -> Result<u8> {
    let folder = Folder::new(flags.keep.as_deref())?;
    if flags.fleet == "demo" {
        setup::require(cancel)?;
    }
    let typed = FleetFlags { fleet: flags.fleet.clone(), override_input: vec![] };
    let fleet = Fleet::open(&typed.fleet, &typed.override_input)?;
    let artifacts = folder.path().join("artifacts");
    let history = Some(folder.path().join("history.json"));
    let mut needs = BTreeMap::new();

    eprintln!("=== plan");
    let plan = plan::make(
        &flags::Plan {
            fleet: typed.clone(),
            stages: StageFlags::default(),
            // As in the workflow: at most as many entries as a matrix may have, and not what a cache has.
            packing: PackingFlags {
                shards: Some(256),
                skip_cached: true,
                no_tests: flags.no_tests,
                history: history.clone(),
            },
            base: flags.base.clone().unwrap_or_default(),
            out: artifacts.join("plan"),
        },
        cancel,
    );
    let plan = told("plan", plan).flatten();
    if cancel.is_set() {
        return Ok(INTERRUPTED);
    }
    let any = plan.as_ref().map(|plan| !plan.entries.is_empty());
    needs.insert("plan".to_owned(), need(any.is_some(), any));

    if let Some(plan) = plan.as_ref().filter(|plan| !plan.entries.is_empty()) {
        let succeeded = entries(plan, &typed, &fleet, &artifacts, cancel);
        if cancel.is_set() {
            return Ok(INTERRUPTED);
        }
        needs.insert("matrix".to_owned(), need(succeeded, None));
    } else {
        needs.insert("matrix".to_owned(), Need { result: "skipped".into(), outputs: BTreeMap::new() });
    }

    eprintln!("\n=== report");
    let report =
        plan.is_some().then(|| merge::make(&flags::Merge { artifacts, out: folder.path().join("report"), history }));
    let report = report.and_then(|report| told("report", report));
    needs.insert("report".to_owned(), need(report.as_ref().is_some_and(|(_, failed)| *failed == 0), None));
    eprint!("{}", report.map_or_else(String::new, |(summary, _)| summary));

    eprintln!("\n=== gate");
    let open = gate::opens(&needs);
    eprintln!("comment: not written, it is a pull request's");
    if let Folder::Kept(folder) = &folder {
        eprintln!("kept in {folder}");
    }
    Ok(if open { DONE } else { FAILED })
}

/// Runs every entry of the matrix, also after one has failed. True if all succeeded.
fn entries(plan: &PlanFile, typed: &FleetFlags, fleet: &Fleet, artifacts: &Utf8Path, cancel: &Cancel) -> bool {
    let mut all = true;
    for entry in &plan.entries {
        if cancel.is_set() {
            return false;
        }
        eprintln!("\n=== matrix: {}", entry.name);
        let flags = flags::Entry {
            fleet: typed.clone(),
            stages: StageFlags::default(),
            name: None,
            jobs: None,
            plan: None,
            index: None,
            of: None,
            system: None,
            out: artifacts.join(format!("record-{}", entry.name)),
        };
        let made = plan::checked_name(&entry.name)
            .and_then(|name| entry::make(&flags, fleet.clone(), name, &entry.jobs, cancel));
        all &= told(&entry.name, made).is_some_and(|(record, _)| record.succeeded());
    }
    all
}

/// What a job gave. An error is its own failure and does not stop the others.
fn told<T>(job: &str, result: Result<T>) -> Option<T> {
    result
        .inspect_err(|error| {
            eprintln!("{job} failed:");
            diagnostic::print_error(error);
        })
        .ok()
}

/// What GitHub would hand to the gate.
fn need(succeeded: bool, any: Option<bool>) -> Need {
    let result = if succeeded { "success" } else { "failure" };
    let outputs = any.map(|any| ("any".to_owned(), any.to_string())).into_iter().collect();
    Need { result: result.into(), outputs }
}

/// A folder that is removed at the end, or the one that is to be kept.
enum Folder {
    Temporary(Temporary),
    Kept(Utf8PathBuf),
}

impl Folder {
    fn new(keep: Option<&Utf8Path>) -> Result<Self> {
        let Some(dir) = keep else { return Ok(Self::Temporary(Temporary::new()?)) };
        if dir.read_dir_utf8().is_ok_and(|mut list| list.next().is_some()) {
            return Err(usage(format!("{dir} is not empty; --keep wants a new folder")));
        }
        Ok(Self::Kept(dir.to_owned()))
    }

    fn path(&self) -> &Utf8Path {
        match self {
            Self::Temporary(folder) => folder,
            Self::Kept(folder) => folder,
        }
    }
}
