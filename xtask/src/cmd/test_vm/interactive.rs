//! One test in, its driver's shell on this terminal out.

use anyhow::{Result, bail};
use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    cmd::{DONE, FAILED, INTERRUPTED, boot::free_port},
    fleet::Fleet,
    job::JobId,
    nix::argv::{self, Source},
    process::{Cancel, End, Invocation},
    vmtest::{accel::Choice, place},
};

pub fn run(fleet: &Fleet, id: &JobId, choice: &Choice, dir: &Utf8Path, cancel: &Cancel) -> Result<u8> {
    let source = Source { flake: &fleet.flake_ref, overrides: &fleet.overrides, allow_ifd: false };
    let attribute = format!("{}.driverInteractive", id.attribute());
    eprintln!("test-vm: building {attribute}");
    let build = Invocation::new(argv::build_attribute(source, &attribute));
    let out = Utf8PathBuf::from(build.read(cancel)?.trim());
    let driver = out.join("bin/nixos-test-driver");
    if !driver.is_file() {
        bail!("{attribute} has no bin/nixos-test-driver: {out}");
    }
    let port = free_port()?;
    let argv = vec![driver.to_string(), "-o".to_owned(), dir.to_string()];
    let forward = format!("hostfwd=tcp:127.0.0.1:{port}-:22");
    let invocation = place::outside(argv, choice, 1, cancel).dir(dir).env("QEMU_NET_OPTS", forward);
    eprintln!("test-vm: {choice}");
    eprintln!("test-vm: {}", invocation.display());
    eprintln!(
        "test-vm: once a machine runs: ssh -p {port} root@127.0.0.1 (if it serves ssh; with several machines start one)"
    );
    cancel.lend_keyboard();
    match invocation.interactive(cancel)? {
        End::Exited(0) => Ok(DONE),
        End::Cancelled => Ok(INTERRUPTED),
        end => {
            eprintln!("test-vm: the driver ended: {end}");
            Ok(FAILED)
        }
    }
}
