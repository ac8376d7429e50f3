//! Updates the inputs of a fleet that are repositories of their own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{fs, process::Command};

use camino::Utf8PathBuf;
use tempfile::TempDir;

const FLAKE: &str = r#"{
  inputs.a = { url = "git+file://TOP/a"; flake = false; };
  inputs.b = { url = "git+file://TOP/b"; flake = false; };
  outputs = { self, a, b }: let
    host = name: input: { system = derivation {
      name = "${name}-NONCE"; system = "ARCH-linux"; builder = "/bin/sh"; args = [ "-c" "echo ${import "${input}/value.nix"} > $out" ];
    }; };
  in { hydraJobs = { x = host "x" a; y = host "y" b; }; };
}
"#;

struct World {
    top: Utf8PathBuf,
    _dir: TempDir,
}

impl World {
    /// Two inputs and a fleet with a host for each, everything committed and locked.
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let top = Utf8PathBuf::from_path_buf(dir.path().canonicalize().unwrap()).unwrap();
        let nonce = top.file_name().unwrap().replace('.', "");
        let world = Self { top, _dir: dir };
        for input in ["a", "b"] {
            world.write(&format!("{input}/value.nix"), "\"1\"\n");
            world.git(input, &["init", "--quiet", "--initial-branch=main"]);
            world.commit(input);
        }
        let arch = std::env::consts::ARCH;
        let flake = FLAKE.replace("TOP", world.top.as_str()).replace("NONCE", &nonce).replace("ARCH", arch);
        world.write("fleet/flake.nix", &flake);
        let rows = "[host.x]\ndescription = \"x\"\n[host.y]\ndescription = \"y\"\n";
        world.write(
            "fleet/hosts/hosts.toml",
            &format!("[defaults]\nsystem = \"{arch}-linux\"\nartifacts = [\"system\"]\n{rows}"),
        );
        world.write("fleet/hosts/x/default.nix", "{ }\n");
        world.write("fleet/hosts/y/default.nix", "{ }\n");
        world.git("fleet", &["init", "--quiet", "--initial-branch=main"]);
        world.git("fleet", &["add", "--all"]);
        let mut lock = Command::new("nix");
        lock.args(["--extra-experimental-features", "nix-command flakes", "flake", "lock"]);
        assert!(lock.current_dir(world.top.join("fleet")).status().unwrap().success());
        world.commit("fleet");
        world
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.top.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn git(&self, folder: &str, args: &[&str]) -> String {
        let mut git = Command::new("git");
        git.args(args).current_dir(self.top.join(folder));
        for key in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
            git.env_remove(key);
        }
        let output = self.identify(&mut git).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn identify<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "n").env(format!("GIT_{who}_EMAIL"), "n@localhost");
        }
        command
    }

    fn commit(&self, folder: &str) {
        self.git(folder, &["add", "--all"]);
        self.git(folder, &["commit", "--quiet", "--message=m"]);
    }

    fn lock(&self) -> String {
        fs::read_to_string(self.top.join("fleet/flake.lock")).unwrap()
    }

    /// Runs `cargo xtask update` in the fleet: the exit code, and everything that was printed.
    fn update(&self, args: &[&str]) -> (Option<i32>, String) {
        let mut xtask = Command::new(env!("CARGO_BIN_EXE_drydock"));
        xtask.arg("update").args(args).current_dir(self.top.join("fleet")).env_remove("CARGO_MANIFEST_DIR");
        xtask.env("CI", "1").env("XDG_CACHE_HOME", self.top.join("cache"));
        let output = self.identify(&mut xtask).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    }
}

#[test]
fn an_update_says_what_changes_and_is_committed_with_that() {
    let world = World::new();
    let before = world.lock();
    assert_eq!(world.update(&[]), (Some(0), "every input is up to date\n".to_owned()));
    world.write("a/value.nix", "\"2\"\n");
    world.commit("a");
    let (code, said) = world.update(&["--commit", "--markdown", "out/text.md"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("y against ") && said.contains("unchanged") && said.contains("committed "), "{said}");
    assert_ne!(world.lock(), before);
    let message = world.git("fleet", &["log", "-1", "--format=%B", "--name-only"]);
    assert!(message.starts_with("Update flake inputs\n\n"), "{message}");
    assert!(
        message.contains("x against ") && message.contains("'a'") && message.ends_with("\nflake.lock\n"),
        "{message}"
    );
    let text = fs::read_to_string(world.top.join("fleet/out/text.md")).unwrap();
    assert!(text.contains("### `x`") && text.contains("### `y`\n\n- unchanged"), "{text}");
}

#[test]
fn the_input_that_breaks_a_host_is_named() {
    let world = World::new();
    for (input, value) in [("a", "\"2\"\n"), ("b", "throw \"no more\"\n")] {
        world.write(&format!("{input}/value.nix"), value);
        world.commit(input);
    }
    let (code, said) = world.update(&["--each", "--commit"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("a: updated, 2 jobs evaluated\n"), "{said}");
    assert!(said.contains("b: updated, 1 of 2 jobs do not evaluate\n  y.system: "), "{said}");
    assert!(said.contains("these do not evaluate: y\n  `git restore flake.lock`"), "{said}");
    assert_eq!(world.git("fleet", &["log", "--format=%s"]), "m\n", "what is broken is not committed");
    // One input alone can be updated; the other stays.
    world.git("fleet", &["restore", "flake.lock"]);
    let (code, said) = world.update(&["a"]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn an_update_that_cannot_be_had_changes_nothing() {
    let world = World::new();
    let before = world.lock();
    let (code, said) = world.update(&["aa"]);
    assert!(code == Some(2) && said.contains("no input `aa`; did you mean `a`?"), "{said}");
    fs::rename(world.top.join("a"), world.top.join("gone")).unwrap();
    let (code, said) = world.update(&[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("could not be updated") && said.contains("flake.lock is as it was"), "{said}");
    assert_eq!(world.lock(), before);
}
