//! Finds who builds for a system here; an emulator is believed only after it has run a program.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use anyhow::Result;

use super::Finding;
use crate::{
    files::Temporary,
    nix::{Builder, Settings},
    process::{Cancel, Captured, End, Invocation},
};

/// The code with which the programs below exit.
const ANSWER: i32 = 42;

/// True if there is a program to try the system's emulator with.
pub fn can_try(system: &str) -> bool {
    program(system).is_some()
}

/// `needed` says that a host of the fleet has this system; `live` are the remote builders that answer.
pub fn examine(system: &str, needed: bool, settings: &Settings, live: &[String], cancel: &Cancel) -> Finding {
    let check = format!("build {system}");
    match settings.builder_of(system, live) {
        Builder::Native => Finding::ok(check, "this machine"),
        Builder::Remote => Finding::ok(check, "a remote builder"),
        Builder::Nobody(why) => {
            let (found, advice) = why.split_once("\n  try: ").unwrap_or((&why, "`ci/setup`"));
            match needed {
                true => Finding::missing(check, found, advice),
                false => Finding::warn(check, found, advice),
            }
        }
        Builder::Emulated => {
            let entry = registration(system);
            match try_out(system, cancel) {
                Err(why) if needed => Finding::missing(check, why, "run `ci/setup`, or restart systemd-binfmt"),
                Err(why) => Finding::warn(check, why, "run `ci/setup`, or restart systemd-binfmt"),
                Ok(()) if !entry.is_some_and(|text| has_flag_f(&text)) => Finding::warn(
                    check,
                    "emulated, but the interpreter is not fixed (flag F), so a sandboxed builder may not find it",
                    "install qemu-user-static, whose registration has the flag, or add the interpreter to \
                     `extra-sandbox-paths`",
                ),
                Ok(()) => Finding::ok(
                    check,
                    "emulated by binfmt_misc and QEMU, 8 to 15 times slower than native; a program ran",
                ),
            }
        }
    }
}

/// The line `flags: POCF` of a binfmt_misc entry (Documentation/admin-guide/binfmt-misc.rst in Linux).
fn has_flag_f(entry: &str) -> bool {
    entry.lines().find_map(|line| line.strip_prefix("flags:")).is_some_and(|flags| flags.contains('F'))
}

fn registration(system: &str) -> Option<String> {
    let cpu = system.split('-').next().unwrap_or_default();
    let names = [format!("qemu-{cpu}"), system.to_owned()];
    names.iter().find_map(|name| fs::read_to_string(format!("/proc/sys/fs/binfmt_misc/{name}")).ok())
}

/// Runs a program of that system.
fn try_out(system: &str, cancel: &Cancel) -> Result<(), String> {
    let Some(elf) = program(system) else { return Ok(()) };
    match run(&[], &elf, cancel) {
        Ok(said) if said.end == End::Exited(ANSWER) => Ok(()),
        Ok(said) => Err(format!("a {system} program did not run here ({}) {}", said.end, said.stderr.trim())),
        Err(error) => Err(format!("a {system} program did not run here: {:#}", error)),
    }
}

/// Runs a program, by an emulator if one stands before it.
fn run(emulator: &[&str], elf: &[u8], cancel: &Cancel) -> Result<Captured> {
    let folder = Temporary::new()?;
    let file = folder.join("program");
    fs::write(&file, elf).and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(0o700)))?;
    let words = emulator.iter().copied().chain([file.as_str()]);
    Invocation::new(words).timeout(Duration::from_secs(10)).capture(cancel)
}

/// The smallest ELF program that exits with [`ANSWER`] (elf(5)): header, one segment, three instructions.
fn program(system: &str) -> Option<Vec<u8>> {
    /// EM_AARCH64, EM_RISCV.
    const AARCH64: u16 = 183;
    const RISCV: u16 = 243;
    const ADDRESS: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let (machine, flags, code): (u16, u32, [u8; 12]) = match system {
        // mov x0, #42; mov x8, #93; svc #0
        "aarch64-linux" => (AARCH64, 0, [0x40, 0x05, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4]),
        // li a0, 42; li a7, 93; ecall; the flag says that doubles are passed in registers
        "riscv64-linux" => (RISCV, 4, [0x13, 0x05, 0xa0, 0x02, 0x93, 0x08, 0xd0, 0x05, 0x73, 0x00, 0x00, 0x00]),
        _ => return None,
    };
    let size = HEADERS + code.len() as u64;
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    elf.extend([2_u16.to_le_bytes(), machine.to_le_bytes()].concat());
    elf.extend(1_u32.to_le_bytes());
    elf.extend([ADDRESS + HEADERS, 64, 0].map(u64::to_le_bytes).concat());
    elf.extend(flags.to_le_bytes());
    elf.extend([64_u16, 56, 1, 0, 0, 0].map(u16::to_le_bytes).concat());
    elf.extend([1_u32, 5].map(u32::to_le_bytes).concat());
    elf.extend([0, ADDRESS, ADDRESS, size, size, 0x1000].map(u64::to_le_bytes).concat());
    elf.extend(code);
    Some(elf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_whole() {
        for system in ["aarch64-linux", "riscv64-linux"] {
            assert_eq!(program(system).unwrap().len(), 64 + 56 + 12, "{system}");
        }
        assert!(!can_try("x86_64-linux"));
    }

    #[test]
    fn flags_are_read_from_their_line() {
        assert!(has_flag_f("enabled\ninterpreter /usr/bin/qemu-aarch64\nflags: POF\noffset 0\n"));
        assert!(!has_flag_f("enabled\ninterpreter /F\nflags: \noffset 0\n"));
    }

    /// QEMU's user emulators run the program without any registration, so the bytes are right.
    #[test]
    #[ignore = "needs QEMU; `cargo chores check` runs it and says where there is none"]
    fn with_qemu_the_program_runs() {
        for (system, emulator) in [("aarch64-linux", "qemu-aarch64-static"), ("riscv64-linux", "qemu-riscv64-static")] {
            let said = run(&[emulator], &program(system).unwrap(), &Cancel::default()).unwrap();
            assert_eq!(said.end, End::Exited(ANSWER), "{system}: {}", said.stderr);
        }
    }
}
