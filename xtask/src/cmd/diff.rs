//! `cargo xtask diff`: says what differs in hosts from an earlier commit or a running machine.
#![expect(clippy::print_stdout, reason = "a verb prints its report")]

use anyhow::Result;
use serde::Serialize;

use crate::{
    compare::{
        difference::{self, HostDifference},
        snapshot::Running,
    },
    diagnostic::{DONE, FAILED, INTERRUPTED},
    differences,
    flags::Diff,
    fleet::Fleet,
    matrix::Host,
    process::Cancel,
    run::Run,
};

pub fn run(flags: &Diff, cancel: &Cancel) -> Result<u8> {
    let fleet = Fleet::open(&flags.fleet.fleet, &flags.fleet.override_input)?;
    let selection = crate::flags::SelectionFlags { hosts: flags.hosts.clone(), ..Default::default() };
    let hosts: Vec<Host> = selection.artifacts()?.hosts(&fleet.matrix)?.into_iter().cloned().collect();
    let machine = flags.against.as_deref().map(Running::parse).transpose()?;
    let run = Run::begin(fleet, flags.stages.options(), cancel)?;
    let compared = match &machine {
        Some(machine) => difference::against_running(&run, &hosts, machine)?,
        None => difference::against_base(&run, &hosts, flags.base.as_deref())?,
    };
    if cancel.is_set() {
        return Ok(INTERRUPTED);
    }
    if flags.json {
        println!("{}", serde_json::to_string_pretty(&Document { version: 1, hosts: &compared })?);
    } else if flags.markdown {
        compared.iter().for_each(|host| print!("{}", differences::markdown(host)));
    } else {
        compared.iter().for_each(|host| print!("{}", differences::text(host)));
    }
    let failed = compared.iter().any(|host| host.failure.is_some());
    Ok(if failed { FAILED } else { DONE })
}

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    hosts: &'a [HostDifference],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{nixos::Delta, packages::Change, snapshot::Difference};

    #[test]
    fn what_is_printed_for_programs_is_left_to_the_schema() {
        let one = || vec!["1".to_owned()];
        let change = || Some(vec![Change { name: "glibc".into(), old: one(), new: one(), in_both: false }]);
        let delta = || Some(Delta { added: one(), removed: one(), changed: one() });
        let difference = Difference {
            packages: change(),
            built_from: change(),
            environment: change(),
            units: delta(),
            users: delta(),
            kernel_parameters: delta(),
            ports: delta(),
            closure_size: (Some(1), None),
            unknown: one(),
        };
        let host = |difference, failure| HostDifference {
            host: "a".parse().unwrap(),
            against: "0123".into(),
            differs: true,
            difference,
            failure,
        };
        let hosts = [host(Some(difference), None), host(None, Some(drydock_model::samples::failure()))];
        let text = serde_json::to_string(&Document { version: 1, hosts: &hosts }).unwrap();
        drydock_model::samples::keep("diff", &text);
    }
}
