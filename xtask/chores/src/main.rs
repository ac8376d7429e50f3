//! `cargo chores`: what only this repository needs and users of the template never see.

mod bench;
mod flags;

use std::process::ExitCode;

use clap::Parser as _;
use drydock_model::{diagnostic, job, matrix};
use drydock_nix::{files, nix, process};
use drydock_pipeline::fleet;

fn main() -> ExitCode {
    let flags::Chores { chore: flags::Chore::Bench(flags) } = flags::Chores::parse();
    match process::Cancel::on_signals().and_then(|cancel| bench::run(&flags, &cancel)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            diagnostic::print_error(&error);
            ExitCode::from(diagnostic::exit_code(&error))
        }
    }
}
