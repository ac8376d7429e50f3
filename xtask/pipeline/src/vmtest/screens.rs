//! Keeps a picture of each boot that a test went through.

use std::fs;

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};

use super::{
    attempt::{Said, Verdict},
    log::{TestLog, file_name},
};
use crate::{files, record::Screen};

/// Puts the pictures of one run into its folder: those on its log, and those in the output of a test that passed as a
/// build. One that passed before has only the latter, because the last log of its derivation may be that of another run.
pub fn collect(
    verdict: &Verdict,
    output: Option<&Utf8Path>,
    log: &mut TestLog,
    dir: &Utf8Path,
    say: &dyn Fn(Said<'_>),
) -> Result<()> {
    if matches!(verdict, Verdict::PassedBefore) {
        log.screenshots.clear();
    }
    let write = |name: &str, bytes: &[u8]| {
        let file = dir.join(name);
        fs::write(&file, bytes).with_context(|| format!("cannot write {file}"))
    };
    log.screenshots.iter().try_for_each(|screenshot| write(&screenshot.name, &screenshot.bytes))?;
    if matches!(verdict, Verdict::Passed | Verdict::PassedBefore) {
        for file in output.map(pngs).unwrap_or_default() {
            let name = file_name(file.file_name().unwrap_or_default());
            if log.screenshots.iter().all(|seen| seen.name != name) {
                write(&name, &fs::read(&file).with_context(|| format!("cannot read {file}"))?)?;
            }
        }
    }
    for file in pngs(dir).iter().filter(|file| file.metadata().is_ok_and(|file| file.len() > Screen::LARGEST)) {
        let (name, most) = (file.file_name().unwrap_or_default(), Screen::LARGEST);
        say(Said::Line(&format!("{name} is larger than {most} bytes, so the record does not name it")));
    }
    Ok(())
}

/// What a record says of the pictures in the folder where they stay. Of a test that failed those count that are on its
/// log, which tells whether the boot was over by then.
pub fn list(home: &Utf8Path, log: &TestLog, passed: bool) -> Vec<Screen> {
    let survived = |name: &str| log.screenshots.iter().find(|seen| seen.name == name).map(|seen| log.survived(seen));
    let screen = |file: Utf8PathBuf| {
        let verdict = if passed { true } else { survived(file.file_name()?)? };
        let bytes = fs::read(&file).ok().filter(|bytes| Screen::is_picture(bytes))?;
        Some(Screen { boot: file.file_stem()?.to_owned(), passed: verdict, sha256: files::sha256(&bytes), file })
    };
    pngs(home).into_iter().filter_map(screen).collect()
}

/// The regular files of a folder that are called so, sorted; none if it is no folder.
fn pngs(dir: &Utf8Path) -> Vec<Utf8PathBuf> {
    let entries = dir.read_dir_utf8().into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let mut pngs: Vec<Utf8PathBuf> = files.map(|entry| entry.path().to_owned()).collect();
    pngs.retain(|file| file.extension() == Some("png"));
    pngs.sort();
    pngs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Temporary;

    /// Base64 of a PNG's first 9 bytes, and what it stands for.
    const ENCODED: &str = "iVBORw0KGgox";
    const PICTURE: &[u8] = b"\x89PNG\r\n\x1a\n1";

    fn log(text: &str) -> TestLog {
        let mut log = TestLog::default();
        text.lines().for_each(|line| drop(log.take(line)));
        log
    }

    fn shown(name: &str) -> String {
        format!("-----BEGIN SCREENSHOT {name}.png-----\n{ENCODED}\n-----END SCREENSHOT {name}.png-----\n")
    }

    fn check(verdict: Verdict, passed: bool, mut log: TestLog, expected: &[(&str, bool)]) {
        let (out, dir) = (Temporary::new().unwrap(), Temporary::new().unwrap());
        fs::write(out.join("stored.png"), PICTURE).unwrap();
        fs::write(out.join("huge.png"), [PICTURE, &[0; 100_000]].concat()).unwrap();
        fs::write(out.join("text.png"), "hello").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", out.join("link.png")).unwrap();
        collect(&verdict, Some(&out), &mut log, &dir, &|_| ()).unwrap();
        let found = list(&dir, &log, passed);
        let rows: Vec<(&str, bool)> = found.iter().map(|screen| (screen.boot.as_str(), screen.passed)).collect();
        assert_eq!(rows, expected, "{verdict:?}");
        assert!(found.iter().all(|screen| screen.sha256 == files::sha256(PICTURE)));
    }

    #[test]
    fn each_boot_has_the_picture_of_its_own_run() {
        let text =
            format!("subtest: a\n{}(finished: subtest: a, in 1.00 seconds)\nsubtest: b\n{}", shown("a"), shown("b"));
        check(Verdict::Passed, true, log(&text), &[("a", true), ("b", true), ("stored", true)]);
        check(Verdict::PassedBefore, true, log(&text), &[("stored", true)]);
        check(Verdict::Failed(String::new()), false, log(&text), &[("a", true), ("b", false)]);
        check(Verdict::Failed(String::new()), false, log(&shown("outside")), &[("outside", false)]);
    }
}
