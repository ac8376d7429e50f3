//! Finds a fleet as it was at an earlier commit.

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};

use crate::{fleet::Fleet, git::Repository, matrix, process::Cancel};

/// The fleet at an earlier commit.
#[derive(Debug)]
pub struct Base {
    /// The commit in full.
    pub commit: String,
    /// What was asked for, such as `origin/main`.
    pub revision: String,
    /// The fleet there; none if the commit has no fleet at this place yet.
    pub fleet: Option<Fleet>,
}

/// Finds the merge base of HEAD and `revision` (by default the main branch), has Nix put its files into the store and
/// opens the fleet there.
///
/// Errors: exit code 2 where there is no repository or no such revision, or where the base's matrix is wrong.
pub fn find(fleet: &Fleet, revision: Option<&str>, cancel: &Cancel) -> Result<Base> {
    let repository = Repository::around(&fleet.root, cancel)?;
    let revision = match revision {
        Some(revision) => revision.to_owned(),
        None => repository.default_base(cancel)?,
    };
    let commit = repository.merge_base(&revision, cancel)?;
    let files = repository.files_at(&commit, cancel).with_context(|| format!("cannot read the commit {commit}"))?;
    let below = fleet.root.strip_prefix(&repository.toplevel).map_or_else(|_| Utf8PathBuf::new(), Utf8Path::to_owned);
    let root = files.join(&below);
    let there = root.join(matrix::FILE).is_file();
    let fleet = there.then(|| fleet.at_commit(&repository.toplevel, &commit, &below, root)).transpose()?;
    Ok(Base { commit, revision, fleet })
}
