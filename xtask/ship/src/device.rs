//! Asks `lsblk` for the block devices of this machine.

use std::{fs, os::unix::fs::MetadataExt as _, time::Duration};

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    diagnostic::{bytes, lacking},
    process::{Cancel, Invocation, on_path},
};

/// The columns of lsblk(8) that a judgement needs. MOUNTPOINTS is known since util-linux 2.37.
pub const COLUMNS: &str = "NAME,PATH,MAJ:MIN,TYPE,TRAN,RO,SIZE,LOG-SEC,VENDOR,MODEL,SERIAL,FSTYPE,LABEL,MOUNTPOINTS";

/// One block device as `lsblk --json --bytes` shows it. Its texts have no control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Device {
    #[serde(deserialize_with = "text")]
    pub name: String,
    #[serde(deserialize_with = "text")]
    pub path: String,
    /// Major and minor number, such as `8:16`.
    #[serde(rename = "maj:min", deserialize_with = "text")]
    pub number: String,
    /// `disk`, `part`, `rom`, `loop`, `crypt`, `lvm`, `raid1` and so on.
    #[serde(rename = "type", deserialize_with = "text")]
    pub kind: String,
    /// The bus, such as `usb`, `nvme` or `sata`; empty where there is none or it is not known.
    #[serde(rename = "tran", deserialize_with = "text")]
    pub bus: String,
    #[serde(rename = "ro", deserialize_with = "flag")]
    pub read_only: bool,
    /// Bytes; 0 if the drive has no medium in it.
    #[serde(deserialize_with = "number")]
    pub size: u64,
    /// Bytes of a logical sector.
    #[serde(rename = "log-sec", deserialize_with = "number")]
    pub sector: u64,
    #[serde(deserialize_with = "text")]
    pub vendor: String,
    #[serde(deserialize_with = "text")]
    pub model: String,
    #[serde(deserialize_with = "text")]
    pub serial: String,
    /// The file system, or what else the signature on it says; empty if there is none.
    #[serde(rename = "fstype", deserialize_with = "text")]
    pub content: String,
    #[serde(deserialize_with = "text")]
    pub label: String,
    /// Where it is mounted; `[SWAP]` if the system swaps there.
    #[serde(rename = "mountpoints", deserialize_with = "texts")]
    pub mounts: Vec<String>,
    /// What lies on it: partitions, and what is made of it.
    #[serde(default)]
    pub children: Vec<Device>,
}

/// By what a device is known again. Another medium in the same drive has another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Major and minor number.
    pub number: String,
    /// Bytes.
    pub size: u64,
    /// Bus, vendor, model and serial number.
    pub names: [String; 4],
    /// The kernel's count of media that were attached (`diskseq` in sysfs, Linux 5.15 and later).
    pub sequence: Option<u64>,
}

/// Everything that is attached to this machine, card readers without a card as well. Errors: exit code 3 where `lsblk`
/// is missing or too old.
pub fn attached(cancel: &Cancel) -> Result<Vec<Device>> {
    if !on_path("lsblk") {
        return Err(lacking("lsblk is not on PATH, so devices cannot be told apart\n  try: install util-linux"));
    }
    if on_path("udevadm") {
        // What was plugged in a moment ago is not described yet. A queue that does not empty stops nothing.
        Invocation::new(["udevadm", "settle", "--timeout=5"]).timeout(Duration::from_secs(6)).capture(cancel)?;
    }
    let ask = Invocation::new(["lsblk", "--json", "--bytes", "--all", "--output", COLUMNS]);
    let said = ask.timeout(Duration::from_secs(30)).read(cancel);
    let table = said.and_then(|json| parse(&json));
    table.map_err(|error| lacking(format!("{error:#}\n  try: util-linux 2.37 or newer")))
}

/// Understands what `lsblk --json --bytes` prints, also in the forms of older versions.
pub fn parse(json: &str) -> Result<Vec<Device>> {
    #[derive(Deserialize)]
    struct Table {
        blockdevices: Vec<Device>,
    }
    let table: Table = serde_json::from_str(json).context("lsblk answers in a form that is not known")?;
    Ok(table.blockdevices)
}

/// Asks wipefs(8) for all signatures on a device, by their names in libblkid. lsblk has them from udev: one at most, and
/// none where udev does not run. Errors: exit code 3 where it is missing; the device cannot be read.
pub fn signatures(device: &Device, cancel: &Cancel) -> Result<Vec<String>> {
    if !on_path("wipefs") {
        return Err(lacking(
            "wipefs is not on PATH, so members of RAID and LUKS cannot be told\n  try: install util-linux",
        ));
    }
    let ask = Invocation::new(["wipefs", "--no-act", "--noheadings", "--output", "TYPE", &device.path]);
    let said = ask.timeout(Duration::from_secs(30)).read(cancel)?;
    Ok(said.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect())
}

impl Device {
    /// The device and everything on it, at any depth.
    pub fn tree(&self) -> Vec<&Device> {
        std::iter::once(self).chain(self.children.iter().flat_map(Device::tree)).collect()
    }

    /// One line for a person: path, bus, vendor, model, serial, size.
    pub fn describe(&self) -> String {
        let serial = if self.serial.is_empty() { String::new() } else { format!("serial {}", self.serial) };
        let size = if self.size == 0 { "empty".to_owned() } else { bytes(self.size) };
        let words = [&self.path, &self.bus, &self.vendor, &self.model, &serial, &size];
        words.into_iter().filter(|word| !word.is_empty()).map(String::as_str).collect::<Vec<_>>().join("  ")
    }

    /// One line for each thing on it: partitions, file systems, labels.
    pub fn contents(&self) -> Vec<String> {
        let tree = self.tree();
        let kept = tree.iter().filter(|device| device.name != self.name || !device.content.is_empty());
        let line = |device: &Device| {
            let content = if device.content.is_empty() { "no file system that is known" } else { &device.content };
            let label = if device.label.is_empty() { String::new() } else { format!(" \"{}\"", device.label) };
            format!("{}: {content}{label}, {}", device.name, bytes(device.size))
        };
        kept.map(|device| line(device)).collect()
    }

    /// What it is known by, now.
    pub fn identity(&self) -> Identity {
        let sequence = fs::read_to_string(format!("/sys/dev/block/{}/diskseq", self.number)).ok();
        Identity {
            number: self.number.clone(),
            size: self.size,
            names: [&self.bus, &self.vendor, &self.model, &self.serial].map(String::clone),
            sequence: sequence.and_then(|text| text.trim().parse().ok()),
        }
    }

    /// Its name below /dev/disk/by-id, which stays the same wherever it is plugged in.
    pub fn stable_name(&self) -> Option<Utf8PathBuf> {
        let links = Utf8Path::new("/dev/disk/by-id").read_dir_utf8().ok()?;
        let mut own: Vec<_> =
            links.flatten().map(|link| link.into_path()).filter(|l| leads_to(l, &self.path)).collect();
        // `usb-…` says more to a person than `wwn-…`, and comes first.
        own.sort();
        own.into_iter().next()
    }
}

impl Identity {
    /// One line for a person.
    pub fn describe(&self) -> String {
        let sequence = self.sequence.map(|number| format!("medium {number} since the machine started"));
        let size = format!("{} bytes", self.size);
        let words = self.names.iter().chain([&size]).chain(&sequence).filter(|word| !word.is_empty());
        words.map(String::as_str).collect::<Vec<_>>().join("  ")
    }
}

fn leads_to(link: &Utf8Path, path: &str) -> bool {
    link.canonicalize_utf8().is_ok_and(|found| found == path)
}

/// Major and minor number of the block device at a path, such as `8:16`; `None` if there is something else.
pub fn number_of(metadata: &fs::Metadata) -> Option<String> {
    use rustix::fs::{FileType, major, minor};
    let device = metadata.rdev();
    let is_block = FileType::from_raw_mode(metadata.mode()) == FileType::BlockDevice;
    is_block.then(|| format!("{}:{}", major(device), minor(device)))
}

/// A value of any of the forms that versions of lsblk give it: 2.38 writes `true`, 2.32 `"1"`; `null` is nothing.
#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Flag(bool),
    Number(u64),
    Text(String),
    Nothing(()),
}

impl Value {
    fn text(self) -> String {
        match self {
            Self::Flag(value) => u64::from(value).to_string(),
            Self::Number(value) => value.to_string(),
            // A stick may call itself what would move a terminal's cursor.
            Self::Text(text) => text.replace(char::is_control, "?").trim().to_owned(),
            Self::Nothing(()) => String::new(),
        }
    }
}

fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Value::deserialize(from).map(Value::text)
}

fn flag<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    // What is not clearly writable is not written.
    text(from).map(|text| text != "0")
}

fn number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    match text(from)?.as_str() {
        "" => Ok(0),
        text => text.parse().map_err(serde::de::Error::custom),
    }
}

fn texts<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let values: Vec<Value> = Vec::deserialize(from)?;
    Ok(values.into_iter().map(Value::text).filter(|text| !text.is_empty()).collect())
}
