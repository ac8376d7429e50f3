//! `cargo chores bench`: measures drydock and others doing the same things, alternating, in one run.
#![expect(clippy::print_stdout, reason = "a verb prints its report")]

mod fleet;
mod measure;
mod memory;
mod real;
mod report;
mod synthetic;
mod tools;

use std::fs;

use anyhow::Result;
use camino::Utf8Path;

use crate::{
    diagnostic::{DONE, INTERRUPTED, usage},
    files::Temporary,
    flags::Bench,
    fleet::workspace,
    nix::Nix,
    process::{Cancel, Invocation},
};

/// Hosts of the fleet that is measured where nothing else is asked for.
const HOSTS: u16 = 32;

pub fn run(flags: &Bench, cancel: &Cancel) -> Result<u8> {
    let nix = Nix::find(cancel)?;
    let base = Temporary::new()?;
    build_drydock(cancel)?;
    println!("{}\n", machine(&nix, flags));
    let missing = tools::missing();
    if !missing.is_empty() {
        println!("Not measured, because not on PATH: {}.\n", missing.join(", "));
    }
    let measured = measure(flags, &base, cancel);
    if cancel.is_set() {
        return Ok(INTERRUPTED);
    }
    measured.map(|()| DONE)
}

/// What is measured is a release build of these sources.
fn build_drydock(cancel: &Cancel) -> Result<()> {
    let root = workspace().ok_or_else(|| usage("run this inside a clone of the repository"))?;
    let build = Invocation::new(["cargo", "build", "--quiet", "--release", "--package", "drydock"]).dir(&root);
    build.read(cancel).map(drop)
}

/// The machine and the versions, without which numbers mean nothing.
fn machine(nix: &Nix, flags: &Bench) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1)).unwrap_or("unknown");
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown").to_owned();
    format!(
        "{cores} cores ({model}), load {load} before, Nix {}, a release build of drydock, {} evaluators at once, {} rounds",
        nix.version,
        tools::workers(flags),
        flags.rounds
    )
}

/// Measures one part after another and prints each when it is done: what follows may take long.
fn measure(flags: &Bench, base: &Utf8Path, cancel: &Cancel) -> Result<()> {
    let nothing_asked = flags.hosts.is_empty() && flags.growth.is_empty() && flags.real.is_none();
    let built = if nothing_asked { &[HOSTS] } else { flags.hosts.as_slice() };
    if !built.is_empty() {
        let mut all = Vec::new();
        for hosts in built {
            all.extend(synthetic::build(flags, base, usize::from(*hosts), cancel)?);
        }
        println!("{}", report::markdown(&all));
    }
    if !flags.growth.is_empty() {
        let mut sizes = Vec::new();
        for hosts in &flags.growth {
            let hosts = usize::from(*hosts);
            sizes.push((hosts, synthetic::evaluate(flags, base, hosts, cancel)?));
        }
        println!("{}", report::growth(&sizes));
    }
    if let Some(from) = &flags.real {
        let all = real::evaluate(flags, from, base, cancel)?;
        println!("{}", report::markdown(&all));
    }
    Ok(())
}
