//! Spans in, out which of them determined the end of the run, and how long each build waited for what.

use super::{Span, What};

/// Seconds by which events may be received late; what lies within is taken for the same moment.
const TOLERANCE: f64 = 0.005;

/// A part of the critical path; they follow each other without a gap.
#[derive(Clone, Debug, PartialEq)]
pub struct Leg {
    /// The index of the span; for a wait, of the one that waited.
    pub span: usize,
    pub start: f64,
    pub end: f64,
    /// What the span waited for; nothing while it ran.
    pub waited_for: Option<&'static str>,
    /// When it could have begun if there had been a place for it, where that was earlier.
    pub could_at: Option<f64>,
}

impl Leg {
    pub fn seconds(&self) -> f64 {
        self.end - self.start
    }
}

/// Since when a span could have begun, and the index of what it was that made it possible.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Release {
    pub at: f64,
    pub by: Option<usize>,
}

/// The chain of spans that ended last, each after what released it, from the beginning of the run to its end.
pub fn path(spans: &[Span], needs: &[Vec<usize>]) -> Vec<Leg> {
    let is_work = |n: &usize| !matches!(spans[*n].what, What::Evaluator | What::Realiser | What::Wait);
    let last = (0..spans.len()).filter(is_work).max_by(|a, b| spans[*a].end.total_cmp(&spans[*b].end));
    let mut legs: Vec<Leg> = Vec::new();
    let mut seen = vec![false; spans.len()];
    let mut next = last;
    let mut until = f64::INFINITY;
    while let Some(at) = next.filter(|at| !std::mem::replace(&mut seen[*at], true)) {
        let span = &spans[at];
        let end = span.end.min(until);
        let start = span.start.min(end);
        let needed = release(spans, needs, at);
        let (release, could_at) = match place(spans, at, needed) {
            Some(freed) => (freed, Some(needed.at)),
            None => (needed, None),
        };
        legs.push(Leg { span: at, start, end, waited_for: None, could_at });
        let from = release.at.min(start);
        if start - from > TOLERANCE {
            let waited_for = Some(reason(spans, at, release));
            legs.push(Leg { span: at, start: from, end: start, waited_for, could_at: None });
        }
        until = if start - from > TOLERANCE { from } else { start };
        next = release.by;
    }
    legs.reverse();
    legs
}

/// What a span had to wait for at the least.
pub fn release(spans: &[Span], needs: &[Vec<usize>], at: usize) -> Release {
    let span = &spans[at];
    // What ended at about the same moment has begun before, so that no two are each other's cause.
    let earlier = |n: usize| (spans[n].start, n) < (span.start, at);
    let before = |moment: f64| move |n: &usize| spans[*n].end <= moment + TOLERANCE && earlier(*n);
    let latest = |found: &mut dyn Iterator<Item = usize>| found.max_by(|a, b| spans[*a].end.total_cmp(&spans[*b].end));
    let of = |kinds: &'static [What]| (0..spans.len()).filter(move |n| kinds.contains(&spans[*n].what));
    let step = |moment: f64| latest(&mut of(&[What::Step]).filter(before(moment)));
    let by = match span.what {
        What::Build | What::Download | What::Wait => {
            let needed = latest(&mut needs[at].iter().copied().filter(before(span.start)));
            let process = span.within.filter(|n| spans[*n].what == What::Realiser);
            match (needed, process) {
                (Some(needed), Some(process)) if spans[needed].end >= spans[process].start => Some(needed),
                (Some(needed), None) => Some(needed),
                (_, Some(process)) => return batch(spans, process),
                (None, None) => step(span.start),
            }
        }
        // Before its first job a worker waits for what Drydock does first.
        What::Evaluation => span.after.or_else(|| step(span.within.map_or(span.start, |n| spans[n].start))),
        // What Drydock does alone comes after everything before it, and a test after its evaluation and, where
        // all places are taken, another test.
        What::Step | What::Test => {
            const WORK: &[What] = &[What::Step, What::Evaluation, What::Build, What::Download, What::Test];
            latest(&mut of(WORK).filter(before(span.start)))
        }
        What::Evaluator => step(span.start),
        What::Realiser => return batch(spans, at),
    };
    Release { at: by.map_or(0.0, |by| spans[by].end).min(span.start), by }
}

/// A realiser begins when the last of its jobs has been evaluated, or when another one has ended and it takes what
/// has gathered.
fn batch(spans: &[Span], process: usize) -> Release {
    let start = spans[process].start;
    let causes = (0..spans.len()).filter(|n| match spans[*n].what {
        What::Evaluation => spans[process].jobs.contains(&spans[*n].name),
        What::Step => true,
        What::Build | What::Download => spans[*n].within != Some(process),
        _ => false,
    });
    let earlier = |n: usize| (spans[n].start, n) < (start, process);
    let before = causes.filter(|n| spans[*n].end <= start + TOLERANCE && earlier(*n));
    let by = before.max_by(|a, b| spans[*a].end.total_cmp(&spans[*b].end));
    Release { at: by.map_or(0.0, |by| spans[by].end).min(start), by }
}

/// The build that made a place for one that could have begun before: Nix runs so many at once and no more.
fn place(spans: &[Span], at: usize, needed: Release) -> Option<Release> {
    /// Seconds that Nix may take to begin.
    const PROMPT: f64 = 0.1;
    let span = &spans[at];
    if span.what != What::Build || span.start - needed.at < PROMPT {
        return None;
    }
    let same = |n: &usize| spans[*n].what == What::Build && spans[*n].within == span.within && *n != at;
    let ended = |n: &usize| spans[*n].end > needed.at && spans[*n].end <= span.start + TOLERANCE;
    let is_earlier = |n: &usize| (spans[*n].start, *n) < (span.start, at);
    let last = (0..spans.len()).filter(same).filter(ended).filter(is_earlier);
    let by = last.max_by(|a, b| spans[*a].end.total_cmp(&spans[*b].end))?;
    Some(Release { at: spans[by].end.min(span.start), by: Some(by) })
}

/// Why a span did not begin at once when nothing that it needs was missing.
fn reason(spans: &[Span], at: usize, release: Release) -> &'static str {
    let span = &spans[at];
    let overlaps = |other: &Span| other.start < span.start && other.end > release.at + TOLERANCE;
    let anywhere = |what: What| spans.iter().any(|other| other.what == what && overlaps(other));
    let lock = |other: &Span| {
        let ended = other.end > release.at + TOLERANCE && other.end <= span.start + TOLERANCE;
        other.what == What::Wait && other.within == span.within && ended
    };
    match span.what {
        What::Evaluation => "the evaluator to read the flake",
        What::Build if spans.iter().any(lock) => "a lock, which is looked at every second",
        What::Build | What::Download => "Nix to begin",
        What::Test if anywhere(What::Test) => "a free place to run",
        _ if anywhere(What::Evaluator) || anywhere(What::Realiser) => "Nix to end",
        _ => "what is not measured",
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::span, *};

    fn names(spans: &[Span], legs: &[Leg]) -> Vec<String> {
        let name = |leg: &Leg| match leg.waited_for {
            None => spans[leg.span].name.clone(),
            Some(why) => format!("({why})"),
        };
        legs.iter().map(name).collect()
    }

    /// Two hosts: a short one, and one whose build needs a library that takes longest.
    fn run() -> (Vec<Span>, Vec<Vec<usize>>) {
        let within = |at: usize, span: Span| Span { within: Some(at), ..span };
        let spans = vec![
            span(What::Step, "look", 0.0, 1.0),
            span(What::Evaluator, "e", 1.0, 6.0),
            within(1, span(What::Evaluation, "short", 2.0, 3.0)),
            Span { after: Some(2), ..within(1, span(What::Evaluation, "long", 3.0, 5.0)) },
            Span { jobs: vec!["short".into()], ..span(What::Realiser, "r1", 3.0, 4.0) },
            within(4, span(What::Build, "short-b", 3.1, 3.9)),
            Span { jobs: vec!["long".into()], ..span(What::Realiser, "r2", 5.0, 20.0) },
            within(6, span(What::Build, "lib", 5.001, 12.0)),
            within(6, span(What::Build, "doc", 5.001, 6.0)),
            within(6, span(What::Build, "long-b", 14.0, 19.5)),
            within(6, span(What::Build, "other", 12.0, 14.0)),
            span(What::Step, "hash", 20.0, 21.0),
        ];
        let mut needs = vec![vec![]; spans.len()];
        needs[9] = vec![7, 8];
        (spans, needs)
    }

    #[test]
    fn the_path_is_what_ended_last_and_what_that_waited_for() {
        let (spans, needs) = run();
        let legs = path(&spans, &needs);
        let expected = [
            "look",
            "(the evaluator to read the flake)",
            "short",
            "long",
            "lib",
            "other",
            "long-b",
            "(Nix to end)",
            "hash",
        ];
        assert_eq!(names(&spans, &legs), expected);
        assert_eq!((legs[0].start, legs[8].end), (0.0, 21.0));
        assert_eq!(legs.iter().map(|leg| leg.could_at).collect::<Vec<_>>(), {
            let (mut at, other, long) = (vec![None; 9], 5.0, 12.0);
            (at[5], at[6]) = (Some(other), Some(long));
            at
        });
        for pair in legs.windows(2) {
            assert!((pair[0].end - pair[1].start).abs() < TOLERANCE, "{pair:?}");
        }
        assert_eq!(release(&spans, &needs, 9), Release { at: 12.0, by: Some(7) });
    }

    #[test]
    fn a_run_that_only_remembered_is_its_steps() {
        let steps = [("look", 0.0, 1.0), ("nothing", 1.001, 1.001), ("remember", 1.001, 1.002), ("verify", 1.002, 2.0)];
        let spans = steps.map(|(name, start, end)| span(What::Step, name, start, end));
        let legs = path(&spans, &[vec![], vec![], vec![], vec![]]);
        assert_eq!(names(&spans, &legs), ["look", "nothing", "remember", "verify"]);
        assert_eq!(path(&[], &[]), []);
    }

    #[test]
    fn a_remembered_job_that_is_built_was_released_by_looking_it_up() {
        let spans = [
            span(What::Step, "look", 0.0, 1.0),
            Span { jobs: vec!["a".into()], ..span(What::Realiser, "r", 1.0, 9.0) },
            Span { within: Some(1), ..span(What::Build, "b", 1.5, 8.5) },
        ];
        let legs = path(&spans, &[vec![], vec![], vec![]]);
        assert_eq!(names(&spans, &legs), ["look", "(Nix to begin)", "b"]);
    }

    #[test]
    fn what_began_before_its_cause_was_told_makes_no_loop() {
        // Events are received late: two spans each claim to have ended before the other began.
        let spans = [span(What::Build, "a", 1.0, 1.001), span(What::Build, "b", 1.0, 1.001)];
        let legs = path(&spans, &[vec![1], vec![0]]);
        assert!(legs.len() <= 3, "{legs:?}");
        assert!(legs.iter().all(|leg| leg.seconds() >= 0.0), "{legs:?}");
    }
}
