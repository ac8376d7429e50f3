//! One Nix process that evaluates one job after another: a job in, its derivation or what went wrong out.
//!
//! It is `nix repl`, because that is the one evaluator in every Nix that takes its next expression when the
//! last one is done, goes on after an error, and keeps what hosts share. What it prints for people is not
//! read; each answer is a `builtins.trace` of our own, as is the word that marks the end of an answer.

use std::time::{Duration, Instant};

use anyhow::Result;
use camino::Utf8PathBuf;
use serde::Deserialize;

use super::{Limits, Reply, Sources};
use crate::{
    job::{Derivation, JobId},
    nix::{argv, event},
    process::{Cancel, End, Heard, Invocation, Stream, Talk},
};

/// A running evaluator.
pub struct Evaluator {
    talk: Talk,
    nonce: String,
    time: Duration,
    /// Jobs it was asked for.
    pub asked: usize,
    _history: History,
}

/// What is to be found out about a job. All but the first are for a medium that says how two evaluators share it
/// (`apart`, see hosts/apart.nix): where it does not, they fail.
#[derive(Clone, Copy, Debug)]
pub enum Question<'a> {
    /// Its derivation.
    Whole,
    /// Everything that can be done without what it needs; its derivation, if that is all or it cannot be shared.
    Ahead,
    /// The derivation that it needs.
    Needs,
    /// Its derivation, put together with what it needs.
    With(&'a Derivation),
}

/// What became of a question.
#[derive(Debug)]
pub enum Answer {
    Done(Derivation),
    /// Everything is done that can be without what the job needs.
    Ahead,
    /// The flake has no such job.
    Missing,
    /// Evaluation failed; what Nix wrote.
    Threw(String),
    /// The process is gone; what it wrote about this.
    Ended(End, String),
}

impl Evaluator {
    /// Starts a process. Errors: it cannot be started at all.
    pub fn start(sources: Sources<'_>, limits: Limits, cancel: &Cancel) -> Result<Self> {
        let history = History::new();
        let talk = Invocation::new(argv::evaluator(sources.version, sources.source))
            .env("GC_INITIAL_HEAP_SIZE", initial_heap(limits.memory).to_string())
            .env("NO_COLOR", "1")
            .env("XDG_DATA_HOME", history.0.as_str())
            .env("NIX_DATA_HOME", history.0.as_str())
            .memory(limits.memory)
            .talk(cancel)?;
        let nonce = format!("drydock-{:x}-{:p}-", std::process::id(), &raw const history);
        Ok(Self { talk, nonce, time: limits.time, asked: 0, _history: history })
    }

    /// The process's resident memory, in bytes.
    pub fn resident(&self) -> u64 {
        self.talk.resident().unwrap_or(0)
    }

    /// The most resident memory that the process was seen with, in bytes.
    pub fn peak(&self) -> u64 {
        self.talk.peak()
    }

    /// Asks about one job. Warnings and traces of the fleet's own are handed to `on_reply`.
    pub fn ask(&mut self, id: &JobId, what: Question<'_>, on_reply: &mut dyn FnMut(Reply)) -> Answer {
        // The first question also loads the flake, which may have inputs to fetch.
        let patience = if self.asked == 0 { self.time.saturating_mul(2) } else { self.time };
        self.asked += 1;
        let deadline = Instant::now() + patience;
        let words = if self.asked == 1 { introduction(&self.nonce) } else { String::new() };
        self.talk.say(&(words + &question(self.asked, id, what)));
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
                        return Answer::Done(Derivation { drv: drv.into(), out: out.into(), system });
                    }
                    Some(Marker::Ahead) => return Answer::Ahead,
                    Some(Marker::Missing) => return Answer::Missing,
                    Some(Marker::End { number }) if number < self.asked => {}
                    Some(Marker::End { .. }) => return said.verdict(),
                    None => said.take(&line).into_iter().for_each(|note| on_reply(Reply::Note(note))),
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
    Done { drv: String, out: String, system: String },
    Ahead,
    Missing,
    End { number: usize },
}

impl Marker {
    fn parse(nonce: &str, line: &str) -> Option<Self> {
        serde_json::from_str(line.strip_prefix("trace: ")?.strip_prefix(nonce)?).ok()
    }
}

/// Words for the evaluator to answer with, and a mark that it has read the flake. Names that begin with two
/// underscores are hidden by no output of a flake, as `builtins` could be.
fn introduction(nonce: &str) -> String {
    format!(
        "__say = answer: __trace (\"{nonce}\" + __toJSON answer) null\n\
         __done = job: __say {{ word = \"done\"; drv = job.drvPath; out = job.outPath; inherit (job) system; }}\n\
         __ahead = job: if job ? apart && job.apart.needed \
         then __seq job.apart.ahead (__say {{ word = \"ahead\"; }}) else __done job\n\
         __answer = has: answer: if has then answer else __say {{ word = \"missing\"; }}\n\
         __end = number: __say {{ word = \"end\"; inherit number; }}\n\
         __say {{ word = \"begin\"; }}\n"
    )
}

/// Two lines for the evaluator: the question, and a mark that comes whatever the first does. They are short, because
/// `nix repl` reads its input byte by byte. A job's id is safe inside a Nix string by what a
/// [`crate::job::HostName`] may be.
fn question(number: usize, id: &JobId, what: Question<'_>) -> String {
    let job = format!("hydraJobs.\"{}\".{}", id.host, id.target);
    let has = format!("hydraJobs ? \"{}\".{}", id.host, id.target);
    let answer = match what {
        Question::Whole => format!("__done {job}"),
        Question::Ahead => format!("__ahead {job}"),
        Question::Needs => format!("__done {job}.apart.needs"),
        // A string that refers to a derivation's output is all that Nix knows of it, too.
        Question::With(Derivation { drv, out, .. }) => {
            format!("__done ({job}.apart.\"with\" (__appendContext \"{out}\" {{ \"{drv}\".outputs = [ \"out\" ]; }}))")
        }
    };
    format!("__answer ({has}) ({answer})\n__end {number}\n")
}

/// What Nix writes besides our own words, kept for the case that the job fails.
#[derive(Default)]
struct Said {
    errors: String,
    in_error: bool,
}

impl Said {
    /// Takes a line; a warning or trace for a person comes back.
    fn take(&mut self, line: &str) -> Option<String> {
        /// Enough for the end of any trace; an endless one must not fill the memory. Bytes.
        const MOST: usize = 4 << 20;
        let line = event::plain(line);
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

/// A folder for the history that `nix repl` keeps, so that ours stays out of the user's.
struct History(Utf8PathBuf);

impl History {
    fn new() -> Self {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let temporary = Utf8PathBuf::from_path_buf(std::env::temp_dir()).unwrap_or_else(|_| "/tmp".into());
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(temporary.join(format!("drydock-evaluator-{}-{number}", std::process::id())))
    }
}

impl Drop for History {
    fn drop(&mut self) {
        // Best effort: it may never have been made.
        let _ = std::fs::remove_dir_all(&self.0);
    }
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
    fn questions_are_short_and_without_names_that_a_flake_could_hide() {
        let id = JobId::try_from("1a.tests.live".to_owned()).unwrap();
        let asked = question(7, &id, Question::Whole);
        assert_eq!(asked, "__answer (hydraJobs ? \"1a\".tests.live) (__done hydraJobs.\"1a\".tests.live)\n__end 7\n");
        let words = introduction("N");
        assert!(words.ends_with("__say { word = \"begin\"; }\n") && words.lines().count() == 6);
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
            assert_eq!(said.take(line).as_deref(), note, "{line}");
        }
        assert_eq!(said.errors, "error:\n       … while evaluating\ntrace: in the middle of it\n");
        let mut said = Said::default();
        said.take("error: undefined variable 'hydraJobs'");
        assert!(matches!(said.verdict(), Answer::Missing));
    }
}
