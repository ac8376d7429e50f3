//! What can be typed after `cargo xtask ci`: clap types and their help texts.

use camino::Utf8PathBuf;
use clap::{Args, Subcommand};

use super::{FleetFlags, PackingFlags, StageFlags};

/// Run a step of a fleet's continuous integration, or with --local all of them here
///
/// `plan` decides which jobs run, `entry` runs some of them on one machine, `merge` makes one report of their records,
/// and `gate` says whether everything succeeded.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
#[command(after_help = "\
Examples:
  cargo xtask ci --local                       every step, on this machine
  cargo xtask ci --local --base main           as for a pull request
  cargo xtask ci --local --fleet demo          for the embedded fleet
  cargo xtask ci plan --base origin/main       the first step, as on a CI system")]
pub struct Ci {
    #[command(flatten)]
    pub local: LocalFlags,
    #[command(subcommand)]
    pub step: Option<CiStep>,
}

/// How the workflow is run on this machine.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Running the workflow here")]
pub struct LocalFlags {
    /// Run the jobs of the workflow on this machine: plan, every matrix entry, report, gate
    #[arg(long)]
    pub local: bool,
    /// The fleet: a folder with flake.nix and hosts/hosts.toml, or `demo` for the embedded one
    #[arg(long, value_name = "PATH", default_value = ".", requires = "local")]
    pub fleet: String,
    /// Run as for a pull request against this revision; without it everything is built
    #[arg(long, value_name = "REV", requires = "local")]
    pub base: Option<String>,
    /// Keep the plan, records, images and reports in this folder
    #[arg(long, value_name = "DIR", requires = "local")]
    pub keep: Option<Utf8PathBuf>,
    /// Leave out the VM tests, as the repository variable DRYDOCK_NO_TESTS does
    #[arg(long, requires = "local")]
    pub no_tests: bool,
}

/// A step of the workflow.
#[derive(Clone, Debug, Subcommand)]
pub enum CiStep {
    /// Decide what is built: writes plan.json, and outputs for the jobs after it
    Plan(Plan),
    /// Build and test one entry of the matrix: writes its record
    Entry(Entry),
    /// Put all records together: summary, web page, JUnit, comment, measurements
    Merge(Merge),
    /// Pass if everything that was needed succeeded
    Gate(Gate),
}

#[derive(Clone, Debug, Args)]
pub struct Plan {
    #[command(flatten)]
    pub fleet: FleetFlags,
    #[command(flatten)]
    pub stages: StageFlags,
    #[command(flatten)]
    pub packing: PackingFlags,
    /// Only what differs from the merge base with this revision; everything if it is empty
    #[arg(long, value_name = "REV", default_value = "")]
    pub base: String,
    /// The folder for plan.json
    #[arg(long, value_name = "DIR", default_value = "drydock-ci/plan")]
    pub out: Utf8PathBuf,
}

#[derive(Clone, Debug, Args)]
pub struct Entry {
    #[command(flatten)]
    pub fleet: FleetFlags,
    #[command(flatten)]
    pub stages: StageFlags,
    /// The entry's name in the matrix
    #[arg(long, value_name = "NAME", required_unless_present = "plan")]
    pub name: Option<String>,
    /// The entry's jobs, separated by spaces
    #[arg(long, value_name = "JOBS", required_unless_present = "plan")]
    pub jobs: Option<String>,
    /// Take entries from this plan.json instead, where the engine has no matrix made of data
    #[arg(long, value_name = "FILE", conflicts_with_all = ["name", "jobs"], requires_all = ["index", "of"])]
    pub plan: Option<Utf8PathBuf>,
    /// Which of the runners this is, from 1
    #[arg(long, value_name = "N", requires = "plan", value_parser = clap::value_parser!(u16).range(1..))]
    pub index: Option<u16>,
    /// How many runners share the plan
    #[arg(long, value_name = "N", requires = "plan", value_parser = clap::value_parser!(u16).range(1..))]
    pub of: Option<u16>,
    /// Take only entries of this system from the plan
    #[arg(long, value_name = "SYSTEM", requires = "plan")]
    pub system: Option<String>,
    /// The folder for the record and the images
    #[arg(long, value_name = "DIR", default_value = "drydock-ci/entry")]
    pub out: Utf8PathBuf,
}

#[derive(Clone, Debug, Args)]
pub struct Merge {
    /// The folder with plan.json and the records, at any depth
    #[arg(long, value_name = "DIR", default_value = "drydock-ci/artifacts")]
    pub artifacts: Utf8PathBuf,
    /// The folder for the reports
    #[arg(long, value_name = "DIR", default_value = "drydock-ci/report")]
    pub out: Utf8PathBuf,
    /// The measurements of earlier runs, which are brought up to date
    #[arg(long, value_name = "FILE")]
    pub history: Option<Utf8PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct Gate {
    /// Results and outputs of the jobs that the gate waits for: GitHub's `needs` as JSON
    #[arg(long, value_name = "JSON")]
    pub needs: String,
}

#[cfg(test)]
#[path = "../../tests/workflow/scripts.rs"]
mod scripts;

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::scripts::{call, files, of};
    use crate::flags::Xtask;

    #[test]
    fn what_the_workflows_call_can_be_typed() {
        let mut calls = 0;
        for (file, text) in files() {
            for script in of(&text) {
                let Some(("drydock", arguments)) = call(&script) else { continue };
                let parsed = Xtask::try_parse_from(["drydock"].into_iter().chain(arguments));
                assert!(parsed.is_ok(), "{file}: {script}: {}", parsed.unwrap_err());
                calls += 1;
            }
        }
        assert!(calls >= 12, "only {calls} calls were found");
    }
}
