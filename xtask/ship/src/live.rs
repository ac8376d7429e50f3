//! Understands what a machine that runs a live medium says of itself, and judges whether a system may be installed on it.

use std::{fmt, time::Duration};

use anyhow::{Result, bail, ensure};
use camino::Utf8PathBuf;
use serde::Deserialize;

use crate::{
    device::{self, Device},
    diagnostic::bytes,
    judge, probe,
    process::Cancel,
    remote::{Answer, Remote, assignments},
};

pub const SCRIPT: &str = include_str!("install.sh");

/// How a machine starts what is on its disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    Uefi,
    Bios,
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Uefi { "UEFI" } else { "BIOS" })
    }
}

/// A file system that only exists in memory, or cannot be written: what a live medium has as its root.
const OF_MEMORY: [&str; 5] = ["tmpfs", "ramfs", "rootfs", "overlay", "squashfs"];

/// Less is not enough to copy and install a system. Bytes.
const LEAST_MEMORY: u64 = 512 << 20;

/// What a host asks of the machine that it is installed on.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// Such as `x86_64-linux`.
    pub system: String,
    /// The firmware that its boot loader needs; `None` if it does with both, or if that is not known.
    pub firmware: Option<Firmware>,
    /// The disks of its layout by their names there, with the device for each.
    pub disks: Vec<(String, String)>,
    /// Bytes of its closure.
    pub size: u64,
}

/// A disk of the layout as the machine has it.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Its name in the layout.
    pub name: String,
    pub device: Device,
    /// The kernel's count of media that were attached, `-` if it keeps none.
    pub sequence: String,
    /// Its names below /dev/disk/by-id.
    pub links: Vec<Utf8PathBuf>,
    /// True if the kernel refuses to open it alone.
    is_used: bool,
}

/// A machine that can be installed on, once it is judged.
#[derive(Clone, Debug)]
pub struct Place {
    pub is_root: bool,
    /// Random, and new with every start.
    pub boot_id: String,
    /// The processor as uname(1) names it.
    pub machine: String,
    pub firmware: Firmware,
    /// Bytes.
    pub memory: u64,
    /// Bytes that are free for the store of the medium, which is in memory.
    pub free: u64,
    /// Everything that lsblk shows.
    pub table: Vec<Device>,
    /// In the order of the layout.
    pub disks: Vec<Disk>,
    /// Of the paths that were asked about, those that the medium does not carry.
    pub lacks: Vec<String>,
}

/// Looks at the machine. Nothing is changed. Errors: it does not answer, or must not be installed on, in words.
pub fn look(remote: &Remote, wishes: &Wishes, closure: &[String], cancel: &Cancel) -> Result<Place> {
    let wanted: Vec<&str> = wishes.disks.iter().map(|(_, device)| device.as_str()).collect();
    let variables = [
        ("step", "look"),
        ("columns", device::COLUMNS),
        ("wanted", &wanted.join("\n")),
        ("closure", &closure.join(" ")),
    ];
    let script = assignments(&variables) + "files() { :; }\n" + SCRIPT;
    let answer = remote.run(&script, Duration::from_secs(120), cancel)?;
    let place = understand(&answer, wishes)?;
    place.ensure_fits(wishes)?;
    Ok(place)
}

fn understand(answer: &Answer, wishes: &Wishes) -> Result<Place> {
    let text = |key: &str| answer.get(key).unwrap_or_default().to_owned();
    let kib = |key: &str| answer.get(key).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default() << 10;
    let root = text("root");
    ensure!(
        OF_MEMORY.contains(&root.as_str()),
        "it runs from a disk (its root is {root}), and not from a live medium\n  try: start it from \
         a medium of this fleet (`cargo xtask write`); to install in place of another Linux without a medium there is \
         nixos-anywhere"
    );
    let missing: Vec<&str> = answer.all("misses").collect();
    ensure!(
        missing.is_empty(),
        "its live medium has no {}\n  try: a medium of this fleet, or an installer of NixOS, with \
         util-linux 2.37 or newer",
        missing.join(", ")
    );
    if let Some(who) = answer.get("working") {
        bail!(
            "{who} installs it at this moment\n  try: again when that has ended; if nobody waits for \
             it any more, `systemctl stop drydock-install` on it"
        );
    }
    ensure!(answer.get("mounted").is_none(), "something is mounted at /mnt on it\n  try: `umount -R /mnt` on it");
    let table = answer.all("table").collect::<Vec<_>>().join("\n");
    let table = device::parse(&table).map_err(|error| error.context(format!("its lsblk said {table:.200}")))?;
    let links: Vec<(&str, &str)> = answer.all("link").filter_map(|line| line.split_once(' ')).collect();
    let mut disks: Vec<Disk> = Vec::new();
    let found: Vec<&str> = answer.all("wanted").collect();
    ensure!(found.len() == wishes.disks.len(), "it does not say what its disks are");
    for ((name, wanted), line) in wishes.disks.iter().zip(found) {
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        let [sequence, used, path] = words[..] else { bail!("it does not say what its disks are") };
        let device = table.iter().flat_map(Device::tree).find(|device| device.path == path);
        let Some(device) = device.filter(|_| !path.is_empty()) else {
            bail!("there is no disk {wanted} for \"{name}\"\n  {}", listing(&table, &links));
        };
        if let Some(other) = disks.iter().find(|disk| disk.device.path == device.path) {
            bail!("{path} is to be both \"{}\" and \"{name}\"", other.name);
        }
        let own = links.iter().filter(|(target, _)| *target == path).map(|(_, link)| Utf8PathBuf::from(link));
        disks.push(Disk {
            name: name.clone(),
            device: device.clone(),
            sequence: sequence.to_owned(),
            links: own.collect(),
            is_used: used != "free",
        });
    }
    Ok(Place {
        is_root: answer.get("login") == Some("root"),
        boot_id: text("boot-id"),
        machine: text("machine"),
        firmware: if text("firmware") == "uefi" { Firmware::Uefi } else { Firmware::Bios },
        memory: kib("memory"),
        free: kib("free"),
        table,
        disks,
        lacks: answer.all("lacks").map(str::to_owned).collect(),
    })
}

/// The disks of a machine, for those who have to name one.
fn listing(table: &[Device], links: &[(&str, &str)]) -> String {
    let disks = table.iter().filter(|device| device.kind == "disk" && device.size > 0);
    let line = |disk: &Device| {
        let link = links.iter().find(|(target, _)| *target == disk.path).map(|(_, link)| format!("\n      {link}"));
        format!("\n    {}{}", disk.describe(), link.unwrap_or_default())
    };
    let lines: String = disks.map(line).collect();
    if lines.is_empty() { "it has no disks".to_owned() } else { format!("its disks are{lines}") }
}

impl Place {
    /// Errors: the machine is no place for this, in words.
    fn ensure_fits(&self, wishes: &Wishes) -> Result<()> {
        probe::ensure_runs(&self.machine, &wishes.system)?;
        if let Some(needed) = wishes.firmware.filter(|needed| *needed != self.firmware) {
            bail!(
                "its boot loader needs {needed}, and the machine was started by {}\n  try: start the medium by {needed}, \
                 which its setup offers, or another boot.loader in installed.nix",
                self.firmware
            );
        }
        ensure!(
            self.memory >= LEAST_MEMORY,
            "it has {} of memory, and installing takes {}",
            bytes(self.memory),
            bytes(LEAST_MEMORY)
        );
        for disk in &self.disks {
            if let Some(reason) = refusal(disk, &self.table) {
                bail!("{} is not erased: {reason}", disk.device.path);
            }
        }
        // A gigabyte for the EFI system partition, a fifth for the file system itself; drydock-install counts the same.
        let least = wishes.size + wishes.size / 5 + (1 << 30);
        let there: u64 = self.disks.iter().map(|disk| disk.device.size).sum();
        ensure!(there >= least, "the system needs {}, and the disks have {}", bytes(least), bytes(there));
        Ok(())
    }
}

/// Why a disk must not be erased; `None` if it may be, once a person says so.
fn refusal(disk: &Disk, table: &[Device]) -> Option<String> {
    let device = &disk.device;
    if let Some(whole) = judge::disk_of(device, table) {
        return Some(format!("it is a part of {0}, and only whole disks are erased: {0}", whole.path));
    }
    if let Some(mount) = device.tree().iter().flat_map(|device| &device.mounts).next() {
        return Some(format!("it is in use (mounted at {mount})"));
    }
    if device.kind != "disk" {
        return Some(format!("it is no disk ({})", device.kind));
    }
    let tree = device.tree();
    if let Some(user) = tree.iter().find(|below| below.name != device.name && below.kind != "part") {
        return Some(format!(
            "{} ({}) is made of it\n  try: start the medium again, and activate nothing",
            user.name, user.kind
        ));
    }
    let reasons = [
        (device.size == 0, "there is no medium in it"),
        (device.read_only, "it is read-only"),
        (disk.is_used, "something uses it\n  try: start the medium again; it must not be swapped to or part of a pool"),
    ];
    reasons.into_iter().find(|(holds, _)| *holds).map(|(_, reason)| reason.to_owned())
}

impl Disk {
    /// The name by which it is known everywhere; its path if it has none.
    pub fn stable_name(&self) -> &str {
        self.links.first().map_or(self.device.path.as_str(), |link| link.as_str())
    }

    /// True if this is a name that is no other disk's tomorrow: below /dev/disk/by-id, or its path if it has none there.
    pub fn is_named(&self, name: &str) -> bool {
        self.links.iter().any(|link| link == name) || (self.links.is_empty() && self.device.path == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = r#"{"blockdevices": [
        {"name":"sda","path":"/dev/sda","maj:min":"8:0","type":"disk","tran":"sata","ro":false,"size":100000000000,"log-sec":512,
         "vendor":"ATA","model":"D","serial":"S1","fstype":null,"label":null,"mountpoints":[null],"children":[
          {"name":"sda1","path":"/dev/sda1","maj:min":"8:1","type":"part","tran":null,"ro":false,"size":1000,"log-sec":512,
           "vendor":null,"model":null,"serial":null,"fstype":"ext4","label":"old","mountpoints":[MOUNT]CHILD}]},
        {"name":"sdb","path":"/dev/sdb","maj:min":"8:16","type":"disk","tran":"usb","ro":READONLY,"size":10,"log-sec":512,
         "vendor":null,"model":null,"serial":null,"fstype":null,"label":null,"mountpoints":[null]},
        {"name":"sr0","path":"/dev/sr0","maj:min":"11:0","type":"rom","tran":"sata","ro":false,"size":10,"log-sec":512,
         "vendor":null,"model":null,"serial":null,"fstype":"iso9660","label":null,"mountpoints":["/iso"]}]}"#;
    const CHILD: &str = r#","children":[{"name":"vg-root","path":"/dev/dm-0","maj:min":"254:0","type":"lvm","tran":null,
        "ro":false,"size":900,"log-sec":512,"vendor":null,"model":null,"serial":null,"fstype":"ext4","label":null,
        "mountpoints":[null]}]"#;

    fn said(change: impl Fn(String) -> String, disks: &[(&str, &str)], wanted: &str) -> String {
        let table = TABLE.replace('\n', "\n@drydock table ");
        let text = format!(
            "@drydock login root\n@drydock machine x86_64\n@drydock root tmpfs\n@drydock firmware uefi\n\
             @drydock memory 4000000\n@drydock free 1000000\n@drydock link /dev/sda /dev/disk/by-id/ata-D_S1\n\
             @drydock wanted {wanted}\n@drydock table {table}\n@drydock end 0\n"
        );
        let text = change(text).replace("MOUNT", "null").replace("CHILD", "").replace("READONLY", "false");
        let disks = disks.iter().map(|(name, device)| ((*name).to_owned(), (*device).to_owned())).collect();
        let wishes = Wishes { system: "x86_64-linux".into(), firmware: Some(Firmware::Uefi), disks, size: 1 << 30 };
        let place = understand(&Answer::parse(&text).unwrap(), &wishes).and_then(|place| {
            place.ensure_fits(&wishes)?;
            Ok(place)
        });
        match place {
            Ok(place) => place.disks.iter().map(|disk| format!("{} = {}", disk.name, disk.stable_name())).collect(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_place_is_judged_and_what_is_in_doubt_is_refused() {
        let same = |text: String| text;
        let sda: &[(&str, &str)] = &[("main", "/dev/sda")];
        let good = "7 free /dev/sda";
        assert_eq!(said(same, sda, good), "main = /dev/disk/by-id/ata-D_S1");
        type Change = fn(String) -> String;
        let rows: [(Change, &str, &str); 15] = [
            (|text| text.replace("root tmpfs", "root ext4"), good, "not from a live medium"),
            (|text| text.replace("root tmpfs\n", "root tmpfs\n@drydock misses wipefs\n"), good, "has no wipefs"),
            (|text| text.replace("machine x86_64", "machine aarch64"), good, "the machine is aarch64"),
            (|text| text.replace("firmware uefi", "firmware bios"), good, "needs UEFI"),
            (|text| text.replace("memory 4000000", "memory 400000"), good, "390.6 MiB of memory"),
            (|text| text.replace("\n@drydock link", "\n@drydock working me\n@drydock link"), good, "me installs it"),
            (|text| text.replace("\n@drydock link", "\n@drydock mounted yes\n@drydock link"), good, "umount -R /mnt"),
            (|text| text.replace("MOUNT", "\"/\""), good, "mounted at /"),
            (|text| text.replace("CHILD", &CHILD.replace('\n', "")), good, "vg-root (lvm) is made of it"),
            (|text| text.replace("free /dev/sda", "used /dev/sda"), good, "something uses it"),
            (
                |text| text,
                "- free ",
                "its disks are\n    /dev/sda  sata  ATA  D  serial S1  93.1 GiB\n      /dev/disk/by-id/ata",
            ),
            (|text| text, "7 free /dev/sda1", "a part of /dev/sda"),
            (|text| text, "7 free /dev/sdb", "the disks have 10 B"),
            (|text| text.replace("READONLY", "true"), "7 used /dev/sdb", "read-only"),
            (|text| text, "7 free /dev/sr0", "in use (mounted at /iso)"),
        ];
        for (change, wanted, words) in rows {
            let said = said(change, sda, wanted);
            assert!(said.contains(words), "{words}: {said}");
        }
        let twice = [("a", "/dev/sda"), ("b", "/dev/disk/by-id/ata-D_S1")];
        let said = said(same, &twice, "7 free /dev/sda\n@drydock wanted 7 free /dev/sda");
        assert!(said.contains("both \"a\" and \"b\""), "{said}");
    }
}
