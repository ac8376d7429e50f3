//! Holds every host of a fleet against an earlier commit.

use std::collections::BTreeMap;

use anyhow::Result;

use super::{
    base::{self, Base},
    derivation::Graph,
    hosts::{self, HostChange, JobChange, Side, Status},
    why::{self, Cause},
};
use crate::{
    job::HostName,
    process::Cancel,
    run::{Derived, Run},
};

/// Differences that are told of each host.
const CAUSES: usize = 5;

/// Every host of a fleet against an earlier commit.
pub struct Compared {
    pub base: String,
    pub revision: String,
    pub hosts: Vec<HostChange>,
}

impl Run<'_> {
    /// Evaluates the fleet as it is and at the merge base with `revision`, and compares. After an interrupt the answer is
    /// incomplete.
    pub fn affected(&self, revision: Option<&str>) -> Result<Compared> {
        let Base { commit, revision, fleet } = base::find(&self.fleet, revision, self.cancel)?;
        let new = self.side()?;
        // What an edit does not concern is the same job on both sides, so one evaluation serves both.
        let old = fleet.map(|fleet| self.on(fleet).side()).transpose()?.unwrap_or_default();
        Ok(Compared { base: commit, revision, hosts: hosts::compare(&old, &new) })
    }

    /// A derivation or a failure for everything that the matrix names.
    pub fn side(&self) -> Result<Side> {
        let Derived { derivations, failures, .. } = self.evaluate(&self.fleet.jobs())?;
        let derivations = derivations.into_iter().map(|(id, derivation)| (id, Ok(derivation)));
        Ok(derivations.chain(failures.into_iter().map(|(id, failure)| (id, Err(failure)))).collect())
    }
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
