//! Writes what was agreed on, as root if that is what it takes.

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
pub fn order(order: &Order, cancel: &Cancel) -> Result<u8> {
    use rustix::fs::{Access, access};
    match access(order.device.as_std_path(), Access::READ_OK | Access::WRITE_OK) {
        Ok(()) => here(order, cancel),
        Err(_) => through_sudo(order, cancel),
    }
}

/// Opens both and writes.
pub fn here(order: &Order, cancel: &Cancel) -> Result<u8> {
    let (image, target) = order.open(cancel)?;
    let code = write(&image, &target, &order.device, cancel)?;
    if code == DONE {
        eprintln!("write: it can be taken out");
    }
    Ok(code)
}

/// Writes to a file in place of a device.
pub fn to_file(built: &Built, file: &Utf8Path, cancel: &Cancel) -> Result<u8> {
    let image = Image::open(&built.path, built.size, &built.sha256)?;
    write(&image, &Target::file(file, &image)?, file, cancel)
}

fn through_sudo(order: &Order, cancel: &Cancel) -> Result<u8> {
    if !on_path("sudo") {
        return Err(lacking(format!(
            "{} belongs to root, and sudo is not on PATH\n  try: as root, or as a member of the group that owns it",
            order.device
        )));
    }
    let own = std::env::current_exe().context("cannot tell the path of this program")?;
    let own = own.to_str().context("the path of this program is not UTF-8")?;
    let words = ["sudo", "--", own, "write-device", &serde_json::to_string(order)?];
    let invocation = Invocation::new(words);
    eprintln!("write: {} belongs to root, so this is started:\n  {}", order.device, invocation.display());
    // Ctrl-C reaches what sudo started, which has to wipe the device before it ends.
    cancel.lend_keyboard();
    Ok(match invocation.interactive(cancel)? {
        End::Exited(code) => u8::try_from(code).unwrap_or(FAILED),
        End::Cancelled => INTERRUPTED,
        end => {
            eprintln!("write: sudo ended: {end}; do not use what is on {}", order.device);
            FAILED
        }
    })
}

fn write(image: &Image, target: &Target, place: &Utf8Path, cancel: &Cancel) -> Result<u8> {
    // A second Ctrl-C must not keep us from wiping what is half written.
    cancel.tidy_up_first();
    let mut meter = Meter::new(image.size());
    let done = medium::write(image, target, cancel, &mut |stage, bytes| meter.show(stage, bytes));
    let times = meter.finish();
    match done {
        Ok(()) => {
            eprintln!("write: {place} {times}, and is the same");
            Ok(DONE)
        }
        Err(error) => {
            print_error(&error.context(format!("{place}")));
            Ok(if cancel.is_set() { INTERRUPTED } else { FAILED })
        }
    }
}
