//! The step `comment`: a text in, one comment of ours on a pull request out, renewed rather than repeated.
#![expect(clippy::print_stderr, reason = "a verb prints its report")]

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::merge::MARKER;
use crate::{
    cmd::DONE,
    diagnostic::{lacking, usage},
    flags,
    process::{Cancel, Invocation, Stream, on_path},
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
    if !on_path("gh") {
        return Err(lacking("`gh`, GitHub's command line, is not installed; hosted runners have it"));
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

/// A repository as it may stand in the path of a request.
fn checked(repository: &str) -> Result<&str> {
    let part = |text: &str| {
        !text.is_empty() && text != ".." && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    match repository.split_once('/') {
        Some((owner, name)) if part(owner) && part(name) => Ok(repository),
        _ => Err(usage(format!("`{repository}` is no repository; one is written OWNER/NAME"))),
    }
}

fn api(arguments: &[&str], input: Option<String>, cancel: &Cancel) -> Result<String> {
    let argv = ["gh", "api", "--header", "X-GitHub-Api-Version: 2022-11-28"].iter().chain(arguments).copied();
    let call = Invocation::new(argv).timeout(Duration::from_secs(60));
    let (mut out, mut err) = (String::new(), String::new());
    let end = call.feed(input.map(String::into_bytes), cancel, &mut |stream, line| {
        let text = if stream == Stream::Out { &mut out } else { &mut err };
        text.push_str(line);
        text.push('\n');
    })?;
    if !end.is_success() {
        bail!(
            "`{}` failed ({end}): {}\n  try: the job needs `pull-requests: write`, and forks do not get it",
            call.display(),
            err.trim()
        );
    }
    Ok(out)
}
