//! Jobs in, their records out: evaluation and realisation side by side, for every verb that builds.

mod board;
mod clock;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
    thread,
    time::Duration,
};

use anyhow::Result;
use camino::Utf8PathBuf;

use self::{board::Board, clock::Clock};
use crate::{
    eval::{self, Limits, Sources},
    fleet::{self, Fleet},
    job::{Artifact, Derivation, Failure, Job, JobId, Outcome, Target},
    memory::{Evaluated, Recalled},
    nix::{
        Builder, Nix, Pinned,
        argv::{BuildOptions, Source},
        remote,
    },
    process::Cancel,
    progress::{Event, Progress},
    record::{JobRecord, StageSeconds},
    results,
    schedule::{self, Width},
    timings::Timings,
};

/// How the stages are run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Evaluator processes at once; as many as cores and free memory allow if `None`.
    pub evaluators: Option<usize>,
    /// Wall-clock time of one job's evaluation.
    pub eval_timeout: Duration,
    pub allow_ifd: bool,
    pub build: BuildOptions,
    /// The folder for links that keep alive what is built; the collector is free to take it if there is none.
    pub roots: Option<Utf8PathBuf>,
    pub timings: Timings,
}

/// Nix processes that realise at once. More than one, because a batch that waits for one long build must
/// not keep later derivations waiting; few, because each also counts its own `--max-jobs`.
const REALISERS: usize = 3;

/// Receives what a run evaluated.
pub trait Learn: Sync {
    /// Called once when all of it is evaluated, while building goes on.
    fn learn(&self, evaluated: Evaluated);
}

/// Forgets it.
impl Learn for () {
    fn learn(&self, _: Evaluated) {}
}

/// What earlier runs found out, and what is told what this one does.
pub struct Past<'a> {
    /// Jobs that need no evaluation.
    pub known: BTreeMap<JobId, Recalled>,
    /// The source to evaluate, where Nix does not read the flake by itself.
    pub pinned: Option<&'a Pinned>,
    pub learner: &'a dyn Learn,
}

impl Past<'_> {
    /// Everything is evaluated, and nothing remembered.
    pub fn none() -> Self {
        Self { known: BTreeMap::new(), pinned: None, learner: &() }
    }
}

/// Evaluates the jobs that are not known and realises all of them, on the remote builders that live.
pub fn produce(
    nix: &Nix,
    fleet: &Fleet,
    jobs: &[Job],
    Past { known, pinned, learner }: &Past<'_>,
    options: &Options,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<(Vec<JobRecord>, StageSeconds)> {
    let board = Board::new(jobs, progress, &options.timings);
    for (id, recalled) in known {
        board.record(id, |record| record.derivation = Some(recalled.derivation.clone()));
        if recalled.present {
            board.end(id, Outcome::Present, None, None);
        }
    }
    let ready = known
        .iter()
        .filter(|(_, recalled)| !recalled.present)
        .map(|(id, recalled)| (id.clone(), recalled.derivation.clone()))
        .collect::<Vec<_>>();
    let unknown: Vec<&Job> = jobs.iter().filter(|job| !known.contains_key(&job.id)).collect();
    // Where everything is there already, nobody needs to know what this machine could build.
    if ready.is_empty() && unknown.is_empty() {
        return Ok(board.finish());
    }
    let realisers = REALISERS.min(jobs.len());
    let chosen: OnceLock<Result<BuildOptions>> = OnceLock::new();
    let realise = |batch: Vec<(JobId, Derivation)>, last: bool| {
        // The error itself is told by whoever asked.
        let Ok(build) = chosen.wait() else { return Ok(()) };
        options.roots.as_deref().map_or(Ok(()), results::make_roots)?;
        let share = if last { 1 } else { realisers };
        let mut build = build.clone();
        build.max_jobs = build.max_jobs.or_else(|| u32::try_from(cores().div_ceil(share)).ok());
        build.out_link = options.roots.as_deref().map(results::new_root);
        board.realise(nix, &batch, &build, cancel)
    };
    thread::scope(|scope| {
        // Builders that have to be asked answer while hosts are evaluated.
        scope.spawn(|| {
            let choose = || choose_builders(nix, jobs, &options.build, progress, cancel);
            let _ = chosen.set(options.timings.step("ask who can build", choose));
        });
        let evaluated = || learner.learn(board.evaluated());
        let jobs = unknown.iter().copied();
        run_stages(nix, fleet, jobs, *pinned, options, &board, realisers, ready, &evaluated, &realise, cancel)
    })?;
    if let Some(Err(error)) = chosen.into_inner() {
        return Err(error);
    }
    Ok(board.finish())
}

/// Evaluates the jobs and builds nothing.
pub fn evaluate_only(
    nix: &Nix,
    fleet: &Fleet,
    jobs: &[Job],
    Past { pinned, learner, .. }: &Past<'_>,
    options: &Options,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<(BTreeMap<JobId, Derivation>, BTreeMap<JobId, Failure>)> {
    let board = Board::new(jobs, progress, &options.timings);
    let evaluated = || learner.learn(board.evaluated());
    let nothing = |_, _| Ok(());
    run_stages(nix, fleet, jobs.iter(), *pinned, options, &board, 1, vec![], &evaluated, &nothing, cancel)?;
    let mut failures = BTreeMap::new();
    let mut derivations = BTreeMap::new();
    for record in board.finish().0 {
        match (record.outcome, record.derivation) {
            (Outcome::Failed(failure), _) => drop(failures.insert(record.job, failure)),
            (_, Some(derivation)) => drop(derivations.insert(record.job, derivation)),
            // Interrupted: neither a derivation nor a failure.
            _ => {}
        }
    }
    Ok((derivations, failures))
}

#[expect(clippy::too_many_arguments, reason = "the one place where everything that the stages need comes together")]
fn run_stages<'j>(
    nix: &Nix,
    fleet: &Fleet,
    jobs: impl Iterator<Item = &'j Job>,
    pinned: Option<&Pinned>,
    options: &Options,
    board: &Board<'_>,
    realisers: usize,
    ready: Vec<(JobId, Derivation)>,
    evaluated: &(dyn Fn() + Sync),
    realise: &(dyn Fn(Vec<(JobId, Derivation)>, bool) -> Result<()> + Sync),
    cancel: &Cancel,
) -> Result<()> {
    let budget = eval::memory_budget();
    let most = options.evaluators.unwrap_or_else(|| eval::workers(cores(), budget));
    let groups = by_host(jobs);
    if !groups.is_empty() {
        fleet::slow_inputs(fleet).into_iter().for_each(|text| board.progress.tell(Event::Note(text)));
    }
    let width = Width { evaluators: most.min(groups.len()), realisers };
    let sources = Sources { version: nix.version, source: source(fleet, options), root: &fleet.root, pinned };
    let limits = |share: usize| Limits { memory: budget / share.max(1) as u64, time: options.eval_timeout };
    let evaluate = |next: &dyn Fn() -> Option<Vec<Job>>, hand_on: &(dyn Fn((JobId, Derivation)) + Sync)| {
        let mut clock = Clock::new(board.timings);
        let mut on_reply = |reply| {
            clock.take(&reply);
            board.take(reply).into_iter().for_each(hand_on);
        };
        eval::evaluate(sources, limits(width.evaluators), cancel, next, &mut on_reply)
    };
    let once_all_are = || {
        if !board.has_outgrown() {
            evaluated();
        }
    };
    schedule::pipeline(width, ready, groups, evaluate, once_all_are, realise)?;
    if board.try_alone(sources, limits(1), realise, cancel)? {
        evaluated();
    }
    Ok(())
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Asks the remote builders whether they live, has Nix use only those, and says who builds for the systems
/// that are not this machine's own, before anybody waits for them.
pub fn choose_builders(
    nix: &Nix,
    jobs: &[Job],
    asked: &BuildOptions,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<BuildOptions> {
    let mut build = asked.clone();
    let settings = nix.settings(cancel)?;
    let lines = build.builders.as_deref().map_or_else(|| settings.builders(), remote::lines);
    let probes = remote::probe(nix.version, &lines, cancel);
    let live: Vec<String> =
        probes.iter().filter(|probe| probe.answer.is_ok()).map(|probe| probe.line.clone()).collect();
    for probe in &probes {
        if let Err(why) = &probe.answer {
            let text = format!("warning: builder {} is left out: {why}\n  try: `cargo xtask doctor`", probe.uri);
            progress.tell(Event::Note(text));
        }
    }
    if live.len() < probes.len() {
        build.builders = Some(live.join(" ; "));
    }
    let systems: BTreeSet<&str> = jobs.iter().map(|job| job.system.as_str()).collect();
    for system in systems {
        let text = match settings.builder_of(system, &live) {
            Builder::Native => continue,
            Builder::Remote => format!("{system}: built by remote builders"),
            Builder::Emulated => {
                format!("{system}: builders run emulated here (binfmt), 8 to 15 times slower than native ones")
            }
            Builder::Nobody(why) => format!("warning: {why}"),
        };
        progress.tell(Event::Note(text));
    }
    Ok(build)
}

/// A fleet as Nix is to read it.
pub fn source<'a>(fleet: &'a Fleet, options: &Options) -> Source<'a> {
    Source { flake: &fleet.flake_ref, overrides: &fleet.overrides, allow_ifd: options.allow_ifd }
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
