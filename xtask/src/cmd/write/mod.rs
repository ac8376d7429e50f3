//! `cargo xtask write`: writes a host's live medium to a stick, after asking, and reads it back.
#![expect(clippy::print_stderr, reason = "a verb tells people what it writes")]

mod carry_out;
mod choose;
mod meter;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    diagnostic::{FAILED, INTERRUPTED, as_called, lacking, usage},
    flags::{SelectionFlags, Write, WriteDevice},
    fleet::Fleet,
    job::{Artifact, HostName, Job, Outcome},
    plan,
    process::Cancel,
    results::{self, PublishedArtifact},
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

/// What is to be written where.
struct Wish {
    job: Job,
    /// As it was typed; none where it is asked for, and for a file.
    device: Option<Utf8PathBuf>,
}

pub fn run(flags: &Write, cancel: &Cancel) -> Result<u8> {
    if std::env::consts::OS != "linux" {
        return Err(lacking(
            "`write` finds devices by lsblk, which is Linux's\n  try: on macOS `diskutil list` and `dd`, on Windows Rufus \
             or balenaEtcher, with the image in result/HOST/iso/",
        ));
    }
    let fleet = Fleet::open(&flags.fleet.fleet, &flags.fleet.override_input)?;
    let wishes = wishes(flags, &fleet)?;
    // What will be refused or has to be asked is known before anything is built.
    match &flags.file {
        Some(file) if !choose::may_replace(file, flags.yes, cancel)? => return Ok(nothing_written()),
        Some(_) => {}
        None => {
            let table = device::attached(cancel)?;
            let mut devices = Vec::new();
            for Wish { job, device } in &wishes {
                let Some(typed) = device else {
                    choose::ensure_may_choose(&table, &job.id.host, flags.yes)?;
                    continue;
                };
                devices.push(choose::named(typed, &table, 0)?);
                choose::ensure_may_ask(typed, devices[devices.len() - 1], flags.yes)?;
            }
            choose::ensure_apart(&devices)?;
        }
    }
    let jobs: Vec<Job> = wishes.iter().map(|wish| wish.job.clone()).collect();
    let Some(images) = images(flags, &fleet, &jobs, cancel)? else {
        return Ok(if cancel.is_set() { INTERRUPTED } else { FAILED });
    };
    if let (Some(file), [image]) = (&flags.file, images.as_slice()) {
        return carry_out::to_file(image, file, cancel);
    }
    match choose::orders(&wishes, &images, flags.yes, cancel)? {
        Some(orders) => carry_out::orders(&orders, cancel),
        None => Ok(nothing_written()),
    }
}

/// The part that needs root, which `sudo` starts.
pub fn run_as_root(flags: &WriteDevice, cancel: &Cancel) -> Result<u8> {
    let orders: Vec<_> =
        serde_json::from_str(&flags.orders).map_err(|error| usage(format!("that is no order of `write`: {error}")))?;
    carry_out::here(&orders, cancel)
}

fn nothing_written() -> u8 {
    eprintln!("write: nothing was written");
    INTERRUPTED
}

fn wishes(flags: &Write, fleet: &Fleet) -> Result<Vec<Wish>> {
    if let Some(host) = &flags.host {
        return Ok(vec![Wish { job: job(host, fleet)?, device: flags.device.clone() }]);
    }
    let wish = |typed: &String| {
        let parts = typed.split_once('=').filter(|(host, device)| !host.is_empty() && !device.is_empty());
        let (host, device) =
            parts.ok_or_else(|| usage(format!("--all-attached {typed} is not of the form HOST=DEVICE")))?;
        Ok(Wish { job: job(host, fleet)?, device: Some(device.into()) })
    };
    flags.all_attached.iter().map(wish).collect()
}

fn job(host: &str, fleet: &Fleet) -> Result<Job> {
    let (hosts, artifact) = (vec![host.to_owned()], vec![Artifact::Iso.as_str().into()]);
    let selection = SelectionFlags { hosts, artifact, ..Default::default() };
    let jobs = plan::plan(&fleet.matrix, &selection.artifacts()?)?.jobs;
    let [job] = jobs.as_slice() else {
        let names: Vec<&str> = jobs.iter().map(|job| job.id.host.as_str()).collect();
        let (count, names) = (jobs.len(), names.join(", "));
        return Err(usage(format!("`{host}` is {count} hosts; one is written to a device: {names}")));
    };
    Ok(job.clone())
}

/// Builds the images, or takes what an earlier run left. `None` means that a build failed or was interrupted, which has
/// been told.
fn images(flags: &Write, fleet: &Fleet, jobs: &[Job], cancel: &Cancel) -> Result<Option<Vec<Built>>> {
    let earlier = results::manifest_in(&flags.out_link).results;
    if flags.no_build {
        let take = |job: &Job| take(&flags.out_link, &earlier, &job.id.host);
        return jobs.iter().map(take).collect::<Result<_>>().map(Some);
    }
    let run = Run::begin(fleet.clone(), Options::default(), cancel)?;
    // Several devices may get one host's image.
    let distinct: BTreeMap<_, _> = jobs.iter().map(|job| (&job.id, job.clone())).collect();
    let mut records = run.realise(&distinct.into_values().collect::<Vec<_>>())?.jobs;
    run.inspect(&mut records, &earlier)?;
    let mut images = Vec::new();
    for job in jobs {
        let record = records.iter().find(|record| record.job == job.id).context("a job has a record")?;
        if let Outcome::Failed(failure) = &record.outcome {
            eprintln!("write: {} could not be built: {}", job.id, failure.message);
            failure.log_tail.iter().for_each(|line| eprintln!("  | {line}"));
            eprintln!("  to repeat it: {}", as_called(&failure.reproduce));
        }
        if let (true, Some(derivation), Some(image)) = (record.outcome.is_success(), &record.derivation, &record.image)
        {
            let path = derivation.out.join("iso").join(&image.file);
            images.push(Built { path, size: image.size, sha256: image.sha256.clone() });
        }
    }
    Ok((images.len() == jobs.len()).then_some(images))
}

/// The image that an earlier run left. Errors: exit code 2 if it left none.
fn take(results: &Utf8Path, earlier: &[PublishedArtifact], host: &HostName) -> Result<Built> {
    let try_building = format!("try: without --no-build, or `cargo xtask build-all {host}`");
    let missing = || usage(format!("--no-build: {results} has no image of {host}\n  {try_building}"));
    let entry = earlier.iter().find(|entry| entry.host == *host && entry.image.is_some()).ok_or_else(missing)?;
    let image = entry.image.as_ref().ok_or_else(missing)?;
    let path = results.join(&image.path).canonicalize_utf8();
    let path = path.map_err(|error| usage(format!("--no-build: {results}: {error}\n  {try_building}")))?;
    let state = match (&entry.revision, entry.dirty) {
        (Some(revision), false) => format!("of revision {revision}"),
        (Some(revision), true) => format!("of revision {revision} with changes that were not committed"),
        (None, _) => "of sources without a revision".to_owned(),
    };
    eprintln!("write: an earlier build {state}; whether the sources are others by now was not looked at");
    Ok(Built { path, size: image.size, sha256: image.sha256.clone() })
}
