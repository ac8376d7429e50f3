//! The memory as the verbs use it: what need not be evaluated before the stages run, what is remembered after.

use std::{collections::BTreeMap, sync::OnceLock};

use anyhow::Result;

use crate::{
    diagnostic::{DONE, FAILED, INTERRUPTED, usage},
    fleet::Fleet,
    job::{Derivation, Failure, Job, JobId},
    memory::{self, Evaluated, Memory, Recalled},
    nix::{Nix, Pinned},
    process::Cancel,
    produce::{self, Learn, Options, Past},
    progress::{Event, Progress},
    record::{JobRecord, StageSeconds},
    timings::Timings,
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
pub struct Reuse {
    memory: Option<Memory>,
    recalled: BTreeMap<JobId, Recalled>,
    verify: bool,
}

impl Reuse {
    /// Looks the jobs up in what is remembered of the fleet. Errors: the flags want an absent memory verified; the
    /// store cannot be asked.
    pub fn look_up(
        remembered: Remembered,
        nix: &Nix,
        allow_ifd: bool,
        fleet: &Fleet,
        jobs: &[Job],
        progress: &Progress,
        cancel: &Cancel,
    ) -> Result<Self> {
        let mut reuse = Self { memory: None, recalled: BTreeMap::new(), verify: remembered == Remembered::Verified };
        if remembered == Remembered::Ignored {
            return Ok(reuse);
        }
        let memory = match Memory::open(nix, fleet.subject(allow_ifd), cancel) {
            Ok(memory) => memory,
            Err(reason) if remembered == Remembered::Verified => {
                return Err(usage(format!(
                    "--verify-cache: there is no cache to verify: {reason}\n  \
                     Leave the flag out, or see docs/caching.md for what can be remembered."
                )));
            }
            Err(reason) => {
                progress.tell(Event::Note(format!("everything is evaluated and nothing remembered: {reason}")));
                return Ok(reuse);
            }
        };
        memory.warning.iter().for_each(|text| progress.tell(Event::Note(format!("warning: {text}"))));
        reuse.recalled = memory.recall(jobs, cancel)?;
        reuse.memory = Some(memory);
        Ok(reuse)
    }

    /// The jobs that need no evaluation; none while the memory is being verified.
    pub fn known(&self) -> BTreeMap<JobId, Recalled> {
        if self.verify { BTreeMap::new() } else { self.recalled.clone() }
    }

    /// The source to evaluate. While the memory is being verified Nix reads the flake by itself.
    pub fn pinned(&self) -> Option<&Pinned> {
        self.memory.as_ref().filter(|_| !self.verify).map(Memory::pinned)
    }

    /// What the run finds out is to be remembered.
    pub fn saving<'a>(&'a self, timings: &'a Timings, progress: &'a Progress) -> Saving<'a> {
        let save = move |evaluated: Evaluated| timings.time("remember", || self.save(&evaluated, progress));
        Saving { save: Box::new(save), sound: OnceLock::new() }
    }

    /// False if `--verify-cache` found something remembered to be wrong. That nothing could be remembered is told but
    /// no failure.
    fn save(&self, evaluated: &Evaluated, progress: &Progress) -> bool {
        let Some(memory) = &self.memory else { return true };
        let wrong = if self.verify { memory::wrong(&self.recalled, evaluated) } else { Vec::new() };
        for (id, remembered, fresh) in &wrong {
            progress.tell(Event::Note(format!(
                "error: {id}: the cache remembers {}, evaluation gives {}\n  \
                 `cargo xtask why {}` shows what the cache takes it to depend on; please report this",
                remembered.drv, fresh.drv, id.host
            )));
        }
        if self.verify && wrong.is_empty() {
            let text = format!("the cache was right about {} of {} jobs", self.recalled.len(), evaluated.len());
            progress.tell(Event::Note(text));
        }
        if let Err(error) = memory.learn(evaluated, &self.known()) {
            progress.tell(Event::Note(format!("warning: nothing is remembered: {error:#}")));
        }
        wrong.is_empty()
    }
}

/// Remembers once what a run found out: when all is evaluated, else at its end.
pub struct Saving<'a> {
    save: Box<dyn Fn(Evaluated) -> bool + Sync + 'a>,
    sound: OnceLock<bool>,
}

impl Saving<'_> {
    /// Where nothing was evaluated, the fleet as it is now is remembered all the same. False if `--verify-cache` found
    /// something remembered to be wrong.
    pub fn finish(&self) -> bool {
        self.learn(Evaluated::new());
        self.sound.get().is_none_or(|&sound| sound)
    }
}

impl Learn for Saving<'_> {
    fn learn(&self, evaluated: Evaluated) {
        self.sound.get_or_init(|| (self.save)(evaluated));
    }
}

/// Produces the jobs with what earlier runs save, and remembers what this one evaluated.
pub fn produce(
    nix: &Nix,
    fleet: &Fleet,
    jobs: &[Job],
    options: &Options,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<(Vec<JobRecord>, StageSeconds)> {
    let reuse = Reuse::look_up(Remembered::Used, nix, options.allow_ifd, fleet, jobs, progress, cancel)?;
    let saving = reuse.saving(&options.timings, progress);
    let past = Past { known: reuse.known(), pinned: reuse.pinned(), learner: &saving };
    let produced = produce::produce(nix, fleet, jobs, &past, options, progress, cancel)?;
    saving.finish();
    Ok(produced)
}

/// What evaluation, or the memory of an earlier one, gives for the jobs of a run that builds nothing.
pub struct Derived {
    pub derivations: BTreeMap<JobId, Derivation>,
    pub failures: BTreeMap<JobId, Failure>,
    /// How many of the derivations an earlier run had remembered.
    pub remembered: usize,
    /// False if `--verify-cache` found something remembered to be wrong.
    pub sound: bool,
}

impl Derived {
    pub fn exit_code(&self, cancel: &Cancel) -> u8 {
        match (cancel.is_set(), self.failures.is_empty() && self.sound) {
            (true, _) => INTERRUPTED,
            (false, true) => DONE,
            (false, false) => FAILED,
        }
    }
}

/// Evaluates what is not remembered and remembers it. After an interrupt some jobs have neither a
/// derivation nor a failure.
pub fn derive(
    remembered: Remembered,
    nix: &Nix,
    fleet: &Fleet,
    jobs: &[Job],
    options: &Options,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Derived> {
    let look_up = || Reuse::look_up(remembered, nix, options.allow_ifd, fleet, jobs, progress, cancel);
    let reuse = options.timings.step("look up what is remembered", look_up)?;
    derive_with(reuse, nix, fleet, jobs, options, progress, cancel)
}

/// As [`derive`], with a cache in which the jobs were looked up before.
pub fn derive_with(
    reuse: Reuse,
    nix: &Nix,
    fleet: &Fleet,
    jobs: &[Job],
    options: &Options,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Derived> {
    let known = reuse.known();
    let unknown: Vec<Job> = jobs.iter().filter(|job| !known.contains_key(&job.id)).cloned().collect();
    let saving = reuse.saving(&options.timings, progress);
    let (mut derivations, failures) = match unknown.is_empty() {
        true => Default::default(),
        false => {
            let past = Past { pinned: reuse.pinned(), learner: &saving, ..Past::none() };
            produce::evaluate_only(nix, fleet, &unknown, &past, options, progress, cancel)?
        }
    };
    let sound = saving.finish();
    progress.finish();
    let remembered = known.len();
    derivations.extend(known.into_iter().map(|(id, recalled)| (id, recalled.derivation)));
    Ok(Derived { derivations, failures, remembered, sound })
}
