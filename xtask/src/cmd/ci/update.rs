//! The step `update`: updates a fleet's inputs and says what that changes in every host, as a pull request if one is
//! wanted.
#![expect(clippy::print_stderr, reason = "a verb prints its report")]

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use camino::Utf8Path;
use serde::Deserialize;
use serde_json::json;

use super::api::{api, checked};
use crate::{
    compare::difference,
    diagnostic::{DONE, FAILED, INTERRUPTED, usage},
    differences,
    files::write,
    flags,
    fleet::Fleet,
    git::Repository,
    nix::argv,
    process::{Cancel, Invocation},
    report::{github::COMMENT_LIMIT, markdown},
    run::Run,
};

/// The branch of the pull request; it belongs to this step alone and is written anew each time.
const BRANCH: &str = "update-flake-inputs";
const TITLE: &str = "Update the flake inputs";

pub fn run(flags: &flags::Update, cancel: &Cancel) -> Result<u8> {
    let fleet = Fleet::open(&flags.fleet.fleet, &flags.fleet.override_input)?;
    let lock = fleet.root.join("flake.lock");
    let before = fs::read(&lock).unwrap_or_default();
    let said =
        Invocation::new(argv::flake_update()).dir(&fleet.root).timeout(Duration::from_secs(600)).capture(cancel)?;
    anyhow::ensure!(said.end.is_success(), "`nix flake update` failed ({}): {}", said.end, said.stderr.trim());
    if fs::read(&lock).unwrap_or_default() == before {
        eprintln!("every input is up to date");
        return Ok(DONE);
    }
    let run = Run::begin(fleet, flags.stages.options(), cancel)?;
    let rows = difference::against_base(&run, &run.fleet.matrix.hosts, Some("HEAD"))?;
    if cancel.is_set() {
        return Ok(INTERRUPTED);
    }
    let mut sections = vec!["What the new inputs change in every host, by derivations.\n\n".to_owned()];
    sections.push(format!("<details><summary>Inputs</summary>\n\n{}\n</details>\n\n", markdown::fenced(&said.stderr)));
    sections.extend(rows.iter().map(differences::markdown));
    let text = markdown::fit(&sections, COMMENT_LIMIT);
    write(&flags.out, &text)?;
    if let Some(repository) = &flags.pull_request {
        propose(checked(repository)?, &lock, &text, cancel)?;
    }
    let broken = rows.iter().filter(|row| row.failure.is_some()).count();
    eprintln!("{} hosts compared, {broken} do not evaluate with the new inputs; {} says more", rows.len(), flags.out);
    // The pull request stands all the same: its checks say that it is not to be merged yet.
    Ok(if broken > 0 && flags.pull_request.is_none() { FAILED } else { DONE })
}

#[derive(Deserialize)]
struct Reference {
    object: Object,
}

#[derive(Deserialize)]
struct Object {
    sha: String,
}

#[derive(Deserialize)]
struct Pull {
    number: u64,
}

/// Puts the lock file on the branch through the API, so that no credentials are in the clone, and opens the
/// pull request or renews its text.
fn propose(repository: &str, lock: &Utf8Path, text: &str, cancel: &Cancel) -> Result<()> {
    let clone = Repository::around(lock.parent().unwrap_or(lock), cancel)?;
    let path = lock.strip_prefix(&clone.toplevel).context("flake.lock is outside of its repository")?;
    let base = clone.commit("HEAD", cancel)?;
    let send = |method: &str, path: &str, body: serde_json::Value| {
        let path = format!("repos/{repository}/{path}");
        api(&["--method", method, "--input", "-", &path], Some(body.to_string()), cancel)
    };
    let get = |path: &str| api(&[&format!("repos/{repository}/{path}")], None, cancel);
    let branch: Option<Reference> =
        get(&format!("git/ref/heads/{BRANCH}")).ok().and_then(|text| serde_json::from_str(&text).ok());
    match branch {
        Some(known) if known.object.sha == base => {}
        Some(_) => drop(send("PATCH", &format!("git/refs/heads/{BRANCH}"), json!({ "sha": base, "force": true }))?),
        None => drop(send("POST", "git/refs", json!({ "ref": format!("refs/heads/{BRANCH}"), "sha": base }))?),
    }
    let known: Option<Known> =
        get(&format!("contents/{path}?ref={base}")).ok().and_then(|t| serde_json::from_str(&t).ok());
    let content = base64(&fs::read(lock).with_context(|| format!("cannot read {lock}"))?);
    let mut body = json!({ "message": TITLE, "content": content, "branch": BRANCH });
    if let Some(known) = known {
        body["sha"] = known.sha.into();
    }
    send("PUT", &format!("contents/{path}"), body)?;
    let owner = repository.split('/').next().unwrap_or_default();
    let open = get(&format!("pulls?state=open&head={owner}:{BRANCH}"))?;
    let open: Vec<Pull> = serde_json::from_str(&open).context("GitHub's list of pull requests is in no known form")?;
    match open.first() {
        Some(pull) => drop(send("PATCH", &format!("pulls/{}", pull.number), json!({ "body": text }))?),
        None => {
            let repository: Main = serde_json::from_str(&api(&[&format!("repos/{repository}")], None, cancel)?)
                .map_err(|_| usage(format!("GitHub does not tell the main branch of {repository}")))?;
            let body = json!({ "title": TITLE, "head": BRANCH, "base": repository.default_branch, "body": text });
            send("POST", "pulls", body)?;
        }
    }
    Ok(())
}

/// A file as the contents API describes it.
#[derive(Deserialize)]
struct Known {
    sha: String,
}

#[derive(Deserialize)]
struct Main {
    default_branch: String,
}

/// Base 64 with padding (RFC 4648, section 4), as the contents API wants it.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, &byte| word << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for n in 0..4 {
            let index = (word >> (18 - 6 * n)) & 63;
            out.push(if n <= chunk.len() { char::from(ALPHABET[index as usize]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_in_the_rfc() {
        let rows =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")];
        for (plain, encoded) in rows {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }
}
