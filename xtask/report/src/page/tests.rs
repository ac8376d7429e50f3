//! Holds the page against its promises: well-formed, loading nothing, safe from what others wrote, of a size.

use drydock_model::samples;

use super::*;
use crate::{
    history::Measured,
    job::{Derivation, Failure, JobId, Position, Stage, Subtest},
    record::{Image, TestRecord},
};

const PICTURE: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x02\xd0\0\0\x01\x90";

fn page(records: &[Record]) -> String {
    let page = render(records, &History::default(), None, &[], &|_| Some(PICTURE.to_vec()));
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
    let page = render(&[record], &history, Some(&comparison), &[], &|_| None);
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
    let without = render(&[record], &History::default(), None, &[], &|_| None);
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
    let none = |record| render(&[record], &History::default(), None, &[], &|_| None);
    let good = none(record(jobs(&|_| Outcome::Built)));
    assert!(good.len() < 2_000_000, "{}", good.len());
    let log: Vec<String> = (0..30).map(|_| "x".repeat(500)).collect();
    let bad = none(record(jobs(&|n| Outcome::Failed(failure(&format!("{n} {}", "y".repeat(5000)), &log)))));
    assert!(bad.len() < 4_000_000, "{}", bad.len());
    let large = [PICTURE, &[0; 90_000]].concat();
    let many = render(&[record(jobs(&|_| Outcome::Built))], &History::default(), None, &[], &|_| Some(large.clone()));
    assert!(many.len() < 11_000_000 && many.contains("left out: the page has many"), "{}", many.len());
}

#[test]
fn a_page_of_nothing_says_so_and_the_style_is_small() {
    assert!(page(&[]).contains("Nothing was to be done"));
    assert!(STYLE.len() < 30_000, "{}", STYLE.len());
}

#[test]
fn what_machines_run_is_shown_where_it_was_asked() {
    let running = |host: &str, error: Option<&str>| Running {
        host: Some(host.parse().unwrap()),
        version: "26.05<".into(),
        error: error.map(str::to_owned),
        ..Running::default()
    };
    let machines = [running("web", None), running("db", Some("it is \u{202e}down"))];
    let page = render(&[samples::record()], &History::default(), None, &machines, &|_| None);
    well_formed(&page);
    assert!(page.contains("What machines run") && page.contains("<b>web</b> 26.05&lt;"), "{page}");
    assert!(page.contains("<li class=\"bad\"><b>db</b> no answer"), "{page}");
    assert!(!render(&[samples::record()], &History::default(), None, &[], &|_| None).contains("What machines run"));
}
