//! Ends every child's process group when a signal comes, and when the program is killed.

use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    process::{ChildStdin, Command, Stdio},
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process_group};

/// The wish to stop, shared by everything that runs; set by signals or by the first decision to give up.
#[derive(Clone, Default)]
pub struct Cancel {
    inner: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    interrupts: AtomicU32,
    keyboard_is_lent: AtomicBool,
    leaves_tidy: AtomicBool,
    groups: Mutex<Vec<Pid>>,
    /// Where it hears of every group; none where nobody is to look after them.
    guard: LazyLock<Option<Mutex<ChildStdin>>>,
}

/// Ends the groups of a program that is gone without having ended them. It hears of each as `+ GROUP` when it begins and as
/// `- GROUP` when it has ended; its input ends with the program, however that does.
const GUARD: &str = "trap '' INT TERM HUP QUIT
groups=
while read -r word group; do
  left=
  for other in $groups; do [ $other = $group ] || left=\"$left $other\"; done
  if [ $word = + ]; then groups=\"$left $group\"; else groups=$left; fi
done
end() { for group in $groups; do kill -s $1 -- -$group; done; }
if [ -n \"$groups\" ]; then end TERM; sleep 1.2; end KILL; fi";

fn guard() -> Option<Mutex<ChildStdin>> {
    let mut command = Command::new("sh");
    command.args(["-c", GUARD]).current_dir("/").process_group(0);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    child.ok().and_then(|child| child.stdin).map(Mutex::new)
}

impl Cancel {
    /// Listens for SIGINT, SIGTERM and SIGHUP. The first ends every child and lets the program say what was
    /// finished; the second kills everything and exits with 130 at once.
    pub fn on_signals() -> Result<Self> {
        let cancel = Self { inner: Arc::new(Shared { guard: LazyLock::new(guard), ..Shared::default() }) };
        let (watcher, signals) = (cancel.clone(), [libc_signal::INT, libc_signal::TERM, libc_signal::HUP]);
        let mut signals = signal_hook::iterator::Signals::new(signals).context("cannot listen for signals")?;
        thread::spawn(move || {
            for signal in &mut signals {
                if signal == libc_signal::INT && watcher.inner.keyboard_is_lent.load(Ordering::SeqCst) {
                    continue;
                }
                if watcher.set() > 1 && !watcher.inner.leaves_tidy.load(Ordering::SeqCst) {
                    watcher.signal_all(Signal::KILL);
                    std::process::exit(130);
                }
            }
        });
        Ok(cancel)
    }

    /// From now on Ctrl-C means something to the child that has the terminal, such as a shell, and nothing to us.
    pub fn lend_keyboard(&self) {
        self.inner.keyboard_is_lent.store(true, Ordering::SeqCst);
    }

    /// From now on no signal ends the program at once: what it has begun must not be left as it is.
    pub fn tidy_up_first(&self) {
        self.inner.leaves_tidy.store(true, Ordering::SeqCst);
    }

    /// Asks everything to stop and says how often that was asked.
    pub fn set(&self) -> u32 {
        let count = self.inner.interrupts.fetch_add(1, Ordering::SeqCst) + 1;
        self.signal_all(Signal::TERM);
        count
    }

    pub fn is_set(&self) -> bool {
        self.inner.interrupts.load(Ordering::SeqCst) > 0
    }

    fn signal_all(&self, signal: Signal) {
        for group in self.lock().iter() {
            // A group that is gone already is what we want.
            let _ = kill_process_group(*group, signal);
        }
    }

    /// Has a child's group ended with everything else.
    pub(super) fn begins(&self, group: Pid) {
        self.lock().push(group);
        self.tell('+', group);
    }

    /// Forgets a group that has ended.
    pub(super) fn ended(&self, group: Pid) {
        self.lock().retain(|other| *other != group);
        self.tell('-', group);
    }

    fn tell(&self, word: char, group: Pid) {
        if let Some(guard) = &*self.inner.guard {
            let mut guard = guard.lock().unwrap_or_else(PoisonError::into_inner);
            // One that was killed cannot be helped.
            let _ = writeln!(guard, "{word} {}", group.as_raw_nonzero());
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<Pid>> {
        self.inner.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The three signals that end a program politely, by their names in signal(7).
mod libc_signal {
    pub(super) use signal_hook::consts::{SIGHUP as HUP, SIGINT as INT, SIGTERM as TERM};
}

#[cfg(test)]
mod tests {
    use std::{fs, thread::sleep, time::Duration};

    use super::*;

    #[test]
    fn the_guard_gives_time_to_end_also_beside_a_group_that_is_gone() {
        let folder = crate::files::Temporary::new().unwrap();
        let [ready, ended] = ["ready", "ended"].map(|name| folder.join(name));
        let script = "trap 'sleep 0.3; : >\"$1\"; exit' TERM; : >\"$0\"; while :; do sleep 0.05; done";
        let mut slow =
            Command::new("sh").arg("-c").arg(script).args([&ready, &ended]).process_group(0).spawn().unwrap();
        let mut gone = Command::new("true").process_group(0).spawn().unwrap();
        gone.wait().unwrap();
        while !ready.exists() {
            sleep(Duration::from_millis(10));
        }
        let input = guard().unwrap();
        for group in [slow.id(), gone.id()] {
            writeln!(input.lock().unwrap(), "+ {group}").unwrap();
        }
        drop(input);
        slow.wait().unwrap();
        assert!(fs::exists(ended).unwrap(), "it was killed before it could end");
    }
}
