//! `cargo xtask why HOST`: a host in, the files it depends on and what the next run evaluates out.
#![expect(clippy::print_stdout, reason = "a verb prints its report")]

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::DONE;
use crate::{
    cache::{self, Explanation, Verdict},
    flags::Why,
    fleet::Fleet,
    job::JobId,
    plan,
    process::Cancel,
};

/// What `--json` prints. The version changes when a field changes its meaning or goes away.
#[derive(Serialize)]
struct Answer {
    version: u32,
    host: String,
    jobs: BTreeMap<JobId, Verdict>,
    /// Each file the host depends on, with the jobs that do and the place that leads to it.
    files: BTreeMap<String, Reason>,
    /// Folders whose names count.
    folders: BTreeMap<String, Reason>,
    /// Why every file counts, and where that is.
    everything: Option<Reason>,
    all_files: usize,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Reason {
    jobs: Vec<JobId>,
    from: String,
}

pub fn run(flags: &Why, cancel: &Cancel) -> Result<u8> {
    let fleet = Fleet::open(&flags.fleet.fleet, &flags.fleet.override_input)?;
    let ids = plan::host(&fleet.matrix, &flags.host)?.jobs();
    let (explained, all_files) = cache::explain(&fleet, &ids, cancel)?;
    let answer = answer(&flags.host, &ids, &explained, all_files);
    match flags.json {
        true => println!("{}", serde_json::to_string_pretty(&answer)?),
        false => print!("{}", render(&answer)),
    }
    Ok(DONE)
}

fn answer(host: &str, ids: &[JobId], explained: &[Explanation], all_files: usize) -> Answer {
    let mut answer = Answer {
        version: 1,
        host: host.to_owned(),
        jobs: ids.iter().cloned().zip(explained.iter().map(|e| e.verdict.clone())).collect(),
        files: BTreeMap::new(),
        folders: BTreeMap::new(),
        everything: None,
        all_files,
    };
    for (id, Explanation { closure, .. }) in ids.iter().zip(explained) {
        let add = |map: &mut BTreeMap<String, Reason>, path: &str, from: String| {
            let reason = map.entry(path.to_owned()).or_insert_with(|| Reason { jobs: vec![], from });
            reason.jobs.push(id.clone());
        };
        for (path, origin) in closure.files.iter().filter(|(path, _)| closure.exists(path)) {
            add(&mut answer.files, path, origin.to_string());
        }
        for (path, origin) in &closure.folders {
            add(&mut answer.folders, path, origin.to_string());
        }
        let parts =
            [(closure.row, "its row"), (closure.defaults, "[defaults]"), (closure.names, "the names of all hosts")];
        let parts: Vec<&str> = parts.iter().filter(|(needed, _)| *needed).map(|(_, part)| *part).collect();
        if !parts.is_empty() && !closure.files.contains_key(crate::matrix::FILE) {
            add(&mut answer.files, crate::matrix::FILE, parts.join(", "));
        }
        if let Some((why, origin)) = closure.itself.as_ref().or(closure.everything.as_ref()) {
            let reason =
                answer.everything.get_or_insert_with(|| Reason { jobs: vec![], from: format!("{origin}: {why}") });
            reason.jobs.push(id.clone());
        }
    }
    answer
}

fn render(answer: &Answer) -> String {
    let mut text = String::new();
    let width = answer.jobs.keys().map(|id| id.to_string().len()).max().unwrap_or(0);
    for (id, verdict) in &answer.jobs {
        let verdict = match verdict {
            Verdict::Unchanged => "not evaluated: nothing has changed".to_owned(),
            Verdict::Unconcerned => "not evaluated: what has changed does not concern it".to_owned(),
            Verdict::Changed { files } => format!("evaluated: changed since the last run: {}", some(files)),
            Verdict::Leaks => "evaluated after any edit: its derivation holds the store path of the whole source, so \
                               somewhere a path is turned into a text (`toString ./x` instead of `\"${./x}\"`)"
                .to_owned(),
            Verdict::New => "evaluated: there is no result for it as it is now".to_owned(),
            Verdict::Off { reason } => format!("evaluated: {reason}"),
        };
        text += &format!("{id:width$}  {verdict}\n");
    }
    if let Some(reason) = &answer.everything {
        let those = of_jobs(answer, reason);
        text += &format!("\nevery one of the {} files counts{those}, because\n  {}\n", answer.all_files, reason.from);
    }
    text += &format!("\ndepends on {} of {} files:\n", answer.files.len(), answer.all_files);
    let width = answer.files.keys().map(String::len).max().unwrap_or(0).min(60);
    for (path, reason) in &answer.files {
        text += &format!("  {path:width$}  {}{}\n", reason.from, of_jobs(answer, reason));
    }
    for (path, reason) in &answer.folders {
        let path = format!("names in {}/", if path.is_empty() { "." } else { path });
        text += &format!("  {path:width$}  {}{}\n", reason.from, of_jobs(answer, reason));
    }
    text
}

/// Which jobs a reason concerns, if not all.
fn of_jobs(answer: &Answer, reason: &Reason) -> String {
    if reason.jobs.len() == answer.jobs.len() {
        return String::new();
    }
    let targets: Vec<String> = reason.jobs.iter().map(|id| id.target.to_string()).collect();
    format!("  (only {})", targets.join(", "))
}

fn some(files: &[String]) -> String {
    const SHOWN: usize = 4;
    let more = files.len().saturating_sub(SHOWN);
    let shown = files[..files.len().min(SHOWN)].join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reads_from_the_verdict_to_the_files() {
        let id = |text: &str| JobId::try_from(text.to_owned()).unwrap();
        let reason =
            |jobs: &[&str], from: &str| Reason { jobs: jobs.iter().map(|j| id(j)).collect(), from: from.into() };
        let changed = Verdict::Changed { files: ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec() };
        let answer = Answer {
            version: 1,
            host: "web".into(),
            jobs: [(id("web.iso"), Verdict::Unchanged), (id("web.system"), changed)].into(),
            files: [
                ("flake.nix".to_owned(), reason(&["web.iso", "web.system"], "flake.nix:1")),
                ("hosts/web/live.nix".to_owned(), reason(&["web.iso"], "hosts/default.nix:7")),
            ]
            .into(),
            folders: [("modules".to_owned(), reason(&["web.iso", "web.system"], "modules/default.nix:4"))].into(),
            everything: None,
            all_files: 90,
        };
        let expected = "\
web.iso     not evaluated: nothing has changed
web.system  evaluated: changed since the last run: a, b, c, d and 1 more

depends on 2 of 90 files:
  flake.nix           flake.nix:1
  hosts/web/live.nix  hosts/default.nix:7  (only iso)
  names in modules/   modules/default.nix:4
";
        assert_eq!(render(&answer), expected);
    }
}
