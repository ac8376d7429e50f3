//! `cargo xtask update`: updates flake inputs and says what that changes in every host.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a verb prints its report")]

use std::{fmt::Write as _, fs, time::Duration};

use anyhow::{Context as _, Result};
use camino::Utf8PathBuf;

use crate::{
    compare::difference::{self, HostDifference},
    diagnostic::{DONE, FAILED, INTERRUPTED, counted, nearest, usage},
    differences, files,
    flags::Update,
    fleet::Fleet,
    git::{Repository, git},
    nix::argv,
    process::{Cancel, Captured, Invocation},
    report::{github::COMMENT_LIMIT, markdown},
    run::{Derived, Run},
};

/// Inputs may be large and the network slow.
const PATIENCE: Duration = Duration::from_secs(600);

pub fn run(flags: &Update, cancel: &Cancel) -> Result<u8> {
    let fleet = Fleet::open(&flags.fleet, &[])?;
    let repository = Repository::around(&fleet.root, cancel)?;
    let lock = Lock { file: fleet.root.join("flake.lock"), before: fs::read(fleet.root.join("flake.lock")).ok() };
    let known = lock.inputs();
    if let Some(unknown) =
        flags.inputs.iter().find(|input| !known.contains(&input.split('/').next().unwrap_or_default().to_owned()))
    {
        let near = nearest(unknown, known.iter().map(String::as_str))
            .map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        return Err(usage(format!(
            "flake.lock has no input `{unknown}`{near}\n  Its inputs are: {}",
            known.join(", ")
        )));
    }
    let run = Run::begin(fleet, flags.stages.options(), cancel)?;
    if flags.each {
        each(flags, &run, &lock)?;
    }
    let said = lock.update(&run, &flags.inputs)?;
    if cancel.is_set() {
        return Ok(INTERRUPTED);
    }
    if !lock.changed() {
        eprintln!("every input is up to date");
        return Ok(DONE);
    }
    let rows = difference::against_base(&run, &run.fleet.matrix.hosts, Some("HEAD"))?;
    if cancel.is_set() {
        return Ok(INTERRUPTED);
    }
    rows.iter().for_each(|row| print!("{}", differences::text(row)));
    if let Some(file) = &flags.markdown {
        files::write(file, &as_markdown(&said, &rows))?;
    }
    let broken: Vec<&str> = rows.iter().filter(|row| row.failure.is_some()).map(|row| row.host.as_str()).collect();
    if !broken.is_empty() {
        eprintln!(
            "with the new inputs these do not evaluate: {}\n  `git restore flake.lock` takes the update back",
            broken.join(", ")
        );
        return Ok(FAILED);
    }
    eprintln!("{} compared with HEAD; uncommitted edits of other files count, too", counted(rows.len(), "host"));
    if flags.commit {
        commit(&repository, &lock, &said, &rows, cancel)?;
    }
    Ok(DONE)
}

/// The lock file and what was in it.
struct Lock {
    file: Utf8PathBuf,
    before: Option<Vec<u8>>,
}

impl Lock {
    /// Updates inputs, all if none is named, and returns what Nix said. Nix writes the file at its end or not at all.
    fn update(&self, run: &Run<'_>, inputs: &[String]) -> Result<Captured> {
        let update = Invocation::new(argv::flake_update(run.nix.version, inputs)).dir(&run.fleet.root);
        let said = update.timeout(PATIENCE).capture(run.cancel)?;
        anyhow::ensure!(
            said.end.is_success(),
            "the inputs could not be updated ({}), and flake.lock is as it was: {}",
            said.end,
            said.stderr.trim()
        );
        Ok(said)
    }

    fn changed(&self) -> bool {
        fs::read(&self.file).ok() != self.before
    }

    fn restore(&self) -> Result<()> {
        match &self.before {
            Some(before) => files::replace(&self.file, before),
            None => fs::remove_file(&self.file).with_context(|| format!("cannot remove {}", self.file)),
        }
    }

    /// The inputs of the flake itself, by their names.
    fn inputs(&self) -> Vec<String> {
        let text = self.before.as_deref().unwrap_or_default();
        let lock: serde_json::Value = serde_json::from_slice(text).unwrap_or_default();
        let root = lock["root"].as_str().unwrap_or("root");
        let inputs = lock["nodes"][root]["inputs"].as_object();
        inputs.map(|inputs| inputs.keys().cloned().collect()).unwrap_or_default()
    }
}

/// Updates one input at a time and says which hosts that breaks. The lock file is as it was afterwards.
fn each(flags: &Update, run: &Run<'_>, lock: &Lock) -> Result<()> {
    let inputs = if flags.inputs.is_empty() { lock.inputs() } else { flags.inputs.clone() };
    for input in inputs {
        let result = lock.update(run, std::slice::from_ref(&input)).and_then(|_| match lock.changed() {
            true => run.evaluate(&run.fleet.jobs()).map(Some),
            false => Ok(None),
        });
        if lock.changed() {
            lock.restore()?;
        }
        if run.cancel.is_set() {
            break;
        }
        println!("{input}: {}", verdict(result?.as_ref()));
    }
    Ok(())
}

/// What an input's update does to the hosts, in words.
fn verdict(derived: Option<&Derived>) -> String {
    let Some(derived) = derived else { return "up to date".to_owned() };
    let mut text = match derived.failures.len() {
        0 => return format!("updated, {} evaluated", counted(derived.derivations.len(), "job")),
        count => format!("updated, {count} of {} jobs do not evaluate", count + derived.derivations.len()),
    };
    for (id, failure) in &derived.failures {
        let place = failure.position.as_ref().map(|p| format!("{p}: ")).unwrap_or_default();
        let _ = write!(text, "\n  {id}: {place}{}", failure.message.lines().next().unwrap_or_default());
    }
    text
}

fn as_markdown(said: &Captured, rows: &[HostDifference]) -> String {
    let mut sections = vec!["What the new inputs change in every host, by derivations.\n\n".to_owned()];
    sections.push(format!("<details><summary>Inputs</summary>\n\n{}\n</details>\n\n", markdown::fenced(&said.stderr)));
    sections.extend(rows.iter().map(differences::markdown));
    markdown::fit(&sections, COMMENT_LIMIT)
}

/// Commits the lock file alone, with what changes as the message.
fn commit(
    repository: &Repository,
    lock: &Lock,
    said: &Captured,
    rows: &[HostDifference],
    cancel: &Cancel,
) -> Result<()> {
    let inputs: String =
        said.stderr.lines().filter(|line| !line.starts_with("warning:")).map(|l| format!("{l}\n")).collect();
    let hosts: String = rows.iter().map(differences::text).collect();
    let message = format!("Update flake inputs\n\n{inputs}\n{hosts}");
    let add = git(&repository.toplevel, ["add", "--intent-to-add", "--", lock.file.as_str()]).capture(cancel)?;
    if !add.end.is_success() {
        return Err(usage(format!("Git cannot add {}: {}", lock.file, add.stderr.trim())));
    }
    let commit = ["commit", "--quiet", "--cleanup=verbatim", "--message", &message, "--only", "--", lock.file.as_str()];
    let said = git(&repository.toplevel, commit).capture(cancel)?;
    match said.end.is_success() {
        true => eprintln!("committed {}", lock.file),
        false => {
            return Err(usage(format!(
                "flake.lock is updated and not committed, Git says: {}{}",
                said.stdout.trim(),
                said.stderr.trim()
            )));
        }
    }
    Ok(())
}
