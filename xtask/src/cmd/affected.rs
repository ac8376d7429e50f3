//! `cargo xtask affected`: a fleet now and at an earlier commit in, what that means for each host out.
#![expect(clippy::print_stdout, reason = "a verb prints its report")]

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::{DONE, FAILED, INTERRUPTED};
use crate::{
    compare::{
        base::{self, Base},
        derivation::Graph,
        hosts::{self, HostChange, JobChange, Side, Status},
        why::{self, Cause},
    },
    flags::Affected,
    fleet::Fleet,
    job::{HostName, Job, JobId},
    nix::Nix,
    process::Cancel,
    progress::Progress,
};
use crate::{
    produce::Options,
    reuse::{self, Derived, Remembered},
};

/// Differences shown for each host with `--why`.
const CAUSES: usize = 5;

pub fn run(flags: &Affected, cancel: &Cancel) -> Result<u8> {
    let fleet = Fleet::open(&flags.fleet.fleet, &flags.fleet.override_input)?;
    let options = flags.stages.options();
    let compared = against(&fleet, flags.base.as_deref(), &options, cancel)?;
    if cancel.is_set() {
        return Ok(INTERRUPTED);
    }
    let causes = if flags.why { causes(&compared.hosts, cancel)? } else { BTreeMap::new() };
    if flags.json {
        println!("{}", serde_json::to_string_pretty(&document(&compared, &causes))?);
    } else {
        print!("{}", text(&compared, &causes));
    }
    let broken = compared.hosts.iter().any(|host| host.status == Status::Broken);
    Ok(if broken { FAILED } else { DONE })
}

/// Every host of a fleet against an earlier commit.
pub struct Compared {
    pub base: String,
    pub revision: String,
    pub hosts: Vec<HostChange>,
}

/// Evaluates the fleet at both commits and compares. After an interrupt the answer is incomplete.
pub fn against(fleet: &Fleet, revision: Option<&str>, options: &Options, cancel: &Cancel) -> Result<Compared> {
    let nix = Nix::find(cancel)?;
    let base = base::find(fleet, revision, cancel)?;
    let new = evaluate(&nix, fleet, Remembered::default(), options, cancel)?;
    // What an edit does not concern is the same job on both sides, so one evaluation serves both.
    let old = base.fleet.as_ref().map(|fleet| evaluate(&nix, fleet, Remembered::default(), options, cancel));
    let old = old.transpose()?;
    let old = old.unwrap_or_default();
    let Base { commit, revision, .. } = base;
    Ok(Compared { base: commit, revision, hosts: hosts::compare(&old, &new) })
}

/// A derivation or a failure for everything that the matrix names; what is remembered is not evaluated.
pub fn evaluate(nix: &Nix, fleet: &Fleet, remembered: Remembered, options: &Options, cancel: &Cancel) -> Result<Side> {
    let jobs = all_jobs(fleet);
    let progress = Progress::new(jobs.len());
    let Derived { derivations, failures, .. } =
        reuse::derive(remembered, nix, fleet, &jobs, options, &progress, cancel)?;
    let derivations = derivations.into_iter().map(|(id, derivation)| (id, Ok(derivation)));
    Ok(derivations.chain(failures.into_iter().map(|(id, failure)| (id, Err(failure)))).collect())
}

/// Every artifact and every test of every host.
pub fn all_jobs(fleet: &Fleet) -> Vec<Job> {
    let of_host = |host: &crate::matrix::Host| {
        let system = host.system.clone();
        host.jobs().into_iter().map(move |id| Job { id, system: system.clone() })
    };
    fleet.matrix.hosts.iter().flat_map(of_host).collect()
}

/// What differs first in each changed host: of its system if that changed, else of what did.
pub fn causes(hosts: &[HostChange], cancel: &Cancel) -> Result<BTreeMap<HostName, Vec<Cause>>> {
    let comparable = |job: &&JobChange| job.status == Status::Changed && job.old.is_some() && job.new.is_some();
    let pairs: Vec<(&HostName, Vec<&JobChange>)> =
        hosts.iter().map(|host| (&host.host, host.jobs.iter().filter(comparable).collect())).collect();
    let drvs = |side: fn(&JobChange) -> Option<&str>| {
        pairs.iter().flat_map(|(_, jobs)| jobs.iter().filter_map(move |job| side(job))).collect::<Vec<&str>>()
    };
    let old = Graph::read(&drvs(|job| job.old.as_ref().map(|d| d.drv.as_str())), cancel)?;
    let new = Graph::read(&drvs(|job| job.new.as_ref().map(|d| d.drv.as_str())), cancel)?;
    let mut causes = BTreeMap::new();
    for (host, jobs) in pairs {
        let mut found: Vec<Cause> = Vec::new();
        for job in jobs {
            let (Some(a), Some(b)) = (&job.old, &job.new) else { continue };
            for cause in why::causes((&old, a.drv.as_str()), (&new, b.drv.as_str()), CAUSES) {
                // Two jobs of a host mostly differ for the same reason, reached by different ways.
                let same = |known: &Cause| known.what == cause.what && known.path.last() == cause.path.last();
                if found.len() < CAUSES && !found.iter().any(same) {
                    found.push(cause);
                }
            }
        }
        if !found.is_empty() {
            causes.insert(host.clone(), found);
        }
    }
    Ok(causes)
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
pub struct Document<'a> {
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

pub fn document<'a>(compared: &'a Compared, causes: &'a BTreeMap<HostName, Vec<Cause>>) -> Document<'a> {
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
