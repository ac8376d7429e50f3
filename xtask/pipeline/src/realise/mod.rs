//! Has Nix realise derivations, and tells what became of each. Whether an output is there is asked of the store
//! afterwards; exit codes are not believed.

mod cause;
mod seconds;
mod watch;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use self::{cause::Closures, seconds::Seconds, watch::Watched};
use crate::{
    job::{Derivation, JobId, Outcome},
    nix::{
        Nix,
        argv::{self, BuildOptions},
        remote,
        reply::PathInfo,
    },
    process::{Cancel, End, Invocation},
    run::Run,
    timings::What,
};

pub use watch::Update;

/// What became of one job's derivation.
#[derive(Clone, Debug)]
pub struct Realised {
    pub id: JobId,
    pub outcome: Outcome,
    /// The remote machine that built it, if one did.
    pub machine: Option<String>,
    /// Sizes, where Nix was asked for them.
    pub info: Option<PathInfo>,
    /// How long it was built or copied, with what it needed; none if nothing was to be done.
    pub seconds: Option<f64>,
}

/// Realises a batch in one Nix process. Jobs whose outputs are valid already cost only the question.
pub fn realise(
    run: &Run<'_>,
    batch: &[(JobId, Derivation)],
    options: &BuildOptions,
    tell: &mut dyn FnMut(Update<'_>),
) -> Result<Vec<Realised>> {
    let (timings, cancel) = (&run.timings, run.cancel);
    let name = match batch {
        [(id, _)] => id.to_string(),
        [(id, _), others @ ..] => format!("{id} and {} more", others.len()),
        [] => String::new(),
    };
    let process = timings.begin(What::Realiser, name, None);
    let outs: Vec<&str> = batch.iter().map(|(_, d)| d.out.as_str()).collect();
    // What is not on disk cannot be valid; whether what is there is whole, only the store knows.
    let there: Vec<&str> = batch.iter().filter(|(_, d)| d.out.exists()).map(|(_, d)| d.out.as_str()).collect();
    let invalid = if there.is_empty() { vec![] } else { Nix::invalid(&there, cancel)? };
    let present = |out: &str| there.contains(&out) && !invalid.iter().any(|path| path == out);
    let wanted: BTreeSet<&str> = batch
        .iter()
        .filter(|(_, d)| options.rebuild || !present(d.out.as_str()))
        .map(|(_, d)| d.drv.as_str())
        .collect();
    if wanted.is_empty() {
        timings.end(process, true);
        return Ok(batch.iter().map(|(id, _)| present_already(id)).collect());
    }
    let drvs: Vec<&str> = wanted.iter().copied().collect();
    let mut watched = Watched::new(timings, process);
    let build = Invocation::new(argv::build(&drvs, options)).env("NIX_SSHOPTS", remote::ssh_options());
    let end = watched.watch(&build, cancel, tell)?;
    // The question after an interrupt must still be answered, so it does not listen to it.
    let unheard = Cancel::default();
    watched.settle(end == End::Cancelled);
    let seconds = Seconds::of(timings, process);
    // For a path that is not valid the sizes would be looked for in binary caches, so after a failure validity alone is
    // asked for.
    let mut infos: BTreeMap<String, PathInfo> = match end.is_success() {
        true => run.nix.path_info(&outs, &unheard)?.into_iter().map(|info| (info.path.clone(), info)).collect(),
        false => BTreeMap::new(),
    };
    let unknown: Vec<&str> = outs.iter().copied().filter(|out| !infos.contains_key(*out)).collect();
    let still: BTreeSet<String> = match unknown.is_empty() {
        true => BTreeSet::new(),
        false => Nix::invalid(&unknown, &unheard)?.into_iter().collect(),
    };
    timings.end(process, end != End::Cancelled);
    let mut closures = Closures::default();
    batch
        .iter()
        .map(|(id, derivation)| {
            let drv = derivation.drv.as_str();
            let failed =
                still.contains(derivation.out.as_str()) || (options.rebuild && watched.errors.contains_key(drv));
            let outcome = match (failed, wanted.contains(drv)) {
                (false, false) => Outcome::Present,
                // What a remote machine built is copied from there.
                (false, true) if watched.machines.contains_key(drv) => Outcome::Built,
                (false, true) if watched.copied.contains(derivation.out.as_str()) => Outcome::Fetched,
                // Another process built it meanwhile.
                (false, true) => Outcome::Present,
                (true, _) if end == End::Cancelled => Outcome::NotRun { reason: "interrupted".into() },
                (true, _) => Outcome::Failed(cause::explain(&watched, end, drv, &mut closures, cancel)?),
            };
            Ok(Realised {
                id: id.clone(),
                machine: watched.machines.get(drv).cloned().filter(|machine| !machine.is_empty()),
                info: infos.remove(derivation.out.as_str()),
                seconds: seconds.spent_on(derivation).filter(|_| outcome != Outcome::Present),
                outcome,
            })
        })
        .collect()
}

fn present_already(id: &JobId) -> Realised {
    Realised { id: id.clone(), outcome: Outcome::Present, machine: None, info: None, seconds: None }
}
