//! Spans in, the drawn parts of the page out: lanes of bars along the time, and how many things ran at once.

use std::fmt::Write as _;

use super::{duration, kind, shown};
use crate::{
    report::{html::escape, table::bytes},
    timings::{Span, What, critical::Leg},
};

/// Bars that share a line because none begins before another has ended.
type Lane = Vec<usize>;

/// Lanes under one name.
struct Group {
    name: String,
    lanes: Vec<Lane>,
}

/// Everything that happened, along the time, with three magnifications.
pub fn timeline(spans: &[Span], legs: &[Leg], total: f64) -> String {
    let mut out = String::from("<h2>Timeline</h2>\n<div class=\"chart\">\n");
    for (factor, checked) in [(1, " checked"), (4, ""), (16, ""), (64, "")] {
        let _ = write!(
            out,
            "<input type=\"radio\" name=\"zoom\" id=\"z{factor}\"{checked}><label for=\"z{factor}\">×{factor}</label>"
        );
    }
    out.push_str("<span class=\"key\">");
    for what in [What::Step, What::Evaluation, What::Build, What::Download, What::Wait, What::Test] {
        if spans.iter().any(|span| span.what == what) {
            let (class, name) = kind(what);
            let _ = write!(out, "<i class=\"dot {class}\"></i>{name} ");
        }
    }
    let step = tick(total);
    let _ = write!(
        out,
        "<i class=\"dot critical\"></i>critical path</span>\n<div class=\"scroll\"><div class=\"plane\" style=\"--tick:{:.4}%\">\n",
        percent(step, total)
    );
    out.push_str(&axis(step, total));
    let critical: Vec<usize> = legs.iter().filter(|leg| leg.waited_for.is_none()).map(|leg| leg.span).collect();
    for group in groups(spans) {
        for (n, lane) in group.lanes.iter().enumerate() {
            let name = if n == 0 { escape(&group.name) } else { String::new() };
            let _ = write!(out, "<div class=\"lane\"><span class=\"label\">{name}</span><div class=\"track\">");
            for (place, &at) in lane.iter().enumerate() {
                let next = lane.get(place + 1).map_or(total, |next| spans[*next].start);
                out.push_str(&bar(spans, at, next, total, critical.contains(&at)));
            }
            out.push_str("</div></div>\n");
        }
    }
    out.push_str("</div></div>\n</div>\n");
    out
}

fn axis(step: f64, total: f64) -> String {
    let mut out = String::from("<div class=\"lane axis\"><span class=\"label\"></span><div class=\"track\">");
    let mut at = 0.0;
    while step > 0.0 && at < total * 0.97 {
        let _ = write!(
            out,
            "<span style=\"left:{:.4}%\">{}</span>",
            percent(at, total),
            duration(at).replace(".0 s", " s")
        );
        at += step;
    }
    out.push_str("</div></div>\n");
    out
}

/// A round number of seconds, so that about eight of them fill the time.
fn tick(total: f64) -> f64 {
    const ROUND: [f64; 22] = [
        0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0,
        3600.0, 7200.0, 14400.0, 43200.0,
    ];
    ROUND.into_iter().find(|step| total / step <= 9.0).unwrap_or(86400.0)
}

fn percent(seconds: f64, total: f64) -> f64 {
    if total > 0.0 { seconds / total * 100.0 } else { 0.0 }
}

/// A bar, with its name in it, or behind it where there is room until the next one.
fn bar(spans: &[Span], at: usize, next: f64, total: f64, critical: bool) -> String {
    /// Hundredths of the plane that a short name takes.
    const NAME: f64 = 9.0;
    let span = &spans[at];
    let (left, width) = (percent(span.start, total), percent(span.seconds(), total));
    let fits = width > NAME;
    let behind = !fits && percent(next - span.end, total) > NAME;
    let failed = if span.ok { "" } else { ", failed" };
    let machine = if span.machine.is_empty() { String::new() } else { format!(" on {}", span.machine) };
    let memory = span.memory.map_or_else(String::new, |memory| format!(", at most {}", bytes(memory)));
    let about = match span.what {
        What::Realiser => span.jobs.join(", "),
        _ => shown(spans, at),
    };
    let title = format!(
        "{} {about}: {}{machine}{memory}{failed}, from {} to {}",
        kind(span.what).1,
        duration(span.seconds()),
        duration(span.start),
        duration(span.end)
    );
    let label = match span.what {
        What::Evaluator => String::new(),
        What::Realiser => span.jobs.first().map_or_else(String::new, |first| match span.jobs.len() {
            1 => first.clone(),
            n => format!("{first} and {} more", n - 1),
        }),
        _ => span.name.clone(),
    };
    format!(
        "<i class=\"bar {}{}{}{}\" style=\"left:{left:.4}%;width:{width:.4}%\" title=\"{}\">{}</i>",
        kind(span.what).0,
        if critical { " critical" } else { "" },
        if span.ok { "" } else { " bad" },
        if behind { " behind" } else { "" },
        escape(&title),
        if fits || behind { format!("<b>{}</b>", escape(&label)) } else { String::new() }
    )
}

fn groups(spans: &[Span]) -> Vec<Group> {
    let of = |what: What| (0..spans.len()).filter(move |n| spans[*n].what == what);
    let mut groups = vec![Group { name: "Drydock".into(), lanes: pack(spans, of(What::Step)) }];
    // What evaluators do lies in the lane of their process.
    let workers = pack(spans, of(What::Evaluator));
    for (n, lane) in workers.into_iter().enumerate() {
        let memory = lane.iter().filter_map(|at| spans[*at].memory).max().map(bytes);
        let inside = of(What::Evaluation).filter(|at| spans[*at].within.is_some_and(|process| lane.contains(&process)));
        let inside: Lane = inside.collect();
        let name = format!("evaluator {} {}", n + 1, memory.map_or_else(String::new, |memory| format!("≤ {memory}")));
        let mut bars: Lane = lane;
        bars.extend(inside);
        groups.push(Group { name, lanes: vec![bars] });
    }
    groups.push(Group { name: "nix build".into(), lanes: pack(spans, of(What::Realiser)) });
    let mut machines: Vec<&str> = of(What::Build).map(|n| spans[n].machine.as_str()).collect();
    machines.sort_unstable();
    machines.dedup();
    for machine in machines {
        let here = of(What::Build).filter(|n| spans[*n].machine == machine);
        let name = if machine.is_empty() { "builds here".to_owned() } else { format!("builds on {machine}") };
        groups.push(Group { name, lanes: pack(spans, here) });
    }
    for (what, name) in [(What::Download, "copies"), (What::Wait, "waits"), (What::Test, "VM tests")] {
        groups.push(Group { name: name.to_owned(), lanes: pack(spans, of(what)) });
    }
    groups
}

/// As few lanes as possible: each span goes to the first lane that is free when it begins.
fn pack(spans: &[Span], which: impl Iterator<Item = usize>) -> Vec<Lane> {
    let mut order: Vec<usize> = which.collect();
    order.sort_by(|a, b| spans[*a].start.total_cmp(&spans[*b].start).then(a.cmp(b)));
    let mut lanes: Vec<Lane> = Vec::new();
    for at in order {
        let is_free = |lane: &&mut Lane| lane.last().is_none_or(|last| spans[*last].end <= spans[at].start);
        match lanes.iter_mut().find(is_free) {
            Some(lane) => lane.push(at),
            None => lanes.push(vec![at]),
        }
    }
    lanes
}

/// How many evaluations, builds, copies and tests went on at each moment.
pub fn at_once(spans: &[Span], total: f64, cores: usize) -> String {
    let kinds: Vec<(What, Vec<(f64, i32)>)> = [What::Evaluation, What::Build, What::Download, What::Test]
        .into_iter()
        .map(|what| (what, counts(spans, what)))
        .filter(|(_, counts)| !counts.is_empty())
        .collect();
    let most = kinds.iter().flat_map(|(_, counts)| counts).map(|(_, count)| *count).max().unwrap_or(0);
    if most == 0 || total <= 0.0 {
        return String::new();
    }
    let cores = i32::try_from(cores).unwrap_or(i32::MAX);
    let top = f64::from(if cores <= 2 * most { most.max(cores) } else { most }) * 1.08;
    let y = |count: i32| 100.0 - f64::from(count) / top * 100.0;
    let x = |seconds: f64| percent(seconds, total) * 10.0;
    let mut out = String::from("<h2>At once</h2>\n<div class=\"key\">");
    for (what, counts) in &kinds {
        let (class, name) = kind(*what);
        let most = counts.iter().map(|(_, count)| *count).max().unwrap_or(0);
        let _ = write!(out, "<i class=\"dot {class}\"></i>{name}, at most {most} ");
    }
    let _ = write!(
        out,
        "<i class=\"dot cores\"></i>{cores} cores</div>\n<svg class=\"once\" role=\"img\" aria-label=\"How many things ran at \
         once\" viewBox=\"0 0 1000 100\" preserveAspectRatio=\"none\">\n"
    );
    if f64::from(cores) <= top {
        let _ = writeln!(out, "<path class=\"cores\" d=\"M0 {0:.2}H1000\"/>", y(cores));
    }
    for (what, counts) in &kinds {
        let mut path = String::from("M0 100");
        for (at, count) in counts {
            let _ = write!(path, "H{:.2}V{:.2}", x(*at), y(*count));
        }
        let _ = writeln!(out, "<path class=\"{}\" d=\"{path}H1000V100\"/>", kind(*what).0);
    }
    out.push_str("</svg>\n");
    out
}

/// The moments at which the number of spans of a kind changes, and the number from then on.
fn counts(spans: &[Span], what: What) -> Vec<(f64, i32)> {
    let of = spans.iter().filter(|span| span.what == what);
    let mut changes: Vec<(f64, i32)> = of.flat_map(|span| [(span.start, 1), (span.end, -1)]).collect();
    changes.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut count = 0;
    changes
        .into_iter()
        .map(|(at, change)| {
            count += change;
            (at, count)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timings::tests::span;

    #[test]
    fn lanes_are_as_few_as_possible() {
        let times = [(0.0, 2.0), (1.0, 3.0), (2.0, 4.0), (3.5, 5.0), (4.0, 5.0)];
        let spans: Vec<Span> = times.iter().map(|(start, end)| span(What::Build, "x", *start, *end)).collect();
        assert_eq!(pack(&spans, 0..5), [vec![0, 2, 4], vec![1, 3]]);
    }

    #[test]
    fn counts_rise_and_fall() {
        let spans =
            [span(What::Build, "a", 0.0, 2.0), span(What::Build, "b", 1.0, 2.0), span(What::Step, "c", 0.0, 9.0)];
        assert_eq!(counts(&spans, What::Build), [(0.0, 1), (1.0, 2), (2.0, 1), (2.0, 0)]);
    }

    #[test]
    fn ticks_are_round() {
        for (total, expected) in [(0.05, 0.01), (3.0, 0.5), (61.0, 10.0), (4000.0, 600.0), (1e7, 86400.0)] {
            assert_eq!(tick(total), expected, "{total}");
        }
    }
}
