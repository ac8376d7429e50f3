//! What can be typed after the verbs that compare and report: clap types and their help texts.

use camino::Utf8PathBuf;
use clap::Args;

use super::{FleetFlags, SelectionFlags, StageFlags};

/// Say which hosts a change affects: unchanged, changed, new, removed or broken.
///
/// Compares every host's live medium, installed system and tests by derivation between the merge base with
/// a revision and the files as they are now. Nothing is built.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask affected                       against the main branch
  cargo xtask affected --base HEAD           what the uncommitted edits change
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
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Print the CI matrix as JSON: which runner builds and tests what.
///
/// One entry a job, or shards of about equal length with --shards. Never more than 256 entries, which is
/// the most that GitHub takes; an empty matrix is `{"include":[]}`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask matrix                                 every artifact and test of every host
  cargo xtask matrix --affected-by origin/main       only what differs from the main branch
  cargo xtask matrix --shards 20 --skip-cached       twenty shards of what no binary cache has

Durations come from the measurements of earlier runs; without any, from estimates.
Exit codes: 0 printed, 1 a host does not evaluate (it is named on stderr and not in the matrix).")]
pub struct Matrix {
    #[command(flatten)]
    pub selection: SelectionFlags,
    #[command(flatten)]
    pub fleet: FleetFlags,
    #[command(flatten)]
    pub stages: StageFlags,
    #[command(flatten)]
    pub packing: PackingFlags,
    /// Only what differs from the commit where the current branch left this one
    #[arg(long, value_name = "REV")]
    pub affected_by: Option<String>,
}

/// What becomes of the jobs of a matrix.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Packing")]
pub struct PackingFlags {
    /// Pack the jobs into at most this many entries [default: one entry a job]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub shards: Option<u16>,
    /// Leave out jobs whose outputs a substituter already has
    #[arg(long)]
    pub skip_cached: bool,
    /// Leave out the VM tests
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false)]
    #[arg(default_missing_value = "true", action = clap::ArgAction::Set)]
    pub no_tests: bool,
    /// The measurements of earlier runs [default: history.json in the cache folder]
    #[arg(long, value_name = "FILE")]
    pub history: Option<Utf8PathBuf>,
}

/// Turn JSON records of runs into Markdown, a web page, JUnit, trace events or annotations
///
/// Without a format it prints Markdown.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask build-all --json > run.json; cargo xtask report run.json
  cargo xtask report records/ --html fleet.html --base main
  cargo xtask report run.json --open
  cargo xtask report run.json --annotations ci/demo/   for GitHub, on stdout")]
pub struct Report {
    /// Files with one record each, or folders of them
    #[arg(value_name = "RECORD", required = true)]
    pub records: Vec<Utf8PathBuf>,
    /// Write Markdown to this file; `-` is stdout
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<Utf8PathBuf>,
    /// Cut the Markdown at this many bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1_000_000)]
    pub limit: usize,
    /// Write the fleet page to this file: all hosts, what their machines showed, why something failed; it needs no other file
    #[arg(long, value_name = "FILE")]
    pub html: Option<Utf8PathBuf>,
    /// Open the fleet page [default of --html: report.html in the cache folder]
    #[arg(long)]
    pub open: bool,
    /// Say in the fleet page what changed since the merge base with this revision
    #[arg(long, value_name = "REV")]
    pub base: Option<String>,
    /// Say in the fleet page what machines run; FILE has what `status --json` printed
    #[arg(long, value_name = "FILE")]
    pub status: Option<Utf8PathBuf>,
    /// The fleet that --base is about: a folder with flake.nix and hosts/hosts.toml, or `demo`
    #[arg(long, value_name = "PATH", default_value = ".", requires = "base")]
    pub fleet: String,
    /// Write JUnit to this file
    #[arg(long, value_name = "FILE")]
    pub junit: Option<Utf8PathBuf>,
    /// Write what went on when to this file, as trace events that ui.perfetto.dev opens
    #[arg(long, value_name = "FILE")]
    pub trace: Option<Utf8PathBuf>,
    /// Print GitHub annotations; PREFIX is the fleet's folder in the repository
    #[arg(long, value_name = "PREFIX", num_args = 0..=1, default_missing_value = "")]
    pub annotations: Option<String>,
    /// The measurements of earlier runs, to say what grew [default: history.json in the cache folder]
    #[arg(long, value_name = "FILE")]
    pub history: Option<Utf8PathBuf>,
}

/// Say what differs in hosts: packages, units, users, kernel parameters, open ports, sizes.
///
/// Holds the files as they are now against the merge base with a revision, or against a running system.
/// Works on derivations, so that nothing has to be built, and says what it then cannot know.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask diff web                              against the main branch
  cargo xtask diff '*' --base HEAD~3                every host
  cargo xtask diff web --against ssh://root@web     against what runs there now
  cargo xtask diff laptop --against current-system  against what runs here

Exit codes: 0 compared, 1 a host does not evaluate, 2 wrong use.")]
pub struct Diff {
    /// Host names or globs
    #[arg(value_name = "HOST", required = true)]
    pub hosts: Vec<String>,
    #[command(flatten)]
    pub fleet: FleetFlags,
    #[command(flatten)]
    pub stages: StageFlags,
    /// Compare with the commit where the current branch left this one [default: the main branch]
    #[arg(long, value_name = "REV", conflicts_with = "against")]
    pub base: Option<String>,
    /// Compare with a running system: `current-system` or `ssh://[user@]host`
    #[arg(long, value_name = "SYSTEM")]
    pub against: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "markdown")]
    pub json: bool,
    /// Print Markdown
    #[arg(long)]
    pub markdown: bool,
}

/// Update flake inputs and say what this changes in every host.
///
/// `nix flake update`, then every host with the new inputs against HEAD: packages, units, users, kernel, sizes. Nothing is
/// built. If a host does not evaluate any more, the update stays for a look, and the exit code is 1.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask update                   all inputs
  cargo xtask update nixpkgs --commit  one, and commit flake.lock with what changes as the message
  cargo xtask update --each            which input breaks a host, before all are updated

Exit codes: 0 updated or up to date, 1 a host does not evaluate or an input cannot be had, 2 wrong use.")]
pub struct Update {
    /// Names of inputs; all if none is given
    #[arg(value_name = "INPUT")]
    pub inputs: Vec<String>,
    /// The fleet: a folder with flake.nix and hosts/hosts.toml
    #[arg(long, value_name = "PATH", default_value = ".")]
    pub fleet: String,
    #[command(flatten)]
    pub stages: StageFlags,
    /// Update one input at a time first and say which hosts that breaks
    #[arg(long)]
    pub each: bool,
    /// Commit flake.lock alone if every host evaluates, with what changes as the message
    #[arg(long)]
    pub commit: bool,
    /// Write what changes to this file, as Markdown for a pull request
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<Utf8PathBuf>,
}
