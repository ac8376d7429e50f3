//! The step `merge`: makes one report of the plan and the records of all entries.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a verb prints its report")]

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use camino::Utf8PathBuf;

use super::{
    plan::{Broken, PlanFile},
    runner_file,
};
use crate::{
    diagnostic::{DONE, FAILED, counted, usage},
    files::write,
    flags,
    history::{self, History, Measured},
    job::{Job, JobId, Outcome, System},
    record::{FleetRecord, JobRecord, Record, StageSeconds, VERSION},
    report::{
        github, junit, markdown,
        page::{self, Comparison},
        records,
    },
};

pub fn run(flags: &flags::Merge) -> Result<u8> {
    let (summary, failed) = make(flags)?;
    match runner_file("GITHUB_STEP_SUMMARY") {
        Some(file) => github::append(&file, &summary)?,
        None => print!("{summary}"),
    }
    Ok(if failed == 0 { DONE } else { FAILED })
}

/// Writes the reports. Returns the summary, and how many jobs failed.
pub fn make(flags: &flags::Merge) -> Result<(String, usize)> {
    let mut files = Vec::new();
    records::json_files(&flags.artifacts, &mut files)?;
    let (plans, records): (Vec<Utf8PathBuf>, Vec<_>) =
        files.into_iter().partition(|file| file.file_name() == Some(PlanFile::NAME));
    let [plan] = plans.as_slice() else {
        return Err(usage(format!("{} holds {} plans instead of one", flags.artifacts, plans.len())));
    };
    let plan = PlanFile::read(plan)?;
    let records = records.iter().map(|file| records::read(file)).collect::<Result<Vec<_>>>()?;
    let records = complete(&plan, records);
    let file = history::file(flags.history.as_deref());
    let mut history = History::read(&file);
    let intro = intro(&plan);
    let summary = markdown::render(&records, &intro, &history, github::SUMMARY_LIMIT);
    let comment = markdown::render(&records, &intro, &history, github::COMMENT_LIMIT - github::MARKER.len() - 1);
    write(&flags.out.join("summary.md"), &summary)?;
    write(&flags.out.join("comment.md"), &format!("{}\n{comment}", github::MARKER))?;
    write(
        &flags.out.join("page/index.html"),
        &page::render(&records, &history, comparison(&plan).as_ref(), &[], &records::picture),
    )?;
    write(&flags.out.join("junit.xml"), &junit::render(&records))?;
    learn(&mut history, &records);
    history.write(&file)?;
    let failed = records.iter().flat_map(|record| &record.jobs).filter(|job| !job.outcome.is_success()).count();
    eprintln!(
        "{} merged, {} failed; the reports are in {}",
        counted(records.len(), "record"),
        counted(failed, "job"),
        flags.out
    );
    Ok((summary, failed))
}

/// The records, one more for what did not evaluate, and one for jobs that were planned and left no record:
/// a runner that vanished must not look like success.
fn complete(plan: &PlanFile, mut records: Vec<Record>) -> Vec<Record> {
    let done: BTreeSet<&JobId> = records.iter().flat_map(|record| &record.jobs).map(|job| &job.job).collect();
    let mut others: Vec<JobRecord> = plan.broken.iter().map(|broken| failed(plan, broken)).collect();
    for entry in &plan.entries {
        let ids = entry.jobs.split(' ').filter_map(|id| JobId::try_from(id.to_owned()).ok());
        let reason = format!("the entry {} left no record: its runner failed, vanished or was stopped", entry.name);
        let missing = ids.filter(|id| !done.contains(id));
        others.extend(missing.map(|id| blank(id, &entry.system, Outcome::NotRun { reason: reason.clone() })));
    }
    if !others.is_empty() {
        let fleet = FleetRecord { root: "/".into(), flake: String::new(), revision: plan.base.clone(), dirty: false };
        let fleet = records.first().map_or(fleet, |record| record.fleet.clone());
        let nix = records.first().map_or_else(String::new, |record| record.nix.clone());
        others.sort_by(|a, b| a.job.cmp(&b.job));
        let seconds = StageSeconds::default();
        records.push(Record {
            version: VERSION,
            command: "ci plan".into(),
            fleet,
            nix,
            began: None,
            seconds,
            jobs: others,
            not_pushed: vec![],
            spans: vec![],
        });
    }
    records
}

fn failed(plan: &PlanFile, broken: &Broken) -> JobRecord {
    let mut failure = broken.failure.clone();
    if let Some(position) = &mut failure.position {
        position.file = format!("{}{}", plan.prefix, position.file);
    }
    blank(broken.job.clone(), System::native().as_str(), Outcome::Failed(failure))
}

fn blank(job: JobId, system: &str, outcome: Outcome) -> JobRecord {
    let system = system.parse().unwrap_or_else(|_| System::native());
    JobRecord::new(&Job { id: job, system }, outcome)
}

/// Which hosts the change affects, as Markdown.
fn intro(plan: &PlanFile) -> String {
    let Some(base) = &plan.base else { return String::new() };
    let short = &base[..base.len().min(12)];
    let mut out = format!("Compared with `{short}`: ");
    if plan.affected.is_empty() {
        return out + &format!("no host changed, {} as before.\n", plan.unchanged);
    }
    out += &format!("{} changed, {} as before.\n\n", counted(plan.affected.len(), "host"), plan.unchanged);
    out += "| host | | jobs |\n| --- | --- | --- |\n";
    for host in &plan.affected {
        out += &format!("| `{}` | {} | {} |\n", host.host, host.status, host.targets);
    }
    if !plan.cached.is_empty() {
        out += &format!("\n{} not run because a binary cache has the outputs.\n", counted(plan.cached.len(), "job"));
    }
    out
}

/// Which hosts the change affects and what it changes in them, for the fleet page.
fn comparison(plan: &PlanFile) -> Option<Comparison> {
    let changes = plan.affected.iter().map(|host| {
        let first = (format!("{}: {}", host.status, host.targets), vec![]);
        (host.host.clone(), [vec![first], host.differences.clone()].concat())
    });
    Some(Comparison { base: plan.base.clone()?, changes: changes.collect(), unchanged: plan.unchanged })
}

/// Remembers what was built now: what was there already says nothing about how long it takes.
fn learn(history: &mut History, records: &[Record]) {
    let jobs: BTreeMap<&JobId, &JobRecord> =
        records.iter().flat_map(|record| &record.jobs).map(|job| (&job.job, job)).collect();
    for (id, job) in jobs.into_iter().filter(|(_, job)| job.outcome.is_success()) {
        let seconds = job.build_seconds.filter(|_| job.outcome != Outcome::Present);
        let image_size = job.image.as_ref().map(|image| image.size);
        history.take(id, Measured { seconds, closure_size: job.closure_size, image_size });
    }
}
