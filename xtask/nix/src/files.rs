//! Makes temporary folders, and replaces files as a whole.

use std::{fs, io::Write as _, ops::Deref, os::unix::fs::PermissionsExt as _};

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use tempfile::TempDir;

/// A folder for this user alone, with a name that nobody can foresee. It is removed when the value is dropped.
#[derive(Debug)]
pub struct Temporary {
    path: Utf8PathBuf,
    _folder: TempDir,
}

impl Temporary {
    /// Makes one where temporary files belong (`TMPDIR`).
    pub fn new() -> Result<Self> {
        let permissions = fs::Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().prefix("drydock-").permissions(permissions).tempdir();
        let folder = folder.context("cannot make a temporary folder")?;
        let path = Utf8Path::from_path(folder.path()).context("the path of the temporary folder is not UTF-8")?;
        let path = path.canonicalize_utf8().with_context(|| format!("cannot find {path}"))?;
        Ok(Self { path, _folder: folder })
    }
}

impl Deref for Temporary {
    type Target = Utf8Path;

    fn deref(&self) -> &Utf8Path {
        &self.path
    }
}

/// Writes a file and the folders above it.
pub fn write(file: &Utf8Path, text: &str) -> Result<()> {
    let folder = file.parent().filter(|dir| !dir.as_str().is_empty());
    folder
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(file, text))
        .with_context(|| format!("cannot write {file}"))
}

/// Hexadecimal, as sha256sum(1) prints it.
pub fn sha256(bytes: &[u8]) -> String {
    hmac_sha256::Hash::hash(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes `file` such that a reader sees the old content or the new one, never a part. Makes the folder above it.
pub fn replace(file: &Utf8Path, content: impl AsRef<[u8]>) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let folder = file.parent().filter(|folder| *folder != "").unwrap_or(Utf8Path::new("."));
        fs::create_dir_all(folder)?;
        // The user's umask applies, as to any other file.
        let permissions = fs::Permissions::from_mode(0o666);
        let mut new = tempfile::Builder::new().prefix(".drydock-").permissions(permissions).tempfile_in(folder)?;
        new.write_all(content.as_ref())?;
        new.persist(file)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {file}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_folder_is_this_users_alone_and_goes_away() {
        let folder = Temporary::new().unwrap();
        let path = folder.to_owned();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(folder.join("file"), "x").unwrap();
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_or_not_at_all() {
        let folder = Temporary::new().unwrap();
        let file = folder.join("a/b/file");
        replace(&file, "one").unwrap();
        replace(&file, "two").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "two");
        assert_eq!(file.parent().unwrap().read_dir_utf8().unwrap().count(), 1, "nothing is left beside it");
        // A folder cannot be replaced by a file, and stays.
        assert!(replace(&folder.join("a"), "x").is_err());
        assert!(file.is_file());
        assert_eq!(folder.read_dir_utf8().unwrap().count(), 1);
    }
}
