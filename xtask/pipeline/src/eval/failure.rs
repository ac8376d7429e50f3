//! Makes the failure of a job from what its evaluator said.

use camino::Utf8Path;

use super::Sources;
use crate::{
    job::{Failure, JobId, Position, Stage},
    nix::{Pinned, argv},
    process::{Cancel, End, Invocation},
};

/// Explains failures of one fleet's jobs.
pub struct Explainer<'a> {
    pub sources: Sources<'a>,
    pub cancel: &'a Cancel,
    /// Where the flake's source may lie in error messages, once it was asked for.
    pub prefixes: Option<Vec<String>>,
}

impl Explainer<'_> {
    /// A job that threw, with what Nix wrote.
    pub fn threw(&mut self, id: &JobId, said: &str) -> Failure {
        self.failure(id, last_error(said), said)
    }

    /// A job whose evaluator ended, and what it had written by then.
    pub fn ended(&mut self, id: &JobId, end: End, said: &str) -> Failure {
        let last = last_error(said);
        let message = match (end, last.is_empty()) {
            (End::Exited(0), true) => "the evaluator ended without a word about this job".to_owned(),
            (End::Exited(_), false) => last,
            (End::TimedOut, _) => "its evaluation did not end within the time limit (--eval-timeout)".to_owned(),
            (end, true) => format!("the evaluator ended: {end}"),
            (end, false) => format!("the evaluator ended: {end}\n{last}"),
        };
        self.failure(id, message, said)
    }

    /// A job that the flake does not have.
    pub fn missing(&mut self, id: &JobId) -> Failure {
        let message = format!("the flake has no hydraJobs.{id}, although hosts/hosts.toml asks for it");
        self.failure(id, message, "")
    }

    /// A job that is no derivation, and why not.
    pub fn malformed(&mut self, id: &JobId, why: &str) -> Failure {
        self.failure(id, format!("hydraJobs.{id} is no derivation: {why}"), "")
    }

    fn failure(&mut self, id: &JobId, message: String, said: &str) -> Failure {
        let position = if said.contains("at /") || said.contains("at «") {
            let (sources, cancel) = (self.sources, self.cancel);
            let prefixes = self.prefixes.get_or_insert_with(|| source_prefixes(sources, cancel));
            position(said, prefixes, sources.root)
        } else {
            None
        };
        let reproduce = again(self.sources, id);
        Failure { stage: Stage::Evaluate, message: advise(message), position, drv: None, log_tail: vec![], reproduce }
    }
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
    let pinned = sources.pinned.cloned().or_else(|| Pinned::ask(sources.source, cancel).ok());
    pinned
        .map(|pinned| pinned.path.join(&pinned.dir).into_string())
        .into_iter()
        .chain([sources.root.to_string()])
        .collect()
}

/// The innermost error of a trace: from the last `error:` that begins a paragraph to the end, without source excerpts. An
/// error's own text may have lines that begin so.
fn last_error(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let is_error = |at: usize| lines[at].trim_start().starts_with("error:");
    let begins = |at: &usize| is_error(*at) && (*at == 0 || lines[at - 1].trim().is_empty());
    let Some(start) = (0..lines.len()).rev().find(begins).or_else(|| (0..lines.len()).find(|&at| is_error(at))) else {
        return text.trim().lines().last().unwrap_or_default().to_owned();
    };
    let is_excerpt = |line: &str| {
        line.trim_start().split('|').next().is_some_and(|n| n.trim().parse::<u32>().is_ok() || n.trim().is_empty())
            && line.contains('|')
    };
    let kept =
        lines[start..].iter().map(|line| line.trim()).filter(|line| !is_excerpt(line) && !line.starts_with("at "));
    let joined = kept.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
    joined.strip_prefix("error:").unwrap_or(&joined).trim().to_owned()
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
    fn the_innermost_error_and_its_place_in_the_fleet() {
        let dir = env!("CARGO_MANIFEST_DIR");
        let trace = "error:\n       … while evaluating list element at index 3\n\n       … while calling the 'throw' builtin\n         at /nix/store/abc-source/src/eval/mod.rs:7:14:\n            6|\n            7| b = throw 1\n             |     ^\n\n       … from elsewhere\n         at /nix/store/nixpkgs-source/lib/x.nix:1:1:\n\n       error: b is broken\n       twice\n";
        assert_eq!(last_error(trace), "b is broken\ntwice");
        let place = position(trace, &["/nix/store/abc-source".into()], Utf8Path::new(dir)).unwrap();
        assert_eq!(place.to_string(), "src/eval/mod.rs:7:14");
        assert!(position(trace, &["/nix/store/other".into()], Utf8Path::new(dir)).is_none());
    }

    #[test]
    fn a_stack_overflow_keeps_its_place_and_loses_its_excerpt() {
        let text = "error: stack overflow; max-call-depth exceeded\n       at /nix/store/abc-source/src/eval/mod.rs:8:24:\n            7|  e\n            8|  f.system\n             |   ^\n";
        assert_eq!(last_error(text), "stack overflow; max-call-depth exceeded");
        let root = Utf8Path::new(env!("CARGO_MANIFEST_DIR"));
        assert_eq!(position(text, &["/nix/store/abc-source".into()], root).unwrap().line, 8);
    }

    #[test]
    fn an_error_whose_text_looks_like_errors_is_shown_whole() {
        let trace = "error:\n       … while calling the 'throw' builtin\n         at /a.nix:7:14:\n            7| d = throw\n             |     ^\n\n       error: error: a\n       error: b\n";
        assert_eq!(last_error(trace), "error: a\nerror: b");
        assert_eq!(last_error("error: x\nerror: y\n"), "x\nerror: y");
        assert_eq!(last_error("no error at all\nlast words"), "last words");
    }
}
