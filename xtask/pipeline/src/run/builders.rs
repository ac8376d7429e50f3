//! Chooses who builds: asks remote builders whether they live, before the first build and after each failure.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use anyhow::Result;

use super::Run;
use crate::{
    job::Job,
    nix::{Builder, Settings, argv::BuildOptions, remote},
    progress::Event,
};

/// The options for builds of a run, with the remote builders that lived when they were asked last.
pub struct Builders<'r> {
    run: &'r Run<'r>,
    settings: Settings,
    options: Mutex<BuildOptions>,
}

impl<'r> Builders<'r> {
    /// Asks the remote builders whether they live, has Nix use only those, and says who builds for the systems
    /// that are not this machine's own, before anybody waits for them. Errors: Nix cannot be asked for its settings.
    pub fn ask(run: &'r Run<'r>, jobs: &[Job]) -> Result<Self> {
        let settings = run.nix.settings(run.cancel)?;
        let builders = Self { run, settings, options: Mutex::new(run.options.build.clone()) };
        let live = builders.living(&run.options.build, "is left out");
        if let Some(live) = &live {
            builders.change(|options| options.builders = Some(live.join(" ; ")));
        }
        let live = live.unwrap_or_else(|| builders.lines(&run.options.build));
        let systems: BTreeSet<&str> = jobs.iter().map(|job| job.system.as_str()).collect();
        for system in systems {
            run.progress.tell(Event::Note(match builders.settings.builder_of(system, &live) {
                Builder::Native => continue,
                Builder::Remote => format!("{system}: built by remote builders"),
                Builder::Emulated => {
                    format!("{system}: builders run emulated here (binfmt), 8 to 15 times slower than native ones")
                }
                Builder::Nobody(why) => format!("warning: {why}"),
            }));
        }
        Ok(builders)
    }

    /// The options as they are now.
    pub fn options(&self) -> BuildOptions {
        self.change(|options| options.clone())
    }

    /// After a failure of a build with such options: true if a builder of them lives no more, and the options are without
    /// it now. Nix itself does not give what a builder had accepted to another one.
    pub fn have_died_since(&self, used: &BuildOptions) -> bool {
        self.change(|options| {
            // Also if another failure has found one already: a second may have died since.
            if let Some(live) = self.living(options, "has died; what it was building is built elsewhere") {
                options.builders = Some(live.join(" ; "));
            }
            self.lines(options) != self.lines(used)
        })
    }

    /// Those that answer; none if all do. What the others suffer from is told.
    fn living(&self, options: &BuildOptions, fate: &str) -> Option<Vec<String>> {
        let probes = remote::probe(self.run.nix.version, &self.lines(options), self.run.cancel);
        // Whoever was interrupted while it was asked has not died.
        if self.run.cancel.is_set() {
            return None;
        }
        for probe in &probes {
            if let Err(why) = &probe.answer {
                let text = format!("warning: builder {} {fate}: {why}\n  try: `cargo xtask doctor`", probe.uri);
                self.run.progress.tell(Event::Note(text));
            }
        }
        let live = || probes.iter().filter(|probe| probe.answer.is_ok()).map(|probe| probe.line.clone()).collect();
        probes.iter().any(|probe| probe.answer.is_err()).then(live)
    }

    fn lines(&self, options: &BuildOptions) -> Vec<String> {
        options.builders.as_deref().map_or_else(|| self.settings.builders(), remote::lines)
    }

    fn change<T>(&self, change: impl FnOnce(&mut BuildOptions) -> T) -> T {
        change(&mut self.options.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
