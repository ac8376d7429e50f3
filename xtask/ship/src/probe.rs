//! Understands what a machine says of itself.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, bail, ensure};
use serde::Serialize;

use crate::{
    process::Cancel,
    remote::{Answer, Remote},
};

/// A machine that runs NixOS, as it said in one connection.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Machine {
    #[serde(skip)]
    pub is_root: bool,
    /// The name that it has itself.
    pub hostname: String,
    /// The processor as uname(1) names it, such as `x86_64`.
    pub machine: String,
    /// Random, and new with every start.
    #[serde(skip)]
    pub boot_id: String,
    /// What runs.
    pub current: String,
    /// What the machine was started with.
    pub booted: String,
    /// What it will start with: where the system profile points.
    pub profile: String,
    /// The number of the profile's generation.
    pub generation: Option<u32>,
    /// The generations that are there, with their systems.
    #[serde(skip)]
    pub kept: BTreeMap<u32, String>,
    /// NixOS's version, such as `26.05.20260701.a1b2c3d`; empty where a system has none.
    pub version: String,
    /// Who switches the machine right now; empty if nobody does.
    pub switching: String,
    /// Bytes that are free for the store.
    pub free: u64,
    /// True if kernel, initrd, modules or parameters are others than those it was started with.
    pub reboot_pending: bool,
    pub failed_units: Vec<String>,
    /// Of the paths that were asked about, those that its store lacks.
    #[serde(skip)]
    pub lacks: Vec<String>,
    /// The closure of what runs.
    #[serde(skip)]
    pub closure: Vec<String>,
    /// The units of what runs, with what each is a link to.
    #[serde(skip)]
    pub units: BTreeMap<String, String>,
    /// Kernel, initrd, modules and parameters that it was started with.
    #[serde(skip)]
    pub booted_parts: Vec<String>,
}

/// Asks a machine. With `closure`, the paths of a system that may be deployed to it, also what is needed to compare.
/// Errors: it does not answer, or is no NixOS.
pub fn probe(remote: &Remote, closure: &[String], cancel: &Cancel) -> Result<Machine> {
    let answer = remote.step("probe", &[("closure", &closure.join(" "))], &[], Duration::from_secs(120), cancel)?;
    let machine = Machine::from(&answer);
    ensure!(machine.current.starts_with("/nix/store/"), "{} does not run NixOS", remote.destination);
    Ok(machine)
}

impl From<&Answer> for Machine {
    fn from(answer: &Answer) -> Self {
        let text = |key: &str| answer.get(key).unwrap_or_default().to_owned();
        let list = |key: &str| answer.all(key).map(str::to_owned).collect::<Vec<_>>();
        let pair = |line: &str| line.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned()));
        let kept = answer.all("kept").filter_map(pair);
        Self {
            is_root: answer.get("login") == Some("root"),
            hostname: text("host"),
            machine: text("machine"),
            boot_id: text("boot-id"),
            current: text("current"),
            booted: text("booted"),
            profile: text("profile"),
            generation: number(&text("generation")),
            kept: kept.filter_map(|(link, system)| Some((number(&link)?, system))).collect(),
            version: text("version"),
            switching: text("switching"),
            free: text("free").parse::<u64>().unwrap_or_default() << 10,
            reboot_pending: answer.get("reboot-pending").is_some(),
            failed_units: list("failed"),
            lacks: list("lacks"),
            closure: list("has"),
            units: answer.all("unit").filter_map(pair).collect(),
            booted_parts: list("booted-part"),
        }
    }
}

/// The number of a generation by its link, such as `/nix/var/nix/profiles/system-12-link`.
fn number(link: &str) -> Option<u32> {
    link.rsplit('/').next()?.strip_prefix("system-")?.strip_suffix("-link")?.parse().ok()
}

/// Errors: a processor, as uname(1) names it, does not run what is built for a system such as `x86_64-linux`.
pub fn ensure_runs(machine: &str, system: &str) -> Result<()> {
    let runs = match machine {
        "arm64" => "aarch64",
        "i386" | "i486" | "i586" => "i686",
        other => other,
    };
    let wanted = system.trim_end_matches("-linux");
    ensure!(
        runs == wanted || (runs, wanted) == ("x86_64", "i686"),
        "it is built for {wanted} and the machine is {runs}\n  try: `system` in hosts/hosts.toml, or another `target`"
    );
    Ok(())
}

impl Machine {
    /// Errors: the machine cannot take a system of this kind now, in words.
    pub fn ensure_may_get(&self, system: &str, needed: u64) -> Result<()> {
        ensure_runs(&self.machine, system)?;
        if !self.switching.is_empty() {
            bail!("{} is switching it\n  try: again when that has ended", self.switching);
        }
        if needed + (needed >> 4) > self.free {
            let mib = |bytes: u64| format!("{} MiB", bytes.div_ceil(1 << 20));
            bail!(
                "it needs {} in its store and has {}\n  try: `nix-collect-garbage --delete-older-than 30d` on it",
                mib(needed),
                mib(self.free)
            );
        }
        Ok(())
    }

    /// The generation before the one that the machine starts with.
    pub fn previous(&self) -> Option<(u32, &str)> {
        let now = self.generation?;
        self.kept.range(..now).next_back().map(|(number, system)| (*number, system.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        let kept = [(1, "/a".to_owned()), (4, "/b".to_owned()), (7, "/c".to_owned())].into();
        Machine { machine: "x86_64".into(), generation: Some(7), kept, free: 100 << 20, ..Machine::default() }
    }

    #[test]
    fn what_a_machine_cannot_take_is_said_with_what_to_try() {
        let rows: [(&str, u64, &str, &str); 5] = [
            ("x86_64-linux", 10 << 20, "", ""),
            ("i686-linux", 10 << 20, "", ""),
            ("aarch64-linux", 0, "", "built for aarch64 and the machine is x86_64"),
            ("x86_64-linux", 99 << 20, "", "needs 99 MiB in its store and has 100 MiB"),
            ("x86_64-linux", 0, "alice@laptop", "alice@laptop is switching it"),
        ];
        for (system, needed, switching, expected) in rows {
            let machine = Machine { switching: switching.into(), ..machine() };
            let said =
                machine.ensure_may_get(system, needed).map_or_else(|error| error.to_string(), |()| String::new());
            assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{said}");
        }
    }

    #[test]
    fn the_generation_before_may_have_any_number() {
        assert_eq!(machine().previous(), Some((4, "/b")));
        assert_eq!(Machine { generation: Some(1), ..machine() }.previous(), None);
        assert_eq!(number("/nix/var/nix/profiles/system-12-link"), Some(12));
        assert_eq!(number("per-user-1-link"), None);
    }
}
