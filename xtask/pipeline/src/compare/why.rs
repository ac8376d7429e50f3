//! Finds the first things that make two derivations differ: what a reviewer would find by walking
//! down both graphs side by side.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::Serialize;

use super::{
    derivation::{Graph, Node},
    name,
};

/// One thing that differs, and the way to it from the top.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// Names of derivations from the top one down to the one that differs.
    pub path: Vec<String>,
    /// What differs there, in words.
    pub what: String,
}

/// The first `limit` differences, in a fixed order. A derivation that differs only because an input does is
/// passed through; each pair is looked at once, by the first way that leads to it.
pub fn causes(old: (&Graph, &str), new: (&Graph, &str), limit: usize) -> Vec<Cause> {
    let mut search = Search { old: old.0, new: new.0, seen: HashSet::new(), causes: Vec::new(), limit };
    search.visit(old.1, new.1, &mut Vec::new());
    search.causes
}

struct Search<'a> {
    old: &'a Graph,
    new: &'a Graph,
    seen: HashSet<(String, String)>,
    causes: Vec<Cause>,
    limit: usize,
}

impl Search<'_> {
    fn visit(&mut self, old: &str, new: &str, path: &mut Vec<String>) {
        if old == new || self.causes.len() >= self.limit || !self.seen.insert((old.to_owned(), new.to_owned())) {
            return;
        }
        let (Some(a), Some(b)) = (self.old.nodes.get(old), self.new.nodes.get(new)) else { return };
        path.push(b.name.clone());
        let inputs = Inputs::between(a, b);
        let room = self.limit - self.causes.len();
        let words = inputs.words().into_iter().chain(own_differences(a, b)).take(room);
        self.causes.extend(words.map(|what| Cause { path: path.clone(), what }));
        for (old, new) in &inputs.pairs {
            self.visit(old, new, path);
        }
        path.pop();
    }
}

/// How the inputs of two derivations correspond.
struct Inputs {
    /// Inputs of the same name on both sides that differ, as `.drv` paths.
    pairs: Vec<(String, String)>,
    /// Names of inputs without a counterpart.
    removed: Vec<String>,
    added: Vec<String>,
}

impl Inputs {
    fn between(a: &Node, b: &Node) -> Self {
        let only = |x: &Node, y: &Node| {
            let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for drv in x.inputs.keys().filter(|drv| !y.inputs.contains_key(*drv)) {
                names.entry(name::of_path(drv).trim_end_matches(".drv").to_owned()).or_default().push(drv.clone());
            }
            names
        };
        let (old, mut new) = (only(a, b), only(b, a));
        let mut inputs = Self { pairs: vec![], removed: vec![], added: vec![] };
        for (name, olds) in old {
            let news = new.remove(&name).unwrap_or_default();
            inputs.removed.extend(olds.iter().skip(news.len()).map(|_| name.clone()));
            inputs.added.extend(news.iter().skip(olds.len()).map(|_| name.clone()));
            inputs.pairs.extend(olds.into_iter().zip(news));
        }
        inputs.added.extend(new.into_iter().flat_map(|(name, drvs)| drvs.into_iter().map(move |_| name.clone())));
        inputs
    }

    /// What has no counterpart, in words: a package of another version is one change, not two.
    fn words(&self) -> Vec<String> {
        let mut added: BTreeSet<&str> = self.added.iter().map(String::as_str).collect();
        let mut words = Vec::new();
        for old in &self.removed {
            let (package, old_version) = name::split(old);
            let successor = added.iter().copied().find(|new| name::split(new).0 == package && !old_version.is_empty());
            match successor {
                Some(new) => {
                    added.remove(new);
                    words.push(format!("input {package} {old_version} -> {}", name::split(new).1));
                }
                None => words.push(format!("input {old} removed")),
            }
        }
        words.extend(added.into_iter().map(|new| format!("input {new} added")));
        words
    }
}

/// What differs in the derivation itself rather than in its inputs, in words.
fn own_differences(a: &Node, b: &Node) -> Vec<String> {
    let mut words = Vec::new();
    if a.system != b.system {
        words.push(format!("system {} -> {}", a.system, b.system));
    }
    let clean = name::without_hashes;
    if clean(&a.builder) != clean(&b.builder) {
        words.push(format!("builder {} -> {}", clean(&a.builder), clean(&b.builder)));
    }
    if clean(&a.args.join("\n")) != clean(&b.args.join("\n")) {
        words.push(format!("arguments: {}", first_difference(&clean(&a.args.join("\n")), &clean(&b.args.join("\n")))));
    }
    words.extend(source_differences(a, b));
    let keys: BTreeSet<&String> = a.env.keys().chain(b.env.keys()).collect();
    for key in keys.into_iter().filter(|key| !a.outputs.contains_key(*key)) {
        match (a.env.get(key).map(|v| clean(v)), b.env.get(key).map(|v| clean(v))) {
            (Some(old), Some(new)) if old != new => {
                words.push(format!("`{key}`: {}", first_difference(&old, &new)));
            }
            (Some(_), None) => words.push(format!("`{key}` removed")),
            (None, Some(_)) => words.push(format!("`{key}` added")),
            _ => {}
        }
    }
    words
}

fn source_differences(a: &Node, b: &Node) -> Vec<String> {
    let names = |x: &Node, y: &Node| -> BTreeSet<String> {
        x.sources.difference(&y.sources).map(|path| name::of_path(path).to_owned()).collect()
    };
    let (old, new) = (names(a, b), names(b, a));
    let word = |what: &'static str| move |name: &String| format!("source {name} {what}");
    let changed = old.intersection(&new).map(word("has other content"));
    changed.chain(old.difference(&new).map(word("removed"))).chain(new.difference(&old).map(word("added"))).collect()
}

/// The first line in which two texts differ, shortened.
fn first_difference(old: &str, new: &str) -> String {
    let (mut olds, mut news) = (old.lines(), new.lines());
    loop {
        match (olds.next(), news.next()) {
            (Some(a), Some(b)) if a == b => {}
            (a, b) => return format!("{} -> {}", shown(a, b), shown(b, a)),
        }
    }
}

/// A line without the part it shares with its counterpart, so that the difference is what is seen.
fn shown(line: Option<&str>, other: Option<&str>) -> String {
    const WIDTH: usize = 60;
    const CONTEXT: usize = 16;
    let Some(line) = line else { return "(nothing)".into() };
    let same = line.chars().zip(other.unwrap_or_default().chars()).take_while(|(a, b)| a == b).count();
    let skip = if line.chars().count() > WIDTH { same.saturating_sub(CONTEXT) } else { 0 };
    let cut: String = line.chars().skip(skip).take(WIDTH).collect();
    let (head, tail) = (if skip > 0 { "…" } else { "" }, if line.chars().count() > skip + WIDTH { "…" } else { "" });
    format!("`{head}{}{tail}`", cut.trim())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn drv(hash: u8, name: &str) -> String {
        format!("/nix/store/{}-{name}.drv", char::from(b'0' + hash).to_string().repeat(32))
    }

    /// A derivation's path, environment and inputs.
    pub type Row<'a> = (String, &'a [(&'a str, &'a str)], &'a [String]);

    pub fn graph(rows: &[Row<'_>]) -> Graph {
        let node = |(path, env, inputs): &Row<'_>| {
            let node = Node {
                name: name::of_path(path).trim_end_matches(".drv").to_owned(),
                env: env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
                inputs: inputs.iter().map(|input| (input.clone(), BTreeSet::from(["out".to_owned()]))).collect(),
                ..Node::default()
            };
            (path.clone(), node)
        };
        Graph { nodes: rows.iter().map(node).collect() }
    }

    fn check(old: &Graph, new: &Graph, expected: &[&str]) {
        let found = causes((old, &drv(1, "top")), (new, &drv(2, "top")), 10);
        let found: Vec<String> = found.iter().map(|c| format!("{}: {}", c.path.join(" > "), c.what)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_changed_leaf_is_found_behind_what_only_passes_it_on() {
        let env_old = format!("x={}", drv(3, "mid"));
        let env_new = format!("x={}", drv(4, "mid"));
        let old = graph(&[
            (drv(1, "top"), &[("a", &env_old)], &[drv(3, "mid")]),
            (drv(3, "mid"), &[], &[drv(5, "etc")]),
            (drv(5, "etc"), &[("text", "one\ntwo")], &[]),
        ]);
        let new = graph(&[
            (drv(2, "top"), &[("a", &env_new)], &[drv(4, "mid")]),
            (drv(4, "mid"), &[], &[drv(6, "etc")]),
            (drv(6, "etc"), &[("text", "one\n2")], &[]),
        ]);
        check(&old, &new, &["top > mid > etc: `text`: `two` -> `2`"]);
    }

    #[test]
    fn inputs_come_go_and_change_their_version() {
        let old = graph(&[(drv(1, "top"), &[], &[drv(3, "curl-8.0"), drv(4, "gone-1")])]);
        let new = graph(&[(drv(2, "top"), &[], &[drv(5, "curl-8.1"), drv(6, "hello-2.12")])]);
        check(&old, &new, &["top: input curl 8.0 -> 8.1", "top: input gone-1 removed", "top: input hello-2.12 added"]);
    }

    #[test]
    fn equal_derivations_have_no_cause() {
        let same = graph(&[(drv(1, "top"), &[], &[])]);
        assert!(causes((&same, &drv(1, "top")), (&same, &drv(1, "top")), 10).is_empty());
    }

    #[test]
    fn the_limit_holds() {
        let old = graph(&[(drv(1, "top"), &[("a", "1"), ("b", "1"), ("c", "1")], &[])]);
        let new = graph(&[(drv(2, "top"), &[("a", "2"), ("b", "2"), ("c", "2")], &[])]);
        assert_eq!(causes((&old, &drv(1, "top")), (&new, &drv(2, "top")), 2).len(), 2);
    }
}
