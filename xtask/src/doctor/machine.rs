//! Examines the machine itself: KVM, disk, memory, Git, QEMU with its firmware, the embedded fleet's files.

use std::{fs, path::Path, sync::mpsc::Sender, time::Duration};

use super::{Finding, Needs};
use crate::{
    process::{Cancel, Invocation, find_on_path},
    vmtest::{firmware, kvm},
};

/// Below this free space builds fail in ways that look like other faults. Bytes.
const HARDLY_ANY: u64 = 1_000_000_000;

/// What one evaluation of an ISO that carries its installed system takes, rounded up. Bytes.
const ONE_EVALUATION: u64 = 1_500_000_000;

/// The oldest QEMU that runs kernels of 6.12 under TCG without faults, as far as was seen.
const QEMU: (u32, u32) = (8, 0);

pub fn kvm(tell: &Sender<kvm::Kvm>, cancel: &Cancel) -> Vec<Finding> {
    let verdict = kvm::probe(cancel);
    // Whoever wanted to know may have given up already.
    let _ = tell.send(verdict.clone());
    vec![match verdict.remedy() {
        None => Finding::ok("kvm", verdict.to_string()),
        Some(remedy) => Finding::warn("kvm", verdict.to_string(), remedy),
    }]
}

pub fn disk(needs: &Needs) -> Vec<Finding> {
    let store = ["/nix/store", "/nix", "/"].into_iter().find(|dir| Path::new(dir).exists()).unwrap_or("/");
    let Ok(space) = rustix::fs::statvfs(store) else {
        return vec![Finding::warn("disk", format!("{store} does not say how much space is free"), "look with `df`")];
    };
    vec![judge_disk(store, space.f_bavail * space.f_frsize, needs.disk)]
}

fn judge_disk(store: &str, free: u64, estimate: u64) -> Finding {
    let found = format!("{} free for {store}; the whole fleet takes about {}", gb(free), gb(estimate));
    let advice = "free space with `nix-collect-garbage -d`, or build some hosts at a time";
    match free {
        free if free < HARDLY_ANY => Finding::missing("disk", found, advice),
        free if free < estimate => {
            Finding::warn("disk", found, format!("{advice}; what is in the store already counts less"))
        }
        _ => Finding::ok("disk", found),
    }
}

pub fn memory() -> Vec<Finding> {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let Some(free) = available(&text) else {
        return vec![Finding::warn("memory", "/proc/meminfo does not say how much is free", "look with `free`")];
    };
    let found = format!("{} available", gb(free));
    vec![match free < ONE_EVALUATION {
        false => Finding::ok("memory", found),
        true => Finding::warn(
            "memory",
            format!("{found}; evaluating one NixOS host with its ISO takes up to {}", gb(ONE_EVALUATION)),
            "close something, add swap, or let a bigger machine evaluate",
        ),
    }]
}

/// `MemAvailable` of proc_meminfo(5), in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

pub fn git(needs: &Needs, cancel: &Cancel) -> Vec<Finding> {
    const ADVICE: &str = "install git, or name the fleet as `--fleet path:DIR`";
    if find_on_path("git").is_none() {
        let found = "git is not on PATH";
        return vec![match needs.git {
            true => Finding::missing("git", format!("{found}, and the fleet lies in a repository"), ADVICE),
            false => Finding::warn("git", format!("{found}; fleets in repositories and other flakes need it"), ADVICE),
        }];
    }
    let said = Invocation::new(["git", "--version"]).timeout(Duration::from_secs(10)).read(cancel);
    vec![match said {
        Ok(said) => Finding::ok("git", said.trim()),
        Err(error) => Finding::warn("git", format!("{error:#}"), ADVICE),
    }]
}

/// QEMU is needed on PATH for `boot`; VM tests of NixOS fleets bring their own.
pub fn qemu(needs: &Needs, cancel: &Cancel) -> Vec<Finding> {
    let cpus = needs.systems.iter().filter_map(|system| system.strip_suffix("-linux"));
    cpus.map(|cpu| if cpu == "i686" { "x86_64" } else { cpu }).map(|cpu| qemu_of(cpu, cancel)).collect()
}

fn qemu_of(cpu: &str, cancel: &Cancel) -> Finding {
    const ADVICE: &str = "run `ci/setup`, or install QEMU 8.0 or newer for this processor, and its UEFI firmware";
    let check = format!("qemu {cpu}");
    let program = format!("qemu-system-{cpu}");
    let Some(path) = find_on_path(&program) else {
        return Finding::warn(check, format!("{program} is not on PATH; `cargo xtask boot` needs it"), ADVICE);
    };
    let said = Invocation::new([path.as_str(), "--version"]).timeout(Duration::from_secs(10)).read(cancel);
    let version = said.ok().and_then(|said| qemu_version(&said));
    let Some(version) = version else {
        return Finding::warn(check, format!("{path} does not say its version"), ADVICE);
    };
    let shown = format!("QEMU {}.{}", version.0, version.1);
    if version < QEMU {
        return Finding::warn(check, format!("{shown} faults now and then with new kernels under TCG"), ADVICE);
    }
    match firmware::find(cpu, &path) {
        Some(uefi) => Finding::ok(check, format!("{shown}, UEFI firmware {}", uefi.code)),
        None => Finding::warn(check, format!("{shown}, but no UEFI firmware"), ADVICE),
    }
}

/// Reads `QEMU emulator version 10.0.2 (Debian …)`.
fn qemu_version(text: &str) -> Option<(u32, u32)> {
    let number = text.split_whitespace().skip_while(|&word| word != "version").nth(1)?;
    let mut parts = number.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// What `ci/setup --check` says of the Debian files; the rest of what it checks is asked above.
pub fn demo_files(needs: &Needs, cancel: &Cancel) -> Vec<Finding> {
    let Some(setup) = &needs.setup else { return vec![] };
    let said = Invocation::new([setup.as_str(), "--check"]).timeout(Duration::from_secs(60)).capture(cancel);
    let finding = match said {
        Ok(said) => said.stdout.lines().find_map(|line| line.strip_prefix("missing: debian-files ")).map(str::to_owned),
        Err(error) => Some(format!("{error:#}")),
    };
    vec![match finding {
        None => Finding::ok("embedded-fleet", "its Debian files are in the store"),
        Some(why) if needs.demo => Finding::missing("embedded-fleet", why, "run `ci/setup`"),
        Some(why) => Finding::warn("embedded-fleet", why, "run `ci/setup`, if you want to build `--fleet demo`"),
    }]
}

fn gb(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn disk_is_judged_by_the_estimate() {
        const GB: u64 = 1_000_000_000;
        for (free, estimate, expected) in
            [(50, 40, State::Ok), (30, 40, State::Warn), (0, 40, State::Missing), (0, 0, State::Missing)]
        {
            assert_eq!(judge_disk("/", free * GB, estimate * GB).state, expected, "{free} {estimate}");
        }
    }

    #[test]
    fn what_other_programs_print_is_read() {
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"), Some(2 * 1024 * 1024));
        assert_eq!(available(""), None);
        assert_eq!(qemu_version("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds)\nCopyright"), Some((10, 0)));
        assert_eq!(qemu_version("oops"), None);
    }
}
