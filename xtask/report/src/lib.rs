//! Writes what people and programs read after a run.

pub mod github;
pub mod history;
pub mod junit;
pub mod machines;
pub mod markdown;
pub mod page;
pub mod records;
pub mod table;
pub mod trace;
pub mod verdicts;

use drydock_model::{base64, diagnostic, job, record, shard, timings};
use drydock_nix::files;
