//! A repository's own files in, what `git ls-files` does not tell of it out.

use std::{fs, os::unix::fs::MetadataExt as _};

use camino::{Utf8Path, Utf8PathBuf};

use super::digest::{Digest, Hasher};

/// The folder of a work tree's repository: a linked work tree has a file that names it.
fn folder(top: &Utf8Path) -> Utf8PathBuf {
    let git = top.join(".git");
    let text = fs::read_to_string(&git).unwrap_or_default();
    text.trim().strip_prefix("gitdir: ").map_or(git, |folder| top.join(folder))
}

/// When the index was last written and how far HEAD's log goes: a file that Git is told of and made to forget again
/// while Nix reads the repository leaves no other trace. A mere refresh of the index counts as well.
pub fn traces(top: &Utf8Path) -> Digest {
    let folder = folder(top);
    let mut hasher = Hasher::new("git-traces");
    for file in ["index", "HEAD", "logs/HEAD"] {
        let meta = fs::symlink_metadata(folder.join(file));
        let numbers = meta.map_or([0; 4], |m| [m.size() as i64, m.ctime(), m.ctime_nsec(), m.ino() as i64]);
        numbers.iter().for_each(|number| hasher.put(&number.to_le_bytes()));
    }
    hasher.finish()
}

/// True if Git may call a file unchanged whose content on disk is not that in the repository: it was told to overlook
/// the file, or to convert contents on their way. `index` is what `git ls-files --stage -v -z` says.
pub fn overlooks(top: &Utf8Path, index: &str) -> bool {
    let folder = folder(top);
    let mut attributes = vec![top.join(".gitattributes"), folder.join("info/attributes")];
    for record in index.split_terminator('\0') {
        let (about, path) = record.split_once('\t').unwrap_or((record, ""));
        // Lower case is `assume-unchanged`, S is `skip-worktree`, which sparse checkouts set for what is not there.
        let flagged = about.starts_with(|tag: char| tag.is_ascii_lowercase() || tag == 'S');
        if flagged && top.join(path).symlink_metadata().is_ok() {
            return true;
        }
        if path.ends_with("/.gitattributes") {
            attributes.push(top.join(path));
        }
    }
    let converts = |file: Utf8PathBuf| fs::read_to_string(file).is_ok_and(|text| text.lines().any(converts));
    let configs = [folder.join("config"), folder.join("../../config")];
    attributes.into_iter().any(converts) || configs.iter().any(|file| has_odd_setting(file))
}

/// True if a line of gitattributes(5) makes contents differ. Line ends of `text` files do not on Linux, unless they
/// were written elsewhere.
fn converts(line: &str) -> bool {
    const SIGNS: [&str; 3] = ["filter=", "eol=crlf", "working-tree-encoding="];
    line.split_whitespace().skip(1).any(|word| word == "ident" || SIGNS.iter().any(|sign| word.starts_with(sign)))
}

fn has_odd_setting(config: &Utf8Path) -> bool {
    let text = fs::read_to_string(config).unwrap_or_default().to_lowercase();
    let mut settings = text.lines().filter_map(|line| line.split_once('='));
    settings.any(|(key, value)| match (key.trim(), value.trim()) {
        ("filemode" | "symlinks", value) => value != "true",
        ("autocrlf" | "eol" | "attributesfile", _) => true,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_are_told_from_other_attributes() {
        let rows = [
            ("*.age filter=git-crypt diff=git-crypt", true),
            ("*.bat text eol=crlf", true),
            ("a ident", true),
            ("* text=auto", false),
            ("flake.lock -diff linguist-generated=true", false),
            ("filter=x", false),
            ("", false),
        ];
        for (line, expected) in rows {
            assert_eq!(converts(line), expected, "{line}");
        }
    }
}
