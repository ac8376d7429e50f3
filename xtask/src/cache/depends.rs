//! What a job may depend on in, the files it does depend on and their digest out.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use super::{
    digest::{Digest, Hasher},
    need::{Need, Needs, Origin},
    scan::scan,
    slice,
    tree::{self, Tree, put_entry},
};
use crate::job::{JobId, Target};

/// Everything a job depends on.
#[derive(Clone, Debug, Default)]
pub struct Closure {
    /// Files that are there or are missed, by path, each with the first place that leads to it.
    pub files: BTreeMap<String, Origin>,
    /// Those of them in which every path counts, used or not.
    followed: BTreeSet<String>,
    /// Those of them that are there.
    present: BTreeSet<String>,
    /// Folders whose names and kinds are read.
    pub folders: BTreeMap<String, Origin>,
    /// Parts of hosts.toml.
    pub row: bool,
    pub defaults: bool,
    pub names: bool,
    /// Why every file counts, if it does.
    pub everything: Option<(&'static str, Origin)>,
    /// Why revision and times count as well, if they do.
    pub itself: Option<(&'static str, Origin)>,
}

/// Answers for one tree, remembering what hosts have in common.
pub struct Depends<'t> {
    tree: &'t Tree,
    matrix: Option<toml::Table>,
    whole: Digest,
    needs: HashMap<Target, Arc<Shared>>,
    scanned: HashMap<String, Arc<Vec<(Need, Origin)>>>,
    /// For the test of the test: a kind of need that is dropped.
    #[cfg(test)]
    pub forget: Option<fn(&Need) -> bool>,
}

/// What all hosts have in common, and what each adds.
struct Shared {
    common: Closure,
    digest: Digest,
    own: Needs,
}

impl<'t> Depends<'t> {
    pub fn on(tree: &'t Tree) -> Self {
        let path = tree::join(&tree.flake, crate::matrix::FILE).unwrap_or_default();
        let text = tree.read(&path).and_then(|bytes| String::from_utf8(bytes).ok());
        Self {
            tree,
            matrix: text.and_then(|text| text.parse().ok()),
            whole: tree.digest(),
            needs: HashMap::new(),
            scanned: HashMap::new(),
            #[cfg(test)]
            forget: None,
        }
    }

    /// What the job's derivation is a function of, besides Nix itself.
    pub fn digest(&mut self, id: &JobId) -> Digest {
        let shared = self.shared(id.target);
        let mut own = Closure::default();
        self.close(&shared.own, id.host.as_str(), Some(&shared.common), &mut own);
        let hasher = Hasher::new("job").bytes(id.to_string().as_bytes()).bytes(shared.digest.as_bytes());
        self.digest_of(&own, id.host.as_str(), hasher)
    }

    /// All that the job depends on.
    pub fn closure(&mut self, id: &JobId) -> Closure {
        let shared = self.shared(id.target);
        let mut closure = shared.common.clone();
        self.close(&shared.own, id.host.as_str(), None, &mut closure);
        closure
    }

    fn shared(&mut self, target: Target) -> Arc<Shared> {
        if let Some(shared) = self.needs.get(&target) {
            return shared.clone();
        }
        let mut needs = slice::needs(self.tree, target);
        let lock = tree::join(&self.tree.flake, "flake.lock").unwrap_or_default();
        let need = self.tree.read(&lock).and_then(|lock| of_lock(&String::from_utf8_lossy(&lock)));
        needs.extend(need.map(|need| (need, Origin { file: lock, line: 1 })));
        #[cfg(test)]
        let needs: Needs =
            needs.into_iter().filter(|(need, _)| !self.forget.is_some_and(|forget| forget(need))).collect();
        let of_host = |need: &Need| match need {
            Need::Row => true,
            Need::Import(pattern) | Need::Below(pattern) | Need::Listing(pattern) => pattern.names_host(),
            _ => false,
        };
        let (own, common): (Needs, Needs) = needs.into_iter().partition(|(need, _)| of_host(need));
        let mut closure = Closure::default();
        self.close(&common, "", None, &mut closure);
        let digest = self.digest_of(&closure, "", Hasher::new("common"));
        let shared = Arc::new(Shared { common: closure, digest, own });
        self.needs.insert(target, shared.clone());
        shared
    }

    /// Follows needs from file to file until nothing is new; what `known` has is not followed again.
    fn close(&mut self, needs: &Needs, host: &str, known: Option<&Closure>, closure: &mut Closure) {
        let mut open: VecDeque<(Need, Origin)> = needs.iter().map(|(n, o)| (n.clone(), o.clone())).collect();
        let mut seen = BTreeSet::new();
        while let Some((need, origin)) = open.pop_front() {
            if closure.everything.is_some() {
                // Nothing can be added but the flake's identity.
                if !matches!(need, Need::Itself(_)) {
                    continue;
                }
            }
            if !seen.insert(need.clone()) {
                continue;
            }
            match need {
                Need::File(path) => self.file(path, &origin, closure),
                Need::Import(pattern) => {
                    let path = pattern.for_host(host);
                    let inner = tree::join(&path, "default.nix").unwrap_or_default();
                    for path in [path, inner] {
                        self.follow(path, &origin, known, closure, &mut open);
                    }
                }
                Need::Below(pattern) => {
                    let path = pattern.for_host(host);
                    if path.is_empty() {
                        closure.everything = Some(("the whole folder is read", origin));
                        continue;
                    }
                    let below: Vec<String> = self.tree.below(&path).map(|(name, _)| name.to_owned()).collect();
                    // The path itself, so that a file where there was none is noticed.
                    for path in below.into_iter().chain([path]) {
                        self.follow(path, &origin, known, closure, &mut open);
                    }
                }
                Need::Listing(pattern) => {
                    let path = pattern.for_host(host);
                    self.detour(&path, &origin, closure);
                    closure.folders.entry(path).or_insert(origin);
                }
                Need::Row => closure.row = true,
                Need::Defaults => closure.defaults = true,
                Need::Names => closure.names = true,
                Need::Everything(why) => closure.everything = closure.everything.take().or(Some((why, origin))),
                Need::Itself(why) => closure.itself = closure.itself.take().or(Some((why, origin))),
            }
        }
    }

    fn file(&self, path: String, origin: &Origin, closure: &mut Closure) {
        self.detour(&path, origin, closure);
        if self.tree.entries.contains_key(&path) {
            closure.present.insert(path.clone());
        }
        closure.files.entry(path).or_insert_with(|| origin.clone());
    }

    fn detour(&self, path: &str, origin: &Origin, closure: &mut Closure) {
        if self.tree.detour(path).is_some() && closure.everything.is_none() {
            closure.everything = Some(("a symbolic link or a submodule is on the way", origin.clone()));
        }
    }

    fn follow(
        &mut self,
        path: String,
        origin: &Origin,
        known: Option<&Closure>,
        closure: &mut Closure,
        open: &mut VecDeque<(Need, Origin)>,
    ) {
        if known.is_some_and(|known| known.followed.contains(&path)) || !closure.followed.insert(path.clone()) {
            return;
        }
        let scanned = self.scan(&path);
        open.extend(scanned.iter().cloned());
        self.file(path, origin, closure);
    }

    fn scan(&mut self, path: &str) -> Arc<Vec<(Need, Origin)>> {
        if let Some(scanned) = self.scanned.get(path) {
            return scanned.clone();
        }
        let is_file = self.tree.entries.contains_key(path) && self.tree.detour(path).is_none();
        let content = is_file.then(|| self.tree.read(path)).flatten();
        let found = content.map_or_else(Vec::new, |content| scan(path, &content));
        #[cfg(test)]
        let found: Vec<_> =
            found.into_iter().filter(|(need, _)| !self.forget.is_some_and(|forget| forget(need))).collect();
        let found = Arc::new(found);
        self.scanned.insert(path.to_owned(), found.clone());
        found
    }

    fn digest_of(&self, closure: &Closure, host: &str, mut hasher: Hasher) -> Digest {
        for path in closure.files.keys() {
            put_entry(&mut hasher, path, self.tree.entries.get(path));
            hasher.put(if self.tree.is_folder(path) { b"folder" } else { b"" });
        }
        for path in closure.folders.keys() {
            hasher.put(path.as_bytes());
            for (name, kind) in self.tree.listing(path) {
                hasher.put(name.as_bytes());
                hasher.put(kind.as_bytes());
            }
        }
        let in_matrix = |keys: &[&str]| {
            let mut value = None;
            for key in keys {
                let table = value.map_or(self.matrix.as_ref(), toml::Value::as_table);
                value = table.and_then(|table| table.get(*key));
                value?;
            }
            value.map(|value| format!("{value:?}"))
        };
        let part = |hasher: &mut Hasher, name: &str, value: Option<String>| {
            hasher.put(name.as_bytes());
            hasher.put(value.as_deref().map_or(b"-", str::as_bytes));
        };
        if closure.row {
            part(&mut hasher, "row", in_matrix(&["host", host]));
        }
        if closure.defaults {
            part(&mut hasher, "defaults", in_matrix(&["defaults"]));
        }
        if closure.names {
            let hosts = self.matrix.as_ref().and_then(|m| m.get("host")).and_then(toml::Value::as_table);
            let names = hosts.map(|hosts| hosts.keys().cloned().collect::<BTreeSet<_>>());
            part(&mut hasher, "names", names.map(|names| format!("{names:?}")));
        }
        let unread = self.matrix.is_none() && (closure.row || closure.defaults || closure.names);
        if closure.everything.is_some() || closure.itself.is_some() || unread {
            hasher.put(self.whole.as_bytes());
        }
        if closure.itself.is_some() {
            hasher.put(self.tree.identity.as_bytes());
        }
        hasher.finish()
    }
}

impl Closure {
    /// True if the file is one that the tree has; others count by being missed.
    pub fn exists(&self, path: &str) -> bool {
        self.present.contains(path)
    }

    /// True if the file's name shows in a folder that is listed.
    pub fn is_listed(&self, path: &str) -> bool {
        self.folders.contains_key(tree::parent(path))
    }

    /// True if the file at `path` is among what the job depends on, apart from rows of hosts.toml.
    pub fn has(&self, path: &str) -> bool {
        self.everything.is_some() || self.itself.is_some() || self.files.contains_key(path)
    }
}

/// A need that every flake has: its lock may make an input out of the flake's own files.
pub fn of_lock(lock: &str) -> Option<Need> {
    #[derive(serde::Deserialize)]
    struct Lock {
        nodes: BTreeMap<String, Node>,
    }
    #[derive(serde::Deserialize)]
    struct Node {
        #[serde(default)]
        inputs: BTreeMap<String, serde_json::Value>,
        locked: Option<BTreeMap<String, serde_json::Value>>,
    }
    let Ok(lock) = serde_json::from_str::<Lock>(lock) else {
        return Some(Need::Itself("flake.lock cannot be read"));
    };
    let root = serde_json::Value::Array(Vec::new());
    if lock.nodes.values().any(|node| node.inputs.values().any(|input| *input == root)) {
        return Some(Need::Itself("an input follows the flake itself"));
    }
    let local = |node: &Node| {
        let locked = node.locked.as_ref()?;
        let text = |name: &str| locked.get(name).and_then(serde_json::Value::as_str);
        (text("type") == Some("path") && !text("path").is_some_and(|path| path.starts_with('/'))).then_some(())
    };
    lock.nodes
        .values()
        .any(|node| local(node).is_some())
        .then_some(Need::Itself("an input lies in the flake's own folder"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_that_lead_back() {
        let rows = [
            (r#"{"nodes":{"root":{"inputs":{"a":"a"}},"a":{"locked":{"type":"github"}}}}"#, false),
            (r#"{"nodes":{"root":{"inputs":{"a":"a"}},"a":{"inputs":{"b":[]}}}}"#, true),
            (r#"{"nodes":{"root":{"inputs":{"a":"a"}},"a":{"inputs":{"b":["a"]}}}}"#, false),
            (r#"{"nodes":{"root":{},"a":{"locked":{"type":"path","path":"./sub"}}}}"#, true),
            (r#"{"nodes":{"root":{},"a":{"locked":{"type":"path","path":"/nix/store/x"}}}}"#, false),
            ("{", true),
        ];
        for (lock, leads_back) in rows {
            assert_eq!(of_lock(lock).is_some(), leads_back, "{lock}");
        }
    }
}
