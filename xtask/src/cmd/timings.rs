//! `--timings`: what was measured of a run in, a page on disk out.
#![expect(clippy::print_stderr, reason = "a verb says where it wrote")]

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use camino::Utf8PathBuf;

use crate::{
    eval::Reply,
    fleet,
    report::{
        record::FleetRecord,
        timings::{self, About},
    },
    timings::{Mark, Timings, What, end_with_outputs, needs},
};

/// Writes the page where `file` says, or below target/xtask/timings by the time of day, and prints where.
pub fn write(
    file: Option<&Utf8PathBuf>,
    timings: &Timings,
    command: &str,
    fleet: &FleetRecord,
    nix: &str,
) -> Result<()> {
    let mut spans = timings.spans();
    let read = |drv: &str| fs::read_to_string(drv).ok();
    let changed = |path: &str| {
        let meta = fs::symlink_metadata(path).ok()?;
        let since = Duration::new(u64::try_from(meta.ctime()).ok()?, u32::try_from(meta.ctime_nsec()).ok()?);
        Some(timings.since(UNIX_EPOCH + since))
    };
    end_with_outputs(&mut spans, &read, &changed);
    let needs = needs(&spans, &read);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let about = About {
        command,
        fleet,
        nix,
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory: kib.and_then(|kib| kib.trim().parse::<u64>().ok()).map(|kib| kib * 1024),
        ended: &utc(now),
    };
    let page = timings::render(&about, &spans, &needs);
    let file = file.cloned().unwrap_or_else(|| {
        let base = fleet::workspace().unwrap_or_else(|| ".".into());
        base.join("target/xtask/timings").join(format!("timings-{}.html", utc(now).replace([':', ' '], "-")))
    });
    let folder = file.parent().filter(|folder| *folder != "");
    folder.map_or(Ok(()), fs::create_dir_all).with_context(|| format!("cannot make the folder of {file}"))?;
    fs::write(&file, page).with_context(|| format!("cannot write the timings to {file}"))?;
    eprintln!("timings: {file}");
    Ok(())
}

/// A time since 1970 as `2026-11-22 19:40:11`, in UTC. The calendar is that of Howard Hinnant's "chrono-compatible
/// low-level date algorithms" (`civil_from_days`).
fn utc(since: Duration) -> String {
    let (days, rest) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, past) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year_of_era + era * 400 + past;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

/// The times of one evaluator process after another, which take jobs from the same queue.
pub struct Clock<'a> {
    timings: &'a Timings,
    process: Option<Mark>,
    job: Option<Mark>,
    /// True once the job has found an evaluator that had read the flake.
    loaded: bool,
    last: Option<Mark>,
}

impl<'a> Clock<'a> {
    pub fn new(timings: &'a Timings) -> Self {
        Self { timings, process: None, job: None, loaded: false, last: None }
    }

    pub fn take(&mut self, reply: &Reply) {
        match reply {
            Reply::Began(id) => {
                let job = self.timings.begin(What::Evaluation, id.to_string(), self.process);
                self.timings.follows(job, self.last);
                (self.job, self.loaded) = (Some(job), false);
            }
            // A job that outgrew what is left of an evaluator goes on in another.
            Reply::Started => {
                let process = self.timings.begin(What::Evaluator, "", None);
                self.job.into_iter().for_each(|job| self.timings.moves(job, process));
                self.process = Some(process);
            }
            // What was before is the time that the evaluator took to read the flake.
            Reply::Loaded => {
                let job = self.job.filter(|_| !std::mem::replace(&mut self.loaded, true));
                job.into_iter().for_each(|job| self.timings.begin_again(job));
            }
            Reply::Done(_, derivation, ..) => {
                let key = derivation.drv.to_string();
                self.job.into_iter().for_each(|job| self.timings.tell(job, |span| span.key = key.clone()));
                self.settled(true);
            }
            Reply::Failed(..) | Reply::Outgrew(..) => self.settled(false),
            Reply::Stopped(bytes) => {
                if let Some(process) = self.process.take() {
                    self.timings.tell(process, |span| span.memory = Some(*bytes));
                    self.timings.end(process, true);
                }
            }
            Reply::Note(_) => {}
        }
    }

    fn settled(&mut self, ok: bool) {
        if let Some(job) = self.job.take() {
            self.timings.end(job, ok);
            self.last = Some(job);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_day() {
        let rows = [
            (0, "1970-01-01 00:00:00"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_795_376_411, "2026-11-22 19:40:11"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ];
        for (seconds, expected) in rows {
            assert_eq!(utc(Duration::from_secs(seconds)), expected);
        }
    }
}
