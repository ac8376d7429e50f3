//! Flags of the verbs that start virtual machines.

use std::time::Duration;

use camino::Utf8PathBuf;
use clap::Args;

use super::{FleetFlags, SelectionFlags};
use crate::vmtest::{accel::Wish, session::TestOptions};

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

--installed without --disk: a system of the embedded fleet starts from a disk made of its closure. A NixOS \
system starts as `nixos-rebuild build-vm` starts it, and only on a machine of its own architecture; for \
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
/// as cores and memory allow; with -L their logs are shown, each line after the host and the test. Whether KVM works is
/// tried out with a virtual machine; where it does not, tests run under TCG with longer time limits, and the
/// output says so. Logs and the screens of all boots are in target/xtask/vm/HOST/TEST/.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask test-vm web                            every test of one host
  cargo xtask test-vm --all --fleet demo             every test of the embedded fleet
  cargo xtask test-vm 'web-*' --test live            the live media of some hosts
  cargo xtask test-vm web --test install --repeat 20 how often does it pass?
  cargo xtask test-vm web --test system --interactive

--interactive opens the test driver's shell, a Python prompt. With a NixOS fleet: start_all() starts the \
machines, test_script() runs the test, machine.succeed(\"ls\") a command in one of them, machine.shell_interact() \
gives a shell in it. With the embedded fleet: run_test() runs the test, and the prompt names the rest. A port of \
this machine that is free is forwarded to port 22 of the machine and is printed. Ctrl-D ends the shell and the \
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
    /// Show the logs of tests as they come, not only the end of one that failed
    #[arg(short = 'L', long)]
    pub print_build_logs: bool,
    /// Let evaluation build things (import-from-derivation)
    #[arg(long)]
    pub allow_import_from_derivation: bool,
    /// Push the results of tests that passed to this store or with this command, so that others need not run them
    /// [default: the variable DRYDOCK_PUSH]
    #[arg(long, value_name = "CACHE")]
    pub push: Option<String>,
}

impl TestRunFlags {
    pub fn options(&self) -> TestOptions {
        TestOptions {
            wish: self.accel.wish(),
            repeat: self.repeat,
            rerun: self.rerun,
            at_once: self.jobs.map(usize::from),
            timeout: Duration::from_secs(self.timeout),
        }
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

impl AccelFlag {
    pub fn wish(self) -> Wish {
        match self {
            Self::Auto => Wish::Auto,
            Self::Kvm => Wish::Kvm,
            Self::Tcg => Wish::Tcg,
        }
    }
}
