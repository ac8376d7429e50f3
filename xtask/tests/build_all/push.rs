//! What is built is pushed to a binary cache, from which another machine fetches it.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use super::synthetic::Fleet;

/// One host is built, one is not.
fn fleet() -> Fleet {
    Fleet::new(&[("a", "build \"a\" \"echo a > $out\""), ("bad", "build \"bad\" \"exit 1\"")])
}

#[test]
fn what_is_pushed_is_fetched_elsewhere() {
    let fleet = fleet();
    let cache = format!("file://{}", fleet.path("cache"));
    fleet.xtask(&["build-all", "--push", &cache]).expect(1, &["1 failed, 1 built", "pushed 1 output"]);
    let out = fleet.path("result/a/system").read_link_utf8().unwrap();
    let narinfos = fs::read_dir(fleet.path("cache")).unwrap().flatten();
    assert_eq!(narinfos.filter(|file| file.file_name().to_string_lossy().ends_with(".narinfo")).count(), 1);
    // Another machine has the sources and the cache, and not what was built here.
    fs::remove_dir_all(fleet.path("result")).unwrap();
    assert!(Command::new("nix-store").args(["--delete", out.as_str()]).output().unwrap().status.success());
    // A plan knows what is there, also where the cache is no substituter of the machine.
    let plan = ["ci", "plan", "--skip-cached", "--push", &format!("{cache}?secret-key=/nowhere")];
    fleet.xtask(&plan).expect(0, &["1 entry, 0 jobs broken, 1 cached"]);
    let unreachable = ["ci", "plan", "--skip-cached", "--push", "ssh-ng://nobody@127.0.0.1"];
    let words = ["warning: ssh-ng://nobody@127.0.0.1 cannot say what it has", "2 entries, 0 jobs broken, 0 cached"];
    fleet.xtask(&unreachable).expect(0, &words);
    let settings = format!("substituters = {cache}\nrequire-sigs = false");
    let elsewhere = [("NIX_CONFIG", settings.as_str())];
    fleet.xtask_with(&elsewhere, &["build-all", "a"]).expect(0, &["1 job: 1 fetched"]);
    // What is there already may not be in the cache yet.
    fs::remove_dir_all(fleet.path("cache")).unwrap();
    fleet.xtask(&["build-all", "a", "--push", &cache]).expect(0, &["1 present", "pushed 1 output"]);
}

/// What only a build needs is not in the closure of what it builds, and would be built again by every other machine.
#[test]
fn what_only_builds_need_is_pushed_too() {
    let tool = "build \"tool\" \"echo tool > $out\"";
    let with = |name: &str| format!("build \"{name}\" \"read -r x < ${{{tool}}}; echo $x > $out\"");
    let fleet = Fleet::new(&[("a", &with("a")), ("b", &with("b"))]);
    let cache = format!("file://{}", fleet.path("cache"));
    fleet.xtask(&["build-all", "--push", &cache]).expect(0, &["2 built", "pushed 3 outputs"]);
}

/// Each of ten derivations needs the one before, so that they are pushed one by one.
#[test]
fn a_cache_that_is_not_there_is_told_of_once() {
    let step = |before: String, n: usize| {
        let reads = if n == 0 { String::new() } else { format!("read -r x < ${{{before}}}; ") };
        format!("build \"step{n}\" \"{reads}echo {n} > $out\"")
    };
    let fleet = Fleet::new(&[("a", &(0..10).fold(String::new(), step))]);
    let ran = fleet.xtask(&["build-all", "--json", "--push", "file:///proc/nowhere"]);
    assert_eq!(ran.stderr.matches("warning: not pushed").count(), 1, "{}", ran.stderr);
    let record: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let paths = record["not_pushed"].as_array().unwrap().iter().flat_map(|failed| failed["paths"].as_array().unwrap());
    assert_eq!(paths.count(), 10);
    ran.expect(0, &["1 built", "10 outputs not pushed in all"]);
}

#[test]
fn a_command_is_given_the_paths() {
    let fleet = fleet();
    let script = fleet.path("push");
    fs::write(&script, format!("#!/bin/sh\necho \"$@\" >> {}\n", fleet.path("pushed"))).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    fleet.xtask(&["build-all", "a", "--push", &format!("{script} to here")]).expect(0, &["pushed 1 output"]);
    let out = fleet.path("result/a/system").read_link_utf8().unwrap();
    assert_eq!(fs::read_to_string(fleet.path("pushed")).unwrap(), format!("to here {out}\n"));
}

#[test]
fn a_cache_that_cannot_be_written_fails_no_build() {
    let fleet = fleet();
    let words = ["1 built", "warning: not pushed: 1 output", "to repeat it: nix ", "copy --to file:///proc/nowhere"];
    let ran =
        fleet.xtask_with(&[("DRYDOCK_PUSH", "file:///proc/nowhere")], &["build-all", "a", "--json"]).expect(0, &words);
    drydock_model::samples::keep("run.not-pushed", &ran.stdout);
    let record: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let out = fleet.path("result/a/system").read_link_utf8().unwrap();
    assert_eq!(record["not_pushed"][0]["paths"], serde_json::json!([out]));
    fleet.xtask_with(&[("DRYDOCK_PUSH", "")], &["build-all", "a"]).expect(0, &["1 present"]);
    fleet.xtask(&["build-all", "a", "--push", ""]).expect(2, &["--push <CACHE>"]);
}
