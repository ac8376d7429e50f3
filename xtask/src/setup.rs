//! `--setup`: runs `ci/setup`, which brings a bare Debian or Ubuntu machine to where everything runs, or asks
//! it what is missing.

use anyhow::Result;

use crate::{
    diagnostic::lacking,
    fleet,
    process::{Cancel, Invocation},
};

/// Runs `ci/setup` with its output on the terminal.
pub fn install(cancel: &Cancel) -> Result<()> {
    let script = script()?;
    let end = Invocation::new([script.as_str()]).interactive(cancel)?;
    if !end.is_success() {
        return Err(lacking(format!("{script} did not finish ({end}); what it said stands above")));
    }
    Ok(())
}

/// An error with exit code 3 that names what the embedded fleet lacks here and the command that brings it.
pub fn require(cancel: &Cancel) -> Result<()> {
    let script = script()?;
    let check = Invocation::new([script.as_str(), "--check"]).capture(cancel)?;
    if check.end.is_success() {
        return Ok(());
    }
    let missing = format!("{}{}", check.stdout, check.stderr);
    Err(lacking(format!(
        "this machine lacks something that the embedded fleet needs:\n{}\n  try: {script}\n  or add --setup to this command",
        missing.trim_end()
    )))
}

fn script() -> Result<camino::Utf8PathBuf> {
    let root =
        fleet::origin().ok_or_else(|| lacking("ci/setup is part of the repository; run this inside a clone of it"))?;
    Ok(root.join("ci/setup"))
}
