//! The workflows: run here job by job on a throw-away repository, and linted with a planted fault.

mod lint;
mod local;
mod repository;
