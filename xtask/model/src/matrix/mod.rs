//! Reads hosts/hosts.toml, the matrix of hosts, or says everything that is wrong with the file at once.

mod draft;
mod folders;
mod keys;
mod rows;
mod toml10;

pub use draft::Draft;
pub use folders::list as folders;
pub use keys::Keys;
pub use rows::defaults;
pub use toml10::decode;

use std::io::ErrorKind;

use anyhow::{Context as _, Result};
use camino::Utf8Path;
use serde::Serialize;

use crate::{
    destination::Destination,
    diagnostic::{Problem, misconfigured, usage},
    job::{Artifact, HostName, JobId, System, Target, Test},
};

/// Where the matrix lies below the root of a fleet.
pub const FILE: &str = "hosts/hosts.toml";

/// Every host of a fleet, sorted by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Matrix {
    pub hosts: Vec<Host>,
}

/// One row: a host and what is built and tested of it. Defaults are filled in, lists are sorted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Host {
    pub name: HostName,
    pub description: String,
    pub system: System,
    pub artifacts: Vec<Artifact>,
    /// The base profile of the live medium; there is one exactly if there is an ISO.
    pub live: Option<String>,
    pub tests: Vec<Test>,
    pub tags: Vec<String>,
    /// Where `deploy` reaches the machine; by the host's name if `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Destination>,
    /// Shell commands that must succeed on the machine before a deployment stays.
    pub checks: Vec<String>,
}

impl Matrix {
    /// Reads the matrix below `root` and holds it against the folders beside it. An error tells everything
    /// that is wrong; `shown` is what a person calls the file from where they are.
    pub fn read(root: &Utf8Path, shown: &Utf8Path) -> Result<Self> {
        let file = root.join(FILE);
        if std::fs::metadata(&file).is_ok_and(|meta| !meta.is_file()) {
            return Err(usage(format!("{shown} is no regular file, so it is not read")));
        }
        let bytes = std::fs::read(&file).map_err(|error| match error.kind() {
            ErrorKind::NotFound => usage(format!(
                "{shown} does not exist, so there is no fleet here\n  \
                 Each host is a table `[host.NAME]` of that file: `cargo xtask new-host NAME` writes one, \
                 and `--fleet demo` is the embedded example."
            )),
            _ => usage(format!("cannot read {shown}: {error}")),
        })?;
        let text = decode(&bytes)
            .map_err(|problem| misconfigured(shown.as_str(), &String::from_utf8_lossy(&bytes), &[problem]))?;
        let hosts = root.join("hosts");
        let folders = folders::list(&hosts).with_context(|| format!("cannot list the folders of {hosts}"))?;
        Self::parse(text, &folders).map_err(|problems| misconfigured(shown.as_str(), text, &problems))
    }

    /// The matrix that `text` describes beside these folders. Pure.
    pub fn parse(text: &str, folders: &[String]) -> Result<Self, Vec<Problem>> {
        let parsed = toml10::parse(text);
        let complete = parsed.problems.is_empty();
        let rows = rows::read(text, &parsed.table, complete);
        let broken = parsed.problems.iter().map(|p| lines(text, p)).collect::<Vec<_>>();
        let mut problems = parsed.problems;
        // What the parser made up to get past a syntax error is not the author's mistake.
        problems.extend(rows.problems.into_iter().filter(|problem| {
            let own = lines(text, problem);
            broken.iter().all(|other| own.end < other.start || other.end < own.start)
        }));
        if complete {
            problems.extend(folders::compare(&rows.names, folders, text));
        }
        match problems.is_empty() {
            true => Ok(Self { hosts: rows.hosts }),
            false => Err(problems),
        }
    }

    pub fn get(&self, name: &str) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name.as_str() == name)
    }
}

impl Host {
    /// Where the machine is reached by ssh.
    pub fn destination(&self) -> Destination {
        let named = || self.name.as_str().parse().expect("a host's name is a destination");
        self.target.clone().unwrap_or_else(named)
    }

    /// Everything that the fleet's flake defines for the host.
    pub fn jobs(&self) -> Vec<JobId> {
        let artifacts = self.artifacts.iter().copied().map(Target::Artifact);
        let targets = artifacts.chain(self.tests.iter().copied().map(Target::Test));
        targets.map(|target| JobId { host: self.name.clone(), target }).collect()
    }
}

/// The numbers of the first and the last line of a problem.
fn lines(text: &str, problem: &Problem) -> std::ops::Range<usize> {
    let line = |at: usize| text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count();
    line(problem.span.start)..line(problem.span.end)
}

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod tests;
