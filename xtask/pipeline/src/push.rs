//! Pushes what is built to a binary cache while other things are built.

use std::{
    collections::BTreeSet,
    sync::{PoisonError, mpsc::Receiver},
};

use camino::Utf8PathBuf;

use crate::{
    diagnostic::counted,
    nix::{Nix, argv},
    process::Invocation,
    progress::Event,
    record::NotPushed,
    run::Run,
};

/// Where finished outputs go, with everything that they refer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cache {
    /// A store that `nix copy` writes to (nix3-help-stores(1)); what signs is part of it: `file:///srv/c?secret-key=FILE`.
    Store(String),
    /// A program that takes paths as further arguments, such as `cachix push NAME`.
    Program(Vec<String>),
}

impl Cache {
    /// What was typed, or what stands in `DRYDOCK_PUSH`.
    pub fn wished(typed: Option<&str>) -> Option<Self> {
        let set = std::env::var("DRYDOCK_PUSH").ok().filter(|text| !text.trim().is_empty());
        typed.map(str::to_owned).or(set).map(|text| Self::parse(&text))
    }

    /// A store has `://` in it.
    fn parse(text: &str) -> Self {
        match text.contains("://") {
            true => Self::Store(text.to_owned()),
            false => Self::Program(text.split_whitespace().map(str::to_owned).collect()),
        }
    }

    /// The store, if it is one that Nix can ask, without the key for writing, which need not be here.
    pub fn store(&self) -> Option<String> {
        let Self::Store(store) = self else { return None };
        let (url, parameters) = store.split_once('?').unwrap_or((store, ""));
        let kept: Vec<&str> = parameters.split('&').filter(|text| !text.starts_with("secret-key")).collect();
        Some([url, &kept.join("&")].join("?").trim_end_matches('?').to_owned())
    }

    /// Pushes what comes, as much at once as is there, until nothing more will come.
    pub fn follow(&self, run: &Run<'_>, outs: &Receiver<Utf8PathBuf>) {
        let (mut seen, mut pushed, mut failures) = (BTreeSet::new(), 0, 0);
        while let Ok(first) = outs.recv() {
            let came: BTreeSet<Utf8PathBuf> = [first].into_iter().chain(outs.try_iter()).collect();
            let new: Vec<&str> = came.difference(&seen).map(|out| out.as_str()).collect();
            // A builder that failed may leave something, too.
            let invalid = Nix::invalid(&new, run.cancel).unwrap_or_default();
            let is_valid = |path: &&str| !invalid.iter().any(|other| other == path);
            let batch: Vec<Utf8PathBuf> = new.into_iter().filter(is_valid).map(Into::into).collect();
            // A cache that is not there would be told of after each build; the record names all.
            match batch.is_empty() || self.push(run, &batch, failures == 0) {
                true => pushed += batch.len(),
                false => failures += batch.len(),
            }
            seen.extend(batch);
        }
        if pushed > 0 {
            let count = counted(pushed, "output");
            run.progress.tell(Event::Line(format!("pushed {count} with everything below")));
        }
        if failures > 0 && !run.cancel.is_set() {
            let count = counted(failures, "output");
            run.progress.tell(Event::Line(format!(
                "warning: {count} not pushed in all; `not_pushed` of the record names them"
            )));
        }
    }

    /// Pushes these; true if it did. A failure fails nothing: what was built is there all the same.
    fn push(&self, run: &Run<'_>, outs: &[Utf8PathBuf], is_told: bool) -> bool {
        let paths = outs.iter().map(|out| out.as_str());
        let push = Invocation::new(match self {
            Self::Store(store) => argv::copy_to(store, paths),
            Self::Program(words) => words.iter().map(String::as_str).chain(paths).map(str::to_owned).collect(),
        });
        let count = counted(outs.len(), "output");
        let said = run.timings.step("push what is built", || push.capture(run.cancel));
        let why = match said {
            _ if run.cancel.is_set() => return false,
            Ok(said) if said.end.is_success() => return true,
            Ok(said) => format!("{}: {}", said.end, said.stderr.trim()),
            Err(error) => format!("{error:#}"),
        };
        let reproduce = push.display();
        if is_told {
            let text = format!("warning: not pushed: {count} ({why})\n  to repeat it: {reproduce}");
            run.progress.tell(Event::Line(text));
        }
        let failed = NotPushed { paths: outs.to_vec(), why, reproduce };
        run.not_pushed.lock().unwrap_or_else(PoisonError::into_inner).push(failed);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_told_from_a_program() {
        for store in ["file:///srv/cache", "s3://bucket?secret-key=/k", "ssh-ng://root@host"] {
            assert_eq!(Cache::parse(store), Cache::Store(store.into()));
        }
        let rows = [
            ("file:///c?secret-key=/k", "file:///c"),
            ("s3://b?region=x&secret-key=/k&scheme=https", "s3://b?region=x&scheme=https"),
            ("ssh-ng://h", "ssh-ng://h"),
        ];
        for (store, asked) in rows {
            assert_eq!(Cache::parse(store).store().as_deref(), Some(asked));
        }
        let words = ["cachix", "push", "mine"].map(str::to_owned).to_vec();
        assert_eq!(Cache::parse(" cachix push  mine"), Cache::Program(words));
    }
}
