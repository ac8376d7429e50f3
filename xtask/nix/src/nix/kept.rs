//! Keeps what a program once said as long as its file has not changed.

use std::{env, fs, io::Read as _, os::unix::fs::MetadataExt as _};

use camino::{Utf8Path, Utf8PathBuf};

use crate::files;

/// Where this user's programs keep what they can do without (XDG Base Directory Specification), and Drydock in it.
pub fn cache_folder() -> Option<Utf8PathBuf> {
    let variable = |name| env::var(name).ok().filter(|value| value.starts_with('/'));
    let home = || variable("HOME").map(|home| format!("{home}/.cache"));
    Some(Utf8PathBuf::from(variable("XDG_CACHE_HOME").or_else(home)?).join("drydock"))
}

/// A program, and the file in which what it said is kept.
pub struct Kept {
    file: Utf8PathBuf,
    key: String,
}

impl Kept {
    /// None for anything but a binary: what a script starts may change while the script does not.
    /// What it said holds only together with `else_on`, whatever else that depended on.
    pub fn of(program: &Utf8Path, file: Utf8PathBuf, else_on: &str) -> Option<Self> {
        let real = program.canonicalize_utf8().ok()?;
        let mut magic = [0; 4];
        let mut open = fs::File::open(&real).ok()?;
        open.read_exact(&mut magic).ok()?;
        let meta = open.metadata().ok().filter(|_| magic == *b"\x7fELF")?;
        let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
        let key = format!("{real} {} {} {} {times:?} {else_on}", meta.dev(), meta.ino(), meta.size());
        Some(Self { file, key })
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
        let kept = folder.join("cache/nix-version");
        let known = || Kept::of(&program, kept.clone(), "boot 1").unwrap();
        assert_eq!(known().recall(), None);
        known().remember("nix (Nix) 2.34.8");
        assert_eq!(known().recall().as_deref(), Some("nix (Nix) 2.34.8"));
        assert_eq!(Kept::of(&program, kept.clone(), "boot 2").unwrap().recall(), None);
        fs::write(&program, "\x7fELF other").unwrap();
        assert_eq!(known().recall(), None);
        for n in 0..20 {
            fs::write(&program, format!("\x7fELF {}", "x".repeat(n))).unwrap();
            known().remember(&format!("version {n}"));
        }
        assert_eq!(known().recall().as_deref(), Some("version 19"));
        assert_eq!(fs::read_to_string(&kept).unwrap().lines().count(), 16);
        fs::write(&program, "#!/bin/sh\nexec nix-2.34 \"$@\"\n").unwrap();
        assert!(Kept::of(&program, kept, "").is_none());
    }
}
