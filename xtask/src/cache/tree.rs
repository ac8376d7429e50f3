//! The files that a flake consists of, each with a digest of its content.

use std::{collections::BTreeMap, fs, sync::Arc};

use camino::{Utf8Path, Utf8PathBuf};

use super::digest::{Digest, Hasher};

/// What a name in the tree stands for, as far as evaluation can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Executable,
    Symlink,
    /// Only where it would otherwise not show: folders that hold files exist by them.
    EmptyFolder,
    /// Something a flake cannot contain as content: a submodule, a socket.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub kind: Kind,
    /// Of the content; of the target, for a symbolic link.
    pub digest: Digest,
}

/// Where the contents are read from.
#[derive(Clone, Debug)]
pub enum Contents {
    Disk(Utf8PathBuf),
    /// Held in memory.
    #[cfg_attr(not(test), expect(dead_code, reason = "the property test keeps its repository in memory"))]
    Memory(Arc<BTreeMap<String, Vec<u8>>>),
}

/// The whole source tree that Nix is given.
#[derive(Clone, Debug)]
pub struct Tree {
    /// By path from the root, without a leading `./`.
    pub entries: BTreeMap<String, Entry>,
    /// The folder of flake.nix from the root: empty, or without a trailing `/`.
    pub flake: String,
    /// Everything besides the entries that the flake's `self` tells: revision, times.
    pub identity: Digest,
    pub contents: Contents,
    /// True if Git may call files unchanged that are not. Nix then reads what is in the repository or what is on
    /// disk, depending on its version and on whether any other file has changed.
    pub overlooked: bool,
}

impl Tree {
    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        match &self.contents {
            Contents::Disk(root) => fs::read(root.join(path)).ok(),
            Contents::Memory(files) => files.get(path).cloned(),
        }
    }

    /// All entries at `path` or below it; all of the tree for the empty path.
    pub fn below<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (&'a str, &'a Entry)> {
        let at = self.entries.get_key_value(path);
        let inside = if path.is_empty() { String::new() } else { format!("{path}/") };
        let range = self.entries.range(inside.clone()..);
        let inside = range.take_while(move |(name, _)| name.starts_with(&inside));
        at.into_iter().chain(inside).map(|(name, entry)| (name.as_str(), entry))
    }

    pub fn is_folder(&self, path: &str) -> bool {
        path.is_empty()
            || self.entries.get(path).is_some_and(|entry| entry.kind == Kind::EmptyFolder)
            || self.entries.range(format!("{path}/")..).next().is_some_and(|(n, _)| n.starts_with(&format!("{path}/")))
    }

    /// The first symbolic link, or thing that is no file, on the way to `path`, itself included: what lies
    /// behind it cannot be told from the path.
    pub fn detour<'a>(&self, path: &'a str) -> Option<&'a str> {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        ends.map(|end| &path[..end])
            .find(|part| self.entries.get(*part).is_some_and(|e| matches!(e.kind, Kind::Symlink | Kind::Other)))
    }

    /// Names and kinds directly in the folder `path`, as `builtins.readDir` tells them.
    pub fn listing(&self, path: &str) -> BTreeMap<String, &'static str> {
        let skip = if path.is_empty() { 0 } else { path.len() + 1 };
        let inside = self.below(path).filter(|(name, _)| *name != path);
        inside
            .map(|(name, entry)| match (name[skip..].split_once('/'), entry.kind) {
                (Some((folder, _)), _) => (folder.to_owned(), "folder"),
                (None, Kind::EmptyFolder) => (name[skip..].to_owned(), "folder"),
                (None, Kind::Symlink) => (name[skip..].to_owned(), "symlink"),
                (None, Kind::File | Kind::Executable) => (name[skip..].to_owned(), "file"),
                (None, Kind::Other) => (name[skip..].to_owned(), "other"),
            })
            .collect()
    }

    /// Of every path, kind and content.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new("tree").bytes(self.flake.as_bytes());
        for (path, entry) in &self.entries {
            put_entry(&mut hasher, path, Some(entry));
        }
        hasher.finish()
    }
}

/// Adds an entry, or its absence, to a digest.
pub fn put_entry(hasher: &mut Hasher, path: &str, entry: Option<&Entry>) {
    hasher.put(path.as_bytes());
    match entry {
        Some(entry) => {
            hasher.put(&[entry.kind as u8]);
            hasher.put(entry.digest.as_bytes());
        }
        None => hasher.put(b"absent"),
    }
}

/// Joins a relative path to a folder, both within the tree. `None` if it leaves the tree.
pub fn join(folder: &str, relative: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in relative.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The folder that holds `path`.
pub fn parent(path: &str) -> &str {
    Utf8Path::new(path).parent().map_or("", Utf8Path::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(paths: &[&str]) -> Tree {
        let entry = Entry { kind: Kind::File, digest: Digest::of(b"") };
        let entries = paths.iter().map(|p| ((*p).to_owned(), entry)).collect();
        Tree {
            entries,
            flake: String::new(),
            identity: Digest::of(b""),
            contents: Contents::Disk("/".into()),
            overlooked: false,
        }
    }

    #[test]
    fn paths_stay_in_the_tree() {
        let rows =
            [("a/b", "../c", Some("a/c")), ("", "./.", Some("")), ("a", "../..", None), ("", "x//y/.", Some("x/y"))];
        for (folder, relative, expected) in rows {
            assert_eq!(join(folder, relative).as_deref(), expected, "{folder} {relative}");
        }
        assert_eq!((parent("a/b"), parent("a")), ("a", ""));
    }

    #[test]
    fn what_is_below_a_folder() {
        let tree = tree(&["a", "b-c", "b/x", "b/y/z", "c"]);
        let below = |path| tree.below(path).map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(below("b"), ["b/x", "b/y/z"]);
        assert_eq!(below("a"), ["a"]);
        assert_eq!(below("").len(), 5);
        assert_eq!(tree.listing("b").keys().collect::<Vec<_>>(), ["x", "y"]);
        assert!(tree.is_folder("b/y") && !tree.is_folder("a") && !tree.is_folder("b/"));
    }
}
