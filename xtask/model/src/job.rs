//! The vocabulary of a run: what a fleet is asked for and what came of it. Data only; nothing here acts.

use std::{collections::BTreeSet, fmt, str::FromStr};

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

/// A host's name: `^[a-z0-9][a-z0-9-]{0,62}$`, so that it is at once a DNS label, a file name, a Nix
/// attribute that needs no escaping in an installable, and never mistaken for an option.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

impl HostName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let first = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        let rest = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !(first && rest) {
            return Err("a host name is made of a-z, 0-9 and '-', and starts with a letter or a digit".into());
        }
        if text.len() > 63 {
            return Err(format!("a host name has at most 63 characters, this one has {}", text.len()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for HostName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The systems that a fleet may name, as Nix writes them (`system` in nix.conf(5)).
pub const SYSTEMS: [&str; 4] = ["x86_64-linux", "aarch64-linux", "i686-linux", "riscv64-linux"];

/// A Nix system, such as `aarch64-linux`; always one of [`SYSTEMS`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct System(String);

impl System {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The system this program was compiled for, which is the one that Nix builds natively here.
    pub fn native() -> Self {
        Self(format!("{}-linux", std::env::consts::ARCH.replace("x86", "i686").replace("i686_64", "x86_64")))
    }
}

impl FromStr for System {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match SYSTEMS.contains(&text) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("a system is one of {}", SYSTEMS.join(", "))),
        }
    }
}

impl TryFrom<String> for System {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<System> for String {
    fn from(system: System) -> Self {
        system.0
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What a host is built as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Artifact {
    /// The live medium; its output holds `iso/<name>.iso`.
    Iso,
    /// The installed system's toplevel.
    System,
}

impl Artifact {
    pub const ALL: [Self; 2] = [Self::Iso, Self::System];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Iso => "iso",
            Self::System => "system",
        }
    }
}

/// A VM test that a host's row may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Test {
    /// The installed configuration boots and passes the host's own checks.
    System,
    /// The shipped ISO boots under every firmware and medium of its architecture.
    Live,
    /// The shipped ISO installs to an empty disk without a network, and the disk boots.
    Install,
    /// The installed system switches to a changed configuration and back.
    Switch,
}

impl Test {
    pub const ALL: [Self; 4] = [Self::System, Self::Live, Self::Install, Self::Switch];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Live => "live",
            Self::Install => "install",
            Self::Switch => "switch",
        }
    }

    /// The artifacts without which the test has nothing to boot.
    pub fn needs(self) -> &'static [Artifact] {
        match self {
            Self::System | Self::Switch => &[Artifact::System],
            Self::Live => &[Artifact::Iso],
            Self::Install => &[Artifact::Iso, Artifact::System],
        }
    }
}

/// One thing the flake defines for a host: an artifact or a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    Artifact(Artifact),
    Test(Test),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Artifact(artifact) => f.write_str(artifact.as_str()),
            Self::Test(test) => write!(f, "tests.{}", test.as_str()),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let artifact = Artifact::ALL.into_iter().find(|a| a.as_str() == text).map(Self::Artifact);
        let test = || text.strip_prefix("tests.").and_then(|t| Test::ALL.into_iter().find(|x| x.as_str() == t));
        artifact.or_else(|| test().map(Self::Test)).ok_or_else(|| format!("`{text}` is no artifact or test"))
    }
}

/// Names one job: `<host>.iso`, `<host>.system` or `<host>.tests.<test>`, which below `hydraJobs` is also
/// the attribute path of its derivation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId {
    pub host: HostName,
    pub target: Target,
}

impl JobId {
    /// The attribute path inside the flake, as it stands in an installable: `hydraJobs.<host>.iso`.
    pub fn attribute(&self) -> String {
        format!("hydraJobs.{self}")
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}", self.host, self.target))
    }
}

impl TryFrom<String> for JobId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (host, target) = text.split_once('.').ok_or_else(|| format!("`{text}` is no job id"))?;
        Ok(Self { host: host.parse()?, target: target.parse()? })
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.to_string()
    }
}

/// One thing to evaluate and realise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub id: JobId,
    pub system: System,
}

/// What evaluation knows of a job: enough to build it and to say what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Derivation {
    /// Absolute store path of the `.drv` file.
    pub drv: Utf8PathBuf,
    /// Absolute store path of the output `out`.
    pub out: Utf8PathBuf,
    /// The system that has to run the builder; it differs from the host's where a fleet cross-compiles.
    pub system: String,
}

/// What an evaluation could find out about the fleet's source besides its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reads {
    /// It cannot be told which source was evaluated.
    Unknown,
    /// The source as a whole: its revision counted, or it cannot be told what did.
    Whole,
    /// The source as a whole, because its path is part of the result.
    Path,
    Files {
        /// Those whose contents were read, by their paths from the root of the source.
        files: BTreeSet<String>,
        /// Whether it may have been read which attributes `self` has: a clean Git tree has a `rev`, a changed one has not.
        names_of_self: bool,
    },
}

/// A place in a source file; lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub file: String,
    pub line: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)?;
        self.column.map_or(Ok(()), |column| write!(f, ":{column}"))
    }
}

/// The stage in which a job failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    Evaluate,
    Build,
    /// The output exists by Nix's word but is not what it should be: missing, empty, without its image.
    Verify,
    Test,
}

impl Stage {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Evaluate => "evaluate",
            Self::Build => "build",
            Self::Verify => "verify",
            Self::Test => "test",
        }
    }
}

/// Why a job failed, and how a person repeats it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub stage: Stage,
    /// One or a few lines, without terminal colours.
    pub message: String,
    /// Where in the fleet's sources, if Nix says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// The derivation whose builder failed; it may be one that several jobs share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drv: Option<Utf8PathBuf>,
    /// The last lines of that derivation's log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_tail: Vec<String>,
    /// A shell command, ready to paste, that repeats the failure.
    pub reproduce: String,
}

/// A part of a VM test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subtest {
    pub name: String,
    /// Wall-clock seconds; absent if it did not come to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// How many subtests it is inside of.
    pub depth: usize,
}

/// What became of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum Outcome {
    /// The output was valid before the run.
    Present,
    /// The output was copied from a substituter.
    Fetched,
    /// The output was built in this run.
    Built,
    Failed(Failure),
    /// The job was not attempted or not finished; the text says why.
    NotRun {
        reason: String,
    },
}

impl Outcome {
    pub fn failure(&self) -> Option<&Failure> {
        if let Self::Failed(failure) = self { Some(failure) } else { None }
    }

    pub fn is_success(&self) -> bool {
        matches!(self, Self::Present | Self::Fetched | Self::Built)
    }

    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Fetched => "fetched",
            Self::Built => "built",
            Self::Failed(_) => "failed",
            Self::NotRun { .. } => "not-run",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_dns_labels() {
        for good in ["a", "0", "web-1", "3com", &"a".repeat(63)] {
            assert!(good.parse::<HostName>().is_ok(), "{good}");
        }
        for bad in ["", "-x", "$(id)", "a\"b", "../up", "A", "a.b", "ä", &"a".repeat(64)] {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn job_ids_survive_their_text() {
        for text in ["web.iso", "web.system", "web.tests.install", "3com.tests.live"] {
            assert_eq!(JobId::try_from(text.to_owned()).unwrap().to_string(), text);
        }
        for bad in ["web", "web.tests", "web.tests.none", ".iso", "web.tests.live.x"] {
            assert!(JobId::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_native_system_is_a_known_one() {
        assert!(SYSTEMS.contains(&System::native().as_str()));
    }
}
