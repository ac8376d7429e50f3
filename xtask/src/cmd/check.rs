//! `cargo xtask check`: says what is wrong with a fleet, and builds nothing.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{
    diagnostic::{DONE, FAILED, INTERRUPTED, counted},
    flags::Check,
    fleet::{self, Fleet},
    job::Job,
    nix::{argv, event::plain},
    plan::{self},
    process::{Cancel, Invocation, on_path},
    report::table::{self, Paint},
    run::{Derived, Options, Run},
};

/// Lines of a program's complaint that are shown.
const SHOWN: usize = 60;

/// The longest that a program may take over the files of a fleet.
const PATIENCE: Duration = Duration::from_secs(300);

/// What became of one check.
enum Verdict {
    /// With what was looked at, in a few words.
    Passed(String),
    /// With everything that a person needs to mend it.
    Failed(String),
    /// Neither passed nor failed, and why.
    NotRun(String),
}

pub fn run(flags: &Check, cancel: &Cancel) -> Result<u8> {
    let fleet = Fleet::open(&flags.fleet.fleet, &flags.fleet.override_input)?;
    let selection = flags.selection.artifacts()?;
    let selected = selection.hosts(&fleet.matrix)?.len();
    let options = Options { remember: !flags.no_cache, ..flags.stages.options() };
    let run = Run::begin(fleet.clone(), options, cancel);
    let run = if flags.no_eval { run.ok() } else { Some(run?) };
    let (mut verdicts, files) = (Vec::new(), fleet::nix_files(&fleet.root)?);
    let mut note = |name: &'static str, check: &dyn Fn() -> Result<Verdict>| -> Result<()> {
        let started = Instant::now();
        let verdict = check()?;
        verdicts.push((name, verdict, started.elapsed()));
        Ok(())
    };
    // That the fleet could be opened is the verdict on its matrix: any mistake there ends the program before.
    note("matrix", &|| {
        Ok(Verdict::Passed(format!("{}, each with its folder", counted(fleet.matrix.hosts.len(), "host"))))
    })?;
    note("flake.lock", &|| lock(&fleet, run.as_ref()))?;
    note("nixfmt", &|| linter(&fleet, "nixfmt", &["--check"], &files, cancel))?;
    note("statix", &|| linter(&fleet, "statix", &["check", "--format", "errfmt"], &[".".to_owned()], cancel))?;
    note("deadnix", &|| linter(&fleet, "deadnix", &["--fail"], &files, cancel))?;
    note("evaluation", &|| match (&run, flags.no_eval) {
        (Some(run), false) => evaluation(run, flags),
        _ => Ok(Verdict::NotRun(format!("--no-eval; {selected} hosts would be evaluated"))),
    })?;
    io::stdout().lock().write_all(report(&verdicts).as_bytes())?;
    let failed = verdicts.iter().any(|(_, verdict, _)| matches!(verdict, Verdict::Failed(_)));
    Ok(match (cancel.is_set(), failed) {
        (true, _) => INTERRUPTED,
        (false, true) => FAILED,
        (false, false) => DONE,
    })
}

/// Failures with all their lines first, then one line a check.
fn report(verdicts: &[(&str, Verdict, Duration)]) -> String {
    let mut text = String::new();
    for (name, verdict, _) in verdicts {
        if let Verdict::Failed(why) = verdict {
            text += &format!("{name}:\n{}\n\n", why.trim_end());
        }
    }
    for (name, verdict, took) in verdicts {
        let words = match verdict {
            Verdict::Passed(what) => format!("passed   {what}"),
            Verdict::Failed(_) => "FAILED   see above".to_owned(),
            Verdict::NotRun(why) => format!("not run  {why}"),
        };
        text += &format!("{name:11} {:6.1} s  {words}\n", took.as_secs_f64());
    }
    let count = |wanted: fn(&Verdict) -> bool| verdicts.iter().filter(|(_, verdict, _)| wanted(verdict)).count();
    let passed = count(|verdict| matches!(verdict, Verdict::Passed(_)));
    let failed = count(|verdict| matches!(verdict, Verdict::Failed(_)));
    text + &format!("checks: {passed} passed, {failed} failed, {} not run\n", verdicts.len() - passed - failed)
}

/// Nix compares flake.lock with the inputs of flake.nix when it is forbidden to write the former.
fn lock(fleet: &Fleet, run: Option<&Run<'_>>) -> Result<Verdict> {
    let Some(run) = run else {
        return Ok(Verdict::NotRun("`nix` is not installed or too old (`ci/setup` installs it)".to_owned()));
    };
    if !fleet.overrides.is_empty() {
        return Ok(Verdict::NotRun("--override-input replaces what flake.lock says".to_owned()));
    }
    let asked = Invocation::new(argv::flake_metadata(run.flake())).timeout(PATIENCE);
    let said = asked.capture(run.cancel)?;
    Ok(match said.end.is_success() {
        true => Verdict::Passed("current with flake.nix".to_owned()),
        false => Verdict::Failed(format!(
            "{}\n  `nix flake lock` in {} brings flake.lock up to date; to repeat this: {}",
            last_lines(&said.stderr),
            fleet.root,
            asked.display()
        )),
    })
}

fn linter(fleet: &Fleet, program: &str, flags: &[&str], files: &[String], cancel: &Cancel) -> Result<Verdict> {
    if !on_path(program) {
        return Ok(Verdict::NotRun(format!("`{program}` is not installed (`nix develop` has it)")));
    }
    let argv = [program].into_iter().chain(flags.iter().copied()).map(str::to_owned).chain(files.iter().cloned());
    let asked = Invocation::new(argv).dir(&fleet.root).timeout(PATIENCE);
    let said = asked.capture(cancel)?;
    Ok(match said.end.is_success() {
        true if files.len() == 1 => Verdict::Passed(String::new()),
        true => Verdict::Passed(format!("{} files", files.len())),
        false => Verdict::Failed(format!(
            "{}\n  `{program}` ended with {}; run it in {}",
            last_lines(&plain(&format!("{}{}", said.stdout, said.stderr))),
            said.end,
            fleet.root
        )),
    })
}

/// Every artifact and test of the selected hosts becomes a derivation, or was one in an earlier run of the
/// same sources.
fn evaluation(run: &Run<'_>, flags: &Check) -> Result<Verdict> {
    let jobs = jobs(&run.fleet, flags)?;
    let Derived { derivations, failures, remembered } = run.evaluate(&jobs)?;
    if !failures.is_empty() {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        return Ok(Verdict::Failed(table::failures(failures.iter(), Paint { colour })));
    }
    let unfinished = jobs.len() - derivations.len();
    Ok(match unfinished {
        0 => Verdict::Passed(format!("{}, {remembered} of them known from an earlier run", counted(jobs.len(), "job"))),
        n => Verdict::NotRun(format!("interrupted; {n} of {} jobs were not evaluated", jobs.len())),
    })
}

fn jobs(fleet: &Fleet, flags: &Check) -> Result<Vec<Job>> {
    let mut jobs = plan::plan(&fleet.matrix, &flags.selection.artifacts()?)?.jobs;
    // Hosts without tests are fine; that none has any is no mistake here.
    let tests = plan::plan(&fleet.matrix, &flags.selection.tests(&[])?);
    jobs.extend(tests.map(|plan| plan.jobs).unwrap_or_default());
    jobs.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(jobs)
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}
