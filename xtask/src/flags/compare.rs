//! What can be typed after the verbs that compare and report: clap types and their help texts.

use clap::Args;

use super::{FleetFlags, StageFlags};

/// Say which hosts a change affects: unchanged, changed, new, removed or broken.
///
/// Compares every host's live medium, installed system and tests by derivation between the merge base with
/// a revision and the files as they are now. Nothing is built.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask affected                       against the main branch
  cargo xtask affected --base HEAD           what the uncommitted edits change
  cargo xtask affected --why                 with the first inputs that differ
  cargo xtask affected --json | jq '.hosts[] | select(.status != \"unchanged\") | .host'

Exit codes: 0 everything evaluates, 1 a host does not, 2 no such revision or a wrong matrix.")]
pub struct Affected {
    #[command(flatten)]
    pub fleet: FleetFlags,
    #[command(flatten)]
    pub stages: StageFlags,
    /// Compare with the commit where the current branch left this one [default: the main branch]
    #[arg(long, value_name = "REV")]
    pub base: Option<String>,
    /// Say what differs first in the derivations of each changed host
    #[arg(long)]
    pub why: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
