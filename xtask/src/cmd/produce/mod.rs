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
    cache::Recalled,
    eval::{self, Group, Limits, Sources},
    flags::StageFlags,
    fleet::{self, Fleet},
    job::{Derivation, Failure, Job, JobId, Outcome},
    nix::{
        Builder, Nix,
        argv::{BuildOptions, Source},
        remote,
    },
    process::Cancel,
    progress::{Event, Progress},
    report::record::{JobRecord, StageSeconds},
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
    /// Whether each job is evaluated by one evaluator, though others have nothing to do.
    pub whole: bool,
    pub build: BuildOptions,
    /// The folder for links that keep alive what is built; the collector is free to take it if there is none.
    pub roots: Option<Utf8PathBuf>,
    pub timings: Timings,
}

impl Options {
    pub fn from_flags(flags: &StageFlags) -> Self {
        Self {
            evaluators: flags.eval_jobs.map(usize::from),
            eval_timeout: Duration::from_secs(flags.eval_timeout),
            allow_ifd: flags.allow_import_from_derivation,
            whole: false,
            build: BuildOptions {
                max_jobs: flags.max_jobs,
                timeout: flags.timeout,
                max_silent_time: flags.max_silent_time,
                builders: flags.builders.clone(),
                ..BuildOptions::default()
            },
            roots: None,
            timings: Timings::default(),
        }
    }
}

/// Nix processes that realise at once. More than one, because a batch that waits for one long build must
/// not keep later derivations waiting; few, because each also counts its own `--max-jobs`.
const REALISERS: usize = 3;

/// Who wants to know what a run evaluates.
pub trait Learn: Sync {
    /// What can be done before anything is evaluated. It is called while hosts are evaluated, when nothing else of our
    /// own is left to do: processes of Nix that start side by side are in each other's way.
    fn prepare(&self);

    /// Is told what was evaluated once all of it is, while building goes on.
    fn learn(&self, evaluated: BTreeMap<JobId, Derivation>);
}

/// Nobody.
impl Learn for () {
    fn prepare(&self) {}

    fn learn(&self, _: BTreeMap<JobId, Derivation>) {}
}

/// What earlier runs found out, and who wants to know what this one does.
pub struct Memory<'a> {
    /// Jobs that need no evaluation.
    pub known: BTreeMap<JobId, Recalled>,
    pub learner: &'a dyn Learn,
}

impl Memory<'_> {
    /// Everything is evaluated, and nobody wants to know.
    pub fn none() -> Self {
        Self { known: BTreeMap::new(), learner: &() }
    }
}

/// Evaluates the jobs that are not known and realises all of them, on the remote builders that live.
pub fn produce(
    nix: &Nix,
    fleet: &Fleet,
    jobs: &[Job],
    Memory { known, learner }: &Memory<'_>,
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
            if !unknown.is_empty() {
                learner.prepare();
            }
        });
        let evaluated = || learner.learn(board.evaluated());
        run_stages(nix, fleet, unknown.iter().copied(), options, &board, realisers, ready, &evaluated, &realise, cancel)
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
    learner: &dyn Learn,
    options: &Options,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<(BTreeMap<JobId, Derivation>, BTreeMap<JobId, Failure>)> {
    let board = Board::new(jobs, progress, &options.timings);
    let evaluated = || learner.learn(board.evaluated());
    thread::scope(|scope| {
        scope.spawn(|| learner.prepare());
        run_stages(nix, fleet, jobs.iter(), options, &board, 1, vec![], &evaluated, &|_, _| Ok(()), cancel)
    })?;
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
    let hosts = by_host(jobs);
    let groups = match options.whole {
        true => hosts.into_iter().map(|(system, jobs)| (system, Group::Whole(jobs))).collect(),
        false => for_all(most, hosts),
    };
    if !groups.is_empty() {
        fleet::slow_inputs(fleet).into_iter().for_each(|text| board.progress.tell(Event::Note(text)));
    }
    let width = Width { evaluators: most.min(groups.len()), realisers };
    let sources = Sources { version: nix.version, source: source(fleet, options), root: &fleet.root };
    let limits = |share: usize| Limits { memory: budget / share.max(1) as u64, time: options.eval_timeout };
    let evaluate = |next: &dyn Fn() -> Option<Group>, hand_on: &(dyn Fn((JobId, Derivation)) + Sync)| {
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

/// A host's jobs are a group, because its medium holds its system; hosts of one system share one nixpkgs.
fn by_host<'a>(jobs: impl Iterator<Item = &'a Job>) -> Vec<(String, Vec<Job>)> {
    let mut groups: BTreeMap<_, Vec<Job>> = BTreeMap::new();
    for job in jobs {
        groups.entry((job.system.to_string(), job.id.host.clone())).or_default().push(job.clone());
    }
    groups.into_iter().map(|((system, _), jobs)| (system, jobs)).collect()
}

/// Groups for as many evaluators. Where there are fewer hosts, media are evaluated apart from their systems.
fn for_all(evaluators: usize, hosts: Vec<(String, Vec<Job>)>) -> Vec<(String, Group)> {
    let mut spare = evaluators.saturating_sub(hosts.len());
    let mut groups = Vec::new();
    for (system, jobs) in hosts {
        match Group::apart(&jobs).filter(|_| spare > 0) {
            Some(halves) => {
                spare -= 1;
                groups.extend(halves.map(|half| (system.clone(), half)));
            }
            None => groups.push((system, Group::Whole(jobs))),
        }
    }
    groups
}
