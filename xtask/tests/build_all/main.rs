//! `cargo xtask build-all` as a person runs it, with the real Nix, on fleets that are as good or as broken
//! as each test needs.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bad_input;
mod interrupt;
mod push;
mod synthetic;

use drydock_model::samples::keep;
use serde_json::Value;
use synthetic::Fleet;

#[test]
fn a_fleet_is_built_once_and_then_there() {
    let fleet = Fleet::new(&[("a", "build \"a\" \"echo a > $out\""), ("b", "build \"b\" \"echo b > $out\"")]);
    let first = fleet.xtask(&["build-all", "--json", "--junit", "junit.xml"]).expect(0, &["2 jobs: 2 built"]);
    let record: Value = serde_json::from_str(&first.stdout).unwrap();
    assert_eq!(record["version"], 1);
    assert_eq!(record["jobs"][0]["job"], "a.system");
    assert_eq!(record["jobs"][0]["outcome"]["status"], "built");
    let out = record["jobs"][1]["derivation"]["out"].as_str().unwrap().to_owned();
    assert_eq!(std::fs::read_to_string(fleet.path("result/b/system")).unwrap(), "b\n");
    assert_eq!(fleet.path("result/b/system").read_link_utf8().unwrap(), out);
    assert!(std::fs::read_to_string(fleet.path("junit.xml")).unwrap().contains("tests=\"2\" failures=\"0\""));
    let before = fleet.results();
    fleet.xtask(&["build-all"]).expect(0, &["2 jobs: 2 present"]);
    assert_eq!(fleet.results(), before);
}

#[test]
fn where_nothing_is_to_be_built_no_build_is_started() {
    let fleet = Fleet::new(&[("b", "throw \"b is broken\"")]);
    let log = fleet.path("calls");
    let script = format!("echo \"$*\" >> {log}\nexec {} \"$@\"", bad_input::real_nix());
    let path = format!("{}:{}", bad_input::stand_in(&fleet, &script), std::env::var("PATH").unwrap());
    let ran = fleet.xtask_with(&[("PATH", &path)], &["build-all", "--out-link", "other/result"]);
    ran.expect(1, &["1 failed", "b is broken"]);
    let calls = std::fs::read_to_string(&log).unwrap();
    let roots = std::fs::read_dir(fleet.path("other/result/.roots")).map_or(0, Iterator::count);
    let starts = |verb: &str| calls.lines().any(|line| line.contains(verb));
    assert!(starts(" repl ") && !starts(" build ") && !starts(" path-info ") && roots == 0, "{calls}");
    assert!(interrupt::alive(fleet.path("bin").as_str()).is_empty());
}

#[test]
fn the_record_names_everything_that_ran_and_how_long_it_took() {
    let count = |n: u32| format!("i=0; while [ $i -lt {n} ]; do i=$((i+1)); done");
    let first = format!("build \"first\" \"{}; echo > $out\"", count(300_000));
    let fleet = Fleet::new(&[
        ("a", &format!("build \"a\" \"read x < ${{{first}}}; echo > $out\"")),
        ("b", "throw \"b is broken\""),
        ("c", "build \"c\" \"exit 1\""),
        ("d", "build \"d\" \"echo > $out\""),
    ]);
    let ran = fleet.xtask(&["build-all", "--json"]).expect(1, &[]);
    keep("run.build-all", &ran.stdout);
    let record: Value = serde_json::from_str(&ran.stdout).unwrap();
    let spans = record["spans"].as_array().unwrap();
    let [a, first, c] = ["a", "first", "c"].map(|name| format!("{name}-{}", fleet.nonce));
    for (what, name, ok) in [
        ("build", a.as_str(), true),
        ("build", &first, true),
        ("build", &c, false),
        ("evaluation", "a.system", true),
        ("evaluation", "b.system", false),
        ("step", "look at outputs and hash images", true),
    ] {
        let found = spans.iter().find(|span| span["what"] == what && span["name"] == name);
        assert_eq!(found.map(|span| &span["ok"]), Some(&Value::from(ok)), "{name}: {record:#}");
    }
    std::fs::write(fleet.path("run.json"), &ran.stdout).unwrap();
    fleet.xtask(&["report", "run.json", "--trace", "new/trace.json"]).expect(0, &[]);
    let trace = std::fs::read_to_string(fleet.path("new/trace.json")).unwrap();
    let events: Vec<Value> = serde_json::from_str(&trace).unwrap();
    assert!(events.iter().any(|event| event["cat"] == "builds" && event["name"] == a.as_str()), "{trace}");
    let seconds = |name: &str| {
        let span = spans.iter().find(|span| span["what"] == "build" && span["name"] == name).unwrap();
        span["end"].as_f64().unwrap() - span["start"].as_f64().unwrap()
    };
    // A job takes what was built for it, not what the whole `nix build` took.
    let of = |job: usize| record["jobs"][job]["build_seconds"].as_f64().unwrap();
    assert!((of(0) - seconds(&a) - seconds(&first)).abs() < 0.01 && seconds(&first) > 0.1, "{record:#}");
    assert!(of(3) < of(0) / 2.0, "{record:#}");
}

#[test]
fn results_are_kept_from_the_garbage_collector() {
    let fleet = Fleet::new(&[("a", "build \"a\" \"echo a > $out\"")]);
    fleet.xtask(&["build-all"]).expect(0, &[]);
    let out = fleet.path("result/a/system").read_link_utf8().unwrap();
    synthetic::assert_is_kept(out.as_std_path(), fleet.path("result/.roots").as_std_path());
}

#[test]
fn what_the_garbage_collector_took_is_built_again() {
    let rows = ["one", "two"].map(|text| ("a", format!("build \"a\" \"echo {text} > $out\"")));
    let [one, two] = rows.each_ref().map(|(host, system)| [(*host, system.as_str())]);
    let fleet = Fleet::new(&one);
    // Within a `path:` flake results are part of its source.
    let results = tempfile::tempdir().unwrap();
    let link = results.path().join("result");
    let build = || {
        let ran = fleet.xtask(&["build-all", "--out-link", link.to_str().unwrap()]).expect(0, &["1 job: 1 built"]);
        let manifest = std::fs::read_to_string(link.join("manifest.json")).unwrap();
        let manifest: Value = serde_json::from_str(&manifest).unwrap();
        let paths = ["store_path", "drv"].map(|key| manifest["results"][0][key].as_str().unwrap().to_owned());
        (ran.stderr.contains("a.system: evaluated"), paths)
    };
    let take = |paths: &[String]| {
        let deleted = std::process::Command::new("nix-store").arg("--delete").args(paths).output().unwrap();
        assert!(deleted.status.success(), "{}", String::from_utf8_lossy(&deleted.stderr));
    };
    let (evaluated, [first, _]) = build();
    assert!(evaluated);
    fleet.write(&two);
    let (_, second) = build();
    // Not what was remembered last, and its derivation is still there.
    take(&[first]);
    fleet.write(&one);
    assert!(!build().0);
    take(&second);
    fleet.write(&two);
    let (evaluated, again) = build();
    assert!(evaluated && again == second);
}

#[test]
fn hosts_that_were_not_asked_for_keep_their_results() {
    let rows = [("a", "build \"a\" \"echo a > $out\""), ("b", "build \"b\" \"echo b > $out\"")];
    let fleet = Fleet::new(&rows);
    fleet.xtask(&["build-all"]).expect(0, &[]);
    fleet.write(&[("a", "build \"a\" \"echo new > $out\""), rows[1]]);
    fleet.xtask(&["build-all", "a"]).expect(0, &["1 job: 1 built"]);
    assert_eq!(std::fs::read_to_string(fleet.path("result/a/system")).unwrap(), "new\n");
    assert_eq!(std::fs::read_to_string(fleet.path("result/b/system")).unwrap(), "b\n");
}

#[test]
fn a_dry_run_tells_what_is_there_from_what_is_to_be_built() {
    let fleet = Fleet::new(&[("a", "build \"a\" \"echo a > $out\""), ("b", "build \"b\" \"echo b > $out\"")]);
    fleet.xtask(&["build-all", "a"]).expect(0, &[]);
    let dry = fleet.xtask(&["build-all", "--dry-run"]).expect(0, &["would build 1 derivations"]);
    let words: Vec<_> = dry.stdout.lines().map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(words, ["local", "build"]);
    assert!(!fleet.path("result/b").exists());
}

#[test]
fn one_broken_host_costs_only_itself() {
    let fleet = Fleet::new(&[
        ("a", "build \"a\" \"echo a > $out\""),
        ("b", "throw \"b is broken\""),
        ("c", "build \"c\" \"read x < ${shared}; echo > $out\""),
        ("d", "build \"d\" \"read y < ${shared}; echo > $out\""),
        ("e", "build \"e\" \"echo e > $out\""),
    ]);
    let ran = fleet.xtask(&["build-all"]).expect(1, &["5 jobs: 3 failed, 2 built", "at flake.nix:", "b is broken"]);
    assert!(ran.stderr.contains("FAILED to build: c.system, d.system"), "a shared cause is told once: {}", ran.stderr);
    assert_eq!(ran.stderr.matches("| a last word").count(), 1);
    assert!(ran.stderr.find("b.system  ").unwrap() < ran.stderr.find("\na.system  ").unwrap(), "failures come first");
    assert!(fleet.path("result/e/system").exists());
    assert!(!fleet.path("result/c").exists());
}

#[test]
fn a_failure_leaves_the_hosts_last_result() {
    let fleet = Fleet::new(&[("a", "build \"a\" \"echo old > $out\"")]);
    fleet.xtask(&["build-all"]).expect(0, &[]);
    fleet.write(&[("a", "build \"a\" \"exit 1\"")]);
    fleet.xtask(&["build-all"]).expect(1, &["exit code 1"]);
    assert_eq!(std::fs::read_to_string(fleet.path("result/a/system")).unwrap(), "old\n");
}

#[test]
fn two_runs_at_once_do_not_disturb_each_other() {
    let slow = "build \"a\" \"i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo a > $out\"";
    let fleet = Fleet::new(&[("a", slow), ("b", "build \"b\" \"echo b > $out\"")]);
    let mut other = fleet.start(&["build-all"]);
    fleet.xtask(&["build-all"]).expect(0, &[]);
    assert!(other.0.wait().unwrap().success());
    assert_eq!(std::fs::read_to_string(fleet.path("result/a/system")).unwrap(), "a\n");
    assert!(!fleet.path(".result.new").exists());
}

#[test]
fn a_dirty_tree_is_said_to_be_one() {
    let fleet = Fleet::new(&[("a", "build \"a\" \"echo a > $out\"")]);
    let git = |args: &[&str]| {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"];
        let status =
            std::process::Command::new("git").args(identity).args(args).current_dir(&fleet.root).status().unwrap();
        assert!(status.success());
    };
    git(&["init", "-q"]);
    fleet.xtask(&["build-all"]).expect(2, &["Git does not track", "--intent-to-add"]);
    git(&["add", "flake.nix", "hosts"]);
    git(&["commit", "-qm", "fleet"]);
    let record = |ran: synthetic::Ran| serde_json::from_str::<Value>(&ran.stdout).unwrap()["fleet"].clone();
    let clean = record(fleet.xtask(&["build-all", "--json"]).expect(0, &[]));
    assert_eq!((clean["dirty"].as_bool(), clean["revision"].as_str().unwrap().len()), (Some(false), 40));
    fleet.write(&[("a", "build \"a\" \"echo dirty > $out\"")]);
    let dirty = record(fleet.xtask(&["build-all", "--json"]).expect(0, &[]));
    assert_eq!(dirty["dirty"], true);
    let manifest = std::fs::read_to_string(fleet.path("result/manifest.json")).unwrap();
    keep("manifest", &manifest);
    assert_eq!(serde_json::from_str::<Value>(&manifest).unwrap()["results"][0]["dirty"], true);
}
