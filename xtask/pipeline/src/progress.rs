//! Shows what goes on while a person waits: moving lines on a terminal, plain lines elsewhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{IsTerminal as _, Write as _},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

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
    /// Where the job's stage stands.
    Standing(JobId, String),
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
    renderer: Mutex<Renderer>,
    /// Notes that were shown, without their digits: every Nix process repeats its warnings, and a retry
    /// differs from the last one only in its milliseconds.
    shown: Mutex<BTreeSet<String>>,
}

enum Renderer {
    Plain(Plain),
    Terminal(Box<Terminal>),
}

impl Default for Progress {
    fn default() -> Self {
        let renderer = Mutex::new(Renderer::Plain(Plain::new(0)));
        Self { started: Instant::now(), renderer, shown: Mutex::default() }
    }
}

impl Progress {
    /// A stage of so many jobs begins: moving lines if stderr is a terminal that can move, plain ones if not.
    pub fn expect(&self, total: usize) {
        self.finish();
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        *self.renderer() = match std::io::stderr().is_terminal() && !dumb && std::env::var_os("CI").is_none() {
            true => Renderer::Terminal(Box::new(Terminal::new(total))),
            false => Renderer::Plain(Plain::new(total)),
        };
    }

    fn renderer(&self) -> MutexGuard<'_, Renderer> {
        self.renderer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn tell(&self, event: Event) {
        if let Event::Note(text) = &event {
            let essence = text.chars().filter(|c| !c.is_ascii_digit()).collect();
            if !self.shown.lock().unwrap_or_else(PoisonError::into_inner).insert(essence) {
                return;
            }
        }
        let now = self.started.elapsed();
        match &mut *self.renderer() {
            Renderer::Plain(plain) => {
                let mut err = std::io::stderr().lock();
                for line in plain.lines(&event, now) {
                    // A reader that went away must not end the builds.
                    let _ = writeln!(err, "{line}");
                }
            }
            Renderer::Terminal(terminal) => terminal.take(event),
        }
    }

    /// Ends the moving part, so that what follows stands below it.
    pub fn finish(&self) {
        let ended = std::mem::replace(&mut *self.renderer(), Renderer::Plain(Plain::new(0)));
        if let Renderer::Terminal(mut terminal) = ended {
            terminal.finish();
        }
    }
}

/// Plain lines: one when a job's stage is done, one when it waits long, all in words.
struct Plain {
    total: usize,
    ended: usize,
    said: BTreeMap<JobId, (Duration, String)>,
}

impl Plain {
    /// A job that is silent longer than this gets a line that says where it stands.
    const SILENCE: Duration = Duration::from_secs(15);

    fn new(total: usize) -> Self {
        Self { total, ended: 0, said: BTreeMap::new() }
    }

    fn lines(&mut self, event: &Event, now: Duration) -> Vec<String> {
        let line = match event {
            Event::Began(id, _) => {
                self.said.insert(id.clone(), (now, String::new()));
                return vec![];
            }
            Event::Done(id, stage, took) => format!("{id}: {stage} in {:.1} s", took.as_secs_f64()),
            Event::Standing(id, text) => {
                let said = self.said.entry(id.clone()).or_insert((now, String::new()));
                if now.saturating_sub(said.0) < Self::SILENCE || said.1 == *text {
                    return vec![];
                }
                *said = (now, text.clone());
                format!("{id}: {text}")
            }
            Event::Ended(id, outcome) => {
                self.ended += 1;
                self.said.remove(id);
                format!("[{}/{}] {id}: {}", self.ended, self.total, words(id, outcome))
            }
            Event::Note(text) | Event::Line(text) => as_called(text),
        };
        vec![line]
    }
}

/// Moving lines: one for each job at work, and the total.
struct Terminal {
    bars: MultiProgress,
    total: ProgressBar,
    jobs: BTreeMap<JobId, (ProgressBar, &'static str)>,
}

impl Terminal {
    /// Lines for jobs at most; a fleet of hundreds must not scroll the screen away.
    const MOST: usize = 12;

    fn new(total: usize) -> Self {
        let bars = MultiProgress::new();
        let bar = bars.add(ProgressBar::new(total as u64));
        bar.set_style(style("{elapsed_precise} [{bar:30}] {pos}/{len} {msg}"));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bars, total: bar, jobs: BTreeMap::new() }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Began(id, stage) => self.line(id, stage, String::new()),
            Event::Done(..) => {}
            Event::Standing(id, text) => {
                let stage = self.jobs.get(&id).map_or("", |(_, stage)| stage);
                self.line(id, stage, text);
            }
            Event::Ended(id, outcome) => {
                if let Some((bar, _)) = self.jobs.remove(&id) {
                    bar.finish_and_clear();
                }
                self.total.inc(1);
                if !outcome.is_success() {
                    let _ = self.bars.println(format!("{id}: {}", words(&id, &outcome)));
                }
            }
            Event::Note(text) | Event::Line(text) => drop(self.bars.println(as_called(&text))),
        }
    }

    fn line(&mut self, id: JobId, stage: &'static str, text: String) {
        if !self.jobs.contains_key(&id) && self.jobs.len() >= Self::MOST {
            return;
        }
        let (bars, total) = (&self.bars, &self.total);
        let entry = self.jobs.entry(id.clone()).or_insert_with(|| {
            let bar = bars.insert_before(total, ProgressBar::new_spinner());
            bar.set_style(style("{spinner} {prefix:24} {elapsed:>4} {wide_msg}"));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar.set_prefix(id.to_string());
            (bar, stage)
        });
        entry.1 = stage;
        entry.0.set_message(format!("{stage} {text}"));
    }

    fn finish(&mut self) {
        for (bar, _) in self.jobs.values() {
            bar.finish_and_clear();
        }
        self.total.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
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

    #[test]
    fn plain_lines_by_a_fake_clock() {
        let id = || JobId::try_from("web.iso".to_owned()).unwrap();
        let rows: [(u64, Event, &[&str]); 7] = [
            (0, Event::Began(id(), "build"), &[]),
            (1, Event::Standing(id(), "builds 1/9".into()), &[]),
            (16, Event::Standing(id(), "builds 2/9".into()), &["web.iso: builds 2/9"]),
            (20, Event::Standing(id(), "builds 3/9".into()), &[]),
            (40, Event::Standing(id(), "builds 2/9".into()), &[]),
            (50, Event::Done(id(), "evaluated", Duration::from_millis(1250)), &["web.iso: evaluated in 1.2 s"]),
            (60, Event::Ended(id(), Outcome::Built), &["[1/2] web.iso: built"]),
        ];
        let mut plain = Plain::new(2);
        for (second, event, expected) in rows {
            assert_eq!(plain.lines(&event, Duration::from_secs(second)), expected, "{event:?}");
        }
    }
}
