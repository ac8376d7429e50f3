//! A medium that two evaluators share: its parts in, one derivation out, which is that of the whole.

use std::fs;

use super::synthetic::{Fleet, Ran};

/// Slow enough that a second evaluator is there before the first is done.
const SYSTEM: &str = "builtins.seq (builtins.foldl' (a: b: a + b) 0 (builtins.genList (x: x) 4000000)) (build \"system\" \"echo > $out\")";

/// Evaluates a host whose medium is made by `medium PATH`; whole that is `whole`, and apart it is given `needs`.
/// In scope is `system`, what the medium needs.
fn evaluated(whole: &str, needs: &str, evaluators: &str) -> (Fleet, Ran) {
    let fleet = Fleet::new(&[("a", "system")]);
    let matrix = fs::read_to_string(fleet.path("hosts/hosts.toml")).unwrap();
    fs::write(
        fleet.path("hosts/hosts.toml"),
        matrix.replace("[\"system\"]", "[\"iso\", \"system\"]\nlive = \"minimal\""),
    )
    .unwrap();
    let flake = fs::read_to_string(fleet.path("flake.nix")).unwrap();
    let medium = "build \"medium\" \"read x < ${path}\"";
    let iso = format!(
        "    a.iso = let whole = {whole}; in {{\n      type = \"derivation\";\n      \
         inherit (whole) drvPath outPath system;\n      \
         apart = {{ needs = {needs}; needed = true; ahead = null; \"with\" = medium; }};\n    }};\n"
    );
    let flake = flake.replace(
        "  in { hydraJobs = {\n",
        &format!("    medium = path: {medium};\n    system = {SYSTEM};\n  in {{ hydraJobs = {{\n{iso}"),
    );
    fs::write(fleet.path("flake.nix"), flake).unwrap();
    let ran = fleet.xtask(&["build-all", "--evaluate", "--eval-jobs", evaluators]);
    (fleet, ran)
}

#[test]
fn a_medium_put_together_is_the_whole() {
    let (fleet, ran) = evaluated("medium system.outPath", "system", "2");
    assert_eq!(ran.expect(0, &[]).stdout.lines().count(), 2);
    fleet
        .xtask(&["build-all", "--evaluate", "--verify-cache", "--eval-jobs", "2"])
        .expect(0, &["the cache was right about 2 of 2 jobs"]);
}

#[test]
fn a_medium_is_put_together_where_evaluators_have_nothing_else_to_do() {
    let broken = "throw \"it was evaluated whole\"";
    let (fleet, ran) = evaluated(broken, "system", "2");
    assert!(ran.expect(0, &[]).stdout.contains(&format!("-medium-{}.drv", fleet.nonce)));
    // What is to be verified is not what was put together.
    let whole = ["build-all", "--evaluate", "--verify-cache", "--eval-jobs", "2"];
    fleet.xtask(&whole).expect(1, &["it was evaluated whole"]);
    evaluated(broken, "system", "1").1.expect(1, &["it was evaluated whole"]);
}

#[test]
fn whatever_goes_wrong_apart_is_tried_whole() {
    let (_, ran) = evaluated("medium system.outPath", "throw \"a part is broken\"", "2");
    let ran = ran.expect(0, &[]);
    assert_eq!(ran.stdout.lines().count(), 2);
    assert!(!ran.stderr.contains("a part is broken"), "{}", ran.stderr);
}
