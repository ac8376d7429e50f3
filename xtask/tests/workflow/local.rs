//! `cargo xtask ci --local`, `affected`, `matrix` on hosts that change, break and stay.

use serde_json::Value;

use crate::repository::Repository;

#[track_caller]
fn check(ran: (Option<i32>, String, String), code: i32, present: &[&str], absent: &[&str]) {
    let (found, stdout, stderr) = ran;
    for word in present {
        assert!(stderr.contains(word), "`{word}` is missing in:\n{stderr}\n{stdout}");
    }
    for word in absent {
        assert!(!stderr.contains(word), "`{word}` is in:\n{stderr}\n{stdout}");
    }
    assert_eq!(found, Some(code), "{stderr}\n{stdout}");
}

const LOCAL: [&str; 4] = ["ci", "--local", "--fleet", "."];

fn against_parent() -> Vec<&'static str> {
    LOCAL.iter().copied().chain(["--base", "HEAD~1"]).collect()
}

#[test]
fn plan_entries_report_and_gate_run_and_the_gate_opens() {
    let repository = Repository::new(&["a", "b"]);
    let present = [
        "=== matrix: host-a",
        "=== matrix: host-b",
        "## 2 jobs, all done",
        "the gate is open",
        "matrix: succeeded",
        "comment: not written",
    ];
    check(repository.xtask(&LOCAL), 0, &present, &[]);
}

#[test]
fn only_what_changed_is_built() {
    let repository = Repository::new(&["a", "b"]);
    repository.write("hosts/b/default.nix", "\"other\"\n");
    repository.commit();
    let present = ["1 host changed, 1 as before", "| `b` | changed | system |", "## 1 job, all done"];
    check(repository.xtask(&against_parent()), 0, &present, &["=== matrix: host-a"]);
}

#[test]
fn a_change_of_the_readme_leaves_the_matrix_empty_and_the_gate_open() {
    let repository = Repository::new(&["a", "b"]);
    repository.write("README.md", "two\n");
    repository.commit();
    let present = ["no host changed, 2 as before", "Nothing to build", "matrix: skipped", "the gate is open"];
    check(repository.xtask(&against_parent()), 0, &present, &["=== matrix"]);
}

/// On both sides of a comparison, and whichever verb evaluated first.
#[test]
fn no_verb_evaluates_what_another_has() {
    let repository = Repository::new(&["a", "b"]);
    repository.write("hosts/b/default.nix", "\"another\"\n");
    repository.commit();
    let evaluated = |args: &[&str]| {
        let (code, out, err) = repository.xtask(args);
        assert_eq!(code, Some(0), "{args:?}: {out}{err}");
        err.matches(": evaluated in").count()
    };
    assert_eq!(evaluated(&["matrix"]), 2);
    // The base, which nobody has seen yet.
    assert!(evaluated(&["affected", "--base", "HEAD~"]) > 0);
    let verbs: [&[&str]; 4] =
        [&["affected", "--base", "HEAD~"], &["matrix"], &["build-all", "--evaluate"], &["build-all", "--dry-run"]];
    for verb in verbs {
        assert_eq!(evaluated(verb), 0, "{verb:?}");
    }
}

#[test]
fn a_host_that_does_not_evaluate_closes_the_gate_and_is_named_with_its_line() {
    let repository = Repository::new(&["a", "b"]);
    repository.write("hosts/b/default.nix", "# A comment.\nthrow \"no such option\"\n");
    repository.commit();
    let present =
        ["### Failed to evaluate: `b.system`", "hosts/b/default.nix:2", "no such option", "the gate is closed"];
    check(repository.xtask(&against_parent()), 1, &present, &[]);
    // The others are built all the same.
    check(repository.xtask(&LOCAL), 1, &["=== matrix: host-a", "a.system", "the gate is closed"], &[]);
}

#[test]
fn a_builder_that_fails_closes_the_gate() {
    let repository = Repository::new(&["a", "b"]);
    let flake = std::fs::read_to_string(repository.root.join("flake.nix")).unwrap();
    repository.write("flake.nix", &flake.replace("echo $text > $out", "echo a last word; exit 3"));
    repository.commit();
    check(
        repository.xtask(&LOCAL),
        1,
        &["a last word", "matrix: failure", "the gate is closed"],
        &["the gate is open"],
    );
}

#[test]
fn a_shared_file_affects_exactly_its_users() {
    let repository = Repository::new(&["a", "b", "c"]);
    repository.write("hosts/c/default.nix", "\"alone\"\n");
    repository.commit();
    repository.write("shared/text.nix", "\"changed\"\n");
    let (code, stdout, stderr) = repository.xtask(&["affected", "--base", "HEAD", "--json"]);
    assert_eq!(code, Some(0), "{stderr}");
    drydock_model::samples::keep("affected.fleet", &stdout);
    let document: Value = serde_json::from_str(&stdout).unwrap();
    let hosts = document["hosts"].as_array().unwrap().iter();
    let found: Vec<String> =
        hosts.map(|host| format!("{} {}", host["host"].as_str().unwrap(), host["status"].as_str().unwrap())).collect();
    assert_eq!(found, ["a changed", "b changed", "c unchanged"]);
}

#[test]
fn names_with_every_allowed_character_survive_shells_artifacts_and_summaries() {
    let long = format!("0{}", "-z".repeat(31));
    let names = ["3com", "a--b-", long.as_str()];
    let repository = Repository::new(&names);
    let (code, stdout, stderr) = repository.xtask(&["matrix"]);
    assert_eq!(code, Some(0), "{stderr}");
    let matrix: Value = serde_json::from_str(&stdout).unwrap();
    let jobs: Vec<&str> = matrix["include"].as_array().unwrap().iter().map(|e| e["jobs"].as_str().unwrap()).collect();
    assert_eq!(jobs, [format!("{long}.system"), "3com.system".into(), "a--b-.system".into()]);
    let rows: Vec<String> = names.iter().map(|name| format!("| `{name}.system` |")).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).chain(["the gate is open"]).collect();
    check(repository.xtask(&LOCAL), 0, &rows, &[]);
}

#[test]
fn an_engine_without_a_matrix_of_data_shares_the_plan_among_its_runners() {
    let repository = Repository::new(&["a", "b", "c"]);
    let system = format!("{}-linux", std::env::consts::ARCH);
    check(repository.xtask(&["ci", "plan", "--out", "all/plan", "--no-tests"]), 0, &["3 entries"], &[]);
    for index in ["1", "2", "3", "4"] {
        let common =
            ["ci", "entry", "--plan", "all/plan/plan.json", "--of", "4", "--system", &system, "--index", index];
        let all: Vec<&str> = common.iter().copied().chain(["--out", "all/entries"]).collect();
        let word = if index == "4" { "nothing for this runner" } else { "1 job: 1 " };
        check(repository.xtask(&all), 0, &[word], &[]);
    }
    let merge = ["ci", "merge", "--artifacts", "all", "--out", "report", "--history", "history.json"];
    check(repository.xtask(&merge), 0, &["3 records merged, 0 jobs failed"], &[]);
    // A runner that left no record is a failure, not silence.
    let record = repository.root.join(format!("all/entries/{system}-runner-2.json"));
    drydock_model::samples::keep("run.ci-entry", &std::fs::read_to_string(&record).unwrap());
    std::fs::remove_file(record).unwrap();
    let (code, stdout, _) = repository.xtask(&merge);
    assert_eq!(code, Some(1));
    assert!(stdout.contains("left no record"), "{stdout}");
}
