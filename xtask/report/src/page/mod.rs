//! Writes the fleet page: records as one self-contained HTML file that loads nothing and runs nothing.

mod host;
mod timeline;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use maud::{DOCTYPE, Markup, PreEscaped, html};

use self::{
    host::Host,
    words::{Sign, duration, failed_to, shown, sign, when},
};
use crate::{
    diagnostic::{bytes, counted},
    history::History,
    job::{Failure, HostName, Outcome, Stage, Target},
    machines::Running,
    record::{JobRecord, Record, Screen},
    records::spans,
};

const STYLE: &str = include_str!("style.css");

/// Nothing may be fetched or run, whatever a text of others would try.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";

/// What is known of an earlier state of the fleet.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// The commit.
    pub base: String,
    /// Titles with what stands below them, of hosts that are not as they were.
    pub changes: BTreeMap<HostName, Vec<(String, Vec<String>)>>,
    /// How many hosts are as they were.
    pub unchanged: usize,
}

/// The page. `machines` is what runs on them, if that was asked; `picture` gives the bytes of a screen, if they are there
/// and what the record says.
pub fn render(
    records: &[Record],
    history: &History,
    comparison: Option<&Comparison>,
    machines: &[Running],
    picture: &dyn Fn(&Screen) -> Option<Vec<u8>>,
) -> String {
    // What was done later counts, where two records have the same job.
    let mut records: Vec<&Record> = records.iter().collect();
    records.sort_by_key(|record| record.began);
    let hosts = host::all(&records, history, comparison);
    let jobs: Vec<&JobRecord> = hosts.iter().flat_map(|host| host.jobs.values().copied()).collect();
    let columns: BTreeSet<Target> = jobs.iter().map(|job| job.job.target).collect();
    let fleet = records.first().and_then(|record| record.fleet.root.file_name()).unwrap_or("fleet");
    let verdict = verdict(&jobs);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { (verdict.1) " – " (shown(fleet, 100)) }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    p.fleet { "Fleet " b { (shown(fleet, 100)) } }
                    h1 class=(verdict.0) { (verdict.1) }
                    (tally(&jobs))
                    (facts(&records, comparison))
                }
                main style=(format!("--columns:{}", columns.len())) {
                    (failures(&hosts))
                    (grid(&hosts, &columns, picture))
                    (running(machines))
                    (timeline::render(&spans(records.iter().copied())))
                }
                footer { "Written by Drydock. The page is complete in itself: it loads nothing and needs no script." }
            }
        }
    };
    page.into_string()
}

fn running(machines: &[Running]) -> Markup {
    html! {
        @if !machines.is_empty() {
            h2 { "What machines run" }
            ul.machines {
                @for (host, (class, words)) in machines.iter().map(|running| (&running.host, running.words())) {
                    li class=(class) { @if let Some(host) = host { b { (host) } } " " (shown(&words, 1000)) }
                }
            }
        }
    }
}

fn verdict(jobs: &[&JobRecord]) -> (&'static str, String) {
    let failed = jobs.iter().filter(|job| matches!(job.outcome, Outcome::Failed(_))).count();
    let not_run = jobs.iter().filter(|job| matches!(job.outcome, Outcome::NotRun { .. })).count();
    match (failed, not_run) {
        _ if jobs.is_empty() => ("calm", "Nothing was to be done".into()),
        (0, 0) if jobs.len() == 1 => ("ok", "The job is done".into()),
        (0, 0) => ("ok", format!("All {} jobs are done", jobs.len())),
        (0, _) => ("odd", format!("{not_run} of {} not run", counted(jobs.len(), "job"))),
        (_, _) => ("bad", format!("{failed} of {} failed", counted(jobs.len(), "job"))),
    }
}

/// How many jobs came to what, which is also the key of letters and colours.
fn tally(jobs: &[&JobRecord]) -> Markup {
    let mut counts: BTreeMap<Sign, usize> = BTreeMap::new();
    jobs.iter().for_each(|job| *counts.entry(sign(&job.job, &job.outcome)).or_default() += 1);
    html! {
        @if !counts.is_empty() {
            div.bar aria-hidden="true" { @for (sign, n) in &counts { span class=(sign.class) style=(format!("flex:{n}")) {} } }
            ul.tally { @for (sign, n) in &counts { li class=(sign.class) { b { (sign.letter) } (n) " " (sign.word) } } }
        }
    }
}

/// What was run, when and on what.
fn facts(records: &[&Record], comparison: Option<&Comparison>) -> Markup {
    let several = |words: BTreeSet<String>| -> Markup {
        let more = words.len().saturating_sub(3);
        html! {
            @for (n, word) in words.iter().take(3).enumerate() { @if n > 0 { ", " } (word) }
            @if more > 0 { " and " (more) " more" }
        }
    };
    let each = |of: &dyn Fn(&Record) -> String| several(records.iter().map(|record| shown(&of(record), 100)).collect());
    let revision = |record: &Record| {
        let commit =
            record.fleet.revision.as_deref().map_or("no revision", |commit| commit.get(..12).unwrap_or(commit));
        format!("{commit}{}", if record.fleet.dirty { " with uncommitted changes" } else { "" })
    };
    let began = records.iter().filter_map(|record| record.began);
    let end = |record: &&Record| record.began.map(|began| began as f64 + record.seconds.total);
    let ends = records.iter().filter_map(end).fold(0.0, f64::max);
    let took = match began.clone().min() {
        Some(first) => ends - first as f64,
        None => records.iter().map(|record| record.seconds.total).sum(),
    };
    html! {
        @if !records.is_empty() {
            dl.facts {
                div { dt { "Ran" } dd { (each(&|record| record.command.clone())) } }
                @if let Some(first) = began.min() { div { dt { "Began" } dd { (when(first)) } } }
                div { dt { "Took" } dd { (duration(took)) } }
                div { dt { "Revision" } dd { (each(&revision)) } }
                @if let Some(Comparison { base, changes, unchanged }) = comparison {
                    div { dt { "Compared with " (shown(base.get(..12).unwrap_or(base), 100)) }
                        dd { (counted(changes.len(), "host")) " not as before, " (unchanged) " as before" } }
                }
                div { dt { "Nix" } dd { (each(&|record| record.nix.clone())) } }
            }
        }
    }
}

/// Every failing job in one line, which leads to its host.
fn failures(hosts: &[Host<'_>]) -> Markup {
    let failed = |host: &&Host<'_>| !host.failed.is_empty();
    html! {
        @if hosts.iter().any(|host| failed(&host)) {
            h2 { "What failed" }
            ul.failed {
                @for host in hosts.iter().filter(failed) {
                    @for (job, failure) in &host.failed {
                        li {
                            a href=(format!("#{}", host.name)) { (job.job) }
                            " " (failed_to(failure.stage)) ": "
                            (shown(failure.message.lines().next().unwrap_or_default(), 200))
                            @if let Some(position) = &failure.position { " at " code { (shown(&position.to_string(), 200)) } }
                        }
                    }
                }
            }
        }
    }
}

/// A line for each host, which unfolds to all that is known of it.
fn grid(hosts: &[Host<'_>], columns: &BTreeSet<Target>, picture: &dyn Fn(&Screen) -> Option<Vec<u8>>) -> Markup {
    let mut pictures = host::Pictures::new(picture);
    html! {
        @if !hosts.is_empty() {
            h2 { (counted(hosts.len(), "host")) }
            div.row.head aria-hidden="true" {
                span {} span { "host" } @for column in columns { span { (column_name(*column)) } }
            }
            @for host in hosts {
                details.host id=(host.name) open[!host.failed.is_empty()] {
                    summary.row {
                        span.name { (host.name) small { (host.system) } }
                        @for column in columns { (cell(*column, host.jobs.get(column).copied())) }
                    }
                    (host.body(&mut pictures))
                }
            }
        }
    }
}

fn column_name(target: Target) -> String {
    match target {
        Target::Artifact(artifact) => artifact.as_str().into(),
        Target::Test(test) => format!("test {}", test.as_str()),
    }
}

fn cell(column: Target, job: Option<&JobRecord>) -> Markup {
    let Some(job) = job else { return html! { span.cell.none aria-hidden="true" { "–" } } };
    let sign = sign(&job.job, &job.outcome);
    let seconds = job.test.as_ref().map(|test| test.seconds).filter(|seconds| *seconds > 0.0).or(job.build_seconds);
    let size = job.image.as_ref().map(|image| image.size).or(job.closure_size);
    html! {
        span class=(format!("cell {}", sign.class)) title=(sign.word) {
            b { (sign.letter) }
            i { (column_name(column)) " " }
            span {
                @match &job.outcome {
                    Outcome::Failed(Failure { stage: Stage::Test, .. }) => { "failed" }
                    Outcome::Failed(failure) => { (failure.stage.as_str()) }
                    Outcome::NotRun { .. } => { "not run" }
                    _ => { @if let Some(seconds) = seconds { (duration(seconds)) } @else { (sign.word) } }
                }
                @if let Some(size) = size { small { (bytes(size)) } }
            }
        }
    }
}

#[cfg(test)]
mod tests;
