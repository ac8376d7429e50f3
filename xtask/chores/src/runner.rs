//! `cargo chores runner`: prepares a hosted runner for building images and booting them. Elsewhere the machine stays
//! as it is.
#![expect(clippy::print_stderr, reason = "a verb prints its report")]

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, time::Duration};

use anyhow::{Context as _, Result};
use camino::Utf8Path;

use crate::{
    diagnostic::{DONE, bytes},
    flags,
    process::{Cancel, Invocation},
    vmtest::kvm,
};

/// Large things that hosted Ubuntu runners bring and a NixOS build never uses.
const DISPENSABLE: [&str; 6] = [
    "/usr/share/dotnet",
    "/usr/local/lib/android",
    "/opt/ghc",
    "/usr/local/.ghcup",
    "/opt/hostedtoolcache/CodeQL",
    "/usr/share/swift",
];

/// Lets everybody use /dev/kvm, as the documentation of hosted runners recommends.
const RULE: &str = r#"KERNEL=="kvm", GROUP="kvm", MODE="0666", OPTIONS+="static_node=kvm"
"#;

/// Removing takes minutes on a slow disk.
const PATIENCE: Duration = Duration::from_secs(600);

pub fn run(flags: &flags::Runner, cancel: &Cancel) -> Result<u8> {
    let hosted = std::env::var("RUNNER_ENVIRONMENT").is_ok_and(|value| value == "github-hosted");
    let place = if std::path::Path::new("/nix").exists() { "/nix" } else { "/" };
    let stat = rustix::fs::statvfs(place)?;
    let (free, needed) = (stat.f_bavail * stat.f_frsize, flags.disk << 30);
    eprintln!("{} free at {place}, about {} needed", bytes(free), bytes(needed));
    if free < needed && hosted {
        sudo(&[&["rm", "--recursive", "--force"], &DISPENSABLE[..]].concat(), "", cancel)?;
    } else if free < needed {
        eprintln!("this is no hosted runner: nothing is removed; free some space if the build fails");
    }
    keep_signing_key()?;
    if flags.kvm {
        if hosted {
            sudo(&["tee", "/etc/udev/rules.d/99-kvm4all.rules"], RULE, cancel)?;
            sudo(&["udevadm", "control", "--reload-rules"], "", cancel)?;
            sudo(&["udevadm", "trigger", "--name-match=kvm"], "", cancel)?;
        }
        let works = kvm::probe(cancel).works();
        // Without KVM the tests run all the same, only slower; the test harness says so for each machine.
        eprintln!("KVM {}", if works { "works" } else { "does not work here: virtual machines will be emulated" });
    }
    Ok(DONE)
}

/// Writes the key that signs what is pushed, if there is one, where `--push` can name it.
fn keep_signing_key() -> Result<()> {
    let Some(key) = std::env::var("SIGNING_KEY").ok().filter(|text| !text.is_empty()) else { return Ok(()) };
    let file = Utf8Path::new("drydock-ci/signing-key");
    fs::create_dir_all("drydock-ci").context("cannot make drydock-ci")?;
    let mut open = fs::OpenOptions::new();
    let written = open.write(true).create(true).truncate(true).mode(0o600).open(file);
    written.and_then(|mut file| file.write_all(key.as_bytes())).with_context(|| format!("cannot write {file}"))?;
    eprintln!("the signing key is in {file}");
    Ok(())
}

/// A failure is said and not fatal: what it prepares makes the work quicker, not possible.
fn sudo(argv: &[&str], input: &str, cancel: &Cancel) -> Result<()> {
    let call = Invocation::new(["sudo", "--non-interactive"].iter().chain(argv).copied()).timeout(PATIENCE);
    eprintln!("{}", call.display());
    let mut said = String::new();
    let end = call.feed(Some(input.into()), cancel, &mut |_, line| said = line.to_owned())?;
    if !end.is_success() {
        eprintln!("`{}` failed ({end}): {said}", call.display());
    }
    Ok(())
}
