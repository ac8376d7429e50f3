//! Builds QEMU's command line for a virtual machine; pure, so that each is tested as text.

use camino::{Utf8Path, Utf8PathBuf};

use super::firmware::Uefi;

/// The processors that `boot` knows a machine for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cpu {
    X86_64,
    Aarch64,
}

impl Cpu {
    /// The processor of a Nix system; an i686 system runs on an x86_64 machine.
    pub fn of(system: &str) -> Option<Self> {
        match system {
            "x86_64-linux" | "i686-linux" => Some(Self::X86_64),
            "aarch64-linux" => Some(Self::Aarch64),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }
}

/// Who executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// The processor, through the kernel.
    Kvm,
    /// QEMU's translator: any processor on any, about ten times slower.
    Tcg,
}

impl Accel {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// How the machine starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    Bios,
    /// With the machine's own copy of the variables.
    Uefi(Uefi),
    /// QEMU loads the kernel itself.
    Kernel {
        kernel: Utf8PathBuf,
        initrd: Utf8PathBuf,
        params: String,
    },
}

/// A disk image that the machine may write to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    pub file: Utf8PathBuf,
    /// `raw` or `qcow2`.
    pub format: String,
    /// Writes go to a temporary file that vanishes.
    pub scratch: bool,
}

/// How the live medium is put in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Medium {
    Cdrom(Utf8PathBuf),
    /// As a USB stick that holds the image.
    Usb(Utf8PathBuf),
}

/// Everything about a machine that a person can choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    pub qemu: Utf8PathBuf,
    pub cpu: Cpu,
    pub accel: Accel,
    pub start: Start,
    pub medium: Option<Medium>,
    pub disk: Option<Disk>,
    /// MiB.
    pub memory: u32,
    pub cores: u32,
    /// A screen in a window; without it the serial console is on the terminal.
    pub window: bool,
    /// Pairs of a port of this machine's loopback and a port of the guest; `None` is no network card.
    pub forwards: Option<Vec<(u16, u16)>>,
    /// Nothing is written to any image.
    pub snapshot: bool,
}

impl Machine {
    pub fn argv(&self) -> Vec<String> {
        let mut argv = vec![self.qemu.to_string(), "-nodefaults".into(), "-no-user-config".into()];
        let mut add = |name: &str, value: &str| argv.extend([name.to_owned(), value.to_owned()]);
        add("-machine", if self.cpu == Cpu::X86_64 { "q35" } else { self.arm_machine() });
        add("-accel", self.accel.as_str());
        add("-cpu", if self.accel == Accel::Kvm { "host" } else { "max" });
        add("-smp", &self.cores.to_string());
        add("-m", &self.memory.to_string());
        add("-device", "virtio-rng-pci");
        add("-device", "qemu-xhci");
        match &self.start {
            Start::Bios => {}
            Start::Uefi(Uefi { code, variables }) => {
                add("-drive", &format!("if=pflash,unit=0,format=raw,readonly=on,file={}", value(code)));
                add("-drive", &format!("if=pflash,unit=1,format=raw,file={}", value(variables)));
            }
            Start::Kernel { kernel, initrd, params } => {
                add("-kernel", kernel.as_str());
                add("-initrd", initrd.as_str());
                add("-append", params);
            }
        }
        if let Some(medium) = &self.medium {
            let (file, device, kind) = match medium {
                // QEMU's `virt` machine has no controller for a CD drive but USB and SCSI.
                Medium::Cdrom(file) if self.cpu == Cpu::X86_64 => (file, "ide-cd", "media=cdrom,"),
                Medium::Cdrom(file) => (file, "usb-storage", "media=cdrom,"),
                Medium::Usb(file) => (file, "usb-storage", ""),
            };
            let file = value(file);
            add("-drive", &format!("if=none,id=medium,{kind}format=raw,readonly=on,file={file}"));
            add("-device", &format!("{device},drive=medium,bootindex=1"));
        }
        if let Some(disk) = &self.disk {
            let scratch = if disk.scratch { "snapshot=on," } else { "" };
            let (format, file) = (&disk.format, value(&disk.file));
            add("-drive", &format!("if=none,id=disk,{scratch}format={format},file={file}"));
            add("-device", "virtio-blk-pci,drive=disk,bootindex=2");
        }
        match &self.forwards {
            None => add("-nic", "none"),
            Some(forwards) => {
                let ports = forwards.iter().map(|(here, guest)| format!(",hostfwd=tcp:127.0.0.1:{here}-:{guest}"));
                add("-nic", &format!("user,model=virtio-net-pci{}", ports.collect::<String>()));
            }
        }
        match self.window {
            true => {
                add("-device", if self.cpu == Cpu::X86_64 { "virtio-vga" } else { "virtio-gpu-pci" });
                add("-device", "usb-kbd");
                add("-device", "usb-tablet");
                add("-serial", "none");
            }
            false => {
                add("-display", "none");
                // With signals on, Ctrl-C ends QEMU instead of reaching the guest.
                add("-chardev", "stdio,id=terminal,signal=on");
                add("-serial", "chardev:terminal");
            }
        }
        if self.snapshot {
            argv.push("-snapshot".into());
        }
        argv
    }

    fn arm_machine(&self) -> &'static str {
        match self.accel {
            Accel::Kvm => "virt,gic-version=host",
            Accel::Tcg => "virt,gic-version=max",
        }
    }
}

/// A file name inside one of QEMU's option lists, where a comma is written twice.
fn value(file: &Utf8Path) -> String {
    file.as_str().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            qemu: "qemu".into(),
            cpu: Cpu::X86_64,
            accel: Accel::Tcg,
            start: Start::Bios,
            medium: None,
            disk: None,
            memory: 1024,
            cores: 2,
            window: false,
            forwards: None,
            snapshot: false,
        }
    }

    fn check(machine: &Machine, expected: &str) {
        let shortened = machine.argv().join(" ").replace("qemu -nodefaults -no-user-config ", "");
        let text = shortened.replace("-device virtio-rng-pci -device qemu-xhci ", "… ");
        assert_eq!(text, expected);
    }

    const SERIAL: &str = "-display none -chardev stdio,id=terminal,signal=on -serial chardev:terminal";

    #[test]
    fn command_lines() {
        let uefi = || Start::Uefi(Uefi { code: "/code".into(), variables: "/vars".into() });
        let disk = |scratch| Some(Disk { file: "/d,1.img".into(), format: "raw".into(), scratch });
        check(
            &Machine { medium: Some(Medium::Cdrom("/a.iso".into())), ..machine() },
            &format!(
                "-machine q35 -accel tcg -cpu max -smp 2 -m 1024 … -drive if=none,id=medium,media=cdrom,format=raw,readonly=on,file=/a.iso -device ide-cd,drive=medium,bootindex=1 -nic none {SERIAL}"
            ),
        );
        check(
            &Machine {
                accel: Accel::Kvm,
                start: uefi(),
                medium: Some(Medium::Usb("/a.iso".into())),
                disk: disk(false),
                forwards: Some(vec![(2222, 22), (8080, 80)]),
                window: true,
                snapshot: true,
                ..machine()
            },
            "-machine q35 -accel kvm -cpu host -smp 2 -m 1024 … -drive if=pflash,unit=0,format=raw,readonly=on,file=/code -drive if=pflash,unit=1,format=raw,file=/vars -drive if=none,id=medium,format=raw,readonly=on,file=/a.iso -device usb-storage,drive=medium,bootindex=1 -drive if=none,id=disk,format=raw,file=/d,,1.img -device virtio-blk-pci,drive=disk,bootindex=2 -nic user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:2222-:22,hostfwd=tcp:127.0.0.1:8080-:80 -device virtio-vga -device usb-kbd -device usb-tablet -serial none -snapshot",
        );
        check(
            &Machine { cpu: Cpu::Aarch64, start: uefi(), medium: Some(Medium::Cdrom("/a.iso".into())), ..machine() },
            &format!(
                "-machine virt,gic-version=max -accel tcg -cpu max -smp 2 -m 1024 … -drive if=pflash,unit=0,format=raw,readonly=on,file=/code -drive if=pflash,unit=1,format=raw,file=/vars -drive if=none,id=medium,media=cdrom,format=raw,readonly=on,file=/a.iso -device usb-storage,drive=medium,bootindex=1 -nic none {SERIAL}"
            ),
        );
        check(
            &Machine {
                start: Start::Kernel { kernel: "/k".into(), initrd: "/i".into(), params: "a=b c".into() },
                disk: disk(true),
                forwards: Some(vec![]),
                ..machine()
            },
            &format!(
                "-machine q35 -accel tcg -cpu max -smp 2 -m 1024 … -kernel /k -initrd /i -append a=b c -drive if=none,id=disk,snapshot=on,format=raw,file=/d,,1.img -device virtio-blk-pci,drive=disk,bootindex=2 -nic user,model=virtio-net-pci {SERIAL}"
            ),
        );
    }
}
