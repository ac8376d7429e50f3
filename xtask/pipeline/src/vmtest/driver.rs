//! Finds and builds the driver of a test: the program that runs it outside Nix's sandbox.

use std::fs;

use anyhow::{Context as _, Result};
use camino::Utf8PathBuf;

use crate::{
    job::{Derivation, Failure, JobId, Stage},
    nix::{argv, drv},
    process::{Captured, Invocation},
    run::Run,
};

/// Builds it and returns the program. It is among the inputs of the test's derivation, so that nothing is evaluated
/// again; only where it cannot be told there, Nix is asked for the attribute `driver`.
pub fn build(run: &Run<'_>, id: &JobId, test: &Derivation) -> Result<Result<Utf8PathBuf, Failure>> {
    let text = fs::read(&test.drv).with_context(|| format!("cannot read {}", test.drv))?;
    let inputs = drv::inputs(&text);
    let drivers: Vec<&String> = inputs.iter().filter(|input| is_driver(input)).collect();
    let argv = match drivers.as_slice() {
        [driver] => argv::build_output(driver),
        _ => argv::build_attribute(run.flake(), &format!("{}.driver", id.attribute())),
    };
    let build = Invocation::new(argv);
    let said = build.capture(run.cancel)?;
    let path = Utf8PathBuf::from(said.stdout.trim()).join("bin/nixos-test-driver");
    Ok(match said.end.is_success() && path.is_file() {
        true => Ok(path),
        false => Err(failure(&said, build.display())),
    })
}

/// Builds the driver that opens a shell, which is no input of the test.
pub fn build_interactive(run: &Run<'_>, id: &JobId) -> Result<Utf8PathBuf> {
    let attribute = format!("{}.driverInteractive", id.attribute());
    let out = Invocation::new(argv::build_attribute(run.flake(), &attribute)).read(run.cancel)?;
    let driver = Utf8PathBuf::from(out.trim()).join("bin/nixos-test-driver");
    anyhow::ensure!(driver.is_file(), "{attribute} has no bin/nixos-test-driver: {}", out.trim());
    Ok(driver)
}

/// By its name in the store, `nixos/lib/testing/driver.nix` in nixpkgs.
fn is_driver(path: &str) -> bool {
    let name = path.rsplit('/').next().and_then(|name| name.split_once('-')).map(|(_, name)| name);
    name.is_some_and(|name| name.starts_with("nixos-test-driver") && name.ends_with(".drv"))
}

fn failure(said: &Captured, command: String) -> Failure {
    let errors: Vec<String> = said.stderr.lines().map(str::to_owned).collect();
    Failure {
        stage: Stage::Build,
        message: format!("its driver could not be built ({})", said.end),
        position: None,
        drv: None,
        log_tail: errors[errors.len().saturating_sub(30)..].to_vec(),
        reproduce: command,
    }
}
