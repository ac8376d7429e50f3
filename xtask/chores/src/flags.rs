//! What can be typed after `cargo chores`.

use camino::Utf8PathBuf;
use clap::{Args, Parser, Subcommand};

/// Chores of this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo chores", bin_name = "cargo chores", version, max_term_width = 100)]
pub struct Chores {
    #[command(subcommand)]
    pub chore: Chore,
}

#[derive(Debug, Subcommand)]
pub enum Chore {
    Bench(Bench),
}

/// Measure a release build of drydock against plain Nix and, where installed, other tools.
///
/// Everybody does the same things in turn, round after round, on fleets made for it in a temporary folder.
/// Prints Markdown tables of medians, their ratios and the peak memory. What is not installed is named.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  cargo chores bench                       a synthetic fleet of 32 hosts
  cargo chores bench --hosts 32 --hosts 512 --growth
  cargo chores bench --real .              evaluation of this fleet, in a copy
  cargo chores bench --real . --real-hosts 8 --rounds 3")]
pub struct Bench {
    /// Build a synthetic fleet of so many hosts; may be given several times [default: 32]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub hosts: Vec<u16>,
    /// Evaluate synthetic fleets of growing size; the sizes, separated by commas
    #[arg(long, value_name = "N,N", value_delimiter = ',', num_args = 0..=1, require_equals = true,
          default_missing_value = "1,10,100,1000", value_parser = clap::value_parser!(u16).range(1..))]
    pub growth: Vec<u16>,
    /// Evaluate this fleet, in a copy of its tracked files
    #[arg(long, value_name = "DIR")]
    pub real: Option<Utf8PathBuf>,
    /// Make the copy a fleet of so many hosts: copies of those that have a live medium and a system
    #[arg(long, value_name = "N", requires = "real", value_parser = clap::value_parser!(u16).range(1..))]
    pub real_hosts: Option<u16>,
    /// How often each thing is done by each
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..))]
    pub rounds: u8,
    /// Evaluators at once, for everybody who can be told [default: as many as cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub workers: Option<u8>,
    /// What a worker of nix-eval-jobs may grow to before it is replaced; may be given several times
    #[arg(long, value_name = "MB", default_values_t = [1500, 4096])]
    pub limit: Vec<u32>,
}
