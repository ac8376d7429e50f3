//! `cargo xtask affected`: says which hosts are not as they were at an earlier commit.
#![expect(clippy::print_stdout, reason = "a verb prints its report")]

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use crate::{
    compare::{
        affected::{self, Compared},
        hosts::{self, HostChange, JobChange, Status},
        why::Cause,
    },
    diagnostic::{DONE, FAILED, INTERRUPTED},
    flags::Affected,
    fleet::Fleet,
    job::{HostName, JobId},
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
    let causes = if flags.why { affected::causes(&compared.hosts, cancel)? } else { BTreeMap::new() };
    if flags.json {
        println!("{}", serde_json::to_string_pretty(&document(&compared, &causes))?);
    } else {
        print!("{}", text(&compared, &causes));
    }
    let broken = compared.hosts.iter().any(|host| host.status == Status::Broken);
    Ok(if broken { FAILED } else { DONE })
}

/// The report for people: what changed first, what did not in one line.
fn text(compared: &Compared, causes: &BTreeMap<HostName, Vec<Cause>>) -> String {
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
        for cause in causes.get(&host.host).into_iter().flatten() {
            out.push_str(&format!("             {}: {}\n", cause.path.join(" > "), cause.what));
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
    base: &'a str,
    revision: &'a str,
    hosts: Vec<HostDocument<'a>>,
}

#[derive(Serialize)]
struct HostDocument<'a> {
    host: &'a HostName,
    status: Status,
    jobs: Vec<JobDocument<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    causes: Option<&'a Vec<Cause>>,
}

#[derive(Serialize)]
struct JobDocument<'a> {
    job: &'a JobId,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<&'a crate::job::Failure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_failure: Option<&'a crate::job::Failure>,
}

fn document<'a>(compared: &'a Compared, causes: &'a BTreeMap<HostName, Vec<Cause>>) -> Document<'a> {
    let job = |job: &'a JobChange| JobDocument {
        job: &job.id,
        status: job.status,
        old: job.old.as_ref().map(|d| d.drv.as_str()),
        new: job.new.as_ref().map(|d| d.drv.as_str()),
        failure: job.failure.as_ref(),
        old_failure: job.old_failure.as_ref(),
    };
    let host = |host: &'a HostChange| HostDocument {
        host: &host.host,
        status: host.status,
        jobs: host.jobs.iter().map(job).collect(),
        causes: causes.get(&host.host),
    };
    Document {
        version: 1,
        base: &compared.base,
        revision: &compared.revision,
        hosts: compared.hosts.iter().map(host).collect(),
    }
}
