//! `cargo xtask boot`: starts a host's live medium or installed system in a virtual machine, on the screen or on the
//! terminal.
#![expect(clippy::print_stderr, reason = "a verb tells people what it starts")]

use std::fs;

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    diagnostic::{DONE, FAILED, INTERRUPTED, as_called, lacking, usage},
    flags::{Boot, SelectionFlags},
    fleet::{self, Fleet},
    job::{Artifact, Job, Outcome},
    nix::argv,
    plan,
    process::{Cancel, End, Invocation, find_on_path},
    run::{Options, Run},
    vmtest::{
        self,
        accel::{self, Choice},
        disk::DiskWish,
        firmware::{self, Uefi},
        kvm,
        machine::{Accel, Cpu, Disk, Machine, Medium, Start},
        uninstalled::{Direct, Uninstalled},
    },
};

pub fn run(flags: &Boot, cancel: &Cancel) -> Result<u8> {
    let fleet = Fleet::open(&flags.fleet.fleet, &flags.fleet.override_input)?;
    let artifact = if flags.installed { Artifact::System } else { Artifact::Iso };
    let job = job(flags, &fleet, artifact)?;
    let cpu = Cpu::of(job.system.as_str())
        .ok_or_else(|| usage(format!("{} is {}: `boot` knows x86_64 and aarch64", job.id.host, job.system)))?;
    let disk = flags.disk.as_deref().map(|text| DiskWish::parse(text, !flags.installed)).transpose()?;
    if let Some(wish) = disk.as_ref().filter(|wish| wish.created) {
        eprintln!("boot: made {}, all empty", wish.file);
    }
    let qemu = qemu(cpu)?;
    let opened = disk.as_ref().map(DiskWish::open).transpose()?;
    let forwards = (!flags.no_network).then(|| forwards(&flags.forward)).transpose()?;
    // The last thing that can refuse before the build, because a KVM that hangs takes seconds to be found out.
    let choice = accel::choose(flags.accel.wish(), cpu, std::env::consts::ARCH, || kvm::known(cancel))?;
    let window = !flags.serial && has_screen();
    if !window && !flags.serial {
        eprintln!("boot: no screen here (DISPLAY and WAYLAND_DISPLAY are unset), so the serial console it is");
    }
    let mut room = Room::new(&job)?;
    let mut machine = Machine {
        qemu,
        cpu,
        accel: choice.accel,
        start: Start::Bios,
        medium: None,
        disk: opened,
        memory: flags.memory,
        cores: flags.cores,
        window,
        forwards,
        snapshot: flags.snapshot,
    };
    match (artifact, &disk) {
        (Artifact::System, Some(_)) => machine.start = firmware(flags, &machine, &disk, &room)?,
        (artifact, _) => {
            let Some(out) = build(flags, &fleet, &job, cancel)? else {
                return Ok(if cancel.is_set() { INTERRUPTED } else { FAILED });
            };
            if artifact == Artifact::Iso {
                let iso = iso_in(&out)?;
                machine.medium = Some(if flags.usb { Medium::Usb(iso) } else { Medium::Cdrom(iso) });
                machine.start = firmware(flags, &machine, &disk, &room)?;
            } else {
                match Uninstalled::of(&out)? {
                    Uninstalled::Direct(direct) => direct_boot(&mut machine, &direct, &out, &mut room, cancel)?,
                    Uninstalled::NixOs => return nixos_vm(flags, &fleet, &job, &machine, &choice, &room, cancel),
                }
            }
        }
    }
    start(&machine, &choice, cancel)
}

fn start(machine: &Machine, choice: &Choice, cancel: &Cancel) -> Result<u8> {
    let invocation = Invocation::new(machine.argv());
    let choice = as_called(&choice.to_string());
    eprintln!("boot: {choice}\nboot: {}\nboot: Ctrl-C ends the machine", invocation.display());
    for (here, guest) in machine.forwards.iter().flatten() {
        let hint = if *guest == 22 { format!(" (ssh -p {here} root@127.0.0.1)") } else { String::new() };
        eprintln!("boot: port {here} here is port {guest} of the machine{hint}");
    }
    finished(invocation.interactive(cancel)?)
}

fn finished(end: End) -> Result<u8> {
    match end {
        End::Exited(0) => Ok(DONE),
        End::Cancelled => Ok(INTERRUPTED),
        end => {
            eprintln!("boot: the machine ended: {end}");
            Ok(FAILED)
        }
    }
}

fn job(flags: &Boot, fleet: &Fleet, artifact: Artifact) -> Result<Job> {
    let selection = SelectionFlags {
        hosts: vec![flags.host.clone()],
        artifact: vec![artifact.as_str().into()],
        ..Default::default()
    };
    let anything = SelectionFlags { hosts: vec![flags.host.clone()], ..Default::default() };
    let names: Vec<String> =
        anything.artifacts()?.hosts(&fleet.matrix)?.iter().map(|host| host.name.to_string()).collect();
    let [name] = names.as_slice() else {
        return Err(usage(format!(
            "`{}` is {} hosts; boot one at a time: {}",
            flags.host,
            names.len(),
            names.join(", ")
        )));
    };
    let plan = plan::plan(&fleet.matrix, &selection.artifacts()?);
    let job = plan.ok().and_then(|plan| plan.jobs.into_iter().next());
    job.ok_or_else(|| {
        let (other, what) = match artifact {
            Artifact::Iso => (" --installed", "live medium: \"iso\" is not among its artifacts"),
            Artifact::System => ("", "installed system: \"system\" is not among its artifacts"),
        };
        usage(format!("{name} has no {what}\n  try: cargo xtask boot {name}{other}"))
    })
}

/// Builds the artifact, or takes what an earlier run left in `result/`. `None` means that the build failed
/// or was interrupted, which has been told.
fn build(flags: &Boot, fleet: &Fleet, job: &Job, cancel: &Cancel) -> Result<Option<Utf8PathBuf>> {
    if flags.no_build {
        let link = flags.out_link.join(job.id.host.as_str()).join(job.id.target.to_string());
        let found = link.canonicalize_utf8();
        return found.map(Some).map_err(|error| {
            usage(format!(
                "--no-build: {link}: {error}\n  try: without --no-build, or `cargo xtask build-all {}`",
                job.id.host
            ))
        });
    }
    let run = Run::begin(fleet.clone(), Options::default(), cancel)?;
    let record = run.realise(std::slice::from_ref(job))?.jobs.into_iter().next().context("a job has a record")?;
    if let Outcome::Failed(failure) = &record.outcome {
        eprintln!("boot: {} could not be built: {}", job.id, failure.message);
        failure.log_tail.iter().for_each(|line| eprintln!("  | {line}"));
        eprintln!("  to repeat it: {}", failure.reproduce);
    }
    Ok(record.derivation.filter(|_| record.outcome.is_success()).map(|derivation| derivation.out))
}

/// The image in an ISO output, or in the folder that `result/` holds of it.
fn iso_in(out: &Utf8Path) -> Result<Utf8PathBuf> {
    let dir = if out.join("iso").is_dir() { out.join("iso") } else { out.to_owned() };
    let entries = dir.read_dir_utf8().with_context(|| format!("cannot look for the image in {dir}"))?;
    let mut images = entries.flatten().map(|entry| entry.path().to_owned()).filter(|p| p.extension() == Some("iso"));
    images.next().with_context(|| format!("{dir} holds no .iso file"))
}

fn qemu(cpu: Cpu) -> Result<Utf8PathBuf> {
    let program = format!("qemu-system-{}", cpu.as_str());
    find_on_path(&program).ok_or_else(|| {
        lacking(format!("{program} is not on PATH\n  try: `ci/setup` installs it on Debian and Ubuntu, `nix shell nixpkgs#qemu` anywhere"))
    })
}

fn has_screen() -> bool {
    ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

/// BIOS or UEFI. A disk keeps its UEFI variables in a file beside it, as a machine keeps them in its flash.
fn firmware(flags: &Boot, machine: &Machine, disk: &Option<DiskWish>, room: &Room) -> Result<Start> {
    let arm = machine.cpu == Cpu::Aarch64;
    if arm && flags.bios {
        return Err(usage("--bios: an aarch64 machine starts by UEFI; it has no BIOS"));
    }
    if flags.bios {
        return Ok(Start::Bios);
    }
    let Some(found) = firmware::find(machine.cpu.as_str(), &machine.qemu) else {
        let advice = "`ci/setup`, or install ovmf (x86_64) and qemu-efi-aarch64, or edk2-ovmf and edk2-aarch64";
        return match flags.uefi || arm {
            true => {
                Err(lacking(format!("no UEFI firmware for {} is installed\n  try: {advice}", machine.cpu.as_str())))
            }
            false => {
                eprintln!("boot: no UEFI firmware is installed, so it starts by BIOS ({advice})");
                Ok(Start::Bios)
            }
        };
    };
    let variables = match disk {
        Some(wish) => Utf8PathBuf::from(format!("{}.efivars", wish.file)),
        None => room.dir.join("efivars"),
    };
    if !variables.exists() {
        fs::copy(&found.variables, &variables).with_context(|| format!("cannot write {variables}"))?;
        // Nix's store and some distributions have the template read-only.
        let mut mode = fs::metadata(&variables)?.permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o644);
        fs::set_permissions(&variables, mode)?;
    }
    Ok(Start::Uefi(Uefi { variables, ..found }))
}

fn direct_boot(machine: &mut Machine, direct: &Direct, out: &Utf8Path, room: &mut Room, cancel: &Cancel) -> Result<()> {
    eprintln!("boot: copying the system to a disk that vanishes afterwards");
    let file = direct.disk(out, &room.dir, cancel)?;
    machine.start =
        Start::Kernel { kernel: direct.kernel.clone(), initrd: direct.initrd.clone(), params: direct.params(out) };
    machine.disk = Some(Disk { file, format: "raw".into(), scratch: true });
    Ok(())
}

/// An installed NixOS finds its disks by its own configuration, so it starts without an installation only as
/// `nixos-rebuild build-vm` starts it: with the store of this machine, and file systems of the VM's own.
fn nixos_vm(
    flags: &Boot,
    fleet: &Fleet,
    job: &Job,
    machine: &Machine,
    choice: &Choice,
    room: &Room,
    cancel: &Cancel,
) -> Result<u8> {
    let host = &job.id.host;
    let advice = format!(
        "`cargo xtask boot {host} --disk {host}.img:20G` starts the live medium to install from; afterwards \
         `cargo xtask boot {host} --installed --disk {host}.img` starts what is on the disk"
    );
    if machine.cpu.as_str() != std::env::consts::ARCH {
        return Err(usage(format!(
            "{host} is {} NixOS: its VM is a program for that system and does not start on {}\n  try: {advice}",
            job.system,
            std::env::consts::ARCH
        )));
    }
    if flags.bios || flags.uefi {
        eprintln!("boot: --bios and --uefi do not matter here: the VM's kernel is loaded by QEMU itself");
    }
    let attribute = format!("nixosConfigurations.{host}.config.system.build.vm");
    let build = Invocation::new(argv::build_attribute(fleet.source(false), &attribute));
    let out = build.read(cancel).with_context(|| {
        format!("{host} has no VM of its own; {attribute} is part of every `lib.nixosSystem`\n  try: {advice}")
    })?;
    let bin = Utf8Path::new(out.trim()).join("bin");
    let entries = bin.read_dir_utf8().with_context(|| format!("cannot read {bin}"))?;
    let script = entries.flatten().map(|e| e.path().to_owned()).find(|p| p.as_str().ends_with("-vm"));
    let script = script.with_context(|| format!("{bin} has no run-…-vm"))?;
    let mut options = vec![format!("-m {} -smp {}", machine.memory, machine.cores)];
    if choice.accel == Accel::Tcg {
        // The script says accel=kvm:tcg, and a KVM that hangs does not fall back.
        options.push("-machine accel=tcg".into());
    }
    if !machine.window {
        options.push("-display none -serial stdio".into());
    }
    if machine.forwards.is_none() {
        options.push("-nic none".into());
    }
    let ports = machine.forwards.iter().flatten().map(|(here, guest)| format!("hostfwd=tcp:127.0.0.1:{here}-:{guest}"));
    let mut vm = Invocation::new([script.as_str()])
        .dir(&room.dir)
        .env("QEMU_OPTS", options.join(" "))
        .env("QEMU_NET_OPTS", ports.collect::<Vec<_>>().join(","))
        .env("NIX_DISK_IMAGE", room.dir.join("disk.qcow2").as_str());
    if !machine.window {
        vm = vm.env("QEMU_KERNEL_PARAMS", "console=ttyS0");
    }
    eprintln!("boot: {}\nboot: {}", as_called(&choice.to_string()), vm.display());
    finished(vm.interactive(cancel)?)
}

/// Pairs of ports; without any, a free one for ssh.
fn forwards(texts: &[String]) -> Result<Vec<(u16, u16)>> {
    if texts.is_empty() {
        return Ok(vec![(vmtest::free_port()?, 22)]);
    }
    let pair = |text: &String| {
        let (here, guest) = text.split_once(':')?;
        Some((here.parse().ok()?, guest.parse().ok()?))
    };
    let parse = |text: &String| {
        pair(text).ok_or_else(|| usage(format!("--forward {text}: two port numbers, such as 8080:80, were expected")))
    };
    texts.iter().map(parse).collect()
}

/// A folder for one machine's files; it goes away with everything in it.
struct Room {
    dir: Utf8PathBuf,
}

impl Room {
    fn new(job: &Job) -> Result<Self> {
        let dir = fleet::work_folder()?.join(format!("target/xtask/boot/{}-{}", job.id.host, std::process::id()));
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {dir}"))?;
        Ok(Self { dir })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_pairs() {
        assert_eq!(forwards(&["8080:80".into()]).unwrap(), [(8080, 80)]);
        assert_eq!(forwards(&[]).unwrap()[0].1, 22);
        for bad in ["8080", "a:b", "99999:1"] {
            assert!(forwards(&[bad.into()]).is_err(), "{bad}");
        }
    }
}
