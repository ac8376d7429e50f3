//! `cargo xtask test-vm`: runs the VM tests of hosts, or opens the shell of one test's driver.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a verb prints its report")]

use std::fs;

use anyhow::{Context as _, Result};

use crate::{
    diagnostic::{DONE, FAILED, INTERRUPTED, as_called, usage},
    flags::TestVm,
    fleet::Fleet,
    job::{Job, Test},
    plan,
    process::{Cancel, End},
    push::Cache,
    record::Record,
    report::{junit, verdicts},
    run::{Derived, Options, Run},
    setup,
    vmtest::{self, driver, place, session},
};

pub fn run(flags: &TestVm, cancel: &Cancel) -> Result<u8> {
    if flags.setup {
        setup::install(cancel)?;
    }
    let selection = &flags.selection;
    if !flags.all && selection.hosts.is_empty() && selection.tag.is_empty() && selection.system.is_empty() {
        return Err(usage("which hosts? Name some, or --all for every host of the fleet (`cargo xtask list`)"));
    }
    let fleet = Fleet::open(&flags.fleet.fleet, &flags.fleet.override_input)?;
    let jobs = plan::plan(&fleet.matrix, &selection.tests(&tests(&flags.test)?)?)?.jobs;
    if flags.interactive && jobs.len() != 1 {
        let ids: Vec<String> = jobs.iter().map(|job| job.id.to_string()).collect();
        return Err(usage(format!(
            "--interactive is for one test, and this selects {}: {}\n  try: one host, and --test",
            ids.len(),
            ids.join(", ")
        )));
    }
    if fleet.typed == "demo" && !flags.setup {
        setup::require(cancel)?;
    }
    let options = Options {
        allow_ifd: flags.runs.allow_import_from_derivation,
        logs: flags.runs.print_build_logs,
        push: Cache::wished(flags.runs.push.as_deref()),
        ..Options::default()
    };
    let run = Run::begin(fleet, options, cancel)?;
    if flags.interactive {
        return interactive(flags, &run, &jobs);
    }
    let finished = run.test(&jobs, &flags.runs.options())?;
    let record = run.record("test-vm", finished);
    report(flags, &record)?;
    Ok(match (cancel.is_set(), record.succeeded()) {
        (true, _) => INTERRUPTED,
        (false, true) => DONE,
        (false, false) => FAILED,
    })
}

fn tests(texts: &[String]) -> Result<Vec<Test>> {
    let find = |text: &String| Test::ALL.into_iter().find(|test| test.as_str() == text);
    let unknown = |text: &str| usage(format!("--test {text}: a test is one of system, live, install, switch"));
    texts.iter().map(|text| find(text).ok_or_else(|| unknown(text))).collect()
}

fn report(flags: &TestVm, record: &Record) -> Result<()> {
    let rows: Vec<verdicts::Row<'_>> = record
        .jobs
        .iter()
        .map(|job| verdicts::Row { id: &job.job, outcome: &job.outcome, test: job.test.as_ref() })
        .collect();
    eprint!("\n{}", as_called(&verdicts::render(&rows, record.seconds.total)));
    if let Some(file) = &flags.junit {
        let xml = junit::render(std::slice::from_ref(record));
        fs::write(file, xml).with_context(|| format!("cannot write the JUnit report to {file}"))?;
    }
    if flags.json {
        println!("{}", serde_json::to_string_pretty(record)?);
    }
    Ok(())
}

/// Opens the shell of a test's driver on this terminal.
fn interactive(flags: &TestVm, run: &Run<'_>, jobs: &[Job]) -> Result<u8> {
    let id = &jobs[0].id;
    eprintln!("test-vm: building the driver of {id}");
    let driver = driver::build_interactive(run, id)?;
    // The driver has brought a QEMU to try KVM with.
    let choice = &run.accelerators(jobs, &Derived::default(), flags.runs.accel.wish())?[id];
    let (dir, port) = (session::folder(id, "interactive")?, vmtest::free_port()?);
    let argv = vec![driver.to_string(), "-o".to_owned(), dir.to_string()];
    let forward = format!("hostfwd=tcp:127.0.0.1:{port}-:22");
    let invocation = place::outside(argv, choice, 1, run.cancel).dir(&dir).env("QEMU_NET_OPTS", forward);
    eprintln!("test-vm: {}", as_called(&choice.to_string()));
    eprintln!("test-vm: {}", invocation.display());
    eprintln!(
        "test-vm: once a machine runs: ssh -p {port} root@127.0.0.1 (if it serves ssh; with several machines start one)"
    );
    run.cancel.lend_keyboard();
    match invocation.interactive(run.cancel)? {
        End::Exited(0) => Ok(DONE),
        End::Cancelled => Ok(INTERRUPTED),
        end => {
            eprintln!("test-vm: the driver ended: {end}");
            Ok(FAILED)
        }
    }
}
