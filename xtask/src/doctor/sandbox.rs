//! Examines whether Nix isolates builds, by a build that ran.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Finding;
use crate::{
    nix::{Settings, argv},
    process::{Cancel, Captured, Invocation},
};

/// A build of one line takes 0.2 s, but Nix may have to wait for its own locks.
const DEADLINE: Duration = Duration::from_secs(30);

const CHECK: &str = "sandbox";

pub fn examine(settings: &Settings, cancel: &Cancel) -> Finding {
    if settings.get("sandbox") == "false" {
        return Finding::warn(
            CHECK,
            "Nix is configured to build without a sandbox: builds see the network and this machine's files",
            "put `sandbox = true` into /etc/nix/nix.conf",
        );
    }
    // A derivation of its own each time, so that it is really built.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let probe = Invocation::new(argv::sandbox_probe(settings.get("system"), now)).timeout(DEADLINE).capture(cancel);
    match probe {
        Ok(probe) if probe.end.is_success() => Finding::ok(CHECK, "a build ran in Nix's sandbox"),
        Ok(probe) => judge(&probe),
        Err(error) => Finding::warn(CHECK, format!("no build could be tried: {error:#}"), "see the finding `nix`"),
    }
}

fn judge(probe: &Captured) -> Finding {
    if probe.stderr.contains("namespace") {
        return Finding::warn(
            CHECK,
            "the kernel gives Nix no namespaces, as in a plain chroot or an unprivileged container; by its default \
             `sandbox-fallback` Nix then builds without a sandbox and does not say so",
            "run on the machine itself or in a container that may make namespaces; what is built here may depend on \
             the network and on this machine's files",
        );
    }
    let mut lines =
        probe.stderr.lines().map(str::trim).filter(|line| line.contains("error") || line.contains("reason"));
    let said = lines.next_back().map_or_else(|| probe.end.to_string(), str::to_owned);
    Finding::warn(CHECK, format!("a build of one line failed: {said}"), "`nix config show` tells what builds may use")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::End;

    #[test]
    fn missing_namespaces_are_told_from_other_failures() {
        let rows = [
            (
                "error: this system does not support the kernel namespaces that are required for sandboxing; use \
                 '--no-sandbox' to disable sandboxing",
                "no namespaces",
            ),
            ("error: Cannot build '/nix/store/x.drv'.\n       Reason: builder failed with exit code 1.\n", "failed"),
            ("", "exit code 1"),
        ];
        for (said, expected) in rows {
            let stderr = said.to_owned();
            let probe = Captured { end: End::Exited(1), stdout: String::new(), stderr, elapsed: Duration::ZERO };
            let finding = judge(&probe);
            assert!(finding.found.contains(expected) && finding.advice.is_some(), "{finding:?}");
        }
    }
}
