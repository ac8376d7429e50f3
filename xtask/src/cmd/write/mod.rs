//! `cargo xtask write`: writes a host's live medium to a stick, after asking, and reads it back.
#![expect(clippy::print_stderr, reason = "a verb tells people what it writes")]

mod carry_out;
mod choose;
mod meter;

use anyhow::{Context as _, Result};
use camino::Utf8PathBuf;

use crate::{
    diagnostic::{FAILED, INTERRUPTED, as_called, lacking, usage},
    flags::{SelectionFlags, Write, WriteDevice},
    fleet::Fleet,
    job::{Artifact, Job, Outcome},
    plan,
    process::Cancel,
    results,
    run::{Options, Run},
    ship::device,
};

/// An image that is built, and what its bytes must be.
struct Built {
    path: Utf8PathBuf,
    /// Bytes.
    size: u64,
    sha256: String,
}

pub fn run(flags: &Write, cancel: &Cancel) -> Result<u8> {
    if std::env::consts::OS != "linux" {
        return Err(lacking(
            "`write` finds devices by lsblk, which is Linux's\n  try: on macOS `diskutil list` and `dd`, on Windows Rufus \
             or balenaEtcher, with the image in result/HOST/iso/",
        ));
    }
    let fleet = Fleet::open(&flags.fleet.fleet, &flags.fleet.override_input)?;
    let job = job(flags, &fleet)?;
    // What will be refused or has to be asked is known before anything is built.
    match (&flags.file, &flags.device) {
        (Some(file), _) => {
            if !choose::may_replace(file, flags.yes, cancel)? {
                return Ok(nothing_written());
            }
        }
        (None, Some(typed)) => {
            let table = device::attached(cancel)?;
            let device = choose::named(typed, &table, 0)?;
            choose::ensure_may_ask(typed, device, flags.yes)?;
        }
        (None, None) => choose::ensure_may_choose(&device::attached(cancel)?, flags)?,
    }
    let Some(image) = image(flags, &fleet, &job, cancel)? else {
        return Ok(if cancel.is_set() { INTERRUPTED } else { FAILED });
    };
    if let Some(file) = &flags.file {
        return carry_out::to_file(&image, file, cancel);
    }
    match choose::order(flags, &image, cancel)? {
        Some(order) => carry_out::order(&order, cancel),
        None => Ok(nothing_written()),
    }
}

/// The part that needs root, which `sudo` starts.
pub fn run_as_root(flags: &WriteDevice, cancel: &Cancel) -> Result<u8> {
    let order = serde_json::from_str(&flags.order);
    carry_out::here(&order.map_err(|error| usage(format!("that is no order of `write`: {error}")))?, cancel)
}

fn nothing_written() -> u8 {
    eprintln!("write: nothing was written");
    INTERRUPTED
}

fn job(flags: &Write, fleet: &Fleet) -> Result<Job> {
    let (hosts, artifact) = (vec![flags.host.clone()], vec![Artifact::Iso.as_str().into()]);
    let selection = SelectionFlags { hosts, artifact, ..Default::default() };
    let jobs = plan::plan(&fleet.matrix, &selection.artifacts()?)?.jobs;
    let [job] = jobs.as_slice() else {
        let names: Vec<&str> = jobs.iter().map(|job| job.id.host.as_str()).collect();
        return Err(usage(format!(
            "`{}` is {} hosts; write one at a time: {}",
            flags.host,
            jobs.len(),
            names.join(", ")
        )));
    };
    Ok(job.clone())
}

/// Builds the image, or takes what an earlier run left. `None` means that the build failed or was interrupted, which has
/// been told.
fn image(flags: &Write, fleet: &Fleet, job: &Job, cancel: &Cancel) -> Result<Option<Built>> {
    let earlier = results::manifest_in(&flags.out_link).results;
    if flags.no_build {
        let entry = earlier.into_iter().find(|entry| entry.host == job.id.host && entry.image.is_some());
        let try_building = format!("try: without --no-build, or `cargo xtask build-all {}`", job.id.host);
        let missing =
            || usage(format!("--no-build: {} has no image of {}\n  {try_building}", flags.out_link, job.id.host));
        let entry = entry.ok_or_else(missing)?;
        let image = entry.image.ok_or_else(missing)?;
        let path = flags.out_link.join(image.path);
        let path = path.canonicalize_utf8();
        let path = path.map_err(|error| usage(format!("--no-build: {}: {error}\n  {try_building}", flags.out_link)))?;
        let state = match (entry.revision, entry.dirty) {
            (Some(revision), false) => format!("of revision {revision}"),
            (Some(revision), true) => format!("of revision {revision} with changes that were not committed"),
            (None, _) => "of sources without a revision".to_owned(),
        };
        eprintln!("write: an earlier build {state}; whether the sources are others by now was not looked at");
        return Ok(Some(Built { path, size: image.size, sha256: image.sha256 }));
    }
    let run = Run::begin(fleet.clone(), Options::default(), cancel)?;
    let mut jobs = run.realise(std::slice::from_ref(job))?.jobs;
    run.inspect(&mut jobs, &earlier)?;
    let record = jobs.into_iter().next().context("a job has a record")?;
    if let Outcome::Failed(failure) = &record.outcome {
        eprintln!("write: {} could not be built: {}", job.id, failure.message);
        failure.log_tail.iter().for_each(|line| eprintln!("  | {line}"));
        eprintln!("  to repeat it: {}", as_called(&failure.reproduce));
    }
    let (true, Some(derivation), Some(image)) = (record.outcome.is_success(), record.derivation, record.image) else {
        return Ok(None);
    };
    Ok(Some(Built { path: derivation.out.join("iso").join(image.file), size: image.size, sha256: image.sha256 }))
}
