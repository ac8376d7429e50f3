//! Makes and opens disk images that a machine may write to.

use std::fs;

use anyhow::{Context as _, Result};
use camino::Utf8PathBuf;

use super::machine::Disk;
use crate::diagnostic::usage;

/// What follows `--disk`.
pub struct DiskWish {
    pub file: Utf8PathBuf,
    /// True if the file was made just now.
    pub created: bool,
}

impl DiskWish {
    /// `FILE` must exist; `FILE:SIZE` is made if it does not, unless the machine is to start from it (`make` is
    /// false): there would be nothing on it.
    pub fn parse(text: &str, make: bool) -> Result<Self> {
        let (file, size) =
            match text.rsplit_once(':') {
                Some((file, size)) => (
                    file,
                    Some(bytes(size).ok_or_else(|| {
                        usage(format!("--disk {text}: `{size}` is no size; write such as 20G or 512M"))
                    })?),
                ),
                None => (text, None),
            };
        let file = Utf8PathBuf::from(file);
        if file.is_file() {
            return Ok(Self { file, created: false });
        }
        if file.exists() {
            return Err(usage(format!(
                "--disk {file}: not a regular file\n  try: the name of an image file; `boot` leaves real disks alone"
            )));
        }
        if !make {
            return Err(usage(format!(
                "--installed --disk {file}: it does not exist, so nothing is installed on it\n  try: without \
                 --installed and with --disk {file}:20G, to install from the live medium"
            )));
        }
        let Some(size) = size else {
            return Err(usage(format!("--disk {file} does not exist\n  try: --disk {file}:20G makes it")));
        };
        let made = fs::File::create_new(&file).and_then(|new| new.set_len(size));
        made.with_context(|| format!("cannot make the disk {file}"))?;
        Ok(Self { file, created: true })
    }

    pub fn open(&self) -> Result<Disk> {
        let mut magic = [0; 4];
        let read = fs::File::open(&self.file).and_then(|mut file| std::io::Read::read(&mut file, &mut magic));
        read.with_context(|| format!("cannot read {}", self.file))?;
        // The first bytes of a qcow2 image (docs/interop/qcow2.txt in QEMU).
        let format = if magic == *b"QFI\xfb" { "qcow2" } else { "raw" };
        Ok(Disk { file: self.file.clone(), format: format.into(), scratch: false })
    }
}

/// `20G` as bytes, in binary units as QEMU counts.
fn bytes(text: &str) -> Option<u64> {
    let unit = text.chars().last()?;
    let factor = match unit.to_ascii_uppercase() {
        'M' => 1 << 20,
        'G' => 1 << 30,
        'T' => 1 << 40,
        _ => return None,
    };
    text[..text.len() - 1].parse::<u64>().ok()?.checked_mul(factor).filter(|&size| size > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary_and_never_nothing() {
        let rows =
            [("20G", Some(20 << 30)), ("512m", Some(512 << 20)), ("20", None), ("0G", None), ("", None), ("xG", None)];
        for (text, expected) in rows {
            assert_eq!(bytes(text), expected, "{text}");
        }
        assert_eq!(bytes("99999999999T"), None);
    }

    #[test]
    fn a_disk_is_made_once_and_then_kept() {
        let dir = crate::files::Temporary::new().unwrap();
        let file = dir.join("a:b.img");
        assert!(DiskWish::parse(file.as_str(), true).is_err());
        assert!(DiskWish::parse(&format!("{file}:1M"), false).is_err() && !file.exists());
        assert!(DiskWish::parse(&format!("{file}:1M"), true).unwrap().created);
        fs::write(&file, b"QFI\xfbrest").unwrap();
        let again = DiskWish::parse(&format!("{file}:1M"), false).unwrap();
        assert_eq!((again.created, again.open().unwrap().format.as_str()), (false, "qcow2"));
        assert!(DiskWish::parse(&format!("{}:1M", &*dir), true).is_err());
    }
}
