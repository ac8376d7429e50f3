//! Activates a system on a machine such that the machine undoes it by itself unless we confirm it over a new connection.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde::Serialize;

use crate::{
    process::Cancel,
    remote::{Answer, Remote},
};

/// Seconds that a step waits on the machine for something new, and the longest that its connection may take.
const WAIT: (&str, Duration) = ("10", Duration::from_secs(40));

/// The longest that checks and their connection may take, beyond the time that the machine waits for the confirmation.
const PATIENCE: Duration = Duration::from_secs(180);

/// What becomes of the new system once it is confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It runs, and the machine starts with it from now on.
    Switch,
    /// It runs until the next start.
    Test,
    /// It is what the machine starts with from now on, and does not run yet.
    Boot,
}

/// How a change of a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It runs what it should already.
    Unchanged,
    /// The new system is there to stay.
    Confirmed,
    /// The new system is on the disks, and was not started.
    Installed,
    /// The old system runs again, or still does.
    RolledBack,
    /// Nothing was changed, or what is said.
    Failed,
    /// The machine could not be asked.
    Unknown,
    /// Its turn did not come.
    NotTried,
}

impl State {
    pub fn word(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Confirmed => "confirmed",
            Self::Installed => "installed",
            Self::RolledBack => "rolled back",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::NotTried => "not tried",
        }
    }
}

/// The end of it, and why, in words; empty where there is nothing to explain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub state: State,
    pub why: String,
}

impl Ended {
    pub fn new(state: State, why: impl Into<String>) -> Self {
        Self { state, why: why.into() }
    }
}

/// A system that is there in the machine's store and is to run on it.
pub struct Change<'a> {
    pub remote: &'a Remote,
    /// Who does this and when; it tells deployments apart.
    pub id: &'a str,
    pub new: &'a str,
    pub old: &'a str,
    /// That of the start in which the machine is.
    pub boot_id: &'a str,
    pub keep: Keep,
    /// The generation that the profile goes back to; a new one is made if `None`.
    pub generation: Option<u32>,
    pub checks: &'a [String],
    /// After this time the machine undoes what was not confirmed.
    pub confirm_timeout: Duration,
}

impl Change<'_> {
    /// Carries it out and sees how it ends. `tell` gets what goes on, for a person.
    pub fn carry_out(&self, cancel: &Cancel, tell: &dyn Fn(&str)) -> Ended {
        let keep = match self.keep {
            Keep::Switch => "switch",
            Keep::Test => "test",
            Keep::Boot => "boot",
        };
        let (seconds, generation) = (
            self.confirm_timeout.as_secs().to_string(),
            self.generation.map(|number| number.to_string()).unwrap_or_default(),
        );
        let variables = [("new", self.new), ("keep", keep), ("seconds", &seconds), ("generation", &generation)];
        let began = Instant::now();
        let said = self.step("begin", &variables, WAIT.1, cancel);
        let trouble = match &said {
            Ok(answer) => match (answer.get("switching"), answer.get("problem")) {
                (Some(who), _) => {
                    let why = format!("{who} is switching it; nothing was changed\n  try: again when that has ended");
                    return Ended::new(State::Failed, why);
                }
                (_, Some(problem)) => return Ended::new(State::Failed, format!("{problem}; nothing was changed")),
                _ => String::new(),
            },
            // It may have begun all the same, which the next connection shows.
            Err(error) => format!("{error:#}"),
        };
        Watch { change: self, began, trouble, asked: None, settled: self.keep == Keep::Boot }
            .until_it_ends(cancel, tell)
    }

    fn step(&self, step: &str, more: &[(&str, &str)], limit: Duration, cancel: &Cancel) -> Result<Answer> {
        let variables = [&[("id", self.id)], more].concat();
        let checks = if step == "verify" { self.checks } else { &[] };
        self.remote.step(step, &variables, checks, limit, cancel)
    }
}

/// What we have asked the machine for after the activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Confirm,
    Undo,
}

/// A change that is under way.
struct Watch<'a> {
    change: &'a Change<'a>,
    began: Instant,
    /// The last thing that went wrong.
    trouble: String,
    asked: Option<Asked>,
    /// True once the activation has ended.
    settled: bool,
}

impl Watch<'_> {
    fn until_it_ends(mut self, cancel: &Cancel, tell: &dyn Fn(&str)) -> Ended {
        let change = self.change;
        loop {
            if cancel.is_set() {
                return self.interrupted();
            }
            // Once the activation has ended and nothing was asked, the next connection is the one that verifies.
            let verifies = self.settled && self.asked.is_none() && change.keep != Keep::Boot;
            let said = if verifies {
                tell("verifying");
                change.step("verify", &[], change.confirm_timeout.min(PATIENCE) + WAIT.1, cancel)
            } else {
                let until = if self.settled { "outcome" } else { "activated" };
                change.step("poll", &[("until", until), ("wait", WAIT.0)], WAIT.1, cancel)
            };
            match said {
                Ok(answer) => {
                    if let Some(ended) = self.ended(&answer) {
                        return ended;
                    }
                    if verifies {
                        self.decide(&answer, cancel, tell);
                    } else if answer.get("activated").is_some() {
                        self.settled = true;
                    }
                }
                Err(_) if cancel.is_set() => {}
                Err(error) => {
                    let first = self.trouble.is_empty();
                    let why = format!("{error:#}");
                    self.trouble = format!("it does not answer: {}", why.lines().next().unwrap_or_default());
                    if first {
                        tell(&self.trouble);
                    }
                    sleep(Duration::from_secs(1));
                }
            }
            if self.began.elapsed() > change.confirm_timeout + PATIENCE {
                return Ended::new(
                    State::Unknown,
                    format!("it does not say how it ended: {}\n  {}", self.trouble, self.holds()),
                );
            }
        }
    }

    /// Judges what the machine verified, and asks for the confirmation or the undo. Where that fails, it is verified again.
    fn decide(&mut self, answer: &Answer, cancel: &Cancel, tell: &dyn Fn(&str)) {
        let mut problems: Vec<String> = answer.all("newly-failed").map(|unit| format!("{unit} failed")).collect();
        problems.extend(answer.all("check-failed").map(|check| format!("the check {check}")));
        let code = answer.get("activated").unwrap_or("?");
        // switch-to-configuration-ng ends with 4 if all was activated and a unit failed: perhaps one that failed before, one
        // of a user who is logged in, or one that could not be reloaded and goes on as it was. Which units failed is seen
        // above, the rest is told. The 4 replaces the 2 of an activation script that failed, whose message remains.
        let script_failed = answer.all("warning").any(|line| line == "Failed to run activate script");
        if script_failed || !["0", "4"].contains(&code) {
            let log: Vec<&str> = answer.all("activate").collect();
            problems.push(format!("switch-to-configuration ended with {code}:\n  | {}", log.join("\n  | ")));
        }
        if answer.get("current") != Some(self.change.new) {
            problems.push("the new system is not the one that runs".to_owned());
        }
        let (step, asked) = match problems.is_empty() {
            true => ("confirm", Asked::Confirm),
            false => ("undo", Asked::Undo),
        };
        answer.all("warning").for_each(tell);
        tell(if asked == Asked::Confirm { "confirming" } else { "rolling back" });
        if asked == Asked::Undo {
            self.trouble = problems.join("; ");
        }
        // Whether it comes through or not, what we say of an interrupted run must allow for it.
        self.asked = Some(asked);
        match self.change.step(step, &[], WAIT.1, cancel) {
            Err(error) if asked == Asked::Confirm && !cancel.is_set() => {
                self.trouble = format!("{error:#}");
                self.asked = None;
            }
            // An undo that did not come through is the timer's.
            _ => {}
        }
    }

    /// The end, if the machine says so.
    fn ended(&self, answer: &Answer) -> Option<Ended> {
        let log = |key| answer.all(key).map(|line| format!("\n  | {line}")).collect::<String>();
        if answer.get("gone").is_some() {
            let restarted = answer.get("boot-id") != Some(self.change.boot_id);
            let (state, words) = match answer.get("current") == Some(self.change.old) {
                true if restarted => (State::RolledBack, "the machine was restarted, with the old system"),
                true => (State::Failed, "it was not begun, and nothing was changed"),
                false => (State::Unknown, "another deployment or a restart came between"),
            };
            return Some(Ended::new(state, join(words, &self.trouble)));
        }
        let (word, code) = answer.get("outcome")?.split_once(' ').unwrap_or((answer.get("outcome")?, ""));
        let trouble = match self.trouble.as_str() {
            "" => "it was not confirmed in time",
            trouble => trouble,
        };
        Some(match word {
            "confirmed" => Ended::new(State::Confirmed, ""),
            "rolled-back" => {
                let incomplete = if code == "0" {
                    String::new()
                } else {
                    format!("\n  the way back ended with {code}:{}", log("undo"))
                };
                Ended::new(State::RolledBack, format!("{trouble}{incomplete}"))
            }
            "not-default" => {
                let runs =
                    if self.change.keep == Keep::Boot { "" } else { "the new system runs until the next start, and " };
                let why = format!("{runs}the boot default could not be set ({code}):{}", log("confirm"));
                Ended::new(State::Failed, why)
            }
            _ => Ended::new(State::Unknown, format!("{trouble}\n  and the way back failed ({code}):{}", log("undo"))),
        })
    }

    fn interrupted(&self) -> Ended {
        Ended::new(State::Unknown, format!("interrupted\n  {}", self.holds()))
    }

    /// What holds on the machine whatever becomes of us.
    fn holds(&self) -> String {
        match (self.change.keep, self.asked) {
            (Keep::Boot, _) => "the boot default may be the old or the new system".to_owned(),
            (_, Some(Asked::Confirm)) => {
                "it was about to be confirmed: the new system stays, or the machine goes back by itself".to_owned()
            }
            _ => {
                let left = self.change.confirm_timeout.saturating_sub(self.began.elapsed());
                format!(
                    "the machine goes back to the old system by itself within {} s, also by a restart",
                    left.as_secs()
                )
            }
        }
    }
}

fn join(words: &str, trouble: &str) -> String {
    if trouble.is_empty() { words.to_owned() } else { format!("{words}: {trouble}") }
}
