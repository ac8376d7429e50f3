//! `cargo xtask why HOST`: says which files a host was evaluated from and what the next run evaluates.
#![expect(clippy::print_stdout, reason = "a verb prints its report")]

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use crate::{
    diagnostic::{DONE, counted},
    flags::Why,
    fleet::Fleet,
    job::JobId,
    memory::{self, Explanation, NextRun},
    nix::Nix,
    plan,
    process::{Cancel, quote},
};

/// What `--json` prints. The version changes when a field changes its meaning or goes away.
#[derive(Serialize)]
struct Answer {
    version: u32,
    host: String,
    jobs: BTreeMap<JobId, NextRun>,
    /// Each file that was read when the host was evaluated last, with the jobs that it was read for.
    files: BTreeMap<String, Vec<JobId>>,
    /// The number of all files in the fleet's source.
    all_files: Option<usize>,
}

pub fn run(flags: &Why, cancel: &Cancel) -> Result<u8> {
    let fleet = Fleet::open(&flags.fleet.fleet, &flags.fleet.override_input)?;
    let ids = plan::host(&fleet.matrix, &flags.host)?.jobs();
    let (explained, all_files) = memory::explain(&Nix::find(cancel)?, fleet.subject(false), &ids, cancel);
    let answer = answer(&flags.host, &ids, &explained, all_files);
    match flags.json {
        true => println!("{}", serde_json::to_string_pretty(&answer)?),
        false => print!("{}", render(&answer)),
    }
    Ok(DONE)
}

fn answer(host: &str, ids: &[JobId], explained: &[Explanation], all_files: Option<usize>) -> Answer {
    let jobs = ids.iter().cloned().zip(explained.iter().map(|explained| explained.next_run.clone())).collect();
    let mut files: BTreeMap<String, Vec<JobId>> = BTreeMap::new();
    for (id, Explanation { files: read, .. }) in ids.iter().zip(explained) {
        for file in read.iter().flatten() {
            files.entry(file.clone()).or_default().push(id.clone());
        }
    }
    Answer { version: 2, host: host.to_owned(), jobs, files, all_files }
}

fn render(answer: &Answer) -> String {
    let mut text = String::new();
    let width = answer.jobs.keys().map(|id| id.to_string().len()).max().unwrap_or(0);
    for (id, next_run) in &answer.jobs {
        let next_run = match next_run {
            NextRun::Unchanged => "not evaluated: nothing has changed".to_owned(),
            NextRun::Unconcerned => "not evaluated: it did not read what has changed".to_owned(),
            NextRun::Changed { files } => format!("evaluated: changed since the last run: {}", some(files)),
            NextRun::Names => "evaluated: a file was added, removed or renamed".to_owned(),
            NextRun::Around => "evaluated: an input, Nix or its settings changed".to_owned(),
            NextRun::Whole => "evaluated after any edit: it depends on the revision or the path of the whole source \
                               (`self.rev`, `toString ./x` instead of `\"${./x}\"`)"
                .to_owned(),
            NextRun::New => "evaluated: there is no result for it as it is now".to_owned(),
            NextRun::Off { reason } => format!("evaluated: {reason}"),
        };
        text += &format!("{id:width$}  {next_run}\n");
    }
    let all = answer.all_files.map_or(String::new(), |all| format!(" of {all}"));
    if !answer.files.is_empty() {
        text += &format!("\nread {}{all} when it was evaluated:\n", counted(answer.files.len(), "file"));
    }
    for (path, jobs) in &answer.files {
        text += &format!("  {}{}\n", quote(path), of_jobs(answer, jobs));
    }
    text
}

/// Which jobs a file was read for, if not for all.
fn of_jobs(answer: &Answer, jobs: &[JobId]) -> String {
    if jobs.len() == answer.jobs.len() {
        return String::new();
    }
    let targets: Vec<String> = jobs.iter().map(|id| id.target.to_string()).collect();
    format!("  (only {})", targets.join(", "))
}

fn some(files: &[String]) -> String {
    const SHOWN: usize = 4;
    let more = files.len().saturating_sub(SHOWN);
    let shown: Vec<String> = files.iter().take(SHOWN).map(|file| quote(file)).collect();
    let shown = shown.join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reads_from_the_verdict_to_the_files() {
        let id = |text: &str| JobId::try_from(text.to_owned()).unwrap();
        let changed = NextRun::Changed { files: ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec() };
        let explained = |next_run, files: &[&str]| Explanation {
            next_run,
            files: Some(files.iter().map(|file| (*file).to_owned()).collect()),
        };
        let ids = [id("web.iso"), id("web.system")];
        let explained =
            [explained(NextRun::Unchanged, &["flake.nix", "hosts/web/live.nix"]), explained(changed, &["flake.nix"])];
        let expected = "\
web.iso     not evaluated: nothing has changed
web.system  evaluated: changed since the last run: a, b, c, d and 1 more

read 2 files of 90 when it was evaluated:
  flake.nix
  hosts/web/live.nix  (only iso)
";
        assert_eq!(render(&answer("web", &ids, &explained, Some(90))), expected);
        let off = [NextRun::Off { reason: "none".into() }, NextRun::New]
            .map(|next_run| Explanation { next_run, files: None });
        for (name, explained) in [("why.known", explained), ("why.off", off)] {
            let text = serde_json::to_string(&answer("web", &ids, &explained, Some(90))).unwrap();
            drydock_model::samples::keep(name, &text);
        }
    }
}
