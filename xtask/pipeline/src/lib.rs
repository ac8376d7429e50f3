//! The way of a job from the matrix to its record: evaluate, realise, test, publish.

pub mod compare;
pub mod eval;
pub mod fleet;
pub mod produce;
pub mod progress;
pub mod realise;
pub mod results;
pub mod reuse;
pub mod schedule;
pub mod vmtest;

use drydock_memory as memory;
use drydock_model::{diagnostic, job, matrix, record, timings};
use drydock_nix::{files, git, nix, process};
