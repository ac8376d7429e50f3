//! `cargo xtask build-all`: a selection of hosts in, their media and systems in `result/` out.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a verb prints its report")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::IsTerminal as _,
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result};
use camino::Utf8Path;

use super::{DONE, FAILED, INTERRUPTED, report::write, setup};
use crate::{
    flags::BuildAll,
    fleet::{self, Fleet},
    job::{Derivation, Failure, Job, Outcome, Stage, Target},
    nix::{Nix, argv, reply},
    plan::{self},
    process::{Cancel, Invocation},
    progress::Progress,
    record::{FleetRecord, Image, JobRecord, Record, VERSION},
    report::{
        junit,
        table::{self, Paint},
        trace,
    },
    results::{self, Entry, ImageFile, Results},
    timings::{Span, Timings},
};
use crate::{
    produce::{self, Options, Past},
    reuse::{self, Derived, Reuse},
};

pub fn run(flags: &BuildAll, cancel: &Cancel) -> Result<u8> {
    let started = Instant::now();
    let timings = Timings::default();
    if flags.setup {
        setup::install(cancel)?;
    }
    let fleet = timings.step("read the fleet", || Fleet::open(&flags.fleet.fleet, &flags.fleet.override_input))?;
    let plan = plan::plan(&fleet.matrix, &flags.selection.artifacts()?)?;
    let results = Results::claim(&flags.out_link)?;
    // Where Nix reads whatever lies in the folder, nothing may be put there before all is evaluated.
    let roots = Some(results.roots_folder()).filter(|folder| !fleet.takes_in(folder));
    let options = Options { timings: timings.clone(), roots, ..flags.stages.options() };
    let progress = Progress::new(plan.jobs.len());
    let nix = timings.step("find Nix", || Nix::find(cancel))?;
    // Each waits for processes of its own, so they wait together.
    let (source, reuse) = thread::scope(|scope| {
        let source = scope.spawn(|| timings.time("ask Git for the revision", || source(&fleet, cancel)));
        let reuse = timings.step("look up what is remembered", || {
            Reuse::look_up(flags.cache.remembered(), &nix, options.allow_ifd, &fleet, &plan.jobs, &progress, cancel)
        });
        (joined(source), reuse)
    });
    let reuse = reuse?;
    if flags.dry_run || flags.evaluate {
        let derived = reuse::derive_with(reuse, &nix, &fleet, &plan.jobs, &options, &progress, cancel)?;
        let code = if flags.evaluate { show(&derived, cancel)? } else { dry_run(&plan.jobs, &derived, cancel)? };
        write_trace(flags.trace.as_deref(), &timings.spans())?;
        return Ok(code);
    }
    let known = reuse.known();
    let incomplete = plan.jobs.iter().any(|job| known.get(&job.id).is_none_or(|known| !known.present));
    if flags.fleet.fleet == "demo" && !flags.setup && incomplete {
        timings.step("look at this machine", || setup::require(cancel))?;
    }
    let saving = reuse.saving(&timings, &progress);
    let past = Past { known, pinned: reuse.pinned(), learner: &saving };
    let (mut jobs, mut seconds) = produce::produce(&nix, &fleet, &plan.jobs, &past, &options, &progress, cancel)?;
    let verifying = Instant::now();
    let mut publish = || -> Result<()> {
        let earlier = results.manifest().results;
        let earlier = if flags.verify { &[][..] } else { &earlier };
        timings.step("look at outputs and hash images", || verify(&nix, &mut jobs, earlier, cancel))?;
        let hosts: BTreeSet<_> = fleet.matrix.hosts.iter().map(|host| host.name.clone()).collect();
        let entries = jobs.iter().filter_map(|job| entry(job, &source)).collect();
        timings.step("exchange the results", || results.publish(entries, &hosts, cancel))
    };
    // Where nothing was evaluated nobody has remembered yet what the fleet looks like, and neither has to wait for
    // the other.
    let (sound, published) = thread::scope(|scope| {
        let sound = scope.spawn(|| saving.finish());
        let published = match cancel.is_set() {
            true => {
                results.leave();
                Ok(())
            }
            false => publish(),
        };
        (joined(sound), published)
    });
    progress.finish();
    published?;
    seconds.verify = verifying.elapsed().as_secs_f64();
    seconds.total = started.elapsed().as_secs_f64();
    let record = Record {
        version: VERSION,
        command: "build-all".into(),
        fleet: source,
        nix: nix.version.to_string(),
        seconds,
        jobs,
        spans: timings.spans(),
    };
    report(flags, &record, cancel)?;
    write_trace(flags.trace.as_deref(), &record.spans)?;
    Ok(match (cancel.is_set(), record.succeeded() && sound) {
        (true, _) => INTERRUPTED,
        (false, true) => DONE,
        (false, false) => FAILED,
    })
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Looks at every output, adds sizes, and hashes images; the hash of an image that an earlier run hashed at
/// the same store path and size is kept, because store paths do not change.
pub(super) fn verify(nix: &Nix, jobs: &mut [JobRecord], earlier: &[Entry], cancel: &Cancel) -> Result<()> {
    let mut fresh = Vec::new();
    let mut images = BTreeMap::new();
    for job in jobs.iter_mut().filter(|job| job.outcome.is_success()) {
        let (Target::Artifact(artifact), Some(derivation)) = (job.job.target, &job.derivation) else { continue };
        match results::inspect(&derivation.out, artifact) {
            Ok(None) => {}
            Ok(Some((path, size))) => {
                let same = |e: &&Entry| e.store_path == derivation.out;
                let known = earlier.iter().find(same).and_then(|e| e.image.clone()).filter(|i| i.size == size);
                match known {
                    Some(image) => drop(images.insert(path.clone(), image.sha256)),
                    None => fresh.push(path.clone()),
                }
                let file = path.file_name().unwrap_or_default().to_owned();
                job.image = Some(Image { file, size, sha256: String::new() });
            }
            Err(error) => job.outcome = Outcome::Failed(unfit(derivation, &error)),
        }
    }
    images.extend(results::sha256(&fresh, cancel)?);
    // What an earlier run measured of the same store path still holds.
    let mut sizes: BTreeMap<&str, (u64, u64)> =
        earlier.iter().map(|e| (e.store_path.as_str(), (e.size, e.closure_size))).collect();
    let unmeasured = |job: &&JobRecord| job.outcome.is_success() && job.closure_size.is_none();
    let outs = jobs.iter().filter(unmeasured).filter_map(out);
    let paths: Vec<&str> = outs.filter(|out| !sizes.contains_key(out)).collect();
    let infos = if paths.is_empty() { vec![] } else { nix.path_info(&paths, cancel)? };
    sizes.extend(infos.iter().map(|info| (info.path.as_str(), (info.size, info.closure_size))));
    for job in jobs.iter_mut().filter(|job| job.outcome.is_success()) {
        if job.closure_size.is_none() {
            let measured = out(job).and_then(|out| sizes.get(out)).copied();
            (job.size, job.closure_size) = measured.unzip();
        }
        if let (Some(image), Some(derivation)) = (&mut job.image, &job.derivation) {
            image.sha256 = images.get(&derivation.out.join("iso").join(&image.file)).cloned().unwrap_or_default();
        }
    }
    Ok(())
}

fn out(job: &JobRecord) -> Option<&str> {
    job.derivation.as_ref().map(|derivation| derivation.out.as_str())
}

fn unfit(derivation: &Derivation, error: &anyhow::Error) -> Failure {
    Failure {
        stage: Stage::Verify,
        message: format!("{error:#}"),
        position: None,
        drv: Some(derivation.drv.clone()),
        log_tail: vec![],
        reproduce: Invocation::new(argv::build_again(derivation.drv.as_str())).display(),
    }
}

fn entry(job: &JobRecord, source: &FleetRecord) -> Option<Entry> {
    let (true, Target::Artifact(artifact)) = (job.outcome.is_success(), job.job.target) else { return None };
    let derivation = job.derivation.as_ref()?;
    let image = job.image.as_ref().map(|image| ImageFile {
        path: format!("{}/{}/{}", job.job.host, artifact.as_str(), image.file).into(),
        size: image.size,
        sha256: image.sha256.clone(),
    });
    Some(Entry {
        host: job.job.host.clone(),
        artifact,
        system: job.system.clone(),
        store_path: derivation.out.clone(),
        drv: derivation.drv.clone(),
        size: job.size?,
        closure_size: job.closure_size?,
        image,
        revision: source.revision.clone(),
        dirty: source.dirty,
    })
}

pub(super) fn source(fleet: &Fleet, cancel: &Cancel) -> FleetRecord {
    let (revision, dirty) = fleet::revision(&fleet.root, cancel);
    FleetRecord { root: fleet.root.clone(), flake: fleet.flake_ref.clone(), revision, dirty }
}

fn report(flags: &BuildAll, record: &Record, cancel: &Cancel) -> Result<()> {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    eprint!("\n{}", table::render(record, Paint { colour }));
    match cancel.is_set() {
        true => eprintln!("interrupted; the results in {} are as before", flags.out_link),
        false => eprintln!("results: {}", flags.out_link),
    }
    if let Some(file) = &flags.junit {
        let xml = junit::render(std::slice::from_ref(record));
        fs::write(file, xml).with_context(|| format!("cannot write the JUnit report to {file}"))?;
    }
    if flags.json {
        println!("{}", serde_json::to_string_pretty(record)?);
    }
    Ok(())
}

/// Writes what `--trace` asks for.
pub(super) fn write_trace(file: Option<&Utf8Path>, spans: &[Span]) -> Result<()> {
    file.map_or(Ok(()), |file| write(file, &trace::render(spans)))
}

/// Evaluates, then asks Nix what it would build and fetch; builds nothing.
fn dry_run(jobs: &[Job], derived: &Derived, cancel: &Cancel) -> Result<u8> {
    let Derived { derivations, failures, .. } = derived;
    let drvs: Vec<&str> = derivations.values().map(|d| d.drv.as_str()).collect();
    let answer = Invocation::new(argv::dry_run(&drvs)).capture(cancel)?;
    anyhow::ensure!(
        answer.end.is_success(),
        "Nix cannot say what it would do ({}): {}",
        answer.end,
        answer.stderr.trim()
    );
    let would = reply::dry_run(&answer.stderr);
    let width = jobs.iter().map(|job| job.id.to_string().len()).max().unwrap_or(0);
    for (id, derivation) in derivations {
        let word = if would.build.iter().any(|drv| *drv == derivation.drv) {
            "build"
        } else if would.fetch.iter().any(|path| *path == derivation.out) {
            "fetch"
        } else {
            "local"
        };
        println!("{:width$}  {word}  {}", id.to_string(), derivation.out);
    }
    for (id, failure) in failures {
        println!("{:width$}  fails  {}", id.to_string(), failure.message.lines().next().unwrap_or_default());
    }
    eprintln!("would build {} derivations and fetch {} paths", would.build.len(), would.fetch.len());
    Ok(derived.exit_code(cancel))
}

/// One line a job: its name and its derivation.
fn show(derived: &Derived, cancel: &Cancel) -> Result<u8> {
    derived.derivations.iter().for_each(|(id, derivation)| println!("{id} {}", derivation.drv));
    for (id, failure) in &derived.failures {
        eprintln!("error: {id}: {}", failure.message);
    }
    Ok(derived.exit_code(cancel))
}
