//! A fleet in; the derivations that need no evaluation, because nothing they depend on has changed, out.
//!
//! Two keys lead to a remembered derivation. The first is of the whole tree as Nix sees it and costs
//! milliseconds; the second is of what the job depends on and survives edits elsewhere. docs/caching.md says
//! why both are sound.

mod ambient;
pub mod depends;
mod digest;
mod git;
mod leak;
#[cfg(test)]
mod model;
#[cfg(test)]
mod model_nix;
#[cfg(test)]
mod model_test;
pub mod need;
mod scan;
mod slice;
mod snapshot;
mod store;
mod tree;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::OnceLock,
    time::Duration,
};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use self::{
    depends::{Closure, Depends},
    digest::{Digest, Hasher},
    snapshot::{Known, Snapshot},
    store::{Place, Remembered},
    tree::Tree,
};
use crate::{
    fleet::Fleet,
    job::{Derivation, Job, JobId},
    nix::{
        Nix, Validity,
        argv::{self, Source},
    },
    process::{Cancel, Invocation},
};

/// What is known about a fleet from earlier runs, or why nothing may be used.
pub struct Cache<'f> {
    fleet: &'f Fleet,
    state: Result<State, String>,
    /// What a person should be told besides.
    pub warning: Option<String>,
    /// The store path of the fleet's source, once somebody asked for it.
    source: OnceLock<Option<String>>,
    /// What will probably be recalled, asked about while the tree was read.
    newest: Option<Newest>,
}

struct State {
    place: Place,
    snapshot: Snapshot,
    before: HashMap<String, Known>,
    ambient: Digest,
    tree: Digest,
    remembered: BTreeMap<JobId, Vec<Remembered>>,
    allow_ifd: bool,
}

/// A derivation that needs no evaluation.
#[derive(Clone, Debug)]
pub struct Recalled {
    pub derivation: Derivation,
    /// True if its output is valid, so that there is nothing to build either.
    pub present: bool,
    /// What the job depends on, if other files changed since it was remembered.
    moved: Option<Digest>,
}

impl<'f> Cache<'f> {
    /// Reads the tree and what is remembered of it, of which `jobs` may be recalled. Never fails: a cache that cannot
    /// be used is off.
    pub fn open(fleet: &'f Fleet, allow_ifd: bool, jobs: &[Job], cancel: &Cancel) -> Self {
        let lasting = fleet.copy_of.as_deref().unwrap_or(fleet);
        match Place::of(&lasting.root, &lasting.flake_ref) {
            Ok(place) => Self::open_in(place, fleet, allow_ifd, jobs, cancel),
            Err(error) => Self::with(fleet, Err(format!("{error:#}")), None),
        }
    }

    fn open_in(place: Place, fleet: &'f Fleet, allow_ifd: bool, jobs: &[Job], cancel: &Cancel) -> Self {
        let ambient = match ambient::ambient(&fleet.overrides, allow_ifd) {
            Ok(ambient) => ambient,
            Err(reason) => return Self::with(fleet, Err(reason), None),
        };
        let (((remembered, warning), newest), snapshot) = rayon::join(
            || {
                let loaded = place.load();
                let newest = Newest::of(&loaded.0, jobs, cancel);
                (loaded, newest)
            },
            || {
                // The files of a passing copy have never been seen before and will not be again.
                let before = if fleet.copy_of.is_none() { place.load_files() } else { HashMap::new() };
                Snapshot::take(&fleet.root, &fleet.flake_ref, &before, cancel).map(|snapshot| (snapshot, before))
            },
        );
        let state = snapshot.map(|(snapshot, before)| {
            let tree = tree_key(ambient, &snapshot.tree);
            // Where it is not certain which content of a file Nix reads, a job depends on every file.
            let ambient = if snapshot.tree.overlooked { tree } else { ambient };
            State { place, snapshot, before, ambient, tree, remembered, allow_ifd }
        });
        Self { newest, ..Self::with(fleet, state, warning) }
    }

    fn with(fleet: &'f Fleet, state: Result<State, String>, warning: Option<String>) -> Self {
        Self { fleet, state, warning, source: OnceLock::new(), newest: None }
    }

    /// Why nothing may be reused, for a person.
    pub fn off(&self) -> Option<&str> {
        self.state.as_ref().err().map(String::as_str)
    }

    /// The jobs' derivations as far as they are known and still good for something: the output is valid, or
    /// the derivation is, so that it can be built. One question to the store, however many jobs there are, and one
    /// more if they are not as they were last.
    pub fn recall(&mut self, jobs: &[Job], cancel: &Cancel) -> Result<BTreeMap<JobId, Recalled>> {
        let Ok(state) = &self.state else { return Ok(BTreeMap::new()) };
        let mut found = state.look_up(jobs);
        let paths: Vec<&str> =
            found.values().flat_map(|(d, _)| [d.derivation.drv.as_str(), d.derivation.out.as_str()]).collect();
        if paths.is_empty() {
            return Ok(BTreeMap::new());
        }
        let invalid = Newest::invalid(self.newest.take(), &paths, cancel)?;
        found.retain(|_, (remembered, _)| {
            let Derivation { drv, out, .. } = &remembered.derivation;
            !invalid.contains(drv.as_str()) || !invalid.contains(out.as_str())
        });
        let recalled = found.into_iter().map(|(id, (remembered, moved))| {
            let derivation = remembered.derivation.clone();
            let present = !invalid.contains(derivation.out.as_str());
            (id, Recalled { derivation, present, moved })
        });
        Ok(recalled.collect())
    }

    /// Remembers what was evaluated and, of what was recalled, that it holds for the present tree as well.
    /// Returns a word for a person if nothing could be remembered. Errors: the cache cannot be written.
    pub fn save(
        &self,
        evaluated: &BTreeMap<JobId, Derivation>,
        recalled: &BTreeMap<JobId, Recalled>,
        cancel: &Cancel,
    ) -> Result<Option<String>> {
        let Ok(state) = &self.state else { return Ok(None) };
        if evaluated.is_empty() && recalled.values().all(|recalled| recalled.moved.is_none()) {
            if state.snapshot.reread(&state.before) {
                self.save_files(state)?;
            }
            return Ok(None);
        }
        let leaks = match evaluated.is_empty() {
            true => BTreeSet::new(),
            false => self.leaks(evaluated, cancel),
        };
        let mut depends = Depends::on(&state.snapshot.tree);
        let fresh = evaluated.iter().map(|(id, derivation)| {
            let job = (!leaks.contains(id)).then(|| job_key(state.ambient, depends.digest(id)));
            (id, job, derivation)
        });
        let again = recalled.iter().filter(|(_, recalled)| recalled.moved.is_some());
        let again = again.map(|(id, recalled)| (id, recalled.moved, &recalled.derivation));
        let remember =
            |job, derivation: &Derivation| Remembered { tree: state.tree, job, derivation: derivation.clone() };
        let new: BTreeMap<JobId, Remembered> =
            fresh.chain(again).map(|(id, job, derivation)| (id.clone(), remember(job, derivation))).collect();
        // Asked last: what the jobs depend on was read from the files just now.
        let after = Snapshot::take(&self.fleet.root, &self.fleet.flake_ref, &state.snapshot.known, cancel);
        if !after.is_ok_and(|after| after.moment == state.snapshot.moment) {
            return Ok(Some("files changed while they were evaluated, so nothing of this run is remembered".into()));
        }
        let fleets = [Some(self.fleet), self.fleet.copy_of.as_deref()].into_iter().flatten();
        let hosts: BTreeSet<_> = fleets.flat_map(|fleet| &fleet.matrix.hosts).map(|host| &host.name).collect();
        state.place.add(&new, &|id| hosts.contains(&id.host))?;
        self.save_files(state)?;
        Ok(None)
    }

    fn save_files(&self, state: &State) -> Result<()> {
        if self.fleet.copy_of.is_some() { Ok(()) } else { state.place.save_files(&state.snapshot.known) }
    }

    /// The store path of the fleet's source. Nix takes a while to say so, in which others may work.
    pub fn ask_for_source(&self, cancel: &Cancel) -> Option<&str> {
        #[derive(Deserialize)]
        struct Metadata {
            path: String,
        }
        let state = self.state.as_ref().ok()?;
        let Fleet { flake_ref, overrides, .. } = self.fleet;
        let source = Source { flake: flake_ref, overrides, allow_ifd: state.allow_ifd };
        let ask = || {
            let asked = Invocation::new(argv::flake_metadata(source)).timeout(Duration::from_secs(60)).read(cancel);
            Some(serde_json::from_str::<Metadata>(&asked.ok()?).ok()?.path)
        };
        self.source.get_or_init(ask).as_deref()
    }

    /// Jobs whose derivations hold the source's store path; all of them if that path cannot be told.
    fn leaks(&self, evaluated: &BTreeMap<JobId, Derivation>, cancel: &Cancel) -> BTreeSet<JobId> {
        let path = self.ask_for_source(cancel);
        // Where sources are read without a copy in the store, their path in a derivation is another one.
        match path.filter(|path| std::path::Path::new(path).exists()) {
            Some(path) => leak::leaking(evaluated, path),
            None => evaluated.keys().cloned().collect(),
        }
    }
}

/// The paths that were remembered last of each job, and Nix's word on whether they are valid: mostly those are recalled,
/// and Nix takes as long to say so as it takes to find out.
struct Newest {
    paths: BTreeSet<String>,
    asked: Validity,
}

impl Newest {
    fn of(remembered: &BTreeMap<JobId, Vec<Remembered>>, jobs: &[Job], cancel: &Cancel) -> Option<Self> {
        let last = jobs.iter().filter_map(|job| remembered.get(&job.id)?.last());
        let paths: BTreeSet<String> =
            last.flat_map(|last| [last.derivation.drv.to_string(), last.derivation.out.to_string()]).collect();
        let asked = Nix::ask_invalid(&paths.iter().map(String::as_str).collect::<Vec<_>>(), cancel).ok()?;
        (!paths.is_empty()).then_some(Self { paths, asked })
    }

    /// Of `paths` those that are not valid, and perhaps others.
    fn invalid(newest: Option<Self>, paths: &[&str], cancel: &Cancel) -> Result<BTreeSet<String>> {
        // Nix's failure is heard of when it fails again.
        let known = newest.and_then(|newest| Some((newest.paths, newest.asked.answer().ok()?)));
        let (asked, invalid) = known.unwrap_or_default();
        let others: Vec<&str> = paths.iter().copied().filter(|path| !asked.contains(*path)).collect();
        let rest = if others.is_empty() { Vec::new() } else { Nix::invalid(&others, cancel)? };
        Ok(invalid.into_iter().chain(rest).collect())
    }
}

impl State {
    fn look_up(&self, jobs: &[Job]) -> BTreeMap<JobId, (&Remembered, Option<Digest>)> {
        let mut depends = None;
        let mut found = BTreeMap::new();
        for id in jobs.iter().map(|job| &job.id) {
            let Some(list) = self.remembered.get(id) else { continue };
            if let Some(remembered) = list.iter().rfind(|remembered| remembered.tree == self.tree) {
                found.insert(id.clone(), (remembered, None));
                continue;
            }
            let depends = depends.get_or_insert_with(|| Depends::on(&self.snapshot.tree));
            let key = Some(job_key(self.ambient, depends.digest(id)));
            found.extend(list.iter().rfind(|r| r.job == key).map(|remembered| (id.clone(), (remembered, key))));
        }
        found
    }
}

fn tree_key(ambient: Digest, tree: &Tree) -> Digest {
    let hasher = Hasher::new("tree-key").bytes(ambient.as_bytes());
    hasher.bytes(tree.identity.as_bytes()).bytes(tree.digest().as_bytes()).finish()
}

fn job_key(ambient: Digest, job: Digest) -> Digest {
    Hasher::new("job-key").bytes(ambient.as_bytes()).bytes(job.as_bytes()).finish()
}

/// What `--verify-cache` found: the jobs whose remembered derivation is not what evaluation gives.
pub fn wrong(
    recalled: &BTreeMap<JobId, Recalled>,
    evaluated: &BTreeMap<JobId, Derivation>,
) -> Vec<(JobId, Derivation, Derivation)> {
    let differs = |(id, recalled): (&JobId, &Recalled)| {
        let fresh = evaluated.get(id)?;
        (fresh.drv != recalled.derivation.drv).then(|| (id.clone(), recalled.derivation.clone(), fresh.clone()))
    };
    recalled.iter().filter_map(differs).collect()
}

/// Why a job is evaluated in the next run, or is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing in the fleet has changed.
    Unchanged,
    /// What changed does not concern it.
    Unconcerned,
    /// These files changed, or their names did.
    Changed { files: Vec<String> },
    /// Its derivation holds the store path of the whole source, and some file changed.
    Leaks,
    /// It has not been evaluated here as it is now.
    New,
    /// Nothing can be remembered.
    Off { reason: String },
}

/// What a job depends on and what that means for the next run.
#[derive(Clone, Debug)]
pub struct Explanation {
    pub closure: Closure,
    pub verdict: Verdict,
}

/// Explains the jobs of a fleet; the number is that of all files. Errors: the fleet's files cannot be told.
pub fn explain(fleet: &Fleet, jobs: &[JobId], cancel: &Cancel) -> Result<(Vec<Explanation>, usize)> {
    let cache = Cache::open(fleet, false, &[], cancel);
    let alone = match &cache.state {
        Ok(_) => None,
        Err(_) => Some(
            Snapshot::take(&fleet.root, &fleet.flake_ref, &HashMap::new(), cancel)
                .map_err(|reason| anyhow::anyhow!("what {} consists of cannot be told: {reason}", fleet.flake_ref))?,
        ),
    };
    let state = cache.state.as_ref();
    let tree = match (&alone, state) {
        (Some(snapshot), _) => &snapshot.tree,
        (None, Ok(state)) => &state.snapshot.tree,
        (None, Err(reason)) => anyhow::bail!("{reason}"),
    };
    let mut depends = Depends::on(tree);
    let explain = |id: &JobId| {
        let closure = depends.closure(id);
        let verdict = match state {
            Err(reason) => Verdict::Off { reason: reason.clone() },
            Ok(state) => state.verdict(id, depends.digest(id), &closure),
        };
        Explanation { closure, verdict }
    };
    Ok((jobs.iter().map(explain).collect(), tree.entries.len()))
}

impl State {
    fn verdict(&self, id: &JobId, job: Digest, closure: &Closure) -> Verdict {
        let Some(list) = self.remembered.get(id).filter(|list| !list.is_empty()) else { return Verdict::New };
        if list.iter().any(|remembered| remembered.tree == self.tree) {
            return Verdict::Unchanged;
        }
        let key = Some(job_key(self.ambient, job));
        if list.iter().any(|remembered| remembered.job == key) {
            return Verdict::Unconcerned;
        }
        if list.iter().all(|remembered| remembered.job.is_none()) {
            return Verdict::Leaks;
        }
        let now = &self.snapshot.known;
        let differs = |path: &&String| {
            let entry = |known: &HashMap<String, Known>| known.get(*path).map(|known| known.entry);
            entry(now) != entry(&self.before) && (closure.has(path) || closure.is_listed(path) || self.is_matrix(path))
        };
        let all: BTreeSet<&String> = now.keys().chain(self.before.keys()).collect();
        let files: Vec<String> = all.into_iter().filter(differs).cloned().collect();
        if files.is_empty() { Verdict::New } else { Verdict::Changed { files } }
    }

    fn is_matrix(&self, path: &str) -> bool {
        tree::join(&self.snapshot.tree.flake, crate::matrix::FILE).is_some_and(|matrix| matrix == path)
    }
}
