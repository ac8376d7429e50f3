//! Installs a system on a machine that runs a live medium, and sees that the machine starts with it.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{
    guard::{Ended, State},
    live::{Place, SCRIPT},
    probe::probe,
    process::Cancel,
    remote::{Answer, Remote, assignments},
};

const UNIT: &str = include_str!("install-unit.sh");

/// The longest that a step and its connection may take.
const STEP: Duration = Duration::from_secs(60);

/// A machine that does not answer so long is given up; what it does goes on without us.
const SILENCE: Duration = Duration::from_secs(900);

/// A system and the place where it is to be.
pub struct Installation<'a> {
    pub remote: &'a Remote,
    pub place: &'a Place,
    /// Who does this and when; it tells installations apart.
    pub id: &'a str,
    pub host: &'a str,
    pub system: &'a str,
    /// disko's program, which is there in the store of the medium.
    pub partition: &'a str,
    /// The host keys of the ssh server, one a line: type, bits and path.
    pub keys: &'a str,
    /// The body of the shell's function that puts further files there.
    pub files: Option<&'a str>,
}

/// How far the machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Nothing was changed.
    Untouched,
    Partitioning,
    /// The disks are partitioned and mounted; the machine waits for the system.
    Waiting,
    Installing,
    /// The system is there; its host keys are read or made, and the disks are unmounted.
    Closing,
}

impl Stage {
    fn of(word: &str) -> Self {
        match word {
            "partitioning" => Self::Partitioning,
            "waiting" => Self::Waiting,
            "installing" => Self::Installing,
            "keys" | "unmounting" => Self::Closing,
            _ => Self::Untouched,
        }
    }

    /// What that means for the disks where it went no further.
    fn leaves(self) -> &'static str {
        match self {
            Self::Untouched => "nothing was changed",
            Self::Partitioning => {
                "the disks are partitioned in part: what was on them is lost, and nothing starts from them"
            }
            Self::Waiting => {
                "the disks are partitioned and empty: what was on them is lost, and nothing starts from them"
            }
            Self::Installing => "the disks have a part of the system, and may not start",
            Self::Closing => "the system is on the disks, but not all of its installation was done",
        }
    }
}

impl Installation<'_> {
    /// Erases the disks and installs. `copy` brings the system to the machine once the disks are mounted. Returns the host
    /// keys of the new system.
    pub fn carry_out(
        &self,
        copy: &dyn Fn() -> Result<(), String>,
        cancel: &Cancel,
        tell: &dyn Fn(&str),
    ) -> Result<Vec<String>, Ended> {
        match &self.begin(cancel) {
            Ok(answer) => {
                if let Some(problem) = answer.get("problem") {
                    return Err(Ended::new(State::Failed, format!("nothing was changed; {problem}")));
                }
            }
            // It may have begun all the same, which the next connection shows.
            Err(error) => tell(&format!("it does not answer: {}", first_line(error))),
        }
        let mut stage = Stage::Untouched;
        let done = self.proceed(&mut stage, copy, cancel, tell);
        done.map_err(|ended| if ended.state == State::Failed { self.stop(stage, &ended.why) } else { ended })
    }

    /// Ends what goes on there, and says what that means for the disks.
    fn stop(&self, known: Stage, why: &str) -> Ended {
        let said = self.step("stop", &[], &Cancel::default());
        let stage = said.as_ref().ok().and_then(|answer| answer.get("stage")).map_or(known, Stage::of).max(known);
        let mut text = format!("{why}\n  {}", stage.leaves());
        if said.is_err() {
            text += "\n  it could not be told to stop, and may go on until it waits for the system; \
                     `systemctl stop drydock-install` on it stops it";
        }
        if stage != Stage::Untouched {
            text += "\n  try: start it from the medium again and repeat this";
        }
        Ended::new(State::Failed, text)
    }

    fn proceed(
        &self,
        stage: &mut Stage,
        copy: &dyn Fn() -> Result<(), String>,
        cancel: &Cancel,
        tell: &dyn Fn(&str),
    ) -> Result<Vec<String>, Ended> {
        let failed = |why: String| Ended::new(State::Failed, why);
        self.wait(stage, Stage::Waiting, cancel, tell)?;
        if let Some(files) = self.files {
            tell("putting further files there");
            let step = assignments(&[("step", "files"), ("id", self.id)]);
            let said = self.remote.run(&format!("files() {{\n{files}}}\n{step}{SCRIPT}"), STEP * 10, cancel);
            let problem = match said {
                Ok(answer) => answer.get("problem").map(str::to_owned),
                Err(error) => Some(format!("{error:#}")),
            };
            if let Some(problem) = problem {
                return Err(failed(format!("--extra-files could not be put there: {problem}")));
            }
        }
        copy().map_err(failed)?;
        let go = || self.step("go", &[], cancel);
        go().or_else(|_| go()).map_err(|error| failed(format!("{error:#}")))?;
        let answer = self.wait(stage, Stage::Closing, cancel, tell)?;
        Ok(answer.all("key").filter_map(public_key).collect())
    }

    fn begin(&self, cancel: &Cancel) -> Result<Answer> {
        let line = |disk: &crate::live::Disk| format!("{} {} {}", disk.name, disk.sequence, disk.device.path);
        let disks: Vec<String> = self.place.disks.iter().map(line).collect();
        let program = assignments(&[
            ("disks", &disks.join("\n")),
            ("partition", self.partition),
            ("system", self.system),
            ("keys", self.keys),
            ("host", self.host),
        ]) + UNIT;
        self.step("begin", &[("boot", &self.place.boot_id), ("program", &program)], cancel)
    }

    fn step(&self, step: &str, more: &[(&str, &str)], cancel: &Cancel) -> Result<Answer> {
        let variables = [&[("step", step), ("id", self.id)], more].concat();
        self.remote.run(&(assignments(&variables) + "files() { :; }\n" + SCRIPT), STEP, cancel)
    }

    /// Waits until the machine waits for us, or has ended well. It takes the time that it takes, as long as it answers.
    fn wait(&self, stage: &mut Stage, until: Stage, cancel: &Cancel, tell: &dyn Fn(&str)) -> Result<Answer, Ended> {
        let (mut known, mut heard, mut told) = (String::new(), Instant::now(), false);
        loop {
            if cancel.is_set() {
                return Err(Ended::new(State::Failed, "interrupted"));
            }
            let answer = match self.step("poll", &[("known", &known)], cancel) {
                Ok(answer) => answer,
                Err(_) if cancel.is_set() => continue,
                Err(error) if heard.elapsed() > SILENCE => {
                    let goes_on = match stage {
                        Stage::Installing | Stage::Closing => "it installs without us, and is not restarted",
                        _ => "it goes on until it waits for the system",
                    };
                    let why = format!("it does not answer any more: {}\n  {goes_on}", first_line(&error));
                    return Err(Ended::new(State::Unknown, why));
                }
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        tell(&format!("it does not answer: {}", first_line(&error)));
                    }
                    sleep(Duration::from_secs(1));
                    continue;
                }
            };
            (heard, told) = (Instant::now(), false);
            let word = answer.get("stage").unwrap_or_default();
            let before = *stage;
            let log = || answer.all("log").map(|line| format!("\n  | {line}")).collect::<String>();
            let failed = |why: String| Err(Ended::new(State::Failed, why));
            if answer.get("gone").is_some() {
                let words = match answer.get("boot-id") == Some(&self.place.boot_id) {
                    true if before == Stage::Untouched => "it was not begun",
                    true => "somebody else installs it",
                    false => {
                        *stage = before.max(Stage::Partitioning);
                        "it was restarted"
                    }
                };
                return failed(words.into());
            }
            *stage = Stage::of(word);
            if word != known {
                tell(word);
                known = word.to_owned();
            }
            match answer.get("outcome") {
                Some("installed") => return Ok(answer),
                Some(why) => return failed(format!("{why}:{}", log())),
                None if answer.get("ended").is_some() => {
                    return failed(format!("the installation ended without a word:{}", log()));
                }
                None if *stage == until && until == Stage::Waiting => return Ok(answer),
                None => {}
            }
        }
    }

    /// Restarts the machine and waits until it says, with a host key that `candidates` know, that it runs the system.
    pub fn restart(&self, candidates: &[Remote], patience: Duration, cancel: &Cancel, tell: &dyn Fn(&str)) -> Ended {
        tell("restarting");
        // The connection may end before the answer comes: whether it restarts is seen by what answers afterwards.
        if let Ok(answer) = self.remote.step("reboot", &[], &[], Duration::from_secs(30), cancel)
            && answer.get("end") != Some("0")
        {
            return Ended::new(
                State::Failed,
                "it is installed, but it does not restart\n  try: take the medium out and restart it",
            );
        }
        let (began, mut trouble) = (Instant::now(), Vec::new());
        while began.elapsed() < patience && !cancel.is_set() {
            trouble.clear();
            for candidate in candidates {
                match probe(candidate, &[], cancel) {
                    Ok(now) if now.boot_id == self.place.boot_id => trouble.push("it has not restarted".to_owned()),
                    Ok(now) if now.current == self.system && now.booted == self.system => {
                        return Ended::new(State::Confirmed, "");
                    }
                    Ok(now) => {
                        let why = format!("it runs {} and not the system that was installed", now.current);
                        return Ended::new(State::Failed, why);
                    }
                    Err(error) => trouble.push(format!("{}: {}", candidate.destination, first_line(&error))),
                }
            }
            sleep(Duration::from_secs(1));
        }
        let why = match cancel.is_set() {
            true => "interrupted".to_owned(),
            false => format!("it was not seen after {} s: {}", patience.as_secs(), trouble.join("; ")),
        };
        Ended::new(
            State::Unknown,
            format!(
                "it is installed and restarts, and {why}\n  try: look at its console; where the medium starts again, take it \
                 out. Another host key than the new one is never accepted"
            ),
        )
    }
}

fn first_line(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().next().unwrap_or_default().to_owned()
}

/// Type and key of a line such as `ssh-ed25519 AAAA… root@web`; `None` for anything else.
fn public_key(line: &str) -> Option<String> {
    let mut words = line.split(' ');
    let (kind, key) = (words.next()?, words.next()?);
    let plain =
        |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-+/=.@".contains(c));
    (plain(kind) && plain(key) && !kind.starts_with('@')).then(|| format!("{kind} {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_become_lines_of_known_hosts() {
        assert_eq!(public_key("ssh-ed25519 AAAA/+= root@web").as_deref(), Some("ssh-ed25519 AAAA/+="));
        for line in ["", "ssh-ed25519", "@cert-authority AAAA", "* AAAA", "ssh-ed25519 A\u{1b}A", "a  b"] {
            assert_eq!(public_key(line), None, "{line:?}");
        }
    }

    #[test]
    fn the_stages_are_those_of_the_script() {
        for word in ["partitioning", "waiting", "installing", "keys", "unmounting"] {
            assert!(UNIT.contains(&format!("\nstage {word}\n")), "{word}");
            assert_ne!(Stage::of(word), Stage::Untouched);
        }
        assert_eq!(Stage::of("checking"), Stage::Untouched);
    }
}
