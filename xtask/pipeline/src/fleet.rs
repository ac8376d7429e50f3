//! Opens the fleet that follows `--fleet`: its root folder, the flake reference that Nix is given, and its matrix.

mod git;

pub use git::{add as add_to_git, nix_files, revision};

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    diagnostic::usage,
    job::Job,
    matrix::{self, Host, Matrix},
    memory::Subject,
    nix::argv::{Source, percent_encoded},
};

/// A fleet that is fit for evaluation.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// What was typed to name it.
    pub typed: String,
    /// The folder with flake.nix and hosts/, absolute.
    pub root: Utf8PathBuf,
    /// What stands before the `#` of an installable.
    pub flake_ref: String,
    /// Pairs for `--override-input`.
    pub overrides: Vec<(String, String)>,
    pub matrix: Matrix,
    /// The flake reference of the fleet that this is an earlier state of: what is remembered of either serves both.
    pub earlier_of: Option<String>,
}

impl Fleet {
    /// Opens the fleet that `text` names: a folder, `.` for the nearest one at or above the current folder,
    /// or `demo` for the embedded one. `overrides` are pairs, one after the other.
    ///
    /// Errors: exit code 2 where there is no fleet, where its matrix is wrong, or where Git hides part of it
    /// from Nix; 3 where Git is needed and missing.
    pub fn open(text: &str, overrides: &[String]) -> Result<Self> {
        let place = FleetFolder::find(text)?;
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
        Ok(Self { typed: text.to_owned(), root: place.root, flake_ref, overrides: pairs, matrix, earlier_of: None })
    }

    /// The fleet as Nix is to read it.
    pub fn source(&self, allow_ifd: bool) -> Source<'_> {
        Source { flake: &self.flake_ref, overrides: &self.overrides, allow_ifd }
    }

    /// Every artifact and every test of every host.
    pub fn jobs(&self) -> Vec<Job> {
        let of_host = |host: &Host| {
            let system = host.system.clone();
            host.jobs().into_iter().map(move |id| Job { id, system: system.clone() })
        };
        self.matrix.hosts.iter().flat_map(of_host).collect()
    }

    /// The fleet as it is remembered.
    pub fn subject(&self, allow_ifd: bool) -> Subject<'_> {
        let source = self.source(allow_ifd);
        let names = || self.matrix.hosts.iter().map(|host| host.name.to_string()).collect();
        let hosts = self.earlier_of.is_none().then(names);
        Subject { source, known_as: self.earlier_of.as_ref().unwrap_or(&self.flake_ref), hosts }
    }

    /// The same fleet at a commit of its repository, whose files lie in the store, below `root` the fleet's.
    pub fn at_commit(&self, toplevel: &Utf8Path, commit: &str, below: &Utf8Path, root: Utf8PathBuf) -> Result<Self> {
        let matrix = Matrix::read(&root, &root.join(matrix::FILE))?;
        // Both states are read in the same way, so that a path flake and a Git flake are not held against each other.
        let flake_ref = match self.flake_ref.starts_with("path:") {
            true => format!("path:{}", percent_encoded(root.as_str())),
            false => {
                let dir =
                    if *below == "" { String::new() } else { format!("&dir={}", percent_encoded(below.as_str())) };
                format!("git+file://{}?rev={commit}{dir}", percent_encoded(toplevel.as_str()))
            }
        };
        let earlier_of = Some(self.flake_ref.clone());
        let (typed, overrides) = (self.typed.clone(), self.overrides.clone());
        Ok(Self { typed, root, flake_ref, overrides, matrix, earlier_of })
    }

    /// Whether a file that somebody puts into `dir` is part of what Nix reads as the fleet. In a Git work tree it
    /// takes `git add` for that.
    pub fn takes_in(&self, dir: &Utf8Path) -> bool {
        let real = dir.ancestors().find_map(|dir| dir.canonicalize_utf8().ok());
        self.flake_ref.starts_with("path:") && real.is_none_or(|dir| dir.starts_with(&self.root))
    }
}

/// Where a fleet lies; enough to read its matrix, which needs neither Nix nor Git.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetFolder {
    /// The folder with flake.nix and hosts/, absolute.
    pub root: Utf8PathBuf,
    /// True if Nix is to see the folder as it is on disk, tracked by Git or not.
    as_path: bool,
}

impl FleetFolder {
    /// Finds the folder of a fleet by what was typed. Reads the current folder and the place of this program.
    pub fn find(text: &str) -> Result<Self> {
        let here = std::env::current_dir().context("cannot tell the current folder")?;
        let here = Utf8PathBuf::from_path_buf(here)
            .map_err(|dir| usage(format!("the current folder {} is not UTF-8", dir.display())))?;
        Self::locate(text, &here, origin().as_deref())
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

    fn locate(text: &str, here: &Utf8Path, origin: Option<&Utf8Path>) -> Result<Self> {
        // Whatever it is: a fleet further up must not be taken for one whose matrix cannot be read.
        let has_matrix = |dir: &&Utf8Path| dir.join(matrix::FILE).symlink_metadata().is_ok();
        if text == "demo" {
            let above = here.ancestors().map(|dir| dir.join("ci/demo")).find(|dir| has_matrix(&dir.as_path()));
            let root = origin.map(|dir| dir.join("ci/demo")).filter(|dir| has_matrix(&dir.as_path())).or(above);
            let root = root.ok_or_else(|| {
                usage("the embedded fleet ci/demo is not here\n  Run `cargo xtask` inside a clone of the repository.")
            })?;
            return Ok(Self { root, as_path: true }.resolved());
        }
        if text == "." {
            let root = here.ancestors().find(has_matrix).unwrap_or(here);
            return Ok(Self { root: root.to_owned(), as_path: false }.resolved());
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

    /// Without symbolic links, which Nix refuses in the folder of a flake.
    fn resolved(self) -> Self {
        let root = self.root.canonicalize_utf8().unwrap_or(self.root);
        Self { root, ..self }
    }

    fn flake_ref(&self, matrix: &Matrix) -> Result<String> {
        let repository = self.root.ancestors().find(|dir| dir.join(".git").exists());
        let (Some(toplevel), false) = (repository, self.as_path) else {
            return Ok(format!("path:{}", percent_encoded(self.root.as_str())));
        };
        git::sees(&self.root, matrix)?;
        let sub = self.root.strip_prefix(toplevel).unwrap_or(Utf8Path::new(""));
        let dir = if sub == "" { String::new() } else { format!("?dir={}", percent_encoded(sub.as_str())) };
        Ok(format!("git+file://{}{dir}", percent_encoded(toplevel.as_str())))
    }
}

/// The clone of this repository that is worked in: Cargo says it, or the current folder lies in it.
pub fn workspace() -> Option<Utf8PathBuf> {
    let cargo = std::env::var("CARGO_MANIFEST_DIR").ok().map(Utf8PathBuf::from);
    let here = std::env::current_dir().ok().and_then(|dir| Utf8PathBuf::from_path_buf(dir).ok());
    [cargo, here].into_iter().flatten().find_map(|dir| clone_around(&dir))
}

/// Where `target/xtask` is for the files of machines: the clone that is worked in, else the current folder. Absolute.
pub fn work_folder() -> Result<Utf8PathBuf> {
    workspace().map_or_else(|| camino::absolute_utf8(".").context("cannot tell the current folder"), Ok)
}

/// The same as [`workspace`], and where there is none, the clone that this program was compiled in, if that is still there. It is good for
/// what comes with the program, the embedded fleet, and nothing else: another clone may be somebody else's.
pub fn origin() -> Option<Utf8PathBuf> {
    workspace().or_else(|| clone_around(Utf8Path::new(env!("CARGO_MANIFEST_DIR"))))
}

fn clone_around(dir: &Utf8Path) -> Option<Utf8PathBuf> {
    dir.ancestors().find(|dir| dir.join("xtask/Cargo.toml").is_file()).map(Utf8Path::to_owned)
}

#[cfg(test)]
mod tests {
    use xshell::Shell;

    use super::*;
    use crate::files::Temporary;

    /// A tree with a fleet at its root, the embedded one below, and a folder that is no fleet.
    fn tree() -> (Utf8PathBuf, Temporary) {
        let (shell, dir) = (Shell::new().unwrap(), Temporary::new().unwrap());
        let root = dir.to_owned();
        shell.change_dir(&root);
        for file in ["hosts/hosts.toml", "ci/demo/hosts/hosts.toml", "docs/deep/file"] {
            shell.write_file(file, "").unwrap();
        }
        (root, dir)
    }

    #[test]
    fn a_fleet_is_found_from_where_one_is() {
        let (root, _dir) = tree();
        // What is typed, where, the workspace of the program, and the root that is found.
        let rows: &[(&str, &str, Option<&str>, &str)] = &[
            (".", "", None, ""),
            (".", "docs/deep", None, ""),
            (".", "hosts", None, ""),
            (".", "ci/demo/hosts", None, "ci/demo"),
            ("demo", "docs", None, "ci/demo"),
            ("demo", "docs", Some(""), "ci/demo"),
            ("docs", "", None, "docs"),
            ("../ci/demo", "docs", None, "ci/demo"),
            ("path:ci/demo", "", None, "ci/demo"),
        ];
        for (text, here, workspace, expected) in rows {
            let workspace = workspace.map(|dir| root.join(dir));
            let place = FleetFolder::locate(text, &root.join(here), workspace.as_deref()).unwrap();
            assert_eq!(place.root.as_str().trim_end_matches('/'), root.join(expected).as_str().trim_end_matches('/'));
            assert_eq!(place.as_path, *text == "demo" || text.starts_with("path:"), "{text}");
        }
    }

    #[test]
    fn outside_of_any_fleet_the_embedded_one_is_found_and_no_other() {
        let (root, _dir) = tree();
        assert_eq!(FleetFolder::locate(".", "/".into(), Some(&root)).unwrap().root, "/");
        assert_eq!(FleetFolder::locate("demo", "/".into(), Some(&root)).unwrap().root, root.join("ci/demo"));
    }

    #[test]
    fn what_is_no_folder_is_explained() {
        let (root, _dir) = tree();
        let rows = [
            ("nowhere", "No such file or directory"),
            ("docs/deep/file", "is a file"),
            ("github:owner/repo", "Clone the flake first"),
        ];
        for (text, expected) in rows {
            let error = FleetFolder::locate(text, &root, None).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains(text), "{error}");
        }
        let error = FleetFolder::locate("demo", "/".into(), None).unwrap_err().to_string();
        assert!(error.contains("inside a clone"), "{error}");
    }

    #[test]
    fn references_survive_odd_folders() {
        let rows = [("/home/me/fleet", "/home/me/fleet"), ("/a b/#1?&%", "/a%20b/%231%3F%26%25"), ("/é", "/%C3%A9")];
        for (path, expected) in rows {
            assert_eq!(percent_encoded(path), expected);
        }
    }

    #[test]
    fn a_git_work_tree_is_named_by_its_top_and_the_folder_in_it() {
        let (root, _dir) = tree();
        let shell = Shell::new().unwrap();
        let matrix = Matrix { hosts: Vec::new() };
        let at = |folder: &str, as_path| FleetFolder { root: root.join(folder), as_path }.flake_ref(&matrix).unwrap();
        assert_eq!(at("ci/demo", false), format!("path:{root}/ci/demo"));
        shell.change_dir(&root);
        shell.write_file("ci/demo/flake.nix", "").unwrap();
        xshell::cmd!(shell, "git init --quiet").run().expect("this test needs git");
        xshell::cmd!(shell, "git add .").run().unwrap();
        assert_eq!(at("ci/demo", false), format!("git+file://{root}?dir=ci/demo"));
        assert_eq!(at("ci/demo", true), format!("path:{root}/ci/demo"));
    }
}
