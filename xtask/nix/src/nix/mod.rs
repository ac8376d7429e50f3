//! What is asked of Nix as command lines, and what it answers as values.

pub mod argv;
pub mod drv;
pub mod event;
mod kept;
mod pinned;
pub mod remote;
pub mod reply;
mod settings;
mod version;

use std::time::Duration;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    diagnostic::lacking,
    process::{Cancel, Invocation, find_on_path},
};

pub use kept::{Kept, cache_folder};
pub use pinned::Pinned;
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
    /// What `nix --version` says.
    pub said: String,
    /// The program, without symbolic links on the way to it.
    pub program: Utf8PathBuf,
}

impl Nix {
    /// Finds Nix on PATH. A missing, too old or incomprehensible one is an error with exit code 3.
    pub fn find(cancel: &Cancel) -> Result<Self> {
        const REMEDY: &str = "`ci/setup` installs it on Debian and Ubuntu; see also `cargo xtask doctor`";
        let Some(program) = find_on_path("nix") else {
            return Err(lacking(format!("`nix` is not on PATH\n  try: {REMEDY}")));
        };
        let known = cache_folder().and_then(|folder| Kept::of(&program, folder.join("nix-version"), ""));
        let program = program.canonicalize_utf8().unwrap_or(program);
        let recalled = known.as_ref().and_then(Kept::recall);
        if let Some(said) = recalled
            && let Some(version) = Version::parse(&said).filter(|version| *version >= OLDEST)
        {
            return Ok(Self { version, said, program });
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
        Ok(Self { version, said: text.to_owned(), program })
    }

    /// Nix's effective configuration.
    pub fn settings(&self, cancel: &Cancel) -> Result<Settings> {
        Settings::parse(&self.settings_text(cancel)?)
    }

    /// Nix's effective configuration as it prints it.
    pub fn settings_text(&self, cancel: &Cancel) -> Result<String> {
        Invocation::new(argv::config(self.version)).timeout(PATIENCE).read(cancel)
    }

    /// Of the given store paths those that are not valid: one process for all, or for as many as a command line holds.
    /// Errors: Nix cannot tell.
    pub fn invalid(paths: &[&str], cancel: &Cancel) -> Result<Vec<String>> {
        let mut invalid = Vec::new();
        for chunk in paths.chunks(argv::MOST_PATHS) {
            let text = Invocation::new(argv::invalid(chunk)).timeout(PATIENCE * 5).read(cancel)?;
            invalid.extend(text.lines().map(str::to_owned));
        }
        Ok(invalid)
    }

    /// Deletes store paths and what refers to them, unless one is in use. A store in which Nix links equal files
    /// (auto-optimise-store) has little to win, and Nix would look at each link: there they stay until garbage is
    /// collected, as they do where Nix refuses or where another collector is at work, which would have to be waited for.
    pub fn delete(paths: &[String], cancel: &Cancel) {
        const MANY: usize = 10_000;
        const LONGEST: Duration = Duration::from_secs(10);
        let Some(store) = paths.first().and_then(|path| Utf8Path::new(path).parent()) else { return };
        if store.join(".links").read_dir().is_ok_and(|mut links| links.nth(MANY).is_some()) {
            return;
        }
        let paths: Vec<_> = paths.iter().map(String::as_str).collect();
        let ask = |argv: Vec<&str>| Invocation::new(argv).timeout(LONGEST).read(cancel);
        for chunk in paths.chunks(argv::MOST_PATHS) {
            let Ok(referrers) = ask(argv::referrers(chunk)) else { continue };
            let all: Vec<_> = referrers.lines().collect();
            all.chunks(argv::MOST_PATHS).for_each(|all| drop(ask(argv::delete(all))));
        }
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
