//! `cargo xtask rollback`: brings a machine back to the generation before, guarded like a deployment.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a verb tells people what it changes")]

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{
    answers::{self, Answers},
    deployments::{self, Document, Row},
    diagnostic::{INTERRUPTED, usage},
    flags::Rollback,
    fleet::{self, Fleet},
    plan,
    process::Cancel,
    record::FleetRecord,
    ship::{
        guard::{Change, Ended, Keep, State},
        probe,
        remote::Remote,
    },
};

pub fn run(flags: &Rollback, cancel: &Cancel) -> Result<u8> {
    let fleet = Fleet::open(&flags.fleet.fleet, &flags.fleet.override_input)?;
    let host = plan::host(&fleet.matrix, &flags.host)?;
    if !flags.yes && !answers::possible() {
        return Err(usage("there is no terminal to ask at whether the machine may be changed\n  try: --yes"));
    }
    let remote = Remote::new(host.destination());
    let began = Instant::now();
    let row = match probe::probe(&remote, &[], cancel) {
        Err(error) => Row::new(host, Ended::new(State::Failed, format!("{error:#}"))),
        Ok(machine) => {
            let row = |ended| Row { old: Some(machine.current.clone()), ..Row::new(host, ended) };
            match (machine.previous(), machine.switching.as_str()) {
                (None, _) => row(Ended::new(
                    State::Failed,
                    "there is no earlier generation; `nix-collect-garbage` may have taken it",
                )),
                (_, who) if !who.is_empty() => row(Ended::new(State::Failed, format!("{who} is switching it"))),
                (Some((generation, system)), _) => {
                    eprintln!("{} ({}) runs {}", host.name, remote.destination, machine.current);
                    eprintln!("  and goes back to generation {generation}, {system}");
                    if !flags.yes {
                        eprint!("Type yes to go on: ");
                        if Answers::from_terminal().next(cancel)?.as_deref() != Some("yes") {
                            eprintln!("rollback: nothing was changed");
                            return Ok(INTERRUPTED);
                        }
                    }
                    let change = Change {
                        remote: &remote,
                        id: &deployments::id(),
                        new: system,
                        old: &machine.current,
                        boot_id: &machine.boot_id,
                        keep: Keep::Switch,
                        generation: Some(generation),
                        checks: &host.checks,
                        confirm_timeout: Duration::from_secs(flags.confirm_timeout),
                    };
                    let ended = change.carry_out(cancel, &|text| eprintln!("{}: {text}", host.name));
                    Row { new: Some(system.to_owned()), ..row(ended) }
                }
            }
        }
    };
    let rows = [Row { seconds: began.elapsed().as_secs_f64(), ..row }];
    eprint!("\n{}", deployments::table(&rows));
    if flags.json {
        let (revision, dirty) = fleet::revision(&fleet.root, cancel);
        let fleet = FleetRecord { root: fleet.root.clone(), flake: fleet.flake_ref.clone(), revision, dirty };
        println!(
            "{}",
            serde_json::to_string_pretty(&Document { version: 1, command: "rollback", fleet: &fleet, hosts: &rows })?
        );
    }
    Ok(deployments::exit_code(&rows, cancel))
}
