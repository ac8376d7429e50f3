//! What follows `--fleet` in, the fleet out: its root folder, the flake reference that Nix is given, and
//! its matrix.

use std::time::Duration;

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    diagnostic::{lacking, usage},
    matrix::{self, Matrix},
    process::{Cancel, Invocation, on_path},
};

/// A fleet that is fit for evaluation.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// The folder with flake.nix and hosts/, absolute.
    pub root: Utf8PathBuf,
    /// What stands before the `#` of an installable.
    pub flake_ref: String,
    /// Pairs for `--override-input`.
    pub overrides: Vec<(String, String)>,
    pub matrix: Matrix,
}

impl Fleet {
    /// Opens the fleet that `text` names: a folder, `.` for the nearest one at or above the current folder,
    /// or `demo` for the embedded one. `overrides` are pairs, one after the other.
    ///
    /// Errors: exit code 2 where there is no fleet, where its matrix is wrong, or where Git hides part of it
    /// from Nix; 3 where Git is needed and missing.
    pub fn open(text: &str, overrides: &[String]) -> Result<Self> {
        let place = Place::find(text)?;
        let matrix = place.matrix()?;
        if !place.root.join("flake.nix").is_file() {
            return Err(usage(format!(
                "{} has no flake.nix, so Nix cannot evaluate it\n  \
                 The flake of a fleet defines hydraJobs.<host>.iso and hydraJobs.<host>.system for every row of \
                 {}; `nix flake init` starts one from this repository's template.",
                place.root,
                matrix::FILE
            )));
        }
        let flake_ref = place.flake_ref(&matrix)?;
        let pairs = overrides.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
        Ok(Self { root: place.root, flake_ref, overrides: pairs, matrix })
    }
}

/// Where a fleet lies; enough to read its matrix, which needs neither Nix nor Git.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The folder with flake.nix and hosts/, absolute.
    pub root: Utf8PathBuf,
    /// True if Nix is to see the folder as it is on disk, tracked by Git or not.
    as_path: bool,
}

impl Place {
    /// Finds the folder of a fleet by what was typed. Reads the current folder and the place of this program.
    pub fn find(text: &str) -> Result<Self> {
        let here = std::env::current_dir().context("cannot tell the current folder")?;
        let here = Utf8PathBuf::from_path_buf(here)
            .map_err(|dir| usage(format!("the current folder {} is not UTF-8", dir.display())))?;
        Self::locate(text, &here, workspace().as_deref())
    }

    /// Reads the matrix of the fleet.
    pub fn matrix(&self) -> Result<Matrix> {
        Matrix::read(&self.root, &self.shown(matrix::FILE))
    }

    /// A file of the fleet as a person at the current folder would name it.
    pub fn shown(&self, file: &str) -> Utf8PathBuf {
        let path = self.root.join(file);
        let here = std::env::current_dir().unwrap_or_default();
        path.strip_prefix(&here).map(Utf8Path::to_owned).unwrap_or(path)
    }

    fn locate(text: &str, here: &Utf8Path, workspace: Option<&Utf8Path>) -> Result<Self> {
        let has_matrix = |dir: &&Utf8Path| dir.join(matrix::FILE).is_file();
        if text == "demo" {
            let above = here.ancestors().map(|dir| dir.join("ci/demo")).find(|dir| has_matrix(&dir.as_path()));
            let root = workspace.map(|dir| dir.join("ci/demo")).filter(|dir| has_matrix(&dir.as_path())).or(above);
            let root = root.ok_or_else(|| {
                usage("the embedded fleet ci/demo is not here\n  Run `cargo xtask` inside a clone of the repository.")
            })?;
            return Ok(Self { root, as_path: true });
        }
        if text == "." {
            let root = here.ancestors().find(has_matrix).or(workspace).unwrap_or(here);
            return Ok(Self { root: root.to_owned(), as_path: false });
        }
        let (path, as_path) = match text.strip_prefix("path:") {
            Some(path) => (path, true),
            None => (text, false),
        };
        let dir = here.join(path);
        match dir.canonicalize_utf8() {
            Ok(root) if root.is_dir() => Ok(Self { root, as_path }),
            Ok(file) => {
                Err(usage(format!("--fleet {text}: {file} is a file\n  Name the folder that holds flake.nix.")))
            }
            Err(_) if path.contains(':') => Err(usage(format!(
                "--fleet {text}: a fleet is a folder, because its matrix is read without Nix\n  \
                 Clone the flake first and name the clone."
            ))),
            Err(error) => Err(usage(format!(
                "--fleet {text}: {error}: {dir}\n  Name a folder with flake.nix and {}, or `demo` for the embedded \
                 fleet.",
                matrix::FILE
            ))),
        }
    }

    fn flake_ref(&self, matrix: &Matrix) -> Result<String> {
        let repository = self.root.ancestors().find(|dir| dir.join(".git").exists());
        let (Some(toplevel), false) = (repository, self.as_path) else {
            return Ok(format!("path:{}", percent_encoded(&self.root)));
        };
        tracked(&self.root, matrix)?;
        let sub = self.root.strip_prefix(toplevel).unwrap_or(Utf8Path::new(""));
        let dir = if sub == "" { String::new() } else { format!("?dir={}", percent_encoded(sub)) };
        Ok(format!("git+file://{}{dir}", percent_encoded(toplevel)))
    }
}

/// The workspace of this program: Cargo says it at run time; where the program is started without Cargo,
/// it is where it was compiled, if that is still there.
pub fn workspace() -> Option<Utf8PathBuf> {
    let run = std::env::var("CARGO_MANIFEST_DIR").ok();
    let built = Some(env!("CARGO_MANIFEST_DIR").to_owned());
    let crates = [run, built].into_iter().flatten().map(Utf8PathBuf::from);
    crates.filter_map(|dir| dir.parent().map(Utf8Path::to_owned)).find(|dir| dir.join("xtask/Cargo.toml").is_file())
}

/// The commit that is checked out where the fleet lies, and whether tracked files differ from it. `None` and
/// false outside of Git, before the first commit, and where Git is not installed.
pub fn revision(root: &Utf8Path, cancel: &Cancel) -> (Option<String>, bool) {
    let git = |rest: &[&str]| {
        let argv = ["git", "--no-optional-locks"].iter().chain(rest).copied();
        let asked = Invocation::new(argv).dir(root).timeout(Duration::from_secs(30)).capture(cancel);
        asked.ok().filter(|answer| answer.end.is_success()).map(|answer| answer.stdout.trim().to_owned())
    };
    let Some(revision) = git(&["rev-parse", "HEAD"]) else { return (None, false) };
    let changes = git(&["status", "--porcelain", "--untracked-files=no"]);
    (Some(revision), changes.is_none_or(|text| !text.is_empty()))
}

/// Git flakes hold what Git tracks, nothing else: says which part of a fleet Nix would not see.
fn tracked(root: &Utf8Path, matrix: &Matrix) -> Result<()> {
    if !on_path("git") {
        return Err(lacking(format!(
            "{root} is in a Git repository and `git` is not installed, so Nix cannot read it\n  \
             Install git, or name the fleet as --fleet path:{root} to have it taken as it is on disk."
        )));
    }
    let mut needed = vec!["flake.nix".to_owned(), matrix::FILE.to_owned()];
    needed.extend(matrix.hosts.iter().map(|host| format!("hosts/{}", host.name)));
    let list = Invocation::new(["git", "ls-files", "-z", "--", "flake.nix", "hosts"]).dir(root);
    // A hook sets these for the repository that runs it, which need not be the fleet's.
    let list = list.env_remove("GIT_DIR").env_remove("GIT_WORK_TREE").env_remove("GIT_INDEX_FILE");
    let output = list.timeout(Duration::from_secs(30)).read(&Cancel::default());
    let output = output.with_context(|| format!("Git cannot say what it tracks in {root}"))?;
    let files: Vec<&str> = output.split('\0').collect();
    let hidden: Vec<&String> = needed
        .iter()
        .filter(|path| !files.iter().any(|file| file == path || file.starts_with(&format!("{path}/"))))
        .collect();
    if hidden.is_empty() {
        return Ok(());
    }
    let shown = hidden.iter().map(|path| path.as_str()).collect::<Vec<_>>().join(", ");
    let all = if hidden.iter().any(|path| *path == matrix::FILE) { "hosts" } else { "" };
    let add = if all.is_empty() { hidden.iter().map(|p| p.as_str()).collect::<Vec<_>>().join(" ") } else { all.into() };
    Err(usage(format!(
        "Git does not track {shown}, so the flake does not have it: Nix sees of a Git repository only what is \
         tracked\n  Run `git -C {root} add --intent-to-add {add}`; a commit is not needed."
    )))
}

/// A path as it may stand in the URL of a flake reference (RFC 3986, section 2).
fn percent_encoded(path: &Utf8Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let encode = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    path.as_str().bytes().map(encode).collect()
}
