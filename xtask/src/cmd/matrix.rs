//! `cargo xtask matrix`: a fleet and perhaps an earlier commit in, the entries of a CI matrix out.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a verb prints its report")]

use std::collections::BTreeSet;

use anyhow::Result;
use camino::Utf8PathBuf;

use super::{
    DONE, FAILED, INTERRUPTED,
    affected::{self, Compared},
};
use crate::produce::Options;
use crate::{
    compare::hosts::{Side, Status},
    flags::{Matrix, PackingFlags},
    fleet::Fleet,
    history::History,
    job::{Derivation, Failure, JobId, Target},
    nix::{Nix, argv, reply},
    process::{Cancel, Invocation},
    reuse::Remembered,
    shard::{self, Entry, Piece},
};

pub fn run(flags: &Matrix, cancel: &Cancel) -> Result<u8> {
    let fleet = Fleet::open(&flags.fleet.fleet, &flags.fleet.override_input)?;
    let options = flags.stages.options();
    let mut planned = planned(&fleet, flags.affected_by.as_deref(), &flags.packing, &options, cancel)?;
    if cancel.is_set() {
        return Ok(INTERRUPTED);
    }
    let selection = flags.selection.artifacts()?;
    let hosts: BTreeSet<_> = selection.hosts(&fleet.matrix)?.into_iter().map(|host| &host.name).collect();
    let artifacts = &flags.selection.artifact;
    planned.pieces.retain(|piece| {
        let wanted = match piece.id.target {
            Target::Artifact(artifact) => artifacts.is_empty() || artifacts.iter().any(|a| a == artifact.as_str()),
            Target::Test(_) => artifacts.is_empty(),
        };
        wanted && hosts.contains(&piece.id.host)
    });
    println!("{}", json(&entries(&planned.pieces, &flags.packing)));
    for (id, failure) in &planned.broken {
        let place = failure.position.as_ref().map(|p| format!("{p}: ")).unwrap_or_default();
        eprintln!("{id} does not evaluate: {place}{}", failure.message);
    }
    Ok(if planned.broken.is_empty() { DONE } else { FAILED })
}

/// What there is to do, before it is packed.
pub struct Planned {
    pub pieces: Vec<Piece>,
    /// Jobs that do not evaluate.
    pub broken: Vec<(JobId, Failure)>,
    /// Jobs left out because a substituter has their outputs.
    pub cached: Vec<JobId>,
    /// The comparison with the base, if one was asked for.
    pub compared: Option<Compared>,
}

/// Evaluates the fleet, at the base too if there is one, and keeps the jobs that have to run.
pub fn planned(
    fleet: &Fleet,
    base: Option<&str>,
    packing: &PackingFlags,
    options: &Options,
    cancel: &Cancel,
) -> Result<Planned> {
    let nix = Nix::find(cancel)?;
    let compared = base.map(|base| affected::against(fleet, Some(base), options, cancel)).transpose()?;
    let now: Side = match &compared {
        None => affected::evaluate(&nix, fleet, Remembered::default(), options, cancel)?,
        Some(compared) => {
            let jobs = compared.hosts.iter().flat_map(|host| &host.jobs);
            let kept = jobs.filter(|job| !matches!(job.status, Status::Unchanged | Status::Removed));
            let side = |job: &crate::compare::hosts::JobChange| match (&job.new, &job.failure) {
                (Some(derivation), _) => Some((job.id.clone(), Ok(derivation.clone()))),
                (None, failure) => Some((job.id.clone(), Err(failure.clone()?))),
            };
            kept.filter_map(side).collect()
        }
    };
    let mut derivations: Vec<(JobId, Derivation)> = Vec::new();
    let mut broken = Vec::new();
    for (id, result) in now {
        match result {
            _ if packing.no_tests && matches!(id.target, Target::Test(_)) => {}
            Ok(derivation) => derivations.push((id, derivation)),
            Err(failure) => broken.push((id, failure)),
        }
    }
    let cached = if packing.skip_cached { cached(&derivations, cancel)? } else { BTreeSet::new() };
    derivations.retain(|(id, _)| !cached.contains(id));
    let history = History::read(&history_file(packing.history.as_ref()));
    let piece = |(id, derivation): (JobId, Derivation)| {
        let seconds = history.expected_seconds(&id);
        Piece { id, system: derivation.system, seconds }
    };
    let pieces = derivations.into_iter().map(piece).collect();
    Ok(Planned { pieces, broken, cached: cached.into_iter().collect(), compared })
}

/// The jobs whose outputs would be copied from a substituter rather than built.
fn cached(derivations: &[(JobId, Derivation)], cancel: &Cancel) -> Result<BTreeSet<JobId>> {
    let drvs: Vec<&str> = derivations.iter().map(|(_, derivation)| derivation.drv.as_str()).collect();
    if drvs.is_empty() {
        return Ok(BTreeSet::new());
    }
    let answer = Invocation::new(argv::dry_run(&drvs)).capture(cancel)?;
    anyhow::ensure!(answer.end.is_success(), "Nix cannot say what it would fetch: {}", answer.stderr.trim());
    let fetched: BTreeSet<String> = reply::dry_run(&answer.stderr).fetch.into_iter().collect();
    let has = |(_, derivation): &&(JobId, Derivation)| fetched.contains(derivation.out.as_str());
    Ok(derivations.iter().filter(has).map(|(id, _)| id.clone()).collect())
}

/// The entries: one a job, or packed.
pub fn entries(pieces: &[Piece], packing: &PackingFlags) -> Vec<Entry> {
    match packing.shards {
        None => shard::one_each(pieces),
        Some(shards) => shard::packed(pieces, shards.into()),
    }
}

/// The matrix in the form of `jobs.<id>.strategy.matrix`, on one line.
pub fn json(entries: &[Entry]) -> String {
    serde_json::json!({ "include": entries }).to_string()
}

/// Where measurements are kept: what was typed, or the user's cache folder (XDG Base Directory 0.8).
pub fn history_file(typed: Option<&Utf8PathBuf>) -> Utf8PathBuf {
    let absolute = |key: &str| std::env::var(key).ok().filter(|dir| dir.starts_with('/')).map(Utf8PathBuf::from);
    let cache = || absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    typed.cloned().unwrap_or_else(|| cache().unwrap_or_else(|| ".cache".into()).join("drydock/history.json"))
}
