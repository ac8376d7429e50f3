//! Evaluates jobs to derivations, each reported the moment it exists: an evaluator takes host after host for as
//! long as its memory allows, and a host that fails costs only itself.

mod evaluator;
mod failure;
mod path_text;
mod recorded;
mod watch;

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use anyhow::Result;
use camino::Utf8Path;

use self::{
    evaluator::{Answer, Evaluator},
    failure::Explainer,
    recorded::{Recorded, Recorder},
};
use crate::{
    job::{Derivation, Failure, HostName, Job, JobId, Reads},
    nix::{Nix, Pinned, Version, argv::Source},
    process::{Cancel, End},
};

pub use failure::outgrown;

/// What one evaluator may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Resident bytes of the evaluator process.
    pub memory: u64,
    /// Wall-clock time of a single job.
    pub time: Duration,
}

impl Limits {
    /// Resident bytes above which an evaluator is given no further host but replaced. It saves the next host
    /// a third of its time that it shares its predecessor's nixpkgs, and costs 0.5 GB each that the
    /// predecessors stay in memory: two or three hosts are where little more is to be gained.
    fn full(self) -> u64 {
        const ROOMY: u64 = 1700 << 20;
        (self.memory / 2).min(ROOMY)
    }

    /// Resident bytes above which not even another job of the same host is added: the next one would probably
    /// be stopped for its memory, and its work be lost.
    fn brimful(self) -> u64 {
        self.memory / 4 * 3
    }
}

/// What an evaluator says while it works.
#[derive(Debug)]
pub enum Reply {
    /// An evaluator process was started for the job that began.
    Started,
    /// The evaluator has read the flake and is at the job.
    Loaded,
    /// The evaluator process is ended; the most resident bytes it was seen with.
    Stopped(u64),
    Began(JobId),
    Done(JobId, Derivation, Reads, Duration),
    Failed(JobId, Failure, Duration),
    /// The job outgrew an evaluator's share of memory although it was alone in it.
    Outgrew(Job, u64),
    /// A warning or a trace of the fleet's own.
    Note(String),
}

/// The fleet's sources, to evaluate them and to find the place of an error in them.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    pub version: Version,
    pub source: Source<'a>,
    /// The folder that relative names in messages start from: the git work tree or the flake's folder.
    pub root: &'a Utf8Path,
    /// The source in the store that is evaluated; where there is none, Nix reads the flake by itself.
    pub pinned: Option<&'a Pinned>,
    /// Jobs that are not evaluated on a copy of the source.
    pub at_true_path: &'a BTreeSet<JobId>,
}

/// Memory for evaluators: four fifths of what the machine has free now, in bytes.
pub fn memory_budget() -> u64 {
    const FALLBACK: u64 = 2 << 30;
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map_or(FALLBACK, |kib| kib * 1024 / 5 * 4)
}

/// How many evaluators run at once: no more than cores, and than fit into memory when each needs what one NixOS
/// host with its ISO takes (1.3 GB, measured).
pub fn workers(cores: usize, budget: u64) -> usize {
    const HOST: u64 = 1_300_000_000;
    let fitting = usize::try_from(budget / HOST).unwrap_or(usize::MAX);
    cores.min(fitting).max(1)
}

/// A finished evaluator, and the copies of the source that were made. Killing it takes the kernel 0.1 s for each GB, and
/// Nix needs as long to delete the copies, so this is dropped off the critical path.
pub struct Leftover<'a> {
    evaluator: Option<Evaluator>,
    copies: Vec<String>,
    cancel: &'a Cancel,
}

impl Drop for Leftover<'_> {
    fn drop(&mut self) {
        // As long as it lives, the copies are in use.
        drop(self.evaluator.take());
        Nix::delete(&self.copies, self.cancel);
    }
}

/// Evaluates group after group of jobs as `next` gives them; the jobs of a group share an evaluator. Whatever
/// fails is reported for its own job. An error means that Nix could not be started at all.
pub fn evaluate<'a>(
    sources: Sources<'a>,
    limits: Limits,
    cancel: &'a Cancel,
    next: &dyn Fn() -> Option<Vec<Job>>,
    on_reply: &mut dyn FnMut(Reply),
) -> Result<Leftover<'a>> {
    let explainer = Explainer { sources, cancel, prefixes: None };
    let mut seat = Seat { sources, limits, cancel, running: None, copies: Vec::new(), explainer, unreadable: None };
    while let Some(jobs) = next() {
        seat.dismiss_above(limits.full(), on_reply);
        for job in jobs {
            if cancel.is_set() {
                break;
            }
            seat.dismiss_above(limits.brimful(), on_reply);
            seat.settle(job, on_reply)?;
        }
    }
    let evaluator = seat.leave(on_reply);
    Ok(Leftover { evaluator, copies: seat.copies, cancel })
}

/// An evaluator, and what records what it reads.
struct Running {
    evaluator: Evaluator,
    recorder: Option<Recorder>,
    settled: usize,
}

impl Running {
    fn start(
        sources: Sources<'_>,
        first: &HostName,
        limits: Limits,
        cancel: &Cancel,
        on_reply: &mut dyn FnMut(Reply),
    ) -> Result<Self> {
        if let Some(pinned) = sources.pinned {
            let mut evaluator = Evaluator::start(sources, true, limits, cancel)?;
            let record = !sources.source.allow_ifd;
            let recorder = Recorder::begin(&mut evaluator, pinned, first, record, on_reply);
            if recorder.is_some() {
                return Ok(Self { evaluator, recorder, settled: 0 });
            }
        }
        let evaluator = Evaluator::start(sources, false, limits, cancel)?;
        Ok(Self { evaluator, recorder: None, settled: 0 })
    }

    fn ask(&mut self, id: &JobId, at_true_path: bool, on_reply: &mut dyn FnMut(Reply)) -> Recorded {
        self.settled += 1;
        match &mut self.recorder {
            Some(recorder) if at_true_path => recorder.ask_at_true_path(&mut self.evaluator, id, on_reply),
            Some(recorder) => recorder.ask(&mut self.evaluator, id, on_reply),
            None => Recorded { answer: self.evaluator.ask("hydraJobs", id, on_reply), reads: Reads::Unknown },
        }
    }
}

/// Where one evaluator at a time is asked for one job after another.
struct Seat<'a> {
    sources: Sources<'a>,
    limits: Limits,
    cancel: &'a Cancel,
    running: Option<Running>,
    /// What evaluators that are gone have left in the store.
    copies: Vec<String>,
    explainer: Explainer<'a>,
    /// Why no job can be evaluated: how the evaluator ended that could not load the flake, and its last words.
    unreadable: Option<(End, String)>,
}

impl Seat<'_> {
    /// Ends the evaluator if it has grown so much, so that its memory is free for the next.
    fn dismiss_above(&mut self, bytes: u64, on_reply: &mut dyn FnMut(Reply)) {
        if self.running.as_ref().is_some_and(|running| running.evaluator.resident() >= bytes) {
            drop(self.leave(on_reply));
        }
    }

    fn leave(&mut self, on_reply: &mut dyn FnMut(Reply)) -> Option<Evaluator> {
        let Running { evaluator, recorder, .. } = self.running.take()?;
        self.copies.extend(recorder.into_iter().flat_map(|recorder| recorder.copies));
        on_reply(Reply::Stopped(evaluator.peak()));
        Some(evaluator)
    }

    fn running(&mut self, first: &HostName, on_reply: &mut dyn FnMut(Reply)) -> Result<&mut Running> {
        Ok(match &mut self.running {
            Some(running) => running,
            none => {
                on_reply(Reply::Started);
                none.insert(Running::start(self.sources, first, self.limits, self.cancel, on_reply)?)
            }
        })
    }

    fn settle(&mut self, job: Job, on_reply: &mut dyn FnMut(Reply)) -> Result<()> {
        let began = Instant::now();
        if let Some((end, said)) = &self.unreadable {
            let failure = self.explainer.ended(&job.id, *end, said);
            on_reply(Reply::Failed(job.id, failure, began.elapsed()));
            return Ok(());
        }
        on_reply(Reply::Began(job.id.clone()));
        loop {
            let at_true_path = self.sources.at_true_path.contains(&job.id);
            let running = self.running(&job.id.host, on_reply)?;
            let Recorded { answer, reads } = running.ask(&job.id, at_true_path, on_reply);
            let alone = running.settled == 1;
            let failure = match answer {
                Answer::Done(derivation) => {
                    on_reply(Reply::Done(job.id, derivation, reads, began.elapsed()));
                    return Ok(());
                }
                Answer::Threw(said) => self.explainer.threw(&job.id, &said),
                Answer::Missing | Answer::Made(_) => self.explainer.missing(&job.id),
                Answer::Malformed(why) => self.explainer.malformed(&job.id, &why),
                Answer::Ended(end, said) => {
                    drop(self.leave(on_reply));
                    match end {
                        End::Cancelled => return Ok(()),
                        // What was evaluated before took the memory: the job deserves an evaluator of its own.
                        End::OutOfMemory(_) if !alone => continue,
                        End::OutOfMemory(bytes) => {
                            on_reply(Reply::Outgrew(job, bytes));
                            return Ok(());
                        }
                        _ => {}
                    }
                    let failure = self.explainer.ended(&job.id, end, &said);
                    // Errors in a job do not end the process: the flake itself could not be loaded.
                    self.unreadable = (alone && matches!(end, End::Exited(_))).then_some((end, said));
                    failure
                }
            };
            on_reply(Reply::Failed(job.id, failure, began.elapsed()));
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_fit_cores_and_memory() {
        let gb = 1_000_000_000;
        let rows = [((2, 20 * gb), 2), ((16, 3 * gb), 2), ((16, 100 * gb), 16), ((4, 0), 1)];
        for ((cores, budget), expected) in rows {
            assert_eq!(workers(cores, budget), expected);
        }
    }
}
