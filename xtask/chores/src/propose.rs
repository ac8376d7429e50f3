//! `cargo chores propose`: opens a pull request with the flake.lock that `drydock update` wrote, or renews the one that is open.
#![expect(clippy::print_stderr, reason = "a verb prints its report")]

use std::fs;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::json;

use crate::{
    diagnostic::{DONE, usage},
    flags,
    fleet::Fleet,
    git::Repository,
    github::{api, checked},
    process::Cancel,
};

/// The branch of the pull request; it belongs to this chore alone and is written anew each time.
const BRANCH: &str = "update-flake-inputs";
const TITLE: &str = "Update the flake inputs";

/// The lock file is put on the branch through the API, so that no credentials are in the clone.
pub fn run(flags: &flags::Propose, cancel: &Cancel) -> Result<u8> {
    let repository = checked(&flags.repository)?;
    let lock = Fleet::open(&flags.fleet, &[])?.root.join("flake.lock");
    if !lock.is_file() {
        eprintln!("{lock} is not there: the fleet has no inputs to update");
        return Ok(DONE);
    }
    let clone = Repository::around(lock.parent().unwrap_or(&lock), cancel)?;
    let path = lock.strip_prefix(&clone.toplevel).context("flake.lock is outside of its repository")?;
    let base = clone.commit("HEAD", cancel)?;
    let send = |method: &str, path: &str, body: serde_json::Value| {
        let path = format!("repos/{repository}/{path}");
        api(&["--method", method, "--input", "-", &path], Some(body.to_string()), cancel)
    };
    let get = |path: &str| api(&[&format!("repos/{repository}/{path}")], None, cancel);
    let known: Option<Known> =
        get(&format!("contents/{path}?ref={base}")).ok().and_then(|t| serde_json::from_str(&t).ok());
    let content = base64(&fs::read(&lock).with_context(|| format!("cannot read {lock}"))?);
    if known.as_ref().is_some_and(|known| known.content.replace('\n', "") == content) {
        eprintln!("{path} is as in the commit {base}: there is nothing to propose");
        return Ok(DONE);
    }
    let text = fs::read_to_string(&flags.file)
        .with_context(|| format!("cannot read {}, which `drydock update` writes", flags.file))?;
    let branch: Option<Reference> =
        get(&format!("git/ref/heads/{BRANCH}")).ok().and_then(|text| serde_json::from_str(&text).ok());
    match branch {
        Some(known) if known.object.sha == base => {}
        Some(_) => drop(send("PATCH", &format!("git/refs/heads/{BRANCH}"), json!({ "sha": base, "force": true }))?),
        None => drop(send("POST", "git/refs", json!({ "ref": format!("refs/heads/{BRANCH}"), "sha": base }))?),
    }
    let mut body = json!({ "message": TITLE, "content": content, "branch": BRANCH });
    if let Some(known) = known {
        body["sha"] = known.sha.into();
    }
    send("PUT", &format!("contents/{path}"), body)?;
    let owner = repository.split('/').next().unwrap_or_default();
    let open = get(&format!("pulls?state=open&head={owner}:{BRANCH}"))?;
    let open: Vec<Pull> = serde_json::from_str(&open).context("GitHub's list of pull requests is in no known form")?;
    match open.first() {
        Some(pull) => {
            send("PATCH", &format!("pulls/{}", pull.number), json!({ "body": text }))?;
            eprintln!("renewed pull request {}", pull.number);
        }
        None => {
            let about: Main = serde_json::from_str(&api(&[&format!("repos/{repository}")], None, cancel)?)
                .map_err(|_| usage(format!("GitHub does not tell the main branch of {repository}")))?;
            let body = json!({ "title": TITLE, "head": BRANCH, "base": about.default_branch, "body": text });
            send("POST", "pulls", body)?;
            eprintln!("opened a pull request");
        }
    }
    Ok(DONE)
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

/// A file as the contents API describes it.
#[derive(Deserialize)]
struct Known {
    sha: String,
    /// In base 64, with line breaks.
    content: String,
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
