//! The JSON record of a run: what `--json` prints and what `cargo xtask report` reads. docs/record.md
//! documents it; a change of meaning raises [`VERSION`].

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use crate::{
    job::{Derivation, Job, JobId, Outcome, Subtest, System},
    timings::Span,
};

/// The version of the form. Readers ignore fields they do not know and refuse versions they do not know.
pub const VERSION: u32 = 1;

/// One run of a verb over a selection of jobs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Always [`VERSION`].
    pub version: u32,
    /// The verb, such as `build-all`.
    pub command: String,
    pub fleet: FleetRecord,
    /// Nix's version, such as `2.26`.
    pub nix: String,
    /// When it began, in seconds since 1970; absent in records of earlier versions of Drydock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<u64>,
    /// Wall-clock seconds of the stages; they overlap, so that their sum may exceed the total.
    pub seconds: StageSeconds,
    /// Sorted by job id.
    pub jobs: Vec<JobRecord>,
    /// What was built and not pushed to the cache that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_pushed: Vec<NotPushed>,
    /// What went on when; seconds count from the start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<Span>,
}

/// A push that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotPushed {
    /// The outputs.
    pub paths: Vec<Utf8PathBuf>,
    pub why: String,
    /// The command that repeats it.
    pub reproduce: String,
}

/// Where the run's sources came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetRecord {
    pub root: Utf8PathBuf,
    /// The flake reference that Nix was given.
    pub flake: String,
    /// The checked-out commit, if the fleet lies in a git work tree.
    pub revision: Option<String>,
    /// True if tracked files differ from that commit.
    pub dirty: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageSeconds {
    /// From the start to the last derivation.
    pub evaluate: f64,
    /// From the first derivation to the last output.
    pub build: f64,
    /// Looking at outputs, hashing images, writing the links.
    pub verify: f64,
    pub total: f64,
}

/// One job of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    pub job: JobId,
    pub system: System,
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub derivation: Option<Derivation>,
    /// Wall-clock seconds of this job's evaluation; absent if none was needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluate_seconds: Option<f64>,
    /// Seconds during which it, or what it needed, was being built or copied, or its test ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_seconds: Option<f64>,
    /// The remote machine that built it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Bytes of the output itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Bytes of the output and everything it refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closure_size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<TestRecord>,
}

/// How a VM test was run, and its parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TestRecord {
    /// `kvm` or `tcg`: who executed the guest's instructions.
    pub accel: String,
    /// The accelerator and why it was this one, in words.
    pub why: String,
    /// `sandbox`: as a Nix build; `outside`: by its driver as an ordinary program.
    pub place: String,
    /// Wall-clock seconds of one run, on average; 0 if it passed in an earlier run of the same derivation.
    pub seconds: f64,
    /// How often it was run, and how often it passed.
    pub runs: usize,
    pub passed: usize,
    pub subtests: Vec<Subtest>,
    /// After a failure: the log, screenshots and what else the run left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<Utf8PathBuf>,
    /// What each boot of the test showed, sorted by boot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub screens: Vec<Screen>,
}

/// The picture of one boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Screen {
    /// The machine's name in the test, which says firmware and medium: `live-bios-usb`.
    pub boot: String,
    /// False for a boot in which the test failed.
    pub passed: bool,
    /// A PNG; relative to the folder of the record's file.
    pub file: Utf8PathBuf,
    /// Hexadecimal SHA-256: a later run may have left another picture under this name.
    pub sha256: String,
}

impl Screen {
    /// Bytes of a picture at most.
    pub const LARGEST: u64 = 100_000;

    /// Whether the content of a file is a PNG that a record may name.
    pub fn is_picture(bytes: &[u8]) -> bool {
        bytes.starts_with(b"\x89PNG\r\n\x1a\n") && bytes.len() as u64 <= Self::LARGEST
    }
}

/// An image file that a person writes to a medium.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The file's name inside the output's `iso` folder.
    pub file: String,
    /// Bytes.
    pub size: u64,
    /// Hexadecimal SHA-256 of its content, read from disk.
    pub sha256: String,
}

impl JobRecord {
    /// A job of which nothing is known but what became of it.
    pub fn new(job: &Job, outcome: Outcome) -> Self {
        Self {
            job: job.id.clone(),
            system: job.system.clone(),
            outcome,
            derivation: None,
            evaluate_seconds: None,
            build_seconds: None,
            machine: None,
            size: None,
            closure_size: None,
            image: None,
            test: None,
        }
    }
}

impl Record {
    pub fn succeeded(&self) -> bool {
        self.jobs.iter().all(|job| job.outcome.is_success())
    }
}
