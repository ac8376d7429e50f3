//! Jobs in, their records out: evaluation and realisation side by side, for every verb that builds.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::timings::Clock;
use crate::{
    cache::Recalled,
    eval::{self, Limits, Reply, Sources},
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
    realise,
    report::record::{JobRecord, StageSeconds},
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
    pub timings: Timings,
}

impl Options {
    pub fn from_flags(flags: &StageFlags) -> Self {
        Self {
            evaluators: flags.eval_jobs.map(usize::from),
            eval_timeout: Duration::from_secs(flags.eval_timeout),
            allow_ifd: flags.allow_import_from_derivation,
            build: BuildOptions {
                max_jobs: flags.max_jobs,
                timeout: flags.timeout,
                max_silent_time: flags.max_silent_time,
                builders: flags.builders.clone(),
                rebuild: false,
            },
            timings: Timings::default(),
        }
    }
}

/// Nix processes that realise at once. More than one, because a batch that waits for one long build must
/// not keep later derivations waiting; few, because each also counts its own `--max-jobs`.
const REALISERS: usize = 3;

/// What is known of each job while the stages run.
struct Board<'a> {
    progress: &'a Progress,
    timings: &'a Timings,
    started: Instant,
    state: Mutex<State>,
}

struct State {
    records: BTreeMap<JobId, JobRecord>,
    outgrew: Vec<(Job, u64)>,
    seconds: StageSeconds,
}

/// Evaluates the jobs that are not in `known` and realises all of them, on the remote builders that live.
pub fn produce(
    nix: &Nix,
    fleet: &Fleet,
    jobs: &[Job],
    known: &BTreeMap<JobId, Recalled>,
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
    let chosen = OnceLock::new();
    let realise = |batch: Vec<(JobId, Derivation)>, last: bool| {
        let mut build: BuildOptions = match chosen.wait() {
            Ok(build) => BuildOptions::clone(build),
            // The error itself is told by whoever asked.
            Err(_) => return Ok(()),
        };
        let share = if last { 1 } else { realisers };
        build.max_jobs = build.max_jobs.or_else(|| u32::try_from(cores().div_ceil(share)).ok());
        board.realise(&batch, &build, cancel)
    };
    thread::scope(|scope| {
        // Builders that have to be asked answer while hosts are evaluated.
        scope.spawn(|| {
            let choose = || choose_builders(nix, jobs, &options.build, progress, cancel);
            chosen.set(options.timings.step("ask who can build", choose))
        });
        run_stages(nix, fleet, unknown.into_iter(), options, &board, realisers, ready, &realise, cancel)
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
    options: &Options,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<(BTreeMap<JobId, Derivation>, BTreeMap<JobId, Failure>)> {
    let board = Board::new(jobs, progress, &options.timings);
    run_stages(nix, fleet, jobs.iter(), options, &board, 1, vec![], &|_, _| Ok(()), cancel)?;
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
    realise: &(dyn Fn(Vec<(JobId, Derivation)>, bool) -> Result<()> + Sync),
    cancel: &Cancel,
) -> Result<()> {
    let groups = by_host(jobs);
    if !groups.is_empty() {
        fleet::slow_inputs(fleet).into_iter().for_each(|text| board.progress.tell(Event::Note(text)));
    }
    let budget = eval::memory_budget();
    let evaluators = options.evaluators.unwrap_or_else(|| eval::workers(cores(), budget, groups.len()));
    let width = Width { evaluators: evaluators.min(groups.len()), realisers };
    let sources = Sources { version: nix.version, source: source(fleet, options), root: &fleet.root };
    let limits = |share: usize| Limits { memory: budget / share.max(1) as u64, time: options.eval_timeout };
    let evaluate = |next: &dyn Fn() -> Option<Vec<Job>>, hand_on: &(dyn Fn((JobId, Derivation)) + Sync)| {
        let mut clock = Clock::new(board.timings);
        let mut on_reply = |reply| {
            clock.take(&reply);
            board.take(reply).into_iter().for_each(hand_on);
        };
        eval::evaluate(sources, limits(width.evaluators), cancel, next, &mut on_reply)
    };
    schedule::pipeline(width, ready, groups, evaluate, realise)?;
    board.try_alone(sources, limits(1), realise, cancel)
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

impl<'a> Board<'a> {
    fn new(jobs: &[Job], progress: &'a Progress, timings: &'a Timings) -> Self {
        let blank = |job: &Job| JobRecord::new(job, Outcome::NotRun { reason: "interrupted".into() });
        let records = jobs.iter().map(|job| (job.id.clone(), blank(job))).collect();
        let state = State { records, outgrew: vec![], seconds: StageSeconds::default() };
        Self { progress, timings, started: Instant::now(), state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, id: &JobId, change: impl FnOnce(&mut JobRecord)) {
        if let Some(record) = self.lock().records.get_mut(id) {
            change(record);
        }
    }

    /// Takes what an evaluator says; what can be realised comes back.
    fn take(&self, reply: Reply) -> Option<(JobId, Derivation)> {
        match reply {
            Reply::Began(id) => self.progress.tell(Event::Began(id, "evaluate")),
            Reply::Done(id, derivation, took) => {
                self.record(&id, |record| {
                    record.derivation = Some(derivation.clone());
                    record.evaluate_seconds = Some(took.as_secs_f64());
                });
                self.lock().seconds.evaluate = self.started.elapsed().as_secs_f64();
                self.progress.tell(Event::Done(id.clone(), "evaluated", took));
                self.progress.tell(Event::Began(id.clone(), "build"));
                return Some((id, derivation));
            }
            Reply::Failed(id, failure, took) => {
                self.lock().seconds.evaluate = self.started.elapsed().as_secs_f64();
                self.record(&id, |record| record.evaluate_seconds = Some(took.as_secs_f64()));
                self.end(&id, Outcome::Failed(failure), None, None);
            }
            Reply::Outgrew(job, bytes) => {
                let text =
                    format!("{}: outgrew its share of memory at {} MiB, will be tried alone", job.id, bytes >> 20);
                self.progress.tell(Event::Note(text));
                self.lock().outgrew.push((job, bytes));
            }
            Reply::Note(text) => self.progress.tell(Event::Note(text)),
            Reply::Started | Reply::Loaded | Reply::Stopped(_) => {}
        }
        None
    }

    fn end(&self, id: &JobId, outcome: Outcome, took: Option<f64>, machine: Option<String>) {
        self.record(id, |record| {
            record.outcome = outcome.clone();
            record.build_seconds = took;
            record.machine = machine;
        });
        self.progress.tell(Event::Ended(id.clone(), outcome));
    }

    fn realise(&self, batch: &[(JobId, Derivation)], options: &BuildOptions, cancel: &Cancel) -> Result<()> {
        let began = Instant::now();
        let shared = match batch.len() {
            1 => String::new(),
            n => format!(" (with {} more)", n - 1),
        };
        let mut on_activity = |activity: &realise::Activity| {
            let standing = format!(
                "builds {}/{}, downloads {}/{}{shared} {}",
                activity.builds.0,
                activity.builds.1,
                activity.fetches.0,
                activity.fetches.1,
                activity.current.join(" ")
            );
            for (id, _) in batch {
                self.progress.tell(Event::Standing(id.clone(), standing.clone()));
            }
        };
        let mut on_note = |text| self.progress.tell(Event::Note(text));
        for realised in realise::realise(batch, options, cancel, self.timings, &mut on_activity, &mut on_note)? {
            let took = (!matches!(realised.outcome, Outcome::Present)).then(|| began.elapsed().as_secs_f64());
            self.end(&realised.id, realised.outcome, took, realised.machine);
        }
        let mut state = self.lock();
        let first = state.seconds.build;
        state.seconds.build = first.max(began.elapsed().as_secs_f64());
        Ok(())
    }

    /// Gives jobs that outgrew their share the whole budget, one at a time, before they are called failed.
    fn try_alone(
        &self,
        sources: Sources<'_>,
        limits: Limits,
        realise: &dyn Fn(Vec<(JobId, Derivation)>, bool) -> Result<()>,
        cancel: &Cancel,
    ) -> Result<()> {
        let outgrew = std::mem::take(&mut self.lock().outgrew);
        for (job, _) in outgrew {
            let mut ready = Vec::new();
            let mut clock = Clock::new(self.timings);
            let mut on_reply = |reply| {
                clock.take(&reply);
                match reply {
                    Reply::Outgrew(job, bytes) => {
                        let failure = eval::outgrown(sources, &job.id, bytes, limits.memory);
                        self.end(&job.id, Outcome::Failed(failure), None, None);
                    }
                    reply => ready.extend(self.take(reply)),
                }
            };
            let job = RefCell::new(Some(vec![job]));
            eval::evaluate(sources, limits, cancel, &|| job.take(), &mut on_reply)?;
            if !ready.is_empty() {
                realise(ready, true)?;
            }
        }
        Ok(())
    }

    fn finish(self) -> (Vec<JobRecord>, StageSeconds) {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        (state.records.into_values().collect(), state.seconds)
    }
}
