//! Writes an image to a medium and reads it back.

use std::{
    fs::{File, Metadata, OpenOptions},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    sync::mpsc,
    thread,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::{
    fs::{Advice, Mode, OFlags, fadvise, open},
    io::Errno,
};

use crate::{buffer::Buffer, diagnostic::usage, process::Cancel};

/// What is written and read at once. Bytes.
pub const BLOCK: usize = 4 << 20;

/// Boot records, partition tables and what marks file systems and their kin lie in so many bytes at both ends.
const SIGNATURES: u64 = 1 << 20;

/// An image that is opened once and read twice.
#[derive(Debug)]
pub struct Image {
    file: File,
    path: Utf8PathBuf,
    opened: Metadata,
    sha256: String,
}

/// What is written: a device, or a file in place of one.
#[derive(Debug)]
pub struct Target {
    file: File,
    /// Bytes.
    size: u64,
    /// Bytes that every write is a multiple of.
    sector: u64,
}

/// How far a writing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Write,
    ReadBack,
}

/// Is told the stage and how many bytes of the image it is done with.
pub type Watcher<'w> = dyn FnMut(Stage, u64) + 'w;

impl Image {
    /// Opens an image that is expected to have so many bytes and this hash.
    pub fn open(path: &Utf8Path, size: u64, sha256: &str) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open the image {path}"))?;
        let opened = file.metadata().with_context(|| format!("cannot look at the image {path}"))?;
        ensure!(opened.len() == size, "{path} has {} bytes and had {size} when it was built", opened.len());
        Ok(Self { file, path: path.to_owned(), opened, sha256: sha256.to_owned() })
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.opened.len()
    }

    fn read(&self, into: &mut [u8], at: u64) -> Result<()> {
        self.file.read_exact_at(into, at).with_context(|| format!("cannot read {} at byte {at}", self.path))
    }

    fn ensure_unchanged(&self) -> Result<()> {
        let now = self.file.metadata().with_context(|| format!("cannot look at {}", self.path))?;
        let mark = |data: &Metadata| (data.len(), data.mtime(), data.mtime_nsec());
        ensure!(mark(&now) == mark(&self.opened), "{} changed while it was written", self.path);
        Ok(())
    }
}

impl Target {
    /// Opens a block device for nobody but us (`O_EXCL` of open(2)) and past the page cache.
    pub fn device(path: &Utf8Path) -> Result<Self> {
        let flags = OFlags::RDWR | OFlags::EXCL | OFlags::DIRECT | OFlags::CLOEXEC;
        let opened = open(path.as_std_path(), flags, Mode::empty()).map_err(|errno| match errno {
            Errno::BUSY => anyhow!("{path} is in use: it is mounted somewhere, or another program writes it"),
            Errno::NXIO | Errno::NODEV | Errno::NOMEDIUM | Errno::NOENT => anyhow!("{path} is gone: {errno}"),
            errno => anyhow!("cannot open {path} for writing: {errno}"),
        })?;
        let file = File::from(opened);
        let size =
            rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0)).with_context(|| format!("cannot measure {path}"))?;
        Ok(Self { file, size, sector: 512 })
    }

    /// Opens a file in place of a device and gives it the image's size. What is in it is lost. Errors: exit code 2 where
    /// there is something else than a file, or the image itself.
    pub fn file(path: &Utf8Path, image: &Image) -> Result<Self> {
        // Without O_NONBLOCK a pipe without a reader would be waited for.
        let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).custom_flags(nonblocking).open(path);
        let file = file.map_err(|error| usage(format!("--file {path}: {error}")))?;
        let found = file.metadata().with_context(|| format!("cannot look at {path}"))?;
        if !found.is_file() {
            return Err(usage(format!("--file {path} is no file\n  try: a device is named without --file")));
        }
        if (found.dev(), found.ino()) == (image.opened.dev(), image.opened.ino()) {
            return Err(usage(format!("--file {path} is the image itself")));
        }
        let size = image.size();
        file.set_len(0)
            .and_then(|()| file.set_len(size))
            .with_context(|| format!("cannot give {path} {size} bytes"))?;
        Ok(Self { file, size, sector: 1 })
    }

    /// What fstat(2) says of it.
    pub fn metadata(&self) -> Result<Metadata> {
        self.file.metadata().context("cannot look at what was opened")
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Takes away what makes a machine boot or mount it: the first and the last MiB become zeros, and are read as zeros.
    fn wipe(&self) -> Result<()> {
        let length = SIGNATURES.min(self.size) as usize;
        let (mut zeros, mut found) = (Buffer::new(length), Buffer::new(length));
        let ends = [0, self.size - length as u64];
        ends.iter().try_for_each(|&at| self.write(zeros.bytes(), at))?;
        self.sync()?;
        ends.iter()
            .try_for_each(|&at| self.read(found.bytes(), at).and_then(|()| compare(found.bytes(), zeros.bytes(), at)))
    }

    fn read(&self, into: &mut [u8], at: u64) -> Result<()> {
        self.file.read_exact_at(into, at).with_context(|| format!("cannot read back at byte {at}"))
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_all().context("the drive does not confirm that it keeps what it was given")
    }

    fn write(&self, bytes: &[u8], at: u64) -> Result<()> {
        self.file.write_all_at(bytes, at).with_context(|| format!("cannot write {} bytes at byte {at}", bytes.len()))
    }
}

/// Writes the image, has the drive keep it, reads all back past the page cache and compares it with the image, and what
/// was read with the image's hash. On any failure, and after an interrupt, what could boot or mount is wiped, and the
/// error says so.
pub fn write(image: &Image, target: &Target, cancel: &Cancel, watcher: &mut Watcher<'_>) -> Result<()> {
    ensure!(image.size() <= target.size, "the image has {} bytes, and the target {}", image.size(), target.size);
    let done = write_all(image, target, cancel, watcher).and_then(|()| read_back(image, target, cancel, watcher));
    done.map_err(|failure| match target.wipe() {
        Ok(()) => anyhow!("{failure:#}\n  its first and last MiB were wiped: nothing boots from it or mounts it"),
        Err(also) => anyhow!("{failure:#}\n  and it could not be wiped ({also:#}): do not use what is on it"),
    })
}

fn write_all(image: &Image, target: &Target, cancel: &Cancel, watcher: &mut Watcher<'_>) -> Result<()> {
    target.wipe()?;
    let mut buffer = Buffer::new(BLOCK);
    let mut done = 0;
    let blocks: Vec<u64> = (0..image.size()).step_by(BLOCK).collect();
    // Whatever happens before the first block is there, be it a power cut, leaves nothing that looks whole.
    for &at in blocks.iter().skip(1).chain(blocks.first()) {
        stop_if(cancel)?;
        if at == 0 {
            target.sync()?;
        }
        let length = length_at(image, at);
        let padded = length.next_multiple_of(target.sector as usize);
        let block = &mut buffer.bytes()[..padded];
        block[length..].fill(0);
        image.read(&mut block[..length], at)?;
        target.write(block, at)?;
        done += length as u64;
        watcher(Stage::Write, done);
    }
    target.sync()?;
    image.ensure_unchanged()
}

fn read_back(image: &Image, target: &Target, cancel: &Cancel, watcher: &mut Watcher<'_>) -> Result<()> {
    // Devices are read past the page cache anyway; this is for files. A file system may decline.
    let _ = fadvise(&target.file, 0, None, Advice::DontNeed);
    watcher(Stage::ReadBack, 0);
    // Hashing takes as long as reading from a good stick, and is done beside it.
    let hash = thread::scope(|scope| -> Result<[u8; 32]> {
        let (sender, blocks) = mpsc::sync_channel::<(Buffer, usize)>(1);
        let hasher = scope.spawn(move || {
            let mut hash = hmac_sha256::Hash::new();
            blocks.iter().for_each(|(mut block, length)| hash.update(&block.bytes()[..length]));
            hash.finalize()
        });
        let mut expected = Buffer::new(BLOCK);
        for at in (0..image.size()).step_by(BLOCK) {
            stop_if(cancel)?;
            let length = length_at(image, at);
            let mut found = Buffer::new(length.next_multiple_of(target.sector as usize));
            target.read(found.bytes(), at)?;
            image.read(&mut expected.bytes()[..length], at)?;
            compare(&found.bytes()[..length], &expected.bytes()[..length], at).or_else(|difference| {
                image.ensure_unchanged()?;
                Err(difference)
            })?;
            sender.send((found, length)).context("the hashing ended early")?;
            watcher(Stage::ReadBack, at + length as u64);
        }
        drop(sender);
        hasher.join().map_err(|_| anyhow!("the hashing failed"))
    })?;
    image.ensure_unchanged()?;
    let sum: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(sum == image.sha256, "{} has SHA-256 {sum}, and had {} when it was built", image.path, image.sha256);
    Ok(())
}

fn compare(found: &[u8], expected: &[u8], at: u64) -> Result<()> {
    // A slice is compared at once; the place is looked for only where it differs.
    if found == expected {
        return Ok(());
    }
    let place = at + found.iter().zip(expected).take_while(|(found, expected)| found == expected).count() as u64;
    bail!("byte {place} is not what was written: the medium is broken or smaller than it says")
}

fn length_at(image: &Image, at: u64) -> usize {
    (image.size() - at).min(BLOCK as u64) as usize
}

fn stop_if(cancel: &Cancel) -> Result<()> {
    ensure!(!cancel.is_set(), "interrupted");
    Ok(())
}
