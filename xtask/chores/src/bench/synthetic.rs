//! Measures how synthetic fleets are built and evaluated.

use anyhow::Result;
use camino::Utf8Path;

use super::{
    fleet::Scratch,
    measure::{Way, compare},
    report::Comparison,
    tools::Tools,
};
use crate::{flags::Bench, process::Cancel};

/// Up to here a loop over hosts is run: its time grows with them and says nothing new.
const LOOP: usize = 32;

/// Builds a fleet of `hosts` trivial derivations: for the first time, unchanged, after edits.
pub fn build(flags: &Bench, base: &Utf8Path, hosts: usize, cancel: &Cancel) -> Result<Vec<Comparison>> {
    let scratch = Scratch::synthetic(base.join(format!("build-{hosts}")), hosts, cancel)?;
    let tools = Tools::new(&scratch, jobs(hosts), flags)?;
    let limit = tools.limits[0];
    let builders = |ours: Way<'static>| {
        let mut ways = vec![ours, tools.nix_build()];
        ways.extend((hosts <= LOOP).then(|| tools.nix_build_loop()));
        ways.extend(tools.fast_build(limit));
        ways.extend(tools.omnix());
        ways
    };
    let titled =
        |title: &str, ways: &[Way<'_>]| compare(&format!("{hosts} hosts, {title}"), flags.rounds, ways, cancel);

    // Held against the table at a run's end, so that nobody is measured with what is built already.
    let first = builders(tools.build_all().expecting("  built   ", hosts));
    let mut all = vec![titled("first build", &after(first, || scratch.edit_all(cancel)))?];
    for (title, dirty) in [("nothing changed, clean", false), ("nothing changed, dirty", true)] {
        if dirty {
            scratch.edit_readme()?;
        }
        tools.build_all().warm(cancel)?;
        tools.nix_build().warm(cancel)?;
        let mut ways = builders(tools.build_all());
        ways.extend(tools.eval_jobs(limit));
        all.push(titled(title, &ways)?);
    }
    let mut ways = vec![tools.build_all(), tools.nix_build()];
    ways.extend(tools.eval_jobs(limit));
    all.push(titled("README edited", &after(ways, || scratch.edit_readme()))?);
    let mut ways = vec![tools.build_all(), tools.nix_build()];
    ways.extend(tools.fast_build(limit));
    all.push(titled("one edited, dirty", &after(ways, || scratch.edit_host()))?);
    Ok(all)
}

/// Evaluates a fleet of `hosts` trivial derivations: for the first time, unchanged, after edits.
pub fn evaluate(flags: &Bench, base: &Utf8Path, hosts: usize, cancel: &Cancel) -> Result<Vec<Comparison>> {
    let scratch = Scratch::synthetic(base.join(format!("growth-{hosts}")), hosts, cancel)?;
    let tools = Tools::new(&scratch, jobs(hosts), flags)?;
    let ways = || {
        let mut ways = vec![tools.evaluate(), tools.nix_eval()];
        ways.extend(tools.eval_jobs(tools.limits[0]));
        ways
    };
    let titled = |title: &str, ways: &[Way<'_>]| compare(title, flags.rounds, ways, cancel);
    let first = titled("first evaluation", &after(ways(), || scratch.edit_all(cancel)))?;
    tools.evaluate().warm(cancel)?;
    let still = titled("nothing changed", &ways())?;
    let readme = titled("README edited", &after(ways(), || scratch.edit_readme()))?;
    let one = titled("one host edited", &after(ways(), || scratch.edit_host()))?;
    Ok(vec![first, still, readme, one])
}

/// The same edit before each round of each way.
fn after<'a>(ways: Vec<Way<'a>>, edit: impl Fn() -> Result<()> + Copy + 'a) -> Vec<Way<'a>> {
    ways.into_iter().map(|way| way.after(edit)).collect()
}

fn jobs(hosts: usize) -> Vec<String> {
    (0..hosts).map(|number| format!("h{number:04}.system")).collect()
}
