//! Compares the derivations of a fleet at two revisions, host by host.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, Serializer};

use crate::job::{Derivation, Failure, HostName, JobId};

/// One side of a comparison: what every job evaluated to.
pub type Side = BTreeMap<JobId, Result<Derivation, Failure>>;

/// How a job or a host stands against the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Unchanged,
    Changed,
    New,
    Removed,
    /// It does not evaluate now, whatever it did at the base.
    Broken,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Changed => "changed",
            Self::New => "new",
            Self::Removed => "removed",
            Self::Broken => "broken",
        }
    }
}

/// One job at both revisions.
#[derive(Clone, Debug, Serialize)]
pub struct JobChange {
    #[serde(rename = "job")]
    pub id: JobId,
    pub status: Status,
    #[serde(serialize_with = "drv", skip_serializing_if = "Option::is_none")]
    pub old: Option<Derivation>,
    #[serde(serialize_with = "drv", skip_serializing_if = "Option::is_none")]
    pub new: Option<Derivation>,
    /// Why it does not evaluate now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Why it did not evaluate at the base; it then counts as changed, because there is nothing to compare with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_failure: Option<Failure>,
}

fn drv<S: Serializer>(derivation: &Option<Derivation>, serializer: S) -> Result<S::Ok, S::Error> {
    derivation.as_ref().map(|derivation| &derivation.drv).serialize(serializer)
}

/// One host at both revisions, its jobs in their order.
#[derive(Clone, Debug, Serialize)]
pub struct HostChange {
    pub host: HostName,
    pub status: Status,
    pub jobs: Vec<JobChange>,
}

impl HostChange {
    /// The jobs that are not as they were, shortest first: `iso`, `tests.live`.
    pub fn affected(&self) -> impl Iterator<Item = &JobChange> {
        self.jobs.iter().filter(|job| job.status != Status::Unchanged)
    }
}

/// Compares every host of either side.
pub fn compare(old: &Side, new: &Side) -> Vec<HostChange> {
    let ids: BTreeSet<&JobId> = old.keys().chain(new.keys()).collect();
    let mut hosts: BTreeMap<&HostName, Vec<JobChange>> = BTreeMap::new();
    for id in ids {
        hosts.entry(&id.host).or_default().push(job(id, old.get(id), new.get(id)));
    }
    let finish =
        |(host, jobs): (&HostName, Vec<JobChange>)| HostChange { host: host.clone(), status: overall(&jobs), jobs };
    hosts.into_iter().map(finish).collect()
}

/// What a job evaluated to, if the side has it.
type Evaluated<'a> = Option<&'a Result<Derivation, Failure>>;

fn job(id: &JobId, old: Evaluated<'_>, new: Evaluated<'_>) -> JobChange {
    let status = match (old, new) {
        (_, Some(Err(_))) => Status::Broken,
        (Some(Ok(old)), Some(Ok(new))) if old.drv == new.drv => Status::Unchanged,
        // What failed at the base and evaluates now has changed, though there is nothing to compare with.
        (Some(_), Some(Ok(_))) => Status::Changed,
        (None, Some(Ok(_))) => Status::New,
        (_, None) => Status::Removed,
    };
    let derivation = |side: Evaluated<'_>| side.and_then(|r| r.as_ref().ok()).cloned();
    let failure = |side: Evaluated<'_>| side.and_then(|r| r.as_ref().err()).cloned();
    let (old_failure, failure) = (failure(old), failure(new));
    JobChange { id: id.clone(), status, old: derivation(old), new: derivation(new), failure, old_failure }
}

/// A host is what all its jobs are; if they disagree it is changed, and broken if any of them is.
fn overall(jobs: &[JobChange]) -> Status {
    let statuses: BTreeSet<Status> = jobs.iter().map(|job| job.status).collect();
    match (statuses.contains(&Status::Broken), statuses.len(), statuses.first()) {
        (true, ..) => Status::Broken,
        (false, 1, Some(&only)) => only,
        _ => Status::Changed,
    }
}

/// What of a host is affected, as words for one line.
pub fn targets(change: &HostChange) -> String {
    let words: Vec<String> = change.affected().map(|job| job.id.target.to_string()).collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Stage;

    #[expect(clippy::result_large_err, reason = "the type of a side")]
    fn side(rows: &[(&str, &str)]) -> Side {
        let value = |drv: &str| match drv {
            "fails" => Err(Failure {
                stage: Stage::Evaluate,
                message: "no".into(),
                position: None,
                drv: None,
                log_tail: vec![],
                reproduce: String::new(),
            }),
            drv => Ok(Derivation { drv: drv.into(), out: "/o".into(), system: "x86_64-linux".into() }),
        };
        rows.iter().map(|(id, drv)| (JobId::try_from((*id).to_owned()).unwrap(), value(drv))).collect()
    }

    #[test]
    fn every_status() {
        let old = side(&[
            ("same.iso", "1"),
            ("same.system", "2"),
            ("other.iso", "1"),
            ("other.system", "2"),
            ("gone.iso", "1"),
            ("mended.iso", "fails"),
            ("breaks.iso", "1"),
            ("breaks.system", "1"),
            ("grows.iso", "1"),
        ]);
        let new = side(&[
            ("same.iso", "1"),
            ("same.system", "2"),
            ("other.iso", "1"),
            ("other.system", "3"),
            ("fresh.iso", "1"),
            ("mended.iso", "1"),
            ("breaks.iso", "1"),
            ("breaks.system", "fails"),
            ("grows.iso", "1"),
            ("grows.tests.live", "5"),
        ]);
        let found: Vec<String> =
            compare(&old, &new).iter().map(|c| format!("{} {} [{}]", c.host, c.status.as_str(), targets(c))).collect();
        assert_eq!(
            found,
            [
                "breaks broken [system]",
                "fresh new [iso]",
                "gone removed [iso]",
                "grows changed [tests.live]",
                "mended changed [iso]",
                "other changed [system]",
                "same unchanged []",
            ]
        );
    }
}
