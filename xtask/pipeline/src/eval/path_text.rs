//! Finds out whether the path of a fleet's source may be part of a result.
//!
//! `toString ./x` is a text, `/nix/store/…-source/x`, that changes with every file of the fleet, although no file is
//! opened for it. Where that text, or the first eight characters of its hash, arrive in a derivation, they are found there. Where
//! it is turned into something else on the way, only the fleet's own words show it; this is the one place where
//! something is inferred, and being wrong to the safe side costs a second evaluation.

use std::{collections::HashMap, fs};

use camino::{Utf8Path, Utf8PathBuf};
use memchr::memmem;

use crate::nix::drv;

/// A plain file among a derivation's inputs that is larger than this is not searched but taken to hold the path. Bytes.
const LARGEST: u64 = 16 << 20;

/// As many characters of a path's hash as no text has by chance, from its beginning.
const TELLING: usize = 8;

/// Looks for the paths of sources in derivations and all they are built from, each of which is read once.
#[derive(Default)]
pub struct PathSearch {
    needles: Vec<String>,
    /// Whether a file, with all it refers to, was found to hold one.
    known: HashMap<String, bool>,
}

impl PathSearch {
    /// Looks for these sources from now on. Derivations that were found to be clean stay so: the evaluator made them
    /// before it knew a source that is new to it.
    pub fn look_for<'a>(&mut self, sources: impl IntoIterator<Item = &'a Utf8Path>) {
        let hash = |source: &Utf8Path| source.file_name().and_then(|name| name.get(..TELLING)).map(str::to_owned);
        self.needles = sources.into_iter().filter_map(hash).collect();
    }

    /// True if the derivation, or anything that it is built from, holds a piece of a source's path.
    pub fn finds(&mut self, drv: &Utf8Path) -> bool {
        let mut open = vec![drv.as_str().to_owned()];
        let mut visited: Vec<String> = Vec::new();
        while let Some(path) = open.pop() {
            match self.known.get(&path) {
                Some(false) => {}
                Some(true) => {
                    // What was visited on the way may be clean by itself, but is not known to be: look again if asked.
                    for path in visited {
                        self.known.remove(&path);
                    }
                    self.known.insert(drv.as_str().to_owned(), true);
                    return true;
                }
                None => {
                    let (holds, inputs) = self.look(&path);
                    self.known.insert(path.clone(), holds);
                    open.extend(inputs);
                    match holds {
                        true => open.push(path),
                        false => visited.push(path),
                    }
                }
            }
        }
        false
    }

    fn look(&self, path: &str) -> (bool, Vec<String>) {
        let file = Utf8PathBuf::from(path);
        if self.is_in(path.as_bytes()) {
            return (true, Vec::new());
        }
        let Ok(meta) = fs::symlink_metadata(&file) else {
            // The inputs of a derivation that was substituted need not be here; their text is in its name.
            return (false, Vec::new());
        };
        if !meta.is_file() {
            return (false, Vec::new());
        }
        if meta.len() > LARGEST {
            return (true, Vec::new());
        }
        let Ok(text) = fs::read(&file) else { return (true, Vec::new()) };
        if self.is_in(&text) {
            return (true, Vec::new());
        }
        (false, if path.ends_with(".drv") { drv::inputs(&text) } else { Vec::new() })
    }

    fn is_in(&self, text: &[u8]) -> bool {
        self.needles.iter().any(|needle| memmem::find(text, needle.as_bytes()).is_some())
    }
}

/// Words that tell where something stands.
const PLACE: [&str; 5] = ["__curPos", "unsafeGetAttrPos", "toXML", "definitionsWithLocations", "declarations"];

/// Words that make a text of what they are given, which mostly is no path.
const TEXT: [&str; 8] =
    ["toString", "baseNameOf", "escapeShellArg", "toShellVar", "generators", "toPretty", "filterSource", "cleanSource"];

/// Words that turn a text into one from which it cannot be told.
const DIGEST: [&str; 2] = ["hashString", "convertHash"];

/// Words that take a text apart or compare it. Whoever makes a text of a path by itself may do that in other ways, too;
/// these are for `self`, whose path is one already and mostly is just followed.
const PART: [&str; 16] = [
    " < ",
    " > ",
    "<=",
    ">=",
    "substring",
    "match",
    "split",
    "replaceStrings",
    "stringLength",
    "stringToCharacters",
    "removePrefix",
    "removeSuffix",
    "hasPrefix",
    "hasSuffix",
    "hasInfix",
    "lessThan",
];

/// What the words of a file say about the texts of paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// Something is made a text.
    text: bool,
    /// A path surely is.
    path_text: bool,
    digest: bool,
    part: bool,
    /// The flake's `self` is used.
    pub names_self: bool,
}

impl Words {
    /// Reads a file. One that cannot be read may say anything.
    pub fn of(file: &Utf8Path) -> Self {
        match fs::read(file) {
            Ok(text) => Self::within(&text),
            Err(_) => Self { text: true, path_text: true, digest: true, part: true, names_self: true },
        }
    }

    fn within(text: &[u8]) -> Self {
        // A line that begins with `#` is a comment, or literal in a string, unless `${` begins in it.
        let is_code = |line: &&[u8]| !line.trim_ascii_start().starts_with(b"#") || memmem::find(line, b"${").is_some();
        let text: Vec<u8> = text.split_inclusive(|c| *c == b'\n').filter(is_code).flatten().copied().collect();
        let text = text.as_slice();
        let has = |words: &[&str]| words.iter().any(|word| memmem::find(text, word.as_bytes()).is_some());
        let calls = TEXT.iter().flat_map(|word| memmem::find_iter(text, word).map(|at| &text[at + word.len()..]));
        let mut calls = calls.peekable();
        let any = calls.peek().is_some();
        let hidden = hides_a_function(text);
        let path_text = hidden || has(&PLACE) || calls.any(is_given_a_path);
        let names_self = memmem::find_iter(text, "self").any(|at| uses_self(&text[..at], &text[at + "self".len()..]));
        let (digest, part) = (hidden || has(&DIGEST), hidden || has(&PART));
        Self { text: path_text || any, path_text, digest, part, names_self }
    }

    pub fn and(self, other: Self) -> Self {
        Self {
            text: self.text || other.text,
            path_text: self.path_text || other.path_text,
            digest: self.digest || other.digest,
            part: self.part || other.part,
            names_self: self.names_self || other.names_self,
        }
    }

    /// What is to be done about the source's path, where `self_path` says whether `self` was asked for it.
    pub fn suspicion(self, self_path: bool) -> Suspicion {
        if self.path_text && self.part {
            Suspicion::Strong
        } else if self.path_text || self.digest && (self.text || self_path) || self.part && self_path {
            Suspicion::Weak
        } else {
            Suspicion::None
        }
    }
}

/// How likely it is that a path was turned into something in which it is not found any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspicion {
    None,
    /// A second evaluation at another path shows whether it was: what is made of a path mostly differs as the path does.
    Weak,
    /// Something may depend on a single character of it, which can be the same in both.
    Strong,
}

/// Whether `self` between these texts is the flake's, and more than an argument's name in `{ self, … }:`.
fn uses_self(before: &[u8], rest: &[u8]) -> bool {
    let of_name = |c: &u8| c.is_ascii_alphanumeric() || b"_'-".contains(c);
    if before.last().is_some_and(of_name) || rest.first().is_some_and(of_name) {
        return false;
    }
    let (before, rest) = (before.trim_ascii_end(), rest.trim_ascii_start());
    let begins = before.last().is_some_and(|c| b"{,".contains(c));
    let ends = rest.first().is_some_and(|c| b",}".contains(c));
    !(begins && ends)
}

/// Whether a function of Nix may be called by a name that does not stand here: `builtins.${name}`, `with builtins`,
/// `getAttr name builtins`.
fn hides_a_function(text: &[u8]) -> bool {
    let word = b"builtins";
    memmem::find_iter(text, word).any(|at| {
        let (before, rest) = (text[..at].trim_ascii_end(), &text[at + word.len()..]);
        match rest.strip_prefix(b".") {
            Some(name) => !name.first().is_some_and(u8::is_ascii_alphabetic),
            None => !(before.ends_with(b"inherit (") && rest.starts_with(b")")),
        }
    })
}

/// Whether what follows a function's name is a path to be seen: `./x`, `(dir + "/x")`, `self`; or the function is given
/// another name. Of a name alone nothing can be told.
fn is_given_a_path(rest: &[u8]) -> bool {
    const LONGEST: usize = 200;
    let rest = rest[..rest.len().min(LONGEST)].trim_ascii_start();
    let inside = rest.strip_prefix(b"(").or_else(|| rest.strip_prefix(b"["));
    let inside = inside.map(|rest| rest.split(|c| b")]".contains(c)).next().unwrap_or_default());
    let signs = [&b"./"[..], b"\"/", b"/."];
    [&b"."[..], b"self", b";", b")"].iter().any(|sign| rest.starts_with(sign))
        || inside.is_some_and(|inside| signs.iter().any(|sign| memmem::find(inside, sign).is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_far_below_is_found_from_wherever_it_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let write = |name: &str, inputs: &[&str], text: &str| {
            let inputs: Vec<String> = inputs.iter().map(|input| format!("(\"{dir}/{input}.drv\",[\"out\"])")).collect();
            let drv = format!(
                "Derive([(\"out\",\"/o\",\"\",\"\")],[{}],[],\"s\",\"b\",[],[(\"t\",\"{text}\")])",
                inputs.join(",")
            );
            fs::write(dir.join(format!("{name}.drv")), drv).unwrap();
        };
        write("bad", &[], "hhhhhhhh");
        write("good", &[], "/nix/store/gggggggghhhh-source/key");
        write("middle", &["good", "bad"], "");
        write("top", &["middle"], "");
        write("other", &["good"], "");
        let mut search = PathSearch::default();
        search.look_for([Utf8Path::new("/nix/store/hhhhhhhhiiii-source")]);
        let rows = [("top", true), ("other", false), ("middle", true), ("good", false), ("top", true), ("bad", true)];
        for (name, expected) in rows {
            assert_eq!(search.finds(&dir.join(format!("{name}.drv"))), expected, "{name}");
        }
    }

    #[test]
    fn words_that_may_hide_a_path_are_told_from_those_of_every_fleet() {
        use Suspicion::{None, Strong, Weak};
        let rows = [
            ("port = toString cfg.port;", None),
            ("builtins.substring 0 limit name", None),
            ("toString limit + builtins.substring 0 3 name", None),
            ("environment.etc.x.source = ./x;", None),
            ("builtins.substring 0 3 x + toString (builtins.stringLength x)", None),
            ("lib.escapeShellArgs disks + builtins.substring 0 3 name", None),
            ("inherit (builtins) readFile; x = builtins.readFile ./x", None),
            ("  # Plain builtins only, no toString ./x\nx", None),
            ("''\n  # ${toString ./x}\n''", Weak),
            ("a = toString ./.;", Weak),
            ("if toString ./x < y then 1 else 2", Strong),
            ("builtins.split \".\" (baseNameOf ./.)", Strong),
            ("builtins.hashString \"sha256\" (toString ./default.nix)", Weak),
            ("let p = ./x; in builtins.hashString \"md5\" (toString p)", Weak),
            ("let f = builtins.hashString \"md5\"; in f __curPos.file", Weak),
            ("builtins.match \".*\" (toString (../x + \"/y\"))", Strong),
            ("(builtins.getAttr \"dirOf\" builtins) ./x", Strong),
            ("builtins.${\"to\" + \"String\"} ./x", Strong),
            ("with builtins; f", Strong),
            ("map toString [ ./x ]", Weak),
            ("let s = toString; in builtins.substring 11 4 (s ./x)", Strong),
        ];
        for (text, expected) in rows {
            assert_eq!(Words::within(text.as_bytes()).suspicion(false), expected, "{text}");
        }
        let of_self = [("builtins.hashString", Weak), ("lib.removePrefix", Weak), ("\"${self}/modules\"", None)];
        for (text, expected) in of_self {
            assert_eq!(Words::within(text.as_bytes()).suspicion(true), expected, "{text}");
        }
        assert_eq!(Words::within(b"toString x").and(Words::within(b"hashString")).suspicion(false), Weak);
        assert_eq!(Words::of(Utf8Path::new("/nowhere")).suspicion(false), Strong);
    }

    /// What is suspected is evaluated twice, so nothing of this repository's own fleet should be.
    #[test]
    fn this_repositorys_fleet_is_evaluated_once() {
        let root = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut open = vec![root.join("flake.nix"), root.join("lib"), root.join("hosts"), root.join("modules")];
        let (mut all, mut files) = (Words::default(), 0);
        while let Some(path) = open.pop() {
            if path.is_dir() {
                open.extend(path.read_dir_utf8().unwrap().map(|entry| entry.unwrap().into_path()));
            } else {
                let words = Words::of(&path);
                assert_eq!(words.suspicion(false), Suspicion::None, "{path}");
                all = all.and(words);
                files += 1;
            }
        }
        assert!(files > 30);
        assert_eq!((all.suspicion(false), all.names_self), (Suspicion::None, false));
    }

    #[test]
    fn self_is_used_or_only_taken() {
        let rows = [
            ("outputs = { self, nixpkgs }: x", false),
            ("outputs = inputs@{ nixpkgs, self }: x", false),
            ("{ self }: 1", false),
            ("selfish.self-made myself", false),
            ("if self ? rev then 1 else 2", true),
            ("inputs.self", true),
            ("inherit self;", true),
            ("with self; x", true),
            ("f self", true),
        ];
        for (text, expected) in rows {
            assert_eq!(Words::within(text.as_bytes()).names_self, expected, "{text}");
        }
    }
}
