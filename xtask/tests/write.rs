//! `cargo xtask write` as a person runs it: to files, with devices that a stand-in for lsblk tells of, and to loop devices.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[path = "build_all/synthetic.rs"]
#[expect(dead_code, reason = "builds and their results are the business of the other tests")]
mod synthetic;

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;
use synthetic::{Fleet, Ran};

const REVISION: &str = "4247060aa";

/// A fleet whose `web` was built earlier to an image of so many bytes.
fn fleet(size: usize) -> Fleet {
    let fleet = Fleet::new(&[("web", "1")]);
    let text = fs::read_to_string(fleet.path("hosts/hosts.toml")).unwrap();
    fs::write(fleet.path("hosts/hosts.toml"), text + "artifacts = [\"iso\"]\nlive = \"minimal\"\n").unwrap();
    let image = fleet.path("result/web/iso/web.iso");
    fs::create_dir_all(image.parent().unwrap()).unwrap();
    fs::write(&image, (0..size).map(|n| (n * 7 + n / 251) as u8 | 1).collect::<Vec<u8>>()).unwrap();
    let sha256 = run("sha256sum", &[image.as_str()]).split(' ').next().unwrap().to_owned();
    let entry = json!({
        "host": "web", "artifact": "iso", "system": "x86_64-linux", "store_path": "/nix/store/x", "drv": "/nix/store/x.drv",
        "size": size, "closure_size": size, "revision": REVISION, "dirty": true,
        "image": {"path": "web/iso/web.iso", "size": size, "sha256": sha256}
    });
    fs::write(fleet.path("result/manifest.json"), json!({"drydock": 1, "results": [entry]}).to_string()).unwrap();
    fleet
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn program(folder: &Utf8Path, name: &str, script: &str) {
    fs::create_dir_all(folder).unwrap();
    let file = folder.join(name);
    fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
}

/// PATH with stand-ins before everything else.
fn path_with(folder: &Utf8Path) -> String {
    format!("{folder}:{}", std::env::var("PATH").unwrap())
}

const WRITE: [&str; 3] = ["write", "web", "--no-build"];

fn write(fleet: &Fleet, more: &[&str]) -> Ran {
    fleet.xtask(&[&WRITE, more].concat())
}

#[test]
fn a_file_gets_the_image_and_is_replaced_only_with_yes() {
    let fleet = fleet(5 << 20);
    let image = fs::read(fleet.path("result/web/iso/web.iso")).unwrap();
    let state = format!("of revision {REVISION} with changes that were not committed");
    write(&fleet, &["--file", "web.img"]).expect(0, &[&state, "not looked at", "read back", "is the same"]);
    assert!(fs::read(fleet.path("web.img")).unwrap() == image);
    fs::write(fleet.path("web.img"), "mine").unwrap();
    write(&fleet, &["--file", "web.img"]).expect(2, &["web.img exists", "--yes"]);
    assert_eq!(fs::read(fleet.path("web.img")).unwrap(), b"mine");
    write(&fleet, &["--file", "web.img", "--yes"]).expect(0, &[]);
    assert!(fs::read(fleet.path("web.img")).unwrap() == image);
}

#[test]
fn wrong_use_is_said_before_anything_is_lost() {
    let fleet = fleet(1 << 20);
    let rows: &[(&[&str], &[&str])] = &[
        (&["--file", "."], &["is no file", "without --file"]),
        (&["--file", "/dev/null", "--yes"], &["is no file", "without --file"]),
        (&["--file", "no/such/folder/x"], &["No such file"]),
        (&["--file", "result/web/iso/web.iso", "--yes"], &["is the image itself"]),
        (&["/dev/null"], &["/dev/null is no block device", "--file"]),
        (&["no-such-device"], &["/dev/no-such-device: No such file", "lists the devices"]),
        (&["/dev/null", "--file", "x"], &["cannot be used with"]),
        (&["--all-attached", "web=x"], &["cannot be used with"]),
        (&["--out-link", "elsewhere", "--file", "x"], &["elsewhere has no image of web", "build-all web"]),
    ];
    for (more, words) in rows {
        write(&fleet, more).expect(2, words);
    }
    let all: &[(&[&str], &str)] = &[
        (&["web"], "web is not of the form HOST=DEVICE"),
        (&["=sdb"], "=sdb is not of the form HOST=DEVICE"),
        (&["web="], "web= is not of the form HOST=DEVICE"),
        (&["web=no-such-device"], "/dev/no-such-device: No such file"),
        (&["wbe=null"], "did you mean `web`"),
        (&["web=null"], "/dev/null is no block device"),
        (&["--file", "x"], "a value is required"),
    ];
    for (more, words) in all {
        fleet.xtask(&[&["write", "--no-build", "--all-attached"], *more].concat()).expect(2, &[words]);
    }
    fleet.xtask(&["write", "wbe", "--no-build"]).expect(2, &["did you mean `web`"]);
    fleet.xtask(&["write-device", "{}"]).expect(2, &["no order of `write`"]);
    assert_eq!(fs::metadata(fleet.path("result/web/iso/web.iso")).unwrap().len(), 1 << 20);
}

#[test]
fn an_image_that_is_not_what_was_built_is_not_delivered() {
    let fleet = fleet(2 << 20);
    let image = fleet.path("result/web/iso/web.iso");
    let mut bytes = fs::read(&image).unwrap();
    bytes[1_000_000] ^= 1;
    fs::write(&image, &bytes).unwrap();
    write(&fleet, &["--file", "x"]).expect(1, &["SHA-256", "wiped"]);
    assert!(fs::read(fleet.path("x")).unwrap().iter().all(|&byte| byte == 0));
    fs::write(&image, &bytes[1..]).unwrap();
    write(&fleet, &["--file", "x", "--yes"]).expect(1, &["2097151 bytes and had 2097152"]);
    fs::remove_file(&image).unwrap();
    write(&fleet, &["--file", "x", "--yes"]).expect(2, &["No such file", "build-all web"]);
}

#[test]
fn without_a_device_and_a_terminal_the_devices_are_listed() {
    let fleet = fleet(1 << 20);
    let stick = json!({
        "name": "sdb", "path": "/dev/sdb", "maj:min": "8:16", "type": "disk", "tran": "usb", "ro": false,
        "size": 31_000_000_000_u64, "log-sec": 512, "vendor": "SanDisk ", "model": "Ultra", "serial": "4C53", "fstype": null,
        "label": null, "mountpoints": [null], "children": [{
            "name": "sdb1", "path": "/dev/sdb1", "maj:min": "8:17", "type": "part", "tran": null, "ro": false,
            "size": 31_000_000_000_u64, "log-sec": 512, "vendor": null, "model": null, "serial": null, "fstype": "vfat",
            "label": "PHOTOS", "mountpoints": [null]
        }]
    });
    let mut system = stick.clone();
    system["name"] = json!("sda");
    system["children"][0]["mountpoints"] = json!(["/"]);
    let (bin, table) = (fleet.path("bin"), fleet.path("table.json"));
    program(&bin, "lsblk", &format!("exec cat '{table}'"));
    let tell = |devices: serde_json::Value| fs::write(&table, json!({ "blockdevices": devices }).to_string()).unwrap();
    let asked = |more: &[&str]| fleet.xtask_with(&[("PATH", &path_with(&bin))], &[&WRITE, more].concat());
    tell(json!([stick, system]));
    let words = [
        "/dev/sdb  usb  SanDisk  Ultra  serial 4C53  28.9 GiB",
        "sdb1: vfat \"PHOTOS\"",
        "Not offered",
        "running system",
    ];
    asked(&[]).expect(2, &[&words[..], &["which device?", "web DEVICE"]].concat());
    asked(&["--yes"]).expect(2, &["which device?"]);
    tell(json!([system]));
    asked(&[]).expect(2, &["No device can be written", "plug in a stick"]);
    fs::write(&table, "not JSON").unwrap();
    asked(&[]).expect(3, &["lsblk", "util-linux 2.37"]);
    program(&bin, "lsblk", "echo 'lsblk: unknown column: MOUNTPOINTS' >&2; exit 1");
    asked(&[]).expect(3, &["unknown column", "util-linux 2.37"]);
    fs::create_dir(fleet.path("empty")).unwrap();
    let bare = fleet.xtask_with(&[("PATH", fleet.path("empty").as_str())], &WRITE);
    bare.expect(3, &["lsblk is not on PATH", "install util-linux"]);
}

/// A loop device, detached when dropped.
struct Loop(String);

impl Loop {
    fn of_size(fleet: &Fleet, size: u64) -> Self {
        Self::of_file(fleet, "stick.img", size)
    }

    fn of_file(fleet: &Fleet, name: &str, size: u64) -> Self {
        let file = fleet.path(name);
        fs::File::create(&file).unwrap().set_len(size).unwrap();
        Self(run("losetup", &["--show", "--find", file.as_str()]).trim().to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

/// A file system in memory, unmounted when dropped.
struct Mount(Utf8PathBuf);

impl Mount {
    fn tmpfs(fleet: &Fleet, name: &str, size: &str) -> Self {
        let folder = fleet.path(name);
        fs::create_dir(&folder).unwrap();
        run("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", folder.as_str()]);
        Self(folder)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// What is answered at a terminal, each when it had time to be asked for.
fn at_a_terminal(fleet: &Fleet, words: &[&str], answers: &[&str]) -> Ran {
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--command", &words.join(" "), "/dev/null"])
        .current_dir(&fleet.root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    for answer in answers {
        sleep(Duration::from_secs(2));
        input.write_all(answer.as_bytes()).unwrap();
    }
    // A terminal that goes away would end what still runs.
    let mut ran = Ran::from(child.wait_with_output().unwrap());
    drop(input);
    std::mem::swap(&mut ran.stdout, &mut ran.stderr);
    ran
}

#[test]
#[ignore = "needs root, losetup and script; `cargo chores check` runs it as root and says where it does not"]
fn with_loop_devices_a_person_types_the_name_back() {
    let fleet = fleet(3 << 20);
    let stick = Loop::of_size(&fleet, 8 << 20);
    let name = stick.0.trim_start_matches("/dev/");
    let words = [&[env!("CARGO_BIN_EXE_drydock")], &WRITE[..], &[&stick.0]].concat();
    let untouched = || fs::read(&stick.0).unwrap().iter().all(|&byte| byte == 0);
    for answer in ["\n", "yes\n", "y\n"] {
        at_a_terminal(&fleet, &words, &[answer]).expect(130, &["will be lost", "nothing was written"]);
        assert!(untouched(), "{answer:?}");
    }
    write(&fleet, &[&stick.0]).expect(2, &["no terminal to ask at", "--yes"]);
    assert!(untouched());
    at_a_terminal(&fleet, &words, &[&format!("{name}\n")]).expect(0, &["is the same"]);
    assert!(!untouched());
}

fn all<'w>(devices: &[&'w str]) -> Vec<&'w str> {
    [&["write", "--no-build", "--all-attached"], devices].concat()
}

#[test]
#[ignore = "needs root, losetup and script; `cargo chores check` runs it as root and says where it does not"]
fn with_loop_devices_several_are_written_and_one_that_fails_costs_itself() {
    let fleet = fleet(3 << 20);
    let image = fs::read(fleet.path("result/web/iso/web.iso")).unwrap();
    let sticks = ["a.img", "b.img", "small.img"]
        .map(|name| Loop::of_file(&fleet, name, if name == "small.img" { 1 << 20 } else { 8 << 20 }));
    let [a, b, small] = sticks.each_ref().map(|stick| format!("web={}", stick.0));
    let wanted = |stick: &Loop| fs::read(&stick.0).unwrap().starts_with(&image);
    let untouched = |stick: &Loop| fs::read(&stick.0).unwrap().iter().all(|&byte| byte == 0);
    fleet.xtask(&all(&[&a, &a, "--yes"])).expect(2, &[&sticks[0].0, "is named twice"]);
    fleet.xtask(&all(&[&a, &small, "--yes"])).expect(2, &[&sticks[2].0]);
    fleet.xtask(&all(&[&a, &b])).expect(2, &["no terminal to ask at"]);
    let words = [&[env!("CARGO_BIN_EXE_drydock")], &all(&[&a, &b])[..]].concat();
    let [first, second] = [0, 1].map(|at: usize| sticks[at].0.trim_start_matches("/dev/"));
    for answer in [format!("{first}\n"), format!("{second} {first}\n")] {
        at_a_terminal(&fleet, &words, &[&answer]).expect(130, &["will be lost", "nothing was written"]);
    }
    assert!(sticks.iter().all(untouched));
    at_a_terminal(&fleet, &words, &[&format!("{first} {second}\n")])
        .expect(0, &[&format!("{} can be taken out", sticks[0].0), &format!("{} can be taken out", sticks[1].0)]);
    assert!(wanted(&sticks[0]) && wanted(&sticks[1]));
    // A stick that keeps less than it says: its file lies where there is no room.
    let narrow = Mount::tmpfs(&fleet, "narrow", "2m");
    let broken = Loop::of_file(&fleet, "narrow/stick.img", 8 << 20);
    fs::write(&sticks[0].0, vec![0; 4 << 20]).unwrap();
    let failed = fleet.xtask(&all(&[&format!("web={}", broken.0), &a, "--yes"]));
    assert!(!failed.stderr.contains(&format!("{} can be taken out", broken.0)));
    failed.expect(1, &[&format!("error: {}", broken.0), &format!("{} can be taken out", sticks[0].0)]);
    assert!(wanted(&sticks[0]));
    drop((broken, narrow));
}

#[test]
#[ignore = "needs root, losetup and script; `cargo chores check` runs it as root and says where it does not"]
fn with_loop_devices_ctrl_c_wipes_and_says_so_even_when_it_comes_twice() {
    let fleet = fleet(400 << 20);
    let stick = Loop::of_size(&fleet, 401 << 20);
    for signals in [1, 2] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_drydock"));
        command.args(WRITE).args([&stick.0, "--yes"]).current_dir(&fleet.root).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        // It has begun when something but zeros lies behind the first block, which comes last.
        let began = Instant::now();
        let read = |at: u64| {
            use std::os::unix::fs::FileExt as _;
            let mut byte = [0];
            fs::File::open(fleet.path("stick.img")).unwrap().read_exact_at(&mut byte, at).unwrap();
            byte[0]
        };
        while read(8 << 20) == 0 {
            assert!(began.elapsed() < Duration::from_secs(60), "nothing is written");
            sleep(Duration::from_millis(2));
        }
        (0..signals).for_each(|_| drop(run("kill", &["-INT", &child.id().to_string()])));
        Ran::from(child.wait_with_output().unwrap()).expect(130, &["interrupted", "were wiped"]);
        assert_eq!([read(0), read((401 << 20) - 1)], [0, 0]);
        fs::File::create(fleet.path("stick.img")).unwrap().set_len(401 << 20).unwrap();
    }
}

#[test]
#[ignore = "needs root, losetup and script; `cargo chores check` runs it as root and says where it does not"]
fn with_loop_devices_sudo_is_started_for_the_writing_alone() {
    let fleet = fleet(3 << 20);
    let stick = Loop::of_size(&fleet, 8 << 20);
    let (bin, orders) = (fleet.path("bin"), fleet.path("orders"));
    // Everybody must be able to start the program and to read the fleet.
    let own: Utf8PathBuf = bin.join("drydock");
    program(&bin, "sudo", &format!("printf '%s\\n' \"$@\" > '{orders}/argv'; exit 7"));
    fs::copy(env!("CARGO_BIN_EXE_drydock"), &own).unwrap();
    fs::create_dir(&orders).unwrap();
    for folder in [&fleet.root, &orders] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let nobody = |path: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", own.as_str()]).args(WRITE);
        command.args([&stick.0, "--yes"]).current_dir(&fleet.root).env("PATH", path);
        Ran::from(command.output().unwrap())
    };
    nobody(&path_with(&bin)).expect(7, &["belongs to root, so this is started", "sudo -- "]);
    let argv = fs::read_to_string(orders.join("argv")).unwrap();
    let words: Vec<&str> = argv.lines().collect();
    assert_eq!(words[..3], ["--", own.as_str(), "write-device"]);
    assert!(fs::read(&stick.0).unwrap().iter().all(|&byte| byte == 0), "nothing is written before");
    Ran::from(Command::new(words[1]).args(&words[2..]).output().unwrap()).expect(0, &["is the same"]);
    let image = fs::read(fleet.path("result/web/iso/web.iso")).unwrap();
    assert!(fs::read(&stick.0).unwrap()[..image.len()] == image);
    // What is typed after the answer is sudo's.
    program(
        &bin,
        "sudo",
        "exec timeout --foreground 20 sh -c 'read -r word </dev/tty; echo \"sudo heard $word\"; exit 9'",
    );
    let path = format!("PATH='{}'", path_with(&bin));
    let ids = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let words = [&["env", &path, "setpriv"], &ids[..], &[own.as_str()], &WRITE, &[&stick.0]].concat();
    let answers = [format!("{}\n", stick.0.trim_start_matches("/dev/")), "secret\n".to_owned()];
    at_a_terminal(&fleet, &words, &answers.each_ref().map(String::as_str)).expect(9, &["sudo heard secret"]);
    let path = std::env::var("PATH").unwrap();
    let has_sudo = std::env::split_paths(&path).any(|folder| folder.join("sudo").exists());
    if !has_sudo {
        nobody(&path).expect(3, &["sudo is not on PATH"]);
    }
}
