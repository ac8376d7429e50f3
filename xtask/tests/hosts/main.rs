//! The verbs about a fleet's hosts as a person runs them: `list`, `new-host` and `check`, on fleets that are
//! as good or as wrong as each test needs.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[path = "../build_all/synthetic.rs"]
#[expect(dead_code, reason = "builds and interrupts are the business of the other tests")]
mod synthetic;

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, process::Command};

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;
use synthetic::{Fleet, Ran};

const GOOD: (&str, &str) = ("good", "build \"good\" \"echo > $out\"");

/// A copy of the embedded fleet, outside of any repository.
fn demo() -> Fleet {
    let fleet = Fleet::new(&[GOOD]);
    fs::remove_dir_all(fleet.path("hosts")).unwrap();
    let demo = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/demo");
    let copied = Command::new("cp").args(["-r", "--no-target-directory", demo.as_str(), fleet.root.as_str()]).status();
    assert!(copied.unwrap().success());
    fleet
}

/// A folder with links to these programs and nothing else, for PATH.
fn only(fleet: &Fleet, programs: &[&str]) -> Utf8PathBuf {
    let folder = fleet.path(&format!("only-{}", programs.join("-")));
    if folder.exists() {
        return folder;
    }
    fs::create_dir(&folder).unwrap();
    for program in programs {
        let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
        let found = String::from_utf8(found.stdout).unwrap();
        assert!(!found.is_empty(), "this test needs `{program}`");
        std::os::unix::fs::symlink(found.trim(), folder.join(program)).unwrap();
    }
    folder
}

/// A run that finds everything but the linters of Nix files, whatever is installed here: nobody has formatted a fleet
/// that is made up.
fn without_linters(fleet: &Fleet, args: &[&str]) -> Ran {
    let path = only(fleet, &["git", "nix", "nix-store"]);
    fleet.xtask_with(&[("PATH", path.as_str())], args)
}

fn git(fleet: &Fleet, args: &[&str]) {
    assert!(Command::new("git").args(args).current_dir(&fleet.root).status().unwrap().success());
}

#[test]
fn the_matrix_names_exactly_what_the_flake_defines() {
    let fleet = demo();
    // A row of each kind: what defaults drop, what a row replaces, what it says itself.
    let more = "\n[host.a]\ndescription = 'd'\nartifacts = ['system']\n[host.b]\ndescription = 'd'\ntests = ['live']\n\
                [host.c]\ndescription = 'd'\nartifacts = ['iso']\ntests = []\n";
    let matrix = fs::read_to_string(fleet.path("hosts/hosts.toml")).unwrap();
    fs::write(fleet.path("hosts/hosts.toml"), matrix + more).unwrap();
    for host in ["a", "b", "c"] {
        fs::create_dir(fleet.path("hosts").join(host)).unwrap();
        fs::write(fleet.path("hosts").join(host).join("default.nix"), "{ version = \"1\"; services = { }; }").unwrap();
    }
    let listed = fleet.xtask(&["list", "--json"]).expect(0, &[]).stdout;
    drydock_model::samples::keep("list.fleet", &listed);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let hosts = listed["hosts"].as_array().unwrap().iter();
    let ours: BTreeSet<&str> =
        hosts.flat_map(|host| host["jobs"].as_array().unwrap()).map(|job| job.as_str().unwrap()).collect();
    assert!(ours.contains("a.tests.system") && !ours.contains("a.tests.live"), "{ours:?}");
    let function = "jobs: builtins.concatLists (builtins.attrValues (builtins.mapAttrs (host: of: \
                    map (name: \"${host}.${name}\") (builtins.filter (name: name != \"tests\") (builtins.attrNames of)) \
                    ++ map (name: \"${host}.tests.${name}\") (builtins.attrNames of.tests)) jobs))";
    let flake = format!("path:{}#hydraJobs", fleet.root);
    let nix = ["--extra-experimental-features", "nix-command flakes", "eval", "--json", &flake, "--apply", function];
    let said = Command::new("nix").args(nix).output().expect("this test needs `nix`");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let theirs: Vec<String> = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(ours, theirs.iter().map(String::as_str).collect());
}

#[test]
fn a_matrix_that_is_wrong_is_refused_with_all_its_mistakes() {
    let fleet = Fleet::new(&[GOOD]);
    let good = fs::read_to_string(fleet.path("hosts/hosts.toml")).unwrap();
    // What stands in the file, and what is said.
    let rows: &[(Vec<u8>, &[&str])] = &[
        (vec![], &["hosts/hosts.toml:1:1", "there is no host", "the folder hosts/good/ has no row"]),
        (b"a = \"caf\xe9\"\n".to_vec(), &["hosts/hosts.toml:1:9", "not UTF-8: byte 0xe9"]),
        ((good.clone() + "[host.good]\n").into_bytes(), &["hosts/hosts.toml:7:7", "duplicate key"]),
        (
            good.replace("system =", "sytem =").replace("\"system\"", "\"isoo\"").into_bytes(),
            &[
                "hosts/hosts.toml:2:1",
                "did you mean `system`",
                "hosts/hosts.toml:3:14",
                "did you mean \"iso\"",
                "errors in",
            ],
        ),
        ((good.clone() + "when = 2026-01-01\n").into_bytes(), &["hosts/hosts.toml:7:8", "a date or time"]),
        (
            (good + "[host.gone]\ndescription = \"d\"\n").into_bytes(),
            &["hosts/hosts.toml:7:7", "has no folder hosts/gone/"],
        ),
    ];
    for (bytes, words) in rows {
        fs::write(fleet.path("hosts/hosts.toml"), bytes).unwrap();
        for verb in ["list", "build-all", "check"] {
            let ran = fleet.xtask(&[verb]).expect(2, words);
            assert_eq!(ran.stdout, "", "{verb}");
        }
    }
    fs::remove_file(fleet.path("hosts/hosts.toml")).unwrap();
    fleet.xtask(&["list", "--fleet", fleet.root.as_str()]).expect(2, &["hosts/hosts.toml does not exist"]);
    // Whoever reads a pipe waits for somebody who writes to it.
    assert!(Command::new("mkfifo").arg(fleet.path("hosts/hosts.toml")).status().unwrap().success());
    fleet.xtask(&["list", "--fleet", fleet.root.as_str()]).expect(2, &["hosts/hosts.toml is no regular file"]);
}

#[test]
fn no_machine_is_given_the_systems_of_two_hosts() {
    let fleet = Fleet::new(&[GOOD]);
    fs::create_dir(fleet.path("hosts/other")).unwrap();
    fs::write(fleet.path("hosts/other/default.nix"), "{ }").unwrap();
    let matrix = fs::read_to_string(fleet.path("hosts/hosts.toml")).unwrap();
    let rows = matrix.replace("[host.good]\n", "[host.good]\ntarget = \"root@nowhere.invalid\"\n");
    let other = "\n[host.other]\ndescription = \"o\"\ntarget = \"ssh://root@nowhere.invalid\"\n";
    fs::write(fleet.path("hosts/hosts.toml"), rows + other).unwrap();
    let words = ["good and other are both at root@nowhere.invalid", "mend `target`"];
    fleet.xtask(&["deploy", "--yes"]).expect(2, &words);
}

#[test]
fn what_cannot_be_written_or_read_is_said() {
    let fleet = Fleet::new(&[GOOD]);
    fleet.xtask(&["build-all", "--out-link", ""]).expect(2, &["--out-link ``", "Name a folder"]);
    fleet.xtask(&["build-all", "--evaluate", "--json"]).expect(2, &["'--evaluate' cannot be used with '--json'"]);
    fleet.xtask(&["report", "/nowhere"]).expect(2, &["cannot read /nowhere"]);
    for args in [&["list"][..], &["why", "good"], &["build-all", "--evaluate"], &["matrix"]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut xtask = Command::new(env!("CARGO_BIN_EXE_drydock"));
        let output = xtask.args(args).current_dir(&fleet.root).stdout(full).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains("No space left on device") && !said.contains("panicked"), "{args:?}: {said}");
    }
    // Where nothing can be said, the exit code says it.
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status =
        Command::new(env!("CARGO_BIN_EXE_drydock")).args(["list", "--fleet", "/nowhere"]).stderr(full).status();
    assert_eq!(status.unwrap().code(), Some(1));
}

#[test]
fn what_git_hides_from_nix_is_said_before_nix_is_asked() {
    let fleet = Fleet::new(&[GOOD]);
    git(&fleet, &["init", "--quiet"]);
    git(&fleet, &["add", "flake.nix"]);
    fleet.xtask(&["build-all"]).expect(2, &["Git does not track hosts/", "add --intent-to-add hosts`"]);
    git(&fleet, &["add", "--intent-to-add", "hosts"]);
    without_linters(&fleet, &["check"]).expect(0, &[]);
    fs::write(fleet.path("hosts/good/live.nix"), "{ }").unwrap();
    without_linters(&fleet, &["check"]).expect(0, &["warning: Git does not track hosts/good/live.nix"]);
    let path = only(&fleet, &["nix"]);
    fleet.xtask_with(&[("PATH", path.as_str())], &["check"]).expect(3, &["`git` is not installed", "--fleet path:"]);
    fleet.xtask_with(&[("PATH", path.as_str())], &["list"]).expect(0, &[]);
}

#[test]
fn a_new_host_evaluates_and_can_go_again() {
    let fleet = demo();
    let before = fs::read_to_string(fleet.path("hosts/hosts.toml")).unwrap();
    let args = ["new-host", "pier", "--description", "A \"new\" one", "--tag", "x"];
    let ran = fleet.xtask(&args).expect(0, &[]);
    assert!(ran.stdout.contains("hosts/pier/default.nix"), "{}", ran.stdout);
    let after = fs::read_to_string(fleet.path("hosts/hosts.toml")).unwrap();
    assert_eq!(after, before.clone() + "\n[host.pier]\ndescription = \"A \\\"new\\\" one\"\ntags = [\"x\"]\n");
    let ran = fleet.xtask(&["check", "pier"]).expect(0, &[]);
    assert!(ran.stdout.contains("5 jobs"), "{}", ran.stdout);
    fleet.xtask(&args).expect(2, &["there is a host `pier` already"]);
    fs::remove_dir_all(fleet.path("hosts/pier")).unwrap();
    fs::write(fleet.path("hosts/hosts.toml"), before).unwrap();
    fleet.xtask(&["list"]).expect(0, &[]);
}

#[test]
fn a_host_like_another_has_its_files_and_its_row() {
    let fleet = demo();
    fleet.xtask(&["new-host", "buoy", "--like", "beacon", "--description", "d"]).expect(0, &[]);
    let text = fs::read_to_string(fleet.path("hosts/hosts.toml")).unwrap();
    assert!(text.contains("[host.buoy]\ndescription = \"d\"\nsystem = \"aarch64-linux\"\n"), "{text}");
    let copy = fs::read_to_string(fleet.path("hosts/buoy/default.nix")).unwrap();
    assert_eq!(copy, fs::read_to_string(fleet.path("hosts/beacon/default.nix")).unwrap());
    fleet.xtask(&["new-host", "x", "--like", "becon", "--description", "d"]).expect(2, &["did you mean `beacon`?"]);
}

#[test]
fn a_new_host_that_would_be_wrong_changes_nothing() {
    let fleet = demo();
    let files = || {
        let listed = Command::new("find").arg(fleet.path("hosts")).output().unwrap();
        (listed.stdout, fs::read(fleet.path("hosts/hosts.toml")).unwrap())
    };
    let before = files();
    let rows: [(&[&str], &str); 6] = [
        (&["pier", "--description", "d", "--system", "x86-64-linux"], "did you mean \"x86_64-linux\"?"),
        (&["pier", "--description", "d", "--artifact", "system", "--test", "live"], "needs the artifact `iso`"),
        (&["pier", "--description", ""], "the description is empty"),
        (&["pier"], "--description <TEXT>"),
        (&["Pier", "--description", "d"], "`Pier` cannot be a host"),
        (&["beacon", "--description", "d"], "there is a host `beacon` already"),
    ];
    for (args, word) in rows {
        fleet.xtask(&[&["new-host"], args].concat()).expect(2, &[word]);
        assert_eq!(files(), before, "{args:?}");
    }
    fs::remove_dir_all(fleet.path("templates")).unwrap();
    fleet.xtask(&["new-host", "pier", "--description", "d"]).expect(2, &["no templates/host/", "--like beacon"]);
    assert_eq!(files(), before);
}

#[test]
fn a_new_host_in_a_repository_is_seen_by_nix() {
    let fleet = demo();
    git(&fleet, &["init", "--quiet"]);
    git(&fleet, &["add", "."]);
    fleet.xtask(&["new-host", "pier", "--description", "d", "--artifact", "system"]).expect(0, &[]);
    fleet.xtask(&["check", "pier"]).expect(0, &[]);
}

#[test]
fn a_check_names_what_failed_and_what_could_not_run() {
    let fleet = Fleet::new(&[GOOD, ("bad", "throw \"out of rope\"")]);
    let ran = without_linters(&fleet, &["check"]).expect(1, &[]);
    let (failure, table) = ran.stdout.split_once("matrix ").expect("the table follows the failures");
    assert!(failure.contains("out of rope") && failure.contains("bad.system"), "{}", ran.stdout);
    assert!(table.contains("FAILED   see above") && table.contains("1 failed"), "{table}");
    let ran = without_linters(&fleet, &["check", "good"]).expect(0, &[]);
    assert!(ran.stdout.contains("passed   1 job"), "{}", ran.stdout);
    let path = only(&fleet, &["git"]);
    fleet.xtask_with(&[("PATH", path.as_str())], &["check"]).expect(3, &["nix"]);
    let ran = fleet.xtask_with(&[("PATH", path.as_str())], &["check", "--no-eval"]).expect(0, &[]);
    for program in ["`nix`", "`nixfmt`", "`statix`", "`deadnix`"] {
        assert!(ran.stdout.contains(&format!("not run  {program} is not installed")), "{}", ran.stdout);
    }
    assert!(ran.stdout.ends_with("checks: 1 passed, 0 failed, 5 not run\n"), "{}", ran.stdout);
}

#[test]
fn linters_that_are_installed_are_asked() {
    let fleet = Fleet::new(&[GOOD]);
    let path = only(&fleet, &["git", "sh"]);
    let stand_in = |program: &str, script: &str| {
        fs::write(path.join(program), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path.join(program), fs::Permissions::from_mode(0o755)).unwrap();
    };
    stand_in("nixfmt", "[ \"$*\" = '--check flake.nix hosts/good/default.nix' ]");
    stand_in("statix", "[ \"$*\" = 'check --format errfmt .' ]");
    stand_in("deadnix", "echo hosts/good/default.nix: unused; exit 1");
    let ran = fleet.xtask_with(&[("PATH", path.as_str())], &["check", "--no-eval"]).expect(1, &[]);
    assert!(ran.stdout.starts_with("deadnix:\nhosts/good/default.nix: unused\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("checks: 3 passed, 1 failed, 2 not run"), "{}", ran.stdout);
}

#[test]
fn a_lock_file_that_is_behind_is_found() {
    let fleet = Fleet::new(&[GOOD]);
    fs::create_dir(fleet.path("other")).unwrap();
    fs::write(fleet.path("other/flake.nix"), "{ outputs = _: { }; }").unwrap();
    let flake = fs::read_to_string(fleet.path("flake.nix")).unwrap();
    let input = format!("{{\n  inputs.other.url = \"path:{}/other\";\n", fleet.root);
    let flake = flake.replacen("{\n", &input, 1).replace("{ self }", "{ self, other }");
    fs::write(fleet.path("flake.nix"), flake).unwrap();
    let ran = without_linters(&fleet, &["check", "--no-eval"]).expect(1, &[]);
    assert!(ran.stdout.starts_with("flake.lock:\n") && ran.stdout.contains("`nix flake lock`"), "{}", ran.stdout);
    let lock = ["--extra-experimental-features", "nix-command flakes", "flake", "lock"];
    assert!(Command::new("nix").args(lock).current_dir(&fleet.root).status().unwrap().success());
    without_linters(&fleet, &["check", "--no-eval"]).expect(0, &[]);
}

#[test]
fn bash_completes_verbs_after_cargo_and_leaves_the_rest_of_cargo_alone() {
    let fleet = Fleet::new(&[GOOD]);
    let script = fleet.xtask(&["completions", "bash"]).expect(0, &[]).stdout;
    let asks = r#"
        ask() {
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
            _cargo_xtask cargo "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
            echo "${COMPREPLY[*]}"
        }
        ask cargo xtask new; ask cargo xtask list --js; ask cargo bu"#;
    let before = "before() { COMPREPLY=(build); }; complete -F before cargo\n";
    let bash = Command::new("bash").args(["--norc", "-c", &format!("{before}{script}{asks}")]).output();
    let bash = bash.expect("this test needs `bash`");
    assert_eq!(String::from_utf8_lossy(&bash.stdout), "new-host\n--json\nbuild\n", "{bash:?}");
}

#[test]
fn every_shell_gets_a_script_with_every_verb() {
    let fleet = Fleet::new(&[GOOD]);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = fleet.xtask(&["completions", shell]).expect(0, &[]).stdout;
        for verb in ["build-all", "list", "check", "new-host", "completions", "doctor"] {
            assert!(script.contains(verb), "{shell}: {verb}");
        }
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let fleet = Fleet::new(&[GOOD]);
    for verb in [&["list"][..], &["check", "--no-eval"], &["completions", "bash"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut xtask = Command::new(env!("CARGO_BIN_EXE_drydock"));
        let ran = xtask.args(verb).current_dir(&fleet.root).stdout(writer).output().unwrap();
        assert!(ran.status.success() && ran.stderr.is_empty(), "{verb:?}: {ran:?}");
    }
}
