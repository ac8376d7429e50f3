//! Makes throw-away fleets of hosts whose builders do what a test needs, and runs Drydock on them.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use camino::{Utf8Path, Utf8PathBuf};
use tempfile::TempDir;

/// A fleet in a folder of its own that is removed with it.
pub struct Fleet {
    pub root: Utf8PathBuf,
    /// In the name of every derivation, so that no earlier run has built it.
    pub nonce: String,
    _dir: TempDir,
}

impl Fleet {
    /// One host a row; the text is the Nix expression of its system. In scope are `build NAME SCRIPT`, a
    /// derivation whose script is run by the sandbox's shell without any other program, and `shared`.
    pub fn new(hosts: &[(&str, &str)]) -> Self {
        let dir = TempDir::new().unwrap();
        let root = Utf8PathBuf::from_path_buf(dir.path().canonicalize().unwrap()).unwrap();
        let nonce = format!("{:x}", SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos());
        let fleet = Self { root, nonce, _dir: dir };
        fleet.write(hosts);
        fleet
    }

    /// Writes the fleet anew.
    pub fn write(&self, hosts: &[(&str, &str)]) {
        let system = format!("{}-linux", std::env::consts::ARCH);
        let mut matrix = format!("[defaults]\nsystem = \"{system}\"\nartifacts = [\"system\"]\n");
        let mut jobs = String::new();
        let _ = fs::remove_dir_all(self.root.join("hosts"));
        for (name, expression) in hosts {
            matrix += &format!("\n[host.{name}]\ndescription = \"{name}\"\n");
            jobs += &format!("    {name}.system = {expression};\n");
            let folder = self.root.join("hosts").join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("default.nix"), "{ }\n").unwrap();
        }
        let nonce = &self.nonce;
        let flake = format!(
            "{{\n  outputs = {{ self }}: let\n    build = name: script: derivation {{\n      name = \"${{name}}-{nonce}\";\n      \
             system = \"{system}\";\n      builder = \"/bin/sh\";\n      args = [ \"-c\" script ];\n    }};\n    \
             shared = build \"shared\" \"echo a last word; exit 3\";\n  in {{ hydraJobs = {{\n{jobs}  }}; }};\n}}\n"
        );
        fs::write(self.root.join("flake.nix"), flake).unwrap();
        fs::write(self.root.join("hosts/hosts.toml"), matrix).unwrap();
    }

    pub fn path(&self, file: &str) -> Utf8PathBuf {
        self.root.join(file)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_drydock"));
        command.args(args).current_dir(&self.root).env_remove("CARGO_MANIFEST_DIR").env("CI", "1");
        command
    }

    /// Runs `cargo xtask` with these arguments in the fleet's folder.
    pub fn xtask(&self, args: &[&str]) -> Ran {
        Ran::from(self.command(args).output().unwrap())
    }

    /// The same with other environment variables.
    pub fn xtask_with(&self, env: &[(&str, &str)], args: &[&str]) -> Ran {
        Ran::from(self.command(args).envs(env.iter().copied()).output().unwrap())
    }

    pub fn start(&self, args: &[&str]) -> Running {
        Running(self.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Every file and link below the results, with what it holds or points to.
    pub fn results(&self) -> BTreeMap<Utf8PathBuf, String> {
        let mut found = BTreeMap::new();
        let result = self.path("result");
        match result.read_link_utf8() {
            Ok(target) => drop(found.insert(result, target.into_string())),
            Err(_) => walk(&result, &mut found),
        }
        found
    }
}

fn walk(dir: &Utf8Path, found: &mut BTreeMap<Utf8PathBuf, String>) {
    for entry in dir.read_dir_utf8().into_iter().flatten().flatten() {
        let path = entry.path().to_owned();
        if let Ok(target) = path.read_link_utf8() {
            found.insert(path, target.into_string());
        } else if path.is_dir() {
            walk(&path, found);
        } else {
            found.insert(path.clone(), fs::read_to_string(&path).unwrap());
        }
    }
}

/// A run that goes on while the test does, and ends with it even when the test fails.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = Command::new("kill").arg(self.0.id().to_string()).status();
            let _ = self.0.wait();
        }
    }
}

/// What a run came to.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Ran {
    /// Requires an exit code and words on stderr, and shows everything if one is missing.
    #[track_caller]
    pub fn expect(self, code: i32, words: &[&str]) -> Self {
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` is missing in:\n{}\n{}", self.stderr, self.stdout);
        }
        assert_eq!(self.code, Some(code), "{}\n{}", self.stderr, self.stdout);
        self
    }
}

/// Panics unless a link in `folder` is a garbage collector root of a store path.
pub fn assert_is_kept(path: &Path, folder: &Path) {
    let roots = Command::new("nix-store").args(["--query", "--roots"]).arg(path).output().unwrap();
    let said = String::from_utf8(roots.stderr).unwrap();
    assert!(roots.status.success(), "{said}");
    let roots = String::from_utf8(roots.stdout).unwrap();
    // Where Nix keeps the names of roots, for the case that it overlooks one.
    let names = fs::read_dir("/nix/var/nix/gcroots/auto").into_iter().flatten();
    let targets = names.filter_map(|name| fs::read_link(name.ok()?.path()).ok());
    let registered: Vec<_> = targets.filter(|target| target.starts_with(folder)).collect();
    let links: Vec<_> = folder.read_dir().unwrap().map(|link| link.unwrap().path()).collect();
    let text = format!("roots: {roots}\n{said}\nlinks: {links:?}\nregistered: {registered:?}");
    assert!(roots.contains(folder.to_str().unwrap()), "{text}");
}
