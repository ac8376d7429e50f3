//! Everything that can be typed after `cargo xtask`: clap types and their help texts, nothing else.

use camino::Utf8PathBuf;
use clap::{Args, Parser, Subcommand};

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

/// Build every host's live medium and installed system, in parallel.
#[derive(Clone, Debug, Args)]
pub struct BuildAll {
    #[command(flatten)]
    pub selection: SelectionFlags,
    #[command(flatten)]
    pub fleet: FleetFlags,
    /// Where the links to the results go
    #[arg(long, value_name = "DIR", default_value = "result")]
    pub out_link: Utf8PathBuf,
}
