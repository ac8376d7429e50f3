//! Asks Nix which source it reads a flake from: a store path that no later edit can change.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use camino::Utf8PathBuf;
use serde::Deserialize;
use serde_json::Value;

use super::{PATIENCE, argv};
use crate::{
    files::Temporary,
    process::{Cancel, Invocation},
};

/// A flake's source in the store, with what Nix says about it and its inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Pinned {
    /// The store path of the whole source.
    pub path: Utf8PathBuf,
    /// The folder of flake.nix in it, empty or without a trailing `/`.
    pub dir: String,
    /// The source's hash in SRI form.
    pub nar_hash: String,
    /// What `self` tells besides its path, as far as Nix locked it: `rev`, `lastModified` and the like.
    pub identity: BTreeMap<String, Value>,
    /// Every input as Nix resolved it just now, each with its own `narHash`.
    pub locks: String,
}

/// The attributes of a locked flake reference that reach `sourceInfo` (`emitTreeAttrs` in Nix, primops/fetchTree.cc).
const SHOWN: [&str; 7] = ["type", "rev", "revCount", "dirtyRev", "dirtyShortRev", "lastModified", "submodules"];

impl Pinned {
    /// Asks `nix flake metadata`. Errors: there is no such flake, or its lock is incomplete.
    pub fn ask(source: argv::Source<'_>, cancel: &Cancel) -> Result<Self> {
        // A Git tree in which Git overlooks a change is read from the disk or from the commit, depending on what Nix
        // 2.26 has in its cache. Without one it is always read from the disk.
        let cache = Temporary::new()?;
        let asked = Invocation::new(argv::flake_metadata(source)).timeout(PATIENCE * 5);
        let asked = asked.env("XDG_CACHE_HOME", cache.as_str()).env("NIX_CACHE_HOME", cache.as_str());
        let said = asked.capture(cancel)?;
        if !said.end.is_success() {
            let error = said.stderr.lines().rev().find_map(|line| line.trim_start().strip_prefix("error: "));
            anyhow::bail!("Nix cannot tell the flake's source ({}): {}", said.end, error.unwrap_or(said.stderr.trim()));
        }
        Self::parse(&said.stdout)
    }

    fn parse(text: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Metadata {
            path: Utf8PathBuf,
            locked: BTreeMap<String, Value>,
            #[serde(default)]
            locks: Value,
        }
        let Metadata { path, mut locked, locks } =
            serde_json::from_str(text).context("`nix flake metadata` printed something unknown")?;
        let words = |value: Value| value.as_str().map(str::to_owned);
        let nar_hash = locked.remove("narHash").and_then(words).context("Nix tells no hash of the flake's source")?;
        let dir = locked.remove("dir").and_then(words).unwrap_or_default();
        locked.retain(|name, _| SHOWN.contains(&name.as_str()));
        Ok(Self { path, dir, nar_hash, identity: locked, locks: locks.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_self_shows_is_kept_and_where_it_came_from_is_not() {
        let text = r#"{"path":"/nix/store/x-source","locked":{"__final":true,"type":"git","url":"file:///f","dir":"a/b",
            "dirtyRev":"6f-dirty","lastModified":7,"narHash":"sha256-q+/=","ref":"refs/heads/m"},"locks":{"nodes":{"root":{}}}}"#;
        let pinned = Pinned::parse(text).unwrap();
        assert_eq!((pinned.dir.as_str(), pinned.nar_hash.as_str()), ("a/b", "sha256-q+/="));
        assert_eq!(pinned.identity.keys().collect::<Vec<_>>(), ["dirtyRev", "lastModified", "type"]);
        assert_eq!(pinned.locks, r#"{"nodes":{"root":{}}}"#);
        assert!(Pinned::parse("{}").is_err() && Pinned::parse("<html>").is_err());
    }
}
