//! Draws when what was done in a run, on all its machines: a bar for each evaluation, build, download and test.

use std::fmt::Write as _;

use maud::{Markup, PreEscaped, html};

use super::words::{duration, shown};
use crate::{
    diagnostic::counted,
    timings::{Span, What, lanes},
};

/// Kinds of spans that are drawn, and what they are called for people. Processes are not: what they do is.
const ROWS: [(What, &str); 6] = [
    (What::Step, "Drydock"),
    (What::Evaluation, "evaluations"),
    (What::Build, "builds"),
    (What::Download, "downloads"),
    (What::Wait, "waits"),
    (What::Test, "VM tests"),
];

/// Lanes that are drawn of one kind, and bars: more make no picture that anybody reads.
const MOST_LANES: usize = 16;
const MOST_BARS: usize = 1000;

/// The picture; nothing if nothing was measured.
pub fn render(spans: &[Span]) -> Markup {
    let drawn = |span: &&Span| ROWS.iter().any(|(what, _)| *what == span.what);
    let all: Vec<&Span> = spans.iter().filter(drawn).collect();
    let total = all.iter().map(|span| span.end).fold(0.0, f64::max);
    // The shortest are left out first.
    let mut lengths: Vec<f64> = all.iter().map(|span| span.seconds()).collect();
    lengths.sort_by(|a, b| b.total_cmp(a));
    let least = lengths.get(MOST_BARS).copied().unwrap_or(0.0).max(total / 2000.0);
    // What nobody would see is not missed.
    let mut left_out = lengths.iter().filter(|length| **length >= total / 2000.0).count();
    let rows: Vec<(&str, usize, String)> = ROWS
        .into_iter()
        .filter_map(|(what, name)| {
            let long = all.iter().copied().filter(|span| span.what == what && span.seconds() >= least);
            let mut lanes = lanes(long);
            lanes.truncate(MOST_LANES);
            left_out -= lanes.iter().map(Vec::len).sum::<usize>();
            (!lanes.is_empty()).then(|| (name, lanes.len() * 12, bars(&lanes, total)))
        })
        .collect();
    html! {
        @if !rows.is_empty() {
            h2 { "Timeline" }
            div.timeline {
                @for (name, height, bars) in &rows {
                    span { (name) }
                    svg role="img" aria-label=(format!("When {name} ran")) viewBox=(format!("0 0 1000 {height}"))
                        preserveAspectRatio="none" style=(format!("height:{height}px")) { (PreEscaped(bars)) }
                }
                span {} p { span { "0 s" } span { (duration(total / 2.0)) } span { (duration(total)) } }
            }
            @if left_out > 0 { p { small { (counted(left_out, "shorter one")) " left out" } } }
        }
    }
}

/// By hand, because there may be a thousand.
fn bars(lanes: &[Vec<&Span>], total: f64) -> String {
    let mut out = String::new();
    for (lane, span) in lanes.iter().enumerate().flat_map(|(n, lane)| lane.iter().map(move |span| (n, span))) {
        let (x, width) = (span.start / total * 1000.0, span.seconds() / total * 1000.0);
        let on = if span.machine.is_empty() { String::new() } else { format!(" on {}", span.machine) };
        let words = shown(&format!("{}{on}", span.name), 150);
        let _ = write!(
            out,
            "<rect{} x=\"{x:.1}\" y=\"{}\" width=\"{:.1}\" height=\"10\"><title>{}: {}{}</title></rect>",
            if span.ok { "" } else { " class=\"bad\"" },
            lane * 12 + 1,
            width.max(1.0),
            html! { (words) }.into_string(),
            duration(span.seconds()),
            if span.ok { "" } else { ", failed" },
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::spans;
    use drydock_model::samples::{record, span};

    #[test]
    fn bars_lie_where_their_times_are_and_names_are_escaped() {
        let spans = [
            span(What::Build, "a<b>", 0.0, 5.0),
            span(What::Build, "c", 4.0, 10.0),
            Span { ok: false, ..span(What::Test, "t", 5.0, 10.0) },
            span(What::Evaluator, "process", 0.0, 10.0),
            span(What::Step, "short", 0.0, 0.001),
        ];
        let page = render(&spans).into_string();
        for needle in [
            "<rect x=\"0.0\" y=\"1\" width=\"500.0\" height=\"10\"><title>a&lt;b&gt;: 5.0 s</title>",
            "<rect x=\"400.0\" y=\"13\"",
            "<rect class=\"bad\" x=\"500.0\" y=\"1\"",
        ] {
            assert!(page.contains(needle), "{needle}\n{page}");
        }
        assert!(!page.contains("process") && !page.contains("left out"));
        assert_eq!(render(&[]).into_string(), "");
    }

    #[test]
    fn records_lie_beside_each_other_as_they_began() {
        let (early, mut late) = (record(), record());
        late.began = early.began.map(|began| began + 100);
        let page = render(&spans([&early, &late].into_iter())).into_string();
        assert!(page.contains("<span>1 min 53 s</span>"), "{page}");
    }

    #[test]
    fn a_run_of_many_builds_stays_small() {
        let spans: Vec<Span> = (0..20_000).map(|n| span(What::Build, "x", f64::from(n), f64::from(n + 1))).collect();
        assert!(render(&spans).into_string().len() < 200_000);
        let wide: Vec<Span> = (0..100).map(|_| span(What::Build, "x", 0.0, 1.0)).collect();
        assert!(render(&wide).into_string().contains("84 shorter ones left out"));
    }
}
