//! `cargo xtask test-vm`: hosts in, their VM tests run and judged out.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a verb prints its report")]

mod interactive;
mod record;

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use camino::Utf8PathBuf;
use rayon::iter::{ParallelBridge as _, ParallelIterator as _};

use super::{DONE, FAILED, INTERRUPTED, boot::wish, build_all, setup};
use crate::{
    diagnostic::usage,
    eval,
    flags::{TestRunFlags, TestVm},
    fleet::{self, Fleet},
    job::{Derivation, Failure, Job, JobId, Outcome, Target, Test as TestName},
    nix::{
        Nix, Settings,
        argv::{self, BuildOptions},
        remote,
    },
    plan::{self},
    process::{Cancel, Invocation},
    progress::{Event, Progress},
    record::{JobRecord, Record, StageSeconds, VERSION},
    report::{junit, verdicts},
    timings::{Timings, What},
    vmtest::{
        accel::{self, Choice},
        kvm::{self, Kvm},
        machine::{Accel, Cpu},
        place::{self, Place},
        run::{Run, Said, Test, Verdict},
    },
};
use crate::{
    produce::{self, Options},
    reuse::{self, Derived, Remembered},
};

pub fn run(flags: &TestVm, cancel: &Cancel) -> Result<u8> {
    let started = Instant::now();
    let timings = Timings::default();
    if flags.setup {
        setup::install(cancel)?;
    }
    let selection = &flags.selection;
    if !flags.all && selection.hosts.is_empty() && selection.tag.is_empty() && selection.system.is_empty() {
        return Err(usage("which hosts? Name some, or --all for every host of the fleet (`cargo xtask list`)"));
    }
    let fleet = timings.step("read the fleet", || Fleet::open(&flags.fleet.fleet, &flags.fleet.override_input))?;
    let plan = plan::plan(&fleet.matrix, &selection.tests(&tests(&flags.test)?)?)?;
    if flags.interactive && plan.jobs.len() != 1 {
        let ids: Vec<String> = plan.jobs.iter().map(|job| job.id.to_string()).collect();
        return Err(usage(format!(
            "--interactive is for one test, and this selects {}: {}\n  try: one host, and --test",
            ids.len(),
            ids.join(", ")
        )));
    }
    let nix = timings.step("find Nix", || Nix::find(cancel))?;
    if flags.fleet.fleet == "demo" && !flags.setup {
        timings.step("look at this machine", || setup::require(cancel))?;
    }
    if flags.interactive {
        let job = &plan.jobs[0];
        let choices = choices(&flags.runs, &fleet, &plan.jobs, cancel)?;
        return interactive::run(&fleet, &job.id, &choices[&job.id], &room(&job.id, "interactive")?, cancel);
    }
    let name = &flags.fleet.fleet;
    let (jobs, evaluate) = run_all(&flags.runs, name, &fleet, &nix, &plan.jobs, &timings, cancel)?;
    let total = started.elapsed().as_secs_f64();
    let seconds = StageSeconds { evaluate, build: total - evaluate, verify: 0.0, total };
    let record = Record {
        version: VERSION,
        command: "test-vm".into(),
        fleet: build_all::source(&fleet, cancel),
        nix: nix.version.to_string(),
        seconds,
        jobs,
        spans: timings.spans(),
    };
    report(flags, &record)?;
    build_all::write_trace(flags.trace.as_deref(), &record.spans)?;
    Ok(match (cancel.is_set(), record.succeeded()) {
        (true, _) => INTERRUPTED,
        (false, true) => DONE,
        (false, false) => FAILED,
    })
}

/// Runs tests of a fleet, which was typed as `name`. Also returns the seconds of their evaluation.
pub fn run_all(
    flags: &TestRunFlags,
    name: &str,
    fleet: &Fleet,
    nix: &Nix,
    jobs: &[Job],
    timings: &Timings,
    cancel: &Cancel,
) -> Result<(Vec<JobRecord>, f64)> {
    let choices = timings.step("try KVM where it matters", || choices(flags, fleet, jobs, cancel))?;
    let progress = Progress::new(jobs.len());
    let build = timings.step("ask who can build", || {
        produce::choose_builders(nix, jobs, &BuildOptions::default(), &progress, cancel)
    })?;
    let settings = nix.settings(cancel)?;
    let session = Session { flags, name, fleet, nix, settings, choices, build, timings: timings.clone() };
    for line in session.announcement() {
        progress.tell(Event::Note(line));
    }
    let records = session.run(jobs, &progress, cancel)?;
    progress.finish();
    Ok(records)
}

fn tests(texts: &[String]) -> Result<Vec<TestName>> {
    let find = |text: &String| TestName::ALL.into_iter().find(|test| test.as_str() == text);
    let unknown = |text: &str| usage(format!("--test {text}: a test is one of system, live, install, switch"));
    texts.iter().map(|text| find(text).ok_or_else(|| unknown(text))).collect()
}

/// The accelerator of every test. KVM is tried at most once, and only if an answer depends on it. Where there is
/// no QEMU to try it with, the first test's driver is built, which has one.
fn choices(flags: &TestRunFlags, fleet: &Fleet, jobs: &[Job], cancel: &Cancel) -> Result<BTreeMap<JobId, Choice>> {
    let verdict: std::cell::OnceCell<Kvm> = std::cell::OnceCell::new();
    let choose = |job: &Job| {
        let cpu = Cpu::of(job.system.as_str()).ok_or_else(|| {
            usage(format!("{} is {}: VM tests are for x86_64, i686 and aarch64", job.id.host, job.system))
        })?;
        let try_out = || match kvm::known(cancel) {
            Kvm::Untried { .. } if matches!(driver(flags, fleet, &job.id, cancel), Ok(Ok(_))) => kvm::probe(cancel),
            verdict => verdict,
        };
        let probe = || verdict.get_or_init(try_out).clone();
        Ok((job.id.clone(), accel::choose(wish(flags.accel), cpu, std::env::consts::ARCH, probe)?))
    };
    jobs.iter().map(choose).collect()
}

/// A folder below `target/xtask/vm`.
fn room(id: &JobId, run: &str) -> Result<Utf8PathBuf> {
    let base = fleet::workspace().unwrap_or_else(|| ".".into());
    let dir = base.join("target/xtask/vm").join(id.host.as_str()).join(test_of(id)).join(run);
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {dir}"))?;
    Ok(dir)
}

fn test_of(id: &JobId) -> &'static str {
    match id.target {
        Target::Test(test) => test.as_str(),
        Target::Artifact(artifact) => artifact.as_str(),
    }
}

fn report(flags: &TestVm, record: &Record) -> Result<()> {
    let rows: Vec<verdicts::Row<'_>> = record
        .jobs
        .iter()
        .map(|job| verdicts::Row { id: &job.job, outcome: &job.outcome, test: job.test.as_ref() })
        .collect();
    eprint!("\n{}", verdicts::render(&rows, record.seconds.total));
    if let Some(file) = &flags.junit {
        let xml = junit::render(std::slice::from_ref(record));
        fs::write(file, xml).with_context(|| format!("cannot write the JUnit report to {file}"))?;
    }
    if flags.json {
        println!("{}", serde_json::to_string_pretty(record)?);
    }
    Ok(())
}

/// Everything that the tests of one run share.
struct Session<'a> {
    flags: &'a TestRunFlags,
    /// The fleet as it was typed.
    name: &'a str,
    fleet: &'a Fleet,
    nix: &'a Nix,
    settings: Settings,
    choices: BTreeMap<JobId, Choice>,
    /// With the remote builders that live, if some do not.
    build: BuildOptions,
    timings: Timings,
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

    /// Evaluates all tests, then runs them, the longest first. Also returns the seconds of the evaluation.
    fn run(&self, jobs: &[Job], progress: &Progress, cancel: &Cancel) -> Result<(Vec<JobRecord>, f64)> {
        let began = Instant::now();
        let options = Options {
            evaluators: None,
            eval_timeout: Duration::from_secs(1800),
            allow_ifd: self.flags.allow_import_from_derivation,
            build: self.build.clone(),
            roots: None,
            timings: self.timings.clone(),
        };
        let evaluating = Progress::new(jobs.len());
        let cache = Remembered::default();
        let Derived { derivations, mut failures, .. } =
            reuse::derive(cache, self.nix, self.fleet, jobs, &options, &evaluating, cancel)?;
        let evaluate = began.elapsed().as_secs_f64();
        let mut order: Vec<&Job> = jobs.iter().collect();
        // What installs takes longest; started last it would keep everybody waiting.
        order.sort_by_key(|job| std::cmp::Reverse(job.id.target));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let fitting = place::at_once(cores, eval::memory_budget(), derivations.len());
        let threads = self.flags.jobs.map_or(fitting, usize::from);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("cannot start threads")?;
        let work = order.into_iter().map(|job| (job, failures.remove(&job.id))).collect::<Vec<_>>();
        let one = |(job, failure): (&Job, Option<_>)| -> Result<JobRecord> {
            let record = match (failure, derivations.get(&job.id)) {
                (Some(failure), _) => return Ok(JobRecord::new(job, Outcome::Failed(failure))),
                (None, Some(derivation)) => {
                    let mark = self.timings.begin(What::Test, job.id.to_string(), None);
                    let record = self.test(job, derivation, progress, cancel)?;
                    self.timings.end(mark, record.outcome.is_success());
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
        Ok((records, evaluate))
    }

    /// Runs one test as often as asked for.
    fn test(&self, job: &Job, derivation: &Derivation, progress: &Progress, cancel: &Cancel) -> Result<JobRecord> {
        let (id, choice) = (&job.id, &self.choices[&job.id]);
        let text = fs::read_to_string(&derivation.drv).with_context(|| format!("cannot read {}", derivation.drv))?;
        let demands = place::demands_kvm(&text);
        let live = self.build.builders.as_deref().map_or_else(|| self.settings.builders(), remote::lines);
        let builder = self.settings.builder_of(&derivation.system, &live);
        let place = place::of(demands, wish(self.flags.accel), choice.accel, &builder);
        progress.tell(Event::Began(id.clone(), "test"));
        let prefix = format!("{}.{}", id.host, test_of(id));
        let say = |said: Said<'_>| match said {
            Said::Line(line) => progress.tell(Event::Line(format!("{prefix}: {line}"))),
            Said::Now("") => {}
            Said::Now(name) => progress.tell(Event::Standing(id.clone(), name.to_owned())),
        };
        if demands && place == Place::Outside {
            say(Said::Line("demands KVM, which is not used here: its driver runs outside Nix's sandbox"));
        }
        let driver = match place {
            Place::Outside => match driver(self.flags, self.fleet, id, cancel)? {
                Ok(driver) => Some(driver),
                Err(failure) => return Ok(JobRecord::new(job, Outcome::Failed(failure))),
            },
            Place::Sandbox => None,
        };
        let limit = self.limit(choice.accel);
        let settings = place::nix_settings(&self.settings, choice.accel);
        let mut runs: Vec<Run> = Vec::new();
        let dir = room(id, &format!(".run-{}", std::process::id()))?;
        for round in 0..self.flags.repeat {
            if self.flags.repeat > 1 {
                say(Said::Line(&format!("run {} of {}", round + 1, self.flags.repeat)));
            }
            let test = Test {
                nix: self.nix,
                id,
                derivation,
                place,
                choice,
                driver: driver.clone(),
                dir: &dir,
                options: BuildOptions {
                    timeout: Some(limit.as_secs()),
                    settings: settings.clone(),
                    ..self.build.clone()
                },
                timings: &self.timings,
                rerun: self.flags.rerun || self.flags.repeat > 1,
                timeout: limit,
                scale: if demands && choice.accel == Accel::Tcg { place::TCG_SCALE } else { 1 },
            };
            let run = test.run(cancel, &say)?;
            let interrupted = matches!(run.verdict, Verdict::Interrupted);
            let failed = matches!(run.verdict, Verdict::Failed(_) | Verdict::Prevented(_));
            // The files of a failure are worth more than those of a later pass.
            let keep = failed || !runs.iter().any(|run| matches!(run.verdict, Verdict::Failed(_)));
            if keep && !interrupted {
                record::keep(&dir, id)?;
            }
            runs.push(run);
            if interrupted || matches!(runs.last().map(|run| &run.verdict), Some(Verdict::Prevented(_))) {
                break;
            }
        }
        let _ = fs::remove_dir_all(&dir);
        Ok(record::of(job, derivation, place, choice, runs, self.name))
    }

    /// The wall-clock time of one run.
    fn limit(&self, accel: Accel) -> Duration {
        let scale = if accel == Accel::Tcg { place::TCG_SCALE } else { 1 };
        Duration::from_secs(self.flags.timeout) * scale
    }
}

/// Builds a test's driver.
fn driver(flags: &TestRunFlags, fleet: &Fleet, id: &JobId, cancel: &Cancel) -> Result<Result<Utf8PathBuf, Failure>> {
    let source = argv::Source {
        flake: &fleet.flake_ref,
        overrides: &fleet.overrides,
        allow_ifd: flags.allow_import_from_derivation,
    };
    let build = Invocation::new(argv::build_attribute(source, &format!("{}.driver", id.attribute())));
    let said = build.capture(cancel)?;
    let path = Utf8PathBuf::from(said.stdout.trim()).join("bin/nixos-test-driver");
    Ok(match said.end.is_success() && path.is_file() {
        true => Ok(path),
        false => Err(record::no_driver(&said, build.display())),
    })
}
