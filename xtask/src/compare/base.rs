//! A fleet and a revision in, the same fleet as it was there out.

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    fleet::Fleet,
    git::{Repository, Worktree},
    matrix,
    process::Cancel,
};

/// The fleet at an earlier commit, in a temporary work tree that lives as long as the value.
#[derive(Debug)]
pub struct Base {
    /// The commit in full.
    pub commit: String,
    /// What was asked for, such as `origin/main`.
    pub revision: String,
    /// The fleet there; none if the commit has no fleet at this place yet.
    pub fleet: Option<Fleet>,
    _worktree: Worktree,
}

/// Checks out the merge base of HEAD and `revision` (by default the main branch) and opens the fleet in it.
///
/// Errors: exit code 2 where there is no repository or no such revision, or where the base's matrix is wrong.
pub fn check_out(fleet: &Fleet, revision: Option<&str>, cancel: &Cancel) -> Result<Base> {
    let repository = Repository::around(&fleet.root, cancel)?;
    let revision = match revision {
        Some(revision) => revision.to_owned(),
        None => repository.default_base(cancel)?,
    };
    let commit = repository.merge_base(&revision, cancel)?;
    let worktree = repository.worktree(&commit, cancel)?;
    let root = fleet.root.strip_prefix(&repository.toplevel).map_or_else(|_| Utf8PathBuf::new(), Utf8Path::to_owned);
    let root = worktree.dir.join(root);
    let there = root.join(matrix::FILE).is_file();
    // Both sides are read in the same way, so that a path flake and a Git flake are not held against each other.
    let text = if fleet.flake_ref.starts_with("path:") { format!("path:{root}") } else { root.into_string() };
    let overrides: Vec<String> = fleet.overrides.iter().flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
    let open =
        || -> Result<Fleet> { Ok(Fleet { copy_of: Some(Box::new(fleet.clone())), ..Fleet::open(&text, &overrides)? }) };
    let fleet = there.then(open).transpose()?;
    Ok(Base { commit, revision, fleet, _worktree: worktree })
}
