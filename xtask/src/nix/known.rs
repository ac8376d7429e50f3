//! A Nix program in, the version that it once said it is out, as long as its file has not changed.
//!
//! Starting it to hear that again takes 20 ms, a third of a run in which nothing has changed.

use std::{env, fs, io::Read as _, os::unix::fs::MetadataExt as _};

use camino::{Utf8Path, Utf8PathBuf};

use crate::files;

/// Where this user's programs keep what they can do without (XDG Base Directory Specification), and Drydock in it.
pub fn cache_folder() -> Option<Utf8PathBuf> {
    let variable = |name| env::var(name).ok().filter(|value| value.starts_with('/'));
    let home = || variable("HOME").map(|home| format!("{home}/.cache"));
    Some(Utf8PathBuf::from(variable("XDG_CACHE_HOME").or_else(home)?).join("drydock"))
}

/// A program as a file, and the file in which what it said is kept.
pub struct Program {
    file: Utf8PathBuf,
    key: String,
}

impl Program {
    /// None for anything but a binary: what a script starts may change while the script does not.
    pub fn of(program: &Utf8Path, folder: &Utf8Path) -> Option<Self> {
        let real = program.canonicalize_utf8().ok()?;
        let mut magic = [0; 4];
        let mut open = fs::File::open(&real).ok()?;
        open.read_exact(&mut magic).ok()?;
        let meta = open.metadata().ok().filter(|_| magic == *b"\x7fELF")?;
        let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
        let key = format!("{real} {} {} {} {times:?}", meta.dev(), meta.ino(), meta.size());
        Some(Self { file: folder.join("nix-version"), key })
    }

    pub fn recall(&self) -> Option<String> {
        let text = fs::read_to_string(&self.file).ok()?;
        let mut lines = text.lines();
        lines.find(|line| *line == self.key)?;
        lines.next().map(str::to_owned)
    }

    /// Keeps what the program said. That it cannot be kept is no failure: it is asked again.
    pub fn remember(&self, said: &str) {
        /// Programs that are kept: as many as somebody may have at once.
        const MOST: usize = 8;
        let earlier = fs::read_to_string(&self.file).unwrap_or_default();
        let earlier: Vec<&str> = earlier.lines().collect();
        let others = earlier.chunks_exact(2).filter(|pair| pair[0] != self.key).take(MOST - 1);
        let mut text = format!("{}\n{said}\n", self.key);
        others.for_each(|pair| text.push_str(&format!("{}\n{}\n", pair[0], pair[1])));
        let _ = files::replace(&self.file, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_is_known_until_it_changes_and_a_script_never() {
        let folder = files::Temporary::new().unwrap();
        let program = folder.join("nix");
        fs::write(&program, "\x7fELF one").unwrap();
        let known = || Program::of(&program, &folder.join("cache")).unwrap();
        assert_eq!(known().recall(), None);
        known().remember("nix (Nix) 2.34.8");
        assert_eq!(known().recall().as_deref(), Some("nix (Nix) 2.34.8"));
        fs::write(&program, "\x7fELF other").unwrap();
        assert_eq!(known().recall(), None);
        for n in 0..20 {
            fs::write(&program, format!("\x7fELF {}", "x".repeat(n))).unwrap();
            known().remember(&format!("version {n}"));
        }
        assert_eq!(known().recall().as_deref(), Some("version 19"));
        assert_eq!(fs::read_to_string(folder.join("cache/nix-version")).unwrap().lines().count(), 16);
        fs::write(&program, "#!/bin/sh\nexec nix-2.34 \"$@\"\n").unwrap();
        assert!(Program::of(&program, &folder).is_none());
    }
}
