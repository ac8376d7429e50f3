//! The jobs of the workflows on throw-away repositories, and the workflow files with planted faults.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod lint;
mod local;
mod random;
mod repository;
mod scripts;
