//! Collects from all threads what began and what ended: the spans of time of a run.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime},
};

use serde::{Deserialize, Serialize};

/// What a span is the time of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Span {
    pub what: What,
    /// What a person calls it: a job, the name of a derivation, a step.
    pub name: String,
    /// The derivation or the store path, where there is one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// The process that it happened in, as an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<usize>,
    pub start: f64,
    pub end: f64,
    pub ok: bool,
    /// Most resident bytes of an evaluator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// The remote machine that built it; empty where it was this one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub machine: String,
}

impl Span {
    /// How long it took.
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
            start: self.now(),
            end: f64::NAN,
            ok: true,
            memory: None,
            machine: String::new(),
        };
        let mut spans = self.lock();
        spans.push(span);
        Mark(spans.len() - 1)
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

    /// When the run began, in seconds since 1970.
    pub fn began(&self) -> u64 {
        self.0.day.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
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

    /// What happened in a process.
    pub fn within(&self, process: Mark) -> Vec<(Mark, Span)> {
        let spans = self.spans().into_iter().enumerate().map(|(at, span)| (Mark(at), span));
        spans.filter(|(_, span)| span.within == Some(process.0)).collect()
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

/// Spans that do not overlap, one after another, in as few lanes as possible: each goes to the first that is free.
pub fn lanes<'s>(spans: impl Iterator<Item = &'s Span>) -> Vec<Vec<&'s Span>> {
    let mut order: Vec<&Span> = spans.collect();
    order.sort_by(|a, b| a.start.total_cmp(&b.start));
    let mut lanes: Vec<Vec<&Span>> = Vec::new();
    for span in order {
        let is_free = |lane: &&mut Vec<&Span>| lane.last().is_none_or(|last| last.end <= span.start);
        match lanes.iter_mut().find(is_free) {
            Some(lane) => lane.push(span),
            None => lanes.push(vec![span]),
        }
    }
    lanes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::span;

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
    fn lanes_are_as_few_as_possible() {
        let times = [(0.0, 2.0), (1.0, 3.0), (2.0, 4.0), (3.5, 5.0), (4.0, 5.0)];
        let spans: Vec<Span> = times.iter().map(|(start, end)| span(What::Build, "x", *start, *end)).collect();
        let starts = lanes(spans.iter()).into_iter().map(|lane| lane.iter().map(|span| span.start).collect::<Vec<_>>());
        assert_eq!(starts.collect::<Vec<_>>(), [vec![0.0, 2.0, 4.0], vec![1.0, 3.5]]);
    }
}
