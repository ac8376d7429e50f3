//! `cargo xtask build-all`: a selection of hosts in, their media and systems out.

use anyhow::Result;

use crate::{flags::BuildAll, process::Cancel};

pub fn run(_flags: &BuildAll, _cancel: &Cancel) -> Result<u8> {
    anyhow::bail!("not landed yet")
}
