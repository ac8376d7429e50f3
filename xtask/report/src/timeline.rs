//! Draws when what was done in a run, as inline SVG: a bar for each evaluation, build, copy and test.

use std::fmt::Write as _;

use super::{html::escape, trace::ROWS};
use crate::timings::{Span, What, lanes};

/// Lanes that are drawn of one kind, and bars: more make no picture that anybody reads.
const MOST_LANES: usize = 16;
const MOST_BARS: usize = 1500;

/// The picture; nothing if nothing was measured.
pub fn render(spans: &[Span]) -> String {
    const LEFT: f64 = 110.0;
    const WIDTH: f64 = 880.0;
    const LINE: f64 = 15.0;
    let total = spans.iter().map(|span| span.end).fold(0.0, f64::max);
    let is_process = |what| matches!(what, What::Evaluator | What::Realiser | What::Wait);
    // The shortest are left out first.
    let mut lengths: Vec<f64> = spans.iter().map(Span::seconds).collect();
    lengths.sort_by(|a, b| b.total_cmp(a));
    let least = lengths.get(MOST_BARS).copied().unwrap_or(0.0).max(total / 2000.0);
    let (mut bars, mut y, mut left_out) = (String::new(), 0.0, 0);
    for (what, name) in ROWS.into_iter().filter(|(what, _)| !is_process(*what)) {
        let all = spans.iter().filter(|span| span.what == what);
        let (long, short): (Vec<&Span>, Vec<&Span>) = all.partition(|span| span.seconds() >= least);
        let mut lanes = lanes(long.into_iter());
        left_out += short.len() + lanes.iter().skip(MOST_LANES).map(Vec::len).sum::<usize>();
        lanes.truncate(MOST_LANES);
        if !lanes.is_empty() {
            let _ = writeln!(bars, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{name}</text>", LEFT - 8.0, y + 11.0);
        }
        for lane in lanes {
            for span in lane {
                let (x, width) = (LEFT + span.start / total * WIDTH, span.seconds() / total * WIDTH);
                let on = if span.machine.is_empty() { String::new() } else { format!(" on {}", span.machine) };
                let failed = if span.ok { "" } else { ", failed" };
                let _ = writeln!(
                    bars,
                    "<rect class=\"{}\" x=\"{x:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"12\"><title>{}{}: {:.1} s{failed}, \
                     from {:.1} to {:.1} s</title></rect>",
                    if span.ok { class(what) } else { "bad" },
                    width.max(0.5),
                    escape(&span.name),
                    escape(&on),
                    span.seconds(),
                    span.start,
                    span.end,
                );
            }
            y += LINE;
        }
    }
    if bars.is_empty() {
        return String::new();
    }
    let height = y + LINE;
    let mut out = format!(
        "<h2>Timeline</h2>\n<svg role=\"img\" aria-label=\"Timeline\" width=\"100%\" viewBox=\"0 0 1000 {height}\">\n{bars}"
    );
    for quarter in 0..=4 {
        let at = f64::from(quarter) / 4.0;
        let anchor = if quarter == 4 { "end" } else { "start" };
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{:.1} s</text>",
            LEFT + at * WIDTH,
            height - 2.0,
            total * at
        );
    }
    out.push_str("</svg>\n");
    if left_out > 0 {
        let _ = writeln!(out, "<p>{left_out} shorter or later ones are left out.</p>");
    }
    out
}

/// The class of the page's style; bars of one kind that touch are told apart by their edges.
fn class(what: What) -> &'static str {
    match what {
        What::Build => "b",
        What::Download => "c",
        _ => "a",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drydock_model::samples::span;

    #[test]
    fn bars_lie_where_their_times_are_and_names_are_escaped() {
        let spans = [
            span(What::Build, "a<b>", 0.0, 5.0),
            span(What::Build, "c", 4.0, 10.0),
            Span { ok: false, ..span(What::Test, "t", 5.0, 10.0) },
            span(What::Evaluator, "process", 0.0, 10.0),
            span(What::Step, "short", 0.0, 0.001),
        ];
        let svg = render(&spans);
        for needle in [
            "<rect class=\"b\" x=\"110.0\" y=\"0\" width=\"440.0\" height=\"12\"><title>a&lt;b&gt;: 5.0 s, from 0.0 to 5.0 s</title>",
            "<rect class=\"b\" x=\"462.0\" y=\"15\"",
            "<rect class=\"bad\" x=\"550.0\" y=\"30\"",
            ">10.0 s</text>",
            "1 shorter or later",
        ] {
            assert!(svg.contains(needle), "{needle}\n{svg}");
        }
        assert!(!svg.contains("process"));
        assert_eq!(render(&[]), "");
    }

    #[test]
    fn a_run_of_many_builds_stays_small() {
        let spans: Vec<Span> = (0..20_000).map(|n| span(What::Build, "x", f64::from(n), f64::from(n + 1))).collect();
        assert!(render(&spans).len() < 400_000);
        let wide: Vec<Span> = (0..100).map(|_| span(What::Build, "x", 0.0, 1.0)).collect();
        assert!(render(&wide).contains("84 shorter or later"));
    }
}
