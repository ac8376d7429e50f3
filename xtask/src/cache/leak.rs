//! Derivations in, those out whose text holds the store path of the whole source: they change with every file.
//!
//! A path such as `./key.pub` is also a text, `/nix/store/…-source/key.pub`, and that text changes with any
//! file of the fleet. Which functions of the inputs make a text of a path cannot be told by looking at the
//! fleet, but the result shows it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
};

use camino::Utf8PathBuf;
use memchr::memmem;

use crate::job::{Derivation, JobId};

/// A plain file among a derivation's inputs that is larger than this is not searched but taken to hold the
/// source's path. Bytes.
const LARGEST: u64 = 16 << 20;

/// Of the given jobs those whose derivations, or anything these are built from, mention the store path.
pub fn leaking(derivations: &BTreeMap<JobId, Derivation>, source: &str) -> BTreeSet<JobId> {
    let hash = source.rsplit('/').next().unwrap_or(source).split('-').next().unwrap_or_default();
    let mut search = Search { hash: memmem::Finder::new(hash), known: HashMap::new() };
    let all = derivations.iter();
    all.filter(|(_, derivation)| search.leaks(derivation.drv.as_str())).map(|(id, _)| id.clone()).collect()
}

struct Search<'a> {
    hash: memmem::Finder<'a>,
    /// What each file, with all it refers to, was found to be.
    known: HashMap<String, bool>,
}

impl Search<'_> {
    /// Walks the derivation graph without recursion, which is some hundred deep in nixpkgs.
    fn leaks(&mut self, drv: &str) -> bool {
        let mut open = vec![drv.to_owned()];
        let mut visited = Vec::new();
        let mut leaks = false;
        while let Some(path) = open.pop() {
            match self.known.get(&path) {
                Some(true) => leaks = true,
                Some(false) => {}
                None => {
                    self.known.insert(path.clone(), false);
                    let (mentions, inputs) = self.look(&path);
                    leaks |= mentions;
                    open.extend(inputs);
                    visited.push(path);
                }
            }
            if leaks {
                break;
            }
        }
        if leaks {
            // What was visited on the way may be clean by itself, but is not known to be: look again if asked.
            for path in visited {
                self.known.remove(&path);
            }
            self.known.insert(drv.to_owned(), true);
        }
        leaks
    }

    fn look(&self, path: &str) -> (bool, Vec<String>) {
        let file = Utf8PathBuf::from(path);
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
        if self.hash.find(&text).is_some() {
            return (true, Vec::new());
        }
        (false, if path.ends_with(".drv") { inputs(&text) } else { Vec::new() })
    }
}

/// The derivations and plain sources that a `.drv` file names before its builder: `Derive([outputs],
/// [inputDrvs],[inputSrcs],…` (`derivations.cc` in Nix).
fn inputs(text: &[u8]) -> Vec<String> {
    let Some(start) = memmem::find(text, b"],[") else { return Vec::new() };
    // Inputs end where the system follows the list of sources: `],"x86_64-linux",`.
    let end = memmem::find(&text[start + 2..], b"],\"").map_or(text.len(), |at| start + 2 + at);
    let part = &text[start..end];
    let quotes: Vec<usize> = memchr::memchr_iter(b'"', part).collect();
    let words = quotes.chunks_exact(2).map(|pair| &part[pair[0] + 1..pair[1]]);
    words.filter(|word| word.starts_with(b"/")).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_of_a_derivation() {
        let text = br#"Derive([("out","/nix/store/o","","")],[("/nix/store/a.drv",["out"]),("/nix/store/b.drv",["out","dev"])],["/nix/store/s.sh"],"x86_64-linux","/bin/sh",[],[("name","x")])"#;
        assert_eq!(inputs(text), ["/nix/store/a.drv", "/nix/store/b.drv", "/nix/store/s.sh"]);
        let none = br#"Derive([("out","/nix/store/o","","")],[],[],"x86_64-linux","/bin/sh",[],[("name","x")])"#;
        assert_eq!(inputs(none), [] as [&str; 0]);
    }

    #[test]
    fn a_leak_far_below_is_found_for_whoever_depends_on_it() {
        let dir = std::env::temp_dir().join(format!("drydock-leak-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let dir = Utf8PathBuf::from_path_buf(dir).unwrap();
        let write = |name: &str, inputs: &[&str], text: &str| {
            let inputs: Vec<String> = inputs.iter().map(|input| format!("(\"{dir}/{input}.drv\",[\"out\"])")).collect();
            let drv = format!(
                "Derive([(\"out\",\"/o\",\"\",\"\")],[{}],[],\"s\",\"b\",[],[(\"t\",\"{text}\")])",
                inputs.join(",")
            );
            fs::write(dir.join(format!("{name}.drv")), drv).unwrap();
        };
        write("bad", &[], "/nix/store/hhhh-source/key");
        write("good", &[], "/nix/store/gggg-source/key");
        write("middle", &["good", "bad"], "");
        write("top", &["middle"], "");
        write("other", &["good"], "");
        let job = |host: &str| JobId::try_from(format!("{host}.iso")).unwrap();
        let derivation = |name: &str| Derivation {
            drv: dir.join(format!("{name}.drv")),
            out: "/o".into(),
            system: "x86_64-linux".into(),
        };
        let all = ["top", "other", "middle"].map(|name| (job(name), derivation(name))).into();
        assert_eq!(leaking(&all, "/nix/store/hhhh-source"), [job("middle"), job("top")].into());
        fs::remove_dir_all(dir).unwrap();
    }
}
