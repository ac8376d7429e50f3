//! Synthetic fleets: a number of hosts in, a Git repository with a trivial derivation for each out.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};

use crate::process::{Cancel, Invocation};

/// A repository that measurements may edit.
pub struct Scratch {
    pub root: Utf8PathBuf,
}

impl Scratch {
    /// A fleet of `hosts` hosts in `root`, each with one derivation that a shell builds at once.
    pub fn synthetic(root: Utf8PathBuf, hosts: usize, cancel: &Cancel) -> Result<Self> {
        let mut matrix = "[defaults]\nsystem = \"SYSTEM\"\nartifacts = [\"system\"]\ntests = []\n"
            .replace("SYSTEM", crate::job::System::native().as_str());
        write(&root, "flake.nix", "{ outputs = _: import ./hosts; }\n")?;
        write(&root, "hosts/default.nix", FLEET)?;
        write(&root, "modules/common.nix", "{ greeting = \"0\"; }\n")?;
        write(&root, "README.md", "0\n")?;
        for number in 0..hosts {
            let name = format!("h{number:04}");
            matrix += &format!("\n[host.{name}]\ndescription = \"host {number}\"\n");
            write(&root, &format!("hosts/{name}/default.nix"), &host(number, 0))?;
        }
        write(&root, "hosts/hosts.toml", &matrix)?;
        let scratch = Self { root };
        scratch.commit(cancel)?;
        Ok(scratch)
    }

    /// A copy of the tracked files of another fleet, because measuring edits it.
    pub fn copy(root: Utf8PathBuf, from: &Utf8Path, cancel: &Cancel) -> Result<Self> {
        let list = Invocation::new(["git", "ls-files", "-z"]).dir(from).read(cancel)?;
        for path in list.split_terminator('\0').filter(|path| from.join(path).is_file()) {
            let to = root.join(path);
            fs::create_dir_all(to.parent().context("a file has a folder")?)?;
            fs::copy(from.join(path), &to).with_context(|| format!("cannot copy {path}"))?;
        }
        let scratch = Self { root };
        scratch.commit(cancel)?;
        Ok(scratch)
    }

    /// Another README: what concerns no host.
    pub fn edit_readme(&self, round: usize) -> Result<()> {
        write(&self.root, "README.md", &format!("{round}\n"))
    }

    /// One host of a synthetic fleet changes.
    pub fn edit_host(&self, round: usize) -> Result<()> {
        write(&self.root, "hosts/h0000/default.nix", &host(0, round))
    }

    /// Adds a comment at the end of a host's file: enough for every tool to evaluate it again.
    pub fn comment_host(&self, name: &str, round: usize) -> Result<()> {
        let path = format!("hosts/{name}/default.nix");
        let text = fs::read_to_string(self.root.join(&path)).with_context(|| format!("cannot read {path}"))?;
        let kept = text.lines().filter(|line| !line.starts_with("# round ")).map(|line| format!("{line}\n"));
        write(&self.root, &path, &format!("{}# round {round}\n", kept.collect::<String>()))
    }

    /// Every derivation of a synthetic fleet becomes a new one.
    pub fn edit_all(&self, round: &str) -> Result<()> {
        write(&self.root, "modules/common.nix", &format!("{{ greeting = \"{round}\"; }}\n"))
    }

    pub fn commit(&self, cancel: &Cancel) -> Result<()> {
        let script = "git init -q . && git add -A && git -c user.name=bench -c user.email=bench@localhost commit -qm x \
                      --allow-empty";
        Invocation::new(["sh", "-c", script]).dir(&self.root).timeout(Duration::from_secs(120)).read(cancel).map(drop)
    }
}

fn host(number: usize, round: usize) -> String {
    format!(
        "let common = import ../../modules/common.nix; in {{ text = \"${{common.greeting}} {number} {round}\"; }}\n"
    )
}

fn write(root: &Utf8Path, path: &str, text: &str) -> Result<()> {
    let path = root.join(path);
    fs::create_dir_all(path.parent().context("a file has a folder")?)?;
    fs::write(&path, text).with_context(|| format!("cannot write {path}"))
}

const FLEET: &str = r#"let
  matrix = builtins.fromTOML (builtins.readFile ./hosts.toml);
  job = name: row:
    let
      host = (matrix.defaults or { }) // row // import (./. + "/${name}");
    in
    {
      system = derivation {
        inherit (host) system text;
        name = "bench-${name}";
        builder = "/bin/sh";
        args = [ "-c" "echo $text > $out" ];
      };
    };
in
{ hydraJobs = builtins.mapAttrs job matrix.host; }
"#;
