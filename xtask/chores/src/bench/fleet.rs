//! Makes the Git repositories that measurements edit: synthetic fleets, or a copy of a real one.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    diagnostic::usage,
    job::Artifact,
    matrix::{self, Matrix},
    process::{Cancel, Invocation},
};

/// A repository that measurements may edit. Every edit is one that has never been before.
pub struct Scratch {
    pub root: Utf8PathBuf,
}

/// How the lines begin that edits add to Nix files.
const COMMENT: &str = "# measured: ";

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
            write(&root, &format!("hosts/{name}/default.nix"), &host(number, "0"))?;
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
        Ok(Self { root })
    }

    /// Makes it a fleet of `hosts` hosts: those that have a live medium and a system, in turn, as often as it
    /// takes. The others leave.
    pub fn multiply(&self, hosts: usize) -> Result<()> {
        let file = self.root.join(matrix::FILE);
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
        let rows = Matrix::read(&self.root, &file)?.hosts;
        let whole = |host: &&matrix::Host| [Artifact::Iso, Artifact::System].iter().all(|a| host.artifacts.contains(a));
        let models: Vec<&str> = rows.iter().filter(whole).map(|host| host.name.as_str()).collect();
        if models.is_empty() {
            return Err(usage("--real-hosts copies hosts that have a live medium and a system, and there is none"));
        }
        let copies = copies(&models, hosts);
        write(&self.root, matrix::FILE, &rewritten(&text, &copies))?;
        let folder = |name: &str| self.root.join("hosts").join(name);
        for (copy, model) in &copies {
            copy_folder(&folder(model), &folder(copy))?;
        }
        for row in rows.iter().filter(|row| !copies.iter().any(|(copy, _)| copy == row.name.as_str())) {
            let folder = folder(row.name.as_str());
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {folder}"))?;
        }
        Ok(())
    }

    /// Another README: what concerns no host.
    pub fn edit_readme(&self) -> Result<()> {
        write(&self.root, "README.md", &format!("{}\n", moment()))
    }

    /// One host of a synthetic fleet changes.
    pub fn edit_host(&self) -> Result<()> {
        write(&self.root, "hosts/h0000/default.nix", &host(0, &moment()))
    }

    /// Adds a comment at the end of a Nix file: enough for every tool to evaluate again what depends on it.
    pub fn comment(&self, path: &str) -> Result<()> {
        let text = fs::read_to_string(self.root.join(path)).with_context(|| format!("cannot read {path}"))?;
        let kept = text.lines().filter(|line| !line.starts_with(COMMENT)).map(|line| format!("{line}\n"));
        write(&self.root, path, &format!("{}{COMMENT}{}\n", kept.collect::<String>(), moment()))
    }

    /// Every derivation of a synthetic fleet becomes a new one, and the tree is clean.
    pub fn edit_all(&self, cancel: &Cancel) -> Result<()> {
        write(&self.root, "modules/common.nix", &format!("{{ greeting = \"{}\"; }}\n", moment()))?;
        self.commit(cancel)
    }

    pub fn commit(&self, cancel: &Cancel) -> Result<()> {
        let script = "git init -q . && git add -A && git -c user.name=bench -c user.email=bench@localhost commit -qm x \
                      --allow-empty";
        Invocation::new(["sh", "-c", script]).dir(&self.root).timeout(Duration::from_secs(120)).read(cancel).map(drop)
    }
}

/// A text that no edit has had before: what an earlier one has built, in whatever fleet of whatever run, is still in the
/// store, and would be there already.
fn moment() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{} s and {} ns", now.as_secs(), now.subsec_nanos())
}

/// The names of `hosts` hosts and the model of each: `a`, `b`, `a-2`, `b-2`, …
fn copies(models: &[&str], hosts: usize) -> Vec<(String, String)> {
    let name = |at: usize, model: &str| match at / models.len() {
        0 => model.to_owned(),
        turn => format!("{model}-{}", turn + 1),
    };
    (0..hosts)
        .map(|at| (at, models[at % models.len()]))
        .map(|(at, model)| (name(at, model), model.to_owned()))
        .collect()
}

/// The matrix with a row for each copy and no other.
fn rewritten(text: &str, copies: &[(String, String)]) -> String {
    let starts: Vec<usize> =
        text.match_indices("[host.").map(|(at, _)| at).filter(|&at| at == 0 || text[..at].ends_with('\n')).collect();
    let mut result = text[..starts.first().copied().unwrap_or(text.len())].to_owned();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let rows: Vec<&str> = starts.iter().zip(ends).map(|(&start, end)| text[start..end].trim_end()).collect();
    for (copy, model) in copies {
        let row = rows.iter().find_map(|row| row.strip_prefix(&format!("[host.{model}]")));
        result += &format!("[host.{copy}]{}\n\n", row.unwrap_or_default());
    }
    result
}

fn copy_folder(from: &Utf8Path, to: &Utf8Path) -> Result<()> {
    if to.exists() {
        return Ok(());
    }
    fs::create_dir_all(to).with_context(|| format!("cannot create {to}"))?;
    for entry in from.read_dir_utf8().with_context(|| format!("cannot list {from}"))? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_folder(entry.path(), &to)?,
            false => fs::copy(entry.path(), &to).map(drop).with_context(|| format!("cannot copy {}", entry.path()))?,
        }
    }
    Ok(())
}

fn host(number: usize, edit: &str) -> String {
    format!("let common = import ../../modules/common.nix; in {{ text = \"${{common.greeting}} {number} {edit}\"; }}\n")
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
  jobs = builtins.mapAttrs job matrix.host;
in
{
  hydraJobs = jobs;
  packages.${matrix.defaults.system} = builtins.mapAttrs (_: host: host.system) jobs;
}
"#;

#[cfg(test)]
mod tests {
    use super::*;

    const MATRIX: &str = "\
[defaults]
system = \"x86_64-linux\"
artifacts = [\"iso\", \"system\"]
live = \"minimal\"
tests = []

[host.big]
description = \"not the text [host.small] in a row\"
tags = [\"x\"]

[host.medium]
description = \"leaves\"
artifacts = [\"iso\"]

[host.small]
description = \"stays\"
";

    #[test]
    fn hosts_are_copied_in_turn_and_the_others_leave() {
        let root = crate::files::Temporary::new().unwrap();
        write(&root, matrix::FILE, MATRIX).unwrap();
        for host in ["big", "medium", "small"] {
            write(&root, &format!("hosts/{host}/default.nix"), "{ }\n").unwrap();
        }
        write(&root, "hosts/big/part/more.nix", "{ }\n").unwrap();
        Scratch { root: root.to_owned() }.multiply(5).unwrap();
        // Reading holds the rows against the folders.
        let read = Matrix::read(&root, matrix::FILE.into()).map(|matrix| matrix.hosts);
        let more = root.join("hosts/big-3/part/more.nix").is_file();
        let rows: Vec<(String, usize)> =
            read.unwrap().iter().map(|host| (host.name.to_string(), host.tags.len())).collect();
        let expected = [("big", 1), ("big-2", 1), ("big-3", 1), ("small", 0), ("small-2", 0)];
        assert_eq!(rows, expected.map(|(name, tags)| (name.to_owned(), tags)));
        assert!(more);
    }
}
