//! Runs the VM tests of a run: each evaluated, its accelerator and place decided, run as often as asked for, and judged.

use std::{
    cell::OnceCell,
    collections::BTreeMap,
    fs,
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use camino::Utf8PathBuf;
use rayon::iter::{ParallelBridge as _, ParallelIterator as _};

use super::{
    accel::{self, Choice, Wish},
    attempt::{Attempt, Said, Test, Verdict},
    driver,
    kvm::{self, Kvm},
    machine::{Accel, Cpu},
    place::{self, Place},
    verdict,
};
use crate::{
    diagnostic::usage,
    eval, fleet,
    job::{Derivation, Job, JobId, Outcome, Target},
    nix::{Settings, argv::BuildOptions, drv, remote},
    progress::Event,
    record::{JobRecord, StageSeconds},
    run::{Builders, Derived, Finished, Run},
    timings::What,
};

/// How VM tests are run.
#[derive(Clone, Copy, Debug)]
pub struct TestOptions {
    pub wish: Wish,
    /// How often each is run.
    pub repeat: u32,
    /// Tests are run again that passed before.
    pub rerun: bool,
    /// Tests at once; as many as cores and free memory allow if `None`.
    pub at_once: Option<usize>,
    /// Wall-clock time of one attempt; five times this under TCG.
    pub timeout: Duration,
}

impl Default for TestOptions {
    fn default() -> Self {
        Self { wish: Wish::Auto, repeat: 1, rerun: false, at_once: None, timeout: Duration::from_secs(1800) }
    }
}

impl Run<'_> {
    /// Runs tests, the longest first. Errors: exit code 3 where KVM is insisted on and does not work; Nix cannot be
    /// asked.
    pub fn test(&self, jobs: &[Job], how: &TestOptions) -> Result<Finished> {
        let began = Instant::now();
        // The record names the commit that is evaluated now, not the one that is there when the tests end.
        self.source();
        let derived = self.evaluate(jobs)?;
        let evaluate = began.elapsed().as_secs_f64();
        let choices = self.timings.step("try KVM where it matters", || self.accelerators(jobs, &derived, how.wish))?;
        self.progress.expect(jobs.len());
        let build = self.timings.step("ask who can build", || Builders::ask(self, jobs))?.options();
        let settings = self.nix.settings(self.cancel)?;
        let session = Session { run: self, how, settings, choices, build };
        session.announcement().into_iter().for_each(|line| self.progress.tell(Event::Note(line)));
        let jobs = session.all(jobs, derived)?;
        let passed = jobs.iter().filter(|job| job.outcome.is_success()).filter_map(|job| job.derivation.as_ref());
        let outs: Vec<Utf8PathBuf> =
            passed.map(|derivation| derivation.out.clone()).filter(|out| out.exists()).collect();
        if let Some(cache) = &self.options.push {
            let (finished, all) = mpsc::channel();
            outs.into_iter().for_each(|out| drop(finished.send(out)));
            drop(finished);
            cache.follow(self, &all);
        }
        self.progress.finish();
        let seconds = StageSeconds { evaluate, build: began.elapsed().as_secs_f64() - evaluate, ..Default::default() };
        Ok(Finished { jobs, seconds })
    }

    /// The accelerator of every test. KVM is tried at most once, and only if an answer depends on it. Where there is no
    /// QEMU to try it with, the first test's driver is built, which has one.
    pub fn accelerators(&self, jobs: &[Job], derived: &Derived, wish: Wish) -> Result<BTreeMap<JobId, Choice>> {
        let tried: OnceCell<Kvm> = OnceCell::new();
        let choose = |job: &Job| {
            let cpu = Cpu::of(job.system.as_str()).ok_or_else(|| {
                usage(format!("{} is {}: VM tests are for x86_64, i686 and aarch64", job.id.host, job.system))
            })?;
            let driver = || derived.derivations.get(&job.id).map(|derivation| driver::build(self, &job.id, derivation));
            let try_out = || match kvm::known(self.cancel) {
                Kvm::Untried { .. } if matches!(driver(), Some(Ok(Ok(_)))) => kvm::probe(self.cancel),
                verdict => verdict,
            };
            let probe = || tried.get_or_init(try_out).clone();
            Ok((job.id.clone(), accel::choose(wish, cpu, std::env::consts::ARCH, probe)?))
        };
        jobs.iter().map(choose).collect()
    }
}

/// A folder for the files of a test below `target/xtask/vm`, made if it is not there.
pub fn folder(id: &JobId, below: &str) -> Result<Utf8PathBuf> {
    let dir = fleet::work_folder()?.join("target/xtask/vm").join(id.host.as_str()).join(name(id)).join(below);
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {dir}"))?;
    Ok(dir)
}

/// The test's name without its host.
pub fn name(id: &JobId) -> &'static str {
    match id.target {
        Target::Test(test) => test.as_str(),
        Target::Artifact(artifact) => artifact.as_str(),
    }
}

/// What the tests of a run share.
struct Session<'a> {
    run: &'a Run<'a>,
    how: &'a TestOptions,
    settings: Settings,
    choices: BTreeMap<JobId, Choice>,
    /// With the remote builders that live, if some do not.
    build: BuildOptions,
}

impl Session<'_> {
    /// Which tests run how and why, before anybody waits for them.
    fn announcement(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.choices.values().map(ToString::to_string).collect();
        lines.sort();
        lines.dedup();
        let scale = self.choices.values().any(|choice| choice.accel == Accel::Tcg);
        let limit = scale.then(|| format!("under TCG --timeout counts {} times", place::TCG_SCALE));
        lines.into_iter().chain(limit).collect()
    }

    fn all(&self, jobs: &[Job], derived: Derived) -> Result<Vec<JobRecord>> {
        let Derived { derivations, mut failures, .. } = derived;
        let mut order: Vec<&Job> = jobs.iter().collect();
        // What installs takes longest; started last it would keep everybody waiting.
        order.sort_by_key(|job| std::cmp::Reverse(job.id.target));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let fitting = place::at_once(cores, eval::memory_budget(), derivations.len());
        let threads = self.how.at_once.unwrap_or(fitting);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("cannot start threads")?;
        let work = order.into_iter().map(|job| (job, failures.remove(&job.id))).collect::<Vec<_>>();
        let (progress, timings) = (&self.run.progress, &self.run.timings);
        let one = |(job, failure): (&Job, Option<_>)| -> Result<JobRecord> {
            let record = match (failure, derivations.get(&job.id)) {
                // The evaluation has told it.
                (Some(failure), _) => return Ok(JobRecord::new(job, Outcome::Failed(failure))),
                (None, Some(derivation)) => {
                    let mark = timings.begin(What::Test, job.id.to_string(), None);
                    let record = self.test(job, derivation)?;
                    timings.end(mark, record.outcome.is_success());
                    record
                }
                (None, None) => JobRecord::new(job, Outcome::NotRun { reason: "interrupted".into() }),
            };
            progress.tell(Event::Ended(job.id.clone(), record.outcome.clone()));
            Ok(record)
        };
        let records: Vec<Result<JobRecord>> = pool.install(|| work.into_iter().par_bridge().map(one).collect());
        let mut records = records.into_iter().collect::<Result<Vec<_>>>()?;
        records.sort_by(|a, b| a.job.cmp(&b.job));
        Ok(records)
    }

    /// Runs one test as often as asked for.
    fn test(&self, job: &Job, derivation: &Derivation) -> Result<JobRecord> {
        let (run, id, choice) = (self.run, &job.id, &self.choices[&job.id]);
        let progress = &run.progress;
        let text = fs::read(&derivation.drv).with_context(|| format!("cannot read {}", derivation.drv))?;
        let demands = drv::demands_kvm(&text);
        let live = self.build.builders.as_deref().map_or_else(|| self.settings.builders(), remote::lines);
        let builder = self.settings.builder_of(&derivation.system, &live);
        let place = place::of(demands, self.how.wish, choice.accel, &builder);
        progress.tell(Event::Began(id.clone(), "test"));
        let prefix = format!("{}.{}", id.host, name(id));
        let say = |said: Said<'_>| match said {
            Said::Log(_) if !run.options.logs => {}
            Said::Log(line) | Said::Line(line) => progress.tell(Event::Line(format!("{prefix}: {line}"))),
            Said::Now("") => {}
            Said::Now(name) => progress.tell(Event::Standing(vec![id.clone()], name.to_owned())),
        };
        if demands && place == Place::Outside {
            say(Said::Line("demands KVM, which is not used here: its driver runs outside Nix's sandbox"));
        }
        let driver = match place {
            Place::Outside => match driver::build(run, id, derivation)? {
                Ok(driver) => Some(driver),
                Err(failure) => return Ok(JobRecord::new(job, Outcome::Failed(failure))),
            },
            Place::Sandbox => None,
        };
        let scale = if choice.accel == Accel::Tcg { place::TCG_SCALE } else { 1 };
        let timeout = self.how.timeout * scale;
        let settings = place::nix_settings(&self.settings, choice.accel);
        let dir = folder(id, &format!(".run-{}", std::process::id()))?;
        let test = Test {
            run,
            id,
            derivation,
            place,
            choice,
            driver,
            dir: &dir,
            options: BuildOptions { timeout: Some(timeout.as_secs()), settings, ..self.build.clone() },
            rerun: self.how.rerun || self.how.repeat > 1,
            timeout,
            scale: if demands { scale } else { 1 },
        };
        let attempts = self.attempts(&test, &say)?;
        let _ = fs::remove_dir_all(&dir);
        Ok(verdict::record(job, derivation, place, choice, attempts, &run.fleet.typed))
    }

    fn attempts(&self, test: &Test<'_>, say: &dyn Fn(Said<'_>)) -> Result<Vec<Attempt>> {
        let mut attempts: Vec<Attempt> = Vec::new();
        for round in 0..self.how.repeat {
            if self.how.repeat > 1 {
                say(Said::Line(&format!("run {} of {}", round + 1, self.how.repeat)));
            }
            let attempt = test.attempt(say)?;
            let interrupted = matches!(attempt.verdict, Verdict::Interrupted);
            let failed = matches!(attempt.verdict, Verdict::Failed(_) | Verdict::Prevented(_));
            // The files of a failure are worth more than those of a later pass.
            let keep = failed || !attempts.iter().any(|attempt| matches!(attempt.verdict, Verdict::Failed(_)));
            if keep && !interrupted {
                verdict::keep(test.dir, test.id)?;
            }
            let ends = interrupted || matches!(attempt.verdict, Verdict::Prevented(_));
            attempts.push(attempt);
            if ends {
                break;
            }
        }
        Ok(attempts)
    }
}
