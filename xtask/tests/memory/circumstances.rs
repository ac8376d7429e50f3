//! What besides an edit can part the source that Nix evaluates from the one that is remembered: Git that overlooks a
//! change, settings, inputs, the program `nix` itself, an edit that is undone while a run goes on.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use camino::Utf8PathBuf;

use crate::fleet::without_git_variables;

/// Two hosts: `a` reads motd, `b` reads other.
pub struct Fleet {
    pub top: Utf8PathBuf,
    pub root: Utf8PathBuf,
    git: bool,
    pub env: BTreeMap<&'static str, String>,
    pub args: Vec<String>,
    dir: tempfile::TempDir,
}

const FLAKE: &str = r#"{
  INPUTS
  outputs = { self, ... }@inputs: let
    host = name: file: { system = derivation {
      name = "${name}-NONCE";
      system = "ARCH-linux";
      builder = "/bin/sh";
      value = builtins.readFile file + (inputs.x.word or "") + toString (builtins.langVersion or 0);
      slow = SLOW;
    }; };
  in { hydraJobs = { a = host "a" ./hosts/a/motd; b = host "b" ./hosts/b/motd; }; };
}
"#;

/// Keeps an evaluator busy for some seconds after it has begun.
const SLOW: &str = "builtins.length (builtins.filter (n: n == 0) (builtins.genList (n: n) SECONDS000000))";

impl Fleet {
    pub fn new(git: bool) -> Self {
        Self::with(git, "", "1")
    }

    pub fn with(git: bool, inputs: &str, slow: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let top = Utf8PathBuf::from_path_buf(dir.path().canonicalize().unwrap()).unwrap();
        let root = top.join("fleet");
        let fleet = Self { top, root, git, env: BTreeMap::new(), args: vec![], dir };
        let nonce = fleet.dir.path().file_name().unwrap().to_string_lossy().replace('.', "");
        let arch = std::env::consts::ARCH;
        let flake =
            FLAKE.replace("INPUTS", inputs).replace("NONCE", &nonce).replace("ARCH", arch).replace("SLOW", slow);
        fleet.write("flake.nix", &flake);
        let rows = "[host.a]\ndescription = \"a\"\n[host.b]\ndescription = \"b\"\n";
        fleet.write(
            "hosts/hosts.toml",
            &format!("[defaults]\nsystem = \"{arch}-linux\"\nartifacts = [\"system\"]\n{rows}"),
        );
        for host in ["a", "b"] {
            fleet.write(&format!("hosts/{host}/motd"), "1\n");
        }
        if git {
            fleet.git(&["init", "--quiet", "--initial-branch=main"]);
            fleet.commit();
        }
        fleet
    }

    pub fn write(&self, file: &str, text: &str) {
        let path = self.root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn git(&self, args: &[&str]) {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=t", "-c", "user.email=t@localhost", "-C", self.root.as_str()]).args(args);
        let output = without_git_variables(&mut git).envs(&self.env).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn commit(&self) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--all", "--allow-empty", "--message=m"]);
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_drydock"));
        let fleet = if self.git { self.root.to_string() } else { format!("path:{}", self.root) };
        command.args(["build-all", "--evaluate", "--fleet", &fleet]).args(&self.args).current_dir(&self.top);
        without_git_variables(&mut command).env_remove("CARGO_MANIFEST_DIR").env("CI", "1");
        command.env("XDG_CACHE_HOME", self.top.join("cache")).envs(&self.env);
        command
    }

    pub fn remembered(&self) -> BTreeMap<String, String> {
        let output = self.command().output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let line =
            |line: &str| line.split_once(".system").map(|(host, rest)| (host.to_owned(), rest.trim().to_owned()));
        text.lines().filter_map(line).collect()
    }

    fn plain(&self) -> BTreeMap<String, String> {
        let cache = tempfile::tempdir().unwrap();
        let reference = if self.git { format!("git+file://{}", self.root) } else { format!("path:{}", self.root) };
        let mut nix = Command::new("nix");
        nix.args(["--extra-experimental-features", "nix-command flakes", "eval", "--json", "--no-write-lock-file"]);
        nix.args([&format!("{reference}#hydraJobs"), "--apply", "builtins.mapAttrs (_: host: host.system.drvPath)"]);
        nix.args(&self.args).current_dir(&self.top);
        let output =
            without_git_variables(&mut nix).envs(&self.env).env("XDG_CACHE_HOME", cache.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    #[track_caller]
    pub fn compare(&self, when: &str) -> BTreeMap<String, String> {
        let (remembered, plain) = (self.remembered(), self.plain());
        let drv = |text: &String| text.split_whitespace().last().unwrap_or_default().to_owned();
        let remembered: BTreeMap<_, _> = remembered.iter().map(|(host, text)| (host.clone(), drv(text))).collect();
        assert_eq!(remembered, plain, "{when}");
        plain
    }
}

/// Changes motd without another size or time.
fn edit_unseen(path: &camino::Utf8Path, text: &str) {
    let time = path.metadata().unwrap().modified().unwrap();
    fs::write(path, text).unwrap();
    File::open(path).unwrap().set_modified(time).unwrap();
}

/// Prepares a repository in which Git overlooks a change of hosts/a/motd, and makes that change.
type Overlook = (&'static str, fn(&mut Fleet), &'static str);

const OVERLOOKED: &[Overlook] = &[
    ("text=auto", |f| attributes(f, ".gitattributes", "* text=auto\n"), "1\r\n"),
    ("text", |f| attributes(f, ".gitattributes", "motd text\n"), "1\r\n"),
    ("eol=lf", |f| attributes(f, ".gitattributes", "motd eol=lf\n"), "1\r\n"),
    ("autocrlf", |f| f.git(&["config", "core.autocrlf", "input"]), "1\r\n"),
    (
        "an included setting",
        |f| {
            f.write(".git/more", "[core]\n\tautocrlf = input\n");
            f.git(&["config", "include.path", "more"]);
        },
        "1\r\n",
    ),
    (
        "settings of the person",
        |f| {
            let file = f.top.join("gitconfig");
            fs::write(&file, "[core] autocrlf=input\n").unwrap();
            f.env.insert("GIT_CONFIG_GLOBAL", file.into_string());
        },
        "1\r\n",
    ),
    ("untracked attributes below", |f| f.write("hosts/a/.gitattributes", "motd text=auto\n"), "1\r\n"),
    ("info/attributes", |f| f.write(".git/info/attributes", "motd text\n"), "1\r\n"),
    ("trustctime", |f| f.git(&["config", "core.trustctime", "false"]), "2\n"),
    ("assume-unchanged", |f| f.git(&["update-index", "--assume-unchanged", "hosts/a/motd"]), "2\n"),
    ("skip-worktree", |f| f.git(&["update-index", "--skip-worktree", "hosts/a/motd"]), "2\n"),
    ("nothing", |_| {}, "2\n"),
];

fn attributes(fleet: &mut Fleet, file: &str, text: &str) {
    fleet.write(file, text);
    fleet.commit();
}

#[test]
fn what_git_overlooks_is_evaluated_as_nix_sees_it() {
    for (name, prepare, text) in OVERLOOKED {
        let mut fleet = Fleet::new(true);
        prepare(&mut fleet);
        fleet.compare(&format!("{name}: before"));
        edit_unseen(&fleet.root.join("hosts/a/motd"), text);
        fleet.compare(&format!("{name}: overlooked"));
        // Whether Nix takes the tree for clean or not, it is another answer now.
        fleet.write("hosts/b/motd", "2\n");
        fleet.compare(&format!("{name}: with another change"));
        fleet.write("hosts/b/motd", "1\n");
        fleet.compare(&format!("{name}: without it"));
        fleet.commit();
        fleet.compare(&format!("{name}: committed"));
    }
}

#[test]
fn a_file_mode_that_git_overlooks_is_evaluated_as_nix_sees_it() {
    let fleet = Fleet::new(true);
    fleet.write(
        ".git/config",
        &(fs::read_to_string(fleet.root.join(".git/config")).unwrap() + "[core] filemode=false\n"),
    );
    fleet.compare("before");
    let path = fleet.root.join("hosts/a/motd");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    fleet.compare("another mode");
    fleet.write("hosts/b/motd", "2\n");
    fleet.compare("with another change");
}

#[test]
fn a_linked_worktree_has_the_attributes_of_its_repository() {
    let mut fleet = Fleet::new(true);
    fleet.git(&["worktree", "add", "--quiet", "../linked"]);
    fleet.write(".git/info/attributes", "motd text\n");
    fleet.root = fleet.top.join("linked");
    fleet.compare("before");
    edit_unseen(&fleet.root.join("hosts/a/motd"), "1\r\n");
    fleet.compare("overlooked");
    fleet.write("hosts/b/motd", "2\n");
    fleet.compare("with another change");
}

/// Settings, wherever they stand, are part of what a derivation was evaluated with.
#[test]
fn every_way_to_set_nix_is_heeded() {
    let includes = ["include more", "!include more", "include\tmore", "!include\tmore", "include more # really"];
    for include in includes {
        let mut fleet = Fleet::new(false);
        let conf = fleet.top.join("conf");
        fs::create_dir(&conf).unwrap();
        fs::write(conf.join("nix.conf"), format!("{}{include}\n", own_settings())).unwrap();
        fs::write(conf.join("more"), "max-call-depth = 10000\n").unwrap();
        fleet.env.insert("NIX_CONF_DIR", conf.to_string());
        let said = |fleet: &Fleet| {
            let output = fleet.command().output().unwrap();
            (output.status.success(), String::from_utf8_lossy(&output.stderr).matches(": evaluated in").count())
        };
        // Where Nix does not take such a line, there is nothing to follow.
        if said(&fleet) != (true, 2) {
            continue;
        }
        assert_eq!(said(&fleet), (true, 0), "{include}");
        fs::write(conf.join("more"), "max-call-depth = 9999\n").unwrap();
        let shown = is_followed(&fleet);
        assert_eq!(said(&fleet), (true, if shown { 2 } else { 0 }), "{include}");
    }
}

/// Whether Nix itself follows the line.
fn is_followed(fleet: &Fleet) -> bool {
    let mut nix = Command::new("nix");
    nix.args(["--extra-experimental-features", "nix-command", "config", "show"]).envs(&fleet.env);
    String::from_utf8_lossy(&nix.output().unwrap().stdout).contains("max-call-depth = 9999")
}

/// What this machine's Nix needs to work at all.
fn own_settings() -> String {
    fs::read_to_string("/etc/nix/nix.conf").unwrap_or_default() + "\n"
}

#[test]
fn a_replaced_input_is_read_anew() {
    let x = |word: &str| format!("{{ outputs = _: {{ word = \"{word}\"; }}; }}\n");
    for parameter in ["", "?rev=0123456789012345678901234567890123456789"] {
        let mut fleet = Fleet::with(false, "inputs.x.url = \"path:/nowhere\";", "1");
        let folder = fleet.top.join("x");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("flake.nix"), x("one")).unwrap();
        fleet.args = ["--override-input", "x", &format!("path:{folder}{parameter}")].map(str::to_owned).to_vec();
        let before = fleet.compare("one");
        fs::write(folder.join("flake.nix"), x("two")).unwrap();
        assert_ne!(fleet.compare("two"), before);
    }
}

#[test]
fn a_script_that_is_called_nix_is_asked_every_time() {
    let mut fleet = Fleet::new(false);
    let bin = fleet.top.join("bin");
    fs::create_dir(&bin).unwrap();
    let real = Command::new("sh").args(["-c", "command -v nix"]).output().unwrap();
    let real = String::from_utf8(real.stdout).unwrap();
    fs::write(bin.join("nix"), format!("#!/bin/sh\n. \"$(dirname \"$0\")/settings\"\nexec {} \"$@\"\n", real.trim()))
        .unwrap();
    fs::set_permissions(bin.join("nix"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(bin.join("settings"), "").unwrap();
    fleet.env.insert("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap()));
    let evaluated = |fleet: &Fleet| {
        String::from_utf8_lossy(&fleet.command().output().unwrap().stderr).matches(": evaluated in").count()
    };
    assert_eq!(evaluated(&fleet), 2);
    assert_eq!(evaluated(&fleet), 0);
    fs::write(bin.join("settings"), "NIX_CONFIG='max-call-depth = 9999'; export NIX_CONFIG\n").unwrap();
    assert_eq!(evaluated(&fleet), 2, "the script changed Nix's settings");
}

#[test]
fn settings_are_found_without_a_home_as_nix_finds_them() {
    let mut fleet = Fleet::new(false);
    for home in ["", "/nowhere"] {
        fleet.env.insert("HOME", home.to_owned());
        fleet.compare(home);
        fleet.write("hosts/a/motd", &format!("{home}\n"));
        fleet.compare(home);
    }
}

/// While hosts are evaluated the source is changed and made as it was: what is remembered is of the one or the other.
#[test]
fn an_edit_that_is_undone_during_a_run_leaves_nothing_wrong_behind() {
    type Edit = fn(&Fleet);
    let edits: [(&str, bool, Edit, Edit); 4] = [
        (
            "a folder moved away",
            true,
            |f| fs::rename(f.root.join("hosts/a"), f.top.join("away")).unwrap(),
            |f| fs::rename(f.top.join("away"), f.root.join("hosts/a")).unwrap(),
        ),
        (
            "a file made and removed",
            false,
            |f| f.write("hosts/a/motd.more", "x"),
            |f| fs::remove_file(f.root.join("hosts/a/motd.more")).unwrap(),
        ),
        (
            "a content",
            true,
            |f| edit_unseen(&f.root.join("hosts/a/motd"), "7\n"),
            |f| edit_unseen(&f.root.join("hosts/a/motd"), "1\n"),
        ),
        (
            "a content",
            false,
            |f| edit_unseen(&f.root.join("hosts/a/motd"), "7\n"),
            |f| edit_unseen(&f.root.join("hosts/a/motd"), "1\n"),
        ),
    ];
    for (name, git, edit, undo) in edits {
        let fleet = Fleet::with(git, "", &SLOW.replace("SECONDS", "3"));
        for pause in [0, 40, 300] {
            let began = Instant::now();
            let mut running = fleet.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(pause));
            edit(&fleet);
            std::thread::sleep(Duration::from_millis(300));
            undo(&fleet);
            running.wait().unwrap();
            fleet.compare(&format!("{name}, git {git}, after {pause} ms of {:?}", began.elapsed()));
            // Another content each time, so that there is something to evaluate.
            fleet.write("hosts/b/motd", &format!("{pause}\n"));
        }
    }
}
