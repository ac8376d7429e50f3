//! The page of timings, for runs of all kinds.

use super::*;
use crate::timings::tests::span;

fn fleet() -> FleetRecord {
    FleetRecord {
        root: "/home/me/my<fleet>".into(),
        flake: "git+file:///home/me/fleet".into(),
        revision: Some("0123456789abcdef0123".into()),
        dirty: true,
    }
}

fn page(spans: &[Span]) -> String {
    let fleet = fleet();
    let about = About {
        command: "build-all",
        fleet: &fleet,
        nix: "2.26",
        cores: 4,
        memory: Some(8 << 30),
        ended: "2026-11-22 19:40:11",
    };
    render(&about, spans, &vec![vec![]; spans.len()])
}

/// A run with a failure, a remote machine, a download, a wait and names that are no HTML.
fn busy() -> Vec<Span> {
    let within = |at: usize, span: Span| Span { within: Some(at), ..span };
    vec![
        span(What::Step, "look up", 0.0, 0.5),
        Span { memory: Some(541 << 20), ..span(What::Evaluator, "", 0.5, 4.0) },
        within(1, span(What::Evaluation, "web.iso", 1.0, 2.0)),
        within(1, Span { ok: false, ..span(What::Evaluation, "bad.iso", 2.0, 3.9) }),
        Span { jobs: vec!["web.iso".into()], ..span(What::Realiser, "r", 2.0, 130.0) },
        within(4, Span { machine: "ssh://b?a&b".into(), ..span(What::Build, "lib<script>", 2.1, 60.0) }),
        within(4, Span { ok: false, ..span(What::Build, "\"web\"", 60.0, 129.0) }),
        within(4, span(What::Download, "glibc", 2.1, 5.0)),
        within(4, span(What::Wait, "waiting for lock", 2.1, 3.0)),
        span(What::Step, "hash images", 130.0, 131.0),
    ]
}

#[test]
fn the_page_stands_alone_and_shows_everything() {
    let page = page(&busy());
    for needle in ["http://", "https://", "<script", "@import", "url(", " src=", "my<fleet>", "NaN", "inf%"] {
        assert!(!page.contains(needle), "{needle}");
    }
    for needle in [
        "my&lt;fleet&gt; at <code>0123456789ab</code>, with uncommitted changes · Nix 2.26 · 4 cores, 8.0 GiB",
        "<strong>2 min 11 s</strong>",
        "builds on ssh://b?a&amp;b",
        "lib&lt;script&gt;",
        "&quot;web&quot;",
        "evaluator 1 ≤ 541.0 MiB",
        "1 failed</b>, 2.9 s one after another",
        "hash images",
        "waiting for lock",
    ] {
        assert!(page.contains(needle), "{needle}\n{page}");
    }
}

#[test]
fn every_tag_that_opens_closes() {
    for spans in [busy(), vec![], vec![span(What::Step, "look up", 0.0, 0.1)]] {
        let page = page(&spans);
        for tag in ["html", "body", "svg", "div", "span", "i", "b", "table", "tr", "style", "h2", "p", "label", "small"]
        {
            let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag} in\n{page}");
        }
    }
}

#[test]
fn a_run_that_did_nothing_says_so() {
    let empty = page(&[]);
    assert!(empty.contains("Nothing was measured") && !empty.contains("<svg"), "{empty}");
    let remembered = page(&[span(What::Step, "look up", 0.0, 0.1)]);
    assert_eq!(remembered.matches("nothing to do").count(), 2, "{remembered}");
    assert!(!remembered.contains("<svg") && remembered.contains("100 %"), "{remembered}");
}

#[test]
fn spans_without_length_are_no_division_by_nothing() {
    let page = page(&[span(What::Build, "a", 0.0, 0.0), span(What::Evaluation, "b", 0.0, 0.0)]);
    assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
}

#[test]
fn rows_are_sorted_and_their_number_is_bounded() {
    let many: Vec<Span> = (0..MOST_ROWS + 5).map(|n| span(What::Build, &format!("n{n}"), 0.0, n as f64)).collect();
    let page = page(&many);
    assert!(page.contains("5 shorter ones are left out"));
    let rows = page.split("<h2>By duration</h2>").nth(1).unwrap();
    assert!(rows.find(">n9<").is_some() && rows.find(">n2<").is_none());
    assert!(rows.find(">n2004<").unwrap() < rows.find(">n2003<").unwrap());
}

#[test]
fn durations_are_said_as_people_say_them() {
    let rows = [
        (0.0, "0 ms"),
        (0.0319, "32 ms"),
        (0.9999, "1.0 s"),
        (12.34, "12.3 s"),
        (99.96, "1 min 40 s"),
        (3725.0, "1 h 02 min"),
    ];
    for (seconds, expected) in rows {
        assert_eq!(duration(seconds), expected);
    }
}
