//! Makes a random fleet whose hosts depend on files in every way that the memory tells apart.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    process::Command,
    time::Duration,
};

use camino::{Utf8Path, Utf8PathBuf};

/// Content and permissions of every file.
type Files = BTreeMap<Utf8PathBuf, (Vec<u8>, u32)>;

/// A fleet in a folder of its own.
pub struct Fleet {
    /// For everything that belongs to the test.
    pub dir: Utf8PathBuf,
    pub root: Utf8PathBuf,
    /// True for a repository, false for a `path:` flake.
    pub git: bool,
    /// States that an edit may return to.
    pub states: Vec<Files>,
    kept: bool,
}

impl Fleet {
    /// `below` is where the fleet lies in its repository.
    pub fn new(git: bool, below: &str, random: &mut Random) -> Self {
        let temporary = Utf8PathBuf::from_path_buf(std::env::temp_dir().canonicalize().unwrap()).unwrap();
        // A name that no other process uses: Nix and Drydock remember what they read by its path.
        let form = format!("{:x}-{git}{}", std::process::id(), below.len());
        let dir = temporary.join(format!("drydock-cache-{form}"));
        let top = dir.join("fleet");
        let root = top.join(below);
        fs::create_dir_all(&root).unwrap();
        let mut fleet = Self { dir, root, git, states: Vec::new(), kept: false };
        fleet.write("lib/build.nix", &BUILD.replace("NONCE", &form).replace("ARCH", std::env::consts::ARCH));
        fleet.write("lib/host.nix", HOST);
        fleet.write("flake.nix", FLAKES[0]);
        fleet.write("README.md", "0\n");
        fleet.write(".gitignore", "result\n.result.new\n");
        for number in 0..3 {
            fleet.write(&format!("modules/m{number}.nix"), &module(number, random));
            fleet.write(&format!("data/d{number}.txt"), "0\n");
        }
        fleet.write("files/run.sh", "#!/bin/sh\n");
        fleet.write("files/deep/conf", "0\n");
        let names: Vec<String> = (0..6).map(|n| format!("h{n}")).collect();
        for (kind, name) in names.iter().enumerate() {
            fleet.write(&format!("hosts/{name}/default.nix"), &host(kind, random));
        }
        fleet.write_rows(&names.into_iter().map(|name| (name, "0".to_owned())).collect(), "t0");
        if git {
            fleet.git(&["init", "--quiet", "--initial-branch=main", top.as_str()]);
            fleet.git(&["add", "--all"]);
            fleet.commit();
        }
        let state = fleet.files();
        fleet.states.push(state);
        fleet
    }

    /// What `--fleet` is given.
    pub fn argument(&self) -> String {
        if self.git { self.root.to_string() } else { format!("path:{}", self.root) }
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(path, text).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap_or_default()
    }

    /// Descriptions by host, and the default one.
    pub fn rows(&self) -> (BTreeMap<String, String>, String) {
        let value = |line: &str| line.rsplit('"').nth(1).unwrap().to_owned();
        let mut rows = BTreeMap::new();
        let (mut defaults, mut name) = (String::new(), String::new());
        for line in self.read("hosts/hosts.toml").lines() {
            if let Some(host) = line.strip_prefix("[host.") {
                name = host.trim_end_matches(']').to_owned();
            } else if line.starts_with("description") {
                rows.insert(name.clone(), value(line));
            } else if line.starts_with("tags") {
                defaults = value(line);
            }
        }
        (rows, defaults)
    }

    pub fn write_rows(&self, rows: &BTreeMap<String, String>, defaults: &str) {
        let arch = std::env::consts::ARCH;
        let mut text = format!(
            "[defaults]\nsystem = \"{arch}-linux\"\nartifacts = [\"system\"]\ntests = []\ntags = [\"{defaults}\"]\n"
        );
        for (name, description) in rows {
            text += &format!("\n[host.{name}]\ndescription = \"{description}\"\n");
        }
        self.write("hosts/hosts.toml", &text);
    }

    /// One of the hosts.
    pub fn host(&self, random: &mut Random) -> String {
        let names: Vec<String> = self.rows().0.into_keys().collect();
        names[random.below(names.len())].clone()
    }

    /// Every file besides Git's own and the results.
    pub fn files(&self) -> Files {
        let mut files = Files::new();
        let mut open = vec![Utf8PathBuf::new()];
        while let Some(folder) = open.pop() {
            for entry in self.root.join(&folder).read_dir_utf8().unwrap() {
                let path = folder.join(entry.unwrap().file_name());
                let full = self.root.join(&path);
                let meta = full.symlink_metadata().unwrap();
                if meta.is_dir() && !["result", ".git", ".result.new"].contains(&path.as_str()) {
                    open.push(path);
                } else if meta.is_file() {
                    files.insert(path, (fs::read(&full).unwrap(), meta.permissions().mode()));
                }
            }
        }
        files
    }

    /// Makes the files what they were.
    pub fn restore(&self, state: &Files) {
        self.remove("data/d2.txt");
        for path in self.files().into_keys().filter(|path| !state.contains_key(path)) {
            fs::remove_file(self.root.join(path)).unwrap();
        }
        for (path, (content, mode)) in state {
            let path = self.root.join(path);
            if fs::read(&path).ok().as_ref() != Some(content) {
                let _ = fs::remove_file(&path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, content).unwrap();
            }
            fs::set_permissions(&path, Permissions::from_mode(*mode)).unwrap();
        }
    }

    /// Removes whatever has this name.
    pub fn remove(&self, path: &str) {
        let path = self.root.join(path);
        let is_folder = path.is_dir() && !path.is_symlink();
        // It may be missing.
        let _ = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
    }

    pub fn git(&self, args: &[&str]) {
        assert!(self.try_git(args), "git {args:?} in {}", self.root);
    }

    pub fn try_git(&self, args: &[&str]) -> bool {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=t", "-c", "user.email=t@localhost"]).args(args).current_dir(&self.root);
        without_git_variables(&mut git).output().unwrap().status.success()
    }

    pub fn commit(&self) {
        self.git(&["commit", "--quiet", "--all", "--allow-empty", "--message=m"]);
    }

    /// Leaves the folder for a person to look at.
    pub fn keep(&mut self) -> &Utf8Path {
        self.kept = true;
        &self.dir
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if !self.kept {
            // A process that a killed run left behind may still be writing; what it leaves is in a temporary folder.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

pub fn without_git_variables(command: &mut Command) -> &mut Command {
    for key in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(key);
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null")
}

/// A small generator of repeatable numbers (Marsaglia's xorshift).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % limit as u64).unwrap()
    }

    /// A time span up to `most`.
    pub fn moment(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.below(1000) as f64 / 1000.0)
    }
}

const BUILD: &str = r#"name: script: derivation {
  name = "${name}-NONCE";
  system = "ARCH-linux";
  builder = "/bin/sh";
  args = [ "-c" script ];
}
"#;

const HOST: &str = r#"{ name, row, directory, stamp }:
{
  system = import directory { inherit name row stamp; build = import ./build.nix; };
}
"#;

/// The flake as it may be written: with hosts kept apart, with `self` in every derivation, with hosts that know of
/// each other, and with the row and the folder read in other ways.
pub const FLAKES: [&str; 6] = [
    r#"{
  outputs = { self }: let
    matrix = builtins.fromTOML (builtins.readFile ./hosts/hosts.toml);
    host = name: row:
      import ./lib/host.nix { inherit name; row = matrix.defaults // row; directory = ./hosts + "/${name}"; stamp = ""; };
  in { hydraJobs = builtins.mapAttrs host matrix.host; };
}
"#,
    r#"{
  outputs = { self }: let
    matrix = builtins.fromTOML (builtins.readFile ./hosts/hosts.toml);
    host = name: row: import ./lib/host.nix {
      inherit name;
      row = matrix.defaults // row;
      directory = ./hosts + "/${name}";
      stamp = self.narHash or self.outPath;
    };
  in { hydraJobs = builtins.mapAttrs host matrix.host; };
}
"#,
    r#"{
  outputs = { self }: let
    matrix = builtins.fromTOML (builtins.readFile ./hosts/hosts.toml);
    host = name: row: import ./lib/host.nix {
      inherit name;
      row = matrix.defaults // row;
      directory = ./hosts + "/${name}";
      stamp = toString (builtins.attrNames matrix.host);
    };
  in { hydraJobs = builtins.mapAttrs host matrix.host; };
}
"#,
    r#"{
  outputs = inputs: let
    matrix = builtins.fromTOML (builtins.readFile ./hosts/hosts.toml);
    folders = builtins.listToAttrs (map (name: { inherit name; value = ./hosts/${name}; }) (builtins.attrNames matrix.host));
    host = name: row: import ./lib/host.nix {
      inherit name;
      row = matrix.defaults // row;
      directory = folders.${name};
      stamp = (builtins.removeAttrs inputs [ "self" ]).none or "";
    };
  in { hydraJobs = builtins.mapAttrs host matrix.host; };
}
"#,
    r#"{
  outputs = { self }: let
    matrix = builtins.fromTOML (builtins.readFile ./hosts/hosts.toml);
    host = name: row: import ./lib/host.nix {
      inherit name;
      row = matrix.defaults // row;
      directory = ./hosts + "/${name}";
      stamp = if self ? rev then "clean" else "changed";
    };
  in { hydraJobs = builtins.mapAttrs host matrix.host; };
}
"#,
    r#"{
  outputs = inputs: let
    matrix = builtins.fromTOML (builtins.readFile ./hosts/hosts.toml);
    host = name: row: import "${inputs.self}/lib/host.nix" {
      inherit name;
      row = matrix.defaults // row;
      directory = inputs.self + "/hosts/${name}";
      stamp = if row.description == "1" then inputs.self.lastModifiedDate else "";
    };
  in { hydraJobs = builtins.mapAttrs host matrix.host; };
}
"#,
];

/// What a host may be made of; the last two do not evaluate and do not build.
pub const KINDS: usize = 19;

pub fn host(kind: usize, random: &mut Random) -> String {
    let number = random.below(3);
    let module = random.below(3);
    let value = match kind {
        0 => "${row.description} ${toString row.tags}".to_owned(),
        1 => format!("${{import ../../modules/m{module}.nix}}"),
        2 => format!("${{builtins.hashString \"sha256\" (builtins.readFile ../../data/d{module}.txt)}}"),
        3 => "${toString (builtins.attrNames (builtins.readDir ../../data))}".to_owned(),
        4 => "${../../files}".to_owned(),
        5 => "${if builtins.pathExists ./extra.nix then import ./extra.nix else \"none\"}".to_owned(),
        6 => "${../../files/run.sh} ${toString (import (../../modules + \"/m0.nix\"))}".to_owned(),
        7 => format!("${{builtins.hashFile \"sha256\" ../../data/d{module}.txt}}"),
        8 => format!("${{builtins.hashString \"md5\" \"${{../../files/deep/conf}}\"}} {number}"),
        9 => format!("${{builtins.readFile (toString ./. + \"/../../data/d{module}.txt\")}}"),
        10 => "${builtins.substring 11 8 (toString ./default.nix)}".to_owned(),
        11 => "${builtins.hashString \"md5\" (baseNameOf ../..)}".to_owned(),
        12 => format!("${{builtins.readFile (../../data/d + \"{module}.txt\")}}"),
        13 => "${builtins.path { path = ../../files; name = \"f\"; filter = p: t: t == \"directory\" || baseNameOf p == \"conf\"; }}".to_owned(),
        14 => "${let readDir = builtins.readFile; in readDir ../../README.md}".to_owned(),
        15 => "${builtins.hashString \"md5\" __curPos.file}".to_owned(),
        16 => "${builtins.head (builtins.match \".*/([a-z]+[.]md)\" (toString ../../README.md))}".to_owned(),
        17 => "${throw \"broken\"}".to_owned(),
        _ => return format!("{{ name, row, stamp, build }}: build name \"echo {number}; exit 1\"\n"),
    };
    format!("{{ name, row, stamp, build }}: build name \"echo {number} '{value}' ${{stamp}} > $out\"\n")
}

pub fn module(number: usize, random: &mut Random) -> String {
    match number {
        0 => format!("\"m{}\"\n", random.below(3)),
        1 => format!("\"m{} ${{import ./m0.nix}}\"\n", random.below(3)),
        _ => format!("builtins.readFile ../data/d{}.txt\n", random.below(3)),
    }
}
