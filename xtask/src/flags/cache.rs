//! Flags of what is remembered between runs.

use clap::Args;

use super::FleetFlags;
use crate::run::Remembered;

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

impl CacheFlags {
    pub fn remembered(&self) -> Remembered {
        match (self.no_cache, self.verify_cache) {
            (true, _) => Remembered::Ignored,
            (false, true) => Remembered::Verified,
            (false, false) => Remembered::Used,
        }
    }
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
