//! Everything that can be typed after `cargo xtask`: clap types and their help texts, nothing else.

mod ci;
#[cfg(test)]
mod commands;
mod compare;
mod completions;
mod hosts;
mod machines;
mod ship;

use std::time::Duration;

use anyhow::Result;
use camino::Utf8PathBuf;
use clap::{
    Args, Command, CommandFactory as _, Parser, Subcommand,
    builder::{NonEmptyStringValueParser, StyledStr},
};

use crate::{job::Test, nix::argv::BuildOptions, plan::Selection, push::Cache, run::Options};

pub use ci::{Ci, CiStep, Entry, Gate, LocalFlags, Merge, Plan};
pub use compare::{Affected, Diff, Matrix, PackingFlags, Report, Update};
pub use completions::Completions;
pub use hosts::{Check, Doctor, List, NewHost, Why};
pub use machines::{Boot, TestVm};
pub use ship::{Deploy, Install, Rollback, Status, Write, WriteDevice};

/// Builds, boots, tests, ships and compares every host of a NixOS fleet.
#[derive(Debug, Parser)]
#[command(name = "drydock", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "\
Exit codes: 0 done, 1 a job failed, 2 wrong use or configuration, 3 this machine lacks something, 130 interrupted.

First steps:
  cargo xtask build-all --fleet demo --setup   build the embedded fleet on a bare machine
  cargo xtask list                             what hosts/hosts.toml defines
  cargo xtask doctor                           what this machine can and cannot do")]
pub struct Xtask {
    #[command(subcommand)]
    pub verb: Verb,
}

/// The command line of the program as it was called: its help names it so.
pub fn command(called: &'static str) -> Command {
    as_called(Xtask::command().bin_name(called), called)
}

fn as_called(mut command: Command, called: &'static str) -> Command {
    let renamed = |text: &StyledStr| StyledStr::from(text.to_string().replace("cargo xtask", called));
    let [about, long_about, after_help] =
        [command.get_about(), command.get_long_about(), command.get_after_help()].map(|text| text.map(renamed));
    command = if let Some(text) = about { command.about(text) } else { command };
    command = if let Some(text) = long_about { command.long_about(text) } else { command };
    command = if let Some(text) = after_help { command.after_help(text) } else { command };
    command
        .mut_args(|arg| match arg.get_help().map(renamed) {
            Some(help) => arg.help(help),
            None => arg,
        })
        .mut_subcommands(|subcommand| as_called(subcommand, called))
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    List(List),
    Check(Check),
    NewHost(NewHost),
    BuildAll(BuildAll),
    Boot(Boot),
    TestVm(TestVm),
    Write(Write),
    WriteDevice(WriteDevice),
    Install(Install),
    Deploy(Deploy),
    Rollback(Rollback),
    Status(Status),
    Update(Update),
    Affected(Affected),
    Diff(Diff),
    Why(Why),
    Matrix(Matrix),
    Report(Report),
    Ci(Ci),
    Doctor(Doctor),
    Completions(Completions),
}

/// Which fleet a verb reads.
#[derive(Clone, Debug, Args)]
pub struct FleetFlags {
    /// The fleet: a folder with flake.nix and hosts/hosts.toml, or `demo` for the embedded one
    #[arg(long, value_name = "PATH", default_value = ".", global = false)]
    pub fleet: String,
    /// Replace a flake input, as in nix(1); may be given several times
    #[arg(long, num_args = 2, value_names = ["INPUT", "FLAKE"], action = clap::ArgAction::Append)]
    pub override_input: Vec<String>,
}

/// Which of the fleet's jobs a verb concerns.
#[derive(Clone, Debug, Default, Args)]
pub struct SelectionFlags {
    /// Host names or globs; all hosts if none is given
    #[arg(value_name = "HOST")]
    pub hosts: Vec<String>,
    /// Only hosts of this system, such as aarch64-linux; may be given several times
    #[arg(long, value_name = "SYSTEM")]
    pub system: Vec<String>,
    /// Only this artifact: iso or system; may be given several times
    #[arg(long, value_name = "ARTIFACT")]
    pub artifact: Vec<String>,
    /// Only hosts that carry this tag; may be given several times
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
}

impl SelectionFlags {
    /// The artifacts of the hosts that were asked for. Errors: what was typed is no pattern, system or artifact.
    pub fn artifacts(&self) -> Result<Selection> {
        Selection::new(&self.hosts, &self.system, &self.tag, &self.artifact, None)
    }

    /// The tests of the hosts that were asked for, all of them if `tests` is empty. An `--artifact` keeps the tests that
    /// boot it.
    pub fn tests(&self, tests: &[Test]) -> Result<Selection> {
        Selection::new(&self.hosts, &self.system, &self.tag, &self.artifact, Some(tests))
    }
}

/// How evaluation and building are carried out.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Stages")]
pub struct StageFlags {
    /// Evaluator processes at once [default: as many as cores and free memory allow]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub eval_jobs: Option<u8>,
    /// Give up a host whose evaluation takes longer than this
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    pub eval_timeout: u64,
    /// Let evaluation build things (import-from-derivation)
    #[arg(long)]
    pub allow_import_from_derivation: bool,
    /// Builds that each Nix process runs on this machine at once [default: cores shared among them]
    #[arg(long, value_name = "N")]
    pub max_jobs: Option<u32>,
    /// Stop a single build that takes longer than this
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Stop a single build that is silent longer than this
    #[arg(long, value_name = "SECONDS")]
    pub max_silent_time: Option<u64>,
    /// Push what is built, as it is finished, to this store (file://, s3://, ssh-ng://) or with this command (`cachix push X`)
    /// [default: the variable DRYDOCK_PUSH]
    #[arg(long, value_name = "CACHE", value_parser = NonEmptyStringValueParser::new())]
    pub push: Option<String>,
    /// Show the logs of builders and tests as they come, not only the end of one that failed
    #[arg(short = 'L', long)]
    pub print_build_logs: bool,
    /// Remote builders to use instead of the configured ones, as in nix.conf(5)
    #[arg(long, value_name = "BUILDERS")]
    pub builders: Option<String>,
}

impl StageFlags {
    pub fn options(&self) -> Options {
        Options {
            evaluators: self.eval_jobs.map(usize::from),
            eval_timeout: Duration::from_secs(self.eval_timeout),
            allow_ifd: self.allow_import_from_derivation,
            push: Cache::wished(self.push.as_deref()),
            logs: self.print_build_logs,
            build: BuildOptions {
                max_jobs: self.max_jobs,
                timeout: self.timeout,
                max_silent_time: self.max_silent_time,
                builders: self.builders.clone(),
                ..BuildOptions::default()
            },
            ..Options::default()
        }
    }
}

impl Default for StageFlags {
    fn default() -> Self {
        defaults()
    }
}

/// The flags as they are where nothing was typed.
fn defaults<F: Args>() -> F {
    let matches = F::augment_args(Command::default()).get_matches_from(["defaults"]);
    F::from_arg_matches(&matches).expect("every flag has a default or may be absent")
}

/// Build every host's live medium and installed system, in parallel
///
/// Evaluates with several evaluators at once, starts building each derivation as soon as it exists, and
/// keeps going when a host fails. The results are links in `result/`: `result/HOST/iso/`,
/// `result/HOST/system`, with SHA256SUMS and manifest.json.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask build-all                              everything in hosts/hosts.toml
  cargo xtask build-all --fleet demo --setup         the embedded fleet, from a bare machine
  cargo xtask build-all 'web-*' --artifact iso       the live media of some hosts
  cargo xtask build-all --system aarch64-linux       one architecture
  cargo xtask build-all --dry-run                    what would be built, fetched, or is there
  cargo xtask build-all --json | jq .jobs            for programs; docs/record.md documents the form")]
pub struct BuildAll {
    #[command(flatten)]
    pub selection: SelectionFlags,
    #[command(flatten)]
    pub fleet: FleetFlags,
    #[command(flatten)]
    pub stages: StageFlags,
    /// Evaluate everything, whatever earlier runs remember, and remember nothing
    #[arg(long)]
    pub no_cache: bool,
    /// Run ci/setup first, which installs what this machine lacks
    #[arg(long)]
    pub setup: bool,
    /// Say for every job whether it is local, would be fetched or must be built; build nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Evaluate only: print the derivation of every job
    #[arg(long, conflicts_with = "dry_run")]
    pub evaluate: bool,
    /// Hash all images again, also those that did not change
    #[arg(long)]
    pub verify: bool,
    /// The folder for the links to the results
    #[arg(long, value_name = "DIR", default_value = "result")]
    pub out_link: Utf8PathBuf,
    /// Print a record of the run as JSON on stdout
    #[arg(long, conflicts_with_all = ["dry_run", "evaluate"])]
    pub json: bool,
    /// Write a JUnit report to this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dry_run", "evaluate"])]
    pub junit: Option<Utf8PathBuf>,
}
