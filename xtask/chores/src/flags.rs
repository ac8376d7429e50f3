//! What can be typed after `cargo chores`.

use clap::{Args, Parser, Subcommand};

/// Chores of this repository and its CI.
#[derive(Debug, Parser)]
#[command(name = "cargo chores", bin_name = "cargo chores", version, max_term_width = 100)]
pub struct Chores {
    #[command(subcommand)]
    pub chore: Chore,
}

#[derive(Debug, Subcommand)]
pub enum Chore {
    Check(Check),
    Runner(Runner),
    Comment(Comment),
    Propose(Propose),
    Release(Release),
    Ship(Ship),
}

/// Check this repository: format, lints, tests, and the embedded fleet built and booted
///
/// Every check runs, also after one has failed. A check whose program is not installed says so and counts as not run.
#[derive(Clone, Debug, Args)]
pub struct Check {
    /// Run ci/setup first, which installs what this machine lacks
    #[arg(long)]
    pub setup: bool,
}

/// Prepare a hosted runner: KVM for everyone, disk space where the estimate demands it
#[derive(Clone, Debug, Args)]
pub struct Runner {
    /// Bytes that the work is expected to need, in GiB
    #[arg(long, value_name = "GIB", default_value_t = 0)]
    pub disk: u64,
    /// Set up KVM and say whether it works
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, default_value_t = false)]
    pub kvm: bool,
}

/// Write the report of `drydock ci merge` as a comment of a pull request, or renew the one that is there
#[derive(Clone, Debug, Args)]
pub struct Comment {
    /// The number of the pull request
    #[arg(long, value_name = "NUMBER")]
    pub pull: u64,
}

/// Open a pull request with the inputs that `drydock update` updated, or renew the one that is open
#[derive(Clone, Debug, Args)]
pub struct Propose {
    /// The fleet: a folder with flake.lock
    #[arg(long, value_name = "PATH", default_value = ".")]
    pub fleet: String,
}

/// Collect a fleet's live media for a release and refuse those that are too large
#[derive(Clone, Debug, Args)]
pub struct Release {
    /// The fleet: a folder with flake.nix and hosts/hosts.toml, or `demo` for the embedded one
    #[arg(long, value_name = "PATH", default_value = ".")]
    pub fleet: String,
    /// Only hosts of this system
    #[arg(long, value_name = "SYSTEM")]
    pub system: String,
}

/// Create the release of a tag with what `release` collected
#[derive(Clone, Debug, Args)]
pub struct Ship {
    /// The tag; its release is created as a draft
    #[arg(long, value_name = "TAG")]
    pub tag: String,
}

#[cfg(test)]
#[path = "../../tests/workflow/scripts.rs"]
mod scripts;

#[cfg(test)]
mod tests {
    use super::{
        Chores, Parser as _,
        scripts::{call, files, of},
    };

    #[test]
    fn what_the_workflows_call_can_be_typed() {
        let mut calls = 0;
        for (file, text) in files() {
            for script in of(&text) {
                let Some(("drydock-chores", arguments)) = call(&script) else { continue };
                let parsed = Chores::try_parse_from(["chores"].into_iter().chain(arguments));
                assert!(parsed.is_ok(), "{file}: {script}: {}", parsed.unwrap_err());
                calls += 1;
            }
        }
        assert!(calls >= 8, "only {calls} calls were found");
    }
}
