//! Real folders and repositories, and the trees read from them.

use std::{collections::HashMap, fs};

use camino::Utf8PathBuf;

use super::*;

fn scratch(name: &str) -> Utf8PathBuf {
    let dir = Utf8PathBuf::from_path_buf(std::env::temp_dir())
        .unwrap()
        .join(format!("drydock-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

fn git(dir: &Utf8Path, arguments: &[&str]) {
    let identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
    let argv = ["git"].iter().chain(&identity).chain(arguments).copied();
    Invocation::new(argv).dir(dir).read(&Cancel::default()).unwrap();
}

fn take(root: &Utf8Path, flake_ref: &str) -> Snapshot {
    Snapshot::take(root, flake_ref, &HashMap::new(), &Cancel::default()).unwrap()
}

#[test]
fn a_git_flake_is_what_the_index_lists_with_the_content_on_disk() {
    let dir = scratch("snapshot-git");
    git(&dir, &["init", "-q"]);
    for file in ["a", "b", "gone", "frozen"] {
        fs::write(dir.join(file), file).unwrap();
    }
    git(&dir, &["add", "."]);
    git(&dir, &["commit", "-qm", "x"]);
    let reference = format!("git+file://{dir}");
    let clean = take(&dir, &reference);
    git(&dir, &["update-index", "--assume-unchanged", "frozen"]);
    fs::write(dir.join("frozen"), "thawed").unwrap();
    fs::write(dir.join("untracked"), "u").unwrap();
    fs::write(dir.join("intent"), "i").unwrap();
    git(&dir, &["add", "-N", "intent"]);
    fs::remove_file(dir.join("gone")).unwrap();
    let dirty = take(&dir, &reference);
    assert_eq!(dirty.tree.entries.keys().collect::<Vec<_>>(), ["a", "b", "frozen", "intent"]);
    assert_eq!(dirty.tree.entries["a"], clean.tree.entries["a"]);
    assert_ne!(dirty.tree.entries["frozen"], clean.tree.entries["frozen"]);
    assert_ne!(dirty.tree.identity, clean.tree.identity);
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn what_git_may_overlook_is_noticed() {
    let dir = scratch("snapshot-overlooked");
    git(&dir, &["init", "-q"]);
    fs::create_dir(dir.join("sub")).unwrap();
    for file in ["a", "sub/.gitattributes"] {
        fs::write(dir.join(file), "* text=auto\n").unwrap();
    }
    git(&dir, &["add", "."]);
    git(&dir, &["commit", "-qm", "x"]);
    let overlooked = || take(&dir, &format!("git+file://{dir}")).tree.overlooked;
    assert!(!overlooked());
    for (mark, unmark) in [("--assume-unchanged", "--no-assume-unchanged"), ("--skip-worktree", "--no-skip-worktree")] {
        git(&dir, &["update-index", mark, "a"]);
        assert!(overlooked(), "{mark}");
        git(&dir, &["update-index", unmark, "a"]);
        assert!(!overlooked(), "{unmark}");
    }
    git(&dir, &["config", "core.fileMode", "false"]);
    assert!(overlooked(), "permissions");
    git(&dir, &["config", "core.fileMode", "true"]);
    fs::write(dir.join("sub/.gitattributes"), "*.age filter=git-crypt\n").unwrap();
    assert!(overlooked(), "a filter");
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn what_git_knew_for_a_moment_leaves_a_trace() {
    let dir = scratch("snapshot-traces");
    git(&dir, &["init", "-q"]);
    fs::write(dir.join("a"), "a").unwrap();
    git(&dir, &["add", "."]);
    git(&dir, &["commit", "-qm", "x"]);
    fs::write(dir.join("b"), "b").unwrap();
    let reference = format!("git+file://{dir}");
    let before = take(&dir, &reference);
    assert_eq!(before.moment, take(&dir, &reference).moment, "reading leaves none");
    git(&dir, &["add", "-N", "b"]);
    git(&dir, &["rm", "-q", "--cached", "b"]);
    let after = take(&dir, &reference);
    assert_eq!(before.tree.identity, after.tree.identity);
    assert_ne!(before.moment, after.moment);
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_path_flake_is_everything_in_its_folder() {
    let dir = scratch("snapshot-path");
    fs::create_dir_all(dir.join("empty")).unwrap();
    fs::create_dir_all(dir.join("full")).unwrap();
    fs::write(dir.join("full/a"), "a").unwrap();
    std::os::unix::fs::symlink("full", dir.join("link")).unwrap();
    let first = take(&dir, &format!("path:{dir}"));
    assert_eq!(first.tree.entries.keys().collect::<Vec<_>>(), ["empty", "full/a", "link"]);
    assert_eq!(first.tree.detour("link/a"), Some("link"));
    fs::write(dir.join("full/a"), "b").unwrap();
    let second = Snapshot::take(&dir, &format!("path:{dir}"), &first.known, &Cancel::default()).unwrap();
    assert_ne!(first.tree.digest(), second.tree.digest(), "same size, a moment later");
    assert_ne!(first.moment, second.moment);
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn what_cannot_be_told_is_said() {
    let dir = scratch("snapshot-refs");
    for reference in ["github:a/b", "git+file:///x?ref=main", "path:/x?narHash=y", "git+file:///x?dir=a&submodules=1"] {
        let error = Snapshot::take(&dir, reference, &HashMap::new(), &Cancel::default()).unwrap_err();
        assert!(error.contains(reference), "{error}");
    }
    fs::remove_dir_all(dir).unwrap();
}
