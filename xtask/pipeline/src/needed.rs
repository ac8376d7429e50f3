//! Finds the jobs that a CI run has to do: what is affected, and what no cache has.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::{
    compare::{
        affected::Compared,
        hosts::{JobChange, Side, Status},
    },
    job::{Derivation, Failure, JobId, Target},
    nix::{argv, reply},
    process::Invocation,
    progress::Event,
    push::Cache,
    run::Run,
};

/// What there is to do.
pub struct Needed {
    pub derivations: Vec<(JobId, Derivation)>,
    /// Jobs that do not evaluate.
    pub broken: Vec<(JobId, Failure)>,
    /// Jobs left out because a substituter has their outputs.
    pub cached: Vec<JobId>,
    /// The comparison with the base, if one was asked for.
    pub compared: Option<Compared>,
}

impl Run<'_> {
    /// Evaluates the fleet, at the base too if there is one, and keeps the jobs that have to run: with `tests` VM tests
    /// as well, with `skip_cached` only what no substituter has. After an interrupt the answer is incomplete.
    pub fn needed(&self, base: Option<&str>, tests: bool, skip_cached: bool) -> Result<Needed> {
        let compared = base.map(|base| self.affected(Some(base))).transpose()?;
        let now: Side = match &compared {
            None => self.side()?,
            Some(compared) => {
                let jobs = compared.hosts.iter().flat_map(|host| &host.jobs);
                let kept = jobs.filter(|job| !matches!(job.status, Status::Unchanged | Status::Removed));
                let side = |job: &JobChange| match (&job.new, &job.failure) {
                    (Some(derivation), _) => Some((job.id.clone(), Ok(derivation.clone()))),
                    (None, failure) => Some((job.id.clone(), Err(failure.clone()?))),
                };
                kept.filter_map(side).collect()
            }
        };
        let mut derivations: Vec<(JobId, Derivation)> = Vec::new();
        let mut broken = Vec::new();
        for (id, result) in now.into_iter().filter(|(id, _)| tests || !matches!(id.target, Target::Test(_))) {
            match result {
                Ok(derivation) => derivations.push((id, derivation)),
                Err(failure) => broken.push((id, failure)),
            }
        }
        let cached = if skip_cached { self.cached(&derivations)? } else { BTreeSet::new() };
        derivations.retain(|(id, _)| !cached.contains(id));
        Ok(Needed { derivations, broken, cached: cached.into_iter().collect(), compared })
    }

    /// The jobs whose outputs would be copied from a substituter, or the cache that is pushed to, rather than built.
    fn cached(&self, derivations: &[(JobId, Derivation)]) -> Result<BTreeSet<JobId>> {
        let drvs: Vec<&str> = derivations.iter().map(|(_, derivation)| derivation.drv.as_str()).collect();
        if drvs.is_empty() {
            return Ok(BTreeSet::new());
        }
        let store = self.options.push.as_ref().and_then(Cache::store);
        let ask = |store: Option<&str>| Invocation::new(argv::dry_run(&drvs, store)).capture(self.cancel);
        let mut answer = ask(store.as_deref())?;
        if let (Some(store), false) = (store, answer.end.is_success() || self.cancel.is_set()) {
            let why = answer.stderr.trim();
            self.progress.tell(Event::Note(format!("warning: {store} cannot say what it has ({}): {why}", answer.end)));
            answer = ask(None)?;
        }
        anyhow::ensure!(answer.end.is_success(), "Nix cannot say what it would fetch: {}", answer.stderr.trim());
        // A cache that cannot be asked has nothing, as far as can be told.
        let warnings = answer.stderr.lines().filter(|line| line.starts_with("warning: "));
        warnings.for_each(|line| self.progress.tell(Event::Note(line.to_owned())));
        let fetched: BTreeSet<String> = reply::dry_run(&answer.stderr).fetch.into_iter().collect();
        let has = |(_, derivation): &&(JobId, Derivation)| fetched.contains(derivation.out.as_str());
        Ok(derivations.iter().filter(has).map(|(id, _)| id.clone()).collect())
    }
}
