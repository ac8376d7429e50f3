//! Reads what `status --json` printed of machines, for the fleet page.

use std::fs;

use anyhow::Result;
use camino::Utf8Path;
use serde::Deserialize;

use crate::{
    diagnostic::{bytes, counted, usage},
    job::HostName,
};

/// What a machine runs, as it said; what is not known is absent (docs/deploy.md).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Running {
    pub host: Option<HostName>,
    pub target: String,
    pub version: String,
    pub current: String,
    pub profile: String,
    pub generation: Option<u32>,
    pub up_to_date: Option<bool>,
    pub days_behind: Option<u64>,
    pub reboot_pending: bool,
    pub failed_units: Vec<String>,
    /// Bytes that are free for the store.
    pub free: Option<u64>,
    /// Why it did not answer.
    pub error: Option<String>,
}

/// Reads a file. Errors: exit code 2 if it is not what `status --json` prints.
pub fn read(file: &Utf8Path) -> Result<Vec<Running>> {
    #[derive(Deserialize)]
    struct Document {
        version: u32,
        hosts: Vec<Running>,
    }
    let text = fs::read_to_string(file).map_err(|error| usage(format!("cannot read {file}: {error}")))?;
    let other = |why: String| usage(format!("{file} is not what `cargo xtask status --json` prints: {why}"));
    let document: Document = serde_json::from_str(&text).map_err(|error| other(error.to_string()))?;
    match document.hosts.iter().all(|running| running.host.is_some()) {
        true if document.version == 1 => Ok(document.hosts),
        true => Err(other(format!("its version is {}", document.version))),
        false => Err(other("a machine has no host".into())),
    }
}

impl Running {
    /// How it is judged, as a class of the page's, and what is to be said of it.
    pub fn words(&self) -> (&'static str, String) {
        if let Some(error) = &self.error {
            return ("bad", format!("no answer from {}: {error}", self.target));
        }
        let generation = match self.generation.filter(|_| self.current == self.profile) {
            Some(number) => format!("generation {number}"),
            None => "not what it starts with".into(),
        };
        let mut words = vec![format!("{} ({generation})", self.version)];
        words.extend(
            self.up_to_date.map(|same| if same { "as the fleet has it" } else { "not as the fleet has it" }.into()),
        );
        let days = self.days_behind.filter(|days| *days > 0);
        words
            .extend(days.map(|days| format!("{} behind", counted(usize::try_from(days).unwrap_or(usize::MAX), "day"))));
        words.extend(self.reboot_pending.then(|| "waits for a restart".into()));
        words.extend((!self.failed_units.is_empty()).then(|| format!("failed: {}", self.failed_units.join(", "))));
        words.extend(self.free.map(|free| format!("{} free", bytes(free))));
        let class = match (self.failed_units.is_empty(), self.up_to_date) {
            (false, _) => "bad",
            (true, Some(true)) if !self.reboot_pending => "ok",
            _ => "odd",
        };
        (class, words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Temporary;

    #[test]
    fn what_is_said_of_machines() {
        let running = Running {
            version: "26.05".into(),
            generation: Some(7),
            up_to_date: Some(true),
            free: Some(3 << 30),
            ..Running::default()
        };
        let late = Running { up_to_date: Some(false), days_behind: Some(1), reboot_pending: true, ..running.clone() };
        let failed = Running { failed_units: vec!["a.service".into()], current: "/x".into(), ..running.clone() };
        let silent = Running { target: "root@a".into(), error: Some("it is down".into()), ..Running::default() };
        let rows = [
            (running, "ok", "26.05 (generation 7), as the fleet has it, 3.0 GiB free"),
            (
                late,
                "odd",
                "26.05 (generation 7), not as the fleet has it, 1 day behind, waits for a restart, 3.0 GiB free",
            ),
            (failed, "bad", "26.05 (not what it starts with), as the fleet has it, failed: a.service, 3.0 GiB free"),
            (silent, "bad", "no answer from root@a: it is down"),
        ];
        for (running, class, words) in rows {
            assert_eq!(running.words(), (class, words.to_owned()));
        }
    }

    #[test]
    fn only_what_status_prints_is_read() {
        let dir = Temporary::new().unwrap();
        let file = dir.join("status.json");
        let rows = [
            (r#"{"version": 1, "hosts": [{"host": "a", "target": "a", "error": "down"}]}"#, ""),
            (r#"{"version": 2, "hosts": []}"#, "its version is 2"),
            (r#"{"version": 1, "hosts": [{}]}"#, "has no host"),
            ("[]", "is not what"),
        ];
        for (text, expected) in rows {
            fs::write(&file, text).unwrap();
            let read = read(&file).map_err(|error| error.to_string());
            assert!(read.as_ref().err().map_or("", String::as_str).contains(expected), "{read:?}");
            assert_eq!(read.is_ok(), expected.is_empty());
        }
    }
}
