//! `cargo xtask test-vm` as a person runs it, with the real Nix, on tests that are shell scripts: what is run where,
//! what is remembered, and what a failure leaves. (The embedded fleet's tests start real machines.)

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Output},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use camino::Utf8PathBuf;
use drydock_model::samples::keep;
use serde_json::Value;
use tempfile::TempDir;

/// A fleet with one host, whose only test has this script in the sandbox and that one as its driver outside.
struct Fleet {
    root: Utf8PathBuf,
    host: String,
    _dir: TempDir,
}

impl Fleet {
    fn new(features: &str, sandboxed: &str, driver: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let root = Utf8PathBuf::from_path_buf(dir.path().canonicalize().unwrap()).unwrap();
        // Hosts share folders below target/, and derivations the store: so each test has a name of its own.
        let nonce = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let host = format!("t{nonce:x}");
        let system = format!("{}-linux", std::env::consts::ARCH);
        fs::create_dir_all(root.join("hosts").join(&host)).unwrap();
        fs::create_dir_all(root.join("driver/bin")).unwrap();
        let matrix = format!(
            "[host.{host}]\ndescription = \"one\"\nsystem = \"{system}\"\nartifacts = [\"system\"]\ntests = [\"system\"]\n"
        );
        fs::write(root.join("hosts/hosts.toml"), matrix).unwrap();
        fs::write(root.join("hosts").join(&host).join("default.nix"), "{ }\n").unwrap();
        fs::write(root.join("sandboxed.sh"), sandboxed).unwrap();
        let program = root.join("driver/bin/nixos-test-driver");
        fs::write(&program, format!("#!/bin/sh\nroot={root}\n{driver}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let flake = format!(
            "{{\n  outputs = _: {{ hydraJobs.{host}.tests.system = derivation {{\n    name = \"{host}-test\";\n    \
             system = \"{system}\";\n    builder = \"/bin/sh\";\n    requiredSystemFeatures = [ {features} ];\n    \
             args = [ ./sandboxed.sh ];\n  }} // {{ driver = \"${{./driver}}\"; driverInteractive = \"${{./driver}}\"; }}; }};\n}}\n"
        );
        fs::write(root.join("flake.nix"), flake).unwrap();
        Self { root, host, _dir: dir }
    }

    /// Runs the host's tests, and requires an exit code and words on stderr.
    #[track_caller]
    fn test(&self, args: &[&str], code: i32, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_drydock"));
        command.args(["test-vm", &self.host]).args(args).current_dir(&self.root);
        let output = command.env_remove("CARGO_MANIFEST_DIR").env("CI", "1").output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        for word in words {
            assert!(stderr.contains(word), "`{word}` is missing in:\n{stderr}");
        }
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        output
    }
}

/// The record's only job.
fn job(output: &Output) -> Value {
    let record: Value = serde_json::from_slice(&output.stdout).unwrap();
    let job = record["jobs"][0].clone();
    keep(
        &format!("run.test-vm-{}-{}", job["outcome"]["status"], job["test"]["place"]).replace('"', ""),
        &record.to_string(),
    );
    job
}

const PASSES: &str =
    "echo 'subtest: starts'\necho 'vm # hello'\necho '(finished: subtest: starts, in 0.25 seconds)'\necho > $out\n";
const MUST_NOT_RUN: &str = "echo this ran where it must not; exit 9";

#[test]
fn a_pass_is_remembered_until_it_is_to_be_repeated() {
    let fleet = Fleet::new("", PASSES, MUST_NOT_RUN);
    let first = fleet.test(&["--accel", "tcg", "--json", "-L"], 0, &["system: vm # hello", "1 test: 1 passed;", "TCG"]);
    let test = &job(&first)["test"];
    assert_eq!((test["accel"].as_str(), test["place"].as_str()), (Some("tcg"), Some("sandbox")));
    assert_eq!(
        (test["subtests"][0]["name"].as_str(), test["subtests"][0]["seconds"].as_f64()),
        (Some("starts"), Some(0.25))
    );
    let again = fleet.test(&["--accel", "tcg", "--json"], 0, &["1 passed*", "--rerun"]);
    assert_eq!(job(&again)["outcome"]["status"], "present");
    assert_eq!(job(&again)["test"]["subtests"][0]["name"], "starts");
    fleet.test(&["--accel", "tcg", "--rerun", "-L"], 0, &["system: vm # hello", "1 test: 1 passed;"]);
    let quiet = fleet.test(&["--accel", "tcg", "--rerun"], 0, &["1 test: 1 passed;"]);
    assert!(!String::from_utf8_lossy(&quiet.stderr).contains("hello"), "logs are shown where -L is given");
    let repeated = fleet.test(&["--accel", "tcg", "--repeat", "3", "--json"], 0, &["run 3 of 3", "passed 3 of 3"]);
    assert_eq!(
        (job(&repeated)["test"]["runs"].as_u64(), job(&repeated)["test"]["passed"].as_u64()),
        (Some(3), Some(3))
    );
}

/// The log of a pass has the picture; its output here has none, and no other run's takes its place.
#[test]
fn a_pass_leaves_a_picture_and_a_remembered_one_only_that_of_its_output() {
    let shown = "echo '-----BEGIN SCREENSHOT vm.png-----'\necho iVBORw0KGgox\necho '-----END SCREENSHOT vm.png-----'\n";
    let fleet = Fleet::new("", &format!("{shown}{PASSES}"), MUST_NOT_RUN);
    let first = job(&fleet.test(&["--accel", "tcg", "--json"], 0, &["1 test: 1 passed;"]));
    let screen = &first["test"]["screens"][0];
    assert_eq!((&screen["boot"], &screen["passed"]), (&Value::from("vm"), &Value::from(true)));
    let picture = fs::read(screen["file"].as_str().unwrap()).unwrap();
    assert_eq!((picture.as_slice(), screen["sha256"].as_str().map(str::len)), (&b"\x89PNG\r\n\x1a\n1"[..], Some(64)));
    let again = job(&fleet.test(&["--accel", "tcg", "--json"], 0, &["1 passed*"]));
    assert_eq!(again["test"]["screens"], Value::Null);
}

/// The output of a test that is run again may differ, for it may hold times.
#[test]
fn a_test_whose_output_differs_has_passed_all_the_same() {
    let script = format!("{PASSES}echo $RANDOM$RANDOM$RANDOM > $out\n");
    let fleet = Fleet::new("", &script, MUST_NOT_RUN);
    fleet.test(&["--accel", "tcg", "--repeat", "3"], 0, &["passed 3 of 3"]);
}

#[test]
fn a_failure_leaves_subtest_console_and_screenshot() {
    let script = "echo 'subtest: outer'\necho 'subtest: starts'\necho 'vm # Kernel panic'\n\
        echo '-----BEGIN SCREENSHOT vm.png-----'\necho aGVsbG8=\necho '-----END SCREENSHOT vm.png-----'\n\
        echo 'test failed in subtest: starts'\necho 'MachineError: vm panicked'\necho 'live.py:7: wait()'\nexit 1\n";
    let fleet = Fleet::new("", script, MUST_NOT_RUN);
    let words = [
        "subtest \"starts\" failed",
        "MachineError: vm panicked",
        "live.py:7: wait()",
        "| vm # Kernel panic",
        "vm.png",
        "--test system --interactive",
        "1 FAILED",
    ];
    let failed = fleet.test(&["--accel", "tcg", "--json"], 1, &words);
    assert_eq!(job(&failed)["outcome"]["stage"], "test");
    let files = job(&failed)["test"]["files"].clone();
    let files: Vec<&str> = files.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let image = files.iter().find(|file| file.ends_with("vm.png")).unwrap();
    assert_eq!(fs::read_to_string(image).unwrap(), "hello");
    let log = files.iter().find(|file| file.ends_with("log.txt")).unwrap();
    assert!(fs::read_to_string(log).unwrap().contains("subtest: outer"));
}

/// Nix offers the feature kvm wherever /dev/kvm can be opened, so without our care both would meet it.
#[test]
fn a_kvm_that_is_not_to_be_used_is_met_neither_in_the_sandbox_nor_outside() {
    let sandboxed = format!("if [ -e /dev/kvm ]; then echo there is a kvm; exit 1; fi\n{PASSES}");
    Fleet::new("", &sandboxed, MUST_NOT_RUN).test(&["--accel", "tcg"], 0, &["1 test: 1 passed;"]);
    let driver = "echo \"accel=$DRYDOCK_ACCEL scale=$DRYDOCK_TIME_SCALE args=$*\"\n\
        if [ \"$(stat -c %t:%T /dev/kvm 2>/dev/null)\" = a:e8 ] && [ -z \"$QEMU_OPTS\" ]; then echo there is a kvm; exit 1; fi\n\
        echo 'subtest: starts'\necho '(finished: subtest: starts, in 0.25 seconds)'";
    let demanding = Fleet::new("\"kvm\"", MUST_NOT_RUN, driver);
    let output =
        demanding.test(&["--accel", "tcg", "--json", "-L"], 0, &["accel=tcg scale=5 args=-o", "outside the sandbox"]);
    assert_eq!(job(&output)["test"]["place"], "outside");
}

#[test]
fn flakiness_is_counted() {
    let driver = "echo x >> $root/count\necho 'subtest: starts'\n[ \"$(wc -l < $root/count)\" != 2 ] || exit 1\n\
        echo '(finished: subtest: starts, in 0.25 seconds)'";
    let fleet = Fleet::new("\"kvm\"", MUST_NOT_RUN, driver);
    let words = ["passed 2 of 3", "2 of 3 runs passed", "subtest \"starts\" failed"];
    fleet.test(&["--accel", "tcg", "--repeat", "3"], 1, &words);
}

#[test]
fn a_test_that_hangs_ends_at_its_limit() {
    let started = Instant::now();
    let hanging = Fleet::new("\"kvm\"", MUST_NOT_RUN, "echo 'subtest: waits'; sleep 600");
    hanging.test(&["--accel", "tcg", "--timeout", "1"], 1, &["subtest \"waits\" failed", "did not end within 5 s"]);
    let sandboxed = Fleet::new("", "echo 'subtest: waits'\nwhile :; do :; done\n", MUST_NOT_RUN);
    sandboxed.test(&["--accel", "tcg", "--timeout", "1"], 1, &["subtest \"waits\" failed", "timed out"]);
    assert!(started.elapsed().as_secs() < 60);
}

#[test]
fn the_shell_of_the_driver_is_one_machines() {
    let fleet = Fleet::new("", MUST_NOT_RUN, "echo \"shell with $QEMU_NET_OPTS\" >&2");
    fleet.test(&["--accel", "tcg", "--interactive"], 0, &["shell with hostfwd=tcp:127.0.0.1:", "ssh -p "]);
    fleet.test(&["--accel", "tcg", "--test", "live"], 2, &["no such test"]);
    fleet.test(&["--test", "lief"], 2, &["--test lief"]);
}

#[test]
fn what_a_test_needs_and_cannot_be_built_is_named_with_its_log() {
    let fleet = Fleet::new("", "echo > $out", "");
    let flake = fleet.root.join("flake.nix");
    let text = fs::read_to_string(&flake).unwrap();
    let needs = format!(
        "needs = derivation {{ name = \"needed-{}\"; system = \"{}-linux\"; builder = \"/bin/sh\"; \
         args = [ \"-c\" \"echo a last word; exit 3\" ]; }};\n    args = [",
        fleet.host,
        std::env::consts::ARCH
    );
    fs::write(&flake, text.replacen("args = [", &needs, 1)).unwrap();
    let words = [
        "FAILED to build: the test did not run",
        "needs was not built: builder for",
        "| a last word",
        "exit code 3",
        "to repeat it: nix build",
    ];
    let ran = fleet.test(&["--accel", "tcg", "--json"], 1, &words);
    let stderr = String::from_utf8_lossy(&ran.stderr);
    assert!(!stderr.contains("outside of any subtest") && !stderr.contains("first builds"), "{stderr}");
    let record: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let drv = record["jobs"][0]["outcome"]["drv"].as_str().unwrap();
    assert!(drv.ends_with(&format!("-needed-{}.drv", fleet.host)), "{drv}");
}
