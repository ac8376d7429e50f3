//! Asks a Git repository for commits and their files.

use std::time::Duration;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    diagnostic::{lacking, usage},
    nix::argv,
    process::{Cancel, Captured, Invocation, on_path},
};

/// Long enough to check out a large repository from a slow disk.
const PATIENCE: Duration = Duration::from_secs(300);

/// The repository around a folder.
#[derive(Clone, Debug)]
pub struct Repository {
    /// The folder of the work tree, absolute.
    pub toplevel: Utf8PathBuf,
}

impl Repository {
    /// Finds the repository that `dir` lies in. Errors: 2 if there is none, 3 without Git.
    pub fn around(dir: &Utf8Path, cancel: &Cancel) -> Result<Self> {
        if !on_path("git") {
            return Err(lacking("`git` is not installed, and revisions cannot be compared without it"));
        }
        let answer = git(dir, ["rev-parse", "--show-toplevel"]).capture(cancel)?;
        match answer.end.is_success() {
            true => Ok(Self { toplevel: answer.stdout.trim_end_matches('\n').into() }),
            false => Err(usage(format!(
                "{dir} is not in a Git repository, so there is no earlier state to compare with\n  Git says: {}",
                answer.stderr.trim()
            ))),
        }
    }

    /// The commit that a revision names, in full.
    pub fn commit(&self, revision: &str, cancel: &Cancel) -> Result<String> {
        let spec = format!("{revision}^{{commit}}");
        let answer = self.ask(&["rev-parse", "--verify", "--quiet", "--end-of-options", &spec], cancel)?;
        match answer.end.is_success() {
            true => Ok(answer.stdout.trim().to_owned()),
            false => Err(usage(format!(
                "`{revision}` names no commit in {}\n  In a shallow clone it may be missing: `git fetch --unshallow`, \
                 or `fetch-depth: 0` for actions/checkout",
                self.toplevel
            ))),
        }
    }

    /// The commit where the checked-out branch left `revision`.
    pub fn merge_base(&self, revision: &str, cancel: &Cancel) -> Result<String> {
        let commit = self.commit(revision, cancel)?;
        let answer = self.ask(&["merge-base", "HEAD", &commit], cancel)?;
        match answer.end.is_success() {
            true => Ok(answer.stdout.trim().to_owned()),
            false => Err(usage(format!(
                "HEAD and `{revision}` have no commit in common in {}\n  In a shallow clone the history is missing: \
                 `git fetch --unshallow`, or `fetch-depth: 0` for actions/checkout",
                self.toplevel
            ))),
        }
    }

    /// What changes are usually held against: the remote's main branch, or the local one, or HEAD.
    pub fn default_base(&self, cancel: &Cancel) -> Result<String> {
        const USUAL: [&str; 5] = ["origin/HEAD", "origin/main", "origin/master", "main", "master"];
        for name in USUAL {
            let spec = format!("{name}^{{commit}}");
            if self.ask(&["rev-parse", "--verify", "--quiet", &spec], cancel)?.end.is_success() {
                return Ok(name.to_owned());
            }
        }
        Ok("HEAD".to_owned())
    }

    /// A commit's files in the store, put there by Nix.
    pub fn files_at(&self, commit: &str, cancel: &Cancel) -> Result<Utf8PathBuf> {
        let shallow = self.ask(&["rev-parse", "--is-shallow-repository"], cancel)?.stdout.trim() == "true";
        let fetch = Invocation::new(argv::fetch_commit(&self.toplevel, commit, shallow)).timeout(PATIENCE);
        Ok(without_git_variables(fetch).read(cancel)?.trim().into())
    }

    fn ask(&self, rest: &[&str], cancel: &Cancel) -> Result<Captured> {
        git(&self.toplevel, rest.iter().copied()).capture(cancel)
    }
}

/// Git, about the repository that the folder is in.
pub fn git<'a>(dir: &Utf8Path, rest: impl IntoIterator<Item = &'a str>) -> Invocation {
    let argv = ["git", "--no-optional-locks"].into_iter().chain(rest);
    let invocation = Invocation::new(argv).dir(dir).timeout(PATIENCE);
    without_git_variables(invocation)
}

/// A hook sets these for the repository that runs it, which need not be the fleet's.
fn without_git_variables(invocation: Invocation) -> Invocation {
    ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"]
        .into_iter()
        .fold(invocation, |i, key| i.env_remove(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(dir: &Utf8Path, script: &str) -> String {
        let script = format!("set -eu; export GIT_CONFIG_GLOBAL=/dev/null; {script}");
        Invocation::new(["sh", "-c", &script]).dir(dir).read(&Cancel::default()).unwrap().trim().to_owned()
    }

    #[test]
    fn the_files_of_a_merge_base_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8PathBuf::from_path_buf(dir.path().canonicalize().unwrap()).unwrap();
        sh(
            &dir,
            "git init -q -b main .; git config user.name n; git config user.email n@localhost; echo 1 > f; git add f; \
             git commit -qm 1; git checkout -qb work; echo 2 > f; git commit -qam 2; git checkout -q main; echo 3 > f; \
             git commit -qam 3; git checkout -q work",
        );
        let cancel = Cancel::default();
        let repository = Repository::around(&dir, &cancel).unwrap();
        assert_eq!(repository.toplevel, dir);
        assert_eq!(repository.default_base(&cancel).unwrap(), "main");
        let base = repository.merge_base("main", &cancel).unwrap();
        assert_eq!(base, sh(&dir, "git rev-parse main~"));
        let files = repository.files_at(&base, &cancel).unwrap();
        assert_eq!(std::fs::read_to_string(files.join("f")).unwrap(), "1\n");
        sh(&dir, "git clone -q --depth 1 --no-local file://$PWD shallow");
        let shallow = Repository::around(&dir.join("shallow"), &cancel).unwrap();
        let commit = shallow.commit("HEAD", &cancel).unwrap();
        assert_eq!(std::fs::read_to_string(shallow.files_at(&commit, &cancel).unwrap().join("f")).unwrap(), "2\n");
        for bad in ["no-such", "--upload-pack=x", ""] {
            assert!(repository.merge_base(bad, &cancel).is_err(), "{bad}");
        }
    }
}
