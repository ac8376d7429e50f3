//! Reads a source in the store: what its names are, and what its files hold.

use std::{collections::BTreeMap, fs, io, os::unix::ffi::OsStrExt as _, os::unix::fs::PermissionsExt as _};

use camino::{Utf8Path, Utf8PathBuf};

use super::digest::{Digest, Hasher};

/// A source whose files are read when somebody asks for them. It lies in the store, so it does not change.
#[derive(Debug)]
pub struct Tree {
    root: Utf8PathBuf,
    /// Of every name with its kind, its executable bit and the target of a link: all that evaluation can find out
    /// about a file without opening it.
    pub shape: Digest,
    /// Files that are no folders and no links.
    pub files: usize,
    known: BTreeMap<String, Option<Digest>>,
}

impl Tree {
    /// Lists a source. Errors: it is not on this machine's disk, or one of its names is not UTF-8.
    pub fn list(root: &Utf8Path) -> io::Result<Self> {
        let mut hasher = Hasher::new("shape");
        let mut files = 0;
        put_folder(&mut hasher, root, "", &mut files)?;
        Ok(Self { root: root.to_owned(), shape: hasher.finish(), files, known: BTreeMap::new() })
    }

    /// The digest of a file's content; none if there is no such file.
    pub fn content(&mut self, path: &str) -> Option<Digest> {
        if let Some(known) = self.known.get(path) {
            return *known;
        }
        let digest = fs::read(self.root.join(path)).ok().map(|bytes| Digest::of(&bytes));
        self.known.insert(path.to_owned(), digest);
        digest
    }
}

fn put_folder(hasher: &mut Hasher, root: &Utf8Path, below: &str, files: &mut usize) -> io::Result<()> {
    let mut entries: Vec<_> = root.join(below).read_dir_utf8()?.collect::<io::Result<_>>()?;
    entries.sort_unstable_by(|a, b| a.file_name().cmp(b.file_name()));
    for entry in entries {
        let path =
            if below.is_empty() { entry.file_name().to_owned() } else { format!("{below}/{}", entry.file_name()) };
        let kind = entry.file_type()?;
        hasher.put(path.as_bytes());
        if kind.is_dir() {
            hasher.put(b"folder");
            put_folder(hasher, root, &path, files)?;
            hasher.put(b"end");
        } else if kind.is_symlink() {
            hasher.put(b"link");
            hasher.put(fs::read_link(entry.path())?.as_os_str().as_bytes());
        } else {
            *files += 1;
            let executable = entry.metadata()?.permissions().mode() & 0o100 != 0;
            hasher.put(if executable { b"executable" } else { b"file" });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_shape_is_of_names_and_a_content_of_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(folder.path()).unwrap();
        fs::create_dir(root.join("a")).unwrap();
        fs::write(root.join("a/f"), "1").unwrap();
        symlink("f", root.join("a/l")).unwrap();
        let list = || Tree::list(root).unwrap();
        let mut before = list();
        assert_eq!((before.files, before.content("a/f"), before.content("a/g")), (1, Some(Digest::of(b"1")), None));
        fs::write(root.join("a/f"), "2").unwrap();
        assert_eq!(list().shape, before.shape);
        assert_ne!(list().content("a/f"), before.content("a/f"));
        type Edit = fn(&Utf8Path);
        let edits: [(&str, Edit, Edit); 5] = [
            ("a file more", |r| fs::write(r.join("x"), "").unwrap(), |r| fs::remove_file(r.join("x")).unwrap()),
            ("a folder more", |r| fs::create_dir(r.join("x")).unwrap(), |r| fs::remove_dir(r.join("x")).unwrap()),
            (
                "moved",
                |r| fs::rename(r.join("a/f"), r.join("f")).unwrap(),
                |r| fs::rename(r.join("f"), r.join("a/f")).unwrap(),
            ),
            (
                "executable",
                |r| fs::set_permissions(r.join("a/f"), fs::Permissions::from_mode(0o755)).unwrap(),
                |r| fs::set_permissions(r.join("a/f"), fs::Permissions::from_mode(0o644)).unwrap(),
            ),
            (
                "another target",
                |r| {
                    fs::remove_file(r.join("a/l")).unwrap();
                    symlink("g", r.join("a/l")).unwrap();
                },
                |r| {
                    fs::remove_file(r.join("a/l")).unwrap();
                    symlink("f", r.join("a/l")).unwrap();
                },
            ),
        ];
        for (what, edit, undo) in edits {
            edit(root);
            assert_ne!(list().shape, before.shape, "{what}");
            undo(root);
            assert_eq!(list().shape, before.shape, "{what} undone");
        }
    }
}
