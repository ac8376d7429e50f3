//! Watches what Nix says while it builds: what it does now, and what became of each derivation.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    fmt,
};

use anyhow::Result;

use crate::{
    nix::event::{self, Counts, Event},
    process::{Cancel, End, Invocation, Stream},
    timings::{Mark, Timings, What},
};

/// Lines of a failed builder's log that a report shows.
pub const TAIL: usize = 30;

/// What Nix does for a batch, for whoever watches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Derivations built, of how many.
    pub builds: (u64, u64),
    /// Paths copied, of how many.
    pub fetches: (u64, u64),
    /// The names of what is being built and of what is being copied now.
    pub building: Vec<String>,
    pub copying: Vec<String>,
    /// What is waited for: `lock of hello`, `machine for hello`.
    pub waits: Vec<String>,
}

/// What a watcher is told while Nix works.
pub enum Update<'a> {
    Activity(&'a Activity),
    /// A builder was started, on this machine if the other is empty.
    Started {
        drv: &'a str,
        machine: &'a str,
    },
    /// A builder ended, well or not.
    Ended {
        drv: &'a str,
    },
    /// A line of a builder's log.
    Log {
        drv: &'a str,
        line: &'a str,
    },
    Note(String),
}

/// What was seen while Nix worked.
#[derive(Default)]
pub struct Watched {
    /// Derivations whose builders were started, and where.
    pub machines: BTreeMap<String, String>,
    pub copied: BTreeSet<String>,
    pub tails: HashMap<String, VecDeque<String>>,
    /// Failing derivations and what Nix says of them.
    pub errors: BTreeMap<String, String>,
    /// Errors that name no derivation.
    pub others: Vec<String>,
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
    Wait(String),
}

impl Watched {
    /// For what a process of Nix does in `timings`.
    pub fn new(timings: &Timings, process: Mark) -> Self {
        Self { process: Some(process), timings: timings.clone(), ..Self::default() }
    }

    /// Runs `nix build` and watches it to its end.
    pub fn watch(&mut self, build: &Invocation, cancel: &Cancel, tell: &mut dyn FnMut(Update<'_>)) -> Result<End> {
        build.stream(cancel, &mut |stream, line| {
            let Some(event) = (stream == Stream::Err).then(|| event::parse(line)).flatten() else { return };
            if self.take(event, tell) {
                tell(Update::Activity(&self.activity));
            }
        })
    }

    /// Nix does not say how an activity ended; its errors do.
    pub fn settle(&self, cancelled: bool) {
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
    fn take(&mut self, event: Event, tell: &mut dyn FnMut(Update<'_>)) -> bool {
        match event {
            // A builder behind ssh-ng:// tells of the build once more, as one of its own.
            Event::BuildStarted { id, drv, machine }
                if machine.is_empty() && self.machines.get(&drv).is_some_and(|machine| !machine.is_empty()) =>
            {
                self.running.insert(id, Running::Build(drv));
            }
            Event::BuildStarted { id, drv, machine } => {
                let mark = self.begin(id, What::Build, Running::Build(drv.clone()), &drv);
                self.timings.tell(mark, |span| span.machine = machine.clone());
                tell(Update::Started { drv: &drv, machine: &machine });
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
                self.begin(id, What::Wait, Running::Wait(format!("{what} {name}")), path);
            }
            Event::Stopped { id } => {
                self.counters.remove(&id);
                if let Some(mark) = self.marks.remove(&id) {
                    self.timings.end(mark, true);
                }
                match self.running.remove(&id) {
                    Some(Running::Build(drv)) => tell(Update::Ended { drv: &drv }),
                    Some(_) => {}
                    None => return false,
                }
            }
            Event::LogLine { id, line } => {
                if let Some(Running::Build(drv)) = self.running.get(&id) {
                    tell(Update::Log { drv, line: &line });
                    let tail = self.tails.entry(drv.clone()).or_default();
                    tail.push_back(line.chars().take(500).collect());
                    if tail.len() > TAIL {
                        tail.pop_front();
                    }
                }
                return false;
            }
            Event::Counter { id, counts } => {
                // The first is this Nix's own; while it runs, builders behind ssh-ng:// tell of theirs.
                if self.counters.values().all(|other| *other != counts) {
                    self.counters.insert(id, counts);
                }
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
                    Some(drv) => {
                        self.built.get(&drv).into_iter().for_each(|mark| self.timings.end(*mark, false));
                        self.errors.entry(drv).or_insert(text);
                    }
                    None => self.others.push(text),
                }
                return false;
            }
            Event::Note { text } => {
                tell(Update::Note(text));
                return false;
            }
        }
        let of = |kind: fn(&Running) -> bool| {
            let mut names = Vec::new();
            for name in self.running.values().filter(|running| kind(running)).map(Running::name) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            names
        };
        self.activity.building = of(|running| matches!(running, Running::Build(_)));
        self.activity.copying = of(|running| matches!(running, Running::Copy(_)));
        self.activity.waits = of(|running| matches!(running, Running::Wait(_)));
        true
    }
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |word: &str, (done, all): (u64, u64), names: &[String]| {
            let names = if names.is_empty() { String::new() } else { format!(": {}", names.join(" ")) };
            (all > 0).then(|| format!("{done}/{all} {word}{names}"))
        };
        let waits = (!self.waits.is_empty()).then(|| format!("waits for the {}", self.waits.join(", ")));
        let parts = [part("built", self.builds, &self.building), part("fetched", self.fetches, &self.copying), waits];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join("; "))
    }
}

impl Running {
    fn name(&self) -> String {
        match self {
            Self::Build(path) | Self::Copy(path) => {
                let base = path.rsplit('/').next().unwrap_or(path);
                base.get(33..).unwrap_or(base).trim_end_matches(".drv").to_owned()
            }
            Self::Wait(name) => name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_a_builder_behind_ssh_ng_tells_of_itself_is_no_second_build() {
        let mut watched = Watched::default();
        let drv = || "/nix/store/ll543dya45jydyims1x4d6cs2qak9rsv-linux-6.1.drv".to_owned();
        let start = |id, machine: &str| Event::BuildStarted { id, drv: drv(), machine: machine.into() };
        let progress = |id, done, expected| Event::Progress { id, done, expected, running: 0 };
        let events = [
            Event::Counter { id: 1, counts: Counts::Builds },
            start(2, "ssh-ng://b1"),
            Event::Counter { id: 3, counts: Counts::Builds },
            start(4, ""),
            Event::LogLine { id: 4, line: "make".into() },
            progress(1, 5, 9),
            progress(3, 0, 1),
        ];
        for event in events {
            watched.take(event, &mut |_| ());
        }
        assert_eq!(watched.machines[&drv()], "ssh-ng://b1");
        assert_eq!((watched.activity.builds, &watched.activity.building[..]), ((5, 9), &["linux-6.1".to_owned()][..]));
        assert_eq!(watched.tails[&drv()], ["make"]);
        watched.take(Event::Stopped { id: 1 }, &mut |_| ());
        watched.take(Event::Counter { id: 9, counts: Counts::Builds }, &mut |_| ());
        watched.take(progress(9, 1, 2), &mut |_| ());
        assert_eq!(watched.activity.builds, (1, 2));
    }

    #[test]
    fn an_activity_tells_builds_downloads_and_waiting_apart() {
        let activity = Activity {
            builds: (3, 9),
            fetches: (2, 5),
            building: vec!["linux-6.1".into(), "initrd".into()],
            copying: vec![],
            waits: vec!["lock of glibc-2.40".into()],
        };
        assert_eq!(activity.to_string(), "3/9 built: linux-6.1 initrd; 2/5 fetched; waits for the lock of glibc-2.40");
        assert_eq!(Activity::default().to_string(), "");
    }

    #[test]
    fn activities_are_named_as_people_know_them() {
        let build = Running::Build("/nix/store/ll543dya45jydyims1x4d6cs2qak9rsv-linux-6.1.drv".into());
        assert_eq!(build.name(), "linux-6.1");
    }
}
