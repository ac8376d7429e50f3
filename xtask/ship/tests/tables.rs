//! Tables of lsblk, of real machines and of generated ones: which devices may be written, and why not the others.

use drydock_ship::{
    device::{self, Device},
    judge::{self, Asked},
};
use serde_json::{Value, json};

const GIB: u64 = 1 << 30;

/// One device as lsblk 2.38 writes it; `said` replaces what is usual for a stick without partitions.
fn device(name: &str, said: Value) -> Value {
    let number = name.bytes().fold(0_u32, |sum, byte| (sum * 31 + u32::from(byte)) % 1_000_003);
    let mut device = json!({
        "name": name, "path": format!("/dev/{name}"), "maj:min": format!("8:{number}"), "type": "disk", "tran": "usb",
        "ro": false, "size": 32 * GIB, "log-sec": 512, "vendor": "SanDisk ", "model": "Ultra", "serial": "4C530001",
        "fstype": null, "label": null, "mountpoints": [null]
    });
    let said = said.as_object().expect("an object").clone();
    device.as_object_mut().expect("an object").extend(said);
    device
}

fn part(name: &str, said: Value) -> Value {
    let mut part = device(name, json!({"type": "part", "tran": null, "vendor": null, "model": null, "serial": null}));
    part.as_object_mut().expect("an object").extend(said.as_object().expect("an object").clone());
    part
}

fn table(devices: &[Value]) -> Vec<Device> {
    device::parse(&json!({ "blockdevices": devices }).to_string()).expect("lsblk's form")
}

/// Why a device is not written, however it was named; empty if it may be.
fn verdict(table: &[Device], name: &str, asked: Asked) -> String {
    let tree: Vec<&Device> = table.iter().flat_map(Device::tree).collect();
    let device = tree.iter().find(|device| device.name == name).unwrap_or_else(|| panic!("{name} is in the table"));
    judge::refusal(device, table, asked, GIB).unwrap_or_default()
}

#[test]
fn every_kind_of_device_is_offered_or_refused_for_the_right_reason() {
    let on = |children: Value| json!({ "children": children });
    let mmc = |bus: Value| json!({"tran": bus, "vendor": null});
    // The devices of a machine, the one that is looked at, and a word of the reason; without a word it is offered.
    let rows: Vec<(&str, Vec<Value>, &str, &str)> = vec![
        ("an empty stick", vec![device("sdb", json!({}))], "sdb", ""),
        ("a stick with files", vec![device("sdb", on(json!([part("sdb1", json!({"fstype": "vfat"}))])))], "sdb", ""),
        ("an old image", vec![device("sdb", json!({"fstype": "iso9660", "label": "nixos"}))], "sdb", ""),
        ("NVMe in a USB case", vec![device("sda", json!({"size": 2048 * GIB, "rm": false}))], "sda", ""),
        ("a card", vec![device("mmcblk0", mmc(json!("mmc")))], "mmcblk0", ""),
        ("a card, as lsblk 2.36 has it", vec![device("mmcblk0", mmc(Value::Null))], "mmcblk0", ""),
        (
            "eMMC",
            vec![device("mmcblk0", mmc(json!("mmc"))), device("mmcblk0boot0", mmc(json!("mmc")))],
            "mmcblk0",
            "eMMC",
        ),
        ("a boot area of eMMC", vec![device("mmcblk0boot1", mmc(Value::Null))], "mmcblk0boot1", "its bus is none"),
        (
            "a system disk on NVMe",
            vec![device(
                "nvme0n1",
                json!({"tran": "nvme", "children": [part("nvme0n1p1", json!({"mountpoints": ["/boot"]}))]}),
            )],
            "nvme0n1",
            "running system: /boot",
        ),
        (
            "a system on LUKS and LVM on USB",
            vec![device(
                "sda",
                on(json!([part(
                    "sda2",
                    json!({"fstype": "crypto_LUKS", "children": [device(
                        "luks",
                        json!({"type": "crypt", "tran": null, "children": [
                            device("vg-root", json!({"type": "lvm", "tran": null, "mountpoints": [null, "/"]}))
                        ]})
                    )]})
                )])),
            )],
            "sda",
            "running system: / ",
        ),
        (
            "the live medium itself",
            vec![device("sda", on(json!([part("sda1", json!({"mountpoints": ["/iso"]}))])))],
            "sda",
            "running system",
        ),
        ("an internal disk", vec![device("sda", json!({"tran": "sata"}))], "sda", "its bus is sata"),
        (
            "one that says it is removable",
            vec![device("sda", json!({"tran": "sata", "rm": true, "hotplug": true}))],
            "sda",
            "its bus is sata",
        ),
        ("virtio", vec![device("vda", json!({"tran": "virtio"}))], "vda", "its bus is virtio"),
        (
            "virtio, as lsblk 2.38 has it",
            vec![device("vda", json!({"tran": null}))],
            "vda",
            "its bus is none that is known",
        ),
        ("zram", vec![device("zram0", json!({"tran": null}))], "zram0", "its bus is none"),
        ("nbd", vec![device("nbd0", json!({"tran": null, "size": 0}))], "nbd0", "no medium"),
        ("iSCSI", vec![device("sdc", json!({"tran": "iscsi"}))], "sdc", "its bus is iscsi"),
        (
            "mounted",
            vec![device("sdb", on(json!([part("sdb1", json!({"mountpoints": ["/media/me/BACKUP"]}))])))],
            "sdb",
            "mounted at /media/me/BACKUP",
        ),
        ("mounted without partitions", vec![device("sdb", json!({"mountpoints": ["/mnt"]}))], "sdb", "mounted at /mnt"),
        (
            "a partition",
            vec![device("sdb", on(json!([part("sdb1", json!({}))])))],
            "sdb1",
            "only whole disks are written: /dev/sdb",
        ),
        (
            "swap in use",
            vec![device("sdb", on(json!([part("sdb1", json!({"mountpoints": ["[SWAP]"]}))])))],
            "sdb",
            "swaps to it",
        ),
        ("swap", vec![device("sdb", json!({"fstype": "swap"}))], "sdb", "swap space"),
        (
            "LUKS",
            vec![device("sdb", on(json!([part("sdb1", json!({"fstype": "crypto_LUKS"}))])))],
            "sdb",
            "encrypted (crypto_LUKS)",
        ),
        (
            "LUKS that is open",
            vec![device("sdb", json!({"fstype": "crypto_LUKS", "children": [device("c", json!({"type": "crypt"}))]}))],
            "sdb",
            "c (crypt) is made of it",
        ),
        (
            "a mapped device",
            vec![device("sdb", on(json!([device("c", json!({"type": "crypt"}))])))],
            "c",
            "a part of /dev/sdb",
        ),
        (
            "RAID",
            vec![device("sdb", json!({"children": [device("md0", json!({"type": "raid1"}))]}))],
            "sdb",
            "md0 (raid1)",
        ),
        (
            "RAID that is not assembled",
            vec![device("sdb", json!({"fstype": "linux_raid_member"}))],
            "sdb",
            "part of a RAID",
        ),
        ("RAID of a board", vec![device("sdb", json!({"fstype": "isw_raid_member"}))], "sdb", "part of a RAID"),
        ("LVM", vec![device("sdb", json!({"fstype": "LVM2_member"}))], "sdb", "LVM volume group"),
        (
            "ZFS",
            vec![device("sdb", on(json!([part("sdb9", json!({})), part("sdb1", json!({"fstype": "zfs_member"}))])))],
            "sdb",
            "ZFS pool",
        ),
        ("bcache", vec![device("sdb", json!({"fstype": "bcache"}))], "sdb", "part of something larger"),
        ("VMFS", vec![device("sdb", json!({"fstype": "VMFS_volume_member"}))], "sdb", "part of something larger"),
        (
            "multipath",
            vec![device("sdb", json!({"children": [device("mpatha", json!({"type": "mpath"}))]}))],
            "sdb",
            "mpatha (mpath)",
        ),
        ("a reader without a card", vec![device("sdd", json!({"size": 0}))], "sdd", "no medium"),
        ("a card with its switch on", vec![device("sdd", json!({"ro": true}))], "sdd", "read-only"),
        ("an optical drive", vec![device("sr0", json!({"type": "rom", "tran": "usb"}))], "sr0", "optical"),
        ("too small", vec![device("sdb", json!({"size": GIB - 512}))], "sdb", "too small"),
        ("just large enough", vec![device("sdb", json!({"size": GIB}))], "sdb", ""),
        ("large sectors", vec![device("sdb", json!({"log-sec": 4096}))], "sdb", "sectors of 4096 bytes"),
        ("a kind of tomorrow", vec![device("x", json!({"type": "quantum"}))], "x", "no disk (quantum)"),
        (
            "words as lsblk 2.32 has them",
            vec![device("sdb", json!({"ro": "0", "size": "34359738368", "log-sec": "512"}))],
            "sdb",
            "",
        ),
        ("read-only in such words", vec![device("sdb", json!({"ro": "1"}))], "sdb", "read-only"),
        ("not said whether it is read-only", vec![device("sdb", json!({"ro": null}))], "sdb", "read-only"),
        ("not said how large", vec![device("sdb", json!({"size": null}))], "sdb", "no medium"),
    ];
    for (what, devices, name, word) in rows {
        let table = table(&devices);
        let (offered, refused) = judge::sort(&table, GIB);
        for asked in [Asked::Offered, Asked::Named] {
            let found = verdict(&table, name, asked);
            assert!(found.is_empty() == word.is_empty() && found.contains(word), "{what}, {asked:?}: {found:?}");
        }
        assert_eq!(offered.iter().any(|device| device.name == name), word.is_empty(), "{what}: {refused:?}");
        assert!(refused.iter().all(|(_, reason)| !reason.is_empty()));
    }
}

#[test]
fn a_loop_device_is_written_only_where_it_is_named() {
    let table = table(&[device("loop0", json!({"type": "loop", "tran": null})), device("sdb", json!({}))]);
    assert!(verdict(&table, "loop0", Asked::Offered).contains("has to be named"));
    assert_eq!(verdict(&table, "loop0", Asked::Named), "");
    let (offered, refused) = judge::sort(&table, GIB);
    assert_eq!((offered.len(), refused.len()), (1, 0), "it is not even listed");
}

#[test]
fn what_a_device_calls_itself_cannot_move_the_cursor() {
    let name = "\u{1b}[2J\u{1b}[Hsda\r\n\u{7f}";
    let children = json!([part("sdb1", json!({"fstype": "vfat", "label": name}))]);
    let table = table(&[device("sdb", json!({"model": name, "serial": name, "vendor": name, "children": children}))]);
    let shown = format!("{}{}{}", table[0].describe(), table[0].contents().join(""), table[0].identity().describe());
    assert!(!shown.contains(char::is_control), "{shown:?}");
}

#[test]
fn signatures_that_udev_did_not_tell_are_refused_too() {
    let told =
        |types: &[&str]| judge::refusal_for("/dev/sdb", &types.iter().map(|&t| t.to_owned()).collect::<Vec<_>>());
    assert_eq!(told(&["iso9660", "gpt", "PMBR", "vfat", "ext4", "btrfs"]), None);
    assert!(told(&["vfat", "crypto_LUKS"]).is_some_and(|reason| reason.contains("wipefs --all /dev/sdb")));
}

#[test]
fn another_form_is_an_error_and_no_empty_list() {
    for text in ["", "{}", "[]", "{\"blockdevices\": [{\"name\": \"sdb\"}]}", "{\"blockdevices\": [{\"size\": -1}]}"] {
        assert!(device::parse(text).is_err(), "{text}");
    }
}

/// SplitMix64, so that a seed is a table.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// A disk that may be written, and what is done to it so that it may not, at a random depth. `None` is nothing.
fn generate(random: &mut Random, name: &str) -> (Value, Option<&'static str>) {
    let harmless = ["vfat", "ext4", "iso9660", "ntfs", "exfat", "btrfs", ""];
    let fault: Option<&str> = *random.pick(&[
        None,
        None,
        None,
        Some("mount"),
        Some("swap"),
        Some("member"),
        Some("holder"),
        Some("bus"),
        Some("kind"),
        Some("read-only"),
        Some("empty"),
        Some("small"),
        Some("sector"),
    ]);
    let depth = random.below(4);
    let mut child: Option<Value> = None;
    for level in (0..=depth).rev() {
        let below = format!("{name}{}", "p1".repeat(level));
        let content = *random.pick(&harmless);
        let mut said = json!({"fstype": content, "children": []});
        if level == depth {
            match fault {
                Some("mount") => {
                    said["mountpoints"] = json!([null, random.pick(&["/", "/home", "/boot", "/media/x", "/nix"])])
                }
                Some("swap") => said["mountpoints"] = json!(["[SWAP]"]),
                Some("member") => {
                    let members =
                        ["crypto_LUKS", "LVM2_member", "linux_raid_member", "zfs_member", "bcache", "ddf_raid_member"];
                    said["fstype"] = json!(random.pick(&members));
                }
                Some("holder") => {
                    let kind = random.pick(&["crypt", "lvm", "raid5", "mpath", "dm"]);
                    said["children"] = json!([device(&format!("{name}-made"), json!({"type": kind, "tran": null}))]);
                }
                _ => {}
            }
        }
        if level == 0 {
            match fault {
                Some("bus") => {
                    said["tran"] =
                        random.pick(&[json!("sata"), json!("nvme"), json!(null), json!("sas"), json!("ata")]).clone()
                }
                Some("kind") => said["type"] = json!(random.pick(&["rom", "dm", "md", "tape", "loop"])),
                Some("read-only") => said["ro"] = random.pick(&[json!(true), json!("1")]).clone(),
                Some("empty") => said["size"] = random.pick(&[json!(0), json!("0"), json!(null)]).clone(),
                Some("small") => said["size"] = json!(random.below(GIB as usize)),
                Some("sector") => said["log-sec"] = json!(4096),
                _ => said["size"] = json!(GIB + random.below(1 << 40) as u64),
            }
        }
        // Neighbours on the same disk do no harm and excuse nothing.
        let mut children: Vec<Value> = said["children"].as_array().cloned().unwrap_or_default();
        children.extend((0..random.below(3)).map(|n| part(&format!("{below}n{n}"), json!({"fstype": "vfat"}))));
        children.extend(child);
        let at = random.below(children.len().max(1));
        children.rotate_left(at);
        said["children"] = json!(children);
        child = Some(if level == 0 { device(&below, said) } else { part(&below, said) });
    }
    (child.expect("the loop runs at least once"), fault)
}

#[test]
fn of_1000_generated_machines_no_forbidden_device_is_offered_or_accepted_and_every_other_is() {
    let (mut forbidden, mut allowed) = (0, 0);
    for seed in 0..1000 {
        let mut random = Random(seed);
        let count = 1 + random.below(12);
        let made: Vec<(Value, Option<&str>)> = (0..count).map(|n| generate(&mut random, &format!("sd{n}x"))).collect();
        let devices: Vec<Value> = made.iter().map(|(device, _)| device.clone()).collect();
        let table = table(&devices);
        let (offered, _) = judge::sort(&table, GIB);
        for (device, (_, fault)) in table.iter().zip(&made) {
            let is_offered = offered.iter().any(|other| other.name == device.name);
            assert_eq!(is_offered, fault.is_none(), "seed {seed}: {} with {fault:?}", device.name);
            // A loop device alone may be named though it is not offered.
            let accepted = judge::refusal(device, &table, Asked::Named, GIB).is_none();
            assert_eq!(
                accepted,
                fault.is_none() || device.kind == "loop",
                "seed {seed}: {} with {fault:?}",
                device.name
            );
            for below in device.tree().into_iter().skip(1) {
                assert!(judge::refusal(below, &table, Asked::Named, 0).is_some(), "seed {seed}: {}", below.name);
            }
            *(if fault.is_none() { &mut allowed } else { &mut forbidden }) += 1;
        }
    }
    assert!(forbidden > 1000 && allowed > 1000, "both kinds occur: {forbidden}, {allowed}");
}
