//! Refuses a fleet in a Git work tree of which Nix would not see a part: a Git flake holds what Git tracks and nothing
//! else (nix3-flake(1), "git").

use std::collections::BTreeSet;

use anyhow::Result;
use camino::Utf8Path;

use crate::{
    diagnostic::{lacking, usage, warn},
    git::git,
    matrix::{self, Matrix},
    process::{Cancel, on_path, quote},
};

/// What Git says about the files of a fleet, relative to its root.
#[derive(Debug, Default)]
struct Files {
    tracked: BTreeSet<String>,
    untracked: BTreeSet<String>,
}

/// Refuses a fleet whose flake, matrix or hosts Git does not track, and warns of other files that Nix will
/// silently do without.
pub fn sees(root: &Utf8Path, matrix: &Matrix) -> Result<()> {
    if !on_path("git") {
        return Err(lacking(format!(
            "{root} is in a Git repository and `git` is not installed, so nobody can tell what Nix would see of it\n  \
             Install git, or take the folder as it is on disk: --fleet path:{root}"
        )));
    }
    let files = list(root)?;
    let mut needed = vec!["flake.nix".to_owned(), matrix::FILE.to_owned()];
    needed.extend(matrix.hosts.iter().map(|host| format!("hosts/{}", host.name)));
    let hidden: Vec<&str> = needed.iter().map(String::as_str).filter(|path| !has(&files.tracked, path)).collect();
    match (hidden.is_empty(), files.untracked.is_empty()) {
        (true, true) => {}
        (true, false) => warn(&unseen(root, &files.untracked)),
        (false, _) => return Err(usage(refusal(root, &hidden, &files))),
    }
    Ok(())
}

/// The Nix files of a fleet, relative to its root: what Git tracks or could track, so that results and
/// build trees are left out; without a repository all of them, hidden folders excepted.
pub fn nix_files(root: &Utf8Path) -> Result<Vec<String>> {
    let is_nix = |file: &String| file.ends_with(".nix") && root.join(file).is_file();
    let files: BTreeSet<String> = match root.ancestors().any(|dir| dir.join(".git").exists()) && on_path("git") {
        true => list(root).map(|files| files.tracked.into_iter().chain(files.untracked).filter(is_nix).collect())?,
        false => walk(root, Utf8Path::new(""))?.into_iter().filter(is_nix).collect(),
    };
    Ok(files.into_iter().collect())
}

fn walk(root: &Utf8Path, below: &Utf8Path) -> std::io::Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in root.join(below).read_dir_utf8()? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        match entry.file_type()? {
            // A link leads to the store or to what is listed anyway.
            kind if kind.is_dir() && !entry.file_name().starts_with('.') => files.extend(walk(root, &path)?),
            kind if kind.is_file() => files.push(path.into_string()),
            _ => {}
        }
    }
    Ok(files)
}

fn refusal(root: &Utf8Path, hidden: &[&str], files: &Files) -> String {
    let empty: Vec<&&str> = hidden.iter().filter(|path| !has(&files.untracked, path)).collect();
    let add = match has(&files.tracked, "hosts") {
        true => hidden.iter().map(|path| quote(path)).collect::<Vec<_>>().join(" "),
        false if hidden.contains(&"flake.nix") => "flake.nix hosts".to_owned(),
        false => "hosts".to_owned(),
    };
    let what = match has(&files.tracked, "hosts") {
        true => hidden.iter().map(|path| quote(path)).collect::<Vec<_>>().join(", "),
        false if hidden.contains(&"flake.nix") => "flake.nix and hosts/".to_owned(),
        false => "hosts/".to_owned(),
    };
    let mut text = format!(
        "Git does not track {what}, so Nix does not see it: a flake in a Git repository is what Git tracks\n  \
         Run `git -C {} add --intent-to-add {add}`; a commit is not needed.",
        quote(root.as_str())
    );
    if !empty.is_empty() {
        let names = empty.iter().map(|path| quote(path)).collect::<Vec<_>>().join(", ");
        text += &format!("\n  Nothing in {names} can be added: it is empty, or .gitignore excludes it.");
    }
    text
}

fn unseen(root: &Utf8Path, untracked: &BTreeSet<String>) -> String {
    const SHOWN: usize = 5;
    let words: Vec<String> = untracked.iter().take(SHOWN).map(|file| quote(file)).collect();
    let more = untracked.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(
        "Git does not track {}{more}, so Nix builds without\n  `git -C {} add --intent-to-add {}` includes what \
         belongs to the fleet.",
        words.join(", "),
        quote(root.as_str()),
        words.join(" ")
    )
}

/// True if the file itself is among them, or something below the folder.
fn has(files: &BTreeSet<String>, path: &str) -> bool {
    let below = format!("{path}/");
    files.contains(path) || files.range(below.clone()..).next().is_some_and(|file| file.starts_with(&below))
}

fn list(root: &Utf8Path) -> Result<Files> {
    let arguments = ["ls-files", "-z", "-t", "--cached", "--others", "--exclude-standard", "--", "hosts", "*.nix"];
    let said = git(root, arguments).capture(&Cancel::default())?;
    if !said.end.is_success() {
        return Err(usage(format!(
            "Git cannot tell what it tracks in {root} ({})\n{}\n  If the folder is no work tree of yours, take it as \
             it is on disk: --fleet path:{root}",
            said.end,
            said.stderr.trim_end()
        )));
    }
    let mut files = Files::default();
    for entry in said.stdout.split_terminator('\0') {
        match entry.split_once(' ') {
            Some(("?", file)) => drop(files.untracked.insert(file.to_owned())),
            Some((_, file)) => drop(files.tracked.insert(file.to_owned())),
            None => {}
        }
    }
    Ok(files)
}

/// The commit that is checked out where the fleet lies, and whether tracked files differ from it. `None` and
/// false outside of Git, before the first commit, and where Git is not installed.
pub fn revision(root: &Utf8Path, cancel: &Cancel) -> (Option<String>, bool) {
    let arguments = ["status", "--porcelain=v2", "--branch", "--untracked-files=no"];
    let asked = git(root, arguments).capture(cancel).ok().filter(|answer| answer.end.is_success());
    asked.map_or((None, false), |answer| told(&answer.stdout))
}

/// Reads what `git status --porcelain=v2 --branch` tells (git-status(1)).
fn told(text: &str) -> (Option<String>, bool) {
    let revision = text.lines().find_map(|line| line.strip_prefix("# branch.oid ")).filter(|oid| *oid != "(initial)");
    let dirty = revision.is_some() && text.lines().any(|line| !line.starts_with('#'));
    (revision.map(str::to_owned), dirty)
}

/// Tells Git of new files, so that Nix sees them without a commit. The answer is why that was not possible;
/// where there is no repository, there is nothing to tell.
pub fn add(root: &Utf8Path, paths: &[&str], cancel: &Cancel) -> Option<String> {
    if !root.ancestors().any(|dir| dir.join(".git").exists()) {
        return None;
    }
    let arguments = ["add", "--intent-to-add", "--"].into_iter().chain(paths.iter().copied());
    match git(root, arguments).capture(cancel) {
        Ok(said) if said.end.is_success() => None,
        Ok(said) => Some(said.stderr.trim().to_owned()),
        Err(error) => Some(format!("{error:#}")),
    }
}

#[cfg(test)]
mod tests {
    use xshell::{Shell, cmd};

    use super::*;
    use crate::files::Temporary;

    /// A repository with two hosts and nothing added yet.
    fn repository() -> (Shell, Temporary) {
        let (shell, dir) = (Shell::new().unwrap(), Temporary::new().unwrap());
        shell.change_dir(&*dir);
        cmd!(shell, "git init --quiet").run().expect("this test needs git");
        for file in ["flake.nix", "hosts/hosts.toml", "hosts/arm/default.nix", "hosts/web/default.nix"] {
            shell.write_file(file, "").unwrap();
        }
        (shell, dir)
    }

    fn check(dir: &Utf8Path) -> Result<(), String> {
        let row = |name: &str| format!("[host.{name}]\ndescription='d'\nsystem='i686-linux'\nartifacts=['system']\n");
        let matrix = Matrix::parse(&(row("arm") + &row("web")), &["arm".into(), "web".into()]).unwrap();
        sees(dir, &matrix).map_err(|error| error.to_string())
    }

    #[test]
    fn what_git_does_not_track_is_named_with_the_command_that_adds_it() {
        let (shell, dir) = repository();
        let error = check(&dir).unwrap_err();
        assert!(error.starts_with("Git does not track flake.nix and hosts/,"), "{error}");
        assert!(error.contains("add --intent-to-add flake.nix hosts`"), "{error}");

        cmd!(shell, "git add flake.nix").run().unwrap();
        let error = check(&dir).unwrap_err();
        assert!(error.starts_with("Git does not track hosts/,"), "{error}");

        cmd!(shell, "git add --intent-to-add hosts/hosts.toml hosts/arm").run().unwrap();
        let error = check(&dir).unwrap_err();
        assert!(error.starts_with("Git does not track hosts/web,"), "{error}");
        assert!(error.contains("add --intent-to-add hosts/web`"), "{error}");

        cmd!(shell, "git add --intent-to-add hosts/web").run().unwrap();
        check(&dir).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_added_is_not_proposed_in_vain() {
        let (shell, dir) = repository();
        shell.write_file(".gitignore", "web/\n").unwrap();
        cmd!(shell, "git add .").run().unwrap();
        let error = check(&dir).unwrap_err();
        assert!(error.contains("Nothing in hosts/web can be added: it is empty, or .gitignore"), "{error}");
    }

    #[test]
    fn files_that_nix_would_quietly_do_without_are_listed() {
        let (shell, dir) = repository();
        cmd!(shell, "git add .").run().unwrap();
        shell.write_file("hosts/web/live.nix", "").unwrap();
        shell.write_file("modules/new.nix", "").unwrap();
        shell.write_file("notes.txt", "").unwrap();
        let files = list(&dir).unwrap();
        assert_eq!(files.untracked, ["hosts/web/live.nix", "modules/new.nix"].map(str::to_owned).into());
        assert!(unseen("/x".into(), &files.untracked).contains("add --intent-to-add hosts/web/live.nix modules/new"));
        check(&dir).unwrap();
    }

    #[test]
    fn the_commit_and_whether_files_differ_from_it() {
        let (shell, dir) = repository();
        let root = &*dir;
        let ask = || revision(root, &Cancel::default());
        assert_eq!(ask(), (None, false));
        cmd!(shell, "git add .").run().unwrap();
        assert_eq!(ask(), (None, false));
        cmd!(shell, "git -c user.name=n -c user.email=n@localhost commit -qm x").run().unwrap();
        let head = cmd!(shell, "git rev-parse HEAD").read().unwrap();
        shell.write_file("untracked", "").unwrap();
        assert_eq!(ask(), (Some(head.clone()), false));
        shell.write_file("flake.nix", "{ }").unwrap();
        assert_eq!(ask(), (Some(head), true));
    }

    #[test]
    fn a_repository_that_git_cannot_read_is_explained() {
        let (shell, dir) = repository();
        shell.remove_path(".git/HEAD").unwrap();
        let error = check(&dir).unwrap_err();
        assert!(error.contains("Git cannot tell what it tracks") && error.contains("--fleet path:"), "{error}");
    }
}
