//! Examines a machine for a fleet: what the machine can do for the fleet, what it cannot, and
//! what to do about it. All questions are asked side by side, each under a deadline.

mod emulation;
mod engine;
mod machine;
mod sandbox;

use std::collections::BTreeSet;

use camino::Utf8PathBuf;
use rayon::prelude::*;
use serde::Serialize;

use crate::{job::Artifact, matrix::Matrix, process::Cancel};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok,
    /// Something is slower, less safe or not possible, but build-all runs.
    Warn,
    /// build-all cannot do its work for the whole fleet.
    Missing,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Missing => "missing",
        }
    }
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was asked, such as `kvm`; stable, for programs.
    pub check: String,
    pub state: State,
    /// What was found, in one line.
    pub found: String,
    /// What to do about it; absent where nothing needs to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self { check: check.into(), state: State::Ok, found: found.into(), advice: None }
    }

    fn warn(check: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check: check.into(), state: State::Warn, found: found.into(), advice: Some(advice.into()) }
    }

    fn missing(check: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check: check.into(), state: State::Missing, found: found.into(), advice: Some(advice.into()) }
    }
}

/// What a fleet asks of a machine.
#[derive(Clone, Debug)]
pub struct Needs {
    /// The systems of its hosts.
    pub systems: BTreeSet<String>,
    /// Bytes that building all of it takes, as far as that can be told beforehand.
    pub disk: u64,
    /// True if the fleet lies in a Git repository.
    pub git: bool,
    /// The embedded fleet's files are needed.
    pub demo: bool,
    /// `ci/setup` of this repository, if it is there.
    pub setup: Option<Utf8PathBuf>,
}

impl Needs {
    /// An installed NixOS system is 2 to 4 GB, an ISO holds 1 to 2 GB and its closure as much again; a host of
    /// the embedded fleet is a twentieth of that.
    pub fn of(matrix: &Matrix, demo: bool, git: bool, setup: Option<Utf8PathBuf>) -> Self {
        const GB: u64 = 1_000_000_000;
        let bytes = |artifact: &Artifact| match artifact {
            Artifact::Iso => 4 * GB,
            Artifact::System => 3 * GB,
        };
        let full: u64 = matrix.hosts.iter().flat_map(|host| host.artifacts.iter().map(bytes)).sum();
        let systems = matrix.hosts.iter().map(|host| host.system.to_string()).collect();
        Self { systems, disk: if demo { full / 20 } else { full }, git, demo, setup }
    }
}

/// Asks everything at once; the order of the answers is fixed.
pub fn examine(needs: &Needs, cancel: &Cancel) -> Vec<Finding> {
    let (kvm, known) = std::sync::mpsc::channel();
    type Question<'a> = Box<dyn FnOnce() -> Vec<Finding> + Send + 'a>;
    let questions: Vec<Question<'_>> = vec![
        Box::new(move || engine::examine(needs, &known, cancel)),
        Box::new(move || machine::kvm(&kvm, cancel)),
        Box::new(|| machine::disk(needs)),
        Box::new(machine::memory),
        Box::new(|| machine::git(needs, cancel)),
        Box::new(|| machine::qemu(needs, cancel)),
        Box::new(|| machine::demo_files(needs, cancel)),
    ];
    // More threads than processors: they wait for other programs and for deadlines.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(questions.len() + 4).build();
    let ask = || -> Vec<Finding> { questions.into_par_iter().flat_map_iter(|ask| ask()).collect() };
    match pool {
        Ok(pool) => pool.install(ask),
        Err(_) => ask(),
    }
}
