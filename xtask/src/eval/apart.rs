//! Two evaluators at one host: what a medium needs of its installed system goes from the one that evaluates the system
//! to the one that evaluates everything else of the medium meanwhile.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    job::{Artifact, Derivation, Job, JobId, Target},
    process::Cancel,
};

/// Jobs of one host that an evaluator is given together.
pub enum Group {
    Whole(Vec<Job>),
    /// The host's other jobs, and then what its medium needs.
    Needs {
        jobs: Vec<Job>,
        medium: JobId,
        giver: Giver,
    },
    /// The medium, with what it needs from elsewhere.
    Medium {
        job: Job,
        taker: Taker,
    },
}

impl Group {
    /// The same jobs as two groups, to be begun in this order. `None` where that would gain nothing: without a medium,
    /// or with tests, which need the medium and its system in one evaluator.
    pub fn apart(jobs: &[Job]) -> Option<[Self; 2]> {
        if jobs.iter().any(|job| !matches!(job.id.target, Target::Artifact(_))) {
            return None;
        }
        let (media, others): (Vec<_>, Vec<_>) =
            jobs.iter().cloned().partition(|job| job.id.target == Target::Artifact(Artifact::Iso));
        let [job] = <[Job; 1]>::try_from(media).ok()?;
        let shared = Arc::new(Shared::default());
        let alone = others.is_empty();
        let needs = Self::Needs { jobs: others, medium: job.id.clone(), giver: Giver(shared.clone()) };
        let medium = Self::Medium { job, taker: Taker(shared) };
        // What is only good for the medium is not begun unless the medium is.
        Some(if alone { [medium, needs] } else { [needs, medium] })
    }
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Somebody is at the jobs that come before what the medium needs.
    begun: bool,
    /// The medium is being evaluated, apart from what it needs.
    awaited: bool,
    /// Nothing more will be given, or nothing more be taken.
    over: bool,
    needs: Option<Derivation>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.lock().over = true;
        self.changed.notify_all();
    }
}

/// Whoever finds out what the medium needs. When it is dropped, nobody waits for it any longer.
pub struct Giver(Arc<Shared>);

impl Giver {
    pub fn begin(&self) {
        self.0.lock().begun = true;
    }

    /// Whether somebody can do something with it. If not, nobody will later either: the medium is then evaluated
    /// whole, at best by the evaluator that has its system already.
    pub fn is_awaited(&self) -> bool {
        let mut state = self.0.lock();
        state.over |= !state.awaited;
        !state.over
    }

    pub fn give(self, needs: Derivation) {
        self.0.lock().needs = Some(needs);
    }
}

impl Drop for Giver {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Whoever evaluates the medium. When it is dropped, nobody needs anything for it any longer.
pub struct Taker(Arc<Shared>);

impl Taker {
    /// Announces the medium; false if it is too late to do it apart.
    pub fn begin(&self) -> bool {
        let mut state = self.0.lock();
        state.awaited = true;
        !state.over
    }

    /// Waits for what the medium needs; `None` if it does not come, or if nobody has begun with it.
    pub fn wait(&self, cancel: &Cancel) -> Option<Derivation> {
        /// How often an interrupt is looked for.
        const TICK: Duration = Duration::from_millis(50);
        let mut state = self.0.lock();
        while state.begun && state.needs.is_none() && !state.over && !cancel.is_set() {
            let waited = self.0.changed.wait_timeout(state, TICK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.over = true;
        state.needs.take()
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::System;

    fn jobs(ids: &[&str]) -> Vec<Job> {
        let job = |id: &&str| Job {
            id: JobId::try_from((*id).to_owned()).unwrap(),
            system: System::try_from("x86_64-linux".to_owned()).unwrap(),
        };
        ids.iter().map(job).collect()
    }

    fn pair() -> (Giver, Taker) {
        match Group::apart(&jobs(&["a.iso", "a.system"])) {
            Some([Group::Needs { giver, .. }, Group::Medium { taker, .. }]) => (giver, taker),
            _ => panic!("a medium and its system are two groups"),
        }
    }

    fn derivation() -> Derivation {
        Derivation { drv: "/d.drv".into(), out: "/d".into(), system: "s".into() }
    }

    #[test]
    fn media_are_evaluated_apart_from_systems_but_not_from_tests() {
        let rows: [(&[&str], &str); 4] = [
            (&["a.iso", "a.system"], "a.system, then for a.iso; a.iso"),
            (&["a.iso"], "a.iso; then for a.iso"),
            (&["a.system"], ""),
            (&["a.iso", "a.system", "a.tests.live"], ""),
        ];
        for (ids, expected) in rows {
            let words = |group: Group| match group {
                Group::Needs { jobs, medium, .. } => {
                    let jobs: String = jobs.iter().map(|job| format!("{}, ", job.id)).collect();
                    format!("{jobs}then for {medium}")
                }
                Group::Medium { job, .. } => job.id.to_string(),
                Group::Whole(_) => "whole".to_owned(),
            };
            let found = Group::apart(&jobs(ids)).map(|groups| groups.map(words).join("; "));
            assert_eq!(found.unwrap_or_default(), expected);
        }
    }

    #[test]
    fn what_is_given_is_taken() {
        let (giver, taker) = pair();
        giver.begin();
        assert!(taker.begin());
        assert!(giver.is_awaited());
        std::thread::scope(|scope| {
            let taken = scope.spawn(|| taker.wait(&Cancel::default()));
            giver.give(derivation());
            assert_eq!(taken.join().unwrap(), Some(derivation()));
        });
    }

    #[test]
    fn nobody_waits_for_what_will_not_come() {
        let (giver, taker) = pair();
        giver.begin();
        assert!(taker.begin());
        drop(giver);
        assert_eq!(taker.wait(&Cancel::default()), None);

        let (giver, taker) = pair();
        assert!(taker.begin());
        assert_eq!(taker.wait(&Cancel::default()), None, "nobody is at it");
        assert!(!giver.is_awaited());

        let (giver, taker) = pair();
        giver.begin();
        assert!(taker.begin());
        let cancel = Cancel::default();
        cancel.set();
        assert_eq!(taker.wait(&cancel), None);
    }

    #[test]
    fn a_medium_that_begins_when_its_system_is_done_is_evaluated_whole() {
        let (giver, taker) = pair();
        assert!(!giver.is_awaited());
        assert!(!taker.begin());
        let (giver, taker) = pair();
        assert!(taker.begin());
        drop(taker);
        assert!(!giver.is_awaited());
    }
}
