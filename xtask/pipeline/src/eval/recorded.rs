//! Evaluates a host on a copy of the fleet's source that is its own, and tells what was read of it.
//!
//! An evaluator reads a file once and keeps what it holds, under the file's path. So each host has a path of its own,
//! and every file that it reads is opened for it (docs/caching.md).

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Write as _,
    fs,
    time::{Duration, Instant},
};

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use super::{
    Reply,
    evaluator::{Answer, Evaluator, SelfSeen},
    path_text::{PathSearch, Suspicion, Words},
    watch::Watch,
};
use crate::{
    job::{Derivation, HostName, JobId, Reads},
    nix::{Pinned, argv::percent_encoded},
};

/// Sources of more files are not copied for every host: that would take a second and more.
const MOST_FILES: usize = 20_000;
const MOST_BYTES: u64 = 256 << 20;

/// Up to so many files a copy costs milliseconds, and every host gets its own. Of a larger source a copy is shared by
/// hosts until evaluating them has taken four times as long as copying.
const FEW_FILES: usize = 1_000;
const SHARING: u32 = 4;

/// The source that an evaluator knows, and how.
pub struct Recorder {
    source: Utf8PathBuf,
    files: usize,
    /// What the flake that the inputs come from was opened for; none if nothing is recorded.
    root: Option<Copied>,
    tree: Option<Tree>,
    /// In the store, for the caller to delete when nobody reads them any more.
    pub copies: Vec<String>,
    search: PathSearch,
    search_of_source: PathSearch,
    words: HashMap<String, Words>,
}

struct Copied {
    path: Utf8PathBuf,
    watch: Watch,
}

/// The copy that hosts are evaluated on now.
struct Tree {
    copied: Copied,
    /// Its name in the evaluator.
    name: String,
    host: HostName,
    seen: SelfSeen,
    cost: Duration,
    spent: Duration,
}

/// What a question came to.
pub struct Recorded {
    pub answer: Answer,
    pub reads: Reads,
}

impl Recorder {
    /// Acquaints an evaluator with a source. None if it cannot be evaluated from the store, in which case it is read as
    /// plain Nix reads it, and nothing is known of what. `first` is the host that it will be asked for first.
    pub fn begin(
        evaluator: &mut Evaluator,
        pinned: &Pinned,
        first: &HostName,
        record: bool,
        on_reply: &mut dyn FnMut(Reply),
    ) -> Option<Self> {
        let (files, bytes) = size(&pinned.path).ok()?;
        evaluator.define(&definitions(pinned));
        let mut recorder = Self {
            source: pinned.path.clone(),
            files,
            root: None,
            tree: None,
            copies: Vec::new(),
            search: PathSearch::default(),
            search_of_source: PathSearch::default(),
            words: HashMap::new(),
        };
        recorder.search_of_source.look_for([pinned.path.as_path()]);
        let record = record && files <= MOST_FILES && bytes <= MOST_BYTES;
        // No host has a dot in its name, so that this is no copy of a host's own.
        let name = format!("drydock-{first}.inputs");
        let root = if record { recorder.copy(evaluator, "__root", &name, on_reply) } else { None };
        evaluator.define(&flake(pinned, root.as_ref().unwrap_or(&pinned.path)));
        let Answer::Made(_) = evaluator.say("__seq __flake.inputs (__made \"\")", on_reply) else { return None };
        // Nix has hashed all of it by now. What it read to find the inputs every host reads again in its own copy; what
        // an input that follows the flake itself reads of it is seen from now on.
        recorder.root = root.and_then(Copied::watched).take_if(|root| root.is_told_of(pinned));
        Some(recorder)
    }

    /// Evaluates a job.
    pub fn ask(&mut self, evaluator: &mut Evaluator, id: &JobId, on_reply: &mut dyn FnMut(Reply)) -> Recorded {
        if self.root.is_none() || !self.prepare(evaluator, id, on_reply) {
            return whole(evaluator.ask("__plain.hydraJobs", id, on_reply));
        }
        let Some(tree) = &mut self.tree else { return whole(evaluator.ask("__plain.hydraJobs", id, on_reply)) };
        let began = Instant::now();
        let at = format!("{}.hydraJobs", tree.name);
        let answer = evaluator.ask(&at, id, on_reply);
        tree.spent += began.elapsed();
        // What one host has asked `self` is not asked again by the next that shares the copy.
        tree.seen.path |= evaluator.seen.path;
        tree.seen.identity |= evaluator.seen.identity;
        let seen = tree.seen;
        match answer {
            Answer::Done(derivation) => self.judge(derivation, seen, evaluator, id, on_reply),
            other => Recorded { answer: other, reads: Reads::Unknown },
        }
    }

    /// Evaluates a job of which the source's path is a part, unless that has changed.
    pub fn ask_at_true_path(
        &mut self,
        evaluator: &mut Evaluator,
        id: &JobId,
        on_reply: &mut dyn FnMut(Reply),
    ) -> Recorded {
        let answer = evaluator.ask("__plain.hydraJobs", id, on_reply);
        let holds_path = matches!(&answer, Answer::Done(plain) if self.search_of_source.finds(&plain.drv));
        Recorded { answer, reads: if holds_path { Reads::Path } else { Reads::Whole } }
    }

    /// Sees to it that the host is evaluated on a copy that it may be evaluated on. False if there is none.
    fn prepare(&mut self, evaluator: &mut Evaluator, id: &JobId, on_reply: &mut dyn FnMut(Reply)) -> bool {
        let share = |tree: &Tree| self.files > FEW_FILES && tree.spent < tree.cost * SHARING;
        if self.tree.as_ref().is_some_and(|tree| tree.host == id.host || share(tree)) {
            return true;
        }
        // The watch of the last copy ends here: nobody will read that one again.
        self.tree = None;
        let began = Instant::now();
        let number = self.copies.len();
        let copy = format!("__copy{number}");
        let path = self.copy(evaluator, &copy, &format!("drydock-{}", id.host), on_reply);
        let Some(copied) = path.and_then(Copied::watched) else { return false };
        let name = format!("__tree{number}");
        evaluator.define(&format!("{name} = __call {copy} (__marked {copy})\n"));
        evaluator.seen = SelfSeen::default();
        let root = self.root.iter().map(|root| root.path.as_path());
        self.search.look_for(root.chain([copied.path.as_path()]));
        let (host, cost) = (id.host.clone(), began.elapsed());
        self.tree = Some(Tree { copied, name, host, seen: SelfSeen::default(), cost, spent: Duration::ZERO });
        true
    }

    /// Copies the source. The name in the store is the host's, so that no two evaluators of a run share a copy.
    fn copy(
        &mut self,
        evaluator: &mut Evaluator,
        name: &str,
        in_store: &str,
        on_reply: &mut dyn FnMut(Reply),
    ) -> Option<Utf8PathBuf> {
        evaluator.define(&format!("{name} = __path {{ name = \"{in_store}-source\"; path = __source.outPath; }}\n"));
        let Answer::Made(path) = evaluator.say(&format!("__made {name}"), on_reply) else { return None };
        self.copies.push(path.clone());
        let path = Utf8PathBuf::from(path);
        evaluator.renamed.truncate(1);
        evaluator.renamed.push((path.to_string(), self.source.to_string()));
        Some(path)
    }

    /// Says what a derivation covers. Where the path of the source may have to do with it, the source itself is
    /// evaluated as well, and that is the answer.
    fn judge(
        &mut self,
        derivation: Derivation,
        seen: SelfSeen,
        evaluator: &mut Evaluator,
        id: &JobId,
        on_reply: &mut dyn FnMut(Reply),
    ) -> Recorded {
        let Some(opened) = self.opened() else {
            return whole(evaluator.ask("__plain.hydraJobs", id, on_reply));
        };
        let words = opened.iter().fold(Words::default(), |words, file| words.and(self.words_of(file)));
        // What copies the whole source names the copy after the source's path.
        let everything = opened.len() == self.files;
        let suspicion = words.suspicion(seen.path);
        let covered = Reads::Files { files: opened, names_of_self: words.names_self || seen.path };
        let reads = if seen.identity || suspicion == Suspicion::Strong { Reads::Whole } else { covered };
        let holds_path = self.search.finds(&derivation.drv);
        if !everything && suspicion == Suspicion::None && !holds_path {
            return Recorded { answer: Answer::Done(derivation), reads };
        }
        match evaluator.ask("__plain.hydraJobs", id, on_reply) {
            Answer::Done(plain) if plain == derivation => Recorded { answer: Answer::Done(plain), reads },
            answer if holds_path => Recorded { answer, reads: Reads::Path },
            answer => whole(answer),
        }
    }

    fn opened(&mut self) -> Option<BTreeSet<String>> {
        let root = self.root.as_mut()?.watch.opened()?;
        let tree = self.tree.as_mut()?.copied.watch.opened()?;
        Some(root.union(tree).cloned().collect())
    }

    fn words_of(&mut self, file: &str) -> Words {
        let path = self.source.join(file);
        *self.words.entry(file.to_owned()).or_insert_with(|| Words::of(&path))
    }
}

fn whole(answer: Answer) -> Recorded {
    Recorded { answer, reads: Reads::Whole }
}

impl Copied {
    fn watched(path: Utf8PathBuf) -> Option<Self> {
        let watch = Watch::begin(&path).ok()?;
        Some(Self { path, watch })
    }

    /// Whether this kernel tells of files that are opened here: not every file system and sandbox does.
    fn is_told_of(&mut self, pinned: &Pinned) -> bool {
        let file = Utf8Path::new(&pinned.dir).join("flake.nix");
        fs::File::open(self.path.join(&file)).is_ok()
            && self.watch.opened().is_some_and(|opened| opened.contains(file.as_str()))
    }
}

/// The number of files below a folder and their sizes in all.
fn size(folder: &Utf8Path) -> std::io::Result<(usize, u64)> {
    let (mut files, mut bytes) = (0, 0);
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in folder.read_dir_utf8()? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                open.push(entry.into_path());
            } else if kind.is_file() {
                files += 1;
                bytes += entry.metadata()?.len();
            }
        }
    }
    Ok((files, bytes))
}

/// The source with what `self` tells of it, for [`flake`] and for copies. `fetchTree` gives the same attributes for a
/// store path as for a repository, besides those that only the latter has.
fn definitions(pinned: &Pinned) -> String {
    let attributes = |names: &[&str]| {
        let known = names.iter().filter_map(|name| Some((*name, pinned.identity.get(*name)?)));
        known.fold(String::new(), |mut text, (name, value)| {
            let _ = write!(text, " {name} = {};", literal(value));
            text
        })
    };
    let fetched = attributes(&["rev", "revCount", "lastModified"]);
    let mut besides = attributes(&["dirtyRev", "dirtyShortRev", "submodules"]);
    if pinned.identity.get("type").is_some_and(|kind| kind == "git") && !pinned.identity.contains_key("submodules") {
        besides.push_str(" submodules = false;");
    }
    let (path, hash) = (literal(&pinned.path.as_str().into()), literal(&pinned.nar_hash.as_str().into()));
    format!(
        "__source = builtins.fetchTree {{ type = \"path\"; path = {path}; narHash = {hash};{fetched} }}\n\
         __info = __source // {{{besides} }}\n\
         __itself = path: __tell {{ word = \"itself\"; inherit path; }}\n\
         __marked = path: __mapAttrs (name: value: if name == \"outPath\" then path else __itself false value) __info // {{ outPath = __itself true path; }}\n"
    )
}

/// The flake in a source, as `call-flake.nix` in Nix makes it of one: its inputs are those of the flake at `from`.
fn flake(pinned: &Pinned, from: &Utf8Path) -> String {
    let dir = if pinned.dir.is_empty() { String::new() } else { format!("/{}", pinned.dir) };
    let parameter =
        if pinned.dir.is_empty() { String::new() } else { format!("&dir={}", percent_encoded(&pinned.dir)) };
    let reference = format!("path:{from}?narHash={}{parameter}", percent_encoded(&pinned.nar_hash));
    let (reference, below) = (literal(&reference.into()), literal(&dir.into()));
    format!(
        "__flake = __getFlake {reference}\n\
         __call = path: sourceInfo: let inputs = __flake.inputs; \
         outputs = (import (path + {below} + \"/flake.nix\")).outputs (inputs // {{ self = result; }}); \
         result = outputs // sourceInfo // {{ outPath = sourceInfo.outPath + {below}; inherit inputs outputs sourceInfo; _type = \"flake\"; }}; \
         in result\n\
         __plain = __call __source.outPath __info\n"
    )
}

/// A text or a number as Nix writes it.
fn literal(value: &Value) -> String {
    value.to_string().replace("${", "\\${")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_described_as_nix_reads_it() {
        let identity = [("type", "git".into()), ("dirtyRev", "6f-dirty".into()), ("lastModified", 7.into())];
        let pinned = Pinned {
            path: "/nix/store/x-source".into(),
            dir: "a ${b}".into(),
            nar_hash: "sha256-a+/=".into(),
            identity: identity.map(|(name, value)| (name.to_owned(), value)).into(),
            locks: String::new(),
        };
        let text = definitions(&pinned);
        assert!(text.contains(r#"narHash = "sha256-a+/="; lastModified = 7; }"#), "{text}");
        assert!(text.contains(r#"{ dirtyRev = "6f-dirty"; submodules = false; }"#), "{text}");
        let text = flake(&pinned, "/nix/store/y-source".into());
        assert!(text.contains(r#""path:/nix/store/y-source?narHash=sha256-a%2B/%3D&dir=a%20%24%7Bb%7D""#), "{text}");
        assert!(text.contains(r#"(path + "/a \${b}" + "/flake.nix")"#), "{text}");
    }
}
