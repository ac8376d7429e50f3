//! Makes the files of a new host from a template or another host, and puts them in place together with its row.

use std::{fs, io};

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    diagnostic::usage,
    job::Artifact,
    matrix::{Host, Matrix},
};

/// Where a fleet keeps the files that a new host starts with; `@host@` and `@description@` are replaced.
const TEMPLATE: &str = "templates/host";

/// The files of the new host by their path in its folder, from the host `like` or from the fleet's template.
pub fn files(root: &Utf8Path, matrix: &Matrix, host: &Host, like: Option<&str>) -> Result<Vec<(Utf8PathBuf, String)>> {
    let from = like.map_or_else(|| root.join(TEMPLATE), |like| root.join("hosts").join(like));
    if !from.is_dir() {
        let other =
            matrix.hosts.iter().find(|other| other.name != host.name).map_or("HOST", |other| other.name.as_str());
        return Err(usage(format!(
            "this fleet has no {TEMPLATE}/ that a new host could start from\n  \
             Name a host to copy: --like {other}; or create the folder with a default.nix"
        )));
    }
    let mut files = Vec::new();
    collect(&from, Utf8Path::new(""), &mut files)?;
    files.retain(|(path, _)| match path.as_str() {
        "live.nix" => host.artifacts.contains(&Artifact::Iso),
        "installed.nix" => host.artifacts.contains(&Artifact::System),
        "test.py" => !host.tests.is_empty(),
        _ => true,
    });
    if like.is_none() {
        for (_, text) in &mut files {
            *text = text.replace("@host@", host.name.as_str()).replace("@description@", &host.description);
        }
    }
    Ok(files)
}

fn collect(from: &Utf8Path, below: &Utf8Path, files: &mut Vec<(Utf8PathBuf, String)>) -> Result<()> {
    let folder = from.join(below);
    let mut entries = folder.read_dir_utf8()?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by(|a, b| a.file_name().cmp(b.file_name()));
    for entry in entries {
        let path = below.join(entry.file_name());
        match entry.path().is_dir() {
            true => collect(from, &path, files)?,
            false => {
                let text = fs::read_to_string(entry.path());
                files.push((path, text.with_context(|| format!("cannot copy {}", entry.path()))?));
            }
        }
    }
    Ok(())
}

/// Puts folder and row in place: both, or none. They are written beside their places first, where a full
/// disk or a missing permission shows before anything has changed.
pub fn commit(
    root: &Utf8Path,
    folder: &str,
    files: &[(Utf8PathBuf, String)],
    matrix: &Utf8Path,
    text: &str,
) -> Result<()> {
    let matrix = matrix.canonicalize_utf8().unwrap_or_else(|_| matrix.to_owned());
    let folder = root.join(folder);
    let hidden = format!(".new-host-{}", std::process::id());
    let (staged, row) = (folder.with_file_name(&hidden), matrix.with_file_name(format!("{hidden}.toml")));
    let attempt = || -> Result<()> {
        fs::create_dir_all(&staged)?;
        for (path, text) in files {
            let file = staged.join(path);
            fs::create_dir_all(file.parent().unwrap_or(&staged))?;
            fs::write(file, text)?;
        }
        fs::write(&row, text)?;
        if let Ok(before) = fs::metadata(&matrix) {
            fs::set_permissions(&row, before.permissions())?;
        }
        fs::rename(&staged, &folder)?;
        fs::rename(&row, &matrix).inspect_err(|_| {
            // The row did not come, so the folder goes again.
            let _ = fs::remove_dir_all(&folder);
        })?;
        Ok(())
    };
    attempt()
        .inspect_err(|_| {
            // What may be left is hidden and belongs to nobody.
            let _ = fs::remove_dir_all(&staged);
            let _ = fs::remove_file(&row);
        })
        .with_context(|| format!("cannot write {folder}; nothing was changed"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::files::Temporary;

    fn root() -> Temporary {
        let root = Temporary::new().unwrap();
        fs::create_dir(root.join("hosts")).unwrap();
        root
    }

    fn names(root: &Utf8Path) -> Vec<String> {
        let entries = root.join("hosts").read_dir_utf8().unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().to_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn folder_and_row_come_together() {
        let root = root();
        let matrix = root.join("hosts/hosts.toml");
        fs::write(&matrix, "old").unwrap();
        fs::set_permissions(&matrix, fs::Permissions::from_mode(0o600)).unwrap();
        let files = [("default.nix".into(), "{ }".to_owned()), ("a/b".into(), "c".to_owned())];
        commit(&root, "hosts/web", &files, &matrix, "new").unwrap();
        assert_eq!(names(&root), ["hosts.toml", "web"]);
        assert_eq!(fs::read_to_string(root.join("hosts/web/a/b")).unwrap(), "c");
        assert_eq!(fs::read_to_string(&matrix).unwrap(), "new");
        assert_eq!(fs::metadata(&matrix).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn where_the_row_cannot_come_the_folder_does_not_stay() {
        let root = root();
        let files = [("default.nix".into(), "{ }".to_owned())];
        // The row cannot be written, and then it can be written and not be put in place.
        let error = commit(&root, "hosts/web", &files, &root.join("absent/hosts.toml"), "new").unwrap_err();
        assert!(error.to_string().contains("nothing was changed"), "{error}");
        assert_eq!(names(&root), Vec::<String>::new());
        fs::create_dir_all(root.join("hosts/hosts.toml/in-the-way")).unwrap();
        commit(&root, "hosts/web", &files, &root.join("hosts/hosts.toml"), "new").unwrap_err();
        assert_eq!(names(&root), ["hosts.toml"]);
    }
}
