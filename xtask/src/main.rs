//! Runs the verb that was typed and ends with its exit code: 0 done, 1 a job failed, 2 wrong use or configuration, 3 the machine
//! lacks something, 130 interrupted.

mod answers;
mod cmd;
mod deployments;
mod differences;
mod doctor;
mod flags;
mod setup;

use std::{io, process::ExitCode};

use clap::FromArgMatches as _;
use drydock_memory as memory;
use drydock_model::{destination, diagnostic, job, matrix, plan, record, shard};
use drydock_nix::{files, git, nix, process};
use drydock_pipeline::{compare, fleet, push, results, run, vmtest};
use drydock_report as report;
use drydock_ship as ship;
use report::history;

fn main() -> ExitCode {
    failed_output_ends_the_program();
    let matches = flags::command(diagnostic::called()).get_matches();
    let flags = flags::Xtask::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match cmd::run(flags.verb) {
        Ok(code) => ExitCode::from(code),
        // Whoever reads our output has seen enough; that is not a failure.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            diagnostic::print_error(&error);
            ExitCode::from(diagnostic::exit_code(&error))
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kinds = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    kinds.map(io::Error::kind).any(|kind| kind == io::ErrorKind::BrokenPipe)
}

/// `println!` panics when its reader goes away, as in `… | head`, or when a disk is full. What is printed comes last in
/// every verb, so nothing is left undone by ending there. The words are those of `std::io::stdio`.
fn failed_output_ends_the_program() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let words = panic.payload_as_str().unwrap_or_default();
        match words.strip_prefix("failed printing to ") {
            Some(words) if words.contains("Broken pipe") => std::process::exit(0),
            // There is nowhere left to say so.
            Some(words) if words.starts_with("stderr") => std::process::exit(1),
            Some(words) => {
                diagnostic::print_error(&anyhow::anyhow!("cannot write to {words}"));
                std::process::exit(1);
            }
            None => {}
        }
        default(panic);
    }));
}
