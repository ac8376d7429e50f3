//! The step `entry`: builds and tests the jobs of one matrix entry, and writes their record.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a verb prints its report")]

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use camino::Utf8Path;

use super::{
    plan::{PlanFile, checked_name, prefix},
    runner_file,
};
use crate::{
    diagnostic::{DONE, FAILED, INTERRUPTED, usage},
    files::{replace, write},
    flags,
    fleet::Fleet,
    job::{Job, JobId, Target},
    process::Cancel,
    record::{JobRecord, Record},
    report::{
        github,
        table::{self, Paint},
    },
    run::Run,
    setup,
    shard::MatrixEntry,
    vmtest::session::TestOptions,
};

pub fn run(flags: &flags::Entry, cancel: &Cancel) -> Result<u8> {
    let (name, ids) = share(flags)?;
    let name = checked_name(&name)?;
    if ids.is_empty() && flags.plan.is_some() {
        eprintln!("the plan has nothing for this runner");
        return Ok(DONE);
    }
    let fleet = Fleet::open(&flags.fleet.fleet, &flags.fleet.override_input)?;
    if flags.fleet.fleet == "demo" {
        let hosted = std::env::var("RUNNER_ENVIRONMENT").is_ok_and(|value| value == "github-hosted");
        if hosted { setup::install(cancel)? } else { setup::require(cancel)? }
    }
    let prefix = prefix(&fleet.root, cancel);
    let (record, images) = make(flags, fleet, name, &ids, cancel)?;
    if let Some(file) = runner_file("GITHUB_OUTPUT") {
        github::set_output(&file, "images", if images > 0 { "true" } else { "false" })?;
    }
    if std::env::var("GITHUB_ACTIONS").is_ok_and(|value| value == "true") {
        github::annotations(&record, &prefix).into_iter().for_each(|line| println!("{line}"));
    }
    Ok(match (cancel.is_set(), record.succeeded()) {
        (true, _) => INTERRUPTED,
        (false, true) => DONE,
        (false, false) => FAILED,
    })
}

/// Builds and tests jobs of the fleet, writes their record below the name of the entry and links their images. Also
/// says how many images there are.
pub fn make(flags: &flags::Entry, fleet: Fleet, name: &str, ids: &str, cancel: &Cancel) -> Result<(Record, usize)> {
    let jobs = wanted(&fleet, ids)?;
    let run = Run::begin(fleet, flags.stages.options(), cancel)?;
    let (tests, artifacts): (Vec<Job>, Vec<Job>) =
        jobs.into_iter().partition(|job| matches!(job.id.target, Target::Test(_)));
    let mut finished = run.realise(&artifacts)?;
    if !cancel.is_set() {
        run.inspect(&mut finished.jobs, &[])?;
    }
    if !cancel.is_set() && !tests.is_empty() {
        finished.extend(run.test(&tests, &TestOptions::default())?);
    }
    let mut record = run.record(&format!("ci entry {name}"), finished);
    keep_files(&flags.out, &mut record)?;
    write(&flags.out.join(format!("{name}.json")), &serde_json::to_string_pretty(&record)?)?;
    let images = link_images(&flags.out.join("images"), &record.jobs)?;
    eprint!("{}", table::render(&record, Paint { colour: false }));
    Ok((record, images))
}

/// The name and the job ids of this runner's share: those of one entry, or every n-th entry of a plan.
fn share(flags: &flags::Entry) -> Result<(String, String)> {
    let (Some(plan), Some(index), Some(of)) = (&flags.plan, flags.index, flags.of) else {
        return Ok((flags.name.clone().unwrap_or_default(), flags.jobs.clone().unwrap_or_default()));
    };
    let plan = PlanFile::read(plan)?;
    let fits = |entry: &&MatrixEntry| flags.system.as_ref().is_none_or(|system| *system == entry.system);
    let own = plan.entries.iter().filter(fits).skip(usize::from(index) - 1).step_by(of.into());
    let jobs: Vec<&str> = own.map(|entry| entry.jobs.as_str()).collect();
    Ok((format!("{}-runner-{index}", flags.system.as_deref().unwrap_or("any")), jobs.join(" ")))
}

/// The jobs that the entry names. One that the fleet does not have is wrong use: the plan was another fleet's.
fn wanted(fleet: &Fleet, text: &str) -> Result<Vec<Job>> {
    let ids: BTreeSet<JobId> =
        text.split_ascii_whitespace().map(|id| JobId::try_from(id.to_owned()).map_err(usage)).collect::<Result<_>>()?;
    let jobs: Vec<Job> = fleet.jobs().into_iter().filter(|job| ids.contains(&job.id)).collect();
    if let Some(unknown) = ids.iter().find(|id| !jobs.iter().any(|job| job.id == **id)) {
        return Err(usage(format!(
            "the fleet {} has no job {unknown}\n  the entry must come from a plan of the same fleet and commit",
            fleet.root
        )));
    }
    match jobs.is_empty() {
        true => Err(usage("the entry names no job: --jobs is empty")),
        false => Ok(jobs),
    }
}

/// Copies the pictures of boots to where the record lies, which names them from there, and the logs of tests that failed.
fn keep_files(out: &Utf8Path, record: &mut Record) -> Result<()> {
    for job in &mut record.jobs {
        let Some(test) = &mut job.test else { continue };
        // What somebody has taken away meanwhile is no reason to leave no record.
        for mut screen in std::mem::take(&mut test.screens) {
            let Ok(bytes) = std::fs::read(&screen.file) else { continue };
            screen.file = format!("screens/{}.{}.png", job.job, screen.boot).into();
            replace(&out.join(&screen.file), bytes)?;
            test.screens.push(screen);
        }
        let logs = test.files.iter().filter(|file| file.file_name() == Some("log.txt"));
        for bytes in logs.filter_map(|log| std::fs::read(log).ok()) {
            replace(&out.join(format!("logs/{}.txt", job.job)), bytes)?;
        }
    }
    Ok(())
}

/// Links every image of the entry to `dir/<host>/<file>`, for the upload; says how many there are.
fn link_images(dir: &Utf8Path, jobs: &[JobRecord]) -> Result<usize> {
    let mut count = 0;
    for job in jobs.iter().filter(|job| job.outcome.is_success()) {
        let (Some(image), Some(derivation)) = (&job.image, &job.derivation) else { continue };
        let folder = dir.join(job.job.host.as_str());
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {folder}"))?;
        let link = folder.join(&image.file);
        let _ = std::fs::remove_file(&link);
        let target = derivation.out.join("iso").join(&image.file);
        std::os::unix::fs::symlink(&target, &link).with_context(|| format!("cannot link {link}"))?;
        count += 1;
    }
    Ok(count)
}
