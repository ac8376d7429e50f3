//! `cargo xtask report`: writes the records of runs as reports for people and programs.
#![expect(clippy::print_stdout, reason = "a verb prints its report")]

use anyhow::Result;

use crate::{
    diagnostic::DONE,
    files::write,
    flags::Report,
    history::{self, History},
    report::{github, html, junit, markdown, records},
};

pub fn run(flags: &Report) -> Result<u8> {
    let records = records::read_all(&flags.records)?;
    let history = History::read(&history::file(flags.history.as_deref()));
    if let Some(file) = &flags.html {
        write(file, &html::render(&records))?;
    }
    if let Some(file) = &flags.junit {
        write(file, &junit::render(&records))?;
    }
    if let Some(prefix) = &flags.annotations {
        records.iter().flat_map(|record| github::annotations(record, prefix)).for_each(|line| println!("{line}"));
    }
    let markdown = || markdown::render(&records, "", &history, flags.limit);
    match &flags.markdown {
        Some(file) if file != "-" => write(file, &markdown())?,
        None if flags.html.is_some() || flags.junit.is_some() || flags.annotations.is_some() => {}
        _ => print!("{}", markdown()),
    }
    Ok(DONE)
}
