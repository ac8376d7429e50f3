//! Writes records as one self-contained HTML page: a table and two plots, durations and sizes, drawn as
//! inline SVG. It loads nothing and runs nothing.

use std::fmt::Write as _;

use crate::{
    job::Outcome,
    record::{JobRecord, Record},
    table::bytes,
    timeline,
};

const STYLE: &str = "\
:root{color-scheme:light dark;--a:#2f6fb3;--b:#e08a1e;--bad:#c0392b}\
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #8884}\
td.n{text-align:right;font-variant-numeric:tabular-nums}.bad{color:var(--bad);font-weight:600}\
pre{overflow:auto;padding:.6rem;background:#8881;border-radius:4px}\
svg text{font:12px system-ui,sans-serif;fill:currentColor}.a{fill:var(--a)}.b{fill:var(--b)}.c{fill:#3a8f5c}rect.bad{fill:var(--bad)}rect{stroke:Canvas;stroke-width:.5}\
";

/// The page.
pub fn render(records: &[Record]) -> String {
    let mut jobs: Vec<&JobRecord> = records.iter().flat_map(|record| &record.jobs).collect();
    jobs.sort_by_key(|job| (job.outcome.is_success(), job.job.clone()));
    let mut out = String::from("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    out.push_str("<meta name=\"viewport\" content=\"width=device-width\">\n<title>Fleet report</title>\n");
    let _ = write!(out, "<style>{STYLE}</style>\n</head>\n<body>\n<h1>Fleet report</h1>\n{}", origins(records));
    let failed = jobs.iter().filter(|job| !job.outcome.is_success()).count();
    let _ = writeln!(out, "<p>{} jobs, <span{}>{failed} failed</span>.</p>", jobs.len(), class(failed > 0));
    jobs.iter().for_each(|job| out.push_str(&failure(job)));
    out.extend(records.iter().map(|record| timeline::render(&record.spans)));
    out.push_str(&durations(&jobs));
    out.push_str(&sizes(&jobs));
    out.push_str(&table(&jobs));
    out.push_str("</body>\n</html>\n");
    out
}

fn class(bad: bool) -> &'static str {
    if bad { " class=\"bad\"" } else { "" }
}

fn origins(records: &[Record]) -> String {
    let mut out = String::new();
    for record in records {
        let dirty = if record.fleet.dirty { ", with uncommitted changes" } else { "" };
        let revision = record.fleet.revision.as_deref().unwrap_or("no revision");
        let _ = writeln!(
            out,
            "<p><code>{}</code> of {} at <code>{}</code>{dirty}, Nix {}, {:.1} s in all</p>",
            escape(&record.command),
            escape(record.fleet.root.file_name().unwrap_or("/")),
            escape(revision),
            escape(&record.nix),
            record.seconds.total
        );
    }
    out
}

fn failure(job: &JobRecord) -> String {
    let Outcome::Failed(failure) = &job.outcome else { return String::new() };
    let place = failure.position.as_ref().map(|p| format!(" at <code>{}</code>", escape(&p.to_string())));
    format!(
        "<details open><summary class=\"bad\">{} failed to {}{}</summary><pre>{}\n{}</pre><p>To repeat it:</p><pre>{}</pre></details>\n",
        job.job,
        failure.stage.as_str(),
        place.unwrap_or_default(),
        escape(&failure.message),
        escape(&failure.log_tail.join("\n")),
        escape(&failure.reproduce)
    )
}

fn durations(jobs: &[&JobRecord]) -> String {
    let bars: Vec<Bar> = jobs
        .iter()
        .map(|job| Bar {
            name: job.job.to_string(),
            parts: [job.evaluate_seconds.unwrap_or(0.0), job.build_seconds.unwrap_or(0.0)],
        })
        .collect();
    plot("Durations", ["evaluate", "build"], bars, |seconds| format!("{seconds:.1} s"))
}

fn sizes(jobs: &[&JobRecord]) -> String {
    let bars: Vec<Bar> = jobs
        .iter()
        .map(|job| Bar {
            name: job.job.to_string(),
            parts: [job.closure_size.unwrap_or(0) as f64, job.image.as_ref().map_or(0.0, |image| image.size as f64)],
        })
        .collect();
    plot("Sizes", ["closure", "image"], bars, |size| bytes(size as u64))
}

/// One line of a plot: two quantities drawn one after the other.
struct Bar {
    name: String,
    parts: [f64; 2],
}

/// Horizontal bars, the longest first; bars of nothing are left out.
fn plot(title: &str, keys: [&str; 2], mut bars: Vec<Bar>, unit: impl Fn(f64) -> String) -> String {
    const LEFT: f64 = 260.0;
    const WIDTH: f64 = 620.0;
    const LINE: f64 = 20.0;
    let total = |bar: &Bar| bar.parts[0] + bar.parts[1];
    bars.retain(|bar| total(bar) > 0.0);
    if bars.is_empty() {
        return String::new();
    }
    bars.sort_by(|a, b| total(b).total_cmp(&total(a)).then_with(|| a.name.cmp(&b.name)));
    let scale = WIDTH / total(&bars[0]);
    let height = LINE * (bars.len() as f64 + 1.0);
    let mut out = format!(
        "<h2>{title}</h2>\n<svg role=\"img\" aria-label=\"{title}\" width=\"100%\" viewBox=\"0 0 1000 {height}\">\n"
    );
    for (x, class, key) in [(LEFT, "a", keys[0]), (LEFT + 120.0, "b", keys[1])] {
        let _ = writeln!(
            out,
            "<rect class=\"{class}\" x=\"{x}\" y=\"3\" width=\"12\" height=\"12\"/><text x=\"{}\" y=\"14\">{key}</text>",
            x + 18.0
        );
    }
    for (n, bar) in bars.iter().enumerate() {
        let (y, [a, b]) = (LINE * (n as f64 + 1.0), bar.parts);
        let name = escape(&bar.name);
        let words: Vec<String> = [a, b].into_iter().filter(|v| *v > 0.0).map(&unit).collect();
        let _ = write!(
            out,
            "<g><title>{name}: {}</title><text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            words.join(" + "),
            LEFT - 8.0,
            y + 14.0,
            escape(&shortened(&bar.name))
        );
        for (class, x, value) in [("a", LEFT, a), ("b", LEFT + a * scale, b)] {
            if value > 0.0 {
                let width = value * scale;
                let _ = write!(
                    out,
                    "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{}\" width=\"{width:.1}\" height=\"14\"/>",
                    y + 3.0
                );
            }
        }
        let end = LEFT + total(bar) * scale + 6.0;
        let _ = writeln!(out, "<text x=\"{end:.1}\" y=\"{}\">{}</text></g>", y + 14.0, words.join(" + "));
    }
    out.push_str("</svg>\n");
    out
}

/// A name that fits left of its bar; the whole name is in the bar's title.
fn shortened(name: &str) -> String {
    const FITTING: usize = 38;
    match name.chars().count() > FITTING {
        true => format!("{}…", name.chars().take(FITTING - 1).collect::<String>()),
        false => name.to_owned(),
    }
}

fn table(jobs: &[&JobRecord]) -> String {
    let mut out = String::from(
        "<h2>Jobs</h2>\n<table>\n<tr><th>job<th>system<th>result<th>evaluate<th>build<th>closure<th>image<th>SHA-256</tr>\n",
    );
    for job in jobs {
        let seconds = |value: Option<f64>| value.map_or_else(String::new, |s| format!("{s:.1} s"));
        let image = job.image.as_ref();
        let _ = writeln!(
            out,
            "<tr><td>{}<td>{}<td{}>{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}<td><code>{}</code></tr>",
            job.job,
            job.system,
            class(!job.outcome.is_success()),
            job.outcome.as_str(),
            seconds(job.evaluate_seconds),
            seconds(job.build_seconds),
            job.closure_size.map_or_else(String::new, bytes),
            image.map_or_else(String::new, |image| bytes(image.size)),
            image.map_or_else(String::new, |image| escape(&image.sha256)),
        );
    }
    out.push_str("</table>\n");
    out
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use drydock_model::samples::record as sample;

    #[test]
    fn the_page_stands_alone_and_shows_everything() {
        let page = render(&[sample()]);
        for needle in ["http://", "https://", "<script", "@import", "url("] {
            assert!(!page.contains(needle), "{needle}");
        }
        for needle in
            ["b.iso failed to evaluate", "hosts/b/default.nix:3:7", "bad &lt;&amp;&gt; &quot;", "<svg", "3.0 MiB"]
        {
            assert!(page.contains(needle), "{needle}\n{page}");
        }
    }

    #[test]
    fn every_tag_that_opens_closes() {
        let page = render(&[sample()]);
        for tag in ["html", "body", "svg", "g", "table", "details", "pre", "style", "h2"] {
            let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }

    #[test]
    fn a_run_without_jobs_has_no_plot() {
        assert!(!render(&[]).contains("<svg"));
    }
}
