//! Shows what goes on while a person waits: moving lines on a terminal, plain lines elsewhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::{IsTerminal as _, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use unicode_width::UnicodeWidthChar as _;

use crate::{
    diagnostic::as_called,
    job::{JobId, Outcome, Target},
};

/// Something that a watcher wants to know.
#[derive(Clone, Debug)]
pub enum Event {
    /// A stage of the job began.
    Began(JobId, &'static str),
    /// A stage of the job is done and took so long.
    Done(JobId, &'static str, Duration),
    /// Where the stage of jobs stands that are carried out together.
    Standing(Vec<JobId>, String),
    /// The job came to its end.
    Ended(JobId, Outcome),
    /// A word that belongs to no job.
    Note(String),
    /// A line of a job's own output, shown however often it comes.
    Line(String),
}

/// Shows events on stderr, from any thread.
pub struct Progress {
    started: Instant,
    display: Arc<Mutex<Display>>,
    /// Notes that were shown, without their digits: every Nix process repeats its warnings, and a retry
    /// differs from the last one only in its milliseconds.
    shown: Mutex<BTreeSet<String>>,
}

#[derive(Default)]
struct Display {
    board: Board,
    /// Lines that move are at the end of the screen, so many of them; none if nothing moves.
    drawn: Option<usize>,
}

impl Default for Progress {
    fn default() -> Self {
        Self { started: Instant::now(), display: Arc::default(), shown: Mutex::default() }
    }
}

fn lock(display: &Mutex<Display>) -> MutexGuard<'_, Display> {
    display.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Progress {
    /// How often moving lines are drawn.
    const TICK: Duration = Duration::from_millis(200);

    /// A stage of so many jobs begins: moving lines if stderr is a terminal that can move, plain ones if not.
    pub fn expect(&self, total: usize) {
        self.finish();
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let moves = std::io::stderr().is_terminal() && !dumb && std::env::var_os("CI").is_none();
        let began = self.started.elapsed();
        *lock(&self.display) = Display { board: Board { total, began, ..Board::default() }, drawn: moves.then_some(0) };
        if moves {
            let (weak, started) = (Arc::downgrade(&self.display), self.started);
            // It ends with the stage that it draws, or with the run.
            thread::spawn(move || {
                while let Some(display) = weak.upgrade() {
                    let mut display = lock(&display);
                    if display.drawn.is_none() || display.board.began != began {
                        break;
                    }
                    display.draw(&[], started.elapsed());
                    drop(display);
                    thread::sleep(Self::TICK);
                }
            });
        }
    }

    pub fn tell(&self, event: Event) {
        if let Event::Note(text) = &event {
            let essence = text.chars().filter(|c| !c.is_ascii_digit()).collect();
            if !self.shown.lock().unwrap_or_else(PoisonError::into_inner).insert(essence) {
                return;
            }
        }
        let now = self.started.elapsed();
        let mut display = lock(&self.display);
        let moves = display.drawn.is_some();
        let lines: Vec<String> = display.board.take(&event, now, moves).into_iter().collect();
        if !lines.is_empty() {
            display.draw(&lines, now);
        }
    }

    /// Ends the moving part, so that what follows stands below it.
    pub fn finish(&self) {
        let mut display = lock(&self.display);
        display.board = Board::default();
        display.draw(&[], Duration::ZERO);
        display.drawn = None;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Display {
    /// Writes lines that stay, and below them those that move.
    fn draw(&mut self, stay: &[String], now: Duration) {
        let mut out = String::new();
        if let Some(drawn) = self.drawn {
            let (width, height) = size();
            let moving = if self.board.total == 0 { vec![] } else { self.board.lines(now, width, height) };
            if drawn > 0 {
                let _ = write!(out, "\x1b[{drawn}A\r\x1b[J");
            }
            self.drawn = Some(moving.len());
            stay.iter().chain(&moving).for_each(|line| out.extend([line, "\n"]));
        } else {
            stay.iter().for_each(|line| out.extend([line, "\n"]));
        }
        // A reader that went away must not end the builds.
        let _ = std::io::stderr().lock().write_all(out.as_bytes());
    }
}

/// Columns and rows of the terminal.
fn size() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(std::io::stderr()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
    size.map_or((80, 24), |size| (size.ws_col.into(), size.ws_row.into()))
}

/// What is known of the jobs of a stage. Times count from the start of the run.
#[derive(Default)]
struct Board {
    total: usize,
    ended: usize,
    failed: usize,
    began: Duration,
    jobs: BTreeMap<JobId, Work>,
}

/// A job at work.
struct Work {
    began: Duration,
    stage: &'static str,
    standing: String,
    /// When a plain line was last written of it, and how long it is silent now.
    said: Duration,
    silence: Duration,
}

impl Work {
    fn new(stage: &'static str, now: Duration) -> Self {
        Self { began: now, stage, standing: String::new(), said: now, silence: Board::SILENCE }
    }
}

impl Board {
    /// A job that goes on gets a plain line after this time, then after twice as long, and so on up to the longest: of a
    /// build that takes an hour there are ten.
    const SILENCE: Duration = Duration::from_secs(30);
    const LONGEST_SILENCE: Duration = Duration::from_secs(480);

    /// Moving lines at most; a fleet of hundreds must not scroll the screen away.
    const MOST: usize = 12;

    /// Takes in an event. Returns the line that stays of it, if there is one.
    fn take(&mut self, event: &Event, now: Duration, moves: bool) -> Option<String> {
        match event {
            Event::Began(id, stage) => {
                self.jobs.insert(id.clone(), Work::new(stage, now));
                None
            }
            Event::Done(id, stage, took) => (!moves).then(|| format!("{id}: {stage} in {:.1} s", took.as_secs_f64())),
            Event::Standing(ids, text) => {
                for id in ids {
                    // What is remembered is built without having been evaluated.
                    let work = self.jobs.entry(id.clone()).or_insert_with(|| Work::new("build", now));
                    work.standing.clone_from(text);
                }
                let id = ids.first()?;
                let work =
                    self.jobs.get_mut(id).filter(|work| !moves && now.saturating_sub(work.said) >= work.silence)?;
                (work.said, work.silence) = (now, (work.silence * 2).min(Self::LONGEST_SILENCE));
                let since = span(now.saturating_sub(work.began));
                Some(format!("{id}: {} {since}: {}{text}", work.stage, others(ids.len() - 1)))
            }
            Event::Ended(id, outcome) => {
                self.ended += 1;
                self.failed += usize::from(!outcome.is_success());
                self.jobs.remove(id);
                Some(format!("[{}/{}] {id}: {}", self.ended, self.total, words(id, outcome)))
            }
            Event::Note(text) | Event::Line(text) => Some(as_called(text)),
        }
    }

    /// A line for each job that moves, those of one batch in one, and the sum.
    fn lines(&self, now: Duration, width: usize, height: usize) -> Vec<String> {
        let mut groups: Vec<(&JobId, &Work, usize)> = Vec::new();
        for (id, work) in &self.jobs {
            match groups.iter_mut().find(|(_, other, _)| !work.standing.is_empty() && work.standing == other.standing) {
                Some((.., more)) => *more += 1,
                None => groups.push((id, work, 0)),
            }
        }
        let most = Self::MOST.min(height.saturating_sub(3));
        // A name has up to a third of the line.
        let names = groups.iter().take(most).map(|(id, ..)| id.to_string().len()).max().unwrap_or(0).min(width / 3);
        let mut lines: Vec<String> = groups
            .iter()
            .take(most)
            .map(|(id, work, more)| {
                let since = span(now.saturating_sub(work.began));
                let name = shortened(id, names);
                cut(&format!("{name:names$}  {:8} {since:>6}  {}{}", work.stage, others(*more), work.standing), width)
            })
            .collect();
        let hidden: usize = groups.iter().skip(most).map(|(.., more)| more + 1).sum();
        let waiting = self.total.saturating_sub(self.ended + self.jobs.len());
        let sum = format!("[{}/{}] {}", self.ended, self.total, span(now.saturating_sub(self.began)));
        let parts = [(hidden, "more at work"), (waiting, "to come"), (self.failed, "failed")];
        let parts = parts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!(", {n} {word}"));
        lines.push(cut(&format!("{sum}{}", parts.collect::<String>()), width));
        lines
    }
}

fn others(more: usize) -> String {
    if more > 0 { format!("(and {more} more) ") } else { String::new() }
}

/// A time in five letters.
fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        seconds => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// A job's name in so many columns; of a long one the end is kept, which says what of the host it is.
fn shortened(id: &JobId, columns: usize) -> String {
    let name = id.to_string();
    let target = id.target.to_string().len() + 1;
    match name.len() > columns && columns > target {
        true => format!("{}…{}", &name[..columns - target - 1], &name[name.len() - target..]),
        false => name,
    }
}

/// What fits into one line of a terminal.
fn cut(line: &str, width: usize) -> String {
    let mut left = width.saturating_sub(1);
    let fits = |c: &char| {
        let columns = c.width().unwrap_or(0);
        let fits = columns <= left;
        left = left.saturating_sub(columns);
        fits
    };
    line.chars().filter(|c| !c.is_control()).take_while(fits).collect::<String>().trim_end().to_owned()
}

fn words(id: &JobId, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Built if matches!(id.target, Target::Test(_)) => "passed".into(),
        Outcome::Present if matches!(id.target, Target::Test(_)) => "passed before".into(),
        Outcome::Present => "already there".into(),
        Outcome::Fetched => "fetched".into(),
        Outcome::Built => "built".into(),
        Outcome::Failed(failure) => {
            format!("FAILED to {}: {}", failure.stage.as_str(), failure.message.lines().next().unwrap_or_default())
        }
        Outcome::NotRun { reason } => format!("not run: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> JobId {
        JobId::try_from(text.to_owned()).unwrap()
    }

    fn standing(job: &str, text: &str) -> Event {
        Event::Standing(vec![id(job)], text.into())
    }

    #[test]
    fn plain_lines_by_a_fake_clock() {
        let rows: [(u64, Event, &[&str]); 10] = [
            (0, Event::Began(id("web.iso"), "build"), &[]),
            (1, standing("web.iso", "1/9 built"), &[]),
            (31, standing("web.iso", "2/9 built"), &["web.iso: build 31 s: 2/9 built"]),
            (62, standing("web.iso", "3/9 built"), &[]),
            (91, standing("web.iso", "4/9 built"), &["web.iso: build 1m31s: 4/9 built"]),
            (400, standing("web.iso", "4/9 built"), &["web.iso: build 6m40s: 4/9 built"]),
            (401, standing("known.iso", "0/1 built"), &[]),
            (431, standing("known.iso", "0/1 built"), &["known.iso: build 30 s: 0/1 built"]),
            (
                450,
                Event::Done(id("web.iso"), "evaluated", Duration::from_millis(1250)),
                &["web.iso: evaluated in 1.2 s"],
            ),
            (460, Event::Ended(id("web.iso"), Outcome::Built), &["[1/2] web.iso: built"]),
        ];
        let mut board = Board { total: 2, ..Board::default() };
        for (second, event, expected) in rows {
            let said = board.take(&event, Duration::from_secs(second), false);
            assert_eq!(said.iter().collect::<Vec<_>>(), expected, "{second} {event:?}");
        }
    }

    /// Five jobs in one batch whose 500 derivations take 20 s each, one after another.
    #[test]
    fn five_hundred_derivations_are_a_few_plain_lines() {
        let jobs = ["a.iso", "b.iso", "c.iso", "d.iso", "e.iso"];
        let mut board = Board { total: 5, ..Board::default() };
        let mut lines = Vec::new();
        for job in jobs {
            lines.extend(board.take(&Event::Began(id(job), "build"), Duration::ZERO, false));
        }
        for n in 0..500 {
            let standing = Event::Standing(jobs.map(id).to_vec(), format!("{n}/500 built"));
            lines.extend(board.take(&standing, Duration::from_secs(20 * n), false));
        }
        assert_eq!(lines[0], "a.iso: build 40 s: (and 4 more) 2/500 built");
        assert!((10..30).contains(&lines.len()), "{lines:#?}");
    }

    fn board() -> Board {
        let mut board = Board { total: 30, ..Board::default() };
        let name = "a-host-with-a-long-name.tests.install";
        let mut at = |second, event: Event| drop(board.take(&event, Duration::from_secs(second), true));
        at(0, Event::Began(id("web.iso"), "build"));
        at(5, standing("web.iso", "3/9 built: linux-6.1; 2/5 fetched: busybox"));
        at(9, Event::Began(id(name), "test"));
        at(9, standing(name, "uefi usb: the ISO starts and does its work"));
        at(9, Event::Began(id("db.system"), "build"));
        at(9, standing("db.system", "3/9 built: linux-6.1; 2/5 fetched: busybox"));
        at(9, Event::Ended(id("mail.iso"), Outcome::Built));
        at(9, Event::Ended(id("old.iso"), Outcome::NotRun { reason: "r".into() }));
        board
    }

    #[test]
    fn moving_lines_by_a_fake_clock_at_two_widths() {
        let narrow = [
            "a-host-with….tests.install  test      1m01s  uefi usb: the ISO starts and does",
            "db.system                   build     1m01s  (and 1 more) 3/9 built: linux-6.1;",
            "[2/30] 1m10s, 25 to come, 1 failed",
        ];
        assert_eq!(board().lines(Duration::from_secs(70), 80, 24), narrow);
        let wide = [
            "a-host-with-a-long-name.tests.install  test      1m01s  uefi usb: the ISO starts and does its work",
            "db.system                              build     1m01s  (and 1 more) 3/9 built: linux-6.1; 2/5 fetched: busybox",
            "[2/30] 1m10s, 25 to come, 1 failed",
        ];
        assert_eq!(board().lines(Duration::from_secs(70), 200, 24), wide);
        let low = board().lines(Duration::from_secs(7000), 80, 4);
        assert_eq!(low[1..], ["[2/30] 1h56m, 2 more at work, 25 to come, 1 failed"]);
        assert_eq!((cut("日本語x", 6), cut("a\u{7}b", 9)), ("日本".to_owned(), "ab".to_owned()));
    }
}
