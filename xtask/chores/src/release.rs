//! `cargo chores release`: collects a fleet's images with their checksums and bills of materials in one folder.
#![expect(clippy::print_stderr, reason = "a verb prints its report")]

use std::fs;

use anyhow::{Context as _, Result};
use camino::Utf8Path;
use serde_json::{Value, json};

use crate::{
    compare::{derivation::Graph, name, packages},
    diagnostic::{DONE, FAILED, INTERRUPTED, bytes},
    files::write,
    flags,
    fleet::Fleet,
    job::Artifact,
    plan::{self, Selection},
    process::Cancel,
    record::JobRecord,
    report::{
        markdown::RELEASE_LIMIT,
        table::{self, Paint},
    },
    run::{Options, Run},
};

/// The folder for images, checksums and bills of materials, which `ship` publishes.
pub const FOLDER: &str = "drydock-ci/release";

pub fn run(flags: &flags::Release, cancel: &Cancel) -> Result<u8> {
    let (fleet, system, folder) = (Fleet::open(&flags.fleet, &[])?, &flags.system, Utf8Path::new(FOLDER));
    fs::create_dir_all(folder).with_context(|| format!("cannot create {folder}"))?;
    let mut hosts = fleet.matrix.hosts.iter().filter(|host| host.system.as_str() == system);
    if !hosts.any(|host| host.artifacts.contains(&Artifact::Iso)) {
        eprintln!("no host of {system} has a live medium: there is nothing to release");
        return Ok(DONE);
    }
    let selection = Selection::new(&[], std::slice::from_ref(system), &[], &["iso".to_owned()], None)?;
    let plan = plan::plan(&fleet.matrix, &selection)?;
    let run = Run::begin(fleet, Options::default(), cancel)?;
    let mut finished = run.realise(&plan.jobs)?;
    if cancel.is_set() {
        return Ok(INTERRUPTED);
    }
    run.inspect(&mut finished.jobs, &[])?;
    let record = run.record("release", finished);
    let revision = record.fleet.revision.clone();
    eprint!("{}", table::render(&record, Paint { colour: false }));
    let refused: Vec<String> = record.jobs.iter().filter_map(too_large).collect();
    refused.iter().for_each(|text| eprintln!("{text}"));
    if !record.succeeded() || !refused.is_empty() {
        return Ok(FAILED);
    }
    let mut sums = String::new();
    for job in &record.jobs {
        sums += &collect(folder, job, revision.as_deref(), cancel)?;
    }
    write(&folder.join(format!("SHA256SUMS.{system}")), &sums)?;
    Ok(DONE)
}

/// Why an image cannot be a release asset, and what to do about it.
fn too_large(job: &JobRecord) -> Option<String> {
    let image = job.image.as_ref().filter(|image| image.size >= RELEASE_LIMIT)?;
    Some(format!(
        "{}: {} has {}, and a release takes files below {}\n  try: a smaller base profile (`live` in hosts.toml), a \
         stronger squashfs compression (`isoImage.squashfsCompression`), fewer packages (`cargo xtask diff {}` says what \
         came), or a mirror of your own for this image",
        job.job,
        image.file,
        bytes(image.size),
        bytes(RELEASE_LIMIT),
        job.job.host
    ))
}

/// Puts an image and its bill of materials into the folder, and returns its line for SHA256SUMS.
fn collect(dir: &Utf8Path, job: &JobRecord, revision: Option<&str>, cancel: &Cancel) -> Result<String> {
    let (Some(image), Some(derivation)) = (&job.image, &job.derivation) else {
        anyhow::bail!("{} is built and has no image", job.job);
    };
    let (from, to) = (derivation.out.join("iso").join(&image.file), dir.join(&image.file));
    anyhow::ensure!(!to.exists(), "{to} exists already: two hosts have an image of the same name");
    std::os::unix::fs::symlink(&from, &to).with_context(|| format!("cannot link {to}"))?;
    let graph = Graph::read(&[derivation.drv.as_str()], cancel)?;
    let names = packages::below(&graph, derivation.drv.as_str());
    let document = bill(&image.file, &image.sha256, revision, names.into_iter());
    write(&dir.join(format!("{}.spdx.json", image.file)), &serde_json::to_string_pretty(&document)?)?;
    Ok(format!("{}  {}\n", image.sha256, image.file))
}

/// An SPDX 2.3 document: the image, and every package that it was built from. Which of these are inside the
/// image and which only built it, derivations do not tell, so that the relationship claims no more.
fn bill<'a>(file: &str, sha256: &str, revision: Option<&str>, names: impl Iterator<Item = &'a str>) -> Value {
    let mut packages = vec![json!({
        "SPDXID": "SPDXRef-image",
        "name": file,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "checksums": [{ "algorithm": "SHA256", "checksumValue": sha256 }],
    })];
    let mut relationships = vec![json!({
        "spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-image",
    })];
    for (n, full) in names.enumerate() {
        let (name, version) = name::split(full);
        let id = format!("SPDXRef-package-{}", n + 1);
        packages.push(json!({
            "SPDXID": id, "name": name, "versionInfo": version,
            "downloadLocation": "NOASSERTION", "filesAnalyzed": false,
        }));
        relationships.push(json!({
            "spdxElementId": id, "relationshipType": "BUILD_DEPENDENCY_OF", "relatedSpdxElement": "SPDXRef-image",
        }));
    }
    json!({
        "spdxVersion": "SPDX-2.3",
        "SPDXID": "SPDXRef-DOCUMENT",
        "dataLicense": "CC0-1.0",
        "name": file,
        // The image's hash makes it unique, as the specification wants it; nothing has to be found there.
        "documentNamespace": format!("https://spdx.org/spdxdocs/{file}-{sha256}"),
        // The epoch, so that the same image has the same bill: a time of its making would differ each time.
        "creationInfo": { "created": "1970-01-01T00:00:00Z", "creators": ["Tool: drydock"], "comment": revision },
        "packages": packages,
        "relationships": relationships,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use drydock_model::samples::record as sample;

    #[test]
    fn an_image_that_a_release_cannot_hold_is_refused_with_advice() {
        let mut job = sample().jobs[0].clone();
        assert_eq!(too_large(&job), None);
        job.image.as_mut().unwrap().size = RELEASE_LIMIT - 1;
        assert_eq!(too_large(&job), None);
        job.image.as_mut().unwrap().size = RELEASE_LIMIT;
        let text = too_large(&job).unwrap();
        assert!(text.contains("a.iso has 2.0 GiB") && text.contains("try: "), "{text}");
    }

    #[test]
    fn a_bill_names_every_package_once_with_its_version() {
        let bill = bill("a.iso", "00", Some("abc"), ["hello-2.12", "linux-6.1"].into_iter());
        assert_eq!(bill["packages"].as_array().unwrap().len(), 3);
        assert_eq!(
            (&bill["packages"][1]["name"], &bill["packages"][1]["versionInfo"]),
            (&json!("hello"), &json!("2.12"))
        );
        assert_eq!(bill["relationships"][2]["spdxElementId"], "SPDXRef-package-2");
    }
}
