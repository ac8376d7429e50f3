//! Reads the events that matter from Nix's internal-json log. Numbers are those of `logging.hh` in
//! Nix; unknown ones are ignored because forks give them other meanings.

use serde::Deserialize;
use serde_json::Value;

/// What happened, in the words of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A builder starts; `machine` is empty where it runs here.
    BuildStarted { id: u64, drv: String, machine: String },
    /// A derivation waits for another process' lock or for a machine.
    WaitStarted { id: u64, text: String },
    /// A path is being copied from a substituter or another store.
    CopyStarted { id: u64, path: String },
    /// The activity ended, well or not.
    Stopped { id: u64 },
    /// A line of a builder's output.
    LogLine { id: u64, line: String },
    /// Nix counts, over everything it was asked in this process.
    Progress { id: u64, done: u64, expected: u64, running: u64 },
    /// The activity that the following [`Event::Progress`] with this id counts.
    Counter { id: u64, counts: Counts },
    /// An error; the text is without colours.
    Error { text: String },
    /// A warning or another word to the user, also what is no internal-json at all.
    Note { text: String },
}

/// What a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    Builds,
    Copies,
}

const COPY_PATH: u64 = 100;
const COPY_PATHS: u64 = 103;
const BUILDS: u64 = 104;
const BUILD: u64 = 105;
const SUBSTITUTE: u64 = 108;
const BUILD_WAITING: u64 = 111;
const BUILD_LOG_LINE: u64 = 101;
const PROGRESS: u64 = 105;
const POST_BUILD_LOG_LINE: u64 = 107;
/// Levels of `Verbosity` in `logging.hh`: errors, and up to here what `nix` shows without `-v`.
const LEVEL_ERROR: u64 = 0;
const LEVEL_NOTICE: u64 = 2;

#[derive(Deserialize)]
struct Line {
    action: String,
    #[serde(default)]
    id: u64,
    #[serde(default)]
    level: u64,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    text: String,
    #[serde(default, rename = "type")]
    kind: u64,
    #[serde(default)]
    fields: Vec<Value>,
}

/// Reads one line of stderr. `None` for lines that say nothing we use.
pub fn parse(line: &str) -> Option<Event> {
    let Some(json) = line.strip_prefix("@nix ") else {
        return (!line.trim().is_empty()).then(|| Event::Note { text: plain(line) });
    };
    let Ok(line) = serde_json::from_str::<Line>(json) else {
        return Some(Event::Note { text: plain(json) });
    };
    let text = |at: usize| line.fields.get(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |at: usize| line.fields.get(at).and_then(Value::as_u64).unwrap_or_default();
    let id = line.id;
    match (line.action.as_str(), line.kind) {
        ("start", BUILD) => Some(Event::BuildStarted { id, drv: text(0), machine: text(1) }),
        ("start", COPY_PATH | SUBSTITUTE) => Some(Event::CopyStarted { id, path: text(0) }),
        ("start", BUILD_WAITING) => Some(Event::WaitStarted { id, text: plain(&line.text) }),
        ("start", BUILDS) => Some(Event::Counter { id, counts: Counts::Builds }),
        ("start", COPY_PATHS) => Some(Event::Counter { id, counts: Counts::Copies }),
        ("stop", _) => Some(Event::Stopped { id }),
        ("result", BUILD_LOG_LINE | POST_BUILD_LOG_LINE) => Some(Event::LogLine { id, line: plain(&text(0)) }),
        ("result", PROGRESS) => Some(Event::Progress { id, done: number(0), expected: number(1), running: number(2) }),
        ("msg", _) if line.level == LEVEL_ERROR => Some(Event::Error { text: plain(&line.msg) }),
        ("msg", _) if line.level <= LEVEL_NOTICE => Some(Event::Note { text: plain(&line.msg) }),
        _ => None,
    }
}

/// Text without terminal escape sequences and other control characters, so that a builder cannot paint
/// over what we say.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => match chars.next() {
                // CSI: parameters up to a final byte; OSC: up to BEL or ESC backslash.
                Some('[') => while chars.next_if(|c| !('@'..='~').contains(c)).is_some() {},
                Some(']') => while chars.next_if(|&c| c != '\x07' && c != '\x1b').is_some() {},
                _ => continue,
            },
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
        if c == '\x1b' {
            chars.next();
        }
    }
    out
}

/// The derivation that an error message blames, if it names the cause and not merely a consequence.
pub fn blamed(error: &str) -> Option<String> {
    const CONSEQUENCES: [&str; 4] =
        ["dependencies of derivation", "dependency failed", "dependencies failed", "error: build of "];
    if CONSEQUENCES.iter().any(|words| error.contains(words)) {
        return None;
    }
    drv_paths(error).next()
}

/// All `.drv` store paths in a text, in order.
pub fn drv_paths(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || "/+-._?=".contains(c)))
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| word.starts_with('/') && word.ends_with(".drv"))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_nix_2_26() {
        let error = "error: builder for '/nix/store/gyy2-shared.drv' failed with exit code 3";
        let rows = [
            (
                r#"@nix {"action":"start","fields":["/nix/store/r9ac-a.drv","",1,1],"id":7,"level":3,"parent":0,"text":"building","type":105}"#,
                Some(Event::BuildStarted { id: 7, drv: "/nix/store/r9ac-a.drv".into(), machine: String::new() }),
            ),
            (
                r#"@nix {"action":"result","fields":["hi \u001b[1mthere"],"id":7,"type":101}"#,
                Some(Event::LogLine { id: 7, line: "hi there".into() }),
            ),
            (
                r#"@nix {"action":"result","fields":[1,4,2,0],"id":9,"type":105}"#,
                Some(Event::Progress { id: 9, done: 1, expected: 4, running: 2 }),
            ),
            (
                r#"@nix {"action":"start","id":9,"level":0,"parent":0,"text":"","type":104}"#,
                Some(Event::Counter { id: 9, counts: Counts::Builds }),
            ),
            (
                r#"@nix {"action":"start","id":8,"level":1,"parent":0,"text":"waiting for lock on \u001b[35;1m'/nix/store/r9ac-a'\u001b[0m","type":111}"#,
                Some(Event::WaitStarted { id: 8, text: "waiting for lock on '/nix/store/r9ac-a'".into() }),
            ),
            (r#"@nix {"action":"stop","id":7}"#, Some(Event::Stopped { id: 7 })),
            (
                r#"@nix {"action":"msg","column":null,"file":null,"level":0,"line":null,"msg":"\u001b[31;1merror:\u001b[0m builder for '\u001b[35;1m/nix/store/gyy2-shared.drv\u001b[0m' failed with exit code 3"}"#,
                Some(Event::Error { text: error.into() }),
            ),
            (r#"@nix {"action":"msg","level":3,"msg":"these 4 derivations will be built:"}"#, None),
            (r#"@nix {"action":"result","fields":[101,0],"id":9,"type":106}"#, None),
            ("not json at all", Some(Event::Note { text: "not json at all".into() })),
            ("@nix {broken", Some(Event::Note { text: "{broken".into() })),
            ("", None),
        ];
        for (line, expected) in rows {
            assert_eq!(parse(line), expected, "{line}");
        }
    }

    #[test]
    fn the_cause_is_blamed_and_not_its_consequences() {
        let rows = [
            ("error: builder for '/nix/store/x-a.drv' failed with exit code 3", Some("/nix/store/x-a.drv")),
            (
                "error: Cannot build '/nix/store/x-a.drv'.\n       Reason: builder failed with exit code 1.",
                Some("/nix/store/x-a.drv"),
            ),
            ("error: Cannot build '/nix/store/x-c.drv'.\n       Reason: 1 dependency failed.", None),
            ("error: 1 dependencies of derivation '/nix/store/x-c.drv' failed to build", None),
            ("error: build of '/nix/store/x-c.drv^*' failed", None),
            (
                "error: building of '/nix/store/x-e.drv^*' from .drv file timed out after 2 seconds",
                Some("/nix/store/x-e.drv"),
            ),
            ("error: hash mismatch in fixed-output derivation '/nix/store/x-f.drv':", Some("/nix/store/x-f.drv")),
            ("error: no space left", None),
        ];
        for (text, expected) in rows {
            assert_eq!(blamed(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn escape_sequences_do_not_survive() {
        assert_eq!(plain("a\x1b[31;1mb\x1b[0mc\rd\x1b]0;title\x07e"), "abcde");
    }
}
