//! `cargo chores ship`: makes a draft of a GitHub release of what `release` collected.
#![expect(clippy::print_stderr, reason = "a verb prints its report")]

use std::{collections::BTreeSet, fs, time::Duration};

use anyhow::{Context as _, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    diagnostic::{DONE, usage},
    files::write,
    flags,
    github::gh,
    process::Cancel,
    release::FOLDER,
};

/// Gigabytes go up; a slow line takes its time.
const UPLOAD: Duration = Duration::from_secs(2 * 60 * 60);

pub fn run(flags: &flags::Ship, cancel: &Cancel) -> Result<u8> {
    let tag = flags.tag.as_str();
    if !tag.starts_with('v') {
        return Err(usage(format!("`{tag}` is no tag of a release; one starts with `v`")));
    }
    let files = gather(Utf8Path::new(FOLDER))?;
    let known = gh(["release", "view", tag])?.timeout(Duration::from_secs(60)).capture(cancel)?.end.is_success();
    let how: &[&str] = match known {
        true => &["upload", tag, "--clobber"],
        false => &["create", tag, "--draft", "--verify-tag", "--generate-notes", "--title", tag],
    };
    let names = files.iter().map(|file| file.as_str());
    gh(["release"].into_iter().chain(how.iter().copied()).chain(names))?.timeout(UPLOAD).read(cancel)?;
    eprintln!("{} files are in the release {tag}; it is a draft until a person publishes it", files.len());
    Ok(DONE)
}

/// One SHA256SUMS out of those of every system, and the list of all files. A file that no line names, or that a
/// line names and is not there, is an error: a release is whole or not at all.
fn gather(dir: &Utf8Path) -> Result<Vec<Utf8PathBuf>> {
    let list = dir.read_dir_utf8().with_context(|| format!("cannot list {dir}"))?;
    let mut files = list.map(|entry| Ok(entry?.path().to_owned())).collect::<std::io::Result<Vec<_>>>()?;
    files.sort();
    let is_sums = |file: &Utf8PathBuf| file.file_name().is_some_and(|name| name.starts_with("SHA256SUMS"));
    let (sums, mut files): (Vec<_>, Vec<_>) = files.into_iter().partition(is_sums);
    let mut lines = BTreeSet::new();
    for file in &sums {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
        lines.extend(text.lines().map(str::to_owned));
    }
    let named: BTreeSet<&str> = lines.iter().filter_map(|line| line.split_once("  ")).map(|(_, name)| name).collect();
    let images: BTreeSet<&str> =
        files.iter().filter(|f| f.extension() == Some("iso")).filter_map(|f| f.file_name()).collect();
    if named != images || images.is_empty() {
        bail!(
            "{dir}: the checksums name {named:?} and the images are {images:?}\n  `cargo chores release` writes both"
        );
    }
    let all = dir.join("SHA256SUMS");
    write(&all, &lines.iter().map(|line| format!("{line}\n")).collect::<String>())?;
    files.push(all);
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_whole_or_refused() {
        let dir = crate::files::Temporary::new().unwrap();
        let put = |name: &str, text: &str| write(&dir.join(name), text).unwrap();
        put("a.iso", "a");
        put("b.iso", "b");
        put("a.iso.spdx.json", "{}");
        put("SHA256SUMS.x86_64-linux", "00  a.iso\n");
        assert!(gather(&dir).is_err(), "b.iso has no checksum");
        put("SHA256SUMS.aarch64-linux", "11  b.iso\n");
        let names: Vec<String> = gather(&dir).unwrap().iter().map(|f| f.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["a.iso", "a.iso.spdx.json", "b.iso", "SHA256SUMS"]);
        assert_eq!(fs::read_to_string(dir.join("SHA256SUMS")).unwrap(), "00  a.iso\n11  b.iso\n");
        fs::remove_file(dir.join("a.iso")).unwrap();
        assert!(gather(&dir).is_err(), "a.iso is gone");
    }
}
