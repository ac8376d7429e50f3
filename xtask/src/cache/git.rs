//! A repository's own files in, what `git ls-files` does not tell of it out.

use std::{env, fs, os::unix::fs::MetadataExt as _};

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
    let (mut configs, others) = personal();
    configs.extend([folder.join("config"), folder.join("../../config")]);
    attributes.extend(others);
    let texts: Vec<String> = configs.iter().map(|file| fs::read_to_string(file).unwrap_or_default()).collect();
    attributes.extend(texts.iter().flat_map(|text| settings(text)).filter_map(attributes_file));
    let converts = |file: Utf8PathBuf| fs::read_to_string(file).is_ok_and(|text| text.lines().any(converts));
    attributes.into_iter().any(converts) || texts.iter().flat_map(|text| settings(text)).any(is_odd)
}

/// The configuration and the attributes outside of a repository that hold in it, as in git-config(1) and
/// gitattributes(5).
fn personal() -> (Vec<Utf8PathBuf>, Vec<Utf8PathBuf>) {
    let home = home();
    let own = env::var("XDG_CONFIG_HOME").ok().filter(|folder| !folder.is_empty()).map(Utf8PathBuf::from);
    let own = own.unwrap_or_else(|| home.join(".config")).join("git");
    let global = match env::var("GIT_CONFIG_GLOBAL") {
        Ok(file) => vec![file.into()],
        Err(_) => vec![own.join("config"), home.join(".gitconfig")],
    };
    let configs = ["/etc/gitconfig".into()].into_iter().chain(global).collect();
    (configs, vec!["/etc/gitattributes".into(), own.join("attributes")])
}

fn home() -> Utf8PathBuf {
    env::var("HOME").unwrap_or_default().into()
}

/// True if a line of gitattributes(5) makes contents differ. Line ends of `text` files do not on Linux, unless they
/// were written elsewhere.
fn converts(line: &str) -> bool {
    const SIGNS: [&str; 3] = ["filter=", "eol=crlf", "working-tree-encoding="];
    line.split_whitespace().skip(1).any(|word| word == "ident" || SIGNS.iter().any(|sign| word.starts_with(sign)))
}

/// The lines `key = value` of a configuration, the key in lower case.
fn settings(text: &str) -> impl Iterator<Item = (String, &str)> {
    let settings = text.lines().filter_map(|line| line.split_once('='));
    settings.map(|(key, value)| (key.trim().to_lowercase(), value.trim().trim_matches('"')))
}

fn attributes_file((key, value): (String, &str)) -> Option<Utf8PathBuf> {
    let inside = value.strip_prefix("~/").map(|name| home().join(name));
    (key == "attributesfile").then(|| inside.unwrap_or_else(|| value.into()))
}

/// True for a setting under which Git takes contents for the same that differ, or modes.
fn is_odd((key, value): (String, &str)) -> bool {
    match (key.as_str(), value.to_lowercase().as_str()) {
        ("filemode" | "symlinks", value) => value != "true",
        ("autocrlf", value) => !["false", "input"].contains(&value),
        ("eol", value) => value == "crlf",
        _ => false,
    }
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

    #[test]
    fn settings_under_which_git_overlooks_changes() {
        let rows = [
            ("[core]\n\tautocrlf = true\n", true),
            ("[core]\n\tautocrlf = input\n", false),
            ("[core]\n\tfileMode = false\n", true),
            ("[core]\n\tfilemode = true\n\tbare = false\n", false),
            ("[core]\n\teol = crlf\n", true),
            ("[alias]\n\tco = checkout\n", false),
        ];
        for (text, expected) in rows {
            assert_eq!(settings(text).any(is_odd), expected, "{text}");
        }
        let files: Vec<_> = settings("[core]\n\tattributesFile = \"/a b\"\n").filter_map(attributes_file).collect();
        assert_eq!(files, ["/a b"]);
    }
}
