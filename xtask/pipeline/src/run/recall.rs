//! Looks up what earlier runs remember of a run's jobs, and remembers what this one evaluates.

use std::{collections::BTreeMap, sync::OnceLock};

use anyhow::Result;

use super::Run;
use crate::{
    diagnostic::usage,
    job::{Job, JobId},
    memory::{self, Evaluated, Memory, Recalled},
    nix::Pinned,
    progress::Event,
};

/// What is done with what earlier runs remember.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Remembered {
    #[default]
    Used,
    /// Everything is evaluated, and nothing remembered.
    Ignored,
    /// Everything is evaluated and held against it.
    Verified,
}

/// What earlier runs save this one.
pub struct Recall<'r> {
    run: &'r Run<'r>,
    memory: Option<Memory>,
    recalled: BTreeMap<JobId, Recalled>,
    /// Whether what was evaluated turned out as remembered; set when it has been remembered.
    sound: OnceLock<bool>,
}

impl<'r> Recall<'r> {
    /// Looks the jobs up. Errors: an absent memory is to be verified; the store cannot be asked.
    pub fn look_up(run: &'r Run<'r>, jobs: &[Job]) -> Result<Self> {
        let mut recall = Self { run, memory: None, recalled: BTreeMap::new(), sound: OnceLock::new() };
        let remembered = run.options.remembered;
        if remembered == Remembered::Ignored {
            return Ok(recall);
        }
        let memory = match Memory::open(&run.nix, run.fleet.subject(run.options.allow_ifd), run.cancel) {
            Ok(memory) => memory,
            Err(reason) if remembered == Remembered::Verified => {
                return Err(usage(format!(
                    "--verify-cache: there is no cache to verify: {reason}\n  \
                     Leave the flag out, or see docs/caching.md for what can be remembered."
                )));
            }
            Err(reason) => {
                recall.note(format!("everything is evaluated and nothing remembered: {reason}"));
                return Ok(recall);
            }
        };
        memory.warning.iter().for_each(|text| recall.note(format!("warning: {text}")));
        recall.recalled = memory.recall(jobs, run.cancel)?;
        recall.memory = Some(memory);
        Ok(recall)
    }

    /// The jobs that need no evaluation; none while the memory is being verified.
    pub fn known(&self) -> BTreeMap<JobId, Recalled> {
        if self.verifies() { BTreeMap::new() } else { self.recalled.clone() }
    }

    /// The source to evaluate. While the memory is being verified Nix reads the flake by itself.
    pub fn pinned(&self) -> Option<&Pinned> {
        self.memory.as_ref().filter(|_| !self.verifies()).map(Memory::pinned)
    }

    /// Remembers what was evaluated: when all of it is, while building goes on, else at the end of the run. A fleet of
    /// which nothing had to be evaluated is remembered as it is now. That nothing could be remembered is told but no
    /// failure.
    pub fn learn(&self, evaluated: impl FnOnce() -> Evaluated) -> bool {
        *self.sound.get_or_init(|| self.run.timings.time("remember", || self.save(&evaluated())))
    }

    /// False if something remembered turned out to be wrong.
    fn save(&self, evaluated: &Evaluated) -> bool {
        let Some(memory) = &self.memory else { return true };
        let wrong = if self.verifies() { memory::wrong(&self.recalled, evaluated) } else { Vec::new() };
        for (id, remembered, fresh) in &wrong {
            self.note(format!(
                "error: {id}: the cache remembers {}, evaluation gives {}\n  \
                 `cargo xtask why {}` shows what the cache takes it to depend on; please report this",
                remembered.drv, fresh.drv, id.host
            ));
        }
        if self.verifies() && wrong.is_empty() {
            self.note(format!("the cache was right about {} of {} jobs", self.recalled.len(), evaluated.len()));
        }
        if let Err(error) = memory.learn(evaluated, &self.known()) {
            self.note(format!("warning: nothing is remembered: {error:#}"));
        }
        wrong.is_empty()
    }

    fn verifies(&self) -> bool {
        self.run.options.remembered == Remembered::Verified
    }

    fn note(&self, text: String) {
        self.run.progress.tell(Event::Note(text));
    }
}
