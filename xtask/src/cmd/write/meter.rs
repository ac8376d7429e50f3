//! Shows how far a writing is, how fast it goes, and how long it will take.

use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use crate::{diagnostic::bytes, ship::medium::Stage};

/// Where nothing can move, a line stands for so long.
const SILENCE: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(200);

/// One line, first of the writing, then of the reading; it moves where it can and is alone.
pub struct Meter<'p> {
    place: &'p str,
    /// Bytes of the image.
    total: u64,
    moves: bool,
    stage: Stage,
    began: Instant,
    said: Instant,
    /// What the stages before this one took.
    past: Vec<String>,
}

impl<'p> Meter<'p> {
    /// For so many bytes, written to a place.
    pub fn new(place: &'p str, total: u64, is_alone: bool) -> Self {
        let (moves, now) = (is_alone && std::io::stderr().is_terminal(), Instant::now());
        Self { place, total, moves, stage: Stage::Write, began: now, said: now, past: Vec::new() }
    }

    /// So many bytes are done of a stage.
    pub fn show(&mut self, stage: Stage, done: u64) {
        if stage != self.stage {
            self.past.push(self.took());
            (self.stage, self.began) = (stage, Instant::now());
        }
        if self.said.elapsed() > if self.moves { TICK } else { SILENCE } {
            self.said = Instant::now();
            let line = line(stage, done, self.total, self.began.elapsed());
            if self.moves { eprint!("\r{line}\x1b[K") } else { eprintln!("{}: {line}", self.place) }
        }
    }

    /// Says what the stages took.
    pub fn finish(mut self) -> String {
        self.past.push(self.took());
        self.past.join(", ")
    }

    fn took(&self) -> String {
        let seconds = self.began.elapsed().as_secs_f64();
        let verb = if self.stage == Stage::Write { "was written" } else { "read back" };
        format!("{verb} in {seconds:.1} s ({}/s)", bytes(rate(self.total, seconds)))
    }
}

impl Drop for Meter<'_> {
    /// Takes the line away, also before an error.
    fn drop(&mut self) {
        if self.moves {
            eprint!("\r\x1b[K");
        }
    }
}

fn word(stage: Stage) -> &'static str {
    match stage {
        Stage::Write => "writing",
        Stage::ReadBack => "reading back",
    }
}

fn line(stage: Stage, done: u64, total: u64, since: Duration) -> String {
    let rate = rate(done, since.as_secs_f64());
    let left = (total - done) / rate.max(1);
    format!("{} {} of {}, {}/s, {left} s left", word(stage), bytes(done), bytes(total), bytes(rate))
}

/// Bytes a second.
fn rate(done: u64, seconds: f64) -> u64 {
    (done as f64 / seconds.max(1e-6)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_how_fast_and_how_long() {
        let rows = [
            (Stage::Write, 50 << 20, 10, "writing 50.0 MiB of 100.0 MiB, 5.0 MiB/s, 10 s left"),
            (Stage::ReadBack, 100 << 20, 1, "reading back 100.0 MiB of 100.0 MiB, 100.0 MiB/s, 0 s left"),
        ];
        for (stage, done, seconds, expected) in rows {
            assert_eq!(line(stage, done, 100 << 20, Duration::from_secs(seconds)), expected);
        }
        assert_eq!(line(Stage::Write, 0, 1, Duration::ZERO), "writing 0 B of 1 B, 0 B/s, 1 s left");
    }
}
