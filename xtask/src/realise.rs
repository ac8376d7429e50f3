//! Derivations in, valid store paths out, with what Nix said on the way. Whether an output is there is asked
//! of the store afterwards; exit codes are not believed.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use anyhow::Result;

use crate::{
    job::{Derivation, Failure, JobId, Outcome, Stage},
    nix::{
        Nix,
        argv::{self, BuildOptions},
        event::{self, Counts, Event},
        reply::PathInfo,
    },
    process::{Ahead, Cancel, End, Invocation, Stream},
    timings::{Mark, Timings, What},
};

/// Lines of a failed builder's log that a report shows.
const TAIL: usize = 30;

/// What Nix does for a batch, for whoever watches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Derivations built, of how many.
    pub builds: (u64, u64),
    /// Paths copied, of how many.
    pub fetches: (u64, u64),
    /// The names of what is being built or copied now.
    pub current: Vec<String>,
}

/// What became of one job's derivation.
#[derive(Clone, Debug)]
pub struct Realised {
    pub id: JobId,
    pub outcome: Outcome,
    /// The remote machine that built it, if one did.
    pub machine: Option<String>,
    /// Sizes, where Nix was asked for them.
    pub info: Option<PathInfo>,
}

/// A `nix build` that is to be, or that waits already to be told what to build.
pub struct Realiser {
    options: BuildOptions,
    waiting: Option<Ahead>,
}

impl Realiser {
    pub fn new(options: BuildOptions) -> Self {
        Self { options, waiting: None }
    }

    /// Starts the process now, while it is not known yet what there is to build.
    pub fn ahead(options: BuildOptions, cancel: &Cancel) -> Result<Self> {
        let waiting = Invocation::new(argv::build_from_input(&options)).ahead(cancel)?;
        Ok(Self { options, waiting: Some(waiting) })
    }
}

/// Realises a batch in one Nix process. Jobs whose outputs are valid already cost only the question.
pub fn realise(
    nix: &Nix,
    batch: &[(JobId, Derivation)],
    Realiser { options, waiting }: Realiser,
    cancel: &Cancel,
    timings: &Timings,
    on_activity: &mut dyn FnMut(&Activity),
    on_note: &mut dyn FnMut(String),
) -> Result<Vec<Realised>> {
    let process = timings.begin(What::Realiser, "", None);
    timings.tell(process, |span| span.jobs = batch.iter().map(|(id, _)| id.to_string()).collect());
    let outs: Vec<&str> = batch.iter().map(|(_, d)| d.out.as_str()).collect();
    // What is not on disk cannot be valid; whether what is there is whole, only the store knows.
    let there: Vec<&str> = batch.iter().filter(|(_, d)| d.out.exists()).map(|(_, d)| d.out.as_str()).collect();
    let invalid = if there.is_empty() { vec![] } else { Nix::invalid(&there, cancel)? };
    let present = |out: &str| there.contains(&out) && !invalid.iter().any(|path| path == out);
    let wanted: BTreeSet<&str> = batch
        .iter()
        .filter(|(_, d)| options.rebuild || !present(d.out.as_str()))
        .map(|(_, d)| d.drv.as_str())
        .collect();
    if wanted.is_empty() {
        timings.end(process, true);
        return Ok(batch.iter().map(|(id, _)| settled(id, Outcome::Present, None, None)).collect());
    }
    let drvs: Vec<&str> = wanted.iter().copied().collect();
    let mut watched = Watched { process: Some(process), timings: timings.clone(), ..Watched::default() };
    // The question after an interrupt must still be answered, so it does not listen to it. Who asks it is started when
    // something begins to be built, which leaves a processor to it, and does not have to be started afterwards.
    let unheard = Cancel::default();
    let mut sizes = None;
    let mut on_activity = |activity: &Activity| {
        if sizes.is_none() && !activity.current.is_empty() {
            sizes = Some(nix.sizes_ahead(&unheard));
        }
        on_activity(activity);
    };
    let waiting = match waiting {
        Some(waiting) => waiting,
        None => Invocation::new(argv::build_from_input(&options)).ahead(cancel)?,
    };
    let end = watched.watch(waiting, &drvs, &mut on_activity, on_note);
    watched.settle(end == End::Cancelled);
    // For a path that is not valid the sizes would be looked for in binary caches, so after a failure validity alone is
    // asked for.
    let mut infos: BTreeMap<String, PathInfo> = match end.is_success() {
        true => {
            let sizes = sizes.unwrap_or_else(|| nix.sizes_ahead(&unheard))?;
            Nix::sizes_of(&outs, sizes)?.into_iter().map(|info| (info.path.clone(), info)).collect()
        }
        false => BTreeMap::new(),
    };
    let unknown: Vec<&str> = outs.iter().copied().filter(|out| !infos.contains_key(*out)).collect();
    let still: BTreeSet<String> = match unknown.is_empty() {
        true => BTreeSet::new(),
        false => Nix::invalid(&unknown, &unheard)?.into_iter().collect(),
    };
    timings.end(process, end != End::Cancelled);
    let mut closures = Closures::default();
    batch
        .iter()
        .map(|(id, derivation)| {
            let drv = derivation.drv.as_str();
            let failed =
                still.contains(derivation.out.as_str()) || (options.rebuild && watched.errors.contains_key(drv));
            let outcome = match (failed, wanted.contains(drv)) {
                (false, false) => Outcome::Present,
                (false, true) if watched.copied.contains(derivation.out.as_str()) => Outcome::Fetched,
                (false, true) if watched.machines.contains_key(drv) => Outcome::Built,
                // Another process built it meanwhile.
                (false, true) => Outcome::Present,
                (true, _) if end == End::Cancelled => Outcome::NotRun { reason: "interrupted".into() },
                (true, _) => Outcome::Failed(watched.explain(end, drv, &mut closures, cancel)?),
            };
            let info = infos.remove(derivation.out.as_str());
            Ok(settled(id, outcome, watched.machines.get(drv).cloned(), info))
        })
        .collect()
}

fn settled(id: &JobId, outcome: Outcome, machine: Option<String>, info: Option<PathInfo>) -> Realised {
    Realised { id: id.clone(), outcome, machine: machine.filter(|m| !m.is_empty()), info }
}

/// What was seen while Nix worked.
#[derive(Default)]
struct Watched {
    /// Derivations whose builders were started, and where.
    machines: BTreeMap<String, String>,
    copied: BTreeSet<String>,
    tails: HashMap<String, VecDeque<String>>,
    /// Failing derivations and what Nix says of them.
    errors: BTreeMap<String, String>,
    /// Errors that name no derivation.
    others: Vec<String>,
    running: BTreeMap<u64, Running>,
    counters: HashMap<u64, Counts>,
    activity: Activity,
    timings: Timings,
    process: Option<Mark>,
    /// When what runs began, and when the builder of each derivation did.
    marks: HashMap<u64, Mark>,
    built: BTreeMap<String, Mark>,
}

enum Running {
    Build(String),
    Copy(String),
    Wait,
}

impl Watched {
    fn watch(
        &mut self,
        waiting: Ahead,
        drvs: &[&str],
        on_activity: &mut dyn FnMut(&Activity),
        on_note: &mut dyn FnMut(String),
    ) -> End {
        waiting.feed(argv::installables(drvs), &mut |stream, line| {
            let Some(event) = (stream == Stream::Err).then(|| event::parse(line)).flatten() else { return };
            if self.take(event, on_note) {
                on_activity(&self.activity);
            }
        })
    }

    /// Nix does not say how an activity ended; its errors do.
    fn settle(&self, cancelled: bool) {
        for (drv, mark) in &self.built {
            let failed = self.errors.contains_key(drv);
            self.timings.tell(*mark, |span| span.ok = !failed && span.ok);
        }
        for mark in self.marks.values() {
            self.timings.end(*mark, !cancelled);
        }
    }

    fn begin(&mut self, id: u64, what: What, running: Running, key: &str) -> Mark {
        let mark = self.timings.begin(what, running.name(), self.process);
        self.timings.tell(mark, |span| span.key = key.to_owned());
        self.marks.insert(id, mark);
        self.running.insert(id, running);
        mark
    }

    /// Takes in one event; true if what a watcher sees has changed.
    fn take(&mut self, event: Event, on_note: &mut dyn FnMut(String)) -> bool {
        match event {
            Event::BuildStarted { id, drv, machine } => {
                let mark = self.begin(id, What::Build, Running::Build(drv.clone()), &drv);
                self.timings.tell(mark, |span| span.machine = machine.clone());
                self.machines.insert(drv.clone(), machine);
                self.built.insert(drv, mark);
            }
            Event::CopyStarted { id, path } => {
                // Asking a substituter for a path and copying it are two activities within each other.
                if self.copied.insert(path.clone()) {
                    self.begin(id, What::Download, Running::Copy(path.clone()), &path);
                } else {
                    self.running.insert(id, Running::Copy(path));
                }
            }
            Event::WaitStarted { id, text } => {
                let path = text.split('\'').find(|part| part.starts_with('/')).unwrap_or_default();
                let name = Running::Copy(path.trim_end_matches(".lock").to_owned()).name();
                let what = if text.contains("lock") { "lock of" } else { "machine for" };
                let mark = self.begin(id, What::Wait, Running::Wait, path);
                self.timings.tell(mark, |span| span.name = format!("{what} {name}"));
                return false;
            }
            Event::Stopped { id } => {
                if let Some(mark) = self.marks.remove(&id) {
                    self.timings.end(mark, true);
                }
                if self.running.remove(&id).is_none() {
                    return false;
                }
            }
            Event::LogLine { id, line } => {
                if let Some(Running::Build(drv)) = self.running.get(&id) {
                    let tail = self.tails.entry(drv.clone()).or_default();
                    tail.push_back(line.chars().take(500).collect());
                    if tail.len() > TAIL {
                        tail.pop_front();
                    }
                }
                return false;
            }
            Event::Counter { id, counts } => {
                self.counters.insert(id, counts);
                return false;
            }
            Event::Progress { id, done, expected, running } => match self.counters.get(&id) {
                Some(Counts::Builds) => {
                    self.activity.builds = (done, expected);
                    // Up to 2.26 Nix ends the activity of a job's own derivation only when it ends itself.
                    if running == 0 {
                        self.built.values().for_each(|mark| self.timings.end(*mark, true));
                    }
                }
                Some(Counts::Copies) => self.activity.fetches = (done, expected),
                None => return false,
            },
            Event::Error { text } => {
                match event::blamed(&text) {
                    Some(drv) => drop(self.errors.entry(drv).or_insert(text)),
                    None => self.others.push(text),
                }
                return false;
            }
            Event::Note { text } => {
                on_note(text);
                return false;
            }
        }
        let shown = self.running.values().filter(|running| !matches!(running, Running::Wait));
        self.activity.current = shown.map(Running::name).collect();
        true
    }

    /// Why `drv` has no output: the failing derivation among those it depends on, with its log's tail.
    fn explain(&self, end: End, drv: &str, closures: &mut Closures, cancel: &Cancel) -> Result<Failure> {
        let known = self.errors.get_key_value(drv);
        let cause = match known {
            Some(found) => Some(found),
            None => {
                let closure = closures.of(drv, cancel)?;
                self.errors.iter().find(|(failing, _)| closure.contains(*failing))
            }
        };
        let Some((failing, text)) = cause else {
            let said = self.others.iter().find(|text| text.contains(drv)).or(self.others.last());
            let message =
                said.map_or_else(|| format!("`nix build` ended ({end}) without a word about it"), |t| message(t));
            return Ok(failure(drv, message, vec![]));
        };
        let tail = match self.tails.get(failing) {
            Some(tail) => tail.iter().cloned().collect(),
            None => stored_log(failing, cancel),
        };
        Ok(failure(failing, message(text), tail))
    }
}

fn failure(drv: &str, message: String, log_tail: Vec<String>) -> Failure {
    let reproduce = Invocation::new(argv::build_again(drv)).display();
    Failure { stage: Stage::Build, message, position: None, drv: Some(drv.into()), log_tail, reproduce }
}

impl Running {
    fn name(&self) -> String {
        let (Self::Build(path) | Self::Copy(path)) = self else { return String::new() };
        let base = path.rsplit('/').next().unwrap_or(path);
        base.get(33..).unwrap_or(base).trim_end_matches(".drv").to_owned()
    }
}

/// Closures of derivations, each asked for at most once.
#[derive(Default)]
struct Closures(HashMap<String, BTreeSet<String>>);

impl Closures {
    fn of(&mut self, drv: &str, cancel: &Cancel) -> Result<&BTreeSet<String>> {
        if !self.0.contains_key(drv) {
            let text = Invocation::new(argv::requisites(&[drv])).read(cancel)?;
            self.0.insert(drv.to_owned(), text.lines().map(str::to_owned).collect());
        }
        Ok(&self.0[drv])
    }
}

/// Nix's error without its prefix and without the log lines that we show ourselves, with advice where the
/// cause is a common one.
fn message(text: &str) -> String {
    const ADVICE: [(&str, &str); 5] = [
        ("No space left on device", "free space with `nix-collect-garbage`, then `cargo xtask doctor`"),
        ("is required to build", "`cargo xtask doctor` says which systems are built here; `ci/setup` brings emulation"),
        (
            "required system or feature not available",
            "`cargo xtask doctor` says which systems and features there are here",
        ),
        ("Exec format error", "binfmt_misc has no interpreter for this system; `ci/setup` registers one"),
        ("daemon disconnected unexpectedly", "often a full disk: `cargo xtask doctor`"),
    ];
    let body = text.trim().trim_start_matches("error:").trim();
    // From Nix 2.31 on the first line only repeats the derivation, which we name anyway.
    let body = body
        .split_once("Reason:")
        .filter(|_| body.starts_with("Cannot build"))
        .map_or(body, |(_, reason)| reason.trim());
    let until = ["last ", "Last ", "For full logs", "Output paths:"];
    let lines = body.lines().map(|line| line.trim().trim_end_matches(';'));
    let kept: Vec<&str> = lines.take_while(|line| !until.iter().any(|u| line.starts_with(u))).collect();
    let mut message = kept.join("\n");
    if let Some((_, advice)) = ADVICE.iter().find(|(sign, _)| text.contains(sign)) {
        message.push_str("\n  try: ");
        message.push_str(advice);
    }
    message
}

fn stored_log(drv: &str, cancel: &Cancel) -> Vec<String> {
    let log = Invocation::new(argv::log(drv)).capture(cancel);
    let text = log.ok().filter(|log| log.end.is_success()).map(|log| event::plain(&log.stdout)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].iter().map(|&line| line.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_lose_prefix_and_log_and_gain_advice() {
        let rows = [
            (
                "error: builder for '/nix/store/x-a.drv' failed with exit code 3;\n       last 2 log lines:\n       > hi\n       For full logs, run",
                "builder for '/nix/store/x-a.drv' failed with exit code 3",
            ),
            (
                "error: Cannot build '/nix/store/x-a.drv'.\n       Reason: builder failed with exit code 1.\n       Output paths:\n         /nix/store/x-a",
                "builder failed with exit code 1.",
            ),
        ];
        for (text, expected) in rows {
            assert_eq!(message(text), expected);
        }
        assert!(message("error: write: No space left on device").contains("try: free space"));
    }

    #[test]
    fn a_log_keeps_its_tail_only() {
        let mut watched = Watched::default();
        watched.take(Event::BuildStarted { id: 1, drv: "/d.drv".into(), machine: String::new() }, &mut |_| ());
        for n in 0..1000 {
            watched.take(Event::LogLine { id: 1, line: n.to_string() }, &mut |_| ());
        }
        let tail = &watched.tails["/d.drv"];
        assert_eq!((tail.len(), tail.back().map(String::as_str)), (TAIL, Some("999")));
    }

    #[test]
    fn activities_are_named_as_people_know_them() {
        let build = Running::Build("/nix/store/ll543dya45jydyims1x4d6cs2qak9rsv-linux-6.1.drv".into());
        assert_eq!(build.name(), "linux-6.1");
    }
}
