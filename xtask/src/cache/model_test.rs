//! Thousands of random edits: what is reused must be what would be computed. And the test of this test.

use std::{collections::HashMap, fs};

use rayon::prelude::*;

use super::{
    depends::Depends,
    digest::Digest,
    model::{Model, Random},
    need::Need,
};
use crate::{
    job::JobId,
    process::{Cancel, Invocation},
};

/// What a series of edits came to.
struct Tally {
    /// Jobs looked at after each edit, how often a remembered result served, and how often it could have.
    looked: usize,
    reused: usize,
    same: usize,
}

/// Edits a repository `edits` times. An error is a job whose key stayed while what it uses changed.
fn series(seed: u64, edits: usize, forget: Option<fn(&Need) -> bool>) -> Result<Tally, String> {
    let mut random = Random::new(seed);
    let mut model = Model::new(&mut random);
    let mut remembered: HashMap<(JobId, Digest), String> = HashMap::new();
    let mut before: HashMap<JobId, String> = HashMap::new();
    let mut history = vec![model.clone()];
    let mut tally = Tally { looked: 0, reused: 0, same: 0 };
    for step in 1..=edits {
        let edit = match random.below(12) {
            0 => {
                model = history[random.below(history.len())].clone();
                "back to an earlier state".to_owned()
            }
            _ => model.edit(&mut random, step),
        };
        if step % 7 == 0 {
            history.push(model.clone());
        }
        let tree = model.tree();
        let mut depends = Depends::on(&tree);
        depends.forget = forget;
        // One kind of job after each edit: finding out what a kind needs is what takes time.
        let targets = ["iso", "iso", "system", "tests.system"];
        let target = targets[random.below(targets.len())];
        for id in model.jobs().into_iter().filter(|id| id.target.to_string() == target) {
            let truth = model.truth(&id);
            tally.looked += 1;
            tally.same += usize::from(before.insert(id.clone(), truth.clone()).as_ref() == Some(&truth));
            match remembered.insert((id.clone(), depends.digest(&id)), truth.clone()) {
                None => {}
                Some(old) if old == truth => tally.reused += 1,
                Some(old) => {
                    return Err(format!("seed {seed}, edit {step} ({edit}): {id} was\n{old}\nand is\n{truth}"));
                }
            }
        }
    }
    Ok(tally)
}

/// Runs series of a hundred edits each, on all cores.
fn many(seeds: std::ops::Range<u64>) {
    let tallies: Result<Vec<Tally>, String> = seeds.into_par_iter().map(|seed| series(seed, 100, None)).collect();
    let tallies = tallies.unwrap_or_else(|unsound| panic!("{unsound}"));
    let sum = |of: fn(&Tally) -> usize| tallies.iter().map(of).sum::<usize>();
    let (looked, reused, same) = (sum(|t| t.looked), sum(|t| t.reused), sum(|t| t.same));
    // A cache that never remembers anything is sound as well; this one must be of use.
    assert!(reused * 10 > same * 7, "of {looked} jobs {same} were unchanged and {reused} reused");
}

#[test]
fn hundreds_of_edits_never_reuse_what_changed() {
    many(0..4);
}

#[test]
#[ignore = "takes a minute: cargo test -- --ignored ten_thousand"]
fn ten_thousand_edits_never_reuse_what_changed() {
    many(1000..1100);
}

#[test]
fn whatever_kind_of_dependency_is_forgotten_is_missed() {
    type Forget = fn(&Need) -> bool;
    let kinds: [(&str, Forget); 8] = [
        ("imports", |need| matches!(need, Need::Import(_))),
        ("paths", |need| matches!(need, Need::Below(_))),
        ("paths of hosts", |need| matches!(need, Need::Below(pattern) if pattern.names_host())),
        ("listings", |need| matches!(need, Need::Listing(_))),
        ("rows", |need| *need == Need::Row),
        ("defaults", |need| *need == Need::Defaults),
        ("files that are followed", |need| matches!(need, Need::File(path) if path == "fleet.nix")),
        ("self", |need| matches!(need, Need::Itself(_))),
    ];
    for (kind, forget) in kinds {
        let caught = (0..100_u64).into_par_iter().any(|seed| series(seed, 100, Some(forget)).is_err());
        assert!(caught, "the property test does not notice that {kind} are forgotten");
    }
}

#[test]
fn what_concerns_no_host_evaluates_none() {
    let mut random = Random::new(1);
    let model = Model::new(&mut random);
    let digests = |extra: &[(&str, &str)]| {
        let mut files = model.files();
        files.extend(extra.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())));
        let tree = super::model::tree_of(files);
        let mut depends = Depends::on(&tree);
        model.jobs().iter().map(|id| depends.digest(id)).collect::<Vec<_>>()
    };
    let plain = digests(&[]);
    assert_eq!(plain, digests(&[("ci/x.yml", "y"), ("docs/x.md", "z"), ("hosts/h9/default.nix", "{ }")]));
    assert_ne!(plain, digests(&[("fleet.nix", "{ }: { }")]));
}

/// Holds the model itself against Nix, and the keys against real derivations. Needs `nix` on PATH.
#[test]
#[ignore = "needs Nix and takes minutes: cargo test -- --ignored real_nix"]
fn real_nix_agrees_on_some_hundred_edits() {
    let dir = std::env::temp_dir().join(format!("drydock-model-{}", std::process::id()));
    for seed in 0..6 {
        let mut random = Random::new(seed);
        let mut model = Model::new(&mut random);
        let mut by_key: HashMap<(JobId, Digest), String> = HashMap::new();
        let mut by_truth: HashMap<String, String> = HashMap::new();
        for step in 1..=50 {
            let edit = model.edit(&mut random, step);
            let _ = fs::remove_dir_all(&dir);
            for (path, content) in model.files() {
                let path = dir.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
            let jobs = model.jobs();
            let list: String = jobs.iter().map(|id| format!(" {{ n = \"{id}\"; v = j.{id}.drvPath; }}")).collect();
            let apply = format!("j: map (x: x.n + \" \" + x.v) [{list} ]");
            let flake = format!("path:{}#hydraJobs", dir.display());
            let flags = ["nix", "--extra-experimental-features", "nix-command flakes", "eval", "--json"];
            let argv = flags.into_iter().chain([flake.as_str(), "--apply", &apply]);
            let output = Invocation::new(argv).capture(&Cancel::default()).unwrap();
            assert!(output.end.is_success(), "seed {seed}, edit {step} ({edit}): {}", output.stderr);
            let lines: Vec<String> = serde_json::from_str(&output.stdout).unwrap();
            let tree = model.tree();
            let mut depends = Depends::on(&tree);
            for (id, line) in jobs.iter().zip(lines) {
                let place = format!("seed {seed}, edit {step} ({edit}): {id}");
                let drv = line.split_once(' ').unwrap().1.to_owned();
                let truth = model.truth(id);
                let old = by_truth.insert(truth, drv.clone());
                assert!(old.is_none_or(|old| old == drv), "{place}: the model calls the same what is not");
                let old = by_key.insert((id.clone(), depends.digest(id)), drv.clone());
                assert!(old.is_none_or(|old| old == drv), "{place}: the key stayed, the derivation did not");
            }
        }
    }
    fs::remove_dir_all(dir).unwrap();
}
