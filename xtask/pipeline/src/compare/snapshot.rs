//! Collects what is compared of one state of a host, and compares two.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde::Serialize;

use super::{
    derivation::Graph,
    name,
    nixos::{self, Delta, Facts},
    packages::{self, Change},
};
use crate::{
    diagnostic::usage,
    job::Derivation,
    nix::{Nix, argv},
    process::{Cancel, Invocation},
};

/// What is known of one state of a host. What is absent is not known, which is not the same as empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Names of everything in the closure of the built system.
    pub closure: Option<Vec<String>>,
    /// Bytes of that closure.
    pub closure_size: Option<u64>,
    /// Names of packages among all derivations, those that only build others included.
    pub built_from: Option<Vec<String>>,
    /// Names of what `environment.systemPackages` holds.
    pub environment: Option<Vec<String>>,
    pub facts: Facts,
    pub ports: Option<Vec<String>>,
}

impl Snapshot {
    /// Reads a derivation, and its output where that is valid.
    pub fn of_derivation(nix: &Nix, derivation: &Derivation, cancel: &Cancel) -> Result<Self> {
        let graph = Graph::read(&[derivation.drv.as_str()], cancel)?;
        let texts = |names: std::collections::BTreeSet<&str>| names.into_iter().map(str::to_owned).collect();
        let mut snapshot = Self {
            built_from: Some(texts(packages::below(&graph, derivation.drv.as_str()))),
            environment: packages::environment(&graph).map(texts),
            facts: nixos::facts(&graph),
            ..Self::default()
        };
        let out = derivation.out.as_str();
        if Nix::invalid(&[out], cancel)?.is_empty() {
            let closure = Invocation::new(argv::requisites(&[out])).read(cancel)?;
            snapshot.closure = Some(names_of(&closure));
            snapshot.closure_size = nix.path_info(&[out], cancel)?.first().map(|info| info.closure_size);
        }
        Ok(snapshot)
    }

    /// Asks a running NixOS, here or by ssh, for what its store and its current system tell.
    pub fn of_running(machine: &Running, cancel: &Cancel) -> Result<Self> {
        let closure = machine.ask(&argv::requisites(&[CURRENT]), cancel)?;
        let parameters = machine.ask(&["cat".to_owned(), format!("{CURRENT}/kernel-params")], cancel)?;
        let sizes = machine.ask(&argv::closure_size(CURRENT), cancel);
        let size = sizes.ok().and_then(|text| text.split_whitespace().last()?.parse().ok());
        let facts = Facts {
            kernel_parameters: Some(parameters.split_whitespace().map(str::to_owned).collect()),
            ..Facts::default()
        };
        Ok(Self { closure: Some(names_of(&closure)), closure_size: size, facts, ..Self::default() })
    }
}

/// The profile of a NixOS that is switched to.
const CURRENT: &str = "/run/current-system";

fn names_of(paths: &str) -> Vec<String> {
    paths.lines().map(|path| name::of_path(path).to_owned()).collect()
}

/// Where a running system is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Running {
    Here,
    /// The destination, as ssh(1) takes it.
    Ssh(String),
}

impl Running {
    /// Reads `current-system` or `ssh://[user@]host`.
    pub fn parse(text: &str) -> Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "@._-:[]%".contains(c);
        match (text, text.strip_prefix("ssh://")) {
            ("current-system", _) => Ok(Self::Here),
            (_, Some(host)) if !host.is_empty() && !host.starts_with('-') && host.chars().all(plain) => {
                Ok(Self::Ssh(host.to_owned()))
            }
            _ => Err(usage(format!("--against {text}: write `current-system` or `ssh://[user@]host`"))),
        }
    }

    fn ask(&self, argv: &[String], cancel: &Cancel) -> Result<String> {
        let call = match self {
            Self::Here => Invocation::new(argv.iter().cloned()),
            Self::Ssh(host) => {
                let options = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "--", host];
                // Every word is a constant without anything that the remote shell would read.
                Invocation::new(options.iter().copied().chain([argv.join(" ").as_str()]))
            }
        };
        let call = call.timeout(std::time::Duration::from_secs(120));
        let captured = call.capture(cancel)?;
        if !captured.end.is_success() {
            bail!(
                "cannot ask {} ({}): {}\n  try: `{}`",
                match self {
                    Self::Here => "the running system",
                    Self::Ssh(host) => host,
                },
                captured.end,
                captured.stderr.trim(),
                call.display()
            );
        }
        Ok(captured.stdout)
    }
}

/// How two states of a host differ. What could not be compared is absent, and `unknown` says why.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Difference {
    /// Packages of the built systems; only what is there at run time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packages: Option<Vec<Change>>,
    /// Packages by derivations; what only builds others is among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub built_from: Option<Vec<Change>>,
    /// What `environment.systemPackages` holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<Vec<Change>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub units: Option<Delta>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<Delta>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_parameters: Option<Delta>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Delta>,
    /// Bytes of the closure before and after.
    pub closure_size: (Option<u64>, Option<u64>),
    pub unknown: Vec<String>,
}

impl Difference {
    pub fn between(old: &Snapshot, new: &Snapshot) -> Self {
        let mut unknown = Vec::new();
        let mut changes = |old: &Option<Vec<String>>, new: &Option<Vec<String>>, missing: Option<&str>| match (old, new)
        {
            (Some(old), Some(new)) => {
                Some(packages::changes(old.iter().map(String::as_str), new.iter().map(String::as_str)))
            }
            _ => {
                unknown.extend(missing.map(str::to_owned));
                None
            }
        };
        let packages = changes(&old.closure, &new.closure, None);
        let environment = changes(&old.environment, &new.environment, None);
        let built_from = match packages {
            Some(_) => None,
            None => changes(
                &old.built_from,
                &new.built_from,
                Some("packages: the new system is not built, so its closure cannot be held against a running one"),
            ),
        };
        if built_from.is_some() {
            unknown.push("which packages are only needed to build others, and sizes: one side is not built".into());
        }
        let mut named = |old: &Option<BTreeMap<String, String>>, new: &Option<BTreeMap<String, String>>, what: &str| {
            let delta = old.as_ref().zip(new.as_ref()).map(|(old, new)| Delta::of_named(old, new));
            if delta.is_none() {
                unknown.push(format!("{what}: one side does not tell"));
            }
            delta
        };
        let units = named(&old.facts.units, &new.facts.units, "units");
        let users = named(&old.facts.users, &new.facts.users, "users");
        let mut plain = |old: &Option<Vec<String>>, new: &Option<Vec<String>>, what: &str| {
            let delta = old.as_ref().zip(new.as_ref()).map(|(old, new)| Delta::of_plain(old, new));
            if delta.is_none() {
                unknown.push(format!("{what}: one side does not tell"));
            }
            delta
        };
        let kernel_parameters = plain(&old.facts.kernel_parameters, &new.facts.kernel_parameters, "kernel parameters");
        let ports = plain(&old.ports, &new.ports, "open ports");
        let closure_size = (old.closure_size, new.closure_size);
        Self { packages, built_from, environment, units, users, kernel_parameters, ports, closure_size, unknown }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(names: &[&str], size: u64) -> Snapshot {
        let names = names.iter().map(|&n| n.to_owned()).collect();
        Snapshot { closure: Some(names), closure_size: Some(size), ..Snapshot::default() }
    }

    #[test]
    fn built_systems_are_compared_by_what_is_in_them() {
        let difference = Difference::between(&built(&["a-1", "b-1"], 5), &built(&["a-2", "b-1"], 9));
        assert_eq!(difference.packages.unwrap().len(), 1);
        assert_eq!((difference.built_from, difference.closure_size), (None, (Some(5), Some(9))));
    }

    #[test]
    fn without_outputs_derivations_are_compared_and_the_rest_is_called_unknown() {
        let old = Snapshot { built_from: Some(vec!["a-1".into()]), ..built(&["a-1"], 5) };
        let new = Snapshot { built_from: Some(vec!["a-2".into()]), ..Snapshot::default() };
        let difference = Difference::between(&old, &new);
        assert_eq!((difference.packages, difference.built_from.unwrap().len()), (None, 1));
        assert!(difference.unknown.iter().any(|word| word.contains("only needed to build")));
        assert!(difference.unknown.iter().any(|word| word.starts_with("open ports")));
    }

    #[test]
    fn running_systems_are_named_safely() {
        assert_eq!(Running::parse("current-system").unwrap(), Running::Here);
        assert_eq!(Running::parse("ssh://root@web-1").unwrap(), Running::Ssh("root@web-1".into()));
        for bad in ["", "ssh://", "ssh://-oProxyCommand=x", "ssh://a b", "ssh://a;b", "http://x", "system"] {
            assert!(Running::parse(bad).is_err(), "{bad}");
        }
    }
}
