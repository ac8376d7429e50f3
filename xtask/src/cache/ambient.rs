//! Everything besides the fleet's files that a derivation is a function of: Nix itself, its settings, what
//! replaces inputs. A digest out, or the reason why it cannot be told.

use std::{env, fs, os::unix::fs::MetadataExt as _};

use camino::{Utf8Path, Utf8PathBuf};

use super::digest::{Digest, Hasher};
use crate::process::find_on_path;

/// Variables named `NIX_…` that no pure evaluation reads.
const HARMLESS: [&str; 5] = ["NIX_PATH", "NIX_PROFILES", "NIX_SSL_CERT_FILE", "NIX_USER_PROFILE_DIR", "NIX_LOG_DIR"];

/// Includes within each other that are followed in nix.conf(5).
const DEEPEST: usize = 16;

/// Digests this machine's Nix and its configuration together with what was asked of it on the command line.
pub fn ambient(overrides: &[(String, String)], allow_ifd: bool) -> Result<Digest, String> {
    let mut hasher = Hasher::new("ambient-1").bytes(&[u8::from(allow_ifd)]);
    for (input, flake) in overrides {
        if !is_locked(flake) {
            return Err(format!("--override-input {input} {flake} names no revision and no narHash"));
        }
        hasher.put(input.as_bytes());
        hasher.put(flake.as_bytes());
    }
    let nix = find_on_path("nix").ok_or("`nix` is not on PATH")?;
    let nix = nix.canonicalize_utf8().map_err(|error| format!("{nix}: {error}"))?;
    let meta = fs::metadata(&nix).map_err(|error| format!("{nix}: {error}"))?;
    hasher.put(nix.as_str().as_bytes());
    for number in [meta.size() as i64, meta.mtime(), meta.mtime_nsec(), meta.ino() as i64] {
        hasher.put(&number.to_le_bytes());
    }
    let mut settings = String::new();
    for file in configuration_files() {
        read_configuration(&file, 0, &mut settings)?;
    }
    let mut variables: Vec<(String, String)> = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .filter(|(name, _)| name.starts_with("NIX_") && !HARMLESS.contains(&name.as_str()))
        .collect();
    variables.sort_unstable();
    for (name, value) in variables {
        settings.push_str(&format!("{name}={value}\n"));
    }
    if let Some(line) = settings.lines().find(|line| !line.trim_start().starts_with('#') && line.contains("pure-eval"))
    {
        return Err(format!("Nix's configuration sets `{}`", line.trim()));
    }
    Ok(hasher.bytes(settings.as_bytes()).finish())
}

/// The files that Nix reads its settings from, as in nix.conf(5).
fn configuration_files() -> Vec<Utf8PathBuf> {
    let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let system = variable("NIX_CONF_DIR").unwrap_or_else(|| "/etc/nix".into());
    let mut files = vec![Utf8PathBuf::from(system).join("nix.conf")];
    match variable("NIX_USER_CONF_FILES") {
        Some(list) => files.extend(list.split(':').map(Utf8PathBuf::from)),
        None => {
            let home = variable("HOME").map(|home| format!("{home}/.config"));
            let own = variable("XDG_CONFIG_HOME").or(home);
            let shared = variable("XDG_CONFIG_DIRS").unwrap_or_else(|| "/etc/xdg".into());
            let folders = own.iter().map(String::as_str).chain(shared.split(':'));
            files.extend(folders.map(|folder| Utf8Path::new(folder).join("nix/nix.conf")));
        }
    }
    files
}

fn read_configuration(file: &Utf8Path, depth: usize, into: &mut String) -> Result<(), String> {
    if depth > DEEPEST {
        return Err(format!("{file} is included by itself"));
    }
    let Ok(text) = fs::read_to_string(file) else {
        // Whether it is missing or hidden from us, it is so for Nix as well; and it may appear.
        into.push_str(&format!("# no {file}\n"));
        return Ok(());
    };
    into.push_str(&text);
    into.push('\n');
    for line in text.lines() {
        let included = line.trim().strip_prefix("include ").or_else(|| line.trim().strip_prefix("!include "));
        if let Some(name) = included {
            let folder = file.parent().unwrap_or(Utf8Path::new("/"));
            read_configuration(&folder.join(name.trim()), depth + 1, into)?;
        }
    }
    Ok(())
}

/// True if a flake reference means the same content for ever.
fn is_locked(flake: &str) -> bool {
    let is_revision = |text: &str| text.len() == 40 && text.bytes().all(|c| c.is_ascii_hexdigit());
    let (place, parameters) = flake.split_once('?').unwrap_or((flake, ""));
    let pinned = |p: &str| p.starts_with("narHash=") || p.strip_prefix("rev=").is_some_and(is_revision);
    let in_store = place.strip_prefix("path:").unwrap_or(place).strip_prefix("/nix/store/");
    let hosted = ["github:", "gitlab:", "sourcehut:"].iter().any(|scheme| place.starts_with(scheme));
    parameters.split('&').any(pinned)
        || in_store.is_some_and(|name| !name.contains("..") && name.len() > 33)
        || hosted && place.rsplit('/').next().is_some_and(is_revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_references_that_cannot_move_are_locked() {
        let revision = "a".repeat(40);
        let rows = [
            (format!("github:NixOS/nixpkgs/{revision}"), true),
            ("github:NixOS/nixpkgs/nixos-26.05".into(), false),
            ("nixpkgs".into(), false),
            (format!("git+https://x/y?rev={revision}"), true),
            ("git+https://x/y?ref=main".into(), false),
            ("path:/home/me/nixpkgs".into(), false),
            ("path:/home/me/nixpkgs?narHash=sha256-x".into(), true),
            (format!("path:/nix/store/{}-source", "b".repeat(32)), true),
            (format!("/nix/store/{}-source", "b".repeat(32)), true),
            ("path:/nix/store/../../home/me".into(), false),
            (revision, false),
        ];
        for (flake, locked) in rows {
            assert_eq!(is_locked(&flake), locked, "{flake}");
        }
    }

    #[test]
    fn an_unlocked_override_is_named() {
        let reason = ambient(&[("nixpkgs".into(), "path:/n".into())], false).unwrap_err();
        assert!(reason.contains("--override-input nixpkgs path:/n"), "{reason}");
    }
}
