//! Samples the peak memory of every process below this one from proc(5) while they run.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// How often the processes are looked at.
const INTERVAL: Duration = Duration::from_millis(20);

/// The most memory that was seen, in bytes. What several processes share counts for each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peak {
    /// Of all processes together, at the worst moment.
    pub all: u64,
    /// Of the child itself, without the processes that it started.
    pub own: u64,
}

impl Peak {
    pub fn most(self, other: Self) -> Self {
        Self { all: self.all.max(other.all), own: self.own.max(other.own) }
    }
}

/// A watch that runs until it is asked what it has seen.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Peak>,
}

impl Watch {
    pub fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut peak = Peak::default();
            while !stopped.load(Ordering::Relaxed) {
                peak = peak.most(now());
                thread::sleep(INTERVAL);
            }
            peak
        });
        Self { stop, thread }
    }

    /// The peaks, or nothing where proc(5) tells nothing or a child was too quick to be seen.
    pub fn end(self) -> Option<Peak> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().filter(|peak| peak.all > 0)
    }
}

/// What the processes below this one use at this moment.
fn now() -> Peak {
    let mut peak = Peak::default();
    let children = children(std::process::id());
    for child in &children {
        peak.own = peak.own.max(high_water(*child).unwrap_or(0));
    }
    let mut waiting = children;
    while let Some(pid) = waiting.pop() {
        peak.all += resident(pid).unwrap_or(0);
        waiting.extend(self::children(pid));
    }
    peak
}

/// The children that each thread of a process has started. A process that has gone has none.
fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

fn resident(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// The most that a process has ever used, which the kernel remembers.
fn high_water(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kilobytes = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(kilobytes.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Cancel, Invocation};

    #[test]
    fn a_grandchild_counts_for_all_and_not_for_the_child() {
        // `dd` keeps one block of 64 MiB in memory and fills it; the shell that waits for it stays small.
        let script = "dd if=/dev/zero of=/dev/null bs=64M count=40 && exit 0";
        let watch = Watch::start();
        Invocation::new(["sh", "-c", script]).read(&Cancel::default()).unwrap();
        let peak = watch.end().expect("proc(5) lists children");
        // Other tests of this process may have children of their own, which only adds to both.
        assert!(peak.all > 64 << 20, "{peak:?}");
        assert!(peak.all > peak.own, "{peak:?}");
    }
}
