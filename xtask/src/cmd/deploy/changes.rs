//! Says what a deployment changes on a machine: packages, units, and whether it has to be restarted.

use std::{collections::BTreeMap, fmt::Write as _};

use camino::Utf8Path;

use super::Ready;
use crate::{
    compare::{name, nixos::Delta, packages},
    diagnostic::bytes,
    differences,
};

/// Lines of a kind that are shown.
const SHOWN: usize = 20;

/// Some lines for a person.
pub fn text(ready: &Ready<'_>) -> String {
    let machine = &ready.machine;
    let names = |paths: &[String]| paths.iter().map(|path| name::of_path(path).to_owned()).collect::<Vec<_>>();
    let (old, new) = (names(&machine.closure), names(&ready.closure));
    let packages = packages::changes(old.iter().map(String::as_str), new.iter().map(String::as_str));
    let units = Delta::of_named(&machine.units, &units(&ready.system));
    let mut text =
        format!("{} ({}) runs {}\n", ready.host.name, ready.remote.destination, name::of_path(&machine.current));
    let _ = writeln!(text, "  and gets {}, of which it lacks {}", name::of_path(&ready.system), bytes(ready.lacks));
    section(&mut text, "packages", packages.iter().map(differences::change).collect());
    section(&mut text, "units", differences::words(&units));
    let new = parts(Utf8Path::new(&ready.system));
    let other: Vec<&str> = new
        .iter()
        .filter(|line| !machine.booted_parts.contains(line))
        .filter_map(|line| line.split(' ').next())
        .collect();
    if !other.is_empty() {
        let _ = writeln!(text, "  takes effect with a restart only: {}", other.join(", "));
    }
    if !machine.failed_units.is_empty() {
        let _ = writeln!(text, "  failed already: {}", machine.failed_units.join(", "));
    }
    text
}

fn section(text: &mut String, title: &str, lines: Vec<String>) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(text, "  {title}:");
    lines.iter().take(SHOWN).for_each(|line| *text += &format!("    {line}\n"));
    if lines.len() > SHOWN {
        let _ = writeln!(text, "    and {} more", lines.len() - SHOWN);
    }
}

/// The units of a system that is here, with what each is a link to.
fn units(system: &str) -> BTreeMap<String, String> {
    let links = Utf8Path::new(system).join("etc/systemd/system").read_dir_utf8();
    let links = links.into_iter().flatten().flatten();
    links
        .filter_map(|link| Some((link.file_name().to_owned(), link.path().read_link_utf8().ok()?.into_string())))
        .collect()
}

/// What a machine is started with, as target.sh writes it.
fn parts(system: &Utf8Path) -> Vec<String> {
    let part = |name: &&str| Some(format!("{name} {}", system.join(name).canonicalize_utf8().ok()?));
    let parameters = std::fs::read_to_string(system.join("kernel-params")).unwrap_or_default();
    let files = ["kernel", "initrd", "kernel-modules"].iter().filter_map(part);
    files.chain([format!("kernel-params {}", parameters.trim_end())]).collect()
}
