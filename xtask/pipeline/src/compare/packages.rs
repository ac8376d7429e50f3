//! Tells which packages came, went or changed their version.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::Serialize;

use super::{
    derivation::{Graph, Node},
    name,
};

/// A package whose set of versions differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub name: String,
    /// Versions that only the old state has; empty for a package that came.
    pub old: Vec<String>,
    /// Versions that only the new state has; empty for a package that went.
    pub new: Vec<String>,
    /// True if the other state has the package too, in one version or another.
    pub in_both: bool,
}

impl Change {
    pub fn kind(&self) -> &'static str {
        match (self.in_both, self.old.is_empty(), self.new.is_empty()) {
            (false, true, _) => "added",
            (false, false, _) => "removed",
            _ => "changed",
        }
    }
}

/// What differs between two lists of names with versions, such as `hello-2.12`.
pub fn changes<'a>(old: impl Iterator<Item = &'a str>, new: impl Iterator<Item = &'a str>) -> Vec<Change> {
    let (old, new) = (versions(old), versions(new));
    let names: BTreeSet<&str> = old.keys().chain(new.keys()).copied().collect();
    let none = BTreeSet::new();
    let sides = names.into_iter().map(|name| (name, old.get(name).unwrap_or(&none), new.get(name).unwrap_or(&none)));
    let changed = sides.filter(|(_, old, new)| old != new);
    let only = |a: &BTreeSet<&str>, b: &BTreeSet<&str>| a.difference(b).map(|&v| v.to_owned()).collect();
    changed
        .map(|(name, old, new)| Change {
            name: name.to_owned(),
            old: only(old, new),
            new: only(new, old),
            in_both: !old.is_empty() && !new.is_empty(),
        })
        .collect()
}

fn versions<'a>(names: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (package, version) in names.map(name::split) {
        versions.entry(package).or_default().insert(version);
    }
    versions
}

/// The derivations below `root` that look like packages: they have a version and are no download. What is
/// only needed to build others is among them; derivations alone do not tell.
pub fn below<'a>(graph: &'a Graph, root: &str) -> BTreeSet<&'a str> {
    let mut seen = HashSet::new();
    let mut open = vec![root.to_owned()];
    let mut names = BTreeSet::new();
    while let Some(drv) = open.pop() {
        let Some(node) = graph.nodes.get(&drv) else { continue };
        if !seen.insert(drv) {
            continue;
        }
        open.extend(node.inputs.iter().cloned());
        if is_package(node) {
            names.insert(node.name.as_str());
        }
    }
    names
}

fn is_package(node: &Node) -> bool {
    const ARCHIVES: [&str; 8] = [".tar.gz", ".tar.xz", ".tar.bz2", ".zip", ".patch", ".tgz", ".diff", ".lock"];
    let (_, version) = name::split(&node.name);
    !node.fixed && version.starts_with(|c: char| c.is_ascii_digit()) && !ARCHIVES.iter().any(|e| version.ends_with(e))
}

/// What NixOS puts on everyone's PATH: the packages that the derivation `system-path` collects
/// (`environment.systemPackages`). None where the fleet has no such derivation.
pub fn environment(graph: &Graph) -> Option<BTreeSet<&str>> {
    let node = graph.nodes.values().find(|node| node.name == "system-path")?;
    let collected = ["chosenOutputs", "pkgs", "paths"].iter().filter_map(|key| node.env.get(*key));
    let text: Vec<&String> = collected.collect();
    let inputs = node.inputs.iter().filter_map(|drv| graph.nodes.get(drv));
    let taken = |input: &&Node| input.outputs.values().flatten().any(|out| text.iter().any(|t| t.contains(out)));
    Some(inputs.filter(taken).map(|input| input.name.as_str()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::derivation::tests::{drv, graph};

    #[test]
    fn packages_come_go_and_change() {
        let (old, new) = (["a-1", "b-1", "c-1", "c-2", "d"], ["b-2", "c-2", "d", "e-1"]);
        let found = changes(old.into_iter(), new.into_iter());
        let found: Vec<String> = found
            .iter()
            .map(|c| format!("{} {} [{}] [{}]", c.kind(), c.name, c.old.join(","), c.new.join(",")))
            .collect();
        assert_eq!(found, ["removed a [1] []", "changed b [1] [2]", "changed c [1] []", "added e [] [1]"]);
    }

    #[test]
    fn downloads_and_plumbing_are_no_packages() {
        let graph = graph(&[
            (drv(1, "top"), &[], &[drv(2, "hello-2.12"), drv(3, "hook.sh")]),
            (drv(2, "hello-2.12"), &[], &[drv(4, "hello-2.12.tar.gz")]),
            (drv(4, "hello-2.12.tar.gz"), &[], &[]),
            (drv(3, "hook.sh"), &[], &[]),
            (drv(5, "unrelated-1"), &[], &[]),
        ]);
        assert_eq!(below(&graph, &drv(1, "top")).into_iter().collect::<Vec<_>>(), ["hello-2.12"]);
    }

    #[test]
    fn the_environment_is_what_system_path_collects() {
        let mut graph = graph(&[
            (
                drv(1, "system-path"),
                &[("chosenOutputs", "[\"/nix/store/h\"]")],
                &[drv(2, "hello-2.12"), drv(3, "perl-5")],
            ),
            (drv(2, "hello-2.12"), &[], &[]),
            (drv(3, "perl-5"), &[], &[]),
        ]);
        for (path, out) in [(drv(2, "hello-2.12"), "/nix/store/h"), (drv(3, "perl-5"), "/nix/store/p")] {
            graph.nodes.get_mut(&path).unwrap().outputs.insert("out".into(), Some(out.into()));
        }
        assert_eq!(environment(&graph).unwrap().into_iter().collect::<Vec<_>>(), ["hello-2.12"]);
        graph.nodes.clear();
        assert!(environment(&graph).is_none());
    }
}
