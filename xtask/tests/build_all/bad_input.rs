//! Everything that can be wrong around a run: each gets one clear error, and nothing is lost.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Instant};

use super::synthetic::Fleet;

const GOOD: (&str, &str) = ("a", "build \"a\" \"echo a > $out\"");

/// A fleet with one good host and one bad one: the good one is built, the bad one explained.
#[track_caller]
fn beside_a_good_host(bad: &str, args: &[&str], words: &[&str]) {
    let fleet = Fleet::new(&[GOOD, ("bad", bad)]);
    let args: Vec<&str> = ["build-all"].iter().chain(args).copied().collect();
    let ran = fleet.xtask(&args).expect(1, &["2 jobs: 1 failed, 1 built"]).expect(1, words);
    assert!(ran.stderr.contains("to repeat it: nix "), "{}", ran.stderr);
    assert!(fleet.path("result/a/system").exists());
}

#[test]
fn a_host_that_recurses_for_ever() {
    beside_a_good_host("let f = x: f x; in f 1", &[], &["stack overflow", "at flake.nix:"]);
}

#[test]
fn a_host_that_uses_import_from_derivation() {
    let ifd = "import (build \"ifd\" \"echo 1 > $out\")";
    beside_a_good_host(ifd, &[], &["import-from-derivation", "try:"]);
}

#[test]
fn a_host_that_the_flake_does_not_define() {
    let fleet = Fleet::new(&[GOOD, ("b", "build \"b\" \"echo b > $out\"")]);
    let flake = fs::read_to_string(fleet.path("flake.nix")).unwrap();
    fs::write(fleet.path("flake.nix"), flake.replace("b.system =", "c.system =")).unwrap();
    fleet.xtask(&["build-all"]).expect(1, &["the flake has no hydraJobs.b.system", "1 failed, 1 built"]);
}

#[test]
fn a_job_that_is_no_derivation_costs_itself() {
    let job = |drv: &str, out: &str| {
        format!("{{ type = \"derivation\"; system = \"x86_64-linux\"; drvPath = {drv}; outPath = {out}; }}")
    };
    let real = "(build \"other\" \"echo > $out\")";
    let hash = "0".repeat(32);
    let rows = [
        (job("\"--version\"", "\"--help\""), "`--version`, is no store path of a derivation"),
        (job(&format!("{real}.drvPath"), "\"/etc/passwd\""), "`/etc/passwd`, is no store path"),
        (job(&format!("{real}.drvPath"), &format!("\"/nix/store/{hash}-x\"")), "is no output of its drvPath"),
        (job(&format!("\"/nix/store/{hash}-x.drv\""), &format!("\"/nix/store/{hash}-x\"")), "is not there"),
        (job("1", "[ ]"), "drvPath, outPath and system are texts, and here they are 1, []"),
    ];
    for (job, words) in rows {
        beside_a_good_host(&job, &[], &["hydraJobs.bad.system is no derivation", words]);
    }
}

#[test]
fn a_derivation_in_another_store_is_one() {
    let fleet = Fleet::new(&[GOOD]);
    let store = format!("local?root={}", fleet.path("elsewhere"));
    let ran = fleet.xtask_with(&[("NIX_REMOTE", &store)], &["build-all", "--evaluate"]);
    let ran = ran.expect(0, &["the store of Nix is not on this machine's disk"]);
    assert!(ran.stdout.starts_with("a.system /nix/store/"), "{}", ran.stdout);
}

#[test]
fn a_text_that_looks_like_errors_is_shown_whole() {
    beside_a_good_host("throw \"error: one\\nerror: two\"", &[], &["error: one\n", "  error: two\n"]);
}

#[test]
fn a_builder_that_fails() {
    beside_a_good_host("build \"bad\" \"echo why; exit 7\"", &[], &["exit code 7", "| why", "-bad-"]);
}

#[test]
fn a_builder_that_hangs() {
    beside_a_good_host("build \"bad\" \"while :; do :; done\"", &["--timeout", "2"], &["timed out"]);
}

#[test]
fn a_builder_that_floods_its_log() {
    let line = "x".repeat(4000);
    let flood = format!("build \"bad\" \"i=0; while [ $i -lt 25000 ]; do echo {line}; i=$((i+1)); done; exit 1\"");
    beside_a_good_host(&flood, &[], &["exit code 1", "last 30 lines"]);
}

#[test]
fn a_flake_that_does_not_evaluate() {
    let fleet = Fleet::new(&[GOOD, ("b", "1")]);
    fs::write(fleet.path("flake.nix"), "{ outputs = { self }: { hydraJobs = ; }; }").unwrap();
    let ran = fleet.xtask(&["build-all"]).expect(1, &["2 jobs: 2 failed", "syntax error"]);
    assert_eq!(ran.stderr.matches("FAILED to evaluate: a.system, b.system").count(), 1, "{}", ran.stderr);
}

#[test]
fn results_that_are_somebody_elses() {
    type Occupy = fn(&Fleet);
    let rows: [(Occupy, &str); 4] = [
        (|f| fs::write(f.path("result"), "mine").unwrap(), "is a file"),
        (|f| std::os::unix::fs::symlink("/nix", f.path("result")).unwrap(), "is a symbolic link"),
        (|f| fs::create_dir_all(f.path("result/thesis")).unwrap(), "thesis"),
        (|f| fs::write(f.path("out"), "").unwrap(), ""),
    ];
    for (occupy, word) in rows {
        let fleet = Fleet::new(&[GOOD]);
        occupy(&fleet);
        let before = fleet.results();
        if word.is_empty() {
            fleet.xtask(&["build-all", "--out-link", "out/below"]).expect(2, &["--out-link"]);
            continue;
        }
        fleet.xtask(&["build-all"]).expect(2, &[word, "--out-link"]);
        assert_eq!(fleet.results(), before);
        fleet.xtask(&["build-all", "--out-link", "elsewhere"]).expect(0, &["results: elsewhere"]);
    }
}

/// A folder with a program `nix` in it that does what the script says.
pub fn stand_in(fleet: &Fleet, script: &str) -> String {
    let dir = fleet.path("bin");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("nix"), format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(dir.join("nix"), fs::Permissions::from_mode(0o755)).unwrap();
    dir.into_string()
}

/// Nix as it is named without links, for a stand-in to go on with.
pub fn real_nix() -> String {
    let path = std::env::var_os("PATH").unwrap();
    let real = std::env::split_paths(&path).map(|dir| dir.join("nix")).find(|nix| nix.exists()).unwrap();
    real.canonicalize().unwrap().parent().unwrap().join("nix").display().to_string()
}

#[test]
fn a_nix_that_is_missing_too_old_or_talks_nonsense() {
    let rows = [
        ("exec false", "did not answer with a version"),
        ("echo 'nix (Nix) 2.8.0'", "Nix 2.8 is too old"),
        ("echo '<html>'", "<html>"),
        ("echo 'nix (Nix) 2.26.3'; test \"$1\" = --version || { echo garbage; exit 0; }", "garbage"),
    ];
    for (script, words) in rows {
        let fleet = Fleet::new(&[GOOD]);
        let path = format!("{}:{}", stand_in(&fleet, script), std::env::var("PATH").unwrap());
        let ran = fleet.xtask_with(&[("PATH", &path)], &["build-all"]);
        assert!(matches!(ran.code, Some(1 | 3)), "{ran:?}");
        if words != "garbage" {
            ran.expect(3, &[words, "ci/setup"]);
        }
        assert!(!fleet.path("result").exists());
    }
    let fleet = Fleet::new(&[GOOD]);
    fleet.xtask_with(&[("PATH", "/nonexistent")], &["build-all"]).expect(3, &["`nix` is not on PATH", "ci/setup"]);
}

#[test]
fn a_full_disk() {
    let fleet = Fleet::new(&[GOOD]);
    let real = real_nix();
    let full = r#"@nix {"action":"msg","level":0,"msg":"error: writing to file: No space left on device"}"#;
    let script = format!("case \" $* \" in *' build '*) echo '{full}' >&2; exit 1;; esac\nexec {real} \"$@\"");
    let path = format!("{}:{}", stand_in(&fleet, &script), std::env::var("PATH").unwrap());
    let ran = fleet.xtask_with(&[("PATH", &path)], &["build-all"]);
    ran.expect(1, &["No space left on device", "nix-collect-garbage"]);
}

#[test]
fn a_builder_that_is_down() {
    let fleet = Fleet::new(&[GOOD]);
    let ran = fleet.xtask(&["build-all", "--builders", "ssh-ng://nobody@127.0.0.1?remote-store=/nowhere - - 4"]);
    ran.expect(0, &["builder ssh-ng://nobody@127.0.0.1", "is left out", "1 job: 1 built"]);
}

#[test]
fn an_input_that_no_network_brings() {
    let fleet = Fleet::new(&[GOOD]);
    let flake = fs::read_to_string(fleet.path("flake.nix")).unwrap();
    let flake = flake.replace("{ self }", "{ self, far }").replacen(
        '{',
        "{ inputs.far.url = \"http://127.0.0.1:1/far.tar.gz\";",
        1,
    );
    fs::write(fleet.path("flake.nix"), flake).unwrap();
    let started = Instant::now();
    fleet.xtask(&["build-all"]).expect(1, &["127.0.0.1", "--fleet demo"]);
    assert!(started.elapsed().as_secs() < 60);
}
