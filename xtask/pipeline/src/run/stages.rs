//! Evaluates the jobs of a run and realises them, both at once.

use std::{
    collections::BTreeMap,
    sync::{OnceLock, mpsc},
    thread,
};

use anyhow::Result;

use super::{Finished, Run, builders::Builders, clock::Clock, cores, recall::Recall, records::Records};
use crate::{
    diagnostic::{DONE, FAILED, INTERRUPTED},
    eval::{self, Limits, Sources},
    job::{Artifact, Derivation, Failure, Job, JobId, Outcome, Target},
    process::Cancel,
    results,
    schedule::{self, Width},
};

/// Nix processes that realise at once. More than one, because a batch that waits for one long build must
/// not keep later derivations waiting; few, because each also counts its own `--max-jobs`.
const REALISERS: usize = 3;

/// What evaluation, or the memory of an earlier one, gives for jobs. After an interrupt some have neither a derivation
/// nor a failure.
#[derive(Debug, Default)]
pub struct Derived {
    pub derivations: BTreeMap<JobId, Derivation>,
    pub failures: BTreeMap<JobId, Failure>,
    /// How many of the derivations an earlier run had remembered.
    pub remembered: usize,
}

impl Derived {
    pub fn exit_code(&self, cancel: &Cancel) -> u8 {
        match (cancel.is_set(), self.failures.is_empty()) {
            (true, _) => INTERRUPTED,
            (false, true) => DONE,
            (false, false) => FAILED,
        }
    }
}

impl Run<'_> {
    /// Evaluates the jobs that are not remembered, and builds nothing. Errors: Nix cannot be started or asked.
    pub fn evaluate(&self, jobs: &[Job]) -> Result<Derived> {
        self.progress.expect(jobs.len());
        let recall = self.timings.step("look up what is remembered", || Recall::look_up(self, jobs))?;
        let known = recall.known();
        let unknown = jobs.iter().filter(|job| !known.contains_key(&job.id));
        let records = Records::new(unknown, self, None);
        let nothing = |_, _| Ok(());
        Stages { run: self, recall: &recall, records: &records, realise: &nothing }.pass(jobs, 1, vec![])?;
        recall.learn(|| records.evaluated());
        self.progress.finish();
        let mut derived = Derived { remembered: known.len(), ..Derived::default() };
        for record in records.finish().jobs {
            match (record.outcome, record.derivation) {
                (Outcome::Failed(failure), _) => drop(derived.failures.insert(record.job, failure)),
                (_, Some(derivation)) => drop(derived.derivations.insert(record.job, derivation)),
                _ => {}
            }
        }
        derived.derivations.extend(known.iter().map(|(id, recalled)| (id.clone(), recalled.derivation.clone())));
        Ok(derived)
    }

    /// Evaluates the jobs that are not remembered and realises all, on the remote builders that live. Errors: Nix cannot
    /// be started or asked.
    pub fn realise(&self, jobs: &[Job]) -> Result<Finished> {
        self.progress.expect(jobs.len());
        // Git and Nix are asked side by side, before anything is read.
        let recall = thread::scope(|scope| {
            scope.spawn(|| self.source());
            self.timings.step("look up what is remembered", || Recall::look_up(self, jobs))
        })?;
        let finished = thread::scope(|scope| {
            let pushing = self.options.push.as_ref().map(|cache| {
                let (finished, outs) = mpsc::channel();
                scope.spawn(move || cache.follow(self, &outs));
                finished
            });
            let records = Records::new(jobs.iter(), self, pushing);
            self.realise_recalled(jobs, &recall, &records)?;
            recall.learn(|| records.evaluated());
            // Ends the pushing when all has come through.
            Ok(records.finish())
        });
        self.progress.finish();
        finished
    }

    fn realise_recalled(&self, jobs: &[Job], recall: &Recall<'_>, records: &Records<'_>) -> Result<()> {
        let known = recall.known();
        let mut ready = Vec::new();
        for (id, recalled) in known {
            records.record(id, |record| record.derivation = Some(recalled.derivation.clone()));
            match recalled.present {
                true => records.end(id, Outcome::Present, None, None),
                false => ready.push((id.clone(), recalled.derivation.clone())),
            }
        }
        // Where everything is there already, nobody needs to know what this machine could build.
        if ready.is_empty() && known.len() == jobs.len() {
            return Ok(());
        }
        self.realise_all(jobs, ready, recall, records)
    }

    fn realise_all(
        &self,
        jobs: &[Job],
        ready: Vec<(JobId, Derivation)>,
        recall: &Recall<'_>,
        records: &Records<'_>,
    ) -> Result<()> {
        let realisers = REALISERS.min(jobs.len());
        let chosen: OnceLock<Result<Builders<'_>>> = OnceLock::new();
        let realise = |batch: Vec<(JobId, Derivation)>, last: bool| {
            // The error itself is told below.
            let Ok(builders) = chosen.wait() else { return Ok(()) };
            self.options.roots.as_deref().map_or(Ok(()), results::make_roots)?;
            let share = if last { 1 } else { realisers };
            records.realise(&batch, builders, &|build| {
                build.max_jobs = build.max_jobs.or_else(|| u32::try_from(cores().div_ceil(share)).ok());
                build.out_link = self.options.roots.as_deref().map(results::new_root);
            })
        };
        thread::scope(|scope| {
            // Builders that have to be asked answer while hosts are evaluated.
            scope.spawn(|| {
                let choose = || Builders::ask(self, jobs);
                let _ = chosen.set(self.timings.step("ask who can build", choose));
            });
            Stages { run: self, recall, records, realise: &realise }.pass(jobs, realisers, ready)
        })?;
        chosen.into_inner().map_or(Ok(()), |chosen| chosen.map(drop))
    }
}

/// What is done with derivations: with a batch of them, and whether it is the last.
pub type Realise<'r> = dyn Fn(Vec<(JobId, Derivation)>, bool) -> Result<()> + Sync + 'r;

/// What the jobs of one run pass through.
struct Stages<'r> {
    run: &'r Run<'r>,
    recall: &'r Recall<'r>,
    records: &'r Records<'r>,
    realise: &'r Realise<'r>,
}

impl Stages<'_> {
    /// Evaluates the jobs that are not known, and hands derivations on while others are evaluated, those that are ready
    /// first.
    fn pass(&self, jobs: &[Job], realisers: usize, ready: Vec<(JobId, Derivation)>) -> Result<()> {
        let Self { run, recall, records, realise } = self;
        let groups = by_host(jobs.iter().filter(|job| !recall.known().contains_key(&job.id)));
        if groups.is_empty() && ready.is_empty() {
            return Ok(());
        }
        let budget = eval::memory_budget();
        let most = run.options.evaluators.unwrap_or_else(|| eval::workers(cores(), budget));
        let width = Width { evaluators: most.min(groups.len()), realisers };
        let sources = Sources {
            version: run.nix.version,
            source: run.flake(),
            root: &run.fleet.root,
            pinned: recall.pinned(),
            at_true_path: &recall.at_true_path,
        };
        let limits = |share: usize| Limits { memory: budget / share.max(1) as u64, time: run.options.eval_timeout };
        let evaluate = |next: &dyn Fn() -> Option<Vec<Job>>, hand_on: &(dyn Fn((JobId, Derivation)) + Sync)| {
            let mut clock = Clock::new(&run.timings);
            let mut on_reply = |reply| {
                clock.take(&reply);
                records.take(reply).into_iter().for_each(hand_on);
            };
            eval::evaluate(sources, limits(width.evaluators), run.cancel, next, &mut on_reply)
        };
        let once_all_are = || {
            if !records.has_outgrown() {
                recall.learn(|| records.evaluated());
            }
        };
        schedule::pipeline(width, ready, groups, evaluate, once_all_are, realise)?;
        records.try_alone(sources, limits(1), realise)
    }
}

/// A host's jobs are a group, because its medium holds its system; hosts of one system share one nixpkgs. The system
/// comes before the medium: what the medium alone reads is then no part of what the system reads.
fn by_host<'a>(jobs: impl Iterator<Item = &'a Job>) -> Vec<(String, Vec<Job>)> {
    let mut groups: BTreeMap<_, Vec<Job>> = BTreeMap::new();
    for job in jobs {
        groups.entry((job.system.to_string(), job.id.host.clone())).or_default().push(job.clone());
    }
    let order = |job: &Job| job.id.target != Target::Artifact(Artifact::System);
    groups.values_mut().for_each(|jobs| jobs.sort_by_key(order));
    groups.into_iter().map(|((system, _), jobs)| (system, jobs)).collect()
}
