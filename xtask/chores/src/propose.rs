//! `cargo chores propose`: opens a pull request with the flake.lock that `drydock update` wrote, or renews the one that is open.
#![expect(clippy::print_stderr, reason = "a verb prints its report")]

use std::fs;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{
    diagnostic::DONE,
    flags,
    fleet::Fleet,
    git::{Repository, git},
    github::api,
    process::Cancel,
};

/// The branch of the pull request; it belongs to this chore alone and is written anew each time.
const BRANCH: &str = "update-flake-inputs";
const TITLE: &str = "Update the flake inputs";

/// The pull request's text, which the workflow has `drydock update` write.
const FILE: &str = "drydock-ci/update.md";

/// The lock file is put on the branch through the API, so that no credentials are in the clone.
pub fn run(flags: &flags::Propose, cancel: &Cancel) -> Result<u8> {
    let lock = Fleet::open(&flags.fleet, &[])?.root.join("flake.lock");
    if !lock.is_file() {
        eprintln!("{lock} is not there: the fleet has no inputs to update");
        return Ok(DONE);
    }
    let clone = Repository::around(lock.parent().unwrap_or(&lock), cancel)?;
    let path = lock.strip_prefix(&clone.toplevel).context("flake.lock is outside of its repository")?;
    if git(&clone.toplevel, ["status", "--porcelain", "--", path.as_str()]).read(cancel)?.is_empty() {
        eprintln!("{path} is as it is committed: there is nothing to propose");
        return Ok(DONE);
    }
    let text =
        fs::read_to_string(FILE).with_context(|| format!("cannot read {FILE}, which `drydock update` writes"))?;
    let content = fs::read_to_string(&lock).with_context(|| format!("cannot read {lock}"))?;
    let base = clone.commit("HEAD", cancel)?;
    let tree = git(&clone.toplevel, ["rev-parse", "HEAD^{tree}"]).read(cancel)?;

    let get = |path: &str| api(&[], path, None, cancel);
    let send = |method: &str, path: &str, body: Value| api(&["--method", method], path, Some(body), cancel);
    let file = json!({ "path": path, "mode": "100644", "type": "blob", "content": content });
    let tree = &send("POST", "git/trees", json!({ "base_tree": tree.trim(), "tree": [file] }))?["sha"];
    let commit = json!({ "message": TITLE, "tree": tree, "parents": [base] });
    let commit = &send("POST", "git/commits", commit)?["sha"];
    // The branch goes from one commit to the next: were it the base in between, GitHub would close the pull request.
    match get(&format!("git/ref/heads/{BRANCH}")) {
        Ok(_) => send("PATCH", &format!("git/refs/heads/{BRANCH}"), json!({ "sha": commit, "force": true }))?,
        Err(_) => send("POST", "git/refs", json!({ "ref": format!("refs/heads/{BRANCH}"), "sha": commit }))?,
    };
    match get(&format!("pulls?state=open&head={{owner}}:{BRANCH}"))?[0]["number"].as_u64() {
        Some(number) => send("PATCH", &format!("pulls/{number}"), json!({ "body": text }))?,
        None => {
            let main = &get("")?["default_branch"];
            send("POST", "pulls", json!({ "title": TITLE, "head": BRANCH, "base": main, "body": text }))?
        }
    };
    eprintln!("the pull request from {BRANCH} has the new {path}");
    Ok(DONE)
}
