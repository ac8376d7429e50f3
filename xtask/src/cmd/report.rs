//! `cargo xtask report`: writes the records of runs as reports for people and programs.
#![expect(clippy::print_stdout, reason = "a verb prints its report")]

use anyhow::Result;
use camino::Utf8Path;

use crate::{
    compare::difference,
    diagnostic::{DONE, INTERRUPTED, lacking},
    differences,
    files::write,
    flags::Report,
    fleet::Fleet,
    history::{self, History},
    matrix::Host,
    process::{Cancel, Invocation, on_path},
    record::Record,
    report::{
        github, junit, machines, markdown,
        page::{self, Comparison},
        records, trace,
    },
    run::{Options, Run},
};

pub fn run(flags: &Report, cancel: &Cancel) -> Result<u8> {
    let records = records::read_all(&flags.records)?;
    let machines = flags.status.as_deref().map(machines::read).transpose()?.unwrap_or_default();
    let history = History::read(&history::file(flags.history.as_deref()));
    let kept = flags.open.then(|| history::file(None).with_file_name("report.html"));
    let html = flags.html.clone().or(kept);
    if let Some(file) = &html {
        let comparison = flags.base.as_ref().map(|base| compare(&flags.fleet, base, &records, cancel)).transpose()?;
        if cancel.is_set() {
            return Ok(INTERRUPTED);
        }
        write(file, &page::render(&records, &history, comparison.flatten().as_ref(), &machines, &records::picture))?;
        if flags.open {
            open(file, cancel)?;
        }
    }
    if let Some(file) = &flags.junit {
        write(file, &junit::render(&records))?;
    }
    if let Some(file) = &flags.trace {
        write(file, &trace::render(&records::spans(records.iter())))?;
    }
    if let Some(prefix) = &flags.annotations {
        records.iter().flat_map(|record| github::annotations(record, prefix)).for_each(|line| println!("{line}"));
    }
    let markdown = || markdown::render(&records, "", &history, flags.limit);
    match &flags.markdown {
        Some(file) if file != "-" => write(file, &markdown())?,
        None if html.is_some() || flags.junit.is_some() || flags.trace.is_some() || flags.annotations.is_some() => {}
        _ => print!("{}", markdown()),
    }
    Ok(DONE)
}

/// What changed since the base in the hosts that the records are about.
fn compare(fleet: &str, base: &str, records: &[Record], cancel: &Cancel) -> Result<Option<Comparison>> {
    let fleet = Fleet::open(fleet, &[])?;
    let told = |host: &&Host| records.iter().flat_map(|record| &record.jobs).any(|job| job.job.host == host.name);
    let hosts: Vec<Host> = fleet.matrix.hosts.iter().filter(told).cloned().collect();
    let run = Run::begin(fleet, Options::default(), cancel)?;
    Ok(differences::comparison(&difference::against_base(&run, &hosts, Some(base))?))
}

/// Opens the page in whatever shows web pages here.
fn open(file: &Utf8Path, cancel: &Cancel) -> Result<()> {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let end = on_path(opener).then(|| Invocation::new([opener, file.as_str()]).interactive(cancel)).transpose()?;
    match end {
        Some(end) if end.is_success() => Ok(()),
        _ => Err(lacking(format!("`{opener}` does not open the page; it is in {file}"))),
    }
}
