//! Holds every host of a fleet against an earlier commit.

use anyhow::Result;
use serde::Serialize;

use super::{
    base::{self, Base},
    hosts::{self, HostChange, Side},
};
use crate::run::{Derived, Run};

/// Every host of a fleet against an earlier commit.
#[derive(Serialize)]
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
