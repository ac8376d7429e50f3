//! The workflows: run here job by job on a throw-away repository, and linted with a planted fault.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod lint;
mod local;
mod random;
mod repository;
