//! `cargo chores comment`: writes the report as a comment of a pull request, or renews the one that is there.
#![expect(clippy::print_stderr, reason = "a verb prints its report")]

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::{
    diagnostic::{DONE, usage},
    flags,
    github::api,
    process::Cancel,
    report::github::MARKER,
};

/// The comment's text, where `drydock ci merge` writes it.
const FILE: &str = "drydock-ci/report/comment.md";

pub fn run(flags: &flags::Comment, cancel: &Cancel) -> Result<u8> {
    let text = std::fs::read_to_string(FILE).with_context(|| format!("cannot read {FILE}"))?;
    if !text.starts_with(MARKER) {
        return Err(usage(format!("{FILE} is no comment that `cargo xtask ci merge` wrote")));
    }
    let comments = format!("issues/{}/comments", flags.pull);
    let pages = api(&["--paginate", "--slurp"], &format!("{comments}?per_page=100"), None, cancel)?;
    let ours = pages.as_array().into_iter().flatten().flat_map(|page| page.as_array().into_iter().flatten());
    let ours = ours.filter(|comment| comment["body"].as_str().is_some_and(|body| body.starts_with(MARKER)));
    let (method, path) = match ours.filter_map(|comment| comment["id"].as_u64()).next() {
        Some(id) => ("PATCH", format!("issues/comments/{id}")),
        None => ("POST", comments),
    };
    api(&["--method", method], &path, Some(json!({ "body": text })), cancel)?;
    eprintln!("the report is a comment of pull request {}", flags.pull);
    Ok(DONE)
}
