//! What is asked of Nix as command lines, and what it answers as values.

pub mod argv;
pub mod event;
mod known;
pub mod remote;
pub mod reply;
mod settings;
mod version;

use std::time::Duration;

use anyhow::Result;

use crate::{
    diagnostic::lacking,
    process::{Cancel, Invocation, find_on_path},
};

pub use known::{Known, cache_folder};
pub use settings::{Builder, Settings};
pub use version::Version;

/// How long a question that needs no network and no building may take Nix: a broken daemon must not hang us.
const PATIENCE: Duration = Duration::from_secs(60);

/// The oldest Nix that current nixpkgs evaluates with (`lib/minver.nix` in nixpkgs).
pub const OLDEST: Version = Version { major: 2, minor: 18 };

/// A Nix that is there and new enough.
#[derive(Clone, Debug)]
pub struct Nix {
    pub version: Version,
}

/// A question which store paths are valid, asked when its answer is wanted.
pub struct Validity(Vec<String>, Cancel);

impl Validity {
    /// The paths that are not valid.
    pub fn answer(self) -> Result<Vec<String>> {
        Nix::invalid(&self.0.iter().map(String::as_str).collect::<Vec<_>>(), &self.1)
    }
}

impl Nix {
    /// Finds Nix on PATH. A missing, too old or incomprehensible one is an error with exit code 3.
    pub fn find(cancel: &Cancel) -> Result<Self> {
        const REMEDY: &str = "`ci/setup` installs it on Debian and Ubuntu; see also `cargo xtask doctor`";
        let Some(program) = find_on_path("nix") else {
            return Err(lacking(format!("`nix` is not on PATH\n  try: {REMEDY}")));
        };
        let known = cache_folder().and_then(|folder| Known::of(&program, folder.join("nix-version"), ""));
        let recalled = known.as_ref().and_then(|known| Version::parse(&known.recall()?));
        if let Some(version) = recalled.filter(|version| *version >= OLDEST) {
            return Ok(Self { version });
        }
        let said = Invocation::new(argv::version()).timeout(PATIENCE).capture(cancel)?;
        let text = said.stdout.trim();
        let Some(version) = Version::parse(text) else {
            let shown: String = format!("{text}{}", said.stderr.trim()).chars().take(120).collect();
            return Err(lacking(format!(
                "`nix --version` did not answer with a version ({}): `{shown}`\n  try: check which program `nix` is; {REMEDY}",
                said.end
            )));
        };
        if version < OLDEST {
            return Err(lacking(format!(
                "Nix {version} is too old: nixpkgs and Drydock need {OLDEST} or newer\n  try: {REMEDY}"
            )));
        }
        known.iter().filter(|_| text.lines().count() == 1).for_each(|known| known.remember(text));
        Ok(Self { version })
    }

    /// Nix's effective configuration.
    pub fn settings(&self, cancel: &Cancel) -> Result<Settings> {
        let text = Invocation::new(argv::config(self.version)).timeout(PATIENCE).read(cancel)?;
        Settings::parse(&text)
    }

    /// Of the given store paths those that are not valid. Errors: Nix cannot tell.
    pub fn invalid(paths: &[&str], cancel: &Cancel) -> Result<Vec<String>> {
        let mut invalid = Vec::new();
        for chunk in paths.chunks(argv::MOST_PATHS) {
            let said = Invocation::new(argv::invalid(chunk)).timeout(PATIENCE * 5).capture(cancel)?;
            anyhow::ensure!(
                said.end.is_success(),
                "Nix cannot say which store paths are valid ({}): {}",
                said.end,
                said.stderr.trim()
            );
            invalid.extend(said.stdout.lines().map(str::to_owned));
        }
        Ok(invalid)
    }

    /// The question as a value.
    pub fn ask_invalid(paths: &[&str], cancel: &Cancel) -> Result<Validity> {
        Ok(Validity(paths.iter().map(|&path| path.to_owned()).collect(), cancel.clone()))
    }

    /// Sizes of valid store paths and of their closures.
    pub fn path_info(&self, paths: &[&str], cancel: &Cancel) -> Result<Vec<reply::PathInfo>> {
        let mut infos = Vec::new();
        for chunk in paths.chunks(argv::MOST_PATHS) {
            let text = Invocation::new(argv::path_info(self.version, chunk)).timeout(PATIENCE * 5).read(cancel)?;
            infos.extend(reply::path_info(&text)?);
        }
        Ok(infos)
    }
}
