//! Judges which devices may be written, and says of each other one why not. Pure.

use crate::{device::Device, diagnostic::bytes};

/// Mount points of a running system; `/iso` is where a live medium of NixOS has itself.
const SYSTEM: [&str; 8] = ["/", "/boot", "/boot/efi", "/efi", "/nix", "/nix/store", "/nix/.ro-store", "/iso"];

/// Larger than sticks usually are: perhaps somebody's backup. Bytes.
pub const LARGE: u64 = 128_000_000_000;

/// How a device came to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It is attached; nobody named it.
    Offered,
    /// A person named it, which loop devices need.
    Named,
}

/// Why a device must not be written with an image of `least` bytes; `None` if it may be. What is not known to be right
/// is refused: the bus decides, not what a device says of being removable.
pub fn refusal(device: &Device, table: &[Device], asked: Asked, least: u64) -> Option<String> {
    let is_loop = device.kind == "loop" && asked == Asked::Named;
    let tree = device.tree();
    let find = |test: &dyn Fn(&Device) -> bool| tree.iter().copied().find(|device| test(device));
    let mounted_at = |wanted: &dyn Fn(&str) -> bool| tree.iter().flat_map(|d| &d.mounts).find(|m| wanted(m));
    if let Some(disk) = disk_of(device, table) {
        return Some(format!("it is a part of {0}, and only whole disks are written: {0}", disk.path));
    }
    if let Some(mount) = mounted_at(&|mount| SYSTEM.contains(&mount)) {
        return Some(format!("it holds the running system: {mount} is on it"));
    }
    if mounted_at(&|mount| mount == "[SWAP]").is_some() {
        return Some("the system swaps to it".to_owned());
    }
    if let Some(mount) = mounted_at(&|_| true) {
        return Some(format!("it is mounted at {mount}; `umount {mount}` first if it may be lost"));
    }
    match device.kind.as_str() {
        "disk" => {}
        "loop" if is_loop => {}
        "loop" => return Some("it is a loop device, which has to be named".to_owned()),
        "rom" => return Some("it is an optical drive".to_owned()),
        other => return Some(format!("it is no disk ({other})")),
    }
    if device.size == 0 {
        return Some("there is no medium in it".to_owned());
    }
    // The kernel has made something of it that may be in use without being mounted.
    if let Some(user) = find(&|below| below.name != device.name && below.kind != "part") {
        return Some(format!("{} ({}) is made of it", user.name, user.kind));
    }
    if let Some(member) = find(&|device| is_member(&device.content)) {
        return Some(as_member(&member.path, &member.content));
    }
    // Old versions of lsblk do not tell this bus. `mmcblk0boot0` is no card, but a boot area of soldered flash.
    let slot = device.name.strip_prefix("mmcblk").filter(|_| device.bus.is_empty() || device.bus == "mmc");
    let is_card = slot.is_some_and(|slot| slot.bytes().all(|byte| byte.is_ascii_digit()));
    let boot_area = format!("{}boot0", device.name);
    if is_card && table.iter().any(|other| other.name == boot_area) {
        return Some("it is the flash memory of this machine (eMMC)".to_owned());
    }
    if !is_loop && !is_card && device.bus != "usb" {
        let bus = if device.bus.is_empty() { "none that is known" } else { &device.bus };
        return Some(format!("its bus is {bus}; only usb and cards are written"));
    }
    if device.read_only {
        return Some("it is read-only; a card may have a switch for that".to_owned());
    }
    if device.sector != 512 {
        return Some(format!("it has sectors of {} bytes, and images count in 512", device.sector));
    }
    if device.size < least {
        let [size, least] = [device.size, least].map(bytes);
        return Some(format!("it is too small: {size}, and the image has {least}"));
    }
    None
}

/// The devices that are offered for an image of `least` bytes, and those that are not with the reason. Loop devices,
/// memory and drives that are nothing but empty slots of the kernel are left out.
pub fn sort(table: &[Device], least: u64) -> (Vec<&Device>, Vec<(&Device, String)>) {
    let (mut offered, mut refused) = (Vec::new(), Vec::new());
    let shown = |device: &&Device| device.kind != "loop" && (device.size > 0 || !device.bus.is_empty());
    for device in table.iter().filter(shown) {
        match refusal(device, table, Asked::Offered, least) {
            None => offered.push(device),
            Some(reason) => refused.push((device, reason)),
        }
    }
    (offered, refused)
}

/// The device of that number, wherever in the table it is.
pub fn find<'t>(table: &'t [Device], number: &str) -> Option<&'t Device> {
    table.iter().flat_map(Device::tree).find(|device| device.number == number)
}

/// The device that another one lies on.
pub fn disk_of<'t>(device: &Device, table: &'t [Device]) -> Option<&'t Device> {
    let is_below = |top: &&Device| top.tree().iter().skip(1).any(|below| below.number == device.number);
    table.iter().find(is_below)
}

/// Why a device with one of these signatures must not be written; `None` if it may be.
pub fn refusal_for(path: &str, signatures: &[String]) -> Option<String> {
    signatures.iter().find(|content| is_member(content)).map(|content| as_member(path, content))
}

fn as_member(path: &str, content: &str) -> String {
    format!("{path} is {}; `wipefs --all {path}` first if it may be lost", in_words(content))
}

/// Signatures of what belongs to something larger, or holds what only its owner can see, by their names in libblkid.
fn is_member(content: &str) -> bool {
    const OTHERS: [&str; 8] =
        ["crypto_LUKS", "BitLocker", "swap", "swsuspend", "bcache", "ceph_bluestore", "stratis", "drbd"];
    content.to_lowercase().ends_with("_member") || OTHERS.contains(&content)
}

fn in_words(content: &str) -> String {
    match content {
        "crypto_LUKS" | "BitLocker" => format!("encrypted ({content})"),
        "swap" | "swsuspend" => format!("swap space ({content})"),
        "LVM2_member" | "LVM1_member" => format!("part of an LVM volume group ({content})"),
        "zfs_member" => format!("part of a ZFS pool ({content})"),
        _ if content.to_lowercase().ends_with("raid_member") => format!("part of a RAID ({content})"),
        _ => format!("part of something larger ({content})"),
    }
}
