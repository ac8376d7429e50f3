//! Shows the devices, has a person choose one, and asks before what is on it is lost.

use std::fs;

use anyhow::Result;
use camino::Utf8Path;

use super::{Built, Wish};
use crate::{
    answers::{self, Answers},
    diagnostic::{as_called, bytes, usage},
    job::HostName,
    process::Cancel,
    ship::{
        device::{self, Device},
        judge::{self, Asked},
        order::Order,
    },
};

/// The device that was typed, if it may be written with `least` bytes. Errors: exit code 2 and the reason if it may not.
pub fn named<'t>(typed: &Utf8Path, table: &'t [Device], least: u64) -> Result<&'t Device> {
    // `sdb` is /dev/sdb.
    let path = Utf8Path::new("/dev").join(typed);
    let metadata = fs::metadata(&path)
        .map_err(|error| usage(format!("{path}: {error}\n  try: without it, which lists the devices")))?;
    let number = device::number_of(&metadata)
        .ok_or_else(|| usage(format!("{path} is no block device\n  try: `--file {typed}` if a file is meant")))?;
    let device = judge::find(table, &number).ok_or_else(|| usage(format!("lsblk does not know {path} ({number})")))?;
    match judge::refusal(device, table, Asked::Named, least) {
        None => Ok(device),
        Some(reason) => {
            Err(usage(format!("{path} is not written: {reason}\n  try: without it, which lists the devices")))
        }
    }
}

/// Errors: exit code 2 where nobody can be asked before the device is lost, and where `--yes` comes with a name that is
/// another device's after the next reboot.
pub fn ensure_may_ask(typed: &Utf8Path, device: &Device, yes: bool) -> Result<()> {
    let is_loop = device.kind == "loop";
    let is_stable = typed.parent() == Some(Utf8Path::new("/dev/disk/by-id"));
    let advice = || match device.stable_name() {
        _ if is_loop => "try: --yes if it may".to_owned(),
        Some(name) => format!("try: --yes {name}"),
        None => "try: at a terminal; it has no name below /dev/disk/by-id".to_owned(),
    };
    match yes {
        true if !is_stable && !is_loop => {
            Err(usage(format!("--yes asks nothing, and {typed} may be another device tomorrow\n  {}", advice())))
        }
        false if !answers::possible() => {
            Err(usage(format!("there is no terminal to ask at whether {typed} may be lost\n  {}", advice())))
        }
        _ => Ok(()),
    }
}

/// Errors: exit code 2 and the list of devices where nobody can be asked for one, and where there is none.
pub fn ensure_may_choose(table: &[Device], host: &HostName, yes: bool) -> Result<()> {
    let (offered, _) = judge::sort(table, 0);
    if !offered.is_empty() && !yes && answers::possible() {
        return Ok(());
    }
    list(table, 0);
    Err(usage(match offered.is_empty() {
        true => "no device can be written\n  try: plug in a stick; one that is mounted is unmounted first".to_owned(),
        false => format!("which device?\n  try: `cargo xtask write {} DEVICE` with one of the above", host),
    }))
}

/// True if there is no such file, or if it may be lost. Errors: exit code 2 where nobody can be asked, and where it is no
/// file.
pub fn may_replace(file: &Utf8Path, yes: bool, cancel: &Cancel) -> Result<bool> {
    match fs::metadata(file) {
        Ok(found) if !found.is_file() => {
            return Err(usage(format!("--file {file} is no file\n  try: a device is named without --file")));
        }
        Ok(_) if !yes => {}
        _ => return Ok(true),
    }
    if !answers::possible() {
        return Err(usage(format!("{file} exists\n  try: --yes if it may be replaced")));
    }
    eprint!("write: {file} exists. Type yes to replace it: ");
    Ok(Answers::from_terminal().next(cancel)?.as_deref() == Some("yes"))
}

/// Errors: exit code 2 where one device is named for two hosts.
pub fn ensure_apart(devices: &[&Device]) -> Result<()> {
    let twice = devices.iter().enumerate().find(|(at, one)| devices[..*at].iter().any(|other| other.path == one.path));
    twice.map_or(Ok(()), |(_, device)| Err(usage(format!("{} is named twice", device.path))))
}

/// What a person agrees to. `None` if it is not agreed to.
pub fn orders(wishes: &[Wish], images: &[Built], yes: bool, cancel: &Cancel) -> Result<Option<Vec<Order>>> {
    let answers = Answers::from_terminal();
    let table = device::attached(cancel)?;
    let mut devices = Vec::new();
    for (wish, image) in wishes.iter().zip(images) {
        let typed = match &wish.device {
            Some(typed) => typed.clone(),
            None => {
                list(&table, image.size);
                eprint!("Which device? ");
                match answers.next(cancel)? {
                    Some(answer) if !answer.is_empty() => answer.into(),
                    _ => return Ok(None),
                }
            }
        };
        devices.push(named(&typed, &table, image.size)?);
    }
    ensure_apart(&devices)?;
    if !yes {
        images.iter().zip(&devices).for_each(|(image, device)| show(image, device));
        let names: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
        eprint!("Everything on it will be lost. Type {} to go on: ", names.join(" "));
        let answer = answers.next(cancel)?.unwrap_or_default();
        if answer.split_whitespace().ne(names) {
            return Ok(None);
        }
    }
    let order = |(image, device): (&Built, &&Device)| Order {
        image: image.path.clone(),
        size: image.size,
        sha256: image.sha256.clone(),
        device: device.path.clone().into(),
        shown: device.identity(),
    };
    Ok(Some(images.iter().zip(&devices).map(order).collect()))
}

fn show(image: &Built, device: &Device) {
    let (name, size) = (image.path.file_name().unwrap_or_default(), bytes(image.size));
    eprintln!("\nwrite: {name} ({size})\n    to {}", device.describe());
    device.contents().iter().for_each(|line| eprintln!("       {line}"));
    if device.size > judge::LARGE {
        eprintln!("It is larger than most sticks. Is it a disk with somebody's data?");
    }
}

fn list(table: &[Device], least: u64) {
    let (offered, refused) = judge::sort(table, least);
    eprintln!("{} can be written:", if offered.is_empty() { "No device" } else { "These" });
    for device in offered {
        eprintln!("  {}", device.describe());
        device.contents().iter().for_each(|line| eprintln!("      {line}"));
        device.stable_name().iter().for_each(|name| eprintln!("      {name}"));
    }
    if !refused.is_empty() {
        eprintln!("Not offered:");
    }
    refused.iter().for_each(|(device, reason)| eprintln!("  {}\n      {}", device.describe(), as_called(reason)));
}
