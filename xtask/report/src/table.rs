//! Writes the table at a run's end: failures first, each with its cause, the tail of its log and
//! the command that repeats it.

use std::fmt::Write as _;

use crate::{
    diagnostic::{bytes, counted},
    job::{Failure, JobId, Outcome},
    record::{JobRecord, Record},
};

/// Colours, or none where `NO_COLOR` is set or nobody sees them.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    pub colour: bool,
}

impl Paint {
    fn wrap(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bad(self, text: &str) -> String {
        self.wrap("31;1", text)
    }

    fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }
}

/// The whole closing text of a run.
pub fn render(record: &Record, paint: Paint) -> String {
    let mut out = String::new();
    let mut jobs: Vec<&JobRecord> = record.jobs.iter().collect();
    jobs.sort_by_key(|job| (rank(&job.outcome), job.job.clone()));
    let width = jobs.iter().map(|job| job.job.to_string().len()).max().unwrap_or(0).max(3);
    for job in &jobs {
        let status = format!("{:8}", job.outcome.as_str());
        let status = if job.outcome.is_success() { paint.good(&status) } else { paint.bad(&status) };
        let line = format!("{:width$}  {:13}  {status}  {}", job.job.to_string(), job.system, facts(job));
        let _ = writeln!(out, "{}", line.trim_end());
    }
    let failed = jobs.iter().filter_map(|job| Some((&job.job, job.outcome.failure()?)));
    for (failure, affected) in causes(failed) {
        let _ = write!(out, "\n{}", explain(failure, &affected, paint));
    }
    let _ = write!(out, "\n{}", summary(record));
    out
}

fn rank(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Failed(_) => 0,
        Outcome::NotRun { .. } => 1,
        _ => 2,
    }
}

fn facts(job: &JobRecord) -> String {
    let seconds = |name: &str, value: Option<f64>| value.map(|s| format!("{name} {s:.1} s"));
    let image = job.image.as_ref().map(|image| format!("{} {}", bytes(image.size), image.file));
    let closure = job.closure_size.filter(|_| image.is_none()).map(|size| format!("closure {}", bytes(size)));
    let reason = match &job.outcome {
        Outcome::NotRun { reason } => Some(reason.clone()),
        Outcome::Failed(failure) => Some(failure.message.lines().next().unwrap_or_default().to_owned()),
        _ => None,
    };
    let machine = job.machine.as_ref().map(|machine| format!("on {machine}"));
    let parts = [
        seconds("evaluate", job.evaluate_seconds),
        seconds("build", job.build_seconds),
        machine,
        closure,
        image,
        reason,
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Failures without a table, for verbs that do nothing but look for them.
pub fn failures<'a>(failed: impl Iterator<Item = (&'a JobId, &'a Failure)>, paint: Paint) -> String {
    let texts = causes(failed).into_iter().map(|(failure, affected)| explain(failure, &affected, paint));
    texts.collect::<Vec<_>>().join("\n")
}

/// Failures by their cause: a derivation that several jobs share, or a flake that evaluates for none, is
/// told once with all jobs it fails.
pub(crate) fn causes<'a>(failed: impl Iterator<Item = (&'a JobId, &'a Failure)>) -> Vec<(&'a Failure, Vec<&'a JobId>)> {
    let mut causes: Vec<(&Failure, Vec<&JobId>)> = Vec::new();
    for (job, failure) in failed {
        let same = |other: &Failure| match (&failure.drv, &other.drv) {
            (Some(a), Some(b)) => a == b,
            (None, None) => failure.message == other.message && failure.position == other.position,
            _ => false,
        };
        match causes.iter_mut().find(|(other, _)| same(other)) {
            Some((_, affected)) => affected.push(job),
            None => causes.push((failure, vec![job])),
        }
    }
    causes
}

fn explain(failure: &Failure, affected: &[&JobId], paint: Paint) -> String {
    let mut out = String::new();
    let names = affected.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let _ = writeln!(out, "{} to {}: {names}", paint.bad("FAILED"), failure.stage.as_str());
    if let Some(position) = &failure.position {
        let _ = writeln!(out, "  at {position}");
    }
    for line in failure.message.lines() {
        let _ = writeln!(out, "  {line}");
    }
    if let Some(drv) = &failure.drv {
        let _ = writeln!(out, "  derivation: {drv}");
    }
    if !failure.log_tail.is_empty() {
        let _ = writeln!(out, "  last {} lines of its log:", failure.log_tail.len());
        for line in &failure.log_tail {
            let _ = writeln!(out, "    | {line}");
        }
    }
    let _ = writeln!(out, "  to repeat it: {}", failure.reproduce);
    out
}

fn summary(record: &Record) -> String {
    let count = |word: &str| record.jobs.iter().filter(|job| job.outcome.as_str() == word).count();
    let words = ["failed", "not-run", "built", "fetched", "present"];
    let counts: Vec<String> = words
        .iter()
        .map(|word| (count(word), word))
        .filter(|(n, _)| *n > 0)
        .map(|(n, word)| format!("{n} {word}"))
        .collect();
    let s = record.seconds;
    format!(
        "{}: {}; evaluate {:.1} s, build {:.1} s, verify {:.1} s, total {:.1} s\n",
        counted(record.jobs.len(), "job"),
        counts.join(", "),
        s.evaluate,
        s.build,
        s.verify,
        s.total
    )
}

#[cfg(test)]
mod tests {
    use drydock_model::samples::{keep, record as sample};

    use super::*;
    use crate::{
        job::{Derivation, Subtest},
        record::{Image, Screen, TestRecord},
        timings::{Span, What},
    };

    #[test]
    fn failures_come_first_and_a_shared_cause_once() {
        let expected = "\
b.iso     x86_64-linux   failed    b is broken
c.system  x86_64-linux   failed    builder failed with exit code 3
d.system  x86_64-linux   failed    builder failed with exit code 3
e.system  x86_64-linux   not-run   interrupted
a.iso     x86_64-linux   built     build 12.0 s, 3.0 MiB a.iso

FAILED to evaluate: b.iso
  at hosts/b/default.nix:3:7
  b is broken
  to repeat it: nix eval x

FAILED to build: c.system, d.system
  builder failed with exit code 3
  derivation: /nix/store/x-shared.drv
  last 2 lines of its log:
    | hi
    | bad <&> \"
  to repeat it: nix build '/nix/store/x-shared.drv^*'

5 jobs: 3 failed, 1 not-run, 1 built; evaluate 1.0 s, build 12.0 s, verify 0.1 s, total 13.0 s
";
        assert_eq!(render(&sample(), Paint { colour: false }), expected);
        assert!(render(&sample(), Paint { colour: true }).contains("\x1b[31;1mfailed"));
    }

    #[test]
    fn a_record_survives_its_json() {
        let record = sample();
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }

    /// A job and a span in which no field is absent; a new one has to be added here.
    fn complete() -> (JobRecord, Span) {
        let (drv, out, system) = ("/nix/store/x-f.drv".into(), "/nix/store/x-f".into(), "x86_64-linux".to_owned());
        let test = TestRecord {
            accel: "tcg".into(),
            why: "no KVM".into(),
            place: "sandbox".into(),
            seconds: 0.0,
            runs: 1,
            passed: 1,
            subtests: vec![Subtest { name: "boots".into(), seconds: Some(1.5), depth: 0 }],
            files: vec!["log.txt".into()],
            screens: vec![Screen { boot: "vm".into(), passed: true, file: "vm.png".into(), sha256: "0".repeat(64) }],
        };
        let job = JobRecord {
            job: JobId::try_from("f.tests.live".to_owned()).unwrap(),
            system: system.parse().unwrap(),
            outcome: Outcome::Built,
            derivation: Some(Derivation { drv, out, system }),
            evaluate_seconds: Some(0.5),
            build_seconds: Some(1.5),
            machine: Some("ssh://arm".into()),
            size: Some(1),
            closure_size: Some(2),
            image: Some(Image { file: "f.iso".into(), size: 1, sha256: "0".repeat(64) }),
            test: Some(test),
        };
        let span = Span {
            what: What::Build,
            name: "f".into(),
            key: "/nix/store/x-f.drv".into(),
            within: Some(0),
            start: 0.0,
            end: 1.0,
            ok: true,
            memory: Some(1),
            machine: "ssh://arm".into(),
        };
        (job, span)
    }

    #[test]
    fn a_record_in_which_no_field_is_absent_is_left_to_the_schema() {
        let (mut record, (job, span)) = (sample(), complete());
        record.jobs.push(job);
        record.spans.push(span);
        keep("run.complete", &serde_json::to_string(&record).unwrap());
    }
}
