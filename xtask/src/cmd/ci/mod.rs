//! `cargo xtask ci`: runs a step of a fleet's continuous integration, or all of them on this machine.

mod entry;
mod gate;
mod local;
mod merge;
mod plan;

use anyhow::Result;
use camino::Utf8PathBuf;

use crate::{
    flags::{Ci, CiStep},
    process::Cancel,
};

pub fn run(flags: &Ci, cancel: &Cancel) -> Result<u8> {
    match &flags.step {
        None => local::run(&flags.local, cancel),
        Some(CiStep::Plan(flags)) => plan::run(flags, cancel),
        Some(CiStep::Entry(flags)) => entry::run(flags, cancel),
        Some(CiStep::Merge(flags)) => merge::run(flags),
        Some(CiStep::Gate(flags)) => gate::run(flags),
    }
}

/// A file that GitHub or a runner of its kind names in the environment; none elsewhere.
fn runner_file(key: &str) -> Option<Utf8PathBuf> {
    std::env::var(key).ok().filter(|path| !path.is_empty()).map(Utf8PathBuf::from)
}
