//! Talks to one Nix process that evaluates one expression after another.
//!
//! It is `nix repl`, because that is the one evaluator in every Nix that takes its next expression when the
//! last one is done, goes on after an error, and keeps what hosts share. What it prints for people is not
//! read; each answer is a `builtins.trace` of our own, as is the word that marks the end of an answer.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::Result;
use camino::Utf8Path;
use serde::Deserialize;
use serde_json::Value;

use super::{Limits, Reply, Sources};
use crate::{
    files::Temporary,
    job::{Derivation, JobId},
    nix::{argv, event},
    process::{Cancel, End, Heard, Invocation, Stream, Talk},
};

/// A running evaluator.
pub struct Evaluator {
    talk: Talk,
    nonce: String,
    time: Duration,
    /// Whether the store that it evaluates into is known to be this machine's own.
    own_store: bool,
    /// Expressions that it was asked for.
    pub asked: usize,
    /// What the expressions said about `self` since this was last emptied.
    pub seen: SelfSeen,
    /// Paths in what Nix writes, and what a person is to read in their place.
    pub renamed: Vec<(String, String)>,
    /// For the history that `nix repl` keeps, so that ours stays out of the user's, and what it reads there out of ours.
    _folder: Temporary,
}

/// Whether the fleet asked for what `self` tells about its source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SelfSeen {
    /// Its store path.
    pub path: bool,
    /// Its revision, time or hash.
    pub identity: bool,
}

/// What became of a question.
#[derive(Debug)]
pub enum Answer {
    Done(Derivation),
    /// Something that is no derivation: a store path, or nothing.
    Made(String),
    /// The flake has no such job.
    Missing,
    /// The job is no derivation that Nix has instantiated; why, in words.
    Malformed(String),
    /// Evaluation failed; what Nix wrote.
    Threw(String),
    /// The process is gone; what it wrote about this.
    Ended(End, String),
}

impl Evaluator {
    /// Starts a process that knows the outputs of the flake by their names, or nothing if `bare`. Errors: it cannot be
    /// started at all.
    pub fn start(sources: Sources<'_>, bare: bool, limits: Limits, cancel: &Cancel) -> Result<Self> {
        let folder = Temporary::new()?;
        let home = folder.as_str();
        let argv = match bare {
            true => argv::bare_evaluator(sources.source),
            false => argv::evaluator(sources.version, sources.source),
        };
        let talk = Invocation::new(argv)
            .env("GC_INITIAL_HEAP_SIZE", initial_heap(limits.memory).to_string())
            .env("NO_COLOR", "1")
            .env("XDG_DATA_HOME", home)
            .env("NIX_DATA_HOME", home)
            .memory(limits.memory)
            .talk(cancel)?;
        // The folder's name is random, and no fleet can know it.
        let nonce = format!("{}-", folder.file_name().unwrap_or_default());
        let (seen, renamed) = (SelfSeen::default(), Vec::new());
        let own_store = sources.pinned.is_some();
        let mut evaluator =
            Self { talk, nonce, time: limits.time, own_store, asked: 0, seen, renamed, _folder: folder };
        evaluator.define(&introduction(&evaluator.nonce));
        Ok(evaluator)
    }

    /// The process's resident memory, in bytes.
    pub fn resident(&self) -> u64 {
        self.talk.resident().unwrap_or(0)
    }

    /// The most resident memory that the process was seen with, in bytes.
    pub fn peak(&self) -> u64 {
        self.talk.peak()
    }

    /// Hands over definitions, one a line. An error in one shows when it is used.
    pub fn define(&mut self, lines: &str) {
        self.talk.say(lines);
    }

    /// Asks for a job's derivation. `at` is what has the hosts as attributes.
    pub fn ask(&mut self, at: &str, id: &JobId, on_reply: &mut dyn FnMut(Reply)) -> Answer {
        let job = format!("\"{}\".{}", id.host, id.target);
        self.say(&format!("__answer ({at} ? {job}) (__done {at}.{job})"), on_reply)
    }

    /// Has an expression made of the words of [`introduction`] evaluated. Warnings and traces of the fleet's own are
    /// handed to `on_reply`.
    pub fn say(&mut self, expression: &str, on_reply: &mut dyn FnMut(Reply)) -> Answer {
        // The first question also loads the flake, which may have inputs to fetch.
        let patience = if self.asked == 0 { self.time.saturating_mul(2) } else { self.time };
        self.asked += 1;
        let deadline = Instant::now() + patience;
        self.talk.say(&format!("{expression}\n__end {}\n", self.asked));
        let mut said = Said::default();
        loop {
            match self.talk.hear(deadline) {
                Heard::Line(Stream::Out, _) => {}
                Heard::Line(Stream::Err, line) => match Marker::parse(&self.nonce, &line) {
                    Some(Marker::Begin) => {
                        said = Said::default();
                        on_reply(Reply::Loaded);
                    }
                    // The next question need not wait for the mark behind this answer.
                    Some(Marker::Done { drv, out, system }) => {
                        let derivation = instantiated(&drv, &out, &system, self.own_store);
                        return derivation.map_or_else(Answer::Malformed, Answer::Done);
                    }
                    Some(Marker::Made { path }) => return Answer::Made(path),
                    Some(Marker::Missing) => return Answer::Missing,
                    Some(Marker::Itself { path }) => match path {
                        true => self.seen.path = true,
                        false => self.seen.identity = true,
                    },
                    Some(Marker::End { number }) if number < self.asked => {}
                    Some(Marker::End { .. }) => return said.verdict(),
                    None => {
                        let mut line = event::plain(&line);
                        for (from, to) in &self.renamed {
                            line = line.replace(from, to);
                        }
                        said.take(line).into_iter().for_each(|note| on_reply(Reply::Note(note)));
                    }
                },
                Heard::Ended(end) => return Answer::Ended(end, said.errors),
            }
        }
    }
}

/// A word of our own in the evaluator's stderr.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "word", rename_all = "lowercase")]
enum Marker {
    Begin,
    Done { drv: Value, out: Value, system: Value },
    Made { path: String },
    Missing,
    Itself { path: bool },
    End { number: usize },
}

impl Marker {
    fn parse(nonce: &str, line: &str) -> Option<Self> {
        serde_json::from_str(line.strip_prefix("trace: ")?.strip_prefix(nonce)?).ok()
    }
}

/// A derivation, if that is what a job's `drvPath`, `outPath` and `system` are of: anything can stand there.
fn instantiated(drv: &Value, out: &Value, system: &Value, own_store: bool) -> Result<Derivation, String> {
    let (Some(drv), Some(out), Some(system)) = (drv.as_str(), out.as_str(), system.as_str()) else {
        return Err(format!("drvPath, outPath and system are texts, and here they are {drv}, {out} and {system}"));
    };
    let (drv, out) = (Utf8Path::new(drv), Utf8Path::new(out));
    // A store path as `store-api` in Nix has it: the store's folder, 32 characters of a hash, a name.
    let is_store_path = |path: &Utf8Path| {
        let name = path.file_name().unwrap_or_default().split_once('-');
        path.is_absolute() && name.is_some_and(|(hash, name)| hash.len() == 32 && !name.is_empty())
    };
    if !is_store_path(drv) || drv.extension() != Some("drv") {
        return Err(format!("its drvPath, `{drv}`, is no store path of a derivation"));
    }
    if !is_store_path(out) || drv.parent() != out.parent() {
        return Err(format!("its outPath, `{out}`, is no store path"));
    }
    match fs::read(drv) {
        Ok(text) if memchr::memmem::find(&text, out.as_str().as_bytes()).is_none() => {
            Err(format!("its outPath, `{out}`, is no output of its drvPath, {drv}"))
        }
        // Another store, of another machine or below another root, need not have it under this path.
        Err(_) if own_store => Err(format!("its drvPath, {drv}, is not there")),
        _ => Ok(Derivation { drv: drv.to_owned(), out: out.to_owned(), system: system.to_owned() }),
    }
}

/// Words for the evaluator to answer with, and a mark that it has read the flake. Names that begin with two
/// underscores are hidden by no output of a flake, as `builtins` could be.
fn introduction(nonce: &str) -> String {
    format!(
        "__tell = answer: __trace (\"{nonce}\" + __toJSON answer)\n\
         __done = job: __tell {{ word = \"done\"; drv = job.drvPath; out = job.outPath; inherit (job) system; }} null\n\
         __made = path: __tell {{ word = \"made\"; path = \"${{path}}\"; }} null\n\
         __answer = has: answer: if has then answer else __tell {{ word = \"missing\"; }} null\n\
         __end = number: __tell {{ word = \"end\"; inherit number; }} null\n\
         __tell {{ word = \"begin\"; }} null\n"
    )
}

/// What Nix writes besides our own words, kept for the case that the job fails.
#[derive(Default)]
struct Said {
    errors: String,
    in_error: bool,
}

impl Said {
    /// Takes a line; a warning or trace for a person comes back.
    fn take(&mut self, line: String) -> Option<String> {
        /// Enough for the end of any trace; an endless one must not fill the memory. Bytes.
        const MOST: usize = 4 << 20;
        self.in_error |= line.starts_with("error:");
        if !self.in_error && ["warning: ", "evaluation warning: ", "trace: "].iter().any(|p| line.starts_with(p)) {
            return Some(line);
        }
        if self.errors.len() > MOST {
            let half = self.errors.char_indices().map(|(at, _)| at).find(|at| *at >= MOST / 2);
            self.errors.drain(..half.unwrap_or(0));
        }
        // What comes before an error is what `nix repl` greets people with.
        if self.in_error {
            self.errors.push_str(&line);
            self.errors.push('\n');
        }
        None
    }

    fn verdict(self) -> Answer {
        match self.errors.contains("undefined variable 'hydraJobs'") {
            true => Answer::Missing,
            false => Answer::Threw(self.errors),
        }
    }
}

/// The collector's first heap: with room for some hosts' whole evaluation it seldom runs (a quarter of the
/// time, measured). Untouched pages of it cost nothing.
fn initial_heap(memory: u64) -> u64 {
    (memory / 2).min(4 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_told_from_the_fleets_own_traces() {
        let line = r#"trace: n1{"drv":"/nix/store/x.drv","out":"/nix/store/x","system":"x86_64-linux","word":"done"}"#;
        assert!(matches!(Marker::parse("n1", line), Some(Marker::Done { .. })));
        assert_eq!(Marker::parse("n1", r#"trace: n1{"word":"begin"}"#), Some(Marker::Begin));
        let end = Marker::parse("n1", r#"trace: n1{"number":7,"word":"end"}"#);
        assert_eq!(end, Some(Marker::End { number: 7 }));
        assert_eq!(Marker::parse("n2", line), None);
        assert_eq!(Marker::parse("n1", "trace: hello"), None);
    }

    #[test]
    fn words_hide_behind_no_output_of_a_flake() {
        let words = introduction("N");
        assert!(words.ends_with("__tell { word = \"begin\"; } null\n") && words.lines().count() == 6);
        assert!(!words.contains("builtins"));
    }

    #[test]
    fn warnings_are_passed_on_and_errors_kept() {
        let mut said = Said::default();
        let rows = [
            ("Nix 2.34.8", None),
            ("warning: Git tree '/x' is dirty", Some("warning: Git tree '/x' is dirty")),
            ("evaluation warning: old", Some("evaluation warning: old")),
            ("error:", None),
            ("       … while evaluating", None),
            ("trace: in the middle of it", None),
        ];
        for (line, note) in rows {
            assert_eq!(said.take(line.to_owned()).as_deref(), note, "{line}");
        }
        assert_eq!(said.errors, "error:\n       … while evaluating\ntrace: in the middle of it\n");
        let mut said = Said::default();
        said.take("error: undefined variable 'hydraJobs'".to_owned());
        assert!(matches!(said.verdict(), Answer::Missing));
    }
}
