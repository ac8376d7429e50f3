//! Makes a throw-away Git repository that holds a small fleet.

use std::{
    fs,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use camino::Utf8PathBuf;
use tempfile::TempDir;

pub struct Repository {
    pub root: Utf8PathBuf,
    _dir: TempDir,
}

impl Repository {
    /// A repository with one committed fleet; the names are its hosts, which all use `shared/text.nix`.
    pub fn new(hosts: &[&str]) -> Self {
        let dir = TempDir::new().unwrap();
        let root = Utf8PathBuf::from_path_buf(dir.path().canonicalize().unwrap()).unwrap();
        let repository = Self { root, _dir: dir };
        let nonce = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let system = format!("{}-linux", std::env::consts::ARCH);
        let mut matrix = format!("[defaults]\nsystem = \"{system}\"\nartifacts = [\"system\"]\ntests = []\n");
        for host in hosts {
            matrix += &format!("\n[host.{host}]\ndescription = \"d\"\n");
            repository
                .write(&format!("hosts/{host}/default.nix"), &format!("\"{host} \" + import ../../shared/text.nix\n"));
        }
        repository.write("hosts/hosts.toml", &matrix);
        repository.write("shared/text.nix", "\"shared\"\n");
        repository.write("flake.nix", &FLAKE.replace("NONCE", &nonce.to_string()).replace("SYSTEM", &system));
        repository.write("README.md", "one\n");
        repository.write("xtask/Cargo.toml", "# Marks the root of the workspace.\n");
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository.commit();
        repository
    }

    pub fn write(&self, file: &str, text: &str) {
        let path = self.root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn commit(&self) {
        self.git(&["add", "--all"]);
        self.git(&["-c", "user.name=n", "-c", "user.email=n@localhost", "commit", "--quiet", "--message=m"]);
    }

    fn git(&self, args: &[&str]) {
        let mut git = Command::new("git");
        git.args(args).current_dir(&self.root).env("GIT_CONFIG_GLOBAL", "/dev/null");
        for key in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
            git.env_remove(key);
        }
        assert!(git.status().unwrap().success(), "git {args:?}");
    }

    /// Runs `cargo xtask` as in this repository: the exit code, stdout and stderr.
    pub fn xtask(&self, args: &[&str]) -> (Option<i32>, String, String) {
        self.xtask_with(&[], args)
    }

    pub fn xtask_with(&self, env: &[(&str, &str)], args: &[&str]) -> (Option<i32>, String, String) {
        let mut xtask = Command::new(env!("CARGO_BIN_EXE_drydock"));
        xtask.args(args).current_dir(&self.root).env("CARGO_MANIFEST_DIR", self.root.join("xtask").as_str());
        for key in ["GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_ACTIONS"] {
            xtask.env_remove(key);
        }
        let output = xtask.env("CI", "1").envs(env.iter().copied()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }
}

const FLAKE: &str = r#"{
  outputs = _: let
    names = builtins.attrNames (builtins.fromTOML (builtins.readFile ./hosts/hosts.toml)).host;
    build = name: host: script: derivation {
      name = "${host}-${name}-NONCE";
      system = "SYSTEM";
      builder = "/bin/sh";
      args = [ "-c" script ];
      text = import (./hosts + "/${host}");
    };
    jobs = host: { system = build "system" host "echo $text > $out"; };
  in { hydraJobs = builtins.listToAttrs (map (name: { inherit name; value = jobs name; }) names); };
}
"#;
