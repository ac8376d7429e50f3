//! Writes what a host unfolds to: failures, what its machines showed, what changed, and each job.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::{
    Comparison, column_name,
    words::{duration, failed_to, shown, sign, tail},
};
use crate::{
    base64,
    diagnostic::{bytes, counted},
    history::{History, Measured},
    job::{Failure, HostName, JobId, Outcome, System, Target},
    record::{JobRecord, Record, Screen},
    table::causes,
};

/// One host of the page.
pub struct Host<'a> {
    pub name: &'a HostName,
    pub system: &'a System,
    pub jobs: BTreeMap<Target, &'a JobRecord>,
    pub failed: Vec<(&'a JobRecord, &'a Failure)>,
    /// The job that first failed by the cause of this one, where that is another.
    same: BTreeMap<Target, &'a JobId>,
    /// Bytes of a failure's words that are shown.
    room: usize,
    comparison: Option<&'a Comparison>,
    history: &'a History,
}

/// The hosts of all records, failing ones first.
pub fn all<'a>(records: &[&'a Record], history: &'a History, comparison: Option<&'a Comparison>) -> Vec<Host<'a>> {
    let mut hosts: BTreeMap<&HostName, Host<'a>> = BTreeMap::new();
    for job in records.iter().flat_map(|record| &record.jobs) {
        let name = &job.job.host;
        let host = hosts.entry(name).or_insert_with(|| Host {
            name,
            system: &job.system,
            jobs: BTreeMap::new(),
            failed: vec![],
            same: BTreeMap::new(),
            room: 0,
            comparison,
            history,
        });
        host.jobs.insert(job.job.target, job);
    }
    for host in hosts.values_mut() {
        host.failed = host.jobs.values().filter_map(|job| Some((*job, job.outcome.failure()?))).collect();
    }
    let failed: Vec<_> = hosts.values().flat_map(|host| host.failed.clone()).collect();
    let causes = causes(failed.into_iter().map(|(job, failure)| (&job.job, failure)));
    // A page stays readable, and below 2 MB, however much failed.
    let room = (600_000 / causes.len().max(1)).clamp(1_000, 16_000);
    hosts.values_mut().for_each(|host| host.room = room);
    for (_, ids) in &causes {
        for id in &ids[1..] {
            if let Some(host) = hosts.get_mut(&id.host) {
                host.same.insert(id.target, ids[0]);
            }
        }
    }
    let mut hosts: Vec<Host<'a>> = hosts.into_values().collect();
    hosts.sort_by_key(|host| host.jobs.values().map(|job| sign(&job.job, &job.outcome).is_good()).min());
    hosts
}

/// Gives pictures until the page has enough of them.
pub struct Pictures<'p> {
    read: &'p dyn Fn(&Screen) -> Option<Vec<u8>>,
    left: usize,
}

impl<'p> Pictures<'p> {
    /// Bytes of pictures in a page: those of about 500 boots in text mode.
    const MOST: usize = 6 << 20;

    pub fn new(read: &'p dyn Fn(&Screen) -> Option<Vec<u8>>) -> Self {
        Self { read, left: Self::MOST }
    }

    fn take(&mut self, screen: &Screen) -> Result<Vec<u8>, &'static str> {
        let bytes = (self.read)(screen).ok_or("not there any more")?;
        self.left = self.left.checked_sub(bytes.len()).ok_or("left out: the page has many")?;
        Ok(bytes)
    }
}

impl Host<'_> {
    pub fn body(&self, pictures: &mut Pictures<'_>) -> Markup {
        html! {
            div.body {
                @for (job, failure) in &self.failed { (self.failure(job, failure)) }
                (self.screens(pictures))
                @if let Some(comparison) = self.comparison { (self.changes(comparison)) }
                h3 { "Jobs" }
                @for job in self.jobs.values() { (self.job(job)) }
            }
        }
    }

    fn changes(&self, comparison: &Comparison) -> Markup {
        const MOST: usize = 60;
        let base = comparison.base.get(..12).unwrap_or(&comparison.base);
        html! {
            h3 { "What changed since " code { (shown(base, 100)) } }
            @if let Some(sections) = comparison.changes.get(self.name) {
                ul.changes {
                    @for (title, lines) in sections {
                        li {
                            (shown(title, 300))
                            @if !lines.is_empty() { ul { @for line in lines.iter().take(MOST) { li { code { (shown(line, 200)) } } } } }
                            @if lines.len() > MOST { "and " (lines.len() - MOST) " more" }
                        }
                    }
                }
            } @else { p { "Nothing." } }
        }
    }

    fn failure(&self, job: &JobRecord, failure: &Failure) -> Markup {
        html! {
            section.failure {
                h3 { (column_name(job.job.target)) " " (failed_to(failure.stage)) }
                @if let Some(first) = self.same.get(&job.job.target) {
                    p { "For the same cause as " a href=(format!("#{}", first.host)) { (first) } "." }
                } @else {
                    @if let Some(position) = &failure.position { p { "At " code { (shown(&position.to_string(), 300)) } } }
                    pre { (shown(&failure.message, self.room / 2)) }
                    @if !failure.log_tail.is_empty() {
                        p { "The end of its log:" }
                        pre.log tabindex="0" { code { (tail(&failure.log_tail, self.room)) } }
                    }
                    @if !failure.reproduce.is_empty() { p { "To repeat it:" } pre { (shown(&failure.reproduce, self.room.min(2000))) } }
                }
            }
        }
    }

    /// What the machines of its tests showed, failures first.
    fn screens(&self, pictures: &mut Pictures<'_>) -> Markup {
        let of = |job: &&JobRecord| job.test.iter().flat_map(|test| test.screens.clone()).collect::<Vec<_>>();
        let all = self.jobs.values().flat_map(|job| of(job).into_iter().map(|screen| (job.job.target, screen)));
        let mut screens: Vec<(Target, Screen)> = all.collect();
        screens.sort_by_key(|(_, screen)| screen.passed);
        let taken = screens.iter().map(|(target, screen)| (*target, screen, pictures.take(screen)));
        let (there, missing): (Vec<_>, Vec<_>) = taken.partition(|(_, _, picture)| picture.is_ok());
        html! {
            @if !screens.is_empty() { h3 { "What its machines showed" } }
            @if !there.is_empty() {
                div.screens {
                    @for (target, screen, picture) in &there {
                        @if let Ok(picture) = picture { (self.screen(*target, screen, picture)) }
                    }
                }
            }
            @if let [(_, _, Err(why)), ..] = missing.as_slice() { p { small { (counted(missing.len(), "picture")) " " (why) } } }
        }
    }

    fn screen(&self, target: Target, screen: &Screen, picture: &[u8]) -> Markup {
        let (class, letter, word) = if screen.passed { ("ok", "P", "passed") } else { ("bad", "X", "failed") };
        let (boot, test) = (shown(&screen.boot, 100), column_name(target));
        let (width, height) = extent(picture);
        html! {
            figure class=(class) {
                img src=(format!("data:image/png;base64,{}", base64::encode(picture))) width=(width) height=(height) tabindex="0"
                    alt=(format!("The screen of {}, {test}, boot {boot}, which {word}", self.name));
                figcaption { b title=(word) { (letter) } span { (boot) small { (test) } } }
            }
        }
    }

    fn job(&self, job: &JobRecord) -> Markup {
        let sign = sign(&job.job, &job.outcome);
        let part = |word: &str, seconds: Option<f64>| seconds.map(|seconds| format!("{word} {}", duration(seconds)));
        let test = job.test.as_ref();
        let outside = |place: &str| if place == "outside" { ", outside the sandbox" } else { "" };
        let parts = [
            test.map(|test| format!("{}{}", shown(&test.accel.to_uppercase(), 20), outside(&test.place))),
            test.filter(|test| test.runs > 1)
                .map(|test| format!("passed {} of {}", test.passed, counted(test.runs, "run"))),
            part("evaluated in", job.evaluate_seconds),
            part("built in", job.build_seconds.filter(|_| job.test.is_none())),
            job.machine.as_ref().map(|machine| format!("on {}", shown(machine, 100))),
            job.closure_size.map(|size| format!("closure {}", bytes(size))),
        ];
        html! {
            section class=(format!("job {}", sign.class)) {
                h4 { b { (sign.letter) } (column_name(job.job.target)) " " span { (why(job)) } }
                @if parts.iter().any(Option::is_some) { p { (parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")) } }
                (self.trends(job))
                @if let Some(test) = test {
                    ul.subtests {
                        @for subtest in test.subtests.iter().take(100) {
                            li style=[(subtest.depth > 0).then(|| format!("margin-left:{}em", subtest.depth.min(8)))] {
                                (shown(&subtest.name, 200)) " "
                                @if let Some(seconds) = subtest.seconds { small { (duration(seconds)) } } @else { b { "did not end" } }
                            }
                        }
                    }
                }
                @if let Some(image) = &job.image {
                    p { "Download " code { (shown(&image.file, 200)) } " " small { (bytes(image.size)) } br;
                        small { "SHA-256 " code { (shown(&image.sha256, 100)) } } }
                }
                @if let Some(derivation) = &job.derivation { p { small { code { (shown(derivation.out.as_str(), 300)) } } } }
            }
        }
    }

    /// How its time and its size went over the last runs and this one.
    fn trends(&self, job: &JobRecord) -> Markup {
        let last = self.history.last(&job.job);
        let seconds = job.build_seconds.filter(|_| job.outcome.is_success() && job.outcome != Outcome::Present);
        let size = job.image.as_ref().map(|image| image.size).or(job.closure_size);
        let of =
            |value: fn(&Measured) -> Option<f64>, now: Option<f64>| last.iter().filter_map(value).chain(now).collect();
        let times: Vec<f64> = of(|run| run.seconds, seconds);
        let sizes: Vec<f64> = of(|run| Some(run.image_size.or(run.closure_size)? as f64), size.map(|size| size as f64));
        html! {
            @if times.len().max(sizes.len()) > 1 {
                p.trends {
                    (trend("time", &times, duration))
                    (trend("size", &sizes, |size| bytes(size as u64)))
                }
            }
        }
    }
}

/// Why a job was or was not carried out.
fn why(job: &JobRecord) -> String {
    let test = matches!(job.job.target, Target::Test(_));
    match &job.outcome {
        Outcome::Present if test => "passed before: the very same derivation, so it was not run again".into(),
        Outcome::Present => "was there before: nothing that it is made of has changed".into(),
        Outcome::Fetched => "came from a binary cache".into(),
        Outcome::Built if test => match &job.test {
            Some(test) if test.seconds > 0.0 => format!("passed in {}", duration(test.seconds)),
            _ => "passed".into(),
        },
        Outcome::Built => "was built, because it was neither here nor in a binary cache".into(),
        Outcome::Failed(failure) => failed_to(failure.stage),
        Outcome::NotRun { reason } => format!("was not run: {}", shown(reason, 300)),
    }
}

/// A line that fits beside words; nothing of fewer than two values.
fn trend(name: &str, values: &[f64], unit: impl Fn(f64) -> String) -> Markup {
    let (low, high) = values.iter().fold((f64::MAX, 0_f64), |(low, high), value| (low.min(*value), high.max(*value)));
    let spread = if high > low { high - low } else { 1.0 };
    let step = 100.0 / values.len().saturating_sub(1).max(1) as f64;
    let point =
        |(n, value): (usize, &f64)| format!("{:.0},{:.1}", n as f64 * step, 18.0 - (value - low) / spread * 16.0);
    let points: Vec<String> = values.iter().enumerate().map(point).collect();
    html! {
        @if let [_, .., last] = values {
            span {
                (name) " "
                svg viewBox="0 0 100 20" preserveAspectRatio="none" aria-hidden="true" { polyline points=(points.join(" ")) {} }
                " " (unit(*last)) small { " " (unit(low)) " to " (unit(high)) " in " (counted(values.len(), "run")) }
            }
        }
    }
}

/// The width and the height that a PNG says it has.
fn extent(png: &[u8]) -> (u32, u32) {
    let number = |at: usize| png.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(4, u32::from_be_bytes);
    (number(16).clamp(1, 9999), number(20).clamp(1, 9999))
}
