//! Looks up what earlier runs remember of a run's jobs, and remembers what this one evaluates.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Once,
};

use anyhow::Result;

use super::Run;
use crate::{
    job::{Job, JobId},
    memory::{Evaluated, Memory, Recalled},
    nix::Pinned,
    progress::Event,
};

/// What earlier runs save this one.
pub struct Recall<'r> {
    run: &'r Run<'r>,
    memory: Option<Memory>,
    recalled: BTreeMap<JobId, Recalled>,
    /// Jobs that it does not pay to evaluate on a copy of the source, because its path was part of their results.
    pub at_true_path: BTreeSet<JobId>,
    learnt: Once,
}

impl<'r> Recall<'r> {
    /// Looks the jobs up. Errors: the store cannot be asked.
    pub fn look_up(run: &'r Run<'r>, jobs: &[Job]) -> Result<Self> {
        let mut recall =
            Self { run, memory: None, recalled: BTreeMap::new(), at_true_path: BTreeSet::new(), learnt: Once::new() };
        if !run.options.remember {
            return Ok(recall);
        }
        let memory = match Memory::open(&run.nix, run.fleet.subject(run.options.allow_ifd), run.cancel) {
            Ok(memory) => memory,
            Err(reason) => {
                recall.note(format!("everything is evaluated and nothing remembered: {reason}"));
                return Ok(recall);
            }
        };
        memory.warning.iter().for_each(|text| recall.note(format!("warning: {text}")));
        recall.recalled = memory.recall(jobs, run.cancel)?;
        let held_path = |id: &JobId| !recall.recalled.contains_key(id) && memory.held_path(id);
        recall.at_true_path = jobs.iter().map(|job| &job.id).filter(|id| held_path(id)).cloned().collect();
        recall.memory = Some(memory);
        Ok(recall)
    }

    /// The jobs that need no evaluation.
    pub fn known(&self) -> &BTreeMap<JobId, Recalled> {
        &self.recalled
    }

    /// The source to evaluate; none if Nix is to read the flake by itself.
    pub fn pinned(&self) -> Option<&Pinned> {
        self.memory.as_ref().map(Memory::pinned)
    }

    /// Remembers what was evaluated, once: when all of it is, while building goes on, else at the end of the run. A fleet
    /// of which nothing had to be evaluated is remembered as it is now. That nothing could be remembered is told but no
    /// failure.
    pub fn learn(&self, evaluated: impl FnOnce() -> Evaluated) {
        let Some(memory) = &self.memory else { return };
        let save = || memory.learn(&evaluated(), &self.recalled);
        self.learnt.call_once(|| {
            if let Err(error) = self.run.timings.time("remember", save) {
                self.note(format!("warning: nothing is remembered: {error:#}"));
            }
        });
    }

    fn note(&self, text: String) {
        self.run.progress.tell(Event::Note(text));
    }
}
