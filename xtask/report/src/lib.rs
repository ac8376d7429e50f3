//! Outcomes in, what people and programs read afterwards out.

pub mod github;
pub mod history;
pub mod html;
pub mod junit;
pub mod markdown;
pub mod table;
pub mod timeline;
pub mod trace;
pub mod verdicts;

use drydock_model::{job, record, timings};
use drydock_nix::files;
