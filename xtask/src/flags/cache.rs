//! Flags of what is remembered between runs.

use clap::Args;

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
