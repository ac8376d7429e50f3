//! How long jobs took, remembered from run to run, so that the next run's shards are of equal length.

use std::{collections::BTreeMap, fs, io};

use anyhow::{Context as _, Result};
use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use crate::job::{Artifact, JobId, Target, Test};

const VERSION: u32 = 1;

/// Measured wall-clock seconds by job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Durations {
    version: u32,
    jobs: BTreeMap<JobId, f64>,
}

impl Default for Durations {
    fn default() -> Self {
        Self { version: VERSION, jobs: BTreeMap::new() }
    }
}

impl Durations {
    /// Reads the file. One that is absent, of another version or damaged counts as empty: estimates do.
    pub fn read(file: &Utf8Path) -> Self {
        let text = fs::read_to_string(file).unwrap_or_default();
        let read: Option<Self> = serde_json::from_str(&text).ok();
        read.filter(|durations| durations.version == VERSION).unwrap_or_default()
    }

    /// Writes the file in one step, with its folder.
    pub fn write(&self, file: &Utf8Path) -> Result<()> {
        let what = || format!("cannot write the durations to {file}");
        let write = || -> io::Result<()> {
            fs::create_dir_all(file.parent().unwrap_or_else(|| Utf8Path::new(".")))?;
            let partial = file.with_extension(format!("{}.partial", std::process::id()));
            fs::write(&partial, serde_json::to_string_pretty(self)? + "\n")?;
            fs::rename(&partial, file)
        };
        write().with_context(what)
    }

    /// Takes in a measurement. Half of what was known stays, so that one slow runner does not decide alone.
    pub fn measured(&mut self, id: &JobId, seconds: f64) {
        if seconds.is_finite() && seconds > 0.0 {
            let entry = self.jobs.entry(id.clone()).or_insert(seconds);
            *entry = (*entry + seconds) / 2.0;
        }
    }

    /// The seconds that a job is expected to take.
    pub fn expected(&self, id: &JobId) -> f64 {
        self.jobs.get(id).copied().unwrap_or_else(|| estimate(id.target))
    }

    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
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

    #[test]
    fn measurements_replace_estimates_and_are_smoothed() {
        let mut durations = Durations::default();
        assert!(durations.expected(&id("a.tests.install")) > durations.expected(&id("a.system")));
        durations.measured(&id("a.iso"), 10.0);
        assert!((durations.expected(&id("a.iso")) - 10.0).abs() < 1e-9);
        durations.measured(&id("a.iso"), 20.0);
        assert!((durations.expected(&id("a.iso")) - 15.0).abs() < 1e-9);
        durations.measured(&id("a.iso"), f64::NAN);
        assert!((durations.expected(&id("a.iso")) - 15.0).abs() < 1e-9);
    }

    #[test]
    fn the_file_survives_writing_and_damage_counts_as_nothing() {
        let dir = std::env::temp_dir().join(format!("drydock-durations-{}", std::process::id()));
        let file = Utf8Path::from_path(&dir).unwrap().join("deep/durations.json");
        let mut durations = Durations::default();
        durations.measured(&id("a.tests.live"), 3.5);
        durations.write(&file).unwrap();
        assert_eq!(Durations::read(&file), durations);
        for damage in ["", "{", r#"{"version":99,"jobs":{}}"#, r#"{"version":1,"jobs":{"nonsense":1}}"#] {
            fs::write(&file, damage).unwrap();
            assert!(Durations::read(&file).is_empty(), "{damage}");
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
