//! The words of a run: jobs and what becomes of them, errors, the matrix, the plan, records. It starts no process.

pub mod base64;
pub mod destination;
pub mod diagnostic;
pub mod job;
pub mod matrix;
pub mod plan;
pub mod record;
pub mod samples;
pub mod shard;
pub mod timings;
