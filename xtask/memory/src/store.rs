//! Keeps what earlier runs evaluated of one fleet in a file; safe against runs at the same time.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::digest::{Digest, Hasher};
use drydock_model::job::{Derivation, JobId};
use drydock_nix::files;

/// Derivations kept for each job: enough to go back and forth between a few branches.
const MOST: usize = 4;
/// The form of the file, which is part of its name: programs of two forms do not meet.
const VERSION: u32 = 5;
/// How long the file of a fleet that nobody builds is kept.
const KEPT: Duration = Duration::from_secs(90 * 24 * 3600);

/// A derivation and what it was the result of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Of everything: the whole source with its revision, its inputs, Nix and its settings.
    pub whole: Digest,
    /// What of it was read; none if that does not tell.
    pub cover: Option<Arc<Cover>>,
    /// Whether the path of the source is part of the derivation.
    pub holds_path: bool,
    pub derivation: Derivation,
}

/// What an evaluation could find out about a fleet's source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cover {
    /// Of everything besides the source: its inputs, Nix and its settings, and which attributes `self` has if that
    /// counts.
    pub around: Digest,
    /// Of all names in the source.
    pub shape: Digest,
    /// The files that were opened, with digests of their contents.
    pub files: Vec<(String, Digest)>,
}

/// What a file holds, by job.
pub type Jobs = BTreeMap<JobId, Vec<Remembered>>;

/// As [`Remembered`], with the number of its cover.
type Packed = (Digest, Option<usize>, bool, Derivation);

/// The form on disk: a content and a cover that many jobs share is written once.
#[derive(Default, Serialize, Deserialize)]
struct File {
    contents: Vec<(String, Digest)>,
    covers: Vec<(Digest, Digest, Vec<usize>)>,
    jobs: BTreeMap<JobId, Vec<Packed>>,
}

/// The file of one fleet.
#[derive(Clone, Debug)]
pub struct Store {
    file: Utf8PathBuf,
}

impl Store {
    /// The file in `folder` for the fleet that Nix is given as `flake_ref`.
    pub fn within(folder: &Utf8Path, flake_ref: &str) -> Self {
        let name = Hasher::new("fleet").bytes(flake_ref.as_bytes()).finish();
        Self { file: folder.join(format!("{name}-{VERSION}.json")) }
    }

    /// What was remembered; nothing, and a word about it, if the file is not what this program wrote.
    pub fn load(&self) -> (Jobs, Option<String>) {
        let path = &self.file;
        let broken =
            |error: &dyn std::fmt::Display| Some(format!("{path} cannot be used and will be written anew: {error}"));
        match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Jobs::new(), None),
            Err(error) => (Jobs::new(), broken(&error)),
            Ok(bytes) => match serde_json::from_slice::<File>(&bytes) {
                Ok(file) => match unpack(file) {
                    Some(jobs) => (jobs, None),
                    None => (Jobs::new(), broken(&"it refers to what it does not hold")),
                },
                Err(error) => (Jobs::new(), broken(&error)),
            },
        }
    }

    /// Adds to what is remembered by now, which another run may have changed since it was loaded, and drops
    /// the jobs that `keep` does not know any more.
    pub fn add(&self, new: &BTreeMap<JobId, Remembered>, keep: &dyn Fn(&JobId) -> bool) -> Result<()> {
        let folder = self.file.parent().context("the cache has no folder")?;
        fs::create_dir_all(folder).with_context(|| format!("cannot create {folder}"))?;
        let lock = self.file.with_extension("lock");
        let lock = fs::File::create(&lock).with_context(|| format!("cannot write {lock}"))?;
        flock(&lock, FlockOperation::LockExclusive).context("cannot lock the cache")?;
        let (mut jobs, _) = self.load();
        jobs.retain(|id, _| keep(id));
        for (id, remembered) in new {
            let list = jobs.entry(id.clone()).or_default();
            let same_cover = |old: &Remembered| old.cover.is_some() && old.cover == remembered.cover;
            list.retain(|old| old.whole != remembered.whole && !same_cover(old));
            list.push(remembered.clone());
            let surplus = list.len().saturating_sub(MOST);
            list.drain(..surplus);
        }
        files::replace(&self.file, serde_json::to_vec(&pack(&jobs))?)?;
        forget_old(folder);
        Ok(())
    }
}

fn pack(jobs: &Jobs) -> File {
    let mut file = File::default();
    let mut contents: HashMap<(String, Digest), usize> = HashMap::new();
    let mut covers: HashMap<Arc<Cover>, usize> = HashMap::new();
    for (id, list) in jobs {
        let mut packed = Vec::with_capacity(list.len());
        for Remembered { whole, cover, holds_path, derivation } in list {
            let cover = cover.as_ref().map(|cover| {
                *covers.entry(cover.clone()).or_insert_with(|| {
                    let index = |content: &(String, Digest)| {
                        *contents.entry(content.clone()).or_insert_with(|| {
                            file.contents.push(content.clone());
                            file.contents.len() - 1
                        })
                    };
                    let files = cover.files.iter().map(index).collect();
                    file.covers.push((cover.around, cover.shape, files));
                    file.covers.len() - 1
                })
            });
            packed.push((*whole, cover, *holds_path, derivation.clone()));
        }
        file.jobs.insert(id.clone(), packed);
    }
    file
}

fn unpack(file: File) -> Option<Jobs> {
    let File { contents, covers, jobs } = file;
    let cover = |(around, shape, files): (Digest, Digest, Vec<usize>)| {
        let files = files.into_iter().map(|index| contents.get(index).cloned()).collect::<Option<_>>()?;
        Some(Arc::new(Cover { around, shape, files }))
    };
    let covers: Vec<Arc<Cover>> = covers.into_iter().map(cover).collect::<Option<_>>()?;
    let remembered = |(whole, cover, holds_path, derivation): Packed| {
        let cover = cover.map(|index| covers.get(index).cloned().ok_or(())).transpose().ok()?;
        Some(Remembered { whole, cover, holds_path, derivation })
    };
    jobs.into_iter().map(|(id, list)| Some((id, list.into_iter().map(remembered).collect::<Option<_>>()?))).collect()
}

fn forget_old(folder: &Utf8Path) {
    let old = |meta: fs::Metadata| {
        let age = meta.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
        age.is_some_and(|age| age > KEPT)
    };
    for item in folder.read_dir_utf8().into_iter().flatten().flatten() {
        if item.metadata().is_ok_and(old) {
            // Another run may have been quicker, and a file too many does no harm.
            let _ = fs::remove_file(item.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::within(Utf8Path::from_path(dir.path()).unwrap(), "path:/fleet");
        (dir, store)
    }

    fn job(name: &str) -> JobId {
        JobId::try_from(format!("{name}.iso")).unwrap()
    }

    fn remembered(whole: &str, content: Option<&str>) -> Remembered {
        let derivation = Derivation { drv: format!("/d-{whole}").into(), out: "/o".into(), system: "s".into() };
        let digest = Digest::of(b"");
        let files = |content: &str| vec![("f".to_owned(), Digest::of(content.as_bytes())), ("g".into(), digest)];
        let cover = content.map(|content| Arc::new(Cover { around: digest, shape: digest, files: files(content) }));
        Remembered { whole: Digest::of(whole.as_bytes()), cover, holds_path: content.is_none(), derivation }
    }

    #[test]
    fn the_newest_few_are_kept_and_unknown_jobs_dropped() {
        let (_dir, store) = store();
        for n in 0..7 {
            let n = n.to_string();
            let new = [(job("a"), remembered(&n, Some(&n))), (job("b"), remembered(&n, None))].into();
            store.add(&new, &|_| true).unwrap();
        }
        store.add(&[(job("a"), remembered("8", Some("6")))].into(), &|id| *id == job("a")).unwrap();
        let (jobs, word) = store.load();
        assert_eq!(word, None);
        assert_eq!(jobs.keys().collect::<Vec<_>>(), [&job("a")]);
        let drvs: Vec<_> = jobs[&job("a")].iter().map(|r| r.derivation.drv.as_str()).collect();
        assert_eq!(drvs, ["/d-3", "/d-4", "/d-5", "/d-8"]);
        assert_eq!(jobs[&job("a")][3], remembered("8", Some("6")));
    }

    #[test]
    fn what_is_shared_is_written_once() {
        let (_dir, store) = store();
        let new = ["a", "b", "c"].map(|name| (job(name), remembered("1", Some("x")))).into();
        store.add(&new, &|_| true).unwrap();
        let file: File = serde_json::from_slice(&fs::read(&store.file).unwrap()).unwrap();
        assert_eq!((file.contents.len(), file.covers.len(), file.jobs.len()), (2, 1, 3));
        assert_eq!(store.load().0[&job("c")], [remembered("1", Some("x"))]);
    }

    #[test]
    fn a_broken_file_is_named_and_replaced() {
        let (_dir, store) = store();
        let dangling = r#"{"contents":[],"covers":[],"jobs":{"a.iso":[["00000000000000000000000000000000",0,false,{"drv":"/d","out":"/o","system":"s"}]]}}"#;
        for broken in ["{\"contents\":[],\"jo", dangling] {
            fs::write(&store.file, broken).unwrap();
            let (jobs, word) = store.load();
            assert!(jobs.is_empty() && word.unwrap().contains(store.file.as_str()), "{broken}");
        }
        store.add(&[(job("a"), remembered("1", None))].into(), &|_| true).unwrap();
        assert_eq!(store.load().0.len(), 1);
    }
}
