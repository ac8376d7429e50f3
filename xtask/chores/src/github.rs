//! Calls GitHub's REST API through its command line `gh`.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::{
    diagnostic::{lacking, usage},
    process::{Cancel, Invocation, Stream, on_path},
};

/// A repository as it may stand in the path of a request.
pub fn checked(repository: &str) -> Result<&str> {
    let part = |text: &str| {
        !text.is_empty() && text != ".." && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    match repository.split_once('/') {
        Some((owner, name)) if part(owner) && part(name) => Ok(repository),
        _ => Err(usage(format!("`{repository}` is no repository; one is written OWNER/NAME"))),
    }
}

/// Calls GitHub's REST API with `gh` and returns what it answers. `input` is the request's body.
///
/// Errors: exit code 3 without `gh`; the command, ready to paste, where the call fails.
pub fn api(arguments: &[&str], input: Option<String>, cancel: &Cancel) -> Result<String> {
    if !on_path("gh") {
        return Err(lacking("`gh`, GitHub's command line, is not installed; hosted runners have it"));
    }
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
            "`{}` failed ({end}): {}\n  try: check the job's `permissions` and GH_TOKEN; pull requests from forks get no token that may write",
            call.display(),
            err.trim()
        );
    }
    Ok(out)
}
