//! Holds hosts against an earlier commit or a running machine, by what is in them.

use anyhow::Result;
use serde::Serialize;

use super::{
    base,
    hosts::{HostChange, JobChange, Status},
    nixos::{Firewall, firewall_function},
    snapshot::{Difference, Running, Snapshot},
};
use crate::{
    diagnostic::usage,
    job::{Artifact, Derivation, Failure, HostName, Job, JobId, Target},
    matrix::Host,
    nix::argv,
    process::Invocation,
    run::{Derived, Run},
};

/// What is known of one host.
#[derive(Debug, Serialize)]
pub struct HostDifference {
    pub host: HostName,
    /// What it is held against: a commit or a running system.
    pub against: String,
    /// False if both sides are the same derivation.
    pub differs: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// Holds hosts against the merge base with a revision, by derivation.
pub fn against_base(run: &Run<'_>, hosts: &[Host], revision: Option<&str>) -> Result<Vec<HostDifference>> {
    let base = base::find(&run.fleet, revision, run.cancel)?;
    let old = base.fleet.map(|fleet| {
        let before = run.on(fleet);
        evaluate(&before, hosts).map(|derivations| (before, derivations))
    });
    let new = evaluate(run, hosts)?;
    let old = old.transpose()?;
    let mut compared = Vec::new();
    for (host, now) in hosts.iter().zip(new) {
        let then = old.as_ref().and_then(|(before, all)| {
            let found = all.iter().find(|(id, _)| id.host == host.name)?.1.as_ref();
            found.map(|result| (before, result))
        });
        let mut row = HostDifference {
            host: host.name.clone(),
            against: base.commit.clone(),
            differs: true,
            difference: None,
            failure: None,
        };
        match (then, now.1) {
            _ if run.cancel.is_set() => break,
            (_, Some(Err(failure))) => row.failure = Some(failure),
            (Some((_, Ok(old))), Some(Ok(new))) if old.drv == new.drv => row.differs = false,
            (Some((before, Ok(old))), Some(Ok(new))) => {
                let mut a = Snapshot::of_derivation(&run.nix, old, run.cancel)?;
                let mut b = Snapshot::of_derivation(&run.nix, &new, run.cancel)?;
                (a.ports, b.ports) = (ports(before, &host.name), ports(run, &host.name));
                row.difference = Some(Difference::between(&a, &b));
            }
            // New at this commit, or broken at the base: there is nothing to hold it against.
            _ => {}
        }
        compared.push(row);
    }
    Ok(compared)
}

/// Holds the two sides of a host against each other that were evaluated already, all but its open ports, which would have
/// to be evaluated.
pub fn of_change(run: &Run<'_>, change: &HostChange, base: &str) -> Result<HostDifference> {
    let artifact = |job: &&JobChange| matches!(job.id.target, Target::Artifact(_));
    let sides = |job: &JobChange| Some((job.old.clone()?, job.new.clone()?));
    // The system, where there is one, is the last of the artifacts.
    let both = change.jobs.iter().filter(artifact).filter_map(sides).next_back();
    let snapshot = |side| Snapshot::of_derivation(&run.nix, side, run.cancel);
    let mut difference = match both {
        Some((old, new)) => Some(Difference::between(&snapshot(&old)?, &snapshot(&new)?)),
        None => None,
    };
    difference.iter_mut().for_each(|difference| difference.unknown.retain(|what| !what.starts_with("open ports")));
    let (host, differs) = (change.host.clone(), change.status != Status::Unchanged);
    let failure = change.jobs.iter().find_map(|job| job.failure.clone());
    Ok(HostDifference { host, against: base.to_owned(), differs, difference, failure })
}

/// Holds one host against what runs on a machine.
pub fn against_running(run: &Run<'_>, hosts: &[Host], machine: &Running) -> Result<Vec<HostDifference>> {
    let [host] = hosts else {
        return Err(usage(format!("--against compares one host with one machine; {} hosts are selected", hosts.len())));
    };
    let against = match machine {
        Running::Here => "the running system".to_owned(),
        Running::Ssh(host) => format!("ssh://{host}"),
    };
    let mut row = HostDifference { host: host.name.clone(), against, differs: true, difference: None, failure: None };
    match evaluate(run, hosts)?.pop().and_then(|(_, result)| result) {
        Some(Ok(new)) => {
            let old = Snapshot::of_running(machine, run.cancel)?;
            let new = Snapshot::of_derivation(&run.nix, &new, run.cancel)?;
            row.difference = Some(Difference::between(&old, &new));
        }
        Some(Err(failure)) => row.failure = Some(failure),
        None => {}
    }
    Ok(vec![row])
}

type Evaluated = Vec<(JobId, Option<Result<Derivation, Failure>>)>;

/// The installed system of every host, or its live medium where it has no other artifact, in the hosts' order.
fn evaluate(run: &Run<'_>, hosts: &[Host]) -> Result<Evaluated> {
    let target = |host: &Host| match host.artifacts.contains(&Artifact::System) {
        true => Artifact::System,
        false => Artifact::Iso,
    };
    let there = |host: &&Host| run.fleet.matrix.hosts.iter().any(|other| other.name == host.name);
    let id = |host: &Host| JobId { host: host.name.clone(), target: Target::Artifact(target(host)) };
    let jobs: Vec<Job> =
        hosts.iter().filter(there).map(|host| Job { id: id(host), system: host.system.clone() }).collect();
    let Derived { mut derivations, mut failures, .. } = run.evaluate(&jobs)?;
    let mut result = |id: &JobId| derivations.remove(id).map(Ok).or_else(|| failures.remove(id).map(Err));
    Ok(hosts.iter().map(id).map(|id| (id.clone(), result(&id))).collect())
}

/// The open ports by the configuration; none where the fleet's hosts have no `networking.firewall`.
fn ports(run: &Run<'_>, host: &HostName) -> Option<Vec<String>> {
    let argv = argv::eval_apply(run.flake(), "nixosConfigurations", &firewall_function(host));
    let answer = Invocation::new(argv).timeout(run.options.eval_timeout).capture(run.cancel).ok()?;
    let firewall: Option<Firewall> = serde_json::from_str(&answer.stdout).ok()?;
    firewall.map(|firewall| firewall.ports())
}
