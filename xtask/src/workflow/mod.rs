//! A workflow file in, its jobs run on this machine out: the part of GitHub Actions that this repository's
//! workflows use, and an error for everything else.

pub mod actions;
pub mod expression;
pub mod run;
pub mod yaml;
