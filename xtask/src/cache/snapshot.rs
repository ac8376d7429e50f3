//! A folder in, the tree of files that Nix would see in it out, in milliseconds where little has changed.
//!
//! A Git flake consists of what the index lists, with the content that lies in the work tree; a `path:` flake
//! of everything in its folder. Git's own idea of what has changed is not asked: it overlooks files marked
//! `assume-unchanged` and applies filters, and Nix does neither.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use camino::{Utf8Path, Utf8PathBuf};
use rayon::prelude::*;

use super::{
    digest::{Digest, Hasher},
    git,
    tree::{Contents, Entry, Kind, Tree},
};
use crate::process::{Cancel, Invocation};

/// A file whose last change is younger than this when it is read may change again without a trace in its
/// times: the coarsest clock of a file system in use (FAT) ticks every two seconds. Nanoseconds.
const SETTLED: i128 = 2_000_000_000;

/// What the file system says about a file; as long as it stays, so does the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub size: u64,
    /// Nanoseconds since 1970.
    pub mtime: i128,
    /// Nanoseconds since 1970.
    pub ctime: i128,
    pub inode: u64,
    pub mode: u32,
}

/// A file that was read before.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub stat: Stat,
    pub entry: Entry,
    /// False if the file was too young to be taken for unchanged by its times.
    pub settled: bool,
}

/// The tree at one moment.
#[derive(Debug)]
pub struct Snapshot {
    pub tree: Tree,
    /// For the next snapshot of the same folder.
    pub known: HashMap<String, Known>,
    /// Of all times; equal in two snapshots only if nothing was written in between.
    pub moment: Digest,
}

impl Snapshot {
    /// Reads the fleet whose flake.nix is in `root` and which Nix is given as `flake_ref`. An error is the
    /// reason, for a person, why the tree cannot be told.
    pub fn take(
        root: &Utf8Path,
        flake_ref: &str,
        known: &HashMap<String, Known>,
        cancel: &Cancel,
    ) -> Result<Self, String> {
        let (scheme, rest) = flake_ref.split_once(':').unwrap_or_default();
        let parameters = rest.split_once('?').map_or("", |(_, parameters)| parameters);
        if parameters.split('&').any(|parameter| !parameter.is_empty() && !parameter.starts_with("dir=")) {
            return Err(format!("the flake reference {flake_ref} has parameters besides dir"));
        }
        match scheme {
            "path" if parameters.is_empty() => Self::of_folder(root, known),
            "git+file" => Self::of_repository(root, known, cancel),
            _ => Err(format!("what the flake reference {flake_ref} consists of cannot be told from files here")),
        }
    }

    /// True if files had to be read that `before` did not know, or that are gone.
    pub fn reread(&self, before: &HashMap<String, Known>) -> bool {
        let same = |(path, known): (&String, &Known)| {
            before.get(path).is_some_and(|old| old.stat == known.stat && old.settled)
        };
        self.known.len() != before.len() || !self.known.iter().all(same)
    }

    fn of_repository(root: &Utf8Path, known: &HashMap<String, Known>, cancel: &Cancel) -> Result<Self, String> {
        let top = root.ancestors().find(|dir| dir.join(".git").exists()).ok_or("there is no Git repository")?;
        let flake = root.strip_prefix(top).map_err(|error| error.to_string())?.to_string();
        let ask = |arguments: &[&str]| {
            let git = Invocation::new(["git"].iter().chain(arguments).copied()).dir(top);
            let git = git.env_remove("GIT_DIR").env_remove("GIT_WORK_TREE").env_remove("GIT_INDEX_FILE");
            git.timeout(Duration::from_secs(60)).capture(cancel).map_err(|error| format!("{error:#}"))
        };
        let traces = git::traces(top);
        let (head, index) = rayon::join(
            || ask(&["rev-parse", "--verify", "--quiet", "HEAD"]),
            || ask(&["ls-files", "--stage", "-v", "-z"]),
        );
        let (head, index) = (head?, index?);
        if !index.end.is_success() {
            return Err(format!("Git cannot list what it tracks ({}): {}", index.end, index.stderr.trim()));
        }
        let mut paths = Vec::new();
        let mut linked = Vec::new();
        for record in index.stdout.split_terminator('\0') {
            let (about, path) = record.split_once('\t').ok_or("Git lists its index in an unknown form")?;
            match about.contains(" 160000 ") {
                true => linked.push((path.to_owned(), Digest::of(about.as_bytes()))),
                false => paths.push(path.to_owned()),
            }
            if path.contains('\u{fffd}') {
                return Err(format!("the name of {path} is not UTF-8"));
            }
        }
        if !linked.is_empty() && fs::read_to_string(root.join("flake.nix")).is_ok_and(|t| t.contains("submodules")) {
            return Err("flake.nix speaks of submodules, whose files Git does not list here".into());
        }
        // Times and other traces of the repository: what `self` shows, and which blobs Nix reads if it is clean.
        let overlooked = git::overlooks(top, &index.stdout);
        let shown = Hasher::new("git").bytes(head.stdout.as_bytes()).bytes(index.stdout.as_bytes());
        let identity = shown.bytes(&[u8::from(overlooked)]).finish();
        let mut snapshot = Self::of_files(top, flake, paths, known, identity)?;
        snapshot.tree.overlooked = overlooked;
        snapshot.moment = Hasher::new("moment-git").bytes(snapshot.moment.as_bytes()).bytes(traces.as_bytes()).finish();
        let others = linked.into_iter().map(|(path, digest)| (path, Entry { kind: Kind::Other, digest }));
        snapshot.tree.entries.extend(others);
        Ok(snapshot)
    }

    fn of_folder(root: &Utf8Path, known: &HashMap<String, Known>) -> Result<Self, String> {
        let mut paths = Vec::new();
        let mut empty = Vec::new();
        let mut times = Hasher::new("path");
        let mut open = vec![Utf8PathBuf::new()];
        while let Some(folder) = open.pop() {
            let here = root.join(&folder);
            let said = |error: io::Error| format!("{here} cannot be listed: {error}");
            times.put(&here.as_std_path().symlink_metadata().map_err(said)?.mtime().to_le_bytes());
            let mut names = 0;
            for item in here.read_dir_utf8().map_err(said)? {
                let item = item.map_err(|error| format!("{here} cannot be listed: {error}"))?;
                let path = folder.join(item.file_name());
                match item.file_type().map_err(said)?.is_dir() {
                    true => open.push(path),
                    false => paths.push(path.into_string()),
                }
                names += 1;
            }
            if names == 0 && folder != "" {
                empty.push(folder.into_string());
            }
        }
        paths.sort_unstable();
        let mut snapshot = Self::of_files(root, String::new(), paths, known, Digest::of(b""))?;
        let folder = Entry { kind: Kind::EmptyFolder, digest: Digest::of(b"") };
        snapshot.tree.entries.extend(empty.into_iter().map(|path| (path, folder)));
        // A `path:` flake shows the time of its youngest file as `self.lastModified`.
        let times = times.bytes(snapshot.moment.as_bytes()).finish();
        snapshot.tree.identity = times;
        snapshot.moment = times;
        Ok(snapshot)
    }

    fn of_files(
        root: &Utf8Path,
        flake: String,
        paths: Vec<String>,
        known: &HashMap<String, Known>,
        identity: Digest,
    ) -> Result<Self, String> {
        let found: Vec<Option<(String, Known)>> = paths
            .into_par_iter()
            .map(|path| match look(&root.join(&path), known.get(&path)) {
                Ok(known) => Ok(Some((path, known))),
                // Deleted but still in the index: Nix leaves it out.
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    Ok(None)
                }
                Err(error) => Err(format!("{path} cannot be read: {error}")),
            })
            .collect::<Result<_, String>>()?;
        let mut moment = Hasher::new("moment").bytes(identity.as_bytes());
        let mut entries = BTreeMap::new();
        let mut known = HashMap::with_capacity(found.len());
        for (path, file) in found.into_iter().flatten() {
            moment.put(path.as_bytes());
            moment.put(&file.stat.ctime.to_le_bytes());
            moment.put(&file.stat.mtime.to_le_bytes());
            moment.put(&file.stat.inode.to_le_bytes());
            moment.put(file.entry.digest.as_bytes());
            entries.insert(path.clone(), file.entry);
            known.insert(path, file);
        }
        let tree = Tree { entries, flake, identity, contents: Contents::Disk(root.to_owned()), overlooked: false };
        Ok(Self { tree, known, moment: moment.finish() })
    }
}

fn look(path: &Utf8Path, known: Option<&Known>) -> io::Result<Known> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i128);
    let meta = path.symlink_metadata()?;
    let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    let stat = Stat {
        size: meta.size(),
        mtime: nanoseconds(meta.mtime(), meta.mtime_nsec()),
        ctime: nanoseconds(meta.ctime(), meta.ctime_nsec()),
        inode: meta.ino(),
        mode: meta.mode(),
    };
    if let Some(known) = known.filter(|known| known.settled && known.stat == stat) {
        return Ok(*known);
    }
    let (kind, content) = if meta.is_symlink() {
        (Kind::Symlink, fs::read_link(path)?.as_os_str().as_bytes().to_vec())
    } else if meta.is_file() {
        (if meta.mode() & 0o100 == 0 { Kind::File } else { Kind::Executable }, fs::read(path)?)
    } else {
        (Kind::Other, Vec::new())
    };
    let entry = Entry { kind, digest: Digest::of(&content) };
    Ok(Known { stat, entry, settled: stat.ctime.max(stat.mtime) + SETTLED < now })
}

#[cfg(test)]
#[path = "snapshot_test.rs"]
mod tests;
