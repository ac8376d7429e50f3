//! Jobs in, derivations out, each reported the moment it exists: one evaluator process takes several hosts
//! one after another, and a host that fails costs only itself.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::Result;
use camino::Utf8Path;
use serde::Deserialize;

use crate::{
    job::{Derivation, Failure, Job, JobId, Position, Stage},
    nix::argv::{self, Source},
    process::{Cancel, End, Invocation, Stream},
};

/// What one evaluator may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Resident bytes of the evaluator process.
    pub memory: u64,
    /// Wall-clock time of the evaluator process for a single job.
    pub time: Duration,
}

/// What an evaluator says while it works.
#[derive(Debug)]
pub enum Reply {
    Began(JobId),
    Done(JobId, Derivation, Duration),
    Failed(JobId, Failure, Duration),
    /// The job's evaluator outgrew its share of memory; it deserves another try alone.
    Outgrew(Job, u64),
    /// A warning or a trace of the fleet's own.
    Note(String),
}

/// The fleet's sources, to find the place of an error in them.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    pub source: Source<'a>,
    /// The folder that relative names in messages start from: the git work tree or the flake's folder.
    pub root: &'a Utf8Path,
}

/// Memory for evaluators: four fifths of what the machine has free now, in bytes.
pub fn memory_budget() -> u64 {
    const FALLBACK: u64 = 2 << 30;
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map_or(FALLBACK, |kib| kib * 1024 / 5 * 4)
}

/// How many evaluators run at once: no more than cores, than groups of work, and than fit into memory when
/// each needs what one NixOS host with its ISO takes (1.3 GB, measured).
pub fn workers(cores: usize, budget: u64, groups: usize) -> usize {
    const HOST: u64 = 1_300_000_000;
    let fitting = usize::try_from(budget / HOST).unwrap_or(usize::MAX);
    cores.min(fitting).min(groups).max(1)
}

/// Evaluates the jobs in their order. Whatever fails is reported for its own job and the rest goes on in a
/// fresh evaluator. An error means that Nix could not be started at all.
pub fn evaluate(
    sources: Sources<'_>,
    jobs: &[Job],
    limits: Limits,
    cancel: &Cancel,
    on_reply: &mut dyn FnMut(Reply),
) -> Result<()> {
    let mut rest: Vec<&Job> = jobs.iter().collect();
    while !rest.is_empty() && !cancel.is_set() {
        let attempt = attempt(sources, &rest, limits, cancel, on_reply)?;
        rest.retain(|job| !attempt.settled.contains(&job.id));
        if attempt.end.is_success() && rest.is_empty() || attempt.end == End::Cancelled {
            break;
        }
        settle_failure(sources, &mut rest, &attempt, cancel, on_reply);
    }
    Ok(())
}

/// What one evaluator process came to.
struct Attempt {
    end: End,
    settled: Vec<JobId>,
    current: Option<JobId>,
    began: Instant,
    errors: String,
}

fn attempt(
    sources: Sources<'_>,
    jobs: &[&Job],
    limits: Limits,
    cancel: &Cancel,
    on_reply: &mut dyn FnMut(Reply),
) -> Result<Attempt> {
    let nonce = format!("drydock-{:x}-{:x}", std::process::id(), jobs.len());
    let function = function(&nonce, jobs.iter().map(|job| &job.id));
    let count = u32::try_from(jobs.len()).unwrap_or(u32::MAX);
    let invocation = Invocation::new(argv::eval_apply(sources.source, "hydraJobs", &function))
        .env("GC_INITIAL_HEAP_SIZE", initial_heap(limits.memory).to_string())
        .env("NO_COLOR", "1")
        .timeout(limits.time.saturating_mul(count))
        .memory(limits.memory);
    let mut state =
        Attempt { end: End::Cancelled, settled: vec![], current: None, began: Instant::now(), errors: String::new() };
    state.end = invocation.stream(cancel, &mut |stream, line| {
        if stream == Stream::Out {
            return;
        }
        match Marker::parse(&nonce, line) {
            Some(Marker::Begin { id }) => {
                state.began = Instant::now();
                state.current = Some(id.clone());
                on_reply(Reply::Began(id));
            }
            Some(Marker::Done { id, drv, out, system }) => {
                let derivation = Derivation { drv: drv.into(), out: out.into(), system };
                state.settled.push(id.clone());
                state.current = None;
                on_reply(Reply::Done(id, derivation, state.began.elapsed()));
            }
            None => note_or_error(line, &mut state.errors, on_reply),
        }
    })?;
    Ok(state)
}

/// Decides what the end of an evaluator means for the job it was at, or for all if it was at none.
fn settle_failure(
    sources: Sources<'_>,
    rest: &mut Vec<&Job>,
    attempt: &Attempt,
    cancel: &Cancel,
    on_reply: &mut dyn FnMut(Reply),
) {
    let elapsed = attempt.began.elapsed();
    let Some(current) = &attempt.current else {
        for job in rest.drain(..) {
            on_reply(Reply::Failed(job.id.clone(), explain(sources, &job.id, attempt, cancel), elapsed));
        }
        return;
    };
    if let (Some(at), End::OutOfMemory(bytes)) = (rest.iter().position(|job| job.id == *current), attempt.end) {
        on_reply(Reply::Outgrew(rest.remove(at).clone(), bytes));
        return;
    }
    rest.retain(|job| job.id != *current);
    on_reply(Reply::Failed(current.clone(), explain(sources, current, attempt, cancel), elapsed));
}

/// The failure of a job whose evaluator was stopped for its memory even when it ran alone.
pub fn outgrown(sources: Sources<'_>, id: &JobId, bytes: u64, limit: u64) -> Failure {
    Failure {
        stage: Stage::Evaluate,
        message: format!(
            "its evaluation took {} MiB and still grew; the limit was {} MiB, four fifths of the free memory\n\
             look for an endless recursion or list, or give the machine more memory",
            bytes >> 20,
            limit >> 20
        ),
        position: None,
        drv: None,
        log_tail: vec![],
        reproduce: again(sources, id),
    }
}

fn explain(sources: Sources<'_>, id: &JobId, attempt: &Attempt, cancel: &Cancel) -> Failure {
    let said = last_error(&attempt.errors);
    let message = match (attempt.end, said.is_empty()) {
        (End::Exited(0), _) => "the evaluator ended without a word about this job".to_owned(),
        (End::Exited(_), false) => said,
        (End::TimedOut, _) => "its evaluation did not end within the time limit (--eval-timeout)".to_owned(),
        (end, true) => format!("the evaluator ended: {end}"),
        (end, false) => format!("the evaluator ended: {end}\n{said}"),
    };
    let message = advise(message);
    let has_places = attempt.errors.contains("at /") || attempt.errors.contains("at «");
    let prefixes = if has_places { source_prefixes(sources, cancel) } else { vec![] };
    let position = position(&attempt.errors, &prefixes, sources.root);
    Failure { stage: Stage::Evaluate, message, position, drv: None, log_tail: vec![], reproduce: again(sources, id) }
}

fn again(sources: Sources<'_>, id: &JobId) -> String {
    Invocation::new(argv::eval_again(sources.source, &id.attribute())).display()
}

/// Adds what to try to messages that users meet often.
fn advise(message: String) -> String {
    const ADVICE: [(&str, &str); 4] = [
        (
            "allow-import-from-derivation",
            "evaluation may not build (import-from-derivation); allow it with --allow-import-from-derivation",
        ),
        ("--no-update-lock-file", "flake.lock does not fit flake.nix; bring it up to date with `nix flake lock`"),
        (
            "unable to download",
            "an input is neither in the store nor reachable; the embedded fleet needs no network: `cargo xtask build-all --fleet demo`",
        ),
        ("does not contain a 'flake.nix'", "name a folder with a flake.nix in --fleet"),
    ];
    let hit = ADVICE.iter().find(|(sign, _)| message.contains(sign));
    hit.map_or(message.clone(), |(_, advice)| format!("{message}\n  try: {advice}"))
}

/// Where the flake's source may lie in error messages. Asked only after a failure, because it costs a process.
fn source_prefixes(sources: Sources<'_>, cancel: &Cancel) -> Vec<String> {
    #[derive(Deserialize)]
    struct Metadata {
        path: String,
    }
    let asked = Invocation::new(argv::flake_metadata(sources.source)).timeout(Duration::from_secs(60)).read(cancel);
    let stored = asked.ok().and_then(|text| serde_json::from_str::<Metadata>(&text).ok()).map(|m| m.path);
    stored.into_iter().chain([sources.root.to_string()]).collect()
}

/// A word of our own in the evaluator's stderr.
#[derive(Debug, Deserialize)]
#[serde(tag = "word", rename_all = "lowercase")]
enum Marker {
    Begin { id: JobId },
    Done { id: JobId, drv: String, out: String, system: String },
}

impl Marker {
    fn parse(nonce: &str, line: &str) -> Option<Self> {
        serde_json::from_str(line.strip_prefix("trace: ")?.strip_prefix(nonce)?).ok()
    }
}

/// The Nix function that is applied to `hydraJobs`: it forces one job after another and announces each.
/// Job ids are safe inside a Nix string by what a [`crate::job::HostName`] may be.
fn function<'a>(nonce: &str, ids: impl Iterator<Item = &'a JobId>) -> String {
    let jobs: String = ids
        .map(|id| {
            let missing = format!("the flake has no hydraJobs.{id}, although hosts/hosts.toml asks for it");
            let path = format!("\"{}\".{}", id.host, id.target);
            format!(" {{ id = \"{id}\"; get = jobs: jobs.{path} or (throw \"{missing}\"); }}")
        })
        .collect();
    format!(
        "jobs: let say = fields: builtins.trace (\"{nonce}\" + builtins.toJSON fields); in \
         builtins.foldl' (_: job: say {{ word = \"begin\"; inherit (job) id; }} (let d = job.get jobs; in \
         say {{ word = \"done\"; inherit (job) id; drv = d.drvPath; out = d.outPath; inherit (d) system; }} null)) \
         null [{jobs} ]"
    )
}

/// The collector's first heap: with room for a host's whole evaluation it seldom runs (a quarter of the
/// time, measured). Untouched pages of it cost nothing.
fn initial_heap(memory: u64) -> u64 {
    (memory / 2).min(4 << 30)
}

fn note_or_error(line: &str, errors: &mut String, on_reply: &mut dyn FnMut(Reply)) {
    /// Enough for the end of any trace; an endless one must not fill the memory. Bytes.
    const MOST: usize = 4 << 20;
    let is_note = errors.is_empty() && ["warning: ", "trace: "].iter().any(|p| line.starts_with(p));
    if is_note {
        on_reply(Reply::Note(crate::nix::event::plain(line)));
        return;
    }
    if errors.len() > MOST {
        errors.drain(..errors.char_indices().map(|(at, _)| at).find(|at| *at >= MOST / 2).unwrap_or(0));
    }
    errors.push_str(&crate::nix::event::plain(line));
    errors.push('\n');
}

/// The innermost error of a trace: from its last `error:` to the end, without source excerpts.
fn last_error(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let Some(start) = lines.iter().rposition(|line| line.trim_start().starts_with("error:")) else {
        return text.trim().lines().last().unwrap_or_default().to_owned();
    };
    let is_excerpt = |line: &str| {
        line.trim_start().split('|').next().is_some_and(|n| n.trim().parse::<u32>().is_ok() || n.trim().is_empty())
            && line.contains('|')
    };
    let kept =
        lines[start..].iter().map(|line| line.trim()).filter(|line| !is_excerpt(line) && !line.starts_with("at "));
    let joined = kept.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
    joined.trim_start_matches("error:").trim().to_owned()
}

/// The innermost place of a trace that lies in the fleet's own sources.
fn position(text: &str, prefixes: &[String], root: &Utf8Path) -> Option<Position> {
    let places = text.lines().filter_map(|line| line.trim_start().strip_prefix("at "));
    places
        .filter_map(|place| {
            let place = place.trim_end_matches(':').trim_start_matches('«').replace('»', "");
            let (rest, column) = place.rsplit_once(':')?;
            let (file, line) = rest.rsplit_once(':')?;
            let own =
                prefixes.iter().find_map(|prefix| Some(file.strip_prefix(prefix.as_str())?.trim_start_matches('/')))?;
            let exists = root.join(own).is_file();
            exists.then(|| {
                Some(Position { file: own.to_owned(), line: line.parse().ok()?, column: column.parse().ok() })
            })?
        })
        .next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_fit_cores_memory_and_work() {
        let gb = 1_000_000_000;
        let rows =
            [((2, 20 * gb, 9), 2), ((16, 3 * gb, 9), 2), ((16, 100 * gb, 3), 3), ((4, 0, 9), 1), ((4, 20 * gb, 0), 1)];
        for ((cores, budget, groups), expected) in rows {
            assert_eq!(workers(cores, budget, groups), expected);
        }
    }

    #[test]
    fn markers_are_told_from_the_fleets_own_traces() {
        let line = r#"trace: n1{"drv":"/nix/store/x.drv","id":"a.iso","out":"/nix/store/x","system":"x86_64-linux","word":"done"}"#;
        assert!(matches!(Marker::parse("n1", line), Some(Marker::Done { .. })));
        assert!(matches!(
            Marker::parse("n1", r#"trace: n1{"id":"a.tests.live","word":"begin"}"#),
            Some(Marker::Begin { .. })
        ));
        assert!(Marker::parse("n2", line).is_none());
        assert!(Marker::parse("n1", "trace: hello").is_none());
    }

    #[test]
    fn the_innermost_error_and_its_place_in_the_fleet() {
        let dir = env!("CARGO_MANIFEST_DIR");
        let trace = "error:\n       … while evaluating list element at index 3\n\n       … while calling the 'throw' builtin\n         at /nix/store/abc-source/src/eval.rs:7:14:\n            6|\n            7| b = throw 1\n             |     ^\n\n       … from elsewhere\n         at /nix/store/nixpkgs-source/lib/x.nix:1:1:\n\n       error: b is broken\n       twice\n";
        assert_eq!(last_error(trace), "b is broken\ntwice");
        let place = position(trace, &["/nix/store/abc-source".into()], Utf8Path::new(dir)).unwrap();
        assert_eq!(place.to_string(), "src/eval.rs:7:14");
        assert!(position(trace, &["/nix/store/other".into()], Utf8Path::new(dir)).is_none());
    }

    #[test]
    fn a_stack_overflow_keeps_its_place_and_loses_its_excerpt() {
        let text = "error: stack overflow; max-call-depth exceeded\n       at /nix/store/abc-source/src/job.rs:8:24:\n            7|  e\n            8|  f.system\n             |   ^\n";
        assert_eq!(last_error(text), "stack overflow; max-call-depth exceeded");
        let root = Utf8Path::new(env!("CARGO_MANIFEST_DIR"));
        assert_eq!(position(text, &["/nix/store/abc-source".into()], root).unwrap().line, 8);
    }
}
