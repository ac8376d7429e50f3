//! What earlier runs found out about one fleet, in two files; safe against runs at the same time.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::{
    digest::{Digest, Hasher},
    snapshot::{Known, Stat},
    tree::{Entry, Kind},
};
use crate::{
    job::{Derivation, JobId},
    nix,
};

/// Derivations kept for each job: enough to go back and forth between a few branches.
const MOST: usize = 4;
/// The form of the files; others are ignored.
const VERSION: u32 = 1;
/// How long the files of a fleet that nobody builds are kept.
const KEPT: Duration = Duration::from_secs(90 * 24 * 3600);

/// A derivation and what it was the result of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// Of Nix, its settings and the whole tree with its revision and times.
    pub tree: Digest,
    /// Of Nix, its settings and what the job depends on; none if it holds the source's store path.
    pub job: Option<Digest>,
    pub derivation: Derivation,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct File {
    version: u32,
    jobs: BTreeMap<JobId, Vec<Remembered>>,
}

/// The place where a fleet's files lie.
#[derive(Clone, Debug)]
pub struct Place {
    stem: Utf8PathBuf,
}

impl Place {
    /// Below the user's cache folder (XDG Base Directory Specification), by the fleet's folder and reference.
    pub fn of(root: &Utf8Path, flake_ref: &str) -> Result<Self> {
        let folder = nix::cache_folder().context("neither XDG_CACHE_HOME nor HOME is set")?;
        Ok(Self::within(&folder, root, flake_ref))
    }

    pub fn within(folder: &Utf8Path, root: &Utf8Path, flake_ref: &str) -> Self {
        let name = Hasher::new("fleet").bytes(root.as_str().as_bytes()).bytes(flake_ref.as_bytes()).finish();
        Self { stem: folder.join(name.to_string()) }
    }

    fn jobs(&self) -> Utf8PathBuf {
        self.stem.with_extension("json")
    }

    fn files(&self) -> Utf8PathBuf {
        self.stem.with_extension("files")
    }

    /// What was remembered; nothing, and a word about it, if the file is not what this program wrote.
    pub fn load(&self) -> (BTreeMap<JobId, Vec<Remembered>>, Option<String>) {
        let path = self.jobs();
        let broken =
            |error: &dyn std::fmt::Display| Some(format!("{path} cannot be used and will be written anew: {error}"));
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => (BTreeMap::new(), None),
            Err(error) => (BTreeMap::new(), broken(&error)),
            Ok(bytes) => match serde_json::from_slice::<File>(&bytes) {
                Ok(file) if file.version == VERSION => (file.jobs, None),
                Ok(_) => (BTreeMap::new(), None),
                Err(error) => (BTreeMap::new(), broken(&error)),
            },
        }
    }

    /// Adds to what is remembered by now, which another run may have changed since it was loaded, and drops
    /// the jobs that `keep` does not know any more.
    pub fn add(&self, new: &BTreeMap<JobId, Remembered>, keep: &dyn Fn(&JobId) -> bool) -> Result<()> {
        let folder = self.stem.parent().context("the cache has no folder")?;
        fs::create_dir_all(folder).with_context(|| format!("cannot create {folder}"))?;
        let lock = self.stem.with_extension("lock");
        let lock = fs::File::create(&lock).with_context(|| format!("cannot write {lock}"))?;
        flock(&lock, FlockOperation::LockExclusive).context("cannot lock the cache")?;
        let (mut jobs, _) = self.load();
        jobs.retain(|id, _| keep(id));
        for (id, remembered) in new {
            let list = jobs.entry(id.clone()).or_default();
            list.retain(|old| old.tree != remembered.tree && (old.job.is_none() || old.job != remembered.job));
            list.push(remembered.clone());
            let surplus = list.len().saturating_sub(MOST);
            list.drain(..surplus);
        }
        replace(&self.jobs(), &serde_json::to_vec(&File { version: VERSION, jobs })?)?;
        self.forget_old(folder);
        Ok(())
    }

    /// Files that were read before; those that cannot be understood count as not read.
    pub fn load_files(&self) -> HashMap<String, Known> {
        let text = fs::read_to_string(self.files()).unwrap_or_default();
        text.split('\0').filter_map(parse_known).collect()
    }

    pub fn save_files(&self, known: &HashMap<String, Known>) -> Result<()> {
        let folder = self.stem.parent().context("the cache has no folder")?;
        fs::create_dir_all(folder).with_context(|| format!("cannot create {folder}"))?;
        let mut text = String::with_capacity(known.len() * 160);
        for (path, known) in known {
            let Stat { size, mtime, ctime, inode, mode } = known.stat;
            let kind = match known.entry.kind {
                Kind::File => 'f',
                Kind::Executable => 'x',
                Kind::Symlink => 'l',
                Kind::EmptyFolder => 'd',
                Kind::Other => 'o',
            };
            let settled = u8::from(known.settled);
            let digest = known.entry.digest;
            text.push_str(&format!("{digest} {kind} {settled} {size} {mtime} {ctime} {inode} {mode} {path}\0"));
        }
        replace(&self.files(), text.as_bytes())
    }

    fn forget_old(&self, folder: &Utf8Path) {
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
}

fn parse_known(record: &str) -> Option<(String, Known)> {
    let mut words = record.splitn(9, ' ');
    let digest = words.next()?.parse().ok()?;
    let kind = match words.next()? {
        "f" => Kind::File,
        "x" => Kind::Executable,
        "l" => Kind::Symlink,
        _ => return None,
    };
    let settled = words.next()? == "1";
    let stat = Stat {
        size: words.next()?.parse().ok()?,
        mtime: words.next()?.parse().ok()?,
        ctime: words.next()?.parse().ok()?,
        inode: words.next()?.parse().ok()?,
        mode: words.next()?.parse().ok()?,
    };
    Some((words.next()?.to_owned(), Known { stat, entry: Entry { kind, digest }, settled }))
}

/// Replaces a file as a whole, so that a reader sees the old or the new one.
fn replace(path: &Utf8Path, content: &[u8]) -> Result<()> {
    let new = path.with_extension(format!("new-{}", std::process::id()));
    fs::write(&new, content).with_context(|| format!("cannot write {new}"))?;
    fs::rename(&new, path).with_context(|| format!("cannot replace {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> (Utf8PathBuf, Place) {
        let dir = std::env::temp_dir().join(format!("drydock-store-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let dir = Utf8PathBuf::from_path_buf(dir).unwrap();
        (dir.clone(), Place::within(&dir, Utf8Path::new("/fleet"), "path:/fleet"))
    }

    fn remembered(tree: &str, job: Option<&str>) -> Remembered {
        let derivation = Derivation { drv: format!("/d-{tree}").into(), out: "/o".into(), system: "s".into() };
        Remembered { tree: Digest::of(tree.as_bytes()), job: job.map(|j| Digest::of(j.as_bytes())), derivation }
    }

    #[test]
    fn the_newest_few_are_kept_and_unknown_jobs_dropped() {
        let (dir, place) = place("few");
        let job = |name: &str| JobId::try_from(format!("{name}.iso")).unwrap();
        for n in 0..7 {
            let tree = n.to_string();
            let new = [(job("a"), remembered(&tree, Some(&tree))), (job("b"), remembered(&tree, None))].into();
            place.add(&new, &|_| true).unwrap();
        }
        place.add(&[(job("a"), remembered("8", Some("6")))].into(), &|id| *id == job("a")).unwrap();
        let (jobs, word) = place.load();
        assert_eq!(word, None);
        assert_eq!(jobs.keys().collect::<Vec<_>>(), [&job("a")]);
        let drvs: Vec<_> = jobs[&job("a")].iter().map(|r| r.derivation.drv.as_str()).collect();
        assert_eq!(drvs, ["/d-3", "/d-4", "/d-5", "/d-8"]);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_broken_file_is_named_and_replaced() {
        let (dir, place) = place("broken");
        fs::create_dir_all(&dir).unwrap();
        fs::write(place.jobs(), "{\"version\":1,\"jo").unwrap();
        let (jobs, word) = place.load();
        assert!(jobs.is_empty() && word.unwrap().contains(place.jobs().as_str()));
        let job = JobId::try_from("a.iso".to_owned()).unwrap();
        place.add(&[(job, remembered("1", None))].into(), &|_| true).unwrap();
        assert_eq!(place.load().0.len(), 1);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn files_survive_their_text() {
        let (dir, place) = place("files");
        let stat = Stat { size: 1, mtime: 2, ctime: 3, inode: 4, mode: 5 };
        let entry = Entry { kind: Kind::Executable, digest: Digest::of(b"x") };
        let known = HashMap::from([("a b\nc".to_owned(), Known { stat, entry, settled: true })]);
        place.save_files(&known).unwrap();
        let loaded = place.load_files();
        assert_eq!((loaded.len(), loaded["a b\nc"].stat, loaded["a b\nc"].entry), (1, stat, entry));
        fs::remove_dir_all(dir).unwrap();
    }
}
