//! Flags of the verbs that read hosts/hosts.toml, write to it, or look for mistakes.

use clap::Args;

use super::{FleetFlags, SelectionFlags, StageFlags};

/// Show the hosts of a fleet and what is built and tested of each.
///
/// Reads hosts/hosts.toml and nothing else: no Nix, no network, a few milliseconds.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask list                          every host of the fleet in this folder or above it
  cargo xtask list 'web-*' --tag server     hosts by glob and by tag
  cargo xtask list --fleet demo --json      the embedded fleet, for programs")]
pub struct List {
    #[command(flatten)]
    pub selection: SelectionFlags,
    #[command(flatten)]
    pub fleet: FleetFlags,
    /// Print JSON: an object with `version` and `hosts`, every default filled in
    #[arg(long)]
    pub json: bool,
}

/// Find out what is wrong with a fleet without building anything.
///
/// Holds hosts/hosts.toml against the folders beside it, flake.lock against flake.nix, the Nix files
/// against nixfmt, statix and deadnix where these are installed, and evaluates every host. A check that
/// could not run is named at the end and does not count as passed.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask check                    everything, before a push
  cargo xtask check --no-eval          all but the evaluation: quick enough for a pre-commit hook
  cargo xtask check 'web-*'            evaluate only these hosts

Exit codes: 0 nothing is wrong, 1 a check failed, 2 the matrix is wrong, 3 Nix is missing and needed.")]
pub struct Check {
    #[command(flatten)]
    pub selection: SelectionFlags,
    #[command(flatten)]
    pub fleet: FleetFlags,
    /// Do not evaluate the hosts
    #[arg(long)]
    pub no_eval: bool,
    /// Evaluate everything, whatever earlier runs remember, and remember nothing
    #[arg(long)]
    pub no_cache: bool,
    #[command(flatten)]
    pub stages: StageFlags,
}

/// Add a host: its row in hosts/hosts.toml and its folder.
///
/// The text and the comments of hosts/hosts.toml stay as they are; on any error nothing is changed.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask new-host web-2 --description 'serves' --tag server
  cargo xtask new-host pi --system aarch64-linux --artifact system --description 'on the roof'
  cargo xtask new-host web-3 --like web-2 --description 'serves too'

The files come from the fleet's templates/host/, or with --like from an existing host; live.nix \
only if there is an ISO, installed.nix only if there is a system. What is not given comes from \
[defaults] in hosts/hosts.toml. `cargo xtask check web-2` then evaluates the host.")]
pub struct NewHost {
    /// Its name: a-z, 0-9 and '-', at most 63 characters
    pub name: String,
    /// What the machine is for, in one line
    #[arg(long, value_name = "TEXT")]
    pub description: String,
    /// Its system, such as x86_64-linux
    #[arg(long, value_name = "SYSTEM")]
    pub system: Option<String>,
    /// What it is built as: iso or system; may be given several times
    #[arg(long, value_name = "ARTIFACT")]
    pub artifact: Vec<String>,
    /// The base profile of its live medium, such as minimal
    #[arg(long, value_name = "PROFILE")]
    pub live: Option<String>,
    /// A VM test: system, live, install or switch; may be given several times
    #[arg(long, value_name = "TEST")]
    pub test: Vec<String>,
    /// A tag to select it by; may be given several times
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
    /// Copy the files of this host, and what its row says, instead of the template
    #[arg(long, value_name = "HOST")]
    pub like: Option<String>,
    /// The fleet: a folder with flake.nix and hosts/hosts.toml, or `demo` for the embedded one
    #[arg(long, value_name = "PATH", default_value = ".")]
    pub fleet: String,
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

/// Say which files a host was evaluated from and whether the next run evaluates it.
///
/// The files are those that were opened when the host was evaluated last. A file that is not listed can change: the
/// host is not evaluated for it.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask why web                      verdicts and files
  cargo xtask why web --json | jq '.files | keys'
  cargo xtask why web --fleet demo         a host of the embedded fleet")]
pub struct Why {
    /// The host
    #[arg(value_name = "HOST")]
    pub host: String,
    #[command(flatten)]
    pub fleet: FleetFlags,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
