//! One file a verb: it parses what was typed, has a run do the work, and prints what came of it.

mod affected;
mod boot;
mod build_all;
mod check;
mod ci;
mod completions;
mod deploy;
mod diff;
mod doctor;
mod install;
mod list;
mod matrix;
mod new_host;
mod report;
mod rollback;
mod status;
mod test_vm;
mod update;
mod why;
mod write;

use anyhow::Result;

use crate::{diagnostic::INTERRUPTED, flags::Verb, process::Cancel};

/// Carries out a verb and returns the exit code.
pub fn run(verb: Verb) -> Result<u8> {
    let cancel = Cancel::on_signals()?;
    match dispatch(verb, &cancel) {
        // A question that was cut short fails; that is the interrupt's doing and needs no other word.
        Err(_) if cancel.is_set() => Ok(INTERRUPTED),
        result => result,
    }
}

fn dispatch(verb: Verb, cancel: &Cancel) -> Result<u8> {
    match verb {
        Verb::BuildAll(flags) => build_all::run(&flags, cancel),
        Verb::Ci(flags) => ci::run(&flags, cancel),
        Verb::List(flags) => list::run(&flags),
        Verb::Check(flags) => check::run(&flags, cancel),
        Verb::NewHost(flags) => new_host::run(&flags, cancel),
        Verb::Completions(flags) => completions::run(&flags),
        Verb::Boot(flags) => boot::run(&flags, cancel),
        Verb::TestVm(flags) => test_vm::run(&flags, cancel),
        Verb::Doctor(flags) => doctor::run(&flags, cancel),
        Verb::Why(flags) => why::run(&flags, cancel),
        Verb::Affected(flags) => affected::run(&flags, cancel),
        Verb::Diff(flags) => diff::run(&flags, cancel),
        Verb::Matrix(flags) => matrix::run(&flags, cancel),
        Verb::Report(flags) => report::run(&flags, cancel),
        Verb::Write(flags) => write::run(&flags, cancel),
        Verb::WriteDevice(flags) => write::run_as_root(&flags, cancel),
        Verb::Install(flags) => install::run(&flags, cancel),
        Verb::Update(flags) => update::run(&flags, cancel),
        Verb::Deploy(flags) => deploy::run(&flags, cancel),
        Verb::Rollback(flags) => rollback::run(&flags, cancel),
        Verb::Status(flags) => status::run(&flags, cancel),
    }
}
