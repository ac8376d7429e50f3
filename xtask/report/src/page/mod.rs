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
    record::{JobRecord, Record, Screen},
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

/// The page. `picture` gives the bytes of a screen, if they are there and what the record says.
pub fn render(
    records: &[Record],
    history: &History,
    comparison: Option<&Comparison>,
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
                    (timeline::render(&records))
                }
                footer { "Written by Drydock. The page is complete in itself: it loads nothing and needs no script." }
            }
        }
    };
    page.into_string()
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
mod tests {
    use drydock_model::samples;

    use super::*;
    use crate::{
        history::Measured,
        job::{Derivation, Failure, JobId, Position, Stage, Subtest},
        record::{Image, TestRecord},
    };

    const PICTURE: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x02\xd0\0\0\x01\x90";

    fn page(records: &[Record]) -> String {
        let page = render(records, &History::default(), None, &|_| Some(PICTURE.to_vec()));
        well_formed(&page);
        page
    }

    /// Every tag closes in its order, every attribute is quoted, and nothing is fetched or run.
    fn well_formed(page: &str) {
        let mut open: Vec<&str> = Vec::new();
        let (_, mut rest) = page.split_once("<!DOCTYPE html>").unwrap();
        while let Some((text, after)) = rest.split_once('<') {
            assert!(!text.contains('>') || open.last() == Some(&"style"), "{text}");
            let (tag, after) = after.split_once('>').unwrap();
            rest = after;
            let outside_of_quotes: String = tag.split('"').step_by(2).collect();
            let name = tag.split(' ').next().unwrap();
            assert!(!["script", "iframe", "object", "embed", "base", "form"].contains(&name), "{tag}");
            match name.strip_prefix('/') {
                Some(closed) => assert_eq!(open.pop(), Some(closed), "{:?}", &rest[..rest.len().min(200)]),
                None if ["meta", "link", "img", "br"].contains(&name) => {}
                None => open.push(name),
            }
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            for attribute in outside_of_quotes.split(' ').skip(1).filter(|attribute| *attribute != "open") {
                assert!(!attribute.starts_with("on") && (attribute.is_empty() || attribute.ends_with('=')), "{tag}");
            }
            for target in [" src=\"", " href=\""].iter().flat_map(|attribute| tag.split(attribute).skip(1)) {
                assert!(target.starts_with("data:") || target.starts_with('#'), "{tag}");
            }
        }
        assert!(open.is_empty(), "{open:?}");
        assert!(!page.contains("url(") && !page.contains("@import") && !page.contains('\u{202e}'));
    }

    fn hash(n: usize) -> String {
        format!("{n:064x}")
    }

    /// A host with every job, named as real ones are.
    fn host(n: usize, outcome: &Outcome) -> Vec<JobRecord> {
        let ids = ["iso", "system", "tests.system", "tests.live", "tests.install", "tests.switch"];
        let test = |boots: &[&str]| TestRecord {
            accel: "kvm".into(),
            why: "KVM works".into(),
            place: "sandbox".into(),
            seconds: 61.5,
            runs: 1,
            passed: 1,
            subtests: ["bios from cdrom", "bios from usb", "uefi from cdrom", "uefi from usb"]
                .map(|name| Subtest { name: name.into(), seconds: Some(15.2), depth: 0 })
                .to_vec(),
            files: vec![],
            screens: boots
                .iter()
                .map(|boot| Screen { boot: (*boot).into(), passed: true, file: "x.png".into(), sha256: hash(n) })
                .collect(),
        };
        let job = |id: &str| {
            let mut job = samples::job(&format!("machine-{n:03}.{id}"), outcome.clone());
            let out = format!("/nix/store/{:.32}-nixos-system-machine-{n:03}-26.05.20260131.abcdef0", hash(n));
            job.derivation = Some(Derivation { drv: format!("{out}.drv").into(), out: out.into(), system: "s".into() });
            job.evaluate_seconds = Some(3.2);
            job.build_seconds = Some(100.0);
            job.closure_size = Some(3 << 30);
            job.image = (id == "iso").then(|| Image { file: format!("m-{n}.iso"), size: 1 << 30, sha256: hash(n) });
            job.test = id.starts_with("tests").then(|| test(&["bios-cdrom", "bios-usb", "uefi-cdrom", "uefi-usb"]));
            job
        };
        ids.map(job).to_vec()
    }

    fn failure(message: &str, log: &[String]) -> Failure {
        Failure {
            stage: Stage::Test,
            message: message.into(),
            position: Some(Position { file: message.into(), line: 1, column: None }),
            drv: None,
            log_tail: log.to_vec(),
            reproduce: message.into(),
        }
    }

    #[test]
    fn everything_known_of_a_run_is_there() {
        let record = samples::record();
        let mut history = History::default();
        for seconds in [10.0, 14.0] {
            history.take(&record.jobs[0].job, Measured { seconds: Some(seconds), ..Measured::default() });
        }
        let changes = [("a".parse().unwrap(), vec![("packages:".to_owned(), vec!["~ nix 2.25 -> 2.26".to_owned()])])];
        let comparison = Comparison { base: "0123456789abcdef".into(), changes: changes.into(), unchanged: 4 };
        let page = render(&[record], &history, Some(&comparison), &|_| None);
        well_formed(&page);
        for needle in [
            "<h1 class=\"bad\">3 of 5 jobs failed</h1>",
            "2026-01-31 12:00 UTC",
            "<a href=\"#b\">b.iso</a> failed to evaluate: b is broken at <code>hosts/b/default.nix:3:7</code>",
            "<b>X</b>3 failed",
            "<details class=\"host\" id=\"b\" open>",
            "<details class=\"host\" id=\"a\">",
            "For the same cause as <a href=\"#c\">c.system</a>",
            "bad &lt;&amp;&gt; &quot;",
            "was not run: interrupted",
            "points=\"0,18.0 50,2.0 100,9.8\"",
            "10 s to 14 s in 3 runs",
            "a.iso</code> <small>3.0 MiB",
            "What changed since <code>0123456789ab</code>",
            "<code>~ nix 2.25 -&gt; 2.26</code>",
            "1 host not as before, 4 as before",
            "aria-label=\"When builds ran\"",
        ] {
            assert!(page.contains(needle), "{needle}\n{page}");
        }
    }

    #[test]
    fn each_boot_is_shown_and_failures_first() {
        let mut jobs = host(1, &Outcome::Built);
        jobs[3].test.as_mut().unwrap().screens[2].passed = false;
        let record = Record { jobs, ..samples::record() };
        let page = page(std::slice::from_ref(&record));
        let first = page.find("<figure").unwrap();
        assert!(page[first..].starts_with("<figure class=\"bad\"><img src=\"data:image/png;base64,iVBORw0KGgo"));
        assert_eq!((page.matches("<figure").count(), page.matches("width=\"720\" height=\"400\"").count()), (16, 16));
        assert!(page.contains("alt=\"The screen of machine-001, test live, boot uefi-cdrom, which failed\""));
        let without = render(&[record], &History::default(), None, &|_| None);
        assert!(without.contains("16 pictures not there any more"));
    }

    #[test]
    fn the_later_of_two_records_counts() {
        let mut later = samples::record();
        later.began = later.began.map(|began| began + 60);
        later.jobs.retain(|job| job.job.to_string() == "b.iso");
        later.jobs[0].outcome = Outcome::Built;
        assert!(page(&[later, samples::record()]).contains("2 of 5 jobs failed"));
    }

    #[test]
    fn text_of_others_cannot_break_it() {
        let evil = "</details></pre><script>alert(1)</script>\u{202e}\"'><img onerror=x src=http://x/>&amp;";
        let log = vec![evil.to_owned(), "x".repeat(10_000_000)];
        let mut jobs = host(1, &Outcome::Failed(failure(evil, &log)));
        for job in &mut jobs {
            job.machine = Some(evil.into());
            job.derivation.as_mut().unwrap().out = evil.into();
            if let Some(image) = &mut job.image {
                (image.file, image.sha256) = (evil.into(), evil.into());
            }
            if let Some(test) = &mut job.test {
                (test.accel, test.place, test.subtests[0].name) = (evil.into(), evil.into(), evil.into());
                test.screens[0].boot = evil.into();
            }
        }
        let mut record = Record { jobs, command: evil.into(), nix: evil.into(), ..samples::record() };
        (record.fleet.root, record.fleet.revision) = (format!("/{evil}").into(), Some(evil.into()));
        record.spans[0].name = evil.into();
        record.spans[0].machine = evil.into();
        let page = page(&[record]);
        assert!(page.len() < 100_000, "{}", page.len());
        for name in ["a/b", "A", "a.b", "a b", "a<b", ""] {
            assert!(JobId::try_from(format!("{name}.iso")).is_err(), "{name}");
        }
    }

    #[test]
    fn three_hundred_hosts_make_a_page_below_two_megabytes() {
        let jobs = |outcome: &dyn Fn(usize) -> Outcome| (0..300).flat_map(|n| host(n, &outcome(n))).collect::<Vec<_>>();
        let record = |jobs| Record { jobs, ..samples::record() };
        let none = |record| render(&[record], &History::default(), None, &|_| None);
        let good = none(record(jobs(&|_| Outcome::Built)));
        assert!(good.len() < 2_000_000, "{}", good.len());
        let log: Vec<String> = (0..30).map(|_| "x".repeat(500)).collect();
        let bad = none(record(jobs(&|n| Outcome::Failed(failure(&format!("{n} {}", "y".repeat(5000)), &log)))));
        assert!(bad.len() < 4_000_000, "{}", bad.len());
        let large = [PICTURE, &[0; 90_000]].concat();
        let many = render(&[record(jobs(&|_| Outcome::Built))], &History::default(), None, &|_| Some(large.clone()));
        assert!(many.len() < 11_000_000 && many.contains("left out: the page has many"), "{}", many.len());
    }

    #[test]
    fn a_page_of_nothing_says_so_and_the_style_is_small() {
        assert!(page(&[]).contains("Nothing was to be done"));
        assert!(STYLE.len() < 30_000, "{}", STYLE.len());
    }
}
