//! Keeps the record of each job while it passes the stages, and tells the progress display.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    sync::{Mutex, MutexGuard, PoisonError, mpsc::Sender},
    time::Instant,
};

use anyhow::{Error, Result};
use camino::{Utf8Path, Utf8PathBuf};

use super::{Finished, Run, builders::Builders, clock::Clock, stages::Realise};
use crate::{
    eval::{self, Limits, Reply, Sources},
    job::{Derivation, Job, JobId, Outcome, Reads},
    memory::Evaluated,
    nix::{argv::BuildOptions, drv},
    progress::Event,
    realise::{self, Realised, Update},
    record::{JobRecord, StageSeconds},
};

/// What is known of each job while the stages run.
pub struct Records<'a> {
    run: &'a Run<'a>,
    /// Takes outputs that are to be pushed.
    finished: Option<Sender<Utf8PathBuf>>,
    started: Instant,
    state: Mutex<State>,
}

struct State {
    records: BTreeMap<JobId, JobRecord>,
    reads: BTreeMap<JobId, Reads>,
    outgrew: Vec<(Job, u64)>,
    seconds: StageSeconds,
}

impl<'a> Records<'a> {
    pub fn new<'j>(
        jobs: impl Iterator<Item = &'j Job>,
        run: &'a Run<'a>,
        finished: Option<Sender<Utf8PathBuf>>,
    ) -> Self {
        let blank = |job: &Job| JobRecord::new(job, Outcome::NotRun { reason: "interrupted".into() });
        let records = jobs.map(|job| (job.id.clone(), blank(job))).collect();
        let state = State { records, reads: BTreeMap::new(), outgrew: vec![], seconds: StageSeconds::default() };
        Self { run, finished, started: Instant::now(), state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn record(&self, id: &JobId, change: impl FnOnce(&mut JobRecord)) {
        if let Some(record) = self.lock().records.get_mut(id) {
            change(record);
        }
    }

    /// Takes what an evaluator says; what can be realised comes back.
    pub fn take(&self, reply: Reply) -> Option<(JobId, Derivation)> {
        match reply {
            Reply::Began(id) => self.run.progress.tell(Event::Began(id, "evaluate")),
            Reply::Done(id, derivation, reads, took) => {
                self.lock().reads.insert(id.clone(), reads);
                self.record(&id, |record| {
                    record.derivation = Some(derivation.clone());
                    record.evaluate_seconds = Some(took.as_secs_f64());
                });
                self.lock().seconds.evaluate = self.started.elapsed().as_secs_f64();
                self.run.progress.tell(Event::Done(id.clone(), "evaluated", took));
                self.run.progress.tell(Event::Began(id.clone(), "build"));
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
                self.run.progress.tell(Event::Note(text));
                self.lock().outgrew.push((job, bytes));
            }
            Reply::Note(text) => self.run.progress.tell(Event::Note(text)),
            Reply::Started | Reply::Loaded | Reply::Stopped(_) => {}
        }
        None
    }

    /// The derivations that this run evaluated, and what it read for them.
    pub fn evaluated(&self) -> Evaluated {
        let state = self.lock();
        let derivation = |id: &JobId| state.records.get(id)?.derivation.clone();
        state.reads.iter().filter_map(|(id, reads)| Some((id.clone(), (derivation(id)?, reads.clone())))).collect()
    }

    pub fn end(&self, id: &JobId, outcome: Outcome, took: Option<f64>, machine: Option<String>) {
        self.record(id, |record| {
            record.outcome = outcome.clone();
            record.build_seconds = took;
            record.machine = machine;
            if let (Some(finished), Some(derivation), true) = (&self.finished, &record.derivation, outcome.is_success())
            {
                // Who pushes outlives the records.
                let _ = finished.send(derivation.out.clone());
            }
        });
        self.run.progress.tell(Event::Ended(id.clone(), outcome));
    }

    /// Has pushed what the builder of a derivation left: also what only other builds need, so that no other machine
    /// builds it again.
    fn push(&self, drv: &str) {
        let Some(finished) = &self.finished else { return };
        // What is not there was not built, or is still on another machine, or in a store that has no files here.
        for out in fs::read(drv).map(|text| drv::outputs(&text)).unwrap_or_default() {
            if Utf8Path::new(&out).exists() {
                let _ = finished.send(out.into());
            }
        }
    }

    /// Realises a batch in one Nix process, and in another what failed while a remote builder died.
    pub fn realise(
        &self,
        batch: &[(JobId, Derivation)],
        builders: &Builders<'_>,
        complete: &dyn Fn(&mut BuildOptions),
    ) -> Result<()> {
        let began = Instant::now();
        let ids = || batch.iter().map(|(id, _)| id.clone()).collect();
        let mut tell = |update: Update<'_>| match update {
            Update::Activity(activity) => self.run.progress.tell(Event::Standing(ids(), activity.to_string())),
            Update::Note(text) => self.run.progress.tell(Event::Note(text)),
            Update::Log { drv, line } if self.run.options.logs => {
                let name = drv.get("/nix/store/".len() + 33..).unwrap_or(drv).trim_end_matches(".drv");
                self.run.progress.tell(Event::Line(format!("{name}> {line}")));
            }
            Update::Ended { drv } => self.push(drv),
            Update::Started { .. } | Update::Log { .. } => {}
        };
        let mut attempt = |batch: &[(JobId, Derivation)]| {
            let mut build = builders.options();
            complete(&mut build);
            Ok::<_, Error>((realise::realise(self.run, batch, &build, &mut tell)?, build))
        };
        let (mut ended, mut build) = attempt(batch)?;
        let has_failed = |realised: &Realised| matches!(realised.outcome, Outcome::Failed(_));
        while ended.iter().any(has_failed) && !self.run.cancel.is_set() && builders.have_died_since(&build) {
            let failed: Vec<Realised> = ended.extract_if(.., |realised| has_failed(realised)).collect();
            let is_failed = |id: &JobId| failed.iter().any(|realised| realised.id == *id);
            let again: Vec<_> = batch.iter().filter(|(id, _)| is_failed(id)).cloned().collect();
            let (realised, used) = attempt(&again)?;
            ended.extend(realised);
            build = used;
        }
        for realised in ended {
            if let Some(info) = realised.info {
                let sizes = (Some(info.size), Some(info.closure_size));
                self.record(&realised.id, |record| (record.size, record.closure_size) = sizes);
            }
            self.end(&realised.id, realised.outcome, realised.seconds, realised.machine);
        }
        let mut state = self.lock();
        let first = state.seconds.build;
        state.seconds.build = first.max(began.elapsed().as_secs_f64());
        Ok(())
    }

    /// Whether some job needs more memory than its share and is still to be tried alone.
    pub fn has_outgrown(&self) -> bool {
        !self.lock().outgrew.is_empty()
    }

    /// Gives jobs that outgrew their share the whole budget, one at a time, before they are called failed.
    pub fn try_alone(&self, sources: Sources<'_>, limits: Limits, realise: &Realise<'_>) -> Result<()> {
        let outgrew = std::mem::take(&mut self.lock().outgrew);
        for (job, _) in outgrew {
            let mut ready = Vec::new();
            let mut clock = Clock::new(&self.run.timings);
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
            eval::evaluate(sources, limits, self.run.cancel, &|| job.take(), &mut on_reply)?;
            if !ready.is_empty() {
                realise(ready, true)?;
            }
        }
        Ok(())
    }

    pub fn finish(self) -> Finished {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        Finished { jobs: state.records.into_values().collect(), seconds: state.seconds }
    }
}
