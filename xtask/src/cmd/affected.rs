//! `cargo xtask affected`: says which hosts are not as they were at an earlier commit.
#![expect(clippy::print_stdout, reason = "a verb prints its report")]

use anyhow::Result;
use serde::Serialize;

use crate::{
    compare::{
        affected::Compared,
        hosts::{self, Status},
    },
    diagnostic::{DONE, FAILED, INTERRUPTED},
    flags::Affected,
    fleet::Fleet,
    process::Cancel,
    run::Run,
};

pub fn run(flags: &Affected, cancel: &Cancel) -> Result<u8> {
    let fleet = Fleet::open(&flags.fleet.fleet, &flags.fleet.override_input)?;
    let run = Run::begin(fleet, flags.stages.options(), cancel)?;
    let compared = run.affected(flags.base.as_deref())?;
    if cancel.is_set() {
        return Ok(INTERRUPTED);
    }
    if flags.json {
        println!("{}", serde_json::to_string_pretty(&Document { version: 1, compared: &compared })?);
    } else {
        print!("{}", text(&compared));
    }
    let broken = compared.hosts.iter().any(|host| host.status == Status::Broken);
    Ok(if broken { FAILED } else { DONE })
}

/// The report for people: what changed first, what did not in one line.
fn text(compared: &Compared) -> String {
    let short = &compared.base[..compared.base.len().min(12)];
    let mut out = format!("Against {short}, the merge base with {}:\n", compared.revision);
    let affected = compared.hosts.iter().filter(|host| host.status != Status::Unchanged);
    for host in affected {
        out.push_str(&format!("{:9}  {}  ({})\n", host.status.as_str(), host.host, hosts::targets(host)));
        for failure in host.jobs.iter().filter_map(|job| job.failure.as_ref()).take(1) {
            let place = failure.position.as_ref().map(|p| format!("{p}: ")).unwrap_or_default();
            out.push_str(&format!("             {place}{}\n", failure.message.lines().next().unwrap_or_default()));
        }
        for failure in host.jobs.iter().filter_map(|job| job.old_failure.as_ref()).take(1) {
            let first = failure.message.lines().next().unwrap_or_default();
            out.push_str(&format!("             did not evaluate at the base: {first}\n"));
        }
    }
    let same: Vec<&str> =
        compared.hosts.iter().filter(|h| h.status == Status::Unchanged).map(|h| h.host.as_str()).collect();
    if !same.is_empty() {
        out.push_str(&format!("unchanged  {}\n", same.join(", ")));
    }
    out
}

/// What `--json` prints. The version changes when a field changes its meaning or goes away.
#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    #[serde(flatten)]
    compared: &'a Compared,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::hosts::{HostChange, JobChange};

    #[test]
    fn what_is_printed_for_programs_is_left_to_the_schema() {
        let derivation = drydock_model::samples::record().jobs.into_iter().find_map(|job| job.derivation);
        let job = JobChange {
            id: "a.iso".to_owned().try_into().unwrap(),
            status: Status::Broken,
            old: derivation.clone(),
            new: derivation,
            failure: Some(drydock_model::samples::failure()),
            old_failure: Some(drydock_model::samples::failure()),
        };
        let host = HostChange { host: "a".parse().unwrap(), status: Status::Broken, jobs: vec![job] };
        let compared = Compared { base: "0123".into(), revision: "main".into(), hosts: vec![host] };
        let text = serde_json::to_string(&Document { version: 1, compared: &compared }).unwrap();
        drydock_model::samples::keep("affected", &text);
    }
}
