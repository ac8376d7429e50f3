//! What earlier runs measured of each job: seconds, so that shards are of equal length, and sizes, so that
//! a report can say what grew.

use std::{collections::BTreeMap, fs};

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use drydock_model::shard::WeighedJob;
use drydock_nix::nix::cache_folder;
use serde::{Deserialize, Serialize};

use crate::{
    files,
    job::{Artifact, Derivation, JobId, Target, Test},
};

const VERSION: u32 = 1;

/// Where measurements are kept: what was typed, or in the user's cache folder.
pub fn file(typed: Option<&Utf8Path>) -> Utf8PathBuf {
    let cache = || cache_folder().unwrap_or_else(|| ".cache/drydock".into()).join("history.json");
    typed.map_or_else(cache, Utf8Path::to_owned)
}

/// The last known measurements by job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct History {
    version: u32,
    jobs: BTreeMap<JobId, Measured>,
    /// What each of the last runs measured, the latest last.
    #[serde(default)]
    last: BTreeMap<JobId, Vec<Measured>>,
}

/// Runs of a job that are kept one by one.
const MOST_RUNS: usize = 12;

/// One job's measurements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Smoothed wall-clock seconds of building it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Bytes of the output with everything it refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closure_size: Option<u64>,
    /// Bytes of the image file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_size: Option<u64>,
}

impl Default for History {
    fn default() -> Self {
        Self { version: VERSION, jobs: BTreeMap::new(), last: BTreeMap::new() }
    }
}

impl History {
    /// Reads the file. One that is absent, of another version or damaged counts as empty: estimates do.
    pub fn read(file: &Utf8Path) -> Self {
        let text = fs::read_to_string(file).unwrap_or_default();
        let read: Option<Self> = serde_json::from_str(&text).ok();
        read.filter(|history| history.version == VERSION).unwrap_or_default()
    }

    /// Writes the file in one step, with its folder.
    pub fn write(&self, file: &Utf8Path) -> Result<()> {
        files::replace(file, serde_json::to_string_pretty(self)? + "\n")
    }

    /// Takes in what a run measured; what it did not measure stays.
    pub fn take(&mut self, id: &JobId, now: Measured) {
        let known = self.jobs.entry(id.clone()).or_default();
        // Half of what was known stays, so that one slow runner does not decide alone.
        if let Some(seconds) = now.seconds.filter(|seconds| seconds.is_finite() && *seconds > 0.0) {
            known.seconds = Some(known.seconds.map_or(seconds, |before| (before + seconds) / 2.0));
        }
        known.closure_size = now.closure_size.or(known.closure_size);
        known.image_size = now.image_size.or(known.image_size);
        if now != Measured::default() {
            let last = self.last.entry(id.clone()).or_default();
            last.push(now);
            last.drain(..last.len().saturating_sub(MOST_RUNS));
        }
    }

    /// What the last runs measured of a job, the latest last.
    pub fn last(&self, id: &JobId) -> &[Measured] {
        self.last.get(id).map_or(&[], Vec::as_slice)
    }

    pub fn of(&self, id: &JobId) -> Measured {
        self.jobs.get(id).copied().unwrap_or_default()
    }

    /// Jobs with what they are expected to take, for packing.
    pub fn weighed(&self, derivations: &[(JobId, Derivation)]) -> Vec<WeighedJob> {
        let piece = |(id, derivation): &(JobId, Derivation)| {
            let seconds = self.expected_seconds(id);
            WeighedJob { id: id.clone(), system: derivation.system.clone(), seconds }
        };
        derivations.iter().map(piece).collect()
    }

    /// The seconds that a job is expected to take: measured, or else estimated.
    pub fn expected_seconds(&self, id: &JobId) -> f64 {
        self.of(id).seconds.unwrap_or_else(|| estimate(id.target))
    }
}

/// Seconds that a target takes on a hosted runner with 4 cores where most of its closure is fetched: rough,
/// but right in proportion, which is all that packing needs.
fn estimate(target: Target) -> f64 {
    match target {
        Target::Artifact(Artifact::System) => 180.0,
        Target::Artifact(Artifact::Iso) => 300.0,
        Target::Test(Test::System | Test::Live) => 150.0,
        Target::Test(Test::Switch) => 240.0,
        Target::Test(Test::Install) => 420.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> JobId {
        JobId::try_from(text.to_owned()).unwrap()
    }

    fn seconds(seconds: f64) -> Measured {
        Measured { seconds: Some(seconds), ..Measured::default() }
    }

    #[test]
    fn measurements_replace_estimates_and_are_smoothed() {
        let mut history = History::default();
        assert!(history.expected_seconds(&id("a.tests.install")) > history.expected_seconds(&id("a.system")));
        for (measured, expected) in [(10.0, 10.0), (20.0, 15.0), (f64::NAN, 15.0), (-1.0, 15.0)] {
            history.take(&id("a.iso"), seconds(measured));
            assert!((history.expected_seconds(&id("a.iso")) - expected).abs() < 1e-9, "{measured}");
        }
    }

    #[test]
    fn sizes_are_the_last_known_ones() {
        let mut history = History::default();
        history.take(&id("a.iso"), Measured { closure_size: Some(7), image_size: Some(3), seconds: None });
        history.take(&id("a.iso"), Measured { closure_size: Some(8), ..seconds(1.0) });
        (0..MOST_RUNS).for_each(|n| history.take(&id("a.system"), seconds(n as f64)));
        history.take(&id("a.system"), seconds(99.0));
        let last = history.last(&id("a.system"));
        assert_eq!((last.len(), last[0], last[MOST_RUNS - 1]), (MOST_RUNS, seconds(1.0), seconds(99.0)));
        assert_eq!(
            history.of(&id("a.iso")),
            Measured { seconds: Some(1.0), closure_size: Some(8), image_size: Some(3) }
        );
    }

    #[test]
    fn the_file_survives_writing_and_damage_counts_as_nothing() {
        let dir = files::Temporary::new().unwrap();
        let file = dir.join("deep/history.json");
        let mut history = History::default();
        history.take(&id("a.tests.live"), seconds(3.5));
        history.write(&file).unwrap();
        assert_eq!(History::read(&file), history);
        for damage in ["", "{", r#"{"version":99,"jobs":{}}"#, r#"{"version":1,"jobs":{"nonsense":{}}}"#] {
            fs::write(&file, damage).unwrap();
            assert_eq!(History::read(&file), History::default(), "{damage}");
        }
    }
}
