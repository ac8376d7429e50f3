//! Reads records that runs wrote before.

use std::fs;

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    diagnostic::usage,
    files,
    record::{self, Record, Screen},
    timings::Span,
};

/// Reads every record named, and every `.json` file of the folders named.
pub fn read_all(paths: &[Utf8PathBuf]) -> Result<Vec<Record>> {
    let mut files = Vec::new();
    for path in paths {
        match path.is_dir() {
            true => json_files(path, &mut files)?,
            false => files.push(path.clone()),
        }
    }
    anyhow::ensure!(!files.is_empty(), usage("there is no record: the folders hold no file that ends in .json"));
    files.iter().map(|file| read(file)).collect()
}

/// What went on in all runs; seconds count from the start of the first.
pub fn spans<'r>(records: impl Iterator<Item = &'r Record> + Clone) -> Vec<Span> {
    let first = records.clone().filter_map(|record| record.began).min().unwrap_or(0);
    let moved = |record: &'r Record| {
        let by = record.began.map_or(0.0, |began| (began - first) as f64);
        record.spans.iter().map(move |span| Span { start: span.start + by, end: span.end + by, ..span.clone() })
    };
    records.flat_map(moved).collect()
}

/// All `.json` files below a folder, sorted.
pub fn json_files(dir: &Utf8Path, files: &mut Vec<Utf8PathBuf>) -> Result<()> {
    let list = dir.read_dir_utf8().with_context(|| format!("cannot list {dir}"))?;
    let mut entries = list.collect::<std::io::Result<Vec<_>>>().with_context(|| format!("cannot list {dir}"))?;
    entries.sort_by(|a, b| a.path().cmp(b.path()));
    for entry in entries {
        if entry.path().is_dir() {
            json_files(entry.path(), files)?;
        } else if entry.path().extension() == Some("json") {
            files.push(entry.path().to_owned());
        }
    }
    Ok(())
}

/// The picture of a boot, if it is there and the one that the record means.
pub fn picture(screen: &Screen) -> Option<Vec<u8>> {
    let is_small = |file: &fs::Metadata| file.is_file() && file.len() <= Screen::LARGEST;
    let bytes = fs::metadata(&screen.file).ok().filter(is_small).and_then(|_| fs::read(&screen.file).ok())?;
    (Screen::is_picture(&bytes) && files::sha256(&bytes) == screen.sha256).then_some(bytes)
}

/// Reads one record and refuses a version that is not known.
pub fn read(file: &Utf8Path) -> Result<Record> {
    let text = fs::read_to_string(file).map_err(|error| usage(format!("cannot read {file}: {error}")))?;
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| usage(format!("{file} is no JSON: {error}")))?;
    let version = value.get("version").and_then(serde_json::Value::as_u64);
    if version != Some(record::VERSION.into()) {
        return Err(usage(format!(
            "{file} is no record of version {}: its version is {}\n  `cargo xtask build-all --json` prints one",
            record::VERSION,
            version.map_or_else(|| "missing".to_owned(), |v| v.to_string())
        )));
    }
    let mut record: Record = serde_json::from_value(value)
        .map_err(|error| usage(format!("{file} is not in the form of a record: {error}")))?;
    let folder = file.parent().unwrap_or(Utf8Path::new(""));
    let tests = record.jobs.iter_mut().filter_map(|job| job.test.as_mut());
    tests.flat_map(|test| &mut test.screens).for_each(|screen| screen.file = folder.join(&screen.file));
    Ok(record)
}

#[cfg(test)]
mod tests {
    use drydock_model::{job::Outcome, record::TestRecord, samples};

    use super::*;
    use crate::files::Temporary;

    #[test]
    fn a_picture_lies_beside_its_record_and_is_the_one_that_was_meant() {
        let (dir, picture_bytes) = (Temporary::new().unwrap(), b"\x89PNG\r\n\x1a\n1");
        let screen = |file: &str, sha256: &str| Screen {
            boot: "vm".into(),
            passed: true,
            file: file.into(),
            sha256: sha256.into(),
        };
        let good = files::sha256(picture_bytes);
        let screens = vec![
            screen("screens/vm.png", &good),
            screen("screens/vm.png", &files::sha256(b"another")),
            screen("text.png", &files::sha256(b"text")),
            screen("../nothing.png", &good),
        ];
        let mut record = samples::record();
        record.jobs = vec![samples::job("a.tests.live", Outcome::Built)];
        record.jobs[0].test = Some(TestRecord {
            accel: "tcg".into(),
            why: String::new(),
            place: "sandbox".into(),
            seconds: 1.0,
            runs: 1,
            passed: 1,
            subtests: vec![],
            files: vec![],
            screens,
        });
        files::write(&dir.join("record.json"), &serde_json::to_string(&record).unwrap()).unwrap();
        files::replace(&dir.join("screens/vm.png"), picture_bytes).unwrap();
        files::write(&dir.join("text.png"), "text").unwrap();
        let read = read(&dir.join("record.json")).unwrap();
        let found: Vec<bool> =
            read.jobs[0].test.iter().flat_map(|test| &test.screens).map(|screen| picture(screen).is_some()).collect();
        assert_eq!(found, [true, false, false, false]);
    }
}
