//! Writes to files while something goes wrong: it is said, and what is half written is wiped.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod devices;

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::FileExt as _,
};

use camino::{Utf8Path, Utf8PathBuf};
use drydock_nix::{
    files::Temporary,
    process::{Cancel, Invocation},
};
use drydock_ship::medium::{self, BLOCK, Image, Stage, Target};

const MIB: usize = 1 << 20;

/// An image that is no multiple of a block, and its hash by another program.
fn image(folder: &Utf8Path, size: usize) -> (Utf8PathBuf, String) {
    let path = folder.join("image.iso");
    let bytes: Vec<u8> = (0..size).map(|n| (n * 7 + n / 251) as u8 | 1).collect();
    fs::write(&path, bytes).unwrap();
    let sum = run(&["sha256sum", path.as_str()]);
    (path, sum.split(' ').next().unwrap().to_owned())
}

fn run(argv: &[&str]) -> String {
    Invocation::new(argv.iter().copied()).read(&Cancel::default()).unwrap()
}

/// True if neither end of so many bytes holds anything.
fn is_wiped(path: &Utf8Path, size: u64) -> bool {
    let file = File::open(path).unwrap();
    let mut ends = vec![1; 2 * MIB];
    file.read_exact_at(&mut ends[..MIB], 0).unwrap();
    file.read_exact_at(&mut ends[MIB..], size - MIB as u64).unwrap();
    ends.iter().all(|&byte| byte == 0)
}

/// What happens to the image, the target and the program at every step.
type Meddle<'m> = dyn Fn(Stage, u64, &Cancel) + 'm;

fn write(image: &Image, target: &Target, meddle: &Meddle<'_>) -> anyhow::Result<()> {
    let cancel = Cancel::default();
    medium::write(image, target, &cancel, &mut |stage, done| meddle(stage, done, &cancel))
}

#[test]
fn an_image_arrives_whole_and_the_watcher_is_told_all() {
    for size in [MIB, BLOCK, 2 * BLOCK + 4096, 3 * BLOCK - 1] {
        let folder = Temporary::new().unwrap();
        let (path, sum) = image(&folder, size);
        let opened = Image::open(&path, size as u64, &sum).unwrap();
        let to = folder.join("stick.img");
        fs::write(&to, vec![9; 5 * BLOCK]).unwrap();
        let target = Target::file(&to, &opened).unwrap();
        let told = std::cell::RefCell::new(Vec::new());
        write(&opened, &target, &|stage, done, _| told.borrow_mut().push((stage, done))).unwrap();
        assert!(fs::read(&path).unwrap() == fs::read(&to).unwrap(), "{size}");
        let told = told.into_inner();
        let last = |wanted| told.iter().filter(|(stage, _)| *stage == wanted).map(|(_, done)| *done).max();
        assert_eq!([Stage::Write, Stage::ReadBack].map(last), [Some(size as u64); 2]);
    }
}

#[test]
fn whatever_goes_wrong_is_said_and_the_ends_are_wiped() {
    const SIZE: usize = 3 * BLOCK + 2048;
    let at =
        |wanted: Stage, block: usize| move |stage: Stage, done: u64| stage == wanted && done >= (block * BLOCK) as u64;
    let flip = |path: &Utf8Path, at: u64| {
        let file = File::options().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[!byte[0]], at).unwrap();
    };
    let (half, written, reading) = (at(Stage::Write, 2), at(Stage::ReadBack, 0), at(Stage::ReadBack, 1));
    // What happens with the image and the target, and a word of the error.
    type Act<'a> = Box<dyn Fn(Stage, u64, &Cancel, &Utf8Path, &Utf8Path) + 'a>;
    let rows: Vec<(&str, Act<'_>)> = vec![
        (
            "interrupted",
            Box::new(move |s, d, cancel, _, _| {
                if half(s, d) {
                    cancel.set();
                }
            }),
        ),
        (
            "interrupted",
            Box::new(move |s, d, cancel, _, _| {
                if reading(s, d) {
                    cancel.set();
                }
            }),
        ),
        (
            "byte 5000000 is not what was written",
            Box::new(move |s, d, _, _, to| {
                if written(s, d) && d == 0 {
                    flip(to, 5_000_000)
                }
            }),
        ),
        (
            "byte 0 is not what was written",
            Box::new(move |s, d, _, _, to| {
                if written(s, d) && d == 0 {
                    flip(to, 0)
                }
            }),
        ),
        (
            "cannot read back at byte",
            Box::new(move |s, d, _, _, to| {
                if written(s, d) && d == 0 {
                    File::options().write(true).open(to).unwrap().set_len(9 << 20).unwrap()
                }
            }),
        ),
        (
            "changed while it was written",
            Box::new(move |s, d, _, from, _| {
                if half(s, d) {
                    fs::OpenOptions::new().append(true).open(from).unwrap().write_all(b"x").unwrap()
                }
            }),
        ),
        (
            "changed while it was written",
            Box::new(move |s, d, _, from, _| {
                if half(s, d) {
                    flip(from, 1)
                }
            }),
        ),
        (
            "cannot read",
            Box::new(move |s, d, _, from, _| {
                if s == Stage::Write && d == BLOCK as u64 {
                    File::options().write(true).open(from).unwrap().set_len(100).unwrap()
                }
            }),
        ),
    ];
    for (word, act) in rows {
        let folder = Temporary::new().unwrap();
        let (path, sum) = image(&folder, SIZE);
        let opened = Image::open(&path, SIZE as u64, &sum).unwrap();
        let to = folder.join("stick.img");
        let target = Target::file(&to, &opened).unwrap();
        let error = write(&opened, &target, &|stage, done, cancel| act(stage, done, cancel, &path, &to)).unwrap_err();
        let said = format!("{error:#}");
        assert!(said.contains(word) && said.contains("were wiped"), "{word}: {said}");
        assert!(is_wiped(&to, SIZE as u64), "{word}");
    }
}

#[test]
fn a_wrong_hash_or_size_of_the_image_is_found() {
    let folder = Temporary::new().unwrap();
    let (path, _) = image(&folder, MIB);
    assert!(Image::open(&path, 5, "").unwrap_err().to_string().contains("1048576 bytes and had 5"));
    let opened = Image::open(&path, MIB as u64, &"0".repeat(64)).unwrap();
    let to = folder.join("stick.img");
    let error = write(&opened, &Target::file(&to, &opened).unwrap(), &|_, _, _| {}).unwrap_err().to_string();
    assert!(error.contains("SHA-256") && error.contains("were wiped"), "{error}");
    assert!(is_wiped(&to, MIB as u64));
}

#[test]
fn a_half_written_file_never_begins_like_an_image() {
    let folder = Temporary::new().unwrap();
    let (path, sum) = image(&folder, 3 * BLOCK);
    let opened = Image::open(&path, 3 * BLOCK as u64, &sum).unwrap();
    let to = folder.join("stick.img");
    fs::write(&to, vec![9; MIB]).unwrap();
    let target = Target::file(&to, &opened).unwrap();
    let begins = |count: usize| {
        File::open(&to)
            .and_then(|f| {
                let mut b = vec![0; count];
                f.read_exact_at(&mut b, 0)?;
                Ok(b)
            })
            .unwrap()
    };
    write(&opened, &target, &|stage, done, _| {
        if stage == Stage::Write && done < 3 * BLOCK as u64 {
            // A power cut now would leave this.
            assert!(begins(MIB).iter().all(|&byte| byte == 0), "{done}");
        }
    })
    .unwrap();
    assert_eq!(begins(4), fs::read(&path).unwrap()[..4]);
}

#[test]
fn a_target_that_is_no_file_is_left_alone() {
    let folder = Temporary::new().unwrap();
    let (path, sum) = image(&folder, MIB);
    let opened = Image::open(&path, MIB as u64, &sum).unwrap();
    let (link, hard) = (folder.join("link"), folder.join("hard"));
    std::os::unix::fs::symlink(&path, &link).unwrap();
    fs::hard_link(&path, &hard).unwrap();
    let rows = [
        ("/dev/null", "no file"),
        (folder.as_str(), "directory"),
        (link.as_str(), "the image itself"),
        (hard.as_str(), "the image itself"),
    ];
    for (to, word) in rows {
        let error = format!("{:#}", Target::file(Utf8Path::new(to), &opened).unwrap_err());
        assert!(error.contains(word), "{to}: {error}");
    }
    assert_eq!(fs::metadata(&path).unwrap().len(), MIB as u64);
}
