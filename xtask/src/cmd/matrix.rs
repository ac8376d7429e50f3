//! `cargo xtask matrix`: prints the entries of a CI matrix.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a verb prints its report")]

use std::collections::BTreeSet;

use anyhow::Result;

use crate::{
    diagnostic::{DONE, FAILED, INTERRUPTED},
    flags::Matrix,
    fleet::Fleet,
    history::{self, History},
    job::Target,
    process::Cancel,
    report::github,
    run::Run,
    shard,
};

pub fn run(flags: &Matrix, cancel: &Cancel) -> Result<u8> {
    let fleet = Fleet::open(&flags.fleet.fleet, &flags.fleet.override_input)?;
    let run = Run::begin(fleet, flags.stages.options(), cancel)?;
    let packing = &flags.packing;
    let mut needed = run.needed(flags.affected_by.as_deref(), !packing.no_tests, packing.skip_cached)?;
    if cancel.is_set() {
        return Ok(INTERRUPTED);
    }
    let selection = flags.selection.artifacts()?;
    let hosts: BTreeSet<_> = selection.hosts(&run.fleet.matrix)?.into_iter().map(|host| &host.name).collect();
    let artifacts = &flags.selection.artifact;
    needed.derivations.retain(|(id, _)| {
        let wanted = match id.target {
            Target::Artifact(artifact) => artifacts.is_empty() || artifacts.iter().any(|a| a == artifact.as_str()),
            Target::Test(_) => artifacts.is_empty(),
        };
        wanted && hosts.contains(&id.host)
    });
    let jobs = History::read(&history::file(packing.history.as_deref())).weighed(&needed.derivations);
    println!("{}", github::matrix(&shard::entries(&jobs, packing.shards.map(usize::from))));
    for (id, failure) in &needed.broken {
        let place = failure.position.as_ref().map(|p| format!("{p}: ")).unwrap_or_default();
        eprintln!("{id} does not evaluate: {place}{}", failure.message);
    }
    Ok(if needed.broken.is_empty() { DONE } else { FAILED })
}
