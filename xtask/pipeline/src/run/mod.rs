//! A run: a fleet and how it is worked on. Its jobs are evaluated, realised, tested and published from here.

mod builders;
mod clock;
mod recall;
mod records;
mod stages;

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use camino::Utf8PathBuf;

use crate::{
    fleet::{self, Fleet},
    nix::{
        Nix,
        argv::{BuildOptions, Source},
    },
    process::Cancel,
    progress::Progress,
    push::Cache,
    record::{FleetRecord, JobRecord, NotPushed, Record, StageSeconds, VERSION},
    timings::Timings,
};

pub use builders::Builders;
pub use stages::Derived;

/// How the jobs of a run are evaluated and realised.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether earlier runs save work, and this one later ones.
    pub remember: bool,
    /// Evaluator processes at once; as many as cores and free memory allow if `None`.
    pub evaluators: Option<usize>,
    /// Wall-clock time of one job's evaluation.
    pub eval_timeout: Duration,
    pub allow_ifd: bool,
    pub build: BuildOptions,
    /// Where finished outputs are pushed to.
    pub push: Option<Cache>,
    /// Whether the logs of builders and tests are shown as they come.
    pub logs: bool,
    /// The folder for links that keep alive what is built; the collector is free to take it if there is none.
    pub roots: Option<Utf8PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            remember: true,
            evaluators: None,
            eval_timeout: Duration::from_secs(1800),
            allow_ifd: false,
            build: BuildOptions::default(),
            push: None,
            logs: false,
            roots: None,
        }
    }
}

/// What a verb makes of its flags, once, and what every stage works with.
pub struct Run<'a> {
    pub nix: Nix,
    pub fleet: Fleet,
    pub options: Options,
    pub progress: Progress,
    pub timings: Timings,
    pub cancel: &'a Cancel,
    began: Instant,
    source: OnceLock<FleetRecord>,
    pub not_pushed: Mutex<Vec<NotPushed>>,
}

/// What a stage came to.
#[derive(Debug, Default)]
pub struct Finished {
    /// Sorted by job id.
    pub jobs: Vec<JobRecord>,
    pub seconds: StageSeconds,
}

impl<'a> Run<'a> {
    /// Begins a run. Errors: exit code 3 where Nix is missing or too old.
    pub fn begin(fleet: Fleet, options: Options, cancel: &'a Cancel) -> Result<Self> {
        let timings = Timings::default();
        let nix = timings.step("find Nix", || Nix::find(cancel))?;
        Ok(Self::with(nix, fleet, options, timings, cancel))
    }

    fn with(nix: Nix, fleet: Fleet, options: Options, timings: Timings, cancel: &'a Cancel) -> Self {
        let (progress, began, source) = (Progress::default(), Instant::now(), OnceLock::new());
        let not_pushed = Mutex::default();
        Self { nix, fleet, options, progress, timings, cancel, began, source, not_pushed }
    }

    /// A run of the same kind on another state of the fleet.
    pub fn on(&self, fleet: Fleet) -> Self {
        Self::with(self.nix.clone(), fleet, self.options.clone(), self.timings.clone(), self.cancel)
    }

    /// The fleet as Nix is to read it.
    pub fn flake(&self) -> Source<'_> {
        self.fleet.source(self.options.allow_ifd)
    }

    /// Where the sources come from. Git is asked once, when what is built is about to be read.
    pub fn source(&self) -> &FleetRecord {
        self.source.get_or_init(|| {
            let (revision, dirty) = fleet::revision(&self.fleet.root, self.cancel);
            FleetRecord { root: self.fleet.root.clone(), flake: self.fleet.flake_ref.clone(), revision, dirty }
        })
    }

    /// The record of the run so far.
    pub fn record(&self, command: &str, finished: Finished) -> Record {
        Record {
            version: VERSION,
            command: command.to_owned(),
            fleet: self.source().clone(),
            nix: self.nix.version.to_string(),
            began: Some(self.timings.began()),
            seconds: StageSeconds { total: self.began.elapsed().as_secs_f64(), ..finished.seconds },
            jobs: finished.jobs,
            not_pushed: self.not_pushed.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            spans: self.timings.spans(),
        }
    }
}

impl Finished {
    /// Adds what another stage came to.
    pub fn extend(&mut self, other: Self) {
        self.jobs.extend(other.jobs);
        self.jobs.sort_by(|a, b| a.job.cmp(&b.job));
        self.seconds.evaluate += other.seconds.evaluate;
        self.seconds.build += other.seconds.build;
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
