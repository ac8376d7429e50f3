//! Everything that can be typed after `cargo xtask`: clap types and their help texts, nothing else.

mod bench;
mod cache;
mod ci;
mod compare;
mod hosts;

use std::time::Duration;

use anyhow::Result;
use camino::Utf8PathBuf;
use clap::{Args, Parser, Subcommand};

use crate::{job::Test, nix::argv::BuildOptions, plan::Selection, produce::Options, timings::Timings};

pub use bench::Bench;
pub use cache::{CacheFlags, Why};
pub use ci::{Ci, CiStep, Comment, Entry, Gate, LocalFlags, Merge, Plan, Release, Runner, Ship, Update};
pub use compare::{Affected, Diff, Matrix, PackingFlags, Report};
pub use hosts::{Check, List, NewHost};

/// Builds, boots, tests, ships and compares every host of a NixOS fleet.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, propagate_version = true, max_term_width = 100)]
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

#[derive(Debug, Subcommand)]
pub enum Verb {
    BuildAll(BuildAll),
    List(List),
    Check(Check),
    NewHost(NewHost),
    Completions(Completions),
    Doctor(Doctor),
    Ci(Ci),
    Affected(Affected),
    Diff(Diff),
    Boot(Boot),
    TestVm(TestVm),
    Matrix(Matrix),
    Report(Report),
    Why(Why),
    Bench(Bench),
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
            build: BuildOptions {
                max_jobs: self.max_jobs,
                timeout: self.timeout,
                max_silent_time: self.max_silent_time,
                builders: self.builders.clone(),
                ..BuildOptions::default()
            },
            roots: None,
            timings: Timings::default(),
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
    let matches = F::augment_args(clap::Command::default()).get_matches_from(["defaults"]);
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
  cargo xtask build-all --trace trace.json           with what went on when, for ui.perfetto.dev
  cargo xtask build-all --dry-run                    what would be built, fetched, or is there
  cargo xtask build-all --json | jq .jobs            for programs; docs/record.md documents the form")]
pub struct BuildAll {
    #[command(flatten)]
    pub selection: SelectionFlags,
    #[command(flatten)]
    pub fleet: FleetFlags,
    #[command(flatten)]
    pub stages: StageFlags,
    #[command(flatten)]
    pub cache: CacheFlags,
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
    #[arg(long)]
    pub json: bool,
    /// Write a JUnit report to this file
    #[arg(long, value_name = "FILE")]
    pub junit: Option<Utf8PathBuf>,
    /// Write what went on when to this file, as trace events that ui.perfetto.dev opens
    #[arg(long, value_name = "FILE")]
    pub trace: Option<Utf8PathBuf>,
}

/// Print the completion script for a shell.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  source <(cargo xtask completions bash)                        this bash, now
  cargo xtask completions zsh > ~/.zfunc/_xtask                 zsh, with ~/.zfunc in fpath
  cargo xtask completions fish > ~/.config/fish/conf.d/xtask.fish")]
pub struct Completions {
    pub shell: clap_complete::Shell,
}

/// Say what this machine can and cannot do for a fleet, and what to do about it.
///
/// Asks Nix, the kernel, remote builders and QEMU side by side, each under a deadline. KVM is judged by
/// starting a virtual machine, an emulator by running a program with it.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask doctor                   for the fleet in this folder or above it
  cargo xtask doctor --fleet demo      for the embedded fleet
  cargo xtask doctor --json            for programs: an object with `version`, `ready` and `findings`

Exit codes: 0 build-all can run (warnings may remain), 2 there is no fleet, 3 something is missing.")]
pub struct Doctor {
    /// The fleet: a folder with flake.nix and hosts/hosts.toml, or `demo` for the embedded one
    #[arg(long, value_name = "PATH", default_value = ".")]
    pub fleet: String,
    /// Print JSON: an object with `version`, `ready` and `findings`
    #[arg(long)]
    pub json: bool,
}

/// Start a host's live medium, or its installed system, in a virtual machine.
///
/// Builds it first, which takes a moment when nothing has changed. With a screen there is a window; without
/// one, or with --serial, the serial console is on the terminal. Ctrl-C ends the machine.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask boot web                             its live medium, by UEFI, in a window
  cargo xtask boot web --serial --bios             by BIOS, on this terminal
  cargo xtask boot web --disk web.img:20G          with an empty disk to install onto
  cargo xtask boot web --installed --disk web.img  what was installed there
  cargo xtask boot web --installed                 the installed system without installing it
  cargo xtask boot web --no-network --snapshot     without a card; nothing is written to any disk
  cargo xtask boot web --forward 8080:80           its port 80 as port 8080 here

--installed without --disk: a system of the embedded fleet starts from a disk made of its closure. A NixOS
system starts as `nixos-rebuild build-vm` starts it, and only on a machine of its own architecture; for
others install it to a disk first, as above.")]
pub struct Boot {
    /// Which host
    #[arg(value_name = "HOST")]
    pub host: String,
    #[command(flatten)]
    pub fleet: FleetFlags,
    /// Its installed system instead of its live medium
    #[arg(long)]
    pub installed: bool,
    /// The serial console on this terminal, no window
    #[arg(long)]
    pub serial: bool,
    /// Start by UEFI; the default where the firmware is installed
    #[arg(long, conflicts_with = "bios")]
    pub uefi: bool,
    /// Start by BIOS
    #[arg(long)]
    pub bios: bool,
    /// The live medium as a USB stick instead of a CD
    #[arg(long)]
    pub usb: bool,
    /// A disk image; with a size such as 20G it is made if it does not exist
    #[arg(long, value_name = "FILE[:SIZE]")]
    pub disk: Option<String>,
    /// No network card
    #[arg(long, conflicts_with = "forward")]
    pub no_network: bool,
    /// A port here for a port of the machine; may be given several times [default: a free one for 22]
    #[arg(long, value_name = "HERE:GUEST")]
    pub forward: Vec<String>,
    /// Write nothing to any image
    #[arg(long)]
    pub snapshot: bool,
    /// Memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(64..))]
    pub memory: u32,
    /// Processors
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cores: u32,
    /// Who runs the guest
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub accel: AccelFlag,
    /// Take what an earlier run left in the results folder
    #[arg(long)]
    pub no_build: bool,
    /// The results folder for --no-build
    #[arg(long, value_name = "DIR", default_value = "result")]
    pub out_link: Utf8PathBuf,
}

/// Run the VM tests of hosts: what is shipped is what was booted.
///
/// The tests are Nix builds, so that one that passed is remembered like any other build. Several run at once,
/// as cores and memory allow; each line of a log has the host and the test before it. Whether KVM works is
/// tried out with a virtual machine; where it does not, tests run under TCG with longer time limits, and the
/// output says so. Logs and the screenshots of a failure are in target/xtask/vm/HOST/TEST/.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask test-vm web                            every test of one host
  cargo xtask test-vm --all --fleet demo             every test of the embedded fleet
  cargo xtask test-vm 'web-*' --test live            the live media of some hosts
  cargo xtask test-vm web --test install --repeat 20 how often does it pass?
  cargo xtask test-vm web --test system --interactive

--interactive opens the test driver's shell, a Python prompt. With a NixOS fleet: start_all() starts the
machines, test_script() runs the test, machine.succeed(\"ls\") a command in one of them, machine.shell_interact()
gives a shell in it. With the embedded fleet: run_test() runs the test, and the prompt names the rest. A port of
this machine that is free is forwarded to port 22 of the machine and is printed. Ctrl-D ends the shell and the
machines.")]
pub struct TestVm {
    #[command(flatten)]
    pub selection: SelectionFlags,
    /// Every host of the fleet
    #[arg(long, conflicts_with = "hosts")]
    pub all: bool,
    /// Only this test: system, live, install or switch; may be given several times
    #[arg(long, value_name = "TEST")]
    pub test: Vec<String>,
    #[command(flatten)]
    pub fleet: FleetFlags,
    /// Open the test driver's shell instead of running the test
    #[arg(long, conflicts_with_all = ["repeat", "rerun", "json", "junit"])]
    pub interactive: bool,
    #[command(flatten)]
    pub runs: TestRunFlags,
    /// Run ci/setup first, which installs what this machine lacks
    #[arg(long)]
    pub setup: bool,
    /// Print a record of the run as JSON on stdout
    #[arg(long)]
    pub json: bool,
    /// Write a JUnit report to this file
    #[arg(long, value_name = "FILE")]
    pub junit: Option<Utf8PathBuf>,
    /// Write what went on when to this file, as trace events that ui.perfetto.dev opens
    #[arg(long, value_name = "FILE")]
    pub trace: Option<Utf8PathBuf>,
}

/// How VM tests are run.
#[derive(Clone, Debug, Args)]
pub struct TestRunFlags {
    /// Who runs the guests
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub accel: AccelFlag,
    /// Run each test so often and say how often it passed
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: u32,
    /// Run tests again that passed before
    #[arg(long)]
    pub rerun: bool,
    /// Tests at once [default: as many as cores and free memory allow]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub jobs: Option<u8>,
    /// Give up a run that takes longer; five times this under TCG
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    pub timeout: u64,
    /// Let evaluation build things (import-from-derivation)
    #[arg(long)]
    pub allow_import_from_derivation: bool,
}

impl Default for TestRunFlags {
    fn default() -> Self {
        defaults()
    }
}

/// Who runs the guests of virtual machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AccelFlag {
    /// KVM where it works, else TCG
    Auto,
    /// KVM, or nothing: exit code 3 where it does not work
    Kvm,
    /// Emulation by QEMU, even where KVM works
    Tcg,
}
