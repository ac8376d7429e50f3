//! Makes hosts of TOML tables: which tables and rows there are, and how defaults reach a row.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::{
    Host,
    keys::{Keys, type_of},
    toml10,
};
use crate::{
    diagnostic::{Problem, nearest},
    job::{Artifact, HostName},
};

const DEFAULT_KEYS: [&str; 6] = ["system", "artifacts", "live", "tests", "tags", "checks"];
const HOST_KEYS: [&str; 8] = ["description", "system", "artifacts", "live", "tests", "tags", "target", "checks"];

const EXAMPLE: &str = "a row looks like this:\n[host.web]\ndescription = \"what it is for\"\n\
                       system = \"x86_64-linux\"\nartifacts = [\"iso\", \"system\"]\nlive = \"minimal\"";

/// What the tables hold, with everything that is wrong with them.
pub struct Rows {
    /// The hosts that are right, sorted by name.
    pub hosts: Vec<Host>,
    /// Every row, right or not, with the place of its name.
    pub names: Vec<(String, Range<usize>)>,
    pub problems: Vec<Problem>,
}

/// Reads the tables of a file. Where the file is not `complete` because a syntax error hides part of it,
/// nothing is called missing.
pub fn read(text: &str, file: &DeTable, complete: bool) -> Rows {
    let mut rows = Rows { hosts: Vec::new(), names: Vec::new(), problems: Vec::new() };
    for (name, value) in file {
        if !matches!(name.get_ref().as_ref(), "defaults" | "host") {
            rows.problems.push(unknown_table(name.get_ref(), name.span()));
        } else if !value.get_ref().is_table() {
            let message = format!("`{}` is a table, this is {}", name.get_ref(), type_of(value.get_ref()));
            rows.problems.push(Problem::new(value.span(), message).help(EXAMPLE));
        }
    }
    let table = |name: &str| file.get(name).and_then(|value| value.get_ref().as_table());
    let defaults = table("defaults").map(|t| Keys::read(t, "[defaults]", &DEFAULT_KEYS, &mut rows.problems));
    let defaults = defaults.unwrap_or_default();
    let hosts = table("host");
    if complete && !file.contains_key("host") || hosts.is_some_and(DeTable::is_empty) {
        let end = text.trim_end().len();
        rows.problems.push(Problem::new(end..end, "there is no host in this file").help(EXAMPLE));
    }
    for (name, value) in hosts.into_iter().flatten() {
        rows.names.push((name.get_ref().to_string(), name.span()));
        let host = row(name.get_ref(), &name.span(), value.get_ref(), &defaults, complete, &mut rows.problems);
        rows.hosts.extend(host);
    }
    rows.hosts.sort_by(|a, b| a.name.cmp(&b.name));
    rows
}

/// What `[defaults]` sets, as far as it is right.
pub fn defaults(text: &str) -> Keys {
    let parsed = toml10::parse(text);
    let table = parsed.table.get("defaults").and_then(|value| value.get_ref().as_table());
    table.map(|table| Keys::read(table, "[defaults]", &DEFAULT_KEYS, &mut Vec::new())).unwrap_or_default()
}

fn unknown_table(name: &str, span: Range<usize>) -> Problem {
    let problem = Problem::new(span, format!("unknown table or key `{name}`"));
    if let Some(near) = nearest(name, ["defaults", "host"]) {
        return problem.help(format!("did you mean `{near}`?"));
    }
    match name.parse::<HostName>() {
        Ok(_) => problem.help(format!("a host's table is called `[host.{name}]`")),
        Err(_) => problem.help("a file holds `[defaults]` and one `[host.NAME]` for each host"),
    }
}

/// One host, or nothing if its row is wrong; every reason goes to `problems`.
fn row(
    name: &str,
    place: &Range<usize>,
    value: &DeValue,
    defaults: &Keys,
    complete: bool,
    problems: &mut Vec<Problem>,
) -> Option<Host> {
    let valid = name.parse::<HostName>();
    if let Err(rule) = &valid {
        let problem = Problem::new(place.clone(), format!("`{}` cannot be a host name", name.escape_default()));
        problems.push(problem.help(format!("{rule}; it becomes a DNS label, a file name and a Nix attribute")));
    }
    let Some(table) = value.as_table() else {
        let message = format!("`host.{name}` is a table, this is {}", type_of(value));
        problems.push(Problem::new(place.clone(), message).help(EXAMPLE));
        return None;
    };
    let keys = Keys::read(table, &format!("[host.{name}]"), &HOST_KEYS, problems);
    let artifacts = keys.artifacts.as_ref().or(defaults.artifacts.as_ref());
    let has = |artifact: Artifact| artifacts.is_some_and(|list| list.iter().any(|(a, _)| *a == artifact));
    let mut missing = |key: &str, help: &str| {
        if complete && !keys.sets(key) && !defaults.sets(key) {
            let message = format!("host `{name}` has no `{key}`");
            problems.push(Problem::new(place.clone(), message).help(help));
        }
    };
    missing("description", "say in one line what the machine is for: description = \"…\"");
    missing("system", "add a line such as system = \"x86_64-linux\", here or in [defaults]");
    missing("artifacts", "add artifacts = [\"iso\", \"system\"] or one of the two, here or in [defaults]");
    if has(Artifact::Iso) {
        missing("live", "name the base profile of its ISO, such as live = \"minimal\", here or in [defaults]");
    }
    for (test, span) in keys.tests.iter().flatten() {
        for artifact in test.needs().iter().filter(|a| artifacts.is_some() && !has(**a)) {
            let (test, artifact) = (test.as_str(), artifact.as_str());
            let message = format!("test `{test}` needs the artifact `{artifact}`, which `{name}` does not have");
            problems.push(
                Problem::new(span.clone(), message)
                    .help(format!("add \"{artifact}\" to its artifacts or remove the test")),
            );
        }
    }
    let artifacts = sorted(artifacts?.iter().map(|(a, _)| *a));
    // A default reaches only those hosts that it fits; what a row says itself must fit, which is seen to above.
    let fits = |test: &crate::job::Test| test.needs().iter().all(|needed| artifacts.contains(needed));
    let tests = keys.tests.as_ref().or(defaults.tests.as_ref());
    let tests = sorted(tests.into_iter().flatten().map(|(t, _)| *t).filter(fits));
    let live = keys.live.or_else(|| defaults.live.clone()).filter(|_| artifacts.contains(&Artifact::Iso));
    Some(Host {
        name: valid.ok()?,
        description: keys.description?,
        system: keys.system.or_else(|| defaults.system.clone())?,
        live,
        tests,
        tags: sorted(keys.tags.as_ref().or(defaults.tags.as_ref()).into_iter().flatten().cloned()),
        target: keys.target,
        // In the order in which they are run.
        checks: keys.checks.or_else(|| defaults.checks.clone()).unwrap_or_default(),
        artifacts,
    })
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    items.sort();
    items.dedup();
    items
}
