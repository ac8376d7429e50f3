//! `cargo xtask diff`: hosts and an earlier or a running state in, what differs in them out.
#![expect(clippy::print_stdout, reason = "a verb prints its report")]

use std::fmt::Write as _;

use anyhow::Result;
use serde::Serialize;

use super::{DONE, FAILED, INTERRUPTED};
use crate::{
    compare::{
        base,
        nixos::{Delta, Firewall, firewall_function},
        packages::Change,
        snapshot::{Difference, Running, Snapshot},
    },
    diagnostic::usage,
    flags::Diff,
    fleet::Fleet,
    job::{Artifact, Derivation, Failure, HostName, Job, JobId, Target},
    matrix::Host,
    nix::{Nix, argv},
    process::{Cancel, Invocation},
    progress::Progress,
    report::markdown,
};
use crate::{
    produce::{self, Options},
    reuse::{self, Derived, Remembered},
};

pub fn run(flags: &Diff, cancel: &Cancel) -> Result<u8> {
    let fleet = Fleet::open(&flags.fleet.fleet, &flags.fleet.override_input)?;
    let options = flags.stages.options();
    let selection = crate::flags::SelectionFlags { hosts: flags.hosts.clone(), ..Default::default() };
    let hosts: Vec<Host> = selection.artifacts()?.hosts(&fleet.matrix)?.into_iter().cloned().collect();
    let compared = match &flags.against {
        Some(text) => against_running(&fleet, &hosts, &Running::parse(text)?, &options, cancel)?,
        None => against_base(&fleet, &hosts, flags.base.as_deref(), &options, cancel)?,
    };
    if cancel.is_set() {
        return Ok(INTERRUPTED);
    }
    if flags.json {
        println!("{}", serde_json::to_string_pretty(&Document { version: 1, hosts: &compared })?);
    } else if flags.markdown {
        compared.iter().for_each(|host| print!("{}", host_as_markdown(host)));
    } else {
        compared.iter().for_each(|host| print!("{}", text(host)));
    }
    let failed = compared.iter().any(|host| host.failure.is_some());
    Ok(if failed { FAILED } else { DONE })
}

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    hosts: &'a [HostDifference],
}

/// What is known of one host.
#[derive(Debug, Serialize)]
pub struct HostDifference {
    pub host: HostName,
    /// What it is held against: a commit or a running system.
    pub against: String,
    /// False if both sides are the same derivation.
    pub differs: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// Holds hosts against the merge base with a revision, by derivation.
pub fn against_base(
    fleet: &Fleet,
    hosts: &[Host],
    revision: Option<&str>,
    options: &Options,
    cancel: &Cancel,
) -> Result<Vec<HostDifference>> {
    let nix = Nix::find(cancel)?;
    let base = base::find(fleet, revision, cancel)?;
    let old = base.fleet.as_ref().map(|fleet| (fleet, evaluate(&nix, fleet, hosts, options, cancel)));
    let new = evaluate(&nix, fleet, hosts, options, cancel)?;
    let old = old.map(|(fleet, derivations)| derivations.map(|d| (fleet, d))).transpose()?;
    let mut compared = Vec::new();
    for (host, now) in hosts.iter().zip(new) {
        let then = old.as_ref().and_then(|(fleet, all)| {
            let found = all.iter().find(|(id, _)| id.host == host.name)?.1.as_ref();
            found.map(|result| (*fleet, result))
        });
        let mut row = HostDifference {
            host: host.name.clone(),
            against: base.commit.clone(),
            differs: true,
            difference: None,
            failure: None,
        };
        match (then, now.1) {
            _ if cancel.is_set() => break,
            (_, Some(Err(failure))) => row.failure = Some(failure),
            (Some((_, Ok(old))), Some(Ok(new))) if old.drv == new.drv => row.differs = false,
            (Some((before, Ok(old))), Some(Ok(new))) => {
                let mut a = Snapshot::of_derivation(&nix, old, cancel)?;
                let mut b = Snapshot::of_derivation(&nix, &new, cancel)?;
                (a.ports, b.ports) =
                    (ports(before, options, &host.name, cancel), ports(fleet, options, &host.name, cancel));
                row.difference = Some(Difference::between(&a, &b));
            }
            // New at this commit, or broken at the base: there is nothing to hold it against.
            _ => {}
        }
        compared.push(row);
    }
    Ok(compared)
}

fn against_running(
    fleet: &Fleet,
    hosts: &[Host],
    machine: &Running,
    options: &Options,
    cancel: &Cancel,
) -> Result<Vec<HostDifference>> {
    let [host] = hosts else {
        return Err(usage(format!("--against compares one host with one machine; {} hosts are selected", hosts.len())));
    };
    let nix = Nix::find(cancel)?;
    let against = match machine {
        Running::Here => "the running system".to_owned(),
        Running::Ssh(host) => format!("ssh://{host}"),
    };
    let mut row = HostDifference { host: host.name.clone(), against, differs: true, difference: None, failure: None };
    match evaluate(&nix, fleet, hosts, options, cancel)?.pop().and_then(|(_, result)| result) {
        Some(Ok(new)) => {
            let old = Snapshot::of_running(machine, cancel)?;
            row.difference = Some(Difference::between(&old, &Snapshot::of_derivation(&nix, &new, cancel)?));
        }
        Some(Err(failure)) => row.failure = Some(failure),
        None => {}
    }
    Ok(vec![row])
}

type Evaluated = Vec<(JobId, Option<Result<Derivation, Failure>>)>;

/// The installed system of every host, or its live medium where it has no other artifact, in the hosts' order.
fn evaluate(nix: &Nix, fleet: &Fleet, hosts: &[Host], options: &Options, cancel: &Cancel) -> Result<Evaluated> {
    let target = |host: &Host| match host.artifacts.contains(&Artifact::System) {
        true => Artifact::System,
        false => Artifact::Iso,
    };
    let there = |host: &&Host| fleet.matrix.hosts.iter().any(|other| other.name == host.name);
    let id = |host: &Host| JobId { host: host.name.clone(), target: Target::Artifact(target(host)) };
    let jobs: Vec<Job> =
        hosts.iter().filter(there).map(|host| Job { id: id(host), system: host.system.clone() }).collect();
    let progress = Progress::new(jobs.len());
    let cache = Remembered::default();
    let Derived { mut derivations, mut failures, .. } =
        reuse::derive(cache, nix, fleet, &jobs, options, &progress, cancel)?;
    let mut result = |id: &JobId| derivations.remove(id).map(Ok).or_else(|| failures.remove(id).map(Err));
    Ok(hosts.iter().map(id).map(|id| (id.clone(), result(&id))).collect())
}

/// The open ports by the configuration; none where the fleet's hosts have no `networking.firewall`.
fn ports(fleet: &Fleet, options: &Options, host: &HostName, cancel: &Cancel) -> Option<Vec<String>> {
    let argv = argv::eval_apply(produce::source(fleet, options), "nixosConfigurations", &firewall_function(host));
    let answer = Invocation::new(argv).timeout(options.eval_timeout).capture(cancel).ok()?;
    let firewall: Option<Firewall> = serde_json::from_str(&answer.stdout).ok()?;
    firewall.map(|firewall| firewall.ports())
}

/// The difference as lines for a terminal.
fn text(row: &HostDifference) -> String {
    let mut out = format!("{} against {}:\n", row.host, row.against);
    for (title, lines) in sections(row) {
        let _ = writeln!(out, "  {title}");
        for line in lines {
            let _ = writeln!(out, "    {line}");
        }
    }
    out
}

/// The difference as a section of Markdown.
pub fn host_as_markdown(row: &HostDifference) -> String {
    let mut out = format!("### `{}`\n\n", row.host);
    for (title, lines) in sections(row) {
        let _ = writeln!(out, "- {}", markdown::cell(&title));
        for line in lines {
            let _ = writeln!(out, "  - {}", markdown::cell(&line));
        }
    }
    out + "\n"
}

/// Titles with what stands below them, in the order in which a reviewer wants to know.
fn sections(row: &HostDifference) -> Vec<(String, Vec<String>)> {
    if let Some(failure) = &row.failure {
        let place = failure.position.as_ref().map(|p| format!("{p}: ")).unwrap_or_default();
        return vec![(format!("does not evaluate: {place}{}", failure.message), vec![])];
    }
    let Some(difference) = &row.difference else {
        let words = if row.differs { "new: there is nothing to compare with" } else { "unchanged" };
        return vec![(words.into(), vec![])];
    };
    let mut sections = Vec::new();
    let mut packages = |title: &str, changes: &Option<Vec<Change>>| {
        let lines: Vec<String> = changes.iter().flatten().map(change).collect();
        if !lines.is_empty() {
            sections.push((format!("{title}:"), lines));
        }
    };
    packages("environment.systemPackages", &difference.environment);
    packages("packages", &difference.packages);
    packages("packages that it is built from, build tools included", &difference.built_from);
    for (title, delta) in [
        ("units", &difference.units),
        ("users", &difference.users),
        ("kernel parameters", &difference.kernel_parameters),
        ("open ports", &difference.ports),
    ] {
        if let Some(delta) = delta.as_ref().filter(|delta| !delta.is_empty()) {
            sections.push((format!("{title}:"), words(delta)));
        }
    }
    if let (old, Some(new)) = difference.closure_size {
        sections.push((format!("closure: {}", markdown::grown(new, old)), vec![]));
    }
    if !difference.unknown.is_empty() {
        sections.push(("not known:".into(), difference.unknown.clone()));
    }
    sections
}

fn change(change: &Change) -> String {
    let list = |versions: &[String]| match versions.join(", ") {
        text if text.is_empty() => "-".to_owned(),
        text => text,
    };
    match change.kind() {
        "added" => format!("+ {} {}", change.name, change.new.join(", ")),
        "removed" => format!("- {} {}", change.name, change.old.join(", ")),
        _ => format!("~ {} {} -> {}", change.name, list(&change.old), list(&change.new)),
    }
    .trim_end()
    .to_owned()
}

fn words(delta: &Delta) -> Vec<String> {
    let signed = |sign: &'static str, names: &[String]| {
        names.iter().map(move |name| format!("{sign} {name}")).collect::<Vec<_>>()
    };
    [signed("+", &delta.added), signed("-", &delta.removed), signed("~", &delta.changed)].concat()
}
