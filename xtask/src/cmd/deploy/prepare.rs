//! Builds the systems, asks the machines, and says which of them can be deployed to.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::{
    deployments::{self, Row},
    flags::Deploy,
    job::{Artifact, HostName, Job, JobId, Target},
    matrix::Host,
    run::Run,
    ship::{
        guard::{Ended, Keep, State},
        probe::{self, Machine},
        remote::Remote,
        turns,
    },
};

/// A machine that answered, and the system that is built for it.
pub struct Ready<'a> {
    pub host: &'a Host,
    pub remote: Remote,
    pub machine: Machine,
    pub system: String,
    /// The closure of that system.
    pub closure: Vec<String>,
    /// Bytes that the machine lacks of it.
    pub lacks: u64,
    /// True if it runs already and the machine starts with it; there is a restart to be made.
    pub is_there: bool,
}

impl Ready<'_> {
    pub fn row(&self, ended: Ended) -> Row {
        let (old, new) = (Some(self.machine.current.clone()), Some(self.system.clone()));
        Row { old, new, ..Row::new(self.host, ended) }
    }

    pub fn lacks_nothing(&self) -> bool {
        self.machine.lacks.is_empty()
    }
}

/// Rows of the machines with which nothing is done, and the others. Errors: Nix cannot be started or asked.
pub fn prepare<'a>(run: &Run<'_>, hosts: &[&'a Host], flags: &Deploy) -> Result<(Vec<Row>, Vec<Ready<'a>>)> {
    let target = Target::Artifact(Artifact::System);
    let jobs: Vec<Job> = hosts
        .iter()
        .map(|host| Job { id: JobId { host: host.name.clone(), target }, system: host.system.clone() })
        .collect();
    let built: BTreeMap<HostName, _> =
        run.realise(&jobs)?.jobs.into_iter().map(|job| (job.job.host.clone(), job)).collect();
    let ask = |host: &&'a Host| -> Result<Ready<'a>, Box<Row>> {
        let failed = |why: String| Box::new(Row::new(host, Ended::new(State::Failed, why)));
        let job = &built[&host.name];
        let derivation = deployments::built(job).map_err(failed)?;
        ready(run, host, derivation.out.as_str()).map_err(|error| failed(format!("{error:#}")))
    };
    let (mut rows, mut open) = (Vec::new(), Vec::new());
    for asked in turns::take(hosts, flags.parallel(), |_| None, ask) {
        match asked {
            Err(row) => rows.push(*row),
            Ok(ready) if is_done(&ready, flags) => rows.push(ready.row(Ended::new(State::Unchanged, ""))),
            Ok(ready) => open.push(ready),
        }
    }
    Ok((rows, open))
}

/// Asks one machine. Errors: it does not answer, or cannot take the system.
fn ready<'a>(run: &Run<'_>, host: &'a Host, system: &str) -> Result<Ready<'a>> {
    let remote = Remote::new(host.destination());
    let closure = deployments::closure(&[system], run.cancel)?;
    let machine = probe::probe(&remote, &closure, run.cancel)?;
    let lacks = deployments::sizes(&machine.lacks, run.cancel)?;
    machine.ensure_may_get(host.system.as_str(), lacks)?;
    let is_there = machine.current == system && machine.profile == system;
    Ok(Ready { host, remote, machine, system: system.to_owned(), closure, lacks, is_there })
}

/// True if there is nothing to do.
fn is_done(ready: &Ready<'_>, flags: &Deploy) -> bool {
    let Machine { current, profile, booted, .. } = &ready.machine;
    let (runs, starts) = (*current == ready.system, *profile == ready.system);
    let is_as_asked = match flags.keep() {
        Keep::Switch => runs && starts,
        Keep::Test => runs,
        Keep::Boot => starts,
    };
    is_as_asked && !flags.dry_activate && !(flags.reboot && *booted != ready.system)
}
