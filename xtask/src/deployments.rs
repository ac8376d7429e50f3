//! Writes what became of machines that were to be changed: a table, a document for programs, an exit code.

use std::{
    fmt::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use crate::{
    diagnostic::{DONE, FAILED, INTERRUPTED, as_called, counted},
    job::{Derivation, HostName, Outcome},
    matrix::Host,
    nix::argv,
    process::{Cancel, Invocation},
    record::{FleetRecord, JobRecord},
    ship::guard::{Ended, State},
};

/// Exit code: machines went back to the system that they had; nothing worse happened.
pub const ROLLED_BACK: u8 = 4;
/// Exit code: of at least one machine it is not known what it runs.
pub const UNKNOWN: u8 = 5;

/// What became of one machine.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub host: HostName,
    pub target: String,
    pub state: State,
    /// Why, where that has to be explained.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// The system that it ran before, if it said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// The system that it was to run, if that was built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
    /// From the copy to the end.
    pub seconds: f64,
}

impl Row {
    pub fn new(host: &Host, ended: Ended) -> Self {
        let Ended { state, why } = ended;
        let (host, target) = (host.name.clone(), host.destination().to_string());
        Self { host, target, state, why, old: None, new: None, seconds: 0.0 }
    }

    pub fn is_good(&self) -> bool {
        matches!(self.state, State::Unchanged | State::Confirmed | State::Installed)
    }
}

/// What `--json` prints; docs/deploy.md documents it.
#[derive(Serialize)]
pub struct Document<'a> {
    pub version: u32,
    pub command: &'a str,
    pub fleet: &'a FleetRecord,
    /// In the order in which they were told.
    pub hosts: &'a [Row],
}

/// What a job was built to. Errors: why it was not, in words.
pub fn built(job: &JobRecord) -> Result<&Derivation, String> {
    match (&job.outcome, &job.derivation) {
        (Outcome::Failed(failure), _) => {
            let log: String =
                failure.log_tail.iter().rev().take(10).rev().map(|line| format!("\n  | {line}")).collect();
            let (message, reproduce) = (&failure.message, &failure.reproduce);
            Err(format!("it could not be built: {message}{log}\n  to repeat it: {reproduce}"))
        }
        (outcome, Some(derivation)) if outcome.is_success() => Ok(derivation),
        _ => Err("it was not built".to_owned()),
    }
}

/// Everything that these paths need, themselves included.
pub fn closure(paths: &[&str], cancel: &Cancel) -> anyhow::Result<Vec<String>> {
    let closure = Invocation::new(argv::requisites(paths)).read(cancel)?;
    Ok(closure.lines().map(str::to_owned).collect())
}

/// The bytes of these paths themselves.
pub fn sizes(paths: &[String], cancel: &Cancel) -> anyhow::Result<u64> {
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let mut sum = 0;
    for chunk in paths.chunks(argv::MOST_PATHS) {
        let sizes = Invocation::new(argv::sizes(chunk)).read(cancel)?;
        sum += sizes.lines().filter_map(|line| line.parse::<u64>().ok()).sum::<u64>();
    }
    Ok(sum)
}

/// Copies a path and all that it needs to a machine's store, which is given with its ssh options. Errors: why it is not
/// there, in words.
pub fn copy(store: &(String, String), substitute: bool, path: &str, cancel: &Cancel) -> Result<(), String> {
    let (store, options) = store;
    let own = std::env::var("NIX_SSHOPTS").unwrap_or_default();
    let copy = Invocation::new(argv::copy_to_machine(store, substitute, path))
        .env("NIX_SSHOPTS", format!("{options} {own}").trim());
    match copy.capture(cancel) {
        Ok(said) if said.end.is_success() => Ok(()),
        Ok(said) => {
            let lines: Vec<&str> = said.stderr.lines().filter(|line| !line.starts_with("copying ")).collect();
            let last = lines.iter().rev().take(6).rev().map(|line| format!("\n  | {line}")).collect::<String>();
            Err(format!("({}){last}\n  to repeat it: {}", said.end, copy.display()))
        }
        Err(error) => Err(format!("({error:#})")),
    }
}

/// Who deploys and when, which tells this deployment from any other.
pub fn id() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let user = std::env::var("USER").unwrap_or_else(|_| "somebody".into());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{user}@{} ({}.{})", name.trim(), now.as_nanos(), std::process::id())
}

/// One line a machine, what went wrong first, and a summary.
pub fn table(rows: &[Row]) -> String {
    let mut sorted: Vec<&Row> = rows.iter().collect();
    sorted.sort_by_key(|row| (row.is_good(), row.host.clone()));
    let width = rows.iter().map(|row| row.host.as_str().len()).max().unwrap_or_default();
    let mut text = String::new();
    for row in &sorted {
        let why = as_called(&row.why.replace('\n', &format!("\n{:width$}  ", "")));
        let line = format!("{:width$}  {:11}  {:6.1} s  {why}", row.host, row.state.word(), row.seconds);
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let states = [
        State::Confirmed,
        State::Unchanged,
        State::Installed,
        State::RolledBack,
        State::Failed,
        State::Unknown,
        State::NotTried,
    ];
    let count = |state: &State| (rows.iter().filter(|row| row.state == *state).count(), state.word());
    let counts = states.iter().map(count).filter(|(count, _)| *count > 0);
    let counts: Vec<String> = counts.map(|(count, word)| format!("{count} {word}")).collect();
    text + &format!("{}: {}\n", counted(rows.len(), "host"), counts.join(", "))
}

/// What a person has to look at most urgently decides.
pub fn exit_code(rows: &[Row], cancel: &Cancel) -> u8 {
    let any = |state: State| rows.iter().any(|row| row.state == state);
    match () {
        () if cancel.is_set() => INTERRUPTED,
        () if any(State::Unknown) => UNKNOWN,
        () if any(State::Failed) => FAILED,
        () if any(State::RolledBack) => ROLLED_BACK,
        () if any(State::NotTried) => FAILED,
        () => DONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(states: &[State]) -> Vec<Row> {
        let row = |(n, state): (usize, &State)| Row {
            host: format!("h{n}").parse().unwrap(),
            target: String::new(),
            state: *state,
            why: if *state == State::Failed { "it is down\n  try: again".into() } else { String::new() },
            old: None,
            new: None,
            seconds: 1.0,
        };
        states.iter().enumerate().map(row).collect()
    }

    #[test]
    fn the_worst_decides_the_exit_code() {
        use State::{Confirmed, Failed, NotTried, RolledBack, Unchanged, Unknown};
        let table: [(&[State], u8); 6] = [
            (&[Confirmed, Unchanged], 0),
            (&[Confirmed, RolledBack], 4),
            (&[RolledBack, Failed], 1),
            (&[Failed, Unknown], 5),
            (&[Confirmed, NotTried], 1),
            (&[RolledBack, NotTried], 4),
        ];
        for (states, expected) in table {
            assert_eq!(exit_code(&rows(states), &Cancel::default()), expected, "{states:?}");
        }
    }

    #[test]
    fn what_is_printed_for_programs_is_left_to_the_schema() {
        let mut rows = rows(&[State::Confirmed, State::Failed, State::RolledBack, State::NotTried, State::Unknown]);
        (rows[0].old, rows[0].new) = (Some("/nix/store/x-old".into()), Some("/nix/store/x-new".into()));
        let fleet = drydock_model::samples::record().fleet;
        let document = Document { version: 1, command: "deploy", fleet: &fleet, hosts: &rows };
        drydock_model::samples::keep("deployment.deploy", &serde_json::to_string(&document).unwrap());
    }

    #[test]
    fn failures_come_first() {
        let text = table(&rows(&[State::Confirmed, State::Failed]));
        let expected = "h1  failed          1.0 s  it is down\n      try: again\nh0  confirmed       1.0 s\n\
                        2 hosts: 1 confirmed, 1 failed\n";
        assert_eq!(text, expected);
    }
}
