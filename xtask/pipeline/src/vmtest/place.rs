//! Decides where and how a test runs, by what its derivation demands and by whether KVM works.
//!
//! Nix offers the feature `kvm` wherever /dev/kvm can be opened, puts the device into the sandbox, and a test that
//! finds it there hangs where it does not work. So the feature is withdrawn for the run: a test that can do without
//! then finds no device and its QEMU falls back to emulation, and one that demands it, which Nix would refuse to
//! build, is run by its driver outside the sandbox.

use std::{fs, time::Duration};

use super::{
    accel::{Choice, Wish},
    machine::Accel,
};
use crate::{
    nix::{Builder, Settings},
    process::{Cancel, Invocation, find_on_path},
};

/// Where a test runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// As a Nix build: a pass is remembered like any other build.
    Sandbox,
    /// Its driver as an ordinary program: nothing is remembered.
    Outside,
}

impl Place {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Outside => "outside",
        }
    }
}

/// Decides for one test. `builder` is who builds for the system that its derivation names.
pub fn of(demands_kvm: bool, wish: Wish, accel: Accel, builder: &Builder) -> Place {
    match (demands_kvm, accel) {
        // The remote machine's KVM is its owner's to vouch for.
        (true, Accel::Tcg) if *builder == Builder::Remote && wish == Wish::Auto => Place::Sandbox,
        (true, Accel::Tcg) => Place::Outside,
        // A sandboxed test decides for itself what it uses; who insists on KVM wants the driver told so.
        (false, Accel::Kvm) if wish == Wish::Kvm => Place::Outside,
        _ => Place::Sandbox,
    }
}

/// The settings by which Nix keeps its hands off a KVM that is not to be used.
pub fn nix_settings(settings: &Settings, accel: Accel) -> Vec<(&'static str, String)> {
    let features: Vec<&str> = settings.words("system-features").filter(|&word| word != "kvm").collect();
    match accel {
        Accel::Kvm => vec![],
        Accel::Tcg => vec![("system-features", features.join(" "))],
    }
}

/// A deadline or a share of it under TCG is this much longer where the test was written for KVM.
pub const TCG_SCALE: u32 = 5;

/// The driver's command line with what makes it use the accelerator: words of our own for drivers that know them
/// (docs/test-vm.md), and for TCG a /dev/kvm that is none, because nixpkgs' driver lets QEMU try KVM first.
pub fn outside(argv: Vec<String>, choice: &Choice, scale: u32, cancel: &Cancel) -> Invocation {
    let hidden =
        (choice.accel == Accel::Tcg && fs::exists("/dev/kvm").unwrap_or(true)).then(|| hide_kvm(cancel)).flatten();
    let unhidden = choice.accel == Accel::Tcg && hidden.is_none();
    let invocation = Invocation::new(hidden.into_iter().flatten().chain(argv))
        .env("DRYDOCK_ACCEL", choice.accel.as_str())
        .env("DRYDOCK_TIME_SCALE", scale.to_string());
    match unhidden {
        // Second best: the nodes of nixpkgs' tests take this, hand-written QEMU commands do not.
        true => invocation.env("QEMU_OPTS", "-machine accel=tcg"),
        false => invocation,
    }
}

/// What to put before a command so that it sees no KVM; `None` where namespaces are not allowed.
fn hide_kvm(cancel: &Cancel) -> Option<Vec<String>> {
    const SCRIPT: &str = "mount --bind /dev/null /dev/kvm && exec \"$@\"";
    find_on_path("unshare")?;
    let ways: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];
    ways.into_iter().find_map(|way| {
        let head = ["unshare"].iter().chain(way).chain(&["--", "sh", "-c", SCRIPT, "sh"]);
        let prefix: Vec<String> = head.map(|&word| word.to_owned()).collect();
        let trial = Invocation::new(prefix.iter().cloned().chain(["true".to_owned()]));
        let said = trial.timeout(Duration::from_secs(5)).capture(cancel).ok()?;
        said.end.is_success().then_some(prefix)
    })
}

/// How many tests run at once: each has a machine or two that keep a core busy.
pub fn at_once(cores: usize, free: u64, tests: usize) -> usize {
    /// QEMU's resident memory, measured with NixOS under emulation: 4.7 GB where a medium installs, whose machine has
    /// 4 GiB and fills them with what it reads and writes; 2.9 GB where it only boots, 1.2 GB for an installed system.
    const ONE_TEST: u64 = 4_700_000_000;
    let fitting = usize::try_from(free / ONE_TEST).unwrap_or(usize::MAX);
    cores.min(fitting).min(tests).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_demands_kvm_never_meets_a_broken_one() {
        let rows = [
            (true, Wish::Auto, Accel::Tcg, Builder::Native, Place::Outside),
            (true, Wish::Tcg, Accel::Tcg, Builder::Native, Place::Outside),
            (true, Wish::Tcg, Accel::Tcg, Builder::Remote, Place::Outside),
            (true, Wish::Auto, Accel::Tcg, Builder::Remote, Place::Sandbox),
            (true, Wish::Auto, Accel::Kvm, Builder::Native, Place::Sandbox),
            (false, Wish::Auto, Accel::Tcg, Builder::Native, Place::Sandbox),
            (false, Wish::Auto, Accel::Kvm, Builder::Native, Place::Sandbox),
            (false, Wish::Kvm, Accel::Kvm, Builder::Native, Place::Outside),
        ];
        for (demands, wish, accel, builder, expected) in rows {
            assert_eq!(of(demands, wish, accel, &builder), expected, "{demands} {wish:?} {accel:?} {builder:?}");
        }
    }

    #[test]
    fn nix_loses_its_belief_in_kvm_only_where_it_is_not_used() {
        let settings = Settings::parse("system = x\nsystem-features = benchmark kvm nixos-test\n").unwrap();
        let features = ("system-features", "benchmark nixos-test".to_owned());
        assert_eq!(nix_settings(&settings, Accel::Tcg), [features]);
        assert!(nix_settings(&settings, Accel::Kvm).is_empty());
    }

    #[test]
    fn the_budget_is_of_cores_and_of_memory() {
        for (cores, gb, tests, expected) in [(2, 20, 9, 2), (16, 15, 9, 3), (16, 0, 9, 1), (16, 64, 4, 4)] {
            assert_eq!(at_once(cores, gb * 1_000_000_000, tests), expected, "{cores} {gb} {tests}");
        }
    }

    #[test]
    fn a_driver_outside_is_told_and_sees_no_kvm() {
        let choice = Choice { accel: Accel::Tcg, why: String::new() };
        let look =
            ["sh", "-c", "echo $DRYDOCK_ACCEL $DRYDOCK_TIME_SCALE; ls -l /dev/kvm | cut -c1-9,20-"].map(str::to_owned);
        let said = outside(look.to_vec(), &choice, 5, &Cancel::default()).capture(&Cancel::default()).unwrap();
        assert!(said.stdout.starts_with("tcg 5"), "{}{}", said.stdout, said.stderr);
    }
}
