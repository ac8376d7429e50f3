//! Measures the evaluation of a copy of a real fleet. Building it would take a binary cache.

use anyhow::{Context as _, Result};
use camino::Utf8Path;

use super::{
    fleet::Scratch,
    measure::{Way, compare},
    report::Comparison,
    tools::Tools,
};
use crate::{diagnostic::usage, flags::Bench, fleet::Fleet, process::Cancel};

/// Evaluates a copy of the fleet in `from`: everything, nothing changed, a README edited, one host edited.
pub fn evaluate(flags: &Bench, from: &Utf8Path, base: &Utf8Path, cancel: &Cancel) -> Result<Vec<Comparison>> {
    let from = from.canonicalize_utf8().with_context(|| format!("--real {from}"))?;
    let scratch = Scratch::copy(base.join("real"), &from, cancel)?;
    if let Some(hosts) = flags.real_hosts {
        scratch.multiply(usize::from(hosts))?;
    }
    scratch.commit(cancel)?;
    let fleet = Fleet::open(scratch.root.as_str(), &[])?;
    let hosts = &fleet.matrix.hosts;
    let host = hosts.first().ok_or_else(|| usage(format!("{from} has no hosts")))?;
    let file = format!("hosts/{}/default.nix", host.name);
    let jobs: Vec<String> = hosts
        .iter()
        .flat_map(|host| host.artifacts.iter().map(move |artifact| format!("{}.{}", host.name, artifact.as_str())))
        .collect();
    let title = |what: &str| format!("{} hosts, {} jobs, {what}", hosts.len(), jobs.len());
    let tools = Tools::new(&scratch, jobs.clone(), flags)?;

    // The times of evaluators depend on what they are allowed to use, so everybody comes with each limit.
    let mut ways = vec![tools.evaluate(), tools.evaluate_forgetful()];
    ways.extend(tools.limits.iter().filter_map(|limit| tools.eval_jobs(*limit)));
    ways.extend([tools.nix_eval_loop().once(), tools.nix_eval().once()]);
    let edit = || scratch.comment("flake.nix");
    let ways: Vec<Way<'_>> = ways.into_iter().map(|way| way.after(edit)).collect();
    let cold = compare(&title("all evaluated"), flags.rounds, &ways, cancel)?;

    // From here on the quickest of the others stands for them, where nix-eval-jobs is installed at its best limit.
    let quickest = cold.quickest(|name| name.starts_with("nix-eval-jobs"));
    let limit = tools.limits.iter().copied().find(|limit| quickest == Some(Tools::eval_jobs_name(*limit)));
    let others = || match limit.and_then(|limit| tools.eval_jobs(limit)) {
        Some(way) => way,
        None => tools.nix_eval_loop(),
    };
    let mut all = vec![cold];
    for (what, dirty) in [("nothing changed, clean", false), ("nothing changed, dirty", true)] {
        match dirty {
            true => scratch.edit_readme()?,
            false => scratch.commit(cancel)?,
        }
        tools.evaluate().warm(cancel)?;
        tools.nix_path_info().warm(cancel)?;
        let mut ways = vec![tools.evaluate(), tools.nix_path_info()];
        ways.extend((!dirty).then(others));
        all.push(compare(&title(what), flags.rounds, &ways, cancel)?);
    }
    let ways = [tools.evaluate(), others()].map(|way| way.after(|| scratch.edit_readme()));
    all.push(compare(&title("README edited"), flags.rounds, &ways, cancel)?);
    let ways = [tools.evaluate(), others()].map(|way| way.after(|| scratch.comment(&file)));
    all.push(compare(&title(&format!("{} edited, dirty", host.name)), flags.rounds, &ways, cancel)?);
    Ok(all)
}
