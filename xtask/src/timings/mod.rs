//! What began and what ended in, spans of time out: who worked when, for whoever wants to know what a run
//! waited for. Collected from all threads; what it means is found out afterwards (`critical`).

pub mod critical;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime},
};

/// What a span is the time of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// Something that Drydock does itself while nothing else runs, such as hashing images.
    Step,
    /// An evaluator process.
    Evaluator,
    /// One job inside an evaluator.
    Evaluation,
    /// A Nix process that realises derivations.
    Realiser,
    /// A builder.
    Build,
    /// A path that is copied from a substituter or another store.
    Download,
    /// A derivation that waits for a lock or for a machine.
    Wait,
    /// A VM test.
    Test,
}

/// The time of one thing. Seconds count from the beginning of the run.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub what: What,
    /// What a person calls it: a job, the name of a derivation, a step.
    pub name: String,
    /// The derivation or the store path, where there is one.
    pub key: String,
    /// The process that it happened in, as an index.
    pub within: Option<usize>,
    /// What was done before it by the same worker, as an index.
    pub after: Option<usize>,
    pub start: f64,
    pub end: f64,
    pub ok: bool,
    /// Most resident bytes of an evaluator.
    pub memory: Option<u64>,
    /// The remote machine that built it; empty where it was this one.
    pub machine: String,
    /// The jobs that a realiser was given.
    pub jobs: Vec<String>,
}

impl Span {
    pub fn seconds(&self) -> f64 {
        self.end - self.start
    }
}

/// A span that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(usize);

/// The collection; clones share it.
#[derive(Clone, Debug)]
pub struct Timings(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    began: Instant,
    day: SystemTime,
    /// A span whose end is not a number goes on.
    spans: Mutex<Vec<Span>>,
}

impl Default for Timings {
    fn default() -> Self {
        Self(Arc::new(Inner { began: Instant::now(), day: SystemTime::now(), spans: Mutex::default() }))
    }
}

impl Timings {
    fn lock(&self) -> MutexGuard<'_, Vec<Span>> {
        self.0.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> f64 {
        self.0.began.elapsed().as_secs_f64()
    }

    /// Something begins now, in a process that began before, if in any.
    pub fn begin(&self, what: What, name: impl Into<String>, within: Option<Mark>) -> Mark {
        let span = Span {
            what,
            name: name.into(),
            key: String::new(),
            within: within.map(|mark| mark.0),
            after: None,
            start: self.now(),
            end: f64::NAN,
            ok: true,
            memory: None,
            machine: String::new(),
            jobs: Vec::new(),
        };
        let mut spans = self.lock();
        spans.push(span);
        Mark(spans.len() - 1)
    }

    /// Says what the same worker did before.
    pub fn follows(&self, mark: Mark, before: Option<Mark>) {
        self.tell(mark, |span| span.after = before.map(|before| before.0));
    }

    /// What began goes on in another process.
    pub fn moves(&self, mark: Mark, process: Mark) {
        self.tell(mark, |span| span.within = Some(process.0));
    }

    /// What was announced begins only now.
    pub fn begin_again(&self, mark: Mark) {
        let now = self.now();
        self.tell(mark, |span| span.start = now);
    }

    /// Adds what became known of a span.
    pub fn tell(&self, mark: Mark, about: impl FnOnce(&mut Span)) {
        if let Some(span) = self.lock().get_mut(mark.0) {
            about(span);
        }
    }

    /// The first end counts.
    pub fn end(&self, mark: Mark, ok: bool) {
        let now = self.now();
        self.tell(mark, |span| {
            if span.end.is_nan() {
                span.end = now;
            }
            span.ok = span.ok && ok;
        });
    }

    /// A time of day as seconds since the beginning of the run, negative if it was before.
    pub fn since(&self, time: SystemTime) -> f64 {
        match time.duration_since(self.0.day) {
            Ok(later) => later.as_secs_f64(),
            Err(earlier) => -earlier.duration().as_secs_f64(),
        }
    }

    /// The time of a step that Drydock itself does.
    pub fn time<T>(&self, name: &str, work: impl FnOnce() -> T) -> T {
        let mark = self.begin(What::Step, name, None);
        let done = work();
        self.end(mark, true);
        done
    }

    /// The same for what may fail.
    pub fn step<T, E>(&self, name: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let mark = self.begin(What::Step, name, None);
        let done = work();
        self.end(mark, done.is_ok());
        done
    }

    /// All spans by their beginning. What still goes on, because the run was interrupted, ends now.
    pub fn spans(&self) -> Vec<Span> {
        let now = self.now();
        let mut spans = self.lock().clone();
        for span in spans.iter_mut().filter(|span| span.end.is_nan()) {
            span.end = now;
            span.ok = false;
        }
        spans
    }
}

/// Ends builds when their outputs were there: up to 2.26 Nix says the end of a job's own derivation only when it
/// ends itself. A build without outputs has failed, or was interrupted, whatever Nix said. `read` gives the text of a derivation, `changed` when a path was last changed.
pub fn end_with_outputs(
    spans: &mut [Span],
    read: &dyn Fn(&str) -> Option<String>,
    changed: &dyn Fn(&str) -> Option<f64>,
) {
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

/// For each span the indices of the builds and downloads that it needed. `read` gives the text of a derivation;
/// the inputs of a derivation and the outputs it names are all store paths in that text.
pub fn needs(spans: &[Span], read: &dyn Fn(&str) -> Option<String>) -> Vec<Vec<usize>> {
    let of = |what| spans.iter().enumerate().filter(move |(_, span)| span.what == what);
    let builds: BTreeMap<&str, usize> = of(What::Build).map(|(n, span)| (span.key.as_str(), n)).collect();
    let downloads: BTreeMap<&str, usize> = of(What::Download).map(|(n, span)| (span.key.as_str(), n)).collect();
    let mut outputs: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut found = vec![Vec::new(); spans.len()];
    for (&drv, &at) in &builds {
        let Some(text) = read(drv) else { continue };
        let mut own: BTreeSet<usize> = paths(&text).filter_map(|path| downloads.get(path).copied()).collect();
        for input in paths(&text).filter(|path| path.ends_with(".drv") && *path != drv) {
            if let Some(build) = builds.get(input) {
                own.insert(*build);
            } else if !downloads.is_empty() {
                let fetched = outputs.entry(input.to_owned()).or_insert_with(|| {
                    let text = read(input).unwrap_or_default();
                    paths(&text).filter_map(|path| downloads.get(path).copied()).collect()
                });
                own.extend(fetched.iter());
            }
        }
        found[at] = own.into_iter().collect();
    }
    found
}

/// Everything in a derivation's text that is quoted and begins like a path.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').filter(|part| part.starts_with('/'))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A span for tests.
    pub fn span(what: What, name: &str, start: f64, end: f64) -> Span {
        Span {
            what,
            name: name.into(),
            key: format!("/s/{name}.drv"),
            within: None,
            after: None,
            start,
            end,
            ok: true,
            memory: None,
            machine: String::new(),
            jobs: Vec::new(),
        }
    }

    #[test]
    fn spans_are_collected_from_all_threads_and_end() {
        let timings = Timings::default();
        let process = timings.begin(What::Realiser, "p", None);
        std::thread::scope(|scope| {
            for n in 0..20 {
                let timings = timings.clone();
                scope.spawn(move || {
                    let mark = timings.begin(What::Build, n.to_string(), Some(process));
                    timings.tell(mark, |span| span.machine = "m".into());
                    timings.end(mark, n != 7);
                });
            }
        });
        let spans = timings.spans();
        assert_eq!(spans.len(), 21);
        assert!(spans[1..].iter().all(|span| span.within == Some(0) && span.end >= span.start && span.machine == "m"));
        assert_eq!(spans.iter().filter(|span| !span.ok).map(|span| span.name.as_str()).collect::<Vec<_>>().len(), 2);
        assert!(!spans[0].ok && spans[0].end >= spans[20].end, "what goes on was interrupted");
    }

    #[test]
    fn a_step_fails_with_its_error() {
        let timings = Timings::default();
        assert_eq!(timings.step("a", || Ok::<_, ()>(3)), Ok(3));
        assert_eq!(timings.step("b", || Err::<(), _>("x")), Err("x"));
        assert_eq!(timings.spans().iter().map(|span| span.ok).collect::<Vec<_>>(), [true, false]);
    }

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
    fn needs_are_builds_and_downloads_of_inputs_and_their_outputs() {
        let spans = [
            span(What::Build, "a", 0.0, 1.0),
            span(What::Build, "b", 1.0, 2.0),
            Span { key: "/s/out-c".into(), ..span(What::Download, "c", 0.0, 1.0) },
            Span { key: "/s/source".into(), ..span(What::Download, "s", 0.0, 1.0) },
        ];
        let read = |drv: &str| {
            Some(match drv {
                "/s/b.drv" => r#"Derive([("out","/s/b")],[("/s/a.drv",["out"]),("/s/c.drv",["out"])],["/s/source"])"#,
                "/s/c.drv" => r#"Derive([("out","/s/out-c")],[("/s/z.drv",["out"])])"#,
                _ => return None,
            })
        };
        let read = |drv: &str| read(drv).map(str::to_owned);
        assert_eq!(needs(&spans, &read), [vec![], vec![0, 2, 3], vec![], vec![]]);
    }
}
