//! `deploy`, `rollback` and `status` as a person runs them, on machines that are namespaces of this one with ssh servers.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod installing;
mod machines;
#[path = "../build_all/synthetic.rs"]
#[expect(dead_code, reason = "builds and their results are the business of the other tests")]
mod synthetic;

use std::{
    fs,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use machines::Site;
use serde_json::Value;

/// Time enough on a machine that has much else to do.
const DEPLOY: [&str; 4] = ["deploy", "--yes", "--confirm-timeout", "90"];

/// For changes that the machine is to undo.
const BRIEFLY: [&str; 4] = ["deploy", "--yes", "--confirm-timeout", "8"];

#[test]
#[ignore = "needs root, namespaces and sshd; `cargo chores check` runs it as root and says where it does not"]
fn with_machines_a_change_is_confirmed_and_becomes_the_boot_default() {
    let site = Site::new(1);
    assert_eq!(site.versions("m0"), "one one");
    site.xtask(&DEPLOY).expect(0, &["1 unchanged"]);
    site.system("m0", "two", &[]);
    site.xtask(&DEPLOY).expect(0, &["~ web.service", "1 confirmed"]);
    assert_eq!(site.versions("m0"), "two two");
    assert_eq!(
        site.inside("m0", "ls /nix/var/nix/gcroots | grep drydock; systemctl is-active drydock-undo.timer"),
        "inactive"
    );
    site.xtask(&DEPLOY).expect(0, &["1 unchanged"]);
    // Somebody else than root, by the word of `id`, who has a sudo and a shell that talks.
    site.program("m0", "id", "echo 1000");
    site.program("m0", "sudo", "echo \"$*\" >>/nix/sudo.log; shift; exec \"$@\"");
    site.system("m0", "three", &[]);
    site.xtask(&DEPLOY).expect(0, &["1 confirmed"]);
    let log = fs::read_to_string(site.path("m0", "nix/sudo.log")).unwrap();
    assert!(log.contains("-n /bin/sh -s sudo\n") && log.contains("-n nix-daemon --stdio\n"), "{log}");
    assert_eq!(site.versions("m0"), "three three");
    site.program("m0", "sudo", "echo 'sudo: a password is required' >&2; exit 1");
    site.xtask(&DEPLOY).expect(1, &["sudo: a password is required", "wheelNeedsPassword"]);
}

#[test]
#[ignore = "needs root, namespaces and sshd; `cargo chores check` runs it as root and says where it does not"]
fn with_machines_what_is_not_well_is_undone_and_said() {
    let site = Site::new(1);
    let off = "touch /run/sshd-off; kill $(cat /run/sshd.pid)";
    let well = |more: &str| format!("{more}; ln -sfn \"$system\" /run/current-system; exit 4");
    let restarted = |status: &str| {
        let unit = "echo web.service loaded activating auto-restart >/run/failed-units";
        well(&format!("{unit}; echo {status} >/run/main-status"))
    };
    // The behaviour of the system, and what is said.
    let rows: [(&[&str], &str, &str); 7] = [
        (&BRIEFLY, off, "Connection refused"),
        (&DEPLOY, "exit 2", "switch-to-configuration ended with 2"),
        (&DEPLOY, "echo broken.service loaded failed failed >/run/failed-units; exit 4", "broken.service failed"),
        (&DEPLOY, &restarted("1"), "web.service failed"),
        // The script does not end the activation, and the 4 of a unit hides its 2.
        (&DEPLOY, &well("echo 'Failed to run activate script' >&2"), "switch-to-configuration ended with 4"),
        (&BRIEFLY, "sleep 1000", "it was not confirmed in time"),
        (&DEPLOY, "false; exit 0", "the new system is not the one that runs"),
    ];
    for (n, (args, behaviour, words)) in rows.iter().enumerate() {
        site.system("m0", &format!("v{n}"), &[("behaviour", behaviour)]);
        site.xtask(args).expect(4, &[words, "1 rolled back"]);
        assert_eq!(site.versions("m0"), "one one", "{behaviour}");
        let kept = site.inside("m0", "cat /nix/var/nix/gcroots/drydock-failed/nixos-version");
        assert!(kept.ends_with(&format!("v{n}")), "{kept}");
    }
    // What is said and undoes nothing: a user's units, a service that ended as it should and is started again.
    let words = "warning: user activation for admin failed";
    site.system("m0", "user", &[("behaviour", &well(&format!("echo '{words}' >&2")))]);
    site.xtask(&DEPLOY).expect(0, &[words, "1 confirmed"]);
    site.system("m0", "again", &[("behaviour", &restarted("0"))]);
    site.xtask(&DEPLOY).expect(0, &["1 confirmed"]);
}

#[test]
#[ignore = "needs root, namespaces and sshd; `cargo chores check` runs it as root and says where it does not"]
fn with_machines_twenty_at_once_cost_each_other_nothing() {
    let mut site = Site::new(20);
    for n in 0..20 {
        let slow = [("behaviour", "sleep 1000")];
        site.system(&format!("m{n}"), "two", if n == 11 { &slow } else { &[] });
    }
    site.end("m3");
    site.lock_out("m7");
    let args = ["deploy", "--yes", "--confirm-timeout", "25", "--json", "--parallel", "20"];
    let words = ["m3   failed", "m7   failed", "m11  rolled back", "20 hosts: 17 confirmed, 1 rolled back, 2 failed"];
    let ids = || -> Vec<String> {
        let there = (0..20).filter(|n| ![3, 7, 11].contains(n)).map(|n| format!("m{n}"));
        there.map(|name| site.inside(&name, "cat /run/drydock-deploy/id")).collect()
    };
    site.xtask(&args)
        .expect(1, &words)
        .expect(1, &["Connection refused", "Permission denied", "not confirmed in time"]);
    let before = ids();
    assert!(before.iter().all(|id| !id.is_empty()));
    let again = site.xtask(&args).expect(1, &["20 hosts: 17 unchanged, 1 rolled back, 2 failed"]);
    assert_eq!(ids(), before);
    drydock_model::samples::keep("deployment.machines", &again.stdout);
    let record: Value = serde_json::from_str(&again.stdout).unwrap();
    let states: Vec<&str> =
        record["hosts"].as_array().unwrap().iter().map(|row| row["state"].as_str().unwrap()).collect();
    assert_eq!(states.iter().filter(|state| **state == "unchanged").count(), 17);
    assert_eq!(site.versions("m0"), "two two");
    assert_eq!(site.versions("m11"), "one one");
}

#[test]
#[ignore = "needs root, namespaces and sshd; `cargo chores check` runs it as root and says where it does not"]
fn with_machines_checks_decide_before_the_profile_is_touched() {
    let seen = "readlink /nix/var/nix/profiles/system >/nix/seen";
    let check = "test \"$(cat /nix/seen)\" = 'system-1-link' && echo \"it's so\" && ! test -e /nix/bad";
    let site = Site::with_rows(1, |_| format!("checks = ['{seen}', {check:?}]\n"));
    site.system("m0", "bad", &[("behaviour", "touch /nix/bad")]);
    site.xtask(&["deploy", "--yes", "--confirm-timeout", "90"])
        .expect(4, &["the check `test", "(exit code 1): it's so", "1 rolled back"]);
    assert_eq!(site.versions("m0"), "one one");
    fs::remove_file(site.path("m0", "nix/bad")).unwrap();
    site.system("m0", "good", &[]);
    site.xtask(&DEPLOY).expect(0, &["1 confirmed"]);
    assert_eq!(site.versions("m0"), "good good");
}

#[test]
#[ignore = "needs root, namespaces and sshd; `cargo chores check` runs it as root and says where it does not"]
fn with_machines_only_one_deployment_at_once_and_whatever_ends_us_is_undone() {
    let site = Site::new(1);
    site.system("m0", "two", &[("behaviour", "sleep 2")]);
    let wait_until_it_begins = || {
        let began = Instant::now();
        while site.inside("m0", "systemctl is-active drydock-activate.service") != "active" {
            assert!(began.elapsed() < Duration::from_secs(20));
        }
    };
    let start = |args: &[&str]| {
        let mut drydock = Command::new(env!("CARGO_BIN_EXE_drydock"));
        drydock.args(args).current_dir(&site.fleet.root).env("PATH", site.env());
        drydock.stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    for signal in ["-KILL", "-INT"] {
        let running = start(&BRIEFLY);
        wait_until_it_begins();
        Command::new("kill").args([signal, &running.id().to_string()]).status().unwrap();
        let output = running.wait_with_output().unwrap();
        if signal == "-INT" {
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(said.contains("goes back to the old system by itself within"), "{said}");
            assert_eq!(output.status.code(), Some(130));
        }
        let began = Instant::now();
        while site.inside("m0", "cat /run/drydock-deploy/outcome").is_empty() {
            assert!(began.elapsed() < Duration::from_secs(60));
            sleep(Duration::from_millis(200));
        }
        assert_eq!(site.versions("m0"), "one one", "{signal}");
        assert_eq!(site.inside("m0", "cat /run/drydock-deploy/outcome"), "rolled-back 0");
    }
    let first = start(&DEPLOY);
    wait_until_it_begins();
    site.xtask(&DEPLOY).expect(1, &["is switching it", "again when that has ended"]);
    assert_eq!(first.wait_with_output().unwrap().status.code(), Some(0));
    assert_eq!(site.versions("m0"), "two two");
}

#[test]
#[ignore = "needs root, namespaces and sshd; `cargo chores check` runs it as root and says where it does not"]
fn with_machines_what_cannot_be_begun_changes_nothing_and_says_what_to_try() {
    let mut site = Site::new(2);
    site.system("m0", "two", &[("large", &"x".repeat(20 << 20))]);
    site.system("m1", "two", &[]);
    site.xtask(&["deploy"]).expect(2, &["no terminal", "--yes"]);
    // Half of the copy comes through.
    site.program(
        "m0",
        "nix-daemon",
        "dd bs=4096 count=100 2>/dev/null | /usr/bin/env PATH=/usr/local/bin:/usr/bin:/bin nix-daemon \"$@\"",
    );
    site.xtask(&DEPLOY).expect(1, &["could not be copied", "to repeat it: NIX_SSHOPTS=", "1 confirmed, 1 failed"]);
    assert_eq!(site.versions("m0"), "one one");
    site.shrink("m0");
    site.xtask(&DEPLOY).expect(1, &["in its store and has", "nix-collect-garbage"]);
    fs::write(site.fleet.path("known-m0"), "").unwrap();
    site.xtask(&DEPLOY).expect(1, &["Host key verification failed", "try: `ssh m0`, and accept its key"]);
    let matrix = fs::read_to_string(site.fleet.path("hosts/hosts.toml")).unwrap();
    let other = matrix.replace("[host.m1]\n", "[host.m1]\nsystem = \"aarch64-linux\"\n");
    fs::write(site.fleet.path("hosts/hosts.toml"), other).unwrap();
    site.system("m1", "three", &[]);
    site.xtask(&[&DEPLOY[..], &["m1"]].concat()).expect(1, &["built for aarch64 and the machine is x86_64"]);
    fs::write(site.fleet.path("hosts/hosts.toml"), matrix).unwrap();
    // A host that cannot be built costs itself only.
    fs::remove_dir_all(site.fleet.path("systems/m0")).unwrap();
    site.xtask(&DEPLOY).expect(1, &["m0  failed", "could not be built", "1 confirmed, 1 failed"]);
    assert_eq!(site.versions("m1"), "three three");
}

#[test]
#[ignore = "needs root, namespaces and sshd; `cargo chores check` runs it as root and says where it does not"]
fn with_machines_each_way_to_activate() {
    let site = Site::new(1);
    let with = |more: &[&str]| site.xtask(&[&DEPLOY[..], more].concat());
    site.system("m0", "two", &[]);
    with(&["--dry-activate"]).expect(0, &["would restart the following units: web.service"]);
    assert_eq!(site.versions("m0"), "one one");
    with(&["--test"]).expect(0, &["1 confirmed"]);
    assert_eq!(site.versions("m0"), "two one");
    with(&[]).expect(0, &["1 confirmed"]);
    assert_eq!(site.versions("m0"), "two two");
    site.system("m0", "three", &[]);
    with(&["--boot"]).expect(0, &["1 confirmed"]);
    assert_eq!(site.versions("m0"), "two three");
    with(&["--boot", "--reboot"]).expect(0, &["restarting", "1 confirmed"]);
    assert_eq!(site.versions("m0"), "three three");
    site.system("m0", "four", &[("kernel", "another"), ("no-boot-loader", "")]);
    with(&[]).expect(1, &["restart only: kernel", "the boot default could not be set", "no space left on /boot"]);
    assert_eq!(site.versions("m0"), "four three");
    site.system("m0", "five", &[("does-not-come-back", "")]);
    with(&["--reboot", "--reboot-timeout", "3"])
        .expect(5, &["not back after 3 s", "its boot default is the new system"]);
}

#[test]
#[ignore = "needs root, namespaces and sshd; `cargo chores check` runs it as root and says where it does not"]
fn with_machines_waves_stop_at_a_failure_unless_told_otherwise() {
    let site = Site::with_rows(4, |n| if n == 0 { "tags = [\"canary\"]\n".into() } else { String::new() });
    let with = |more: &[&str]| site.xtask(&[&DEPLOY[..], more].concat());
    (0..4).for_each(|n| site.system(&format!("m{n}"), "two", if n == 0 { &[("behaviour", "exit 1")] } else { &[] }));
    with(&["--wave", "canary"]).expect(2, &["m1 has none of the tags canary", "rest"]);
    with(&["--wave", "cnary,rest"]).expect(2, &["none of the hosts belongs to the wave cnary"]);
    with(&["--wave", "canary,rest"]).expect(4, &["1 rolled back, 3 not tried", "--keep-going"]);
    assert_eq!(site.versions("m1"), "one one");
    with(&["--parallel", "1", "--max-failed", "0"]).expect(4, &["3 not tried", "--max-failed"]);
    with(&["--wave", "canary,rest", "--keep-going"]).expect(4, &["3 confirmed, 1 rolled back"]);
}

#[test]
#[ignore = "needs root, namespaces and sshd; `cargo chores check` runs it as root and says where it does not"]
fn with_machines_status_tells_and_rollback_goes_back() {
    let mut site = Site::new(2);
    site.xtask(&["rollback", "m0", "--yes"]).expect(1, &["there is no earlier generation"]);
    site.system("m0", "two", &[("kernel", "another")]);
    site.xtask(&[&DEPLOY[..], &["m0"]].concat()).expect(0, &[]);
    let rows = |site: &Site| site.xtask(&["status"]).expect(0, &[]).stdout;
    let text = rows(&site);
    assert!(text.contains("26.05.20260701.two (generation 2)  same   -       pending"), "{text}");
    assert!(text.contains("26.05.20260701.one (generation 1)  same   -       -"), "{text}");
    site.xtask(&["rollback", "m0", "--yes", "--confirm-timeout", "90"])
        .expect(0, &["goes back to generation 1", "1 confirmed"]);
    assert_eq!(site.versions("m0"), "one one");
    let text = rows(&site);
    assert!(text.contains("26.05.20260701.one (generation 1)  differs"), "{text}");
    site.end("m1");
    let ran = site.xtask(&["status", "--json"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    drydock_model::samples::keep("status.machines", &ran.stdout);
    let status: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(status["hosts"][0]["up_to_date"], false);
    assert!(status["hosts"][1]["error"].as_str().unwrap().contains("Connection refused"), "{status}");
}
