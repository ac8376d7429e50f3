//! Writes to loop devices and to devices of device-mapper that fail.

use std::{
    fs::{self, File},
    os::unix::fs::OpenOptionsExt as _,
    thread,
    time::Duration,
};

use camino::{Utf8Path, Utf8PathBuf};
use drydock_nix::{
    files::Temporary,
    process::{Cancel, Invocation},
};
use drydock_ship::{
    device, judge,
    medium::{BLOCK, Image, Target},
    order::Order,
};

use super::{MIB, image, run, write};

/// A loop device, detached when dropped.
struct Loop(Utf8PathBuf);

impl Loop {
    fn over(file: &Utf8Path, more: &[&str]) -> Self {
        let argv = [&["losetup", "--show", "--find"], more, &[file.as_str()]].concat();
        Self(run(&argv).trim().into())
    }

    fn of_size(folder: &Utf8Path, size: usize) -> Self {
        let file = folder.join("stick.img");
        File::create(&file).unwrap().set_len(size as u64).unwrap();
        Self::over(&file, &[])
    }

    /// An order for it as it is now.
    fn order(&self, (image, sha256): (Utf8PathBuf, String)) -> Order {
        let table = device::attached(&Cancel::default()).unwrap();
        let number = device::number_of(&fs::metadata(&self.0).unwrap()).unwrap();
        let shown = judge::find(&table, &number).unwrap().identity();
        Order { size: fs::metadata(&image).unwrap().len(), image, sha256, device: self.0.clone(), shown }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Invocation::new(["losetup", "--detach", self.0.as_str()]).read(&Cancel::default());
    }
}

fn refused(order: &Order) -> String {
    format!("{:#}", order.open(&Cancel::default()).expect_err("it is refused"))
}

#[test]
#[ignore = "needs root, losetup and mkfs.ext4; `cargo chores check` runs it as root and says where it does not"]
fn with_loop_devices_an_image_arrives_and_what_lay_at_both_ends_is_gone() {
    let folder = Temporary::new().unwrap();
    let stick = Loop::of_size(&folder, 40 * MIB);
    fs::write(folder.join("stick.img"), vec![9; 40 * MIB]).unwrap();
    let built = image(&folder, 2 * BLOCK + 2048);
    let order = stick.order(built.clone());
    let (opened, target) = order.open(&Cancel::default()).unwrap();
    let again = refused(&order);
    assert!(again.contains("in use"), "two at once: {again}");
    write(&opened, &target, &|_, _, _| {}).unwrap();
    drop(target);
    let (from, to) = (fs::read(&built.0).unwrap(), fs::read(&stick.0).unwrap());
    assert!(from[..] == to[..from.len()]);
    assert!(to[39 * MIB..].iter().all(|&byte| byte == 0), "a partition table at the end would be found");
    assert_eq!(to[20 * MIB], 9, "the rest is left alone");
}

#[test]
#[ignore = "needs root, losetup and mkfs.ext4; `cargo chores check` runs it as root and says where it does not"]
fn with_loop_devices_what_must_not_be_written_is_not() {
    let folder = Temporary::new().unwrap();
    let built = image(&folder, 2 * MIB);
    let stick = Loop::of_size(&folder, 40 * MIB);
    let mark = |argv: &[&str]| run(&[argv, &[stick.0.as_str()]].concat());
    let content = || fs::read(folder.join("stick.img")).unwrap();

    mark(&["mkfs.ext4", "-q"]);
    let (mountpoint, order) = (folder.join("mounted"), stick.order(built.clone()));
    fs::create_dir(&mountpoint).unwrap();
    run(&["mount", stick.0.as_str(), mountpoint.as_str()]);
    let said = refused(&order);
    run(&["umount", mountpoint.as_str()]);
    assert!(said.contains("in use"), "{said}");

    // A mount namespace that somebody has made meanwhile, such as a sandbox of Nix, holds the device a little longer.
    let free =
        || File::options().read(true).custom_flags(rustix::fs::OFlags::EXCL.bits() as i32).open(&stick.0).is_ok();
    while !free() {
        thread::sleep(Duration::from_millis(100));
    }
    mark(&["mkswap", "--quiet"]);
    let before = content();
    let said = refused(&order);
    assert!(said.contains("swap space"), "{said}");
    assert!(before == content());

    let read_only = Loop::over(&folder.join("stick.img"), &["--read-only"]);
    let said = refused(&read_only.order(built.clone()));
    assert!(said.contains("cannot open") || said.contains("read-only"), "{said}");

    let large = Loop::over(&folder.join("stick.img"), &["--sector-size", "4096"]);
    let said = refused(&large.order(built.clone()));
    assert!(said.contains("sectors of 4096"), "{said}");

    let file = folder.join("small.img");
    File::create(&file).unwrap().set_len(MIB as u64).unwrap();
    let small = Loop::over(&file, &[]);
    let said = refused(&small.order(built));
    assert!(said.contains("too small"), "{said}");
}

#[test]
#[ignore = "needs root, losetup and mkfs.ext4; `cargo chores check` runs it as root and says where it does not"]
fn with_loop_devices_another_medium_under_the_same_name_is_noticed() {
    let folder = Temporary::new().unwrap();
    let built = image(&folder, 2 * MIB);
    let stick = Loop::of_size(&folder, 8 * MIB);
    let order = stick.order(built);
    order.open(&Cancel::default()).unwrap();
    // Of the same size, at the same place.
    let other = folder.join("other.img");
    fs::write(&other, vec![7; 8 * MIB]).unwrap();
    run(&["losetup", "--detach", stick.0.as_str()]);
    run(&["losetup", stick.0.as_str(), other.as_str()]);
    let said = refused(&order);
    assert!(said.contains("not the device that was shown"), "{said}");
    // A smaller one, and none.
    run(&["losetup", "--detach", stick.0.as_str()]);
    let said = refused(&order);
    assert!(said.contains("gone") || said.contains("no medium"), "{said}");
    assert!(fs::read(&other).unwrap().iter().all(|&byte| byte == 7));
}

#[test]
#[ignore = "needs root, losetup and mkfs.ext4; `cargo chores check` runs it as root and says where it does not"]
fn with_loop_devices_an_error_half_way_is_said_and_wiped() {
    // A loop device over a file system with less room than it claims gives I/O errors from some block on.
    let folder = Temporary::new().unwrap();
    let full = folder.join("full");
    fs::create_dir(&full).unwrap();
    run(&["mount", "-t", "tmpfs", "-o", "size=12m", "none", full.as_str()]);
    let said = std::panic::catch_unwind(|| {
        let stick = Loop::of_size(&full, 64 * MIB);
        let built = image(&folder, 40 * MIB);
        let (opened, target) = stick.order(built).open(&Cancel::default()).unwrap();
        let said = format!("{:#}", write(&opened, &target, &|_, _, _| {}).unwrap_err());
        drop(target);
        let is_clean = fs::read(&stick.0).is_ok_and(|bytes| bytes[..MIB].iter().all(|&byte| byte == 0));
        (said, is_clean)
    });
    run(&["umount", "--lazy", full.as_str()]);
    let (said, is_clean) = said.unwrap();
    assert!(said.contains("cannot write") && said.contains("error") && said.contains("wiped"), "{said}");
    assert!(is_clean, "{said}");
}

/// A device of device-mapper over a loop device; taken away when dropped.
struct Mapped {
    name: String,
    path: Utf8PathBuf,
    _below: Loop,
}

impl Mapped {
    /// `table` is made of the loop device's path, as in dmsetup(8).
    fn new(folder: &Utf8Path, name: &str, sectors: u64, table: &dyn Fn(&str) -> String) -> Self {
        let below = Loop::of_size(folder, sectors as usize * 512);
        let name = format!("drydock-{name}-{}", std::process::id());
        run(&["dmsetup", "create", &name, "--table", &table(below.0.as_str())]);
        // The kernel makes this node; those below /dev/mapper are udev's, which may be late or absent.
        let minor = run(&["dmsetup", "info", "--columns", "--noheadings", "-o", "minor", &name]);
        Self { name, path: format!("/dev/dm-{}", minor.trim()).into(), _below: below }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let _ = Invocation::new(["dmsetup", "remove", "--retry", &self.name]).read(&Cancel::default());
    }
}

#[test]
#[ignore = "needs root, losetup and device-mapper in the kernel; `cargo chores check` runs it and says where it does not"]
fn with_device_mapper_every_way_to_fail_is_said() {
    const SECTORS: u64 = 64 * 2048;
    let linear = |from: u64, to: u64, below: &str| format!("{from} {} linear {below} {from}", to - from);
    let flakey = |rest: &str| {
        let rest = rest.to_owned();
        move |below: &str| format!("0 {SECTORS} flakey {below} 0 0 600 {rest}")
    };
    let bad = |from: u64, to: u64| {
        move |below: &str| {
            let parts = [linear(0, from, below), format!("{from} {} error", to - from), linear(to, SECTORS, below)];
            parts.into_iter().filter(|part| !part.contains(" 0 linear")).collect::<Vec<_>>().join("\n")
        }
    };
    type Table<'t> = Box<dyn Fn(&str) -> String + 't>;
    // What the device does, words of the error, and whether it can be wiped.
    let rows: Vec<(&str, Table<'_>, &str, bool)> = vec![
        ("is good", Box::new(|below| linear(0, SECTORS, below)), "", true),
        (
            "has bad sectors in the middle",
            Box::new(bad(40_000, 40_008)),
            "cannot write 4194304 bytes at byte 16777216",
            true,
        ),
        ("has bad sectors at its start", Box::new(bad(0, 8)), "cannot write 1048576 bytes at byte 0", false),
        ("has bad sectors at its end", Box::new(bad(SECTORS - 8, SECTORS)), "cannot write 1048576 bytes", false),
        ("fails every write", Box::new(flakey("1 error_writes")), "cannot write", false),
        ("forgets what is written", Box::new(flakey("1 drop_writes")), "byte 0 is not what was written", true),
        ("reads other bytes", Box::new(flakey("5 corrupt_bio_byte 32 r 0 0")), "is not what was written", true),
        ("keeps other bytes", Box::new(flakey("5 corrupt_bio_byte 32 w 0 0")), "is not what was written", true),
    ];
    for (n, (what, table, word, can_wipe)) in rows.into_iter().enumerate() {
        let folder = Temporary::new().unwrap();
        let (path, sum) = image(&folder, 24 * MIB + 2048);
        let opened = Image::open(&path, 24 * MIB as u64 + 2048, &sum).unwrap();
        let stick = Mapped::new(&folder, &n.to_string(), SECTORS, &table);
        let target = Target::device(&stick.path).unwrap();
        let done = write(&opened, &target, &|_, _, _| {});
        let said = done.map_or_else(|error| format!("{error:#}"), |()| String::new());
        let wiped = if can_wipe { "were wiped" } else { "could not be wiped" };
        assert!(said.contains(word) && said.is_empty() == word.is_empty(), "{what}: {said}");
        assert!(word.is_empty() || said.contains(wiped), "{what}: {said}");
        eprintln!("{what}: {said}");
    }
}
