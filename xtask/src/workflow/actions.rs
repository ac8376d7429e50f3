//! What the actions of the workflows do, done on this machine: an action's name and inputs in, its effect
//! on the job's folder and on the store of artifacts out.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _};

use anyhow::{Context as _, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use glob::Pattern;

use crate::process::{Cancel, Invocation, on_path};

/// Where actions find the repository and leave artifacts.
#[derive(Clone, Debug)]
pub struct Place {
    /// The repository that `actions/checkout` clones.
    pub repository: Utf8PathBuf,
    /// The commit that it checks out.
    pub commit: String,
    /// One folder an artifact.
    pub artifacts: Utf8PathBuf,
    /// The job's working folder.
    pub workspace: Utf8PathBuf,
}

/// Carries out an action and says in a few words what was done.
pub fn carry_out(uses: &str, with: &BTreeMap<String, String>, place: &Place, cancel: &Cancel) -> Result<String> {
    let Some((action, version)) = uses.split_once('@') else { bail!("`{uses}` names no version") };
    if version.len() != 40 || !version.chars().all(|c| c.is_ascii_hexdigit()) {
        bail!("`{uses}` is not pinned to a commit hash");
    }
    let input = |name: &str| with.get(name).map(String::as_str);
    let needed = |name: &str| input(name).with_context(|| format!("{action} needs the input `{name}`"));
    match action {
        "actions/checkout" => check_out(place, cancel),
        "actions/upload-artifact" => {
            upload(place, needed("name")?, needed("path")?, input("if-no-files-found").unwrap_or("warn"))
        }
        "actions/download-artifact" => download(place, input("name"), input("pattern"), needed("path")?),
        "cachix/install-nix-action" => match on_path("nix") {
            true => Ok("Nix is here".into()),
            false => bail!("{action} is not emulated, and `nix` is not on PATH\n  try: ci/setup"),
        },
        "actions/cache/restore" | "actions/cache/save" | "nix-community/cache-nix-action" => {
            Ok("passed over: caches of this machine are as they are".into())
        }
        _ => bail!("the action {action} is not emulated; add it to workflow/actions.rs or run the workflow on GitHub"),
    }
}

fn check_out(place: &Place, cancel: &Cancel) -> Result<String> {
    let git = |rest: &[&str]| {
        let argv =
            ["git", "-c", "advice.detachedHead=false", "-c", "core.hooksPath=/dev/null"].iter().chain(rest).copied();
        let call = Invocation::new(argv).dir(&place.workspace);
        ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"].into_iter().fold(call, |i, key| i.env_remove(key)).read(cancel)
    };
    git(&["clone", "--quiet", "--no-checkout", place.repository.as_str(), "."])?;
    git(&["checkout", "--quiet", "--detach", &place.commit])?;
    Ok(format!("cloned at {}", &place.commit[..place.commit.len().min(12)]))
}

fn upload(place: &Place, name: &str, path: &str, absent: &str) -> Result<String> {
    // The characters that actions/toolkit rejects, which file systems of some runners cannot hold.
    if name.is_empty() || name.contains(['"', ':', '<', '>', '|', '*', '?', '\r', '\n', '\\', '/']) {
        bail!("the artifact name `{name}` has a character that GitHub rejects");
    }
    let target = place.artifacts.join(name);
    if target.exists() {
        bail!("an artifact `{name}` exists already in this run");
    }
    let whole = place.workspace.join(path.trim_end_matches('/'));
    let mut files = Vec::new();
    if whole.is_dir() {
        list(&whole, &whole, &mut files)?;
    } else {
        for found in glob::glob(whole.as_str()).with_context(|| format!("`{path}` is no pattern"))? {
            let file =
                Utf8PathBuf::from_path_buf(found?).map_err(|p| anyhow::anyhow!("{} is not UTF-8", p.display()))?;
            files.push((file.file_name().unwrap_or_default().into(), file));
        }
    }
    match (files.is_empty(), absent) {
        (true, "error") => bail!("there is no file at {path} for the artifact `{name}`"),
        (true, _) => return Ok(format!("warning: no file at {path} for the artifact `{name}`")),
        (false, _) => {}
    }
    for (inside, file) in &files {
        copy(file, &target.join(inside))?;
    }
    Ok(format!("artifact {name}: {} files", files.len()))
}

fn download(place: &Place, name: Option<&str>, pattern: Option<&str>, path: &str) -> Result<String> {
    let target = place.workspace.join(path);
    let mut names: Vec<String> = Vec::new();
    for entry in place.artifacts.read_dir_utf8().into_iter().flatten() {
        names.push(entry?.file_name().to_owned());
    }
    names.sort();
    if let Some(name) = name {
        if !names.iter().any(|known| known == name) {
            bail!("there is no artifact `{name}` in this run");
        }
        copy_all(&place.artifacts.join(name), &target)?;
        return Ok(format!("artifact {name}"));
    }
    let pattern = Pattern::new(pattern.unwrap_or("*"))?;
    names.retain(|name| pattern.matches(name));
    for name in &names {
        copy_all(&place.artifacts.join(name), &target.join(name))?;
    }
    Ok(format!("{} artifacts", names.len()))
}

fn copy_all(from: &Utf8Path, to: &Utf8Path) -> Result<()> {
    let mut files = Vec::new();
    list(from, from, &mut files)?;
    files.iter().try_for_each(|(inside, file)| copy(file, &to.join(inside)))
}

/// Every file below a folder, with its path inside it; links are followed, as the upload follows them.
fn list(root: &Utf8Path, dir: &Utf8Path, files: &mut Vec<(Utf8PathBuf, Utf8PathBuf)>) -> Result<()> {
    for entry in dir.read_dir_utf8().with_context(|| format!("cannot list {dir}"))? {
        let path = entry?.path().to_owned();
        match path.is_dir() {
            true => list(root, &path, files)?,
            false => files.push((path.strip_prefix(root)?.to_owned(), path)),
        }
    }
    Ok(())
}

/// Copies a file's content; what lies in the store is linked instead, because images are large and the store
/// does not change.
fn copy(from: &Utf8Path, to: &Utf8Path) -> Result<()> {
    let parent = to.parent().unwrap_or(to);
    fs::create_dir_all(parent).with_context(|| format!("cannot create {parent}"))?;
    let real = from.canonicalize_utf8().with_context(|| format!("cannot read {from}"))?;
    if real.starts_with("/nix/store") {
        return std::os::unix::fs::symlink(&real, to).with_context(|| format!("cannot link {to}"));
    }
    fs::copy(&real, to).with_context(|| format!("cannot copy {from} to {to}"))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o644)).with_context(|| format!("cannot write {to}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIN: &str = "0123456789012345678901234567890123456789";

    fn with(rows: &[(&str, &str)]) -> BTreeMap<String, String> {
        rows.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn artifacts_go_from_one_job_to_another() {
        let dir = std::env::temp_dir().join(format!("drydock-artifacts-{}", std::process::id()));
        let dir = Utf8PathBuf::from_path_buf(dir).unwrap();
        let place = |job: &str| Place {
            repository: dir.clone(),
            commit: String::new(),
            artifacts: dir.join("artifacts"),
            workspace: dir.join(job),
        };
        let act = |uses: &str, rows: &[(&str, &str)], job: &str| {
            carry_out(&format!("actions/{uses}@{PIN}"), &with(rows), &place(job), &Cancel::default())
        };
        fs::create_dir_all(dir.join("one/out/deep")).unwrap();
        fs::write(dir.join("one/out/a.json"), "a").unwrap();
        fs::write(dir.join("one/out/deep/b"), "b").unwrap();
        act("upload-artifact", &[("name", "record-x"), ("path", "out/*.json")], "one").unwrap();
        act("upload-artifact", &[("name", "images-x"), ("path", "out/")], "one").unwrap();
        act("download-artifact", &[("pattern", "record-*"), ("path", "in")], "two").unwrap();
        act("download-artifact", &[("name", "images-x"), ("path", "all")], "two").unwrap();
        assert_eq!(fs::read_to_string(dir.join("two/in/record-x/a.json")).unwrap(), "a");
        assert_eq!(fs::read_to_string(dir.join("two/all/deep/b")).unwrap(), "b");
        let missing = [("name", "y"), ("path", "nothing/"), ("if-no-files-found", "error")];
        for (uses, rows) in [
            ("upload-artifact", with(&missing)),
            ("upload-artifact", with(&[("name", "record-x"), ("path", "out/")])),
            ("upload-artifact", with(&[("name", "a/b"), ("path", "out/")])),
            ("download-artifact", with(&[("name", "none"), ("path", "in")])),
            ("no-such-action", with(&[])),
        ] {
            let uses = format!("actions/{uses}@{PIN}");
            assert!(carry_out(&uses, &rows, &place("one"), &Cancel::default()).is_err(), "{uses} {rows:?}");
        }
        assert!(carry_out("actions/checkout@v4", &with(&[]), &place("one"), &Cancel::default()).is_err());
        fs::remove_dir_all(&dir).unwrap();
    }
}
