//! Writes what was agreed on, as root if that is what it takes.

use std::thread;

use anyhow::{Context as _, Result};
use camino::Utf8Path;

use super::{Built, meter::Meter};
use crate::{
    diagnostic::{DONE, FAILED, INTERRUPTED, lacking, print_error},
    process::{Cancel, End, Invocation, on_path},
    ship::{
        medium::{self, Image, Target},
        order::Order,
    },
};

/// Writes here if this user may, and through `sudo` if not.
pub fn orders(orders: &[Order], cancel: &Cancel) -> Result<u8> {
    use rustix::fs::{Access, access};
    let foreign =
        orders.iter().find(|order| access(order.device.as_std_path(), Access::READ_OK | Access::WRITE_OK).is_err());
    match foreign {
        None => here(orders, cancel),
        Some(order) => through_sudo(orders, &order.device, cancel),
    }
}

/// Opens all images and devices, then writes them side by side.
pub fn here(orders: &[Order], cancel: &Cancel) -> Result<u8> {
    let opened = orders.iter().map(|order| order.open(cancel)).collect::<Result<Vec<_>>>()?;
    thread::scope(|scope| {
        let mut writing = Vec::new();
        for (Order { device, .. }, (image, target)) in orders.iter().zip(&opened) {
            writing.push(scope.spawn(move || {
                let code = write(image, target, device, orders.len() == 1, cancel);
                if code == DONE {
                    eprintln!("write: {device} can be taken out");
                }
                code
            }));
        }
        let codes = writing.into_iter().map(|one| one.join().unwrap_or(FAILED));
        Ok(codes.max().unwrap_or(DONE))
    })
}

/// Writes to a file in place of a device.
pub fn to_file(built: &Built, file: &Utf8Path, cancel: &Cancel) -> Result<u8> {
    let image = Image::open(&built.path, built.size, &built.sha256)?;
    Ok(write(&image, &Target::file(file, &image)?, file, true, cancel))
}

fn through_sudo(orders: &[Order], device: &Utf8Path, cancel: &Cancel) -> Result<u8> {
    if !on_path("sudo") {
        return Err(lacking(format!(
            "{device} belongs to root, and sudo is not on PATH\n  try: as root, or as a member of the group that owns it"
        )));
    }
    let own = std::env::current_exe().context("cannot tell the path of this program")?;
    let own = own.to_str().context("the path of this program is not UTF-8")?;
    let words = ["sudo", "--", own, "write-device", &serde_json::to_string(orders)?];
    let invocation = Invocation::new(words);
    eprintln!("write: {device} belongs to root, so this is started:\n  {}", invocation.display());
    // Ctrl-C reaches what sudo started, which has to wipe a device before it ends.
    cancel.lend_keyboard();
    Ok(match invocation.interactive(cancel)? {
        End::Exited(code) => u8::try_from(code).unwrap_or(FAILED),
        End::Cancelled => INTERRUPTED,
        end => {
            let devices: Vec<&str> = orders.iter().map(|order| order.device.as_str()).collect();
            eprintln!("write: sudo ended: {end}; do not use what is on {}", devices.join(", "));
            FAILED
        }
    })
}

/// Writes and says what came of it, with the exit code for that.
fn write(image: &Image, target: &Target, place: &Utf8Path, is_alone: bool, cancel: &Cancel) -> u8 {
    // A second Ctrl-C must not keep us from wiping what is half written.
    cancel.tidy_up_first();
    let mut meter = Meter::new(place.as_str(), image.size(), is_alone);
    let done = medium::write(image, target, cancel, &mut |stage, bytes| meter.show(stage, bytes));
    let times = meter.finish();
    match done {
        Ok(()) => {
            eprintln!("write: {place} {times}, and is the same");
            DONE
        }
        Err(error) => {
            print_error(&error.context(format!("{place}")));
            if cancel.is_set() { INTERRUPTED } else { FAILED }
        }
    }
}
