//! The way of a job from the matrix to its record: evaluate, realise, test, publish.

pub mod compare;
pub mod eval;
pub mod fleet;
pub mod needed;
pub mod progress;
mod publish;
pub mod push;
pub mod realise;
pub mod results;
pub mod run;
mod schedule;
pub mod vmtest;

use drydock_memory as memory;
use drydock_model::{diagnostic, job, matrix, record, timings};
use drydock_nix::{files, git, nix, process};
