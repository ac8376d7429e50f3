//! `cargo xtask new-host`: adds a row to hosts.toml and a folder of files.

mod folder;

use std::{
    fs,
    io::{self, ErrorKind, Write as _},
};

use anyhow::{Context as _, Result};
use camino::Utf8Path;

use crate::{
    diagnostic::{DONE, as_called, misconfigured, nearest, usage},
    flags::NewHost,
    fleet::{self, FleetFolder},
    job::{Artifact, HostName},
    matrix::{self, Draft, Host, Matrix},
    process::{Cancel, quote},
};

/// A matrix that does not exist yet begins with this.
const FIRST_LINES: &str = "# The matrix: one table a host, and a folder of the same name beside this file.\n";

pub fn run(flags: &NewHost, cancel: &Cancel) -> Result<u8> {
    let name: HostName =
        flags.name.parse().map_err(|rule| usage(format!("`{}` cannot be a host: {rule}", flags.name)))?;
    let place = FleetFolder::find(&flags.fleet)?;
    let file = place.root.join(matrix::FILE);
    let (text, folders) = read(&place, &file)?;
    let folder = format!("hosts/{name}");
    if let Some(taken) = taken(&place.root, &name, &text, &folders) {
        return Err(usage(format!("{taken}\n  Choose another name; `cargo xtask list` shows the hosts.")));
    }
    let like = flags.like.as_deref().map(|like| find(like, &text, &folders)).transpose()?;
    let draft = draft(flags, like.as_ref(), &text);
    let shown = place.shown(matrix::FILE);
    let matrix = draft
        .check(&text, &folders)
        .map_err(|problems| misconfigured(&format!("{shown} (as it would be)"), &draft.append_to(&text), &problems))?;
    let host = matrix.get(name.as_str()).context("a row that was checked is in the matrix")?;
    let files = folder::files(&place.root, &matrix, host, like.as_ref().map(|host| host.name.as_str()))?;
    folder::commit(&place.root, &folder, &files, &file, &draft.append_to(&text))?;
    let untracked = fleet::add_to_git(&place.root, &[matrix::FILE, &folder], cancel);
    let mut text = format!("{shown}: [host.{name}]\n");
    files.iter().for_each(|(path, _)| text += &format!("{}\n", place.shown(&format!("{folder}/{path}"))));
    if let Some(reason) = untracked {
        text += &format!("not added to Git, without which Nix does not see them: {reason}\n");
    }
    let first = place.shown(&format!("{folder}/default.nix"));
    let fleet = if flags.fleet == "." { String::new() } else { format!(" --fleet {}", quote(&flags.fleet)) };
    text += &format!("next: edit {first}, then `cargo xtask check {name}{fleet}`\n");
    io::stdout().lock().write_all(as_called(&text).as_bytes())?;
    Ok(DONE)
}

/// The text of the matrix and the folders beside it; a fleet that has none yet gets its first lines.
fn read(place: &FleetFolder, file: &Utf8Path) -> Result<(String, Vec<String>)> {
    let text = match fs::read(file) {
        Ok(bytes) => String::from_utf8(bytes)
            .map_err(|_| usage(format!("{file} is not UTF-8; save it in that encoding first")))?,
        Err(error) if error.kind() == ErrorKind::NotFound && place.root.join("flake.nix").is_file() => {
            FIRST_LINES.to_owned()
        }
        Err(error) => {
            return Err(usage(format!(
                "cannot read {file}: {error}\n  A fleet is a folder with flake.nix and {}; `nix flake init` starts one \
             from this repository's template.",
                matrix::FILE
            )));
        }
    };
    let folders = match matrix::folders(&place.root.join("hosts")) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        folders => folders.with_context(|| format!("cannot list {}/hosts", place.root))?,
    };
    Ok((text, folders))
}

/// What there is already under that name.
fn taken(root: &Utf8Path, name: &HostName, text: &str, folders: &[String]) -> Option<String> {
    let row = Matrix::parse(text, folders).is_ok_and(|matrix| matrix.get(name.as_str()).is_some());
    let folder = root.join("hosts").join(name.as_str());
    match (row, folder.symlink_metadata().is_ok()) {
        (true, _) => Some(format!("there is a host `{name}` already")),
        (false, true) => Some(format!("{folder} exists already")),
        (false, false) => None,
    }
}

/// The host that another is to be like.
fn find(name: &str, text: &str, folders: &[String]) -> Result<Host> {
    let matrix = Matrix::parse(text, folders).map_err(|problems| misconfigured(matrix::FILE, text, &problems))?;
    matrix.get(name).cloned().ok_or_else(|| {
        let near = nearest(name, matrix.hosts.iter().map(|host| host.name.as_str()));
        usage(format!(
            "--like {name}: there is no such host{}",
            near.map_or(String::new(), |near| format!("; did you mean `{near}`?"))
        ))
    })
}

/// What flags say, else what the row of the host like it says differently from `[defaults]`.
fn draft(flags: &NewHost, like: Option<&Host>, text: &str) -> Draft {
    let defaults = matrix::defaults(text);
    let given = |items: &[String]| (!items.is_empty()).then(|| items.to_vec());
    let words = |items: Vec<&'static str>| items.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let mut draft = Draft {
        name: flags.name.clone(),
        description: flags.description.clone(),
        system: flags.system.clone(),
        artifacts: given(&flags.artifact),
        live: flags.live.clone(),
        tests: given(&flags.test),
        tags: given(&flags.tag),
        checks: None,
    };
    if let Some(like) = like {
        let kept =
            |artifact: &Artifact| flags.artifact.is_empty() || flags.artifact.iter().any(|a| a == artifact.as_str());
        let system = (defaults.system.as_ref() != Some(&like.system)).then(|| like.system.to_string());
        draft.system = draft.system.or(system);
        let artifacts = words(like.artifacts.iter().map(|a| a.as_str()).collect());
        draft.artifacts = draft.artifacts.or(Some(artifacts));
        draft.live = draft.live.or_else(|| like.live.clone().filter(|live| defaults.live.as_ref() != Some(live)));
        let tests = like.tests.iter().filter(|test| test.needs().iter().all(kept));
        draft.tests = draft.tests.or(Some(words(tests.map(|test| test.as_str()).collect())));
        draft.tags = draft.tags.or_else(|| given(&like.tags));
        draft.checks = given(&like.checks).filter(|checks| defaults.checks.as_ref() != Some(checks));
    }
    draft
}
