//! After an edit the remembered derivations are those of plain Nix with an empty cache, in whichever way a host depends on
//! the fleet's source.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    process::Command,
};

use camino::Utf8PathBuf;

use crate::{
    fleet::without_git_variables,
    ways::{
        Edit::{self, Add, Executable, Link, Remove, Write},
        FILES, ROWS,
    },
};

const FLAKE: &str = r#"{
  outputs = { self }: let
    matrix = builtins.fromTOML (builtins.readFile ./hosts/hosts.toml);
    dirOf = name: ./hosts + "/${name}";
    text = value: if builtins.isList value then builtins.concatStringsSep " " (map text value) else if builtins.isInt value then builtins.toJSON value else value;
    host = name: _: { system = derivation {
      name = "${name}-NONCE";
      system = "ARCH-linux";
      builder = "/bin/sh";
      value = text (builtins.scopedImport { inherit self name; dir = dirOf name; } (dirOf name + "/value.nix"));
    }; };
  in { hydraJobs = builtins.mapAttrs host matrix.host; lib.file = ./shared/by-self; };
}
"#;

/// How Nix is given the fleet.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Folder,
    Repository,
    /// In a folder of a larger repository.
    Subfolder,
}

struct Fleet {
    root: Utf8PathBuf,
    form: Form,
    dir: tempfile::TempDir,
}

impl Fleet {
    fn new(form: Form) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let top = Utf8PathBuf::from_path_buf(dir.path().canonicalize().unwrap()).unwrap().join("top");
        let root = if form == Form::Subfolder { top.join("deep/fleet") } else { top.clone() };
        let fleet = Self { root, form, dir };
        let nonce = fleet.dir.path().file_name().unwrap().to_string_lossy().replace('.', "");
        let mut matrix =
            format!("[defaults]\nsystem = \"{0}-linux\"\nartifacts = [\"system\"]\n", std::env::consts::ARCH);
        for (name, value, edit) in ROWS {
            matrix += &format!("\n[host.{name}]\ndescription = \"x\"\n");
            let host = format!("hosts/{name}");
            fleet.write(&format!("{host}/value.nix"), value);
            let edited = match edit {
                Write(file, _) | Add(file) | Remove(file) | Executable(file) => vec![*file],
                Link(file, target) => vec![*file, *target],
            };
            for (file, text) in FILES {
                let begins = file.split(['.', '/', '-']).next().unwrap_or_default();
                if value.contains(begins) || edited.contains(file) {
                    fleet.write(&format!("{host}/{file}"), text);
                }
            }
            if value.contains("link") {
                fleet.write(&format!("{host}/that.txt"), "1");
                symlink("that.txt", fleet.root.join(&host).join("link")).unwrap();
            }
            // What is edited outside of the host's folder.
            if let Write(file, _) = edit
                && file.starts_with("..")
            {
                fleet.write(&format!("{host}/{file}"), "1");
            }
        }
        fleet.write("shared/by-self", "1");
        fleet.write("hosts/hosts.toml", &matrix);
        fleet.write("flake.nix", &FLAKE.replace("NONCE", &nonce).replace("ARCH", std::env::consts::ARCH));
        if form != Form::Folder {
            fs::write(top.join("unrelated"), "1").unwrap();
            fleet.git(&["init", "--quiet", "--initial-branch=main", top.as_str()]);
            fleet.commit();
            // Whether there are changes is something that hosts can see, so there are some from the beginning.
            fs::write(top.join("unrelated"), "changed").unwrap();
        }
        fleet
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn edit(&self, name: &str, edit: &Edit) {
        let path = |file: &str| self.root.join("hosts").join(name).join(file);
        match edit {
            Write(file, text) => self.write(&format!("hosts/{name}/{file}"), text),
            Add(file) => fs::write(path(file), "1").unwrap(),
            Remove(file) => fs::remove_file(path(file)).unwrap(),
            Executable(file) => fs::set_permissions(path(file), fs::Permissions::from_mode(0o755)).unwrap(),
            Link(file, target) => {
                fs::remove_file(path(file)).unwrap();
                symlink(target, path(file)).unwrap();
            }
        }
        if self.form != Form::Folder {
            self.git(&["add", "--all", self.root.as_str()]);
        }
    }

    fn git(&self, args: &[&str]) {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=t", "-c", "user.email=t@localhost", "-C", self.root.as_str()]).args(args);
        let output = without_git_variables(&mut git).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn commit(&self) {
        let top = self.dir.path().join("top");
        self.git(&["-C", top.to_str().unwrap(), "add", "--all"]);
        self.git(&["commit", "--quiet", "--all", "--message=m"]);
    }

    /// What Drydock hands out, with what it remembers, and how many hosts it evaluated for that.
    fn remembered(&self) -> (BTreeMap<String, String>, usize) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_drydock"));
        let fleet = if self.form == Form::Folder { format!("path:{}", self.root) } else { self.root.to_string() };
        command.args(["build-all", "--evaluate", "--fleet", &fleet]).current_dir(self.dir.path());
        command.env_remove("CARGO_MANIFEST_DIR").env("XDG_CACHE_HOME", self.dir.path().join("cache")).env("CI", "1");
        let output = without_git_variables(&mut command).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        let text = String::from_utf8(output.stdout).unwrap();
        let line =
            |line: &str| line.split_once(".system").map(|(host, rest)| (host.to_owned(), rest.trim().to_owned()));
        let derivations: BTreeMap<_, _> = text.lines().filter_map(line).collect();
        assert_eq!(derivations.len(), ROWS.len(), "{text}{stderr}");
        (derivations, stderr.matches(": evaluated in").count())
    }

    /// What plain Nix says, with an empty cache.
    fn plain(&self) -> BTreeMap<String, String> {
        let cache = tempfile::tempdir().unwrap();
        let reference = match self.form {
            Form::Folder => format!("path:{}", self.root),
            Form::Repository => format!("git+file://{}", self.root),
            Form::Subfolder => {
                format!("git+file://{}?dir=deep/fleet", self.dir.path().canonicalize().unwrap().join("top").display())
            }
        };
        let mut nix = Command::new("nix");
        nix.args([
            "--extra-experimental-features",
            "nix-command flakes",
            "eval",
            "--json",
            &format!("{reference}#hydraJobs"),
        ]);
        nix.args(["--apply", "builtins.mapAttrs (_: host: host.system.drvPath)"]).env("XDG_CACHE_HOME", cache.path());
        let output = without_git_variables(&mut nix).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Fails with the rows in which what is remembered is not what plain Nix says.
    fn compare(&self, after: &str, wrong: &mut Vec<String>) -> usize {
        let (remembered, evaluated) = self.remembered();
        for (host, plain) in self.plain() {
            // Of a repository Nix 2.34 tells where it was cloned to, which is nothing of the source.
            let told_otherwise = host == "path-xml" && self.form != Form::Folder;
            if !told_otherwise && !remembered[&host].ends_with(plain.as_str()) {
                wrong.push(format!(
                    "{:?}, after {after}: {host} is {}, plain Nix says {plain}",
                    self.form, remembered[&host]
                ));
            }
        }
        evaluated
    }
}

/// Edits at once: a row that is wrong stays wrong, so it is seen after any of them. Names are edited apart, because every
/// host is evaluated after that.
const AT_ONCE: usize = 8;

fn every_row(form: Form) {
    let fleet = Fleet::new(form);
    let mut wrong = Vec::new();
    assert_eq!(fleet.compare("nothing", &mut wrong), ROWS.len());
    assert_eq!(fleet.compare("nothing again", &mut wrong), 0);
    let (contents, names): (Vec<_>, Vec<_>) = ROWS.iter().partition(|(.., edit)| matches!(edit, Write(..)));
    for edits in contents.chunks(AT_ONCE).chain(names.chunks(AT_ONCE)) {
        edits.iter().for_each(|(name, _, edit)| fleet.edit(name, edit));
        let edited: Vec<&str> = edits.iter().map(|(name, ..)| *name).collect();
        let evaluated = fleet.compare(&format!("edits of {}", edited.join(", ")), &mut wrong);
        if matches!(edits[0].2, Write(..)) {
            // Most rows remember less than the source as a whole: otherwise nothing would be shown here.
            assert!(evaluated < ROWS.len() * 2 / 3, "{form:?}: {evaluated} evaluated after edits of {edited:?}");
        }
    }
    if form != Form::Folder {
        fleet.commit();
        fleet.compare("a commit", &mut wrong);
        fs::write(fleet.dir.path().join("top/unrelated"), "2").unwrap();
        fleet.compare("an edit outside", &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_row_in_a_folder_is_as_plain_nix_says() {
    every_row(Form::Folder);
}

#[test]
fn every_row_in_a_repository_is_as_plain_nix_says() {
    every_row(Form::Repository);
}

#[test]
fn every_row_in_a_part_of_a_repository_is_as_plain_nix_says() {
    every_row(Form::Subfolder);
}

/// The first row again, by what a reviewer reads: the host that an edit concerns is named, also without anything
/// remembered, when the state before the edit is evaluated first.
#[test]
fn affected_names_the_host_that_climbs_to_the_edited_file() {
    let fleet = Fleet::new(Form::Repository);
    fleet.commit();
    fleet.edit("climb-text", &Write("../../shared/climb-text.txt", "2"));
    let ask = |args: &[&str]| {
        let cache = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_drydock"));
        command.args(args).args(["--base", "HEAD", "--fleet", fleet.root.as_str()]).current_dir(fleet.dir.path());
        command.env_remove("CARGO_MANIFEST_DIR").env("XDG_CACHE_HOME", cache.path()).env("CI", "1");
        let output = without_git_variables(&mut command).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = ask(&["affected"]);
    assert!(text.contains("changed    climb-text  (system)\n"), "{text}");
    let unchanged = text.lines().find(|line| line.starts_with("unchanged")).unwrap_or_default();
    for host in ["climb-module", "folder-copied", "nothing-of-it"] {
        assert!(unchanged.contains(host), "{text}");
    }
    let text = ask(&["diff", "climb-text"]);
    assert!(text.contains("climb-text"), "{text}");
    assert!(!text.contains("unchanged"), "{text}");
}
