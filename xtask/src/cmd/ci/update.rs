//! wip
use anyhow::Result;
use crate::{flags, process::Cancel};
pub fn run(_f: &flags::Update, _c: &Cancel) -> Result<u8> { anyhow::bail!("not landed yet") }
