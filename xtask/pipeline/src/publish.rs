//! Looks at what was built, hashes images, and publishes both in the results folder.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use anyhow::Result;

use crate::{
    job::{Derivation, Failure, Outcome, Stage, Target},
    nix::argv,
    process::Invocation,
    record::{FleetRecord, Image, JobRecord},
    results::{self, ImageFile, PublishedArtifact, Results},
    run::{Finished, Run},
};

impl Run<'_> {
    /// Looks at outputs, publishes those that are good, and adds what was seen to the jobs' records. With `anew` images
    /// are hashed that were hashed before. After an interrupt the results stay as they were.
    pub fn publish(&self, results: &Results, finished: &mut Finished, anew: bool) -> Result<()> {
        if self.cancel.is_set() {
            results.leave();
            return Ok(());
        }
        let began = Instant::now();
        let earlier = if anew { vec![] } else { results.manifest().results };
        self.inspect(&mut finished.jobs, &earlier)?;
        let hosts: BTreeSet<_> = self.fleet.matrix.hosts.iter().map(|host| host.name.clone()).collect();
        let entries = finished.jobs.iter().filter_map(|job| entry(job, self.source())).collect();
        self.timings.step("exchange the results", || results.publish(entries, &hosts, self.cancel))?;
        finished.seconds.verify = began.elapsed().as_secs_f64();
        Ok(())
    }

    /// Looks at every output, adds sizes, and hashes images; the hash of an image that an earlier run hashed at
    /// the same store path and size is kept, because store paths do not change.
    pub fn inspect(&self, jobs: &mut [JobRecord], earlier: &[PublishedArtifact]) -> Result<()> {
        self.timings.step("look at outputs and hash images", || self.look(jobs, earlier))
    }

    fn look(&self, jobs: &mut [JobRecord], earlier: &[PublishedArtifact]) -> Result<()> {
        let mut fresh = Vec::new();
        let mut images = BTreeMap::new();
        for job in jobs.iter_mut().filter(|job| job.outcome.is_success()) {
            let (Target::Artifact(artifact), Some(derivation)) = (job.job.target, &job.derivation) else { continue };
            match results::inspect(&derivation.out, artifact) {
                Ok(None) => {}
                Ok(Some((path, size))) => {
                    let same = |e: &&PublishedArtifact| e.store_path == derivation.out;
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
        images.extend(results::sha256(&fresh, self.cancel)?);
        // What an earlier run measured of the same store path still holds.
        let mut sizes: BTreeMap<&str, (u64, u64)> =
            earlier.iter().map(|e| (e.store_path.as_str(), (e.size, e.closure_size))).collect();
        let unmeasured = |job: &&JobRecord| job.outcome.is_success() && job.closure_size.is_none();
        let outs = jobs.iter().filter(unmeasured).filter_map(out);
        let paths: Vec<&str> = outs.filter(|out| !sizes.contains_key(out)).collect();
        let infos = if paths.is_empty() { vec![] } else { self.nix.path_info(&paths, self.cancel)? };
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

fn entry(job: &JobRecord, source: &FleetRecord) -> Option<PublishedArtifact> {
    let (true, Target::Artifact(artifact)) = (job.outcome.is_success(), job.job.target) else { return None };
    let derivation = job.derivation.as_ref()?;
    let image = job.image.as_ref().map(|image| ImageFile {
        path: format!("{}/{}/{}", job.job.host, artifact.as_str(), image.file).into(),
        size: image.size,
        sha256: image.sha256.clone(),
    });
    Some(PublishedArtifact {
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
