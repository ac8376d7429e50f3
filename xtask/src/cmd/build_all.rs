//! `cargo xtask build-all`: builds the media and systems of hosts into `result/`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a verb prints its report")]

use std::{fs, io::IsTerminal as _};

use anyhow::{Context as _, Result};

use crate::{
    diagnostic::{DONE, FAILED, INTERRUPTED},
    flags::BuildAll,
    fleet::Fleet,
    job::Job,
    nix::{argv, reply},
    plan,
    process::{Cancel, Invocation},
    record::Record,
    report::{
        junit,
        table::{self, Paint},
    },
    results::Results,
    run::{Derived, Options, Run},
    setup,
};

pub fn run(flags: &BuildAll, cancel: &Cancel) -> Result<u8> {
    if flags.setup {
        setup::install(cancel)?;
    }
    let fleet = Fleet::open(&flags.fleet.fleet, &flags.fleet.override_input)?;
    let jobs = plan::plan(&fleet.matrix, &flags.selection.artifacts()?)?.jobs;
    let builds = !flags.dry_run && !flags.evaluate;
    let results = builds.then(|| Results::claim(&flags.out_link)).transpose()?;
    // Where Nix reads whatever lies in the folder, nothing may be put there before all is evaluated.
    let roots = results.as_ref().map(Results::roots_folder).filter(|folder| !fleet.takes_in(folder));
    let options = Options { remember: !flags.no_cache, roots, ..flags.stages.options() };
    if fleet.typed == "demo" && !flags.setup && builds {
        setup::require(cancel)?;
    }
    let run = Run::begin(fleet, options, cancel)?;
    let code = match results {
        Some(results) => build(flags, &run, &jobs, &results)?,
        None => {
            let derived = run.evaluate(&jobs)?;
            if flags.evaluate { show(&derived, cancel) } else { dry_run(&jobs, &derived, cancel)? }
        }
    };
    Ok(code)
}

fn build(flags: &BuildAll, run: &Run<'_>, jobs: &[Job], results: &Results) -> Result<u8> {
    let mut finished = run.realise(jobs)?;
    run.publish(results, &mut finished, flags.verify)?;
    let record = run.record("build-all", finished);
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    eprint!("\n{}", table::render(&record, Paint { colour }));
    match run.cancel.is_set() {
        true => eprintln!("interrupted; the results in {} are as before", flags.out_link),
        false => eprintln!("results: {}", flags.out_link),
    }
    report(flags, &record)?;
    Ok(match (run.cancel.is_set(), record.succeeded()) {
        (true, _) => INTERRUPTED,
        (false, true) => DONE,
        (false, false) => FAILED,
    })
}

fn report(flags: &BuildAll, record: &Record) -> Result<()> {
    if let Some(file) = &flags.junit {
        let xml = junit::render(std::slice::from_ref(record));
        fs::write(file, xml).with_context(|| format!("cannot write the JUnit report to {file}"))?;
    }
    if flags.json {
        println!("{}", serde_json::to_string_pretty(record)?);
    }
    Ok(())
}

/// Asks Nix what it would build and fetch.
fn dry_run(jobs: &[Job], derived: &Derived, cancel: &Cancel) -> Result<u8> {
    let Derived { derivations, failures, .. } = derived;
    let drvs: Vec<&str> = derivations.values().map(|d| d.drv.as_str()).collect();
    let answer = Invocation::new(argv::dry_run(&drvs, None)).capture(cancel)?;
    anyhow::ensure!(
        answer.end.is_success(),
        "Nix cannot say what it would do ({}): {}",
        answer.end,
        answer.stderr.trim()
    );
    let would = reply::dry_run(&answer.stderr);
    let width = jobs.iter().map(|job| job.id.to_string().len()).max().unwrap_or(0);
    for (id, derivation) in derivations {
        let word = if would.build.iter().any(|drv| *drv == derivation.drv) {
            "build"
        } else if would.fetch.iter().any(|path| *path == derivation.out) {
            "fetch"
        } else {
            "local"
        };
        println!("{:width$}  {word}  {}", id.to_string(), derivation.out);
    }
    for (id, failure) in failures {
        println!("{:width$}  fails  {}", id.to_string(), failure.message.lines().next().unwrap_or_default());
    }
    eprintln!("would build {} derivations and fetch {} paths", would.build.len(), would.fetch.len());
    Ok(derived.exit_code(cancel))
}

/// One line a job: its name and its derivation.
fn show(derived: &Derived, cancel: &Cancel) -> u8 {
    derived.derivations.iter().for_each(|(id, derivation)| println!("{id} {}", derivation.drv));
    for (id, failure) in &derived.failures {
        eprintln!("error: {id}: {}", failure.message);
    }
    derived.exit_code(cancel)
}
