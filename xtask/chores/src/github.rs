//! Calls GitHub through its command line `gh`.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    diagnostic::lacking,
    process::{Cancel, Invocation, Stream, on_path},
};

/// A command line of `gh`. Errors: exit code 3 where it is not installed.
pub fn gh<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Invocation> {
    match on_path("gh") {
        true => Ok(Invocation::new(["gh"].into_iter().chain(words))),
        false => Err(lacking("`gh`, GitHub's command line, is not installed; hosted runners have it")),
    }
}

/// Calls GitHub's REST API about one repository and returns what it answers. `gh` puts the repository in the place of
/// `{owner}` and `{repo}`: that of GH_REPO or of the clone. `body` is the request's.
///
/// Errors: those of [`gh`]; the command, ready to paste, where the call fails.
pub fn api(options: &[&str], path: &str, body: Option<Value>, cancel: &Cancel) -> Result<Value> {
    let path = format!("repos/{{owner}}/{{repo}}/{path}");
    let mut argv = vec!["api", "--header", "X-GitHub-Api-Version: 2022-11-28"];
    argv.extend(options);
    argv.extend(body.iter().flat_map(|_| ["--input", "-"]));
    argv.push(path.trim_end_matches('/'));
    let call = gh(argv)?.timeout(Duration::from_secs(60));
    let (mut out, mut err) = (String::new(), String::new());
    let end = call.feed(body.map(|body| body.to_string().into_bytes()), cancel, &mut |stream, line| {
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
    serde_json::from_str(&out).with_context(|| format!("`{}` did not answer in JSON", call.display()))
}
