//! Reads a test driver's log: subtests with their times, the end of each console, and screenshots.
//!
//! The words are those of nixpkgs' driver (`nixos/lib/test-driver/src/test_driver/logger.py`), which the embedded
//! fleet's driver also uses. What a driver adds for us, because a failed Nix build keeps nothing but its log, is
//! described in docs/test-vm.md.

use std::collections::{BTreeMap, VecDeque};

use crate::{job::Subtest, nix::event::plain};

/// Lines of each machine's console that a report shows.
const CONSOLE_TAIL: usize = 25;

/// Lines of a driver's complaint that are kept.
const MOST_COMPLAINT: usize = 40;

/// A screen of text is 20 kB as PNG; nothing sensible is larger than this. Bytes of base64.
const LARGEST_IMAGE: usize = 8 << 20;

/// What a log has told so far.
#[derive(Debug, Default)]
pub struct TestLog {
    pub subtests: Vec<Subtest>,
    open: Vec<usize>,
    /// The accelerator that the driver says it uses, if it says so.
    pub accel: Option<String>,
    /// The driver's own word on which subtest failed.
    blamed: Option<String>,
    /// Why the test failed, in the driver's words.
    pub complaint: Vec<String>,
    complaining: bool,
    /// The last lines of each machine's console.
    pub consoles: BTreeMap<String, VecDeque<String>>,
    pub screenshots: Vec<Screenshot>,
    image: Option<(String, String)>,
}

/// A machine's screen.
#[derive(Debug)]
pub struct Screenshot {
    /// The name of a file that stays in its folder.
    pub name: String,
    pub bytes: Vec<u8>,
    /// The innermost subtest that ran.
    within: Option<usize>,
}

impl TestLog {
    /// Takes in a line and returns it as a person should see it; `None` for the lines of an image.
    pub fn take(&mut self, line: &str) -> Option<String> {
        let line = plain(line);
        if self.image_line(&line) {
            return None;
        }
        if let Some(name) = line.strip_prefix("subtest: ") {
            let subtest = Subtest { name: name.to_owned(), seconds: None, depth: self.open.len() };
            self.open.push(self.subtests.len());
            self.subtests.push(subtest);
        } else if let Some((name, seconds)) = finished(&line) {
            self.finish(name, seconds);
        } else if let Some(name) = line.strip_prefix("test failed in subtest: ") {
            self.blamed = Some(name.to_owned());
            self.complaining = true;
        } else if let Some(text) = line.strip_prefix("!!! ") {
            self.complain(text);
        } else if self.complaining {
            self.complain(&line);
        } else if let Some((machine, text)) = console(&line) {
            let tail = self.consoles.entry(machine.to_owned()).or_default();
            tail.push_back(text.to_owned());
            if tail.len() > CONSOLE_TAIL {
                tail.pop_front();
            }
        } else if let Some((_, rest)) = line.split_once(": QEMU with ").filter(|(head, _)| head.starts_with("test ")) {
            self.accel = rest.split([',', ' ']).next().map(str::to_owned);
        }
        Some(line)
    }

    /// Takes in a line of an image; false for any other. Machines go on talking while one is photographed, so lines of
    /// other kinds may stand between those of an image. A beginning without its end was cut off.
    fn image_line(&mut self, line: &str) -> bool {
        if let Some(name) = line.strip_prefix("-----BEGIN SCREENSHOT ").and_then(|rest| rest.strip_suffix("-----")) {
            self.image = Some((file_name(name), String::new()));
            return true;
        }
        let Some((_, text)) = &mut self.image else { return false };
        if line.starts_with("-----END SCREENSHOT") {
            if let Some((name, text)) = self.image.take()
                && let Some(bytes) = decode(&text)
            {
                // A machine that was photographed twice is shown as it was last.
                self.screenshots.retain(|earlier| earlier.name != name);
                self.screenshots.push(Screenshot { name, bytes, within: self.open.last().copied() });
            }
            return true;
        }
        let line = line.trim();
        let encoded = is_base64(line);
        if encoded && text.len() < LARGEST_IMAGE {
            text.push_str(line);
        }
        encoded
    }

    fn complain(&mut self, text: &str) {
        if self.complaint.len() < MOST_COMPLAINT && !text.trim().is_empty() {
            self.complaint.push(unhashed(text.trim_end()).to_owned());
        }
    }

    fn finish(&mut self, name: &str, seconds: f64) {
        // What was opened inside and never finished has failed and was left by an exception.
        if let Some(at) = self.open.iter().rposition(|&index| self.subtests[index].name == name) {
            self.subtests[self.open[at]].seconds = Some(seconds);
            self.open.truncate(at);
        }
    }

    /// The innermost subtest that runs now.
    pub fn current(&self) -> Option<&str> {
        self.open.last().map(|&index| self.subtests[index].name.as_str())
    }

    /// Whether the subtest passed in which the screen was taken, of a test that failed.
    pub fn survived(&self, screenshot: &Screenshot) -> bool {
        screenshot.within.is_some_and(|index| self.subtests[index].seconds.is_some())
    }

    /// The subtest that failed, by the driver's word or because it never finished.
    pub fn failed(&self) -> Option<&str> {
        self.blamed.as_deref().or_else(|| self.current())
    }
}

/// Reads `(finished: subtest: NAME, in 1.23 seconds)`.
fn finished(line: &str) -> Option<(&str, f64)> {
    let inner = line.strip_prefix("(finished: subtest: ")?.strip_suffix(" seconds)")?;
    let (name, seconds) = inner.rsplit_once(", in ")?;
    Some((name, seconds.parse().ok()?))
}

/// A script in the store by the name that it has in the fleet: without the 32 characters of its hash.
fn unhashed(line: &str) -> &str {
    let base32 = |c: char| c.is_ascii_digit() || c.is_ascii_lowercase();
    match line.split_once('-') {
        Some((hash, rest)) if hash.len() == 32 && hash.chars().all(base32) => rest,
        _ => line,
    }
}

/// Reads `MACHINE # TEXT`.
fn console(line: &str) -> Option<(&str, &str)> {
    let (machine, text) = line.split_once(" # ").or_else(|| Some((line.strip_suffix(" #")?, "")))?;
    let named = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    (!machine.is_empty() && machine.chars().all(named)).then_some((machine, text))
}

/// A name that stays inside its folder, and that a CI system takes for a file of its artifacts.
pub fn file_name(text: &str) -> String {
    let safe: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
    match safe.starts_with('.') || safe.is_empty() {
        true => format!("screen{safe}"),
        false => safe,
    }
}

/// Whole groups of four characters, which a line of somebody's words hardly ever is.
fn is_base64(line: &str) -> bool {
    line.len().is_multiple_of(4) && line.bytes().all(|c| c.is_ascii_alphanumeric() || b"+/=".contains(&c))
}

/// Base64 as in RFC 4648, section 4; `None` for anything else.
fn decode(text: &str) -> Option<Vec<u8>> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in text.trim_end_matches('=').as_bytes().chunks(4) {
        let mut bits = 0_u32;
        for &c in group {
            bits = bits << 6 | u32::from(value(c)?);
        }
        bits <<= 6 * (4 - group.len());
        bytes.extend_from_slice(&bits.to_be_bytes()[1..group.len().max(1)]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(text: &str) -> TestLog {
        let mut log = TestLog::default();
        text.lines().for_each(|line| drop(log.take(line)));
        log
    }

    fn pictures(log: &TestLog) -> Vec<(&str, &[u8])> {
        log.screenshots.iter().map(|shot| (shot.name.as_str(), shot.bytes.as_slice())).collect()
    }

    #[test]
    fn subtests_nest_and_have_times() {
        let log = log("test a-live: QEMU with tcg, deadlines times 1\n\
             subtest: outer, in parts\n\x1b[1m\x1b[32msubtest: inner\x1b[0m\nvm # subtest: of the guest's own\n\
             (finished: subtest: inner, in 1.50 seconds)\n\
             (finished: subtest: outer, in parts, in 12.00 seconds)\nsubtest: next\n");
        let rows: Vec<_> = log.subtests.iter().map(|s| (s.name.as_str(), s.seconds, s.depth)).collect();
        assert_eq!(rows, [("outer, in parts", Some(12.0), 0), ("inner", Some(1.5), 1), ("next", None, 0)]);
        assert_eq!((log.current(), log.failed(), log.accel.as_deref()), (Some("next"), Some("next"), Some("tcg")));
        assert_eq!(log.consoles["vm"], ["subtest: of the guest's own"]);
    }

    #[test]
    fn a_failure_is_told_in_the_drivers_words() {
        let ours = log(
            "subtest: a\nsubtest: b\ntest failed in subtest: b\nMachineError: no line\n0123456789abcdfghijklmnpqrsvwxyz-live.py:7: wait()\n",
        );
        assert_eq!(
            (ours.failed(), ours.complaint.as_slice()),
            (Some("b"), &["MachineError: no line".to_owned(), "live.py:7: wait()".into()][..])
        );
        let nixpkgs = log(
            "subtest: a\n!!! Traceback (most recent call last):\n!!!   File \"<string>\", line 4, in <module>\ncleanup\n",
        );
        assert_eq!((nixpkgs.failed(), nixpkgs.complaint.len()), (Some("a"), 2));
    }

    #[test]
    fn a_subtest_that_was_left_by_an_exception_ends_with_the_one_around_it() {
        let log = log("subtest: a\nsubtest: b\n(finished: subtest: a, in 3.00 seconds)\n");
        assert_eq!((log.current(), log.subtests[1].seconds), (None, None));
    }

    #[test]
    fn only_the_end_of_a_console_is_kept() {
        let text: String = (0..100).map(|n| format!("vm-1 # line {n}\n")).collect();
        let log = log(&text);
        assert_eq!(log.consoles["vm-1"].len(), CONSOLE_TAIL);
        assert_eq!(log.consoles["vm-1"].back().map(String::as_str), Some("line 99"));
    }

    #[test]
    fn what_a_machine_says_while_it_is_photographed_is_kept_and_the_image_whole() {
        let log = log("-----BEGIN SCREENSHOT vm.png-----\naGVs\n\nvm # [    1.2] Call Trace:\n\x1b[2mvm #\x1b[0m\n\
             vm: output\nbG8=\n-----END SCREENSHOT vm.png-----\nvm # the end\n");
        assert_eq!(pictures(&log), [("vm.png", &b"hello"[..])]);
        assert_eq!(log.consoles["vm"], ["[    1.2] Call Trace:", "", "the end"]);
    }

    #[test]
    fn of_two_images_with_one_name_the_later_stays_and_one_without_end_is_dropped() {
        let log = log("-----BEGIN SCREENSHOT a.png-----\naGVs\n-----END SCREENSHOT a.png-----\n\
             -----BEGIN SCREENSHOT b.png-----\naGVs\n-----BEGIN SCREENSHOT a.png-----\nbG8=\n\
             -----END SCREENSHOT a.png-----\n");
        assert_eq!(pictures(&log), [("a.png", &b"lo"[..])]);
    }

    #[test]
    fn screenshots_come_out_of_the_log_and_stay_in_their_folder() {
        let mut log = TestLog::default();
        assert_eq!(log.take("-----BEGIN SCREENSHOT ../../vm.png-----"), None);
        assert_eq!(log.take("aGVs"), None);
        assert_eq!(log.take("bG8="), None);
        assert_eq!(log.take("-----END SCREENSHOT ../../vm.png-----"), None);
        assert_eq!(log.take("on").as_deref(), Some("on"));
        assert_eq!(pictures(&log), [("screen.._.._vm.png", &b"hello"[..])]);
        assert_eq!(decode("a b"), None);
        assert_eq!(decode(""), Some(vec![]));
        assert_eq!(decode("/+8="), Some(vec![0xff, 0xef]));
    }
}
