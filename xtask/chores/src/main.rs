//! `cargo chores`: does what only this repository and its CI need, and what users of the template never see.

mod check;
mod comment;
mod flags;
mod github;
mod propose;
mod release;
mod runner;
mod ship;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;
use drydock_model::{diagnostic, job, plan, record};
use drydock_nix::{files, git, process};
use drydock_pipeline::{compare, fleet, run, vmtest};
use drydock_report as report;

use flags::Chore;

fn main() -> ExitCode {
    match carry_out(flags::Chores::parse().chore) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            diagnostic::print_error(&error);
            ExitCode::from(diagnostic::exit_code(&error))
        }
    }
}

fn carry_out(chore: Chore) -> Result<u8> {
    let cancel = process::Cancel::on_signals()?;
    let result = match chore {
        Chore::Check(flags) => check::run(&flags, &cancel),
        Chore::Runner(flags) => runner::run(&flags, &cancel),
        Chore::Comment(flags) => comment::run(&flags, &cancel),
        Chore::Propose(flags) => propose::run(&flags, &cancel),
        Chore::Release(flags) => release::run(&flags, &cancel),
        Chore::Ship(flags) => ship::run(&flags, &cancel),
    };
    match result {
        Err(_) if cancel.is_set() => Ok(diagnostic::INTERRUPTED),
        result => result,
    }
}
