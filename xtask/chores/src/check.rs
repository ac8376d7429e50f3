//! `cargo chores check`: checks this repository: format, lints, tests, and the embedded fleet built and booted.
#![expect(clippy::print_stderr, reason = "a verb prints its report")]

use std::time::{Duration, Instant};

use anyhow::Result;
use camino::Utf8Path;

use crate::{
    diagnostic::{DONE, FAILED, INTERRUPTED, lacking, usage},
    flags, fleet,
    process::{Cancel, End, Invocation, find_on_path, on_path},
};

/// One check: a command that must succeed within its time.
struct Check {
    name: &'static str,
    argv: Vec<String>,
    /// Programs besides its own that the command starts.
    needs: &'static [&'static str],
    limit: Duration,
    /// Why it cannot be run here though all programs are there.
    hindrance: fn() -> Option<&'static str>,
}

/// What became of a check.
enum Verdict {
    Passed,
    Failed(End),
    /// The program is not installed: neither passed nor failed, and said so.
    NotRun(String),
}

pub fn run(flags: &flags::Check, cancel: &Cancel) -> Result<u8> {
    let root =
        fleet::workspace().ok_or_else(|| usage("the checks are those of the repository; run this inside a clone"))?;
    set_up(&root, if flags.setup { "--checks" } else { "--check" }, cancel)?;
    let mut verdicts = Vec::new();
    for check in checks() {
        if cancel.is_set() {
            break;
        }
        eprintln!("\n=== {}: {}", check.name, Invocation::new(check.argv.clone()).display());
        let started = Instant::now();
        let verdict = check.run(&root, cancel)?;
        verdicts.push((check.name, verdict, started.elapsed()));
    }
    eprintln!();
    for (name, verdict, took) in &verdicts {
        let words = match verdict {
            Verdict::Passed => "passed".to_owned(),
            Verdict::Failed(end) => format!("FAILED ({end})"),
            Verdict::NotRun(why) => format!("not run: {why}"),
        };
        eprintln!("{name:12} {:6.1} s  {words}", took.as_secs_f64());
    }
    let count = |wanted: fn(&Verdict) -> bool| verdicts.iter().filter(|(_, verdict, _)| wanted(verdict)).count();
    let failed = count(|verdict| matches!(verdict, Verdict::Failed(_)));
    let (passed, skipped) = (count(|v| matches!(v, Verdict::Passed)), count(|v| matches!(v, Verdict::NotRun(_))));
    eprintln!("checks: {passed} passed, {failed} failed, {skipped} skipped");
    Ok(match (cancel.is_set(), failed) {
        (true, _) => INTERRUPTED,
        (false, 0) => DONE,
        (false, _) => FAILED,
    })
}

/// Has ci/setup install what the checks need, or only say what this machine lacks.
fn set_up(root: &Utf8Path, what: &str, cancel: &Cancel) -> Result<()> {
    let script = root.join("ci/setup");
    let end = Invocation::new([script.as_str(), what]).interactive(cancel)?;
    match end.is_success() {
        true => Ok(()),
        false => Err(lacking(format!(
            "`{script} {what}` says above what this machine lacks ({end})\n  try: cargo chores check --setup"
        ))),
    }
}

/// The scripts that are no part of the flake; its own are checked as they are built.
const SHELL: [&str; 7] = [
    "shellcheck",
    "ci/setup",
    ".ci/run",
    "xtask/ship/src/prelude.sh",
    "xtask/ship/src/target.sh",
    "xtask/ship/src/install.sh",
    "xtask/ship/src/install-unit.sh",
];

/// All checks, the quick ones first.
fn checks() -> Vec<Check> {
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let check = |name, argv: &[&str], limit| {
        let argv = argv.iter().map(|&argument| argument.to_owned()).collect();
        Check { name, argv, needs: &[], limit, hindrance: || None }
    };
    let installer = check("installer", &["python3", "ci/tests/check-installer"], minutes(2));
    vec![
        check("format", &["cargo", "fmt", "--all", "--check"], minutes(2)),
        check("shell", &SHELL, minutes(2)),
        check("workflows", &["zizmor", "--offline", "--persona", "pedantic", ".github/workflows"], minutes(2)),
        check("actionlint", &["actionlint"], minutes(2)),
        check(
            "lints",
            &["cargo", "clippy", "--quiet", "--all-targets", "--locked", "--", "--deny", "warnings"],
            minutes(10),
        ),
        Check { needs: &["bash", "jq", "awk"], ..installer },
        check("harness", &["python3", "ci/tests/check-harness"], minutes(2)),
        Check { needs: &["mdbook"], ..check("book", &["python3", "ci/tests/check-book"], minutes(2)) },
        check("tests", &["cargo", "test", "--locked"], minutes(20)),
        Check {
            needs: &["chromium"],
            hindrance: without_axe,
            ..check("page", &["node", "ci/tests/page"], minutes(10))
        },
        Check { needs: &["git", "nix"], ..check("bench", &["python3", "ci/tests/check-bench"], minutes(10)) },
        // Tests that cargo leaves out by itself, because they need what may not be installed.
        Check { needs: &["zizmor", "actionlint"], ..check("linters", &left_out("with_linters"), minutes(5)) },
        Check {
            needs: &["qemu-system-x86_64", "qemu-system-aarch64", "qemu-aarch64-static"],
            ..check("qemu", &left_out("with_qemu"), minutes(5))
        },
        Check {
            needs: &["losetup", "lsblk", "wipefs", "mkfs.ext4", "script", "setpriv"],
            hindrance: as_another_than_root,
            ..check("devices", &left_out("with_loop_devices"), minutes(5))
        },
        Check {
            needs: &["losetup", "dmsetup"],
            hindrance: without_device_mapper,
            ..check("bad-devices", &left_out("with_device_mapper"), minutes(5))
        },
        Check {
            needs: &["/usr/sbin/sshd", "ssh", "unshare", "setsid"],
            hindrance: without_namespaces,
            ..check("machines", &left_out("with_machines"), minutes(15))
        },
        Check {
            needs: &["unshare", "git"],
            hindrance: without_namespaces,
            ..check("faults", &["python3", "ci/tests/faults", "--runs", "26"], minutes(5))
        },
        Check {
            needs: &["/usr/sbin/sshd", "ssh", "unshare"],
            hindrance: without_namespaces,
            ..check("builders", &["python3", "ci/tests/check-builders"], minutes(10))
        },
        Check {
            needs: &["unshare"],
            hindrance: without_namespaces,
            ..check("shards", &["python3", "ci/tests/check-shards"], minutes(5))
        },
        check(
            "demo-build",
            &["cargo", "xtask", "build-all", "--fleet", "demo", "--out-link", "target/xtask/ci/result"],
            minutes(20),
        ),
        // After the tests and demo-build, which leave it what they wrote.
        Check {
            hindrance: without_fastjsonschema,
            ..check("schema", &["python3", "ci/tests/check-schema"], minutes(2))
        },
        check("demo-local", &["cargo", "xtask", "ci", "--local", "--fleet", "demo", "--no-tests"], minutes(20)),
        Check {
            needs: &["bash", "git", "nix", "qemu-system-x86_64"],
            ..check("tutorial", &["python3", "ci/tests/check-tutorial"], minutes(20))
        },
        check("demo-boot", &["cargo", "xtask", "test-vm", "--fleet", "demo", "--all"], minutes(20)),
    ]
}

/// The tests whose names begin so.
fn left_out(name: &str) -> [&str; 7] {
    ["cargo", "test", "--quiet", "--locked", "--", "--ignored", name]
}

fn without_axe() -> Option<&'static str> {
    // Where ci/tests/page says that they belong; checks run at the root of the repository.
    let is_there = |module: &str| {
        fleet::workspace().is_some_and(|root| root.join("target/xtask/page/node_modules").join(module).exists())
    };
    (!is_there("playwright-core") || !is_there("axe-core"))
        .then_some("`npm install --no-save --prefix target/xtask/page playwright-core axe-core` has not been run")
}

fn without_fastjsonschema() -> Option<&'static str> {
    // The script knows where the module may lie.
    let script = fleet::workspace()?.join("ci/tests/check-schema");
    let asked = Invocation::new(["python3", script.as_str(), "--help"]).capture(&Cancel::default());
    (!asked.is_ok_and(|said| said.end.is_success())).then_some("the Python module `fastjsonschema` is not installed")
}

fn as_another_than_root() -> Option<&'static str> {
    (!rustix::process::geteuid().is_root()).then_some("only root can do it")
}

fn without_namespaces() -> Option<&'static str> {
    let nix = find_on_path("nix").and_then(|nix| nix.canonicalize_utf8().ok());
    let hidden = nix.is_some_and(|nix| nix.starts_with("/nix"));
    as_another_than_root().or(hidden.then_some("machines have a /nix of their own, and here Nix itself lies in /nix"))
}

fn without_device_mapper() -> Option<&'static str> {
    let is_there = Utf8Path::new("/sys/class/misc/device-mapper").exists();
    as_another_than_root().or((!is_there).then_some("the kernel has no device-mapper (`modprobe dm-mod`)"))
}

impl Check {
    fn run(&self, root: &Utf8Path, cancel: &Cancel) -> Result<Verdict> {
        let needs = [self.argv[0].as_str()].into_iter().chain(self.needs.iter().copied());
        if let Some(missing) = needs.into_iter().find(|program| !on_path(program)) {
            return Ok(Verdict::NotRun(format!("`{missing}` is not installed")));
        }
        if let Some(hindrance) = (self.hindrance)() {
            return Ok(Verdict::NotRun(hindrance.to_owned()));
        }
        let invocation = Invocation::new(self.argv.clone()).dir(root).timeout(self.limit);
        let end = invocation.stream(cancel, &mut |_, line| eprintln!("{line}"))?;
        Ok(if end.is_success() { Verdict::Passed } else { Verdict::Failed(end) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_run_is_neither_passed_nor_failed() {
        let rows: [(&[&str], &'static [&'static str], &str); 4] = [
            (&["true"], &["sh"], "passed"),
            (&["false"], &["sh"], "failed"),
            (&["true"], &["no-such-program"], "not run: `no-such-program` is not installed"),
            (&["no-such-program"], &[], "not run: `no-such-program` is not installed"),
        ];
        for (argv, needs, expected) in rows {
            let argv: Vec<String> = argv.iter().map(|&argument| argument.to_owned()).collect();
            let check = Check { name: "x", argv, needs, limit: Duration::from_secs(10), hindrance: || None };
            let words = match check.run(Utf8Path::new("/"), &Cancel::default()).unwrap() {
                Verdict::Passed => "passed".to_owned(),
                Verdict::Failed(_) => "failed".to_owned(),
                Verdict::NotRun(why) => format!("not run: {why}"),
            };
            assert_eq!(words, expected);
        }
    }
}
