//! Spans of time in, one self-contained HTML page out: what determined the end of the run, who worked when,
//! what ran at once, and everything by duration. It loads nothing and runs nothing.

mod chart;

use std::fmt::Write as _;

use super::{html::escape, record::FleetRecord, table::bytes};
use crate::timings::{
    Span, What,
    critical::{self, Leg},
};

/// Rows of the table; more make no page that anybody reads.
const MOST_ROWS: usize = 2000;

/// Whose times they are.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    pub command: &'a str,
    pub fleet: &'a FleetRecord,
    /// Nix's version.
    pub nix: &'a str,
    pub cores: usize,
    /// Bytes of the machine.
    pub memory: Option<u64>,
    /// When the run ended, in words.
    pub ended: &'a str,
}

/// The page. `needs` are the indices of what each span needed, as of [`crate::timings::needs`].
pub fn render(about: &About<'_>, spans: &[Span], needs: &[Vec<usize>]) -> String {
    let legs = critical::path(spans, needs);
    let total = spans.iter().map(|span| span.end).fold(0.0, f64::max);
    let command = escape(about.command);
    let mut out = String::from("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    out.push_str("<meta name=\"viewport\" content=\"width=device-width\">\n");
    let style = include_str!("page.css");
    let _ = write!(out, "<title>Timings of {command}</title>\n<style>\n{style}</style>\n</head>\n<body>\n");
    let _ = write!(out, "<h1>Timings of <code>{command}</code></h1>\n{}", origin(about));
    out.push_str(&tiles(spans, total));
    if spans.is_empty() {
        out.push_str("<p>Nothing was measured.</p>\n");
    } else {
        out.push_str(&critical_path(spans, &legs, total));
        out.push_str(&chart::timeline(spans, &legs, total));
        out.push_str(&chart::at_once(spans, total, about.cores));
        out.push_str(&table(spans, needs, &legs));
    }
    out.push_str("</body>\n</html>\n");
    out
}

fn origin(about: &About<'_>) -> String {
    let FleetRecord { root, revision, dirty, .. } = about.fleet;
    let revision = revision.as_deref().map_or_else(String::new, |revision| {
        format!(" at <code>{}</code>", escape(revision.get(..12).unwrap_or(revision)))
    });
    let dirty = if *dirty { ", with uncommitted changes" } else { "" };
    let memory = about.memory.map_or_else(String::new, |memory| format!(", {}", bytes(memory)));
    format!(
        "<p class=\"origin\">{}{revision}{dirty} · Nix {} · {} cores{memory} · ended {} UTC</p>\n",
        escape(root.file_name().unwrap_or("/")),
        escape(about.nix),
        about.cores,
        escape(about.ended)
    )
}

/// What a kind of span is called in classes of the style, and by people.
fn kind(what: What) -> (&'static str, &'static str) {
    match what {
        What::Step => ("step", "Drydock"),
        What::Evaluator => ("process", "evaluator"),
        What::Evaluation => ("evaluation", "evaluation"),
        What::Realiser => ("process", "nix build"),
        What::Build => ("build", "build"),
        What::Download => ("download", "copy"),
        What::Wait => ("wait", "wait"),
        What::Test => ("test", "VM test"),
    }
}

fn tiles(spans: &[Span], total: f64) -> String {
    let of = |what| spans.iter().filter(move |span| span.what == what);
    let sum = |what| of(what).map(Span::seconds).sum::<f64>();
    let mut tiles = vec![("total", duration(total), String::new())];
    for (what, name) in
        [(What::Evaluation, "evaluated"), (What::Build, "built"), (What::Download, "copied"), (What::Test, "VM tests")]
    {
        let (count, failed) = (of(what).count(), of(what).filter(|span| !span.ok).count());
        let failed = if failed > 0 { format!("<b class=\"bad\">{failed} failed</b>, ") } else { String::new() };
        let words = format!("{failed}{} one after another", duration(sum(what)));
        if count > 0 || matches!(what, What::Evaluation | What::Build) {
            tiles.push((name, count.to_string(), if count > 0 { words } else { "nothing to do".into() }));
        }
    }
    if let Some(memory) = of(What::Evaluator).filter_map(|span| span.memory).max() {
        let count = of(What::Evaluator).count();
        let processes = if count == 1 { "one process".into() } else { format!("the largest of {count} processes") };
        tiles.push(("memory of evaluators", bytes(memory), processes));
    }
    let tile = |(name, value, words): &(&str, String, String)| {
        format!("<div><small>{name}</small><strong>{value}</strong><small>{words}</small></div>\n")
    };
    format!("<div class=\"tiles\">\n{}</div>\n", tiles.iter().map(tile).collect::<String>())
}

fn critical_path(spans: &[Span], legs: &[Leg], total: f64) -> String {
    let mut out =
        String::from("<h2>Critical path</h2>\n<p>Each part began after the one before it had ended; the run would ");
    out.push_str("have been shorter only if one of these had been.</p>\n<div class=\"path\">");
    let class = |leg: &Leg| match leg.waited_for {
        Some(_) => "wait",
        None => kind(spans[leg.span].what).0,
    };
    let share = |leg: &Leg| if total > 0.0 { leg.seconds() / total * 100.0 } else { 0.0 };
    for leg in legs {
        let name = escape(&name(spans, leg));
        let _ = write!(
            out,
            "<span class=\"{}\" style=\"flex-grow:{:.3}\" title=\"{name}: {}\">{name}</span>",
            class(leg),
            share(leg).max(0.05),
            duration(leg.seconds())
        );
    }
    out.push_str("</div>\n<table>\n<tr><th class=\"n\">at<th class=\"n\">took<th class=\"n\">share<th><th>what</tr>\n");
    let is_long = |leg: &&Leg| share(leg) >= 0.5;
    for leg in legs.iter().filter(is_long) {
        let bad = if spans[leg.span].ok || leg.waited_for.is_some() { "" } else { " <b class=\"bad\">failed</b>" };
        let _ = writeln!(
            out,
            "<tr><td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{:.0} %<td class=\"k\"><i class=\"dot {}\"></i>{}<td>{}{}{bad}</tr>",
            duration(leg.start),
            duration(leg.seconds()),
            share(leg),
            class(leg),
            if leg.waited_for.is_some() { "wait" } else { kind(spans[leg.span].what).1 },
            escape(&name(spans, leg)),
            leg.could_at.map_or_else(String::new, |at| format!(
                " <small>could have begun at {}, had there been a place</small>",
                duration(at)
            )),
        );
    }
    out.push_str("</table>\n");
    let short = legs.iter().filter(|leg| !is_long(leg)).count();
    if short > 0 {
        let _ = writeln!(out, "<p class=\"origin\">{short} more of less than half a per cent each.</p>");
    }
    out
}

fn name(spans: &[Span], leg: &Leg) -> String {
    let span = &spans[leg.span];
    match leg.waited_for {
        Some(what) => format!("{} waits for {what}", span.name),
        None => span.name.clone(),
    }
}

/// Everything by duration, the longest first.
fn table(spans: &[Span], needs: &[Vec<usize>], legs: &[Leg]) -> String {
    let mut rows: Vec<usize> =
        (0..spans.len()).filter(|n| !matches!(spans[*n].what, What::Realiser | What::Wait)).collect();
    rows.sort_by(|a, b| spans[*b].seconds().total_cmp(&spans[*a].seconds()).then(a.cmp(b)));
    let left_out = rows.len().saturating_sub(MOST_ROWS);
    rows.truncate(MOST_ROWS);
    let mut out = String::from("<h2>By duration</h2>\n<table>\n<tr><th><th>what<th class=\"n\">took<th class=\"n\">at");
    out.push_str("<th class=\"n\">waited<th>after<th>where<th class=\"n\">memory<th></tr>\n");
    for at in rows {
        let span = &spans[at];
        let (waited, after) = match span.what {
            What::Build | What::Download | What::Evaluation => {
                let release = critical::release(spans, needs, at);
                let after = release.by.map_or("", |by| spans[by].name.as_str());
                (duration((span.start - release.at).max(0.0)), escape(after))
            }
            _ => (String::new(), String::new()),
        };
        let mut words = Vec::new();
        if !span.ok {
            words.push("<b class=\"bad\">failed</b>");
        }
        if legs.iter().any(|leg| leg.span == at && leg.waited_for.is_none()) {
            words.push("critical");
        }
        let place = match (span.what, span.machine.as_str()) {
            (What::Build, "") => "here".to_owned(),
            (_, machine) => escape(machine),
        };
        let (class, called) = kind(span.what);
        let _ = writeln!(
            out,
            "<tr><td class=\"k\"><i class=\"dot {class}\"></i>{called}<td title=\"{}\">{}<td class=\"n\">{}<td class=\"n\">{}<td \
             class=\"n\">{waited}<td>{after}<td>{place}<td class=\"n\">{}<td class=\"k\">{}</tr>",
            escape(&span.key),
            escape(&shown(spans, at)),
            duration(span.seconds()),
            duration(span.start),
            span.memory.map_or_else(String::new, bytes),
            words.join(", ")
        );
    }
    out.push_str("</table>\n");
    if left_out > 0 {
        let _ = writeln!(out, "<p class=\"origin\">{left_out} shorter ones are left out.</p>");
    }
    out
}

/// A span's name, or what was in the process.
fn shown(spans: &[Span], at: usize) -> String {
    let span = &spans[at];
    if span.what != What::Evaluator {
        return span.name.clone();
    }
    let inside: Vec<&str> =
        spans.iter().filter(|other| other.within == Some(at)).map(|other| other.name.as_str()).collect();
    if inside.is_empty() { "(no job)".to_owned() } else { inside.join(", ") }
}

/// Seconds as people say them.
fn duration(seconds: f64) -> String {
    if seconds < 0.9995 {
        format!("{:.0} ms", seconds * 1000.0)
    } else if seconds < 99.95 {
        format!("{seconds:.1} s")
    } else {
        let whole = seconds.round() as u64;
        match whole / 3600 {
            0 => format!("{} min {:02} s", whole / 60, whole % 60),
            hours => format!("{hours} h {:02} min", whole / 60 % 60),
        }
    }
}

#[cfg(test)]
mod tests;
