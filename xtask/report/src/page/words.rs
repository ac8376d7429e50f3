//! Puts values into words of the page: outcomes, dates, durations, and text of others as it can be shown.

use crate::job::{JobId, Outcome, Stage, Target};

/// How an outcome is shown: one letter, the class of its colour, and a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sign {
    /// The worst first.
    rank: u8,
    pub letter: char,
    pub class: &'static str,
    pub word: &'static str,
}

impl Sign {
    pub fn is_good(self) -> bool {
        self.rank > 1
    }
}

pub fn sign(id: &JobId, outcome: &Outcome) -> Sign {
    let test = matches!(id.target, Target::Test(_));
    let (rank, letter, class, word) = match outcome {
        Outcome::Failed(_) => (0, 'X', "bad", "failed"),
        Outcome::NotRun { .. } => (1, 'N', "odd", "not run"),
        Outcome::Built if test => (3, 'P', "ok", "passed"),
        Outcome::Built => (2, 'B', "ok", "built"),
        Outcome::Fetched => (4, 'F', "calm", "fetched"),
        Outcome::Present if test => (6, 'R', "calm", "passed before"),
        Outcome::Present => (5, 'U', "calm", "there before"),
    };
    Sign { rank, letter, class, word }
}

pub fn failed_to(stage: Stage) -> String {
    match stage {
        Stage::Test => "failed".into(),
        other => format!("failed to {}", other.as_str()),
    }
}

/// A time as `2026-01-31 12:00 UTC`, of seconds since 1970.
pub fn when(seconds: u64) -> String {
    // Howard Hinnant's `civil_from_days`, with years that begin in March.
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (early, day) = (month > 9, day - (153 * month + 2) / 5 + 1);
    let (year, month) = (era * 400 + year + u64::from(early), if early { month - 9 } else { month + 3 });
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", seconds / 3600 % 24, seconds / 60 % 60)
}

pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..10 => format!("{:.1} s", seconds.max(0.0)),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

/// Text of others, at most so many bytes of it, without characters that would reorder, hide or end what stands around it.
pub fn shown(text: &str, most: usize) -> String {
    let kept = &text[..text.floor_char_boundary(most)];
    let mut out = String::with_capacity(kept.len());
    for c in kept.chars() {
        match c {
            '\n' | '\t' => out.push(c),
            c if c.is_control() || is_unseen(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    if kept.len() < text.len() {
        out.push_str(&format!(" … ({} more bytes)", text.len() - kept.len()));
    }
    out
}

/// Marks of direction, of no width, and of tags (Unicode, general category Cf).
fn is_unseen(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The last lines that fit into so many bytes, each cut where it is long.
pub fn tail(lines: &[String], most: usize) -> String {
    const LONGEST: usize = 500;
    let mut left = most;
    let fitting = lines.iter().rev().map(|line| shown(line, LONGEST)).take_while(|line| {
        let fits = line.len() < left;
        left = left.saturating_sub(line.len() + 1);
        fits
    });
    let mut kept: Vec<String> = fitting.collect();
    kept.reverse();
    kept.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_827_696, "2000-02-29 12:34 UTC"),
            (1_704_067_199, "2023-12-31 23:59 UTC"),
            (1_772_323_200, "2026-03-01 00:00 UTC"),
        ] {
            assert_eq!(when(seconds), expected);
        }
        let rows =
            [(0.04, "0.0 s"), (9.4, "9.4 s"), (59.6, "1 min 00 s"), (200.0, "3 min 20 s"), (7260.0, "2 h 01 min")];
        for (seconds, expected) in rows {
            assert_eq!(duration(seconds), expected);
        }
    }

    #[test]
    fn text_of_others_stays_in_its_place() {
        assert_eq!(shown("a\u{202e}b\x1b[1m\n", 99), "a\\u{202e}b\\u{1b}[1m\n");
        assert_eq!(shown("äöü", 3), "ä … (4 more bytes)");
        let lines = ["first".to_owned(), "x".repeat(10_000_000), "last".to_owned()];
        assert_eq!(tail(&lines, 50), "last");
        assert!(tail(&lines, 5000).len() < 600);
    }
}
