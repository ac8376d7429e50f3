//! The step `update`: updates a fleet's inputs and writes what that changes in every host.
#![expect(clippy::print_stderr, reason = "a verb prints its report")]

use std::{fs, time::Duration};

use anyhow::Result;

use crate::{
    compare::difference,
    diagnostic::{DONE, FAILED, INTERRUPTED},
    differences,
    files::write,
    flags,
    fleet::Fleet,
    nix::argv,
    process::{Cancel, Invocation},
    report::{github::COMMENT_LIMIT, markdown},
    run::Run,
};

pub fn run(flags: &flags::Update, cancel: &Cancel) -> Result<u8> {
    let fleet = Fleet::open(&flags.fleet.fleet, &flags.fleet.override_input)?;
    let lock = fleet.root.join("flake.lock");
    let before = fs::read(&lock).unwrap_or_default();
    let said =
        Invocation::new(argv::flake_update()).dir(&fleet.root).timeout(Duration::from_secs(600)).capture(cancel)?;
    anyhow::ensure!(said.end.is_success(), "`nix flake update` failed ({}): {}", said.end, said.stderr.trim());
    if fs::read(&lock).unwrap_or_default() == before {
        eprintln!("every input is up to date");
        return Ok(DONE);
    }
    let run = Run::begin(fleet, flags.stages.options(), cancel)?;
    let rows = difference::against_base(&run, &run.fleet.matrix.hosts, Some("HEAD"))?;
    if cancel.is_set() {
        return Ok(INTERRUPTED);
    }
    let mut sections = vec!["What the new inputs change in every host, by derivations.\n\n".to_owned()];
    sections.push(format!("<details><summary>Inputs</summary>\n\n{}\n</details>\n\n", markdown::fenced(&said.stderr)));
    sections.extend(rows.iter().map(differences::markdown));
    let text = markdown::fit(&sections, COMMENT_LIMIT);
    write(&flags.out, &text)?;
    let broken = rows.iter().filter(|row| row.failure.is_some()).count();
    eprintln!("{} hosts compared, {broken} do not evaluate with the new inputs; {} says more", rows.len(), flags.out);
    Ok(if broken > 0 { FAILED } else { DONE })
}
