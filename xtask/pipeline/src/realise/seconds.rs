//! How long each derivation took, from what Nix said while it realised all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt as _,
    time::{Duration, UNIX_EPOCH},
};

use crate::{
    job::Derivation,
    timings::{Mark, Span, Timings, What},
};

/// The builds and copies of one process of Nix.
pub struct Seconds(Vec<Span>);

impl Seconds {
    /// Corrects the ends of builds in `timings`, and takes the spans of a process that has ended.
    pub fn of(timings: &Timings, process: Mark) -> Self {
        let changed = |path: &str| {
            let meta = fs::symlink_metadata(path).ok()?;
            let since = Duration::new(u64::try_from(meta.ctime()).ok()?, u32::try_from(meta.ctime_nsec()).ok()?);
            Some(timings.since(UNIX_EPOCH + since))
        };
        let (marks, mut spans): (Vec<Mark>, Vec<Span>) = timings.within(process).into_iter().unzip();
        end_with_outputs(&mut spans, &read, &changed);
        for (mark, span) in marks.into_iter().zip(&spans) {
            timings.tell(mark, |known| (known.end, known.ok) = (span.end, span.ok));
        }
        Self(spans)
    }

    /// The seconds during which something was built or copied that the derivation needed, itself included. What went
    /// on at the same time counts once, and waiting for others does not count. None if there was nothing of it.
    pub fn spent_on(&self, derivation: &Derivation) -> Option<f64> {
        spent(&self.0, derivation.drv.as_str(), derivation.out.as_str(), &read)
    }
}

/// The text of a derivation.
fn read(drv: &str) -> Option<String> {
    fs::read_to_string(drv).ok()
}

fn spent(spans: &[Span], drv: &str, out: &str, read: &dyn Fn(&str) -> Option<String>) -> Option<f64> {
    let of = |what| spans.iter().filter(move |span| span.what == what).map(|span| (span.key.as_str(), span));
    let (builds, downloads): (BTreeMap<&str, &Span>, BTreeMap<&str, &Span>) =
        (of(What::Build).collect(), of(What::Download).collect());
    let mut times: Vec<(f64, f64)> = downloads.get(out).map(|span| (span.start, span.end)).into_iter().collect();
    let (mut open, mut seen) = (vec![drv.to_owned()], BTreeSet::new());
    while let Some(drv) = open.pop() {
        let Some(text) = read(&drv).filter(|_| seen.insert(drv.clone())) else { continue };
        times.extend(builds.get(drv.as_str()).map(|span| (span.start, span.end)));
        // All that a derivation names in its text are its outputs, its sources and the derivations it needs.
        for path in paths(&text).filter(|path| *path != drv) {
            times.extend(downloads.get(path).map(|span| (span.start, span.end)));
            if builds.contains_key(path) {
                open.push(path.to_owned());
            } else if path.ends_with(".drv") && !downloads.is_empty() && seen.insert(path.to_owned()) {
                let text = read(path).unwrap_or_default();
                times.extend(paths(&text).filter_map(|path| downloads.get(path)).map(|span| (span.start, span.end)));
            }
        }
    }
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut sum, mut until) = (0.0, f64::NEG_INFINITY);
    for (start, end) in &times {
        sum += (end - start.max(until)).max(0.0);
        until = until.max(*end);
    }
    (!times.is_empty()).then_some(sum)
}

/// Ends builds when their outputs were there: up to 2.26 Nix says the end of a job's own derivation only when it
/// ends itself. A build without outputs has failed, or was interrupted, whatever Nix said. `read` gives the text of a derivation, `changed` when a path was last changed.
fn end_with_outputs(spans: &mut [Span], read: &dyn Fn(&str) -> Option<String>, changed: &dyn Fn(&str) -> Option<f64>) {
    for span in spans.iter_mut().filter(|span| span.what == What::Build && span.ok) {
        let text = read(&span.key).unwrap_or_default();
        let outputs = text.split("],[").next().unwrap_or_default();
        let all: Vec<Option<f64>> = paths(outputs).map(changed).collect();
        span.ok = all.is_empty() || all.iter().any(Option::is_some);
        let last = all.into_iter().flatten().fold(f64::NAN, f64::max);
        if last > span.start && last < span.end {
            span.end = last;
        }
    }
}

/// Everything in a derivation's text that is quoted and begins like a path.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').filter(|part| part.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use drydock_model::samples::span;

    #[test]
    fn a_build_ends_with_its_last_output() {
        let read =
            |_: &str| Some(r#"Derive([("dev","/s/dev","",""),("out","/s/out","","")],[("/s/later",["out"])])"#.into());
        let changed = |path: &str| match path {
            "/s/dev" => Some(3.0),
            "/s/out" => Some(4.0),
            _ => Some(8.0),
        };
        // When it began and ended, whether it is well, and the end that counts.
        let rows = [(1.0, 9.0, true, 4.0), (5.0, 9.0, true, 9.0), (1.0, 2.0, true, 2.0), (1.0, 9.0, false, 9.0)];
        for (start, end, ok, expected) in rows {
            let mut spans = [Span { ok, ..span(What::Build, "a", start, end) }];
            end_with_outputs(&mut spans, &read, &changed);
            assert_eq!(spans[0].end, expected, "{start} {end} {ok}");
        }
        let mut spans = [span(What::Build, "a", 1.0, 9.0)];
        end_with_outputs(&mut spans, &|_| None, &changed);
        assert_eq!((spans[0].end, spans[0].ok), (9.0, true), "a derivation that cannot be read");
        end_with_outputs(&mut spans, &read, &|_| None);
        assert_eq!((spans[0].end, spans[0].ok), (9.0, false), "there is no output");
    }

    #[test]
    fn what_a_derivation_took_is_what_went_on_for_it() {
        let spans = [
            span(What::Build, "a", 0.0, 1.0),
            span(What::Build, "b", 3.0, 5.0),
            Span { key: "/s/out-c".into(), ..span(What::Download, "c", 0.5, 2.0) },
            Span { key: "/s/source".into(), ..span(What::Download, "s", 4.0, 4.5) },
            span(What::Build, "other", 0.0, 9.0),
        ];
        let text = |drv: &str| {
            Some(match drv {
                "/s/a.drv" => r#"Derive([("out","/s/a")],[])"#,
                "/s/b.drv" => r#"Derive([("out","/s/b")],[("/s/a.drv",["out"]),("/s/c.drv",["out"])],["/s/source"])"#,
                "/s/c.drv" => r#"Derive([("out","/s/out-c")],[("/s/z.drv",["out"])])"#,
                "/s/other.drv" => r#"Derive([("out","/s/other")],[])"#,
                // It was not built, because b failed.
                "/s/d.drv" => r#"Derive([("out","/s/d")],[("/s/b.drv",["out"])])"#,
                _ => return None,
            })
        };
        let text = |drv: &str| text(drv).map(str::to_owned);
        let rows = [("a", Some(1.0)), ("b", Some(4.0)), ("d", Some(4.0)), ("other", Some(9.0)), ("unknown", None)];
        for (name, expected) in rows {
            assert_eq!(spent(&spans, &format!("/s/{name}.drv"), &format!("/s/{name}"), &text), expected, "{name}");
        }
        assert_eq!(spent(&spans, "/s/gone.drv", "/s/out-c", &text), Some(1.5), "it was copied");
    }
}
