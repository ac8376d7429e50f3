//! Holds docs/commands.md, the reference of the command line, to what clap says.

use std::{env, fmt::Write as _, fs};

use clap::Command;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/commands.md");

const OPENING: &str = "\
# The command line

What `cargo xtask VERB --help` says of every verb. An installed program says `drydock` in place of `cargo xtask`.
This page is made by `DRYDOCK_WRITE=1 cargo test --package drydock commands`.
";

/// A section for the command, and then for each of its verbs that people are to type.
fn sections(command: &mut Command, page: &mut String) {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned();
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    write!(page, "\n## {name}\n\n```text\n{}\n```\n", lines.join("\n").trim_end()).expect("a String takes everything");
    for verb in command.get_subcommands_mut().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        sections(verb, page);
    }
}

#[test]
fn the_page_is_what_clap_says() {
    // A fixed width: clap would take that of the terminal.
    let mut command = super::command("cargo xtask").term_width(100).disable_help_subcommand(true);
    command.build();
    let mut page = OPENING.to_owned();
    sections(&mut command, &mut page);
    if env::var_os("DRYDOCK_WRITE").is_some() {
        fs::write(FILE, &page).unwrap();
    }
    let written = fs::read_to_string(FILE).unwrap_or_default();
    let line = 1 + page.lines().zip(written.lines()).take_while(|(said, there)| said == there).count();
    assert!(
        written == page,
        "line {line} of docs/commands.md is not what clap says; its head says how to make the page"
    );
}
