//! Remembers which derivations a fleet was evaluated to, and knows when that still holds.
//!
//! Two keys lead to a remembered derivation. The first is of everything, as Nix tells it; the second is of what was
//! read of the fleet's source when it was evaluated, and survives edits elsewhere. docs/caching.md says why both are
//! sound.

mod digest;
mod store;
mod tree;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use anyhow::Result;
use serde::Serialize;

use self::{
    digest::{Digest, Hasher},
    store::{Cover, Jobs, Remembered, Store},
    tree::Tree,
};
use drydock_model::job::{Derivation, Job, JobId, Reads};
use drydock_nix::{
    nix::{self, Nix, Pinned, argv::Source},
    process::Cancel,
};

/// What is known about a fleet from earlier runs.
pub struct Memory {
    store: Store,
    pinned: Pinned,
    around: Digest,
    /// Of the same, and of which attributes `self` has.
    named: Digest,
    whole: Digest,
    remembered: Jobs,
    /// Hosts that the file need not keep anything about are not in here; none if all are to be kept.
    hosts: Option<BTreeSet<String>>,
    /// What a person should be told besides.
    pub warning: Option<String>,
}

/// What is remembered of.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    pub source: Source<'a>,
    /// The flake reference under which it is remembered: that of the present state for an earlier one, too.
    pub known_as: &'a str,
    /// The hosts that there are, so that others are forgotten; none for an earlier state.
    pub hosts: Option<BTreeSet<String>>,
}

/// A derivation that needs no evaluation.
#[derive(Clone, Debug)]
pub struct Recalled {
    pub derivation: Derivation,
    /// True if its output is valid, so that there is nothing to build either.
    pub present: bool,
    /// What it covers, if something else changed since it was remembered.
    again: Option<Arc<Cover>>,
}

/// What evaluation found out.
pub type Evaluated = BTreeMap<JobId, (Derivation, Reads)>;

impl Memory {
    /// Asks Nix for the fleet's source and for its settings, and reads what is remembered. An error is the reason, for
    /// a person, why nothing can be.
    pub fn open(nix: &Nix, subject: Subject<'_>, cancel: &Cancel) -> Result<Self, String> {
        let Subject { source, known_as, hosts } = subject;
        let folder = nix::cache_folder().ok_or("neither XDG_CACHE_HOME nor HOME is set")?;
        if let Some((input, flake)) = source.overrides.first() {
            return Err(format!("--override-input {input} {flake} may mean something else at any moment"));
        }
        let store = Store::within(&folder, known_as);
        let (pinned, (settings, (remembered, warning))) = rayon::join(
            || Pinned::ask(source, cancel).map_err(|error| format!("{error:#}")),
            || rayon::join(|| nix.settings_text(cancel).map_err(|error| format!("{error:#}")), || store.load()),
        );
        let pinned = pinned?;
        if !pinned.path.is_dir() {
            return Err(format!("the store of Nix is not on this machine's disk: there is no {}", pinned.path));
        }
        let around = around(nix, &settings?, source.allow_ifd, &pinned);
        let names = pinned
            .identity
            .keys()
            .fold(Hasher::new("named").bytes(around.as_bytes()), |hasher, name| hasher.bytes(name.as_bytes()));
        let named = names.finish();
        let identity = serde_json::to_string(&pinned.identity).map_err(|error| error.to_string())?;
        let whole = Hasher::new("whole").bytes(around.as_bytes()).bytes(pinned.nar_hash.as_bytes());
        let whole = whole.bytes(identity.as_bytes()).finish();
        Ok(Self { store, pinned, around, named, whole, remembered, hosts, warning })
    }

    /// The source that the keys are of, and that is to be evaluated.
    pub fn pinned(&self) -> &Pinned {
        &self.pinned
    }

    /// The jobs' derivations as far as they are known and still good for something: the output is valid, or
    /// the derivation is, so that it can be built. One question to the store, however many jobs there are.
    pub fn recall(&self, jobs: &[Job], cancel: &Cancel) -> Result<BTreeMap<JobId, Recalled>> {
        let mut found = self.look_up(jobs.iter().map(|job| &job.id));
        let paths: Vec<&str> =
            found.values().flat_map(|(d, _)| [d.derivation.drv.as_str(), d.derivation.out.as_str()]).collect();
        if paths.is_empty() {
            return Ok(BTreeMap::new());
        }
        let invalid: BTreeSet<String> = Nix::invalid(&paths, cancel)?.into_iter().collect();
        found.retain(|_, (remembered, _)| {
            let Derivation { drv, out, .. } = &remembered.derivation;
            !invalid.contains(drv.as_str()) || !invalid.contains(out.as_str())
        });
        let recalled = found.into_iter().map(|(id, (remembered, again))| {
            let derivation = remembered.derivation.clone();
            let present = !invalid.contains(derivation.out.as_str());
            (id.clone(), Recalled { derivation, present, again })
        });
        Ok(recalled.collect())
    }

    /// Whether the path of the source was part of what the job was last evaluated to.
    pub fn held_path(&self, id: &JobId) -> bool {
        self.remembered.get(id).and_then(|list| list.last()).is_some_and(|remembered| remembered.holds_path)
    }

    fn look_up<'a>(
        &'a self,
        ids: impl Iterator<Item = &'a JobId>,
    ) -> BTreeMap<&'a JobId, (&'a Remembered, Option<Arc<Cover>>)> {
        let mut holding = None;
        let mut found = BTreeMap::new();
        for id in ids {
            let Some(list) = self.remembered.get(id) else { continue };
            if let Some(remembered) = list.iter().rfind(|remembered| remembered.whole == self.whole) {
                found.insert(id, (remembered, None));
                continue;
            }
            let holding = holding.get_or_insert_with(|| Holding::new(self));
            let holds = |remembered: &&Remembered| remembered.cover.as_ref().is_some_and(|cover| holding.covers(cover));
            found.extend(list.iter().rev().find(holds).map(|remembered| (id, (remembered, remembered.cover.clone()))));
        }
        found
    }

    /// Remembers what was evaluated and, of what was recalled, that it holds for the present source as well. Errors:
    /// it cannot be written.
    pub fn learn(&self, evaluated: &Evaluated, recalled: &BTreeMap<JobId, Recalled>) -> Result<()> {
        let mut tree = None;
        let mut new = BTreeMap::new();
        for (id, (derivation, reads)) in evaluated {
            let cover = match reads {
                Reads::Unknown => continue,
                Reads::Whole | Reads::Path => None,
                Reads::Files { files, names_of_self } => {
                    if tree.is_none() {
                        tree = Some(Tree::list(&self.pinned.path)?);
                    }
                    tree.as_mut().and_then(|tree| self.cover(tree, files, *names_of_self)).map(Arc::new)
                }
            };
            let (holds_path, derivation) = (*reads == Reads::Path, derivation.clone());
            new.insert(id.clone(), Remembered { whole: self.whole, cover, holds_path, derivation });
        }
        for (id, Recalled { derivation, again, .. }) in recalled {
            if let Some(cover) = again {
                let (cover, derivation) = (Some(cover.clone()), derivation.clone());
                new.insert(id.clone(), Remembered { whole: self.whole, cover, holds_path: false, derivation });
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        self.store.add(&new, &|id| self.hosts.as_ref().is_none_or(|hosts| hosts.contains(id.host.as_str())))
    }

    /// Whether the cover is of the present inputs, Nix and settings.
    fn is_around(&self, cover: &Cover) -> bool {
        cover.around == self.around || cover.around == self.named
    }

    fn cover(&self, tree: &mut Tree, files: &BTreeSet<String>, names_of_self: bool) -> Option<Cover> {
        let files = files.iter().map(|file| Some((file.clone(), tree.content(file)?))).collect::<Option<_>>()?;
        let around = if names_of_self { self.named } else { self.around };
        Some(Cover { around, shape: tree.shape, files })
    }
}

/// Everything besides the source that a derivation is a function of: Nix and its settings, the inputs as Nix resolved
/// them, where in the source the flake is.
fn around(nix: &Nix, settings: &str, allow_ifd: bool, pinned: &Pinned) -> Digest {
    let store = std::env::var("NIX_STORE_DIR").unwrap_or_default();
    let parts = [nix.said.as_str(), nix.program.as_str(), &store, settings, &pinned.locks, &pinned.dir];
    let mut hasher = Hasher::new("around").bytes(&[u8::from(allow_ifd)]);
    parts.into_iter().for_each(|part| hasher.put(part.as_bytes()));
    hasher.finish()
}

/// Which covers hold for the present source.
struct Holding<'a> {
    memory: &'a Memory,
    /// None where the source cannot be listed.
    tree: Option<Tree>,
    known: HashMap<*const Cover, bool>,
}

impl<'a> Holding<'a> {
    fn new(memory: &'a Memory) -> Self {
        Self { memory, tree: Tree::list(&memory.pinned.path).ok(), known: HashMap::new() }
    }

    fn covers(&mut self, cover: &Arc<Cover>) -> bool {
        let Some(tree) = &mut self.tree else { return false };
        // Jobs of a host share one, which is compared once.
        *self.known.entry(Arc::as_ptr(cover)).or_insert_with(|| {
            self.memory.is_around(cover)
                && cover.shape == tree.shape
                && cover.files.iter().all(|(file, digest)| tree.content(file) == Some(*digest))
        })
    }
}

/// Why a job is evaluated in the next run, or is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum NextRun {
    /// Nothing in the fleet has changed.
    Unchanged,
    /// What changed it did not read.
    Unconcerned,
    /// These files that it read have changed.
    Changed { files: Vec<String> },
    /// A file was added, removed or renamed, or its mode changed.
    Names,
    /// An input, Nix or its settings changed.
    Around,
    /// It depends on the source as a whole, and something in it changed.
    Whole,
    /// It has not been evaluated here as it is now.
    New,
    /// Nothing can be remembered.
    Off { reason: String },
}

/// What the last evaluation of a job read, and what that means for the next run.
#[derive(Clone, Debug)]
pub struct Explanation {
    pub next_run: NextRun,
    /// None where it is not known, or where everything counts.
    pub files: Option<Vec<String>>,
}

/// Explains the jobs of a fleet; the number is that of all files of its source, where that is known.
pub fn explain(nix: &Nix, subject: Subject<'_>, jobs: &[JobId], cancel: &Cancel) -> (Vec<Explanation>, Option<usize>) {
    let memory = match Memory::open(nix, subject, cancel) {
        Ok(memory) => memory,
        Err(reason) => {
            let off = Explanation { next_run: NextRun::Off { reason }, files: None };
            return (vec![off; jobs.len()], None);
        }
    };
    let mut tree = Tree::list(&memory.pinned.path).ok();
    let found = memory.look_up(jobs.iter());
    let explain = |id: &JobId| {
        let last = memory.remembered.get(id).and_then(|list| list.last());
        let remembered = found.get(id).map(|(remembered, _)| *remembered).or(last);
        let cover = remembered.and_then(|remembered| remembered.cover.as_ref());
        let files = cover.map(|cover| cover.files.iter().map(|(file, _)| file.clone()).collect());
        let next_run = match (found.get(id), remembered, cover, &mut tree) {
            (Some((_, None)), ..) => NextRun::Unchanged,
            (Some((_, Some(_))), ..) => NextRun::Unconcerned,
            (None, None, ..) | (.., None) => NextRun::New,
            (None, Some(_), None, _) => NextRun::Whole,
            (None, _, Some(cover), _) if !memory.is_around(cover) => NextRun::Around,
            (None, _, Some(cover), Some(tree)) if cover.shape != tree.shape => NextRun::Names,
            (None, _, Some(cover), Some(tree)) => {
                let changed = cover.files.iter().filter(|(file, digest)| tree.content(file) != Some(*digest));
                NextRun::Changed { files: changed.map(|(file, _)| file.clone()).collect() }
            }
        };
        Explanation { next_run, files }
    };
    let explained = jobs.iter().map(explain).collect();
    (explained, tree.map(|tree| tree.files))
}
