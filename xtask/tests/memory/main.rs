//! Random edits, kills and runs at the same time: whatever `build-all` remembers, its results are those of a
//! run without any cache. `DRYDOCK_RUNS` says how many steps; `DRYDOCK_SEED` repeats a series.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails, and says what it tried")]

mod circumstances;
mod copies;
mod edit;
mod fleet;
mod rows;
mod run;
mod ways;

use std::time::Duration;

use fleet::{Fleet, Random};
use run::{Ran, Results};

/// Few in the ordinary run; each costs two runs of build-all and more.
const RUNS: u64 = 6;
/// Of the ordinary run. Moments of kills and of edits during a run differ all the same.
const SEED: u64 = 5;

#[test]
fn a_repository_gives_what_it_gives_without_a_cache() {
    series(true, "");
}

#[test]
fn a_part_of_a_repository_gives_what_it_gives_without_a_cache() {
    series(true, "machines/home");
}

#[test]
fn a_folder_gives_what_it_gives_without_a_cache() {
    series(false, "");
}

/// How often something was so, to see that the series proves something.
#[derive(Debug, Default)]
struct Tally {
    reused: usize,
    evaluated: usize,
    failed: usize,
    refused: usize,
    ended: usize,
}

fn series(git: bool, below: &str) {
    let number = |key: &str| std::env::var(key).ok().map(|text| text.parse::<u64>().unwrap());
    let runs = number("DRYDOCK_RUNS").unwrap_or(RUNS);
    let seed = number("DRYDOCK_SEED").unwrap_or(SEED);
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut fleet = Fleet::new(git, below, &mut random);
    let mut results = Results::new(&fleet);
    let mut tally = Tally::default();
    let mut trail: Vec<String> = Vec::new();
    for step in 0..runs {
        let mut said = Vec::new();
        if let Err(wrong) = one_step(&mut fleet, &mut results, &mut random, &mut tally, &mut said) {
            trail.push(format!("{step}: {}", said.join("; ")));
            let trail = trail[trail.len().saturating_sub(12)..].join("\n");
            let kept = fleet.keep();
            panic!(
                "DRYDOCK_SEED={seed}, git {git} {below}, step {step} of {runs}: {wrong}\n{trail}\nthe fleet is in {kept}"
            );
        }
        trail.push(format!("{step}: {}", said.join("; ")));
    }
    // Without these a series could consist of harmless steps only and prove nothing.
    assert!(tally.evaluated + tally.reused > 0, "{tally:?}");
    let is_varied = tally.evaluated > 0 && tally.reused > 0 && tally.failed > 0 && tally.ended > 0;
    let is_accepted = tally.refused as u64 <= runs / 4;
    assert!(runs < 100 || is_varied && is_accepted, "{tally:?}\n{}", trail.join("\n"));
    println!("git {git} {below}, seed {seed}: {runs} steps as without a cache; {tally:?}");
}

/// Edits, runs in one of several ways, and compares. What was done is added to `said`.
fn one_step(
    fleet: &mut Fleet,
    results: &mut Results,
    random: &mut Random,
    tally: &mut Tally,
    said: &mut Vec<String>,
) -> Result<(), String> {
    for _ in 0..random.below(3) {
        said.push(fleet.edit(random));
    }
    let link = results.link(random);
    let finished: Vec<(Ran, usize)> = match random.below(10) {
        0..=2 => vec![(results.run(fleet, link, &[]), link)],
        3 | 4 => {
            let killed = results.start(fleet, link, &[]);
            let moment = random.moment(results.usual);
            std::thread::sleep(moment);
            let signal = ["KILL", "INT", "TERM"][random.below(3)];
            let ended = killed.signal(signal);
            tally.ended += usize::from(ended.was_ended());
            said.push(format!("SIG{signal} after {moment:?}: {}", ended.how()));
            vec![(results.run(fleet, link, &[]), link)]
        }
        5 | 6 => {
            let links: Vec<usize> = (0..2 + random.below(2))
                .map(|_| if random.below(2) == 0 { link } else { results.link(random) })
                .collect();
            let mut running = Vec::new();
            for link in &links {
                running.push(results.start(fleet, *link, &[]));
                std::thread::sleep(random.moment(results.usual / 3));
            }
            said.push(format!("at once into {links:?}"));
            let ended = (random.below(3) == 0).then(|| running.remove(0).signal("KILL"));
            tally.ended += usize::from(ended.is_some_and(|ended| ended.was_ended()));
            let rest = &links[links.len() - running.len()..];
            running.into_iter().map(run::Running::wait).zip(rest.iter().copied()).collect()
        }
        7 | 8 => {
            let running = results.start(fleet, link, &[]);
            std::thread::sleep(random.moment(results.usual));
            let edit = match random.below(2) {
                0 => fleet.edit(random),
                _ => fleet.edit_and_back(random),
            };
            said.push(format!("during a run: {edit}; {}", running.wait().how()));
            vec![(results.run(fleet, link, &[]), link)]
        }
        _ => {
            let host = fleet.host(random);
            said.push(format!("{host} alone"));
            results.run(fleet, link, &[&host]);
            vec![(results.run(fleet, link, &[]), link)]
        }
    };
    let truth = results.truth(fleet);
    for (ran, link) in &finished {
        results.compare(fleet, ran, *link, &truth)?;
        tally.reused += ran.jobs.values().filter(|job| !job.evaluated && job.derivation.is_some()).count();
        tally.evaluated += ran.jobs.values().filter(|job| job.evaluated).count();
        tally.failed += ran.jobs.values().filter(|job| job.failure.is_some()).count();
        if ran.code == Some(2) {
            tally.refused += 1;
            said.push(format!("refused: {}", ran.stderr.lines().next().unwrap_or_default()));
        }
    }
    results.usual = results.usual.min(Duration::from_secs(4));
    Ok(())
}
