//! `install` as a person runs it, on machines that are namespaces of this one and say that they run a live medium.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    machines::{Site, stand_ins},
    synthetic::Ran,
};

const DISK: &str = "/nix/disk-sda";
const MAIN: [&str; 5] = ["install", "m0", "--to", "m0", "--disk"];
const YES: [&str; 3] = ["--yes", "--erase", DISK];

/// A site whose machine `m0` runs a live medium and has a disk; its host has a disk layout.
fn site() -> Site {
    let site = Site::new(1);
    let text = fs::read_to_string(site.fleet.path("flake.nix")).unwrap();
    let config = "system.build.destroyFormatMount = system \"disko\" ./disko; disko.devices.disk.main.device = \
                  \"/run/drydock/disk/main\"; services.openssh = { enable = true; hostKeys = [ { type = \"ed25519\"; \
                  path = \"/etc/ssh/ssh_host_ed25519_key\"; } ]; };";
    let text =
        text.replace("in { hydraJobs", &format!("in {{ nixosConfigurations.m0.config = {{ {config} }}; hydraJobs"));
    fs::write(site.fleet.path("flake.nix"), text).unwrap();
    fs::create_dir_all(site.fleet.path("disko/bin")).unwrap();
    let program = "disko-destroy-format-mount";
    fs::copy(stand_ins().join(program), site.fleet.path("disko/bin").join(program)).unwrap();
    fs::write(site.path("m0", DISK.trim_start_matches('/')), "").unwrap();
    table(&site, 40 << 30, None);
    site.program("m0", "lsblk", "cat /nix/table; echo");
    site.program("m0", "wipefs", "! test -e /nix/used");
    site.program("m0", "findmnt", "[ \"$1\" != -no ] || exec cat /nix/root; exec /usr/bin/findmnt \"$@\"");
    fs::write(site.path("m0", "nix/root"), "tmpfs\n").unwrap();
    site.system("m0", "two", &[]);
    site
}

/// What lsblk says on the machine.
fn table(site: &Site, size: u64, mount: Option<&str>) {
    let disk = json!({
        "name": "sda", "path": DISK, "maj:min": "8:0", "type": "disk", "tran": "sata", "ro": false, "size": size,
        "log-sec": 512, "vendor": "ATA", "model": "Old\u{1b}[2J", "serial": "S1", "fstype": "ext4", "label": "photos",
        "mountpoints": [mount]
    });
    fs::write(site.path("m0", "nix/table"), json!({ "blockdevices": [disk] }).to_string()).unwrap();
}

fn install(site: &Site, more: &[&str]) -> Ran {
    // Seconds in place of 15 minutes, for when the test fails.
    let patience = if more.contains(&"--reboot-timeout") { &[][..] } else { &["--reboot-timeout", "60"] };
    site.xtask(&[&MAIN[..], &[&format!("main={DISK}")], patience, more].concat())
}

/// What the stand-ins wrote down on the machine.
fn log(site: &Site) -> String {
    fs::read_to_string(site.path("m0", "nix/log")).unwrap_or_default()
}

fn running(site: &Site) -> String {
    site.inside("m0", "cat /run/current-system/nixos-version")
}

#[test]
#[ignore = "needs root, namespaces and sshd; `cargo chores check` runs it as root and says where it does not"]
fn with_machines_a_host_is_installed_and_seen_with_its_new_key() {
    let site = site();
    let folder = site.fleet.path("extra it's");
    let odd = "it's a \"key\" $(id)";
    fs::create_dir_all(folder.join("etc/ssh")).unwrap();
    fs::create_dir(folder.join("root")).unwrap();
    fs::set_permissions(folder.join("root"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(folder.join(odd), "secret").unwrap();
    chown(folder.join(odd), Some(1234), Some(1234)).unwrap();
    fs::set_permissions(folder.join(odd), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("../nowhere", folder.join("link")).unwrap();
    let extra = ["--extra-files", folder.as_str(), "--json"];
    let ran = install(&site, &[&YES[..], &extra].concat());
    let words = [
        "sata  ATA  Old?[2J  serial S1  40.0 GiB",
        "ext4 \"photos\"",
        "m0: waiting",
        "its host keys from now on",
        "1 confirmed",
    ];
    let ran = ran.expect(0, &words);
    let record: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (&record["command"], &record["hosts"][0]["state"]),
        (&json!("install"), &json!("confirmed")),
        "{record}"
    );
    assert_eq!(record["hosts"][0]["target"], "m0");
    assert_eq!(log(&site), format!("partitioned {DISK}\n"));
    let target = site.path("m0", "nix/target");
    let place = |path: &str| {
        let metadata = fs::metadata(target.join(path)).unwrap();
        (metadata.permissions().mode() & 0o7777, metadata.uid())
    };
    assert_eq!((place(odd), place("root")), ((0o640, 0), (0o700, 0)));
    assert_eq!(fs::read(target.join(odd)).unwrap(), b"secret");
    // Neither what is kept of the run nor what it said has the content, as it is or as it travels.
    let kept = site.inside("m0", "grep -rlE 'secret|c2VjcmV0' /run /nix/log /nix/store 2>/dev/null");
    assert!(kept.is_empty() && !ran.stderr.contains("c2VjcmV0"), "{kept}");
    assert_eq!(target.join("link").read_link_utf8().unwrap(), "../nowhere");
    assert!(ran.stderr.contains(
        fs::read_to_string(target.join("etc/ssh/ssh_host_ed25519_key.pub")).unwrap().split(' ').nth(1).unwrap()
    ));
    // Who knew the medium is told that this is another machine, and nothing else of it is on the machine.
    let status = site.xtask(&["status"]);
    assert!(status.stdout.contains("Host key verification failed"), "{status:?}");
}

#[test]
#[ignore = "needs root, namespaces and sshd; `cargo chores check` runs it as root and says where it does not"]
fn with_machines_nothing_is_erased_where_it_must_not_be_or_nobody_said_so() {
    let site = site();
    site.xtask(&["install", "m0", "--yes", "--erase", DISK]).expect(2, &["--to"]);
    install(&site, &[]).expect(2, &["no terminal", "--yes with --erase DISK"]);
    install(&site, &["--yes"]).expect(2, &["--erase"]);
    site.xtask(&[&["install", "m0", "--to", "m0"], &YES[..]].concat())
        .expect(2, &["leaves open which disk \"main\" is"]);
    let other = ["--yes", "--erase", "/dev/sdb"];
    install(&site, &other).expect(2, &["/nix/disk-sda is not", "nothing was changed", "try: --erase /nix/disk-sda"]);
    install(&site, &[&YES[..], &["--erase", "/dev/sdb"]].concat()).expect(2, &["--erase /dev/sdb: that is no disk"]);
    site.xtask(&[&MAIN[..], &["main=/nix/none"], &YES].concat())
        .expect(1, &["there is no disk /nix/none", "its disks are", "1 failed"]);
    table(&site, 1 << 30, None);
    install(&site, &YES).expect(1, &["the system needs", "the disks have 1.0 GiB"]);
    table(&site, 40 << 30, Some("/"));
    install(&site, &YES).expect(1, &["in use (mounted at /)"]);
    table(&site, 40 << 30, None);
    fs::write(site.path("m0", "nix/used"), "").unwrap();
    install(&site, &YES).expect(1, &["something uses it"]);
    fs::remove_file(site.path("m0", "nix/used")).unwrap();
    fs::write(site.path("m0", "nix/root"), "ext4\n").unwrap();
    install(&site, &YES).expect(1, &["it runs from a disk", "nixos-anywhere"]);
    fs::write(site.path("m0", "nix/root"), "tmpfs\n").unwrap();
    site.program("m0", "uname", "echo aarch64");
    install(&site, &YES).expect(1, &["it is built for x86_64 and the machine is aarch64"]);
    fs::remove_file(site.path("m0", "bin/uname")).unwrap();
    let words = ["env", &format!("PATH={}", site.env()), env!("CARGO_BIN_EXE_drydock")].map(str::to_owned).into_iter();
    let words: Vec<String> = words.chain(MAIN.map(str::to_owned)).chain([format!("main={DISK}")]).collect();
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--command", &words.join(" "), "/dev/null"])
        .current_dir(&site.fleet.root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    sleep(Duration::from_secs(1));
    input.write_all(b"yes\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("Type m0 to go on") && said.contains("nothing was changed"), "{said}");
    assert_eq!(output.status.code(), Some(130));
    let known = fs::read_to_string(site.fleet.path("known-m0")).unwrap();
    fs::write(site.fleet.path("known-m0"), "").unwrap();
    install(&site, &YES).expect(1, &["Host key verification failed"]);
    fs::write(site.fleet.path("known-m0"), known).unwrap();
    assert_eq!((log(&site), running(&site)), (String::new(), "26.05.20260701.one".to_owned()));
}

#[test]
#[ignore = "needs root, namespaces and sshd; `cargo chores check` runs it as root and says where it does not"]
fn with_machines_what_fails_on_the_way_says_what_the_disks_are_now() {
    let site = site();
    let write = |file: &str, text: &str| fs::write(site.path("m0", "nix").join(file), text).unwrap();
    let is_clean = || {
        let said = site.inside("m0", "findmnt /mnt; systemctl is-active drydock-install.service");
        assert_eq!(said, "inactive");
        assert_eq!(running(&site), "26.05.20260701.one");
    };
    write("disko-behaviour", "echo 'no such tool'; exit 3");
    install(&site, &YES)
        .expect(1, &["partitioning failed (3)", "| no such tool", "partitioned in part", "nothing starts"]);
    is_clean();
    write("disko-behaviour", "");
    let daemon = "PATH=/usr/local/bin:/usr/bin:/bin exec nix-daemon \"$@\"";
    site.program(
        "m0",
        "nix-daemon",
        &format!("! /usr/bin/findmnt /mnt >/dev/null || exec dd bs=4096 count=9\n{daemon}"),
    );
    install(&site, &YES).expect(1, &["could not be copied", "partitioned and empty", "repeat this"]);
    is_clean();
    fs::remove_file(site.path("m0", "bin/nix-daemon")).unwrap();
    write("install-behaviour", "echo 'no space left'; exit 7");
    install(&site, &YES).expect(1, &["nixos-install failed (7)", "| no space left", "a part of the system"]);
    is_clean();
    // Ctrl-C while it is partitioned, and somebody else who comes at that moment.
    write("disko-behaviour", "sleep 60");
    write("install-behaviour", "");
    let mut drydock = Command::new(env!("CARGO_BIN_EXE_drydock"));
    drydock.args(MAIN).arg(format!("main={DISK}")).args(YES).current_dir(&site.fleet.root).env("PATH", site.env());
    let running = drydock.stderr(Stdio::piped()).spawn().unwrap();
    let (began, before) = (Instant::now(), log(&site));
    while log(&site) == before {
        assert!(began.elapsed() < Duration::from_secs(20));
        sleep(Duration::from_millis(50));
    }
    install(&site, &YES).expect(1, &["installs it at this moment", "systemctl stop drydock-install"]);
    Command::new("kill").args(["-INT", &running.id().to_string()]).status().unwrap();
    let output = running.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("interrupted\n") && said.contains("partitioned in part"), "{said}");
    assert_eq!(output.status.code(), Some(130));
    is_clean();
}

#[test]
#[ignore = "needs root, namespaces and sshd; `cargo chores check` runs it as root and says where it does not"]
fn with_machines_only_the_system_that_was_installed_counts_as_seen() {
    let site = site();
    let again = |with: &[&str]| install(&site, &[&YES[..], &["--reboot-timeout", "4"], with].concat());
    // A connection that is lost on the way, and a system that goes straight to the disk.
    let lost = "touch /run/sshd-off; for p in /proc/[0-9]*; do case $(cat $p/comm) in sshd*) kill ${p#/proc/} ;; esac; \
                done; sleep 3; rm /run/sshd-off";
    fs::write(site.path("m0", "nix/disko-behaviour"), lost).unwrap();
    site.program("m0", "df", "printf 'h\\nx 1 1 9 1%% /\\n'");
    again(&["--no-reboot"]).expect(0, &["it does not answer", "1 installed", "it was not restarted"]);
    assert_eq!((log(&site).contains("the disk had the system"), running(&site)), (true, "26.05.20260701.one".into()));
    // The machine starts from its medium again, which has another host key.
    fs::write(site.path("m0", "nix/disko-behaviour"), "").unwrap();
    site.program("m0", "cp", "[ \"$1\" = -p ] || exec /bin/cp \"$@\"");
    again(&[]).expect(5, &["it was not seen after 4 s: m0: Host key verification failed", "1 unknown"]);
    fs::remove_file(site.path("m0", "bin/cp")).unwrap();
    // Another system than that.
    let other = "readlink -f /nix/var/nix/profiles/system-1-link >/nix/var/boot-default; exit 0";
    fs::write(site.path("m0", "nix/install-behaviour"), other).unwrap();
    again(&[]).expect(1, &["it runs /nix/store/", "and not the system that was installed", "1 failed"]);
    fs::remove_file(site.path("m0", "nix/install-behaviour")).unwrap();
    // It does not come back. A person has made the new key known.
    let known = fs::read_to_string(site.fleet.path("known-m0")).unwrap();
    let key = fs::read_to_string(site.path("m0", "nix/target/etc/ssh/ssh_host_ed25519_key.pub")).unwrap();
    fs::write(site.fleet.path("known-m0"), format!("{} {key}", known.split(' ').next().unwrap())).unwrap();
    site.system("m0", "three", &[("does-not-come-back", "")]);
    again(&[]).expect(5, &["it was not seen after 4 s", "Connection refused", "1 unknown"]);
}
