//! wip
use crate::{flags, process::Cancel};
use anyhow::Result;
pub fn run(_f: &flags::Ship, _c: &Cancel) -> Result<u8> {
    anyhow::bail!("not landed yet")
}
