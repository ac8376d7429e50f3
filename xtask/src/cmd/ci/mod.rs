//! `cargo xtask ci`: what the repository's continuous integration runs, the same here as there.

mod checks;

use anyhow::Result;

use crate::{flags::Ci, process::Cancel};

pub fn run(flags: &Ci, cancel: &Cancel) -> Result<u8> {
    checks::run(flags, cancel)
}
