"""Makes the QEMU command line for firmware, medium and disks."""

import os
import shutil


class Hardware:
    """Knows the machines of one architecture. `config` is the test's JSON (build/test.nix)."""

    def __init__(self, config, directory, accel):
        self.config, self.directory = config, directory
        self.arm = config["system"] == "aarch64-linux"
        self.base = [
            config["qemu"],
            "-accel",
            accel,
            "-m",
            "512",
            "-display",
            "none",
            "-no-reboot",
            "-nodefaults",
        ]
        if self.arm:
            self.base += [
                "-M",
                "virt",
                "-cpu",
                "cortex-a72" if accel == "tcg" else "host",
                "-device",
                "ramfb",
            ]
        else:
            self.base += ["-M", "pc", "-device", "VGA"]

    def firmware(self, kind, name):
        if kind == "bios":
            return []
        variables = os.path.join(self.directory, f"{name}.efivars")
        shutil.copyfile(self.config["firmware"]["variables"], variables)
        os.chmod(variables, 0o600)
        return [
            "-drive",
            f"if=pflash,format=raw,unit=0,readonly=on,file={self.config['firmware']['code']}",
            "-drive",
            f"if=pflash,format=raw,unit=1,file={variables}",
        ]

    def medium(self, kind, image, boot):
        """The image as a person would insert it: a cdrom drive, or a USB stick."""
        index = ",bootindex=1" if boot else ""
        drive = f"if=none,id=medium,format=raw,readonly=on,file={image}"
        if kind == "usb":
            return [
                "-device",
                "qemu-xhci",
                "-drive",
                drive,
                "-device",
                f"usb-storage,drive=medium,removable=on{index}",
            ]
        if self.arm:
            return [
                "-device",
                "virtio-scsi-pci",
                "-drive",
                drive,
                "-device",
                f"scsi-cd,drive=medium{index}",
            ]
        return ["-drive", drive, "-device", f"ide-cd,drive=medium{index}"]

    def disk(self, image, boot):
        index = ",bootindex=1" if boot else ""
        return [
            "-drive",
            f"if=none,id=disk,format=raw,cache=unsafe,file={image}",
            "-device",
            f"virtio-blk-pci,drive=disk{index}",
        ]

    def network(self, ports):
        """A network that ends in this process's machine: the guest reaches nothing else. {} is no card at all."""
        if ports is None:
            return ["-nic", "none"]
        forwards = "".join(
            f",hostfwd=tcp:127.0.0.1:{here}-:{there}" for there, here in ports.items()
        )
        return [
            "-netdev",
            f"user,id=net,restrict=on{forwards}",
            "-device",
            "virtio-net-pci,netdev=net,romfile=",
        ]

    def kernel(self, kernel, initrd, parameters):
        return ["-kernel", kernel, "-initrd", initrd, "-append", parameters]
