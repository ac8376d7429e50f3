//! Ends every child's process group when a signal comes.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
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
}

impl Cancel {
    /// Listens for SIGINT, SIGTERM and SIGHUP. The first ends every child and lets the program say what was
    /// finished; the second kills everything and exits with 130 at once.
    pub fn on_signals() -> Result<Self> {
        let cancel = Self::default();
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

    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<Pid>> {
        self.inner.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The three signals that end a program politely, by their names in signal(7).
mod libc_signal {
    pub(super) use signal_hook::consts::{SIGHUP as HUP, SIGINT as INT, SIGTERM as TERM};
}
