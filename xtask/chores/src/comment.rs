//! `cargo chores comment`: writes the report as a comment of a pull request, or renews the one that is there.
#![expect(clippy::print_stderr, reason = "a verb prints its report")]

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::{
    diagnostic::{DONE, usage},
    flags,
    github::{api, checked},
    process::Cancel,
    report::github::MARKER,
};

/// A comment as GitHub lists it ("List issue comments" in the REST API).
#[derive(Debug, Deserialize)]
struct Listed {
    id: u64,
    body: Option<String>,
}

pub fn run(flags: &flags::Comment, cancel: &Cancel) -> Result<u8> {
    let repository = checked(&flags.repository)?;
    let text = std::fs::read_to_string(&flags.file).with_context(|| format!("cannot read {}", flags.file))?;
    if !text.starts_with(MARKER) {
        return Err(usage(format!("{} is no comment that `cargo xtask ci merge` wrote", flags.file)));
    }
    let list = format!("repos/{repository}/issues/{}/comments?per_page=100", flags.pull);
    let pages = api(&["--paginate", "--slurp", &list], None, cancel)?;
    let pages: Vec<Vec<Listed>> =
        serde_json::from_str(&pages).context("GitHub's list of comments is in no known form")?;
    let ours =
        pages.into_iter().flatten().find(|comment| comment.body.as_deref().is_some_and(|b| b.starts_with(MARKER)));
    let body = serde_json::json!({ "body": text }).to_string();
    match ours {
        Some(Listed { id, .. }) => {
            let path = format!("repos/{repository}/issues/comments/{id}");
            api(&["--method", "PATCH", "--input", "-", &path], Some(body), cancel)?;
            eprintln!("renewed comment {id} of pull request {}", flags.pull);
        }
        None => {
            let path = format!("repos/{repository}/issues/{}/comments", flags.pull);
            api(&["--method", "POST", "--input", "-", &path], Some(body), cancel)?;
            eprintln!("wrote a comment on pull request {}", flags.pull);
        }
    }
    Ok(DONE)
}
