//! Flags of what is remembered between runs.

use camino::Utf8PathBuf;
use clap::Args;

use super::FleetFlags;

/// Whether earlier runs save work.
#[derive(Clone, Debug, Default, Args)]
pub struct CacheFlags {
    /// Evaluate everything, whatever earlier runs remember, and remember nothing
    #[arg(long, conflicts_with = "verify_cache")]
    pub no_cache: bool,
    /// Evaluate everything and fail if anything remembered turns out wrong
    #[arg(long)]
    pub verify_cache: bool,
}

/// Say which files a host depends on and why the next run evaluates it or does not.
///
/// Follows the fleet's own Nix files without evaluating them. A file that is not listed can change as it
/// likes: the host is not evaluated for it.
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

/// Measure this program against plain Nix and, where installed, other tools.
///
/// Everybody does the same things in turn, round after round, on fleets made for it in a temporary folder.
/// Prints a Markdown table of medians and their ratios.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  cargo run --release -p xtask -- bench                    synthetic fleets of 16 hosts
  cargo run --release -p xtask -- bench --hosts 1 --hosts 100 --hosts 1000
  cargo run --release -p xtask -- bench --real . --svg bench.svg   evaluation of this fleet, in a copy")]
pub struct Bench {
    /// Hosts of a synthetic fleet; may be given several times
    #[arg(long, value_name = "N", default_values_t = [16])]
    pub hosts: Vec<u16>,
    /// Measure the evaluation of this fleet instead, in a copy of its tracked files
    #[arg(long, value_name = "DIR")]
    pub real: Option<Utf8PathBuf>,
    /// How often each thing is done by each
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..))]
    pub rounds: u8,
    /// Write a plot of the medians to this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<Utf8PathBuf>,
}
