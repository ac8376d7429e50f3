//! `cargo chores runner`: prepares a hosted runner for building images and booting them. Elsewhere it changes
//! nothing and says what it would have done.
#![expect(clippy::print_stderr, reason = "a verb prints its report")]

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, time::Duration};

use anyhow::{Context as _, Result};
use camino::Utf8PathBuf;

use crate::{
    diagnostic::DONE,
    flags,
    process::{Cancel, Invocation},
    report::table::bytes,
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
const RULE: &str = r#"KERNEL=="kvm", GROUP="kvm", MODE="0666", OPTIONS+="static_node=kvm""#;

pub fn run(flags: &flags::Runner, cancel: &Cancel) -> Result<u8> {
    let hosted = std::env::var("RUNNER_ENVIRONMENT").is_ok_and(|value| value == "github-hosted");
    free_disk(flags.disk << 30, hosted, cancel)?;
    keep_signing_key()?;
    if flags.kvm {
        allow_kvm(hosted, cancel)?;
        let found = kvm::probe(cancel);
        // Without KVM the tests run all the same, only slower; the test harness says so for each machine.
        eprintln!(
            "KVM {}",
            if found.works() { "works" } else { "does not work here: virtual machines will be emulated" }
        );
    }
    Ok(DONE)
}

/// Writes the key that signs what is pushed, if there is one, where `--push` can name it.
fn keep_signing_key() -> Result<()> {
    let set = |name| std::env::var(name).ok().filter(|text: &String| !text.is_empty());
    let (Some(key), Some(folder)) = (set("SIGNING_KEY"), set("RUNNER_TEMP")) else { return Ok(()) };
    let file = Utf8PathBuf::from(folder).join("signing-key");
    let mut open = fs::OpenOptions::new();
    let written = open.write(true).create(true).truncate(true).mode(0o600).open(&file);
    written.and_then(|mut file| file.write_all(key.as_bytes())).with_context(|| format!("cannot write {file}"))?;
    eprintln!("the signing key is in {file}");
    Ok(())
}

fn free_disk(needed: u64, hosted: bool, cancel: &Cancel) -> Result<()> {
    let place = if std::path::Path::new("/nix").exists() { "/nix" } else { "/" };
    let stat = rustix::fs::statvfs(place)?;
    let free = stat.f_bavail * stat.f_frsize;
    eprintln!("{} free at {place}, about {} needed", bytes(free), bytes(needed));
    if free >= needed {
        return Ok(());
    }
    if !hosted {
        eprintln!("this is no hosted runner: nothing is removed; free some space if the build fails");
        return Ok(());
    }
    for path in DISPENSABLE.iter().filter(|path| std::path::Path::new(path).exists()) {
        eprintln!("removing {path}");
        sudo(&["rm", "--recursive", "--force", path], None, cancel)?;
    }
    Ok(())
}

fn allow_kvm(hosted: bool, cancel: &Cancel) -> Result<()> {
    if !hosted {
        eprintln!("this is no hosted runner: /dev/kvm stays as it is");
        return Ok(());
    }
    sudo(&["tee", "/etc/udev/rules.d/99-kvm4all.rules"], Some(format!("{RULE}\n")), cancel)?;
    sudo(&["udevadm", "control", "--reload-rules"], None, cancel)?;
    sudo(&["udevadm", "trigger", "--name-match=kvm"], None, cancel)
}

/// A failure is said and not fatal: what it prepares makes the work quicker, not possible.
fn sudo(argv: &[&str], input: Option<String>, cancel: &Cancel) -> Result<()> {
    let argv = ["sudo", "--non-interactive"].iter().chain(argv).copied();
    let call = Invocation::new(argv).timeout(Duration::from_secs(300));
    let mut said = String::new();
    let end = call.feed(input.map(String::into_bytes), cancel, &mut |_, line| said = line.to_owned())?;
    if !end.is_success() {
        eprintln!("`{}` failed ({end}): {said}", call.display());
    }
    Ok(())
}
