# Boots media and disks as a firmware does, opens a root shell in them from outside, and photographs each.
import base64
import contextlib
import os
import sys
import tempfile

# systemd.system-credentials(7): from version 256 on, the virtual firmware may bring a unit of its
# own. The image is not changed for it: without the credential nothing of this exists. The unit
# waits for its console by itself, because systemd gives up on a device after 90 seconds. Errors
# do not go to the serial line: the login there hangs it up, and writing would then fail.
BACKDOOR = """\
[Unit]
Description=Root shell of the test driver

[Service]
ExecStart=/bin/sh -c "until test -c /dev/hvc0; do sleep 1; done; \
. /etc/profile; export USER=root HOME=/root PAGER=; cd /tmp; \
exec </dev/hvc0 >/dev/hvc0; stty -F /dev/hvc0 raw -echo; \
echo 'Spawning backdoor root shell...'; PS1= exec bash --norc /dev/hvc0"
StandardError=journal+console
KillSignal=SIGHUP
"""
WANTED = "[Unit]\nWants=drydock-backdoor.service\n"
# systemd gives up on a device after 90 seconds, and with it on the login there or, in the initrd, on the medium itself.
# Emulation on a busy machine takes longer. A drop-in for `dev-` counts for every device (systemd.unit(5)).
PATIENT = "[Unit]\nJobRunningTimeoutSec=15min\n"
# Linux panics, before it writes anything, if its timer does not tick while it looks: under emulation on a busy machine. With
# KVM it does not look. systemd-boot(7) adds this to what it starts, the boot loaders of media add nothing. x86 knows it.
NO_TIMER_CHECK = "io.systemd.boot.kernel-cmdline-extra=no_timer_check"
# systemd-getty-generator(8) starts a login on the virtual console where its driver is already there.
NO_GETTY = "[Unit]\nConditionPathExists=!/dev/hvc0\n"


def credentials() -> list[str]:
    """QEMU's arguments that hand the root shell's unit to the guest's systemd, and patience with its devices.

    By SMBIOS on every architecture, which on ARM takes UEFI. QEMU's fw_cfg, the other way, allows
    names of 55 characters, and these are longer.
    """
    units = {
        "systemd.extra-unit.drydock-backdoor.service": BACKDOOR,
        # The [Install] section of such a unit is not honoured, so the target asks for it.
        "systemd.unit-dropin.multi-user.target": WANTED,
        "systemd.unit-dropin.serial-getty@hvc0.service": NO_GETTY,
        "systemd.unit-dropin.dev-.device": PATIENT,
    }
    arguments = [f"-smbios type=11,value={NO_TIMER_CHECK}"]
    for name, text in units.items():
        encoded = base64.b64encode(text.encode()).decode()
        arguments.append(f"-smbios type=11,value=io.systemd.credential.binary:{name}={encoded}")
    return arguments


def medium_arguments(medium: str) -> list[str]:
    """The ISO as an optical disc or as a USB stick, first in the boot order."""
    drive = f"-drive if=none,id=medium,format=raw,readonly=on,file={given['iso']}"
    if medium == "cdrom":
        return [drive + ",media=cdrom", f"-device {given['optical']},drive=medium,bootindex=1"]
    return [drive, f"-device {given['usb']}", "-device usb-storage,drive=medium,bootindex=1"]


def firmware_arguments(firmware: str) -> list[str]:
    """BIOS is QEMU's default; UEFI gets a variable store that outlives the machine."""
    if firmware == "bios":
        return []
    variables = os.path.abspath("efi-variables.fd")
    if not os.path.exists(variables):
        with open(given["variables"], "rb") as source, open(variables, "wb") as copy:
            copy.write(source.read())
    return [
        f"-drive if=pflash,format=raw,unit=0,readonly=on,file={given['firmware']}",
        f"-drive if=pflash,format=raw,unit=1,file={variables}",
    ]


def disk_arguments() -> list[str]:
    """One empty disk, kept from boot to boot, for every disk of the layout."""
    arguments = []
    for name in given["disks"]:
        path = os.path.abspath(f"disk-{name}.qcow2")
        if not os.path.exists(path):
            if os.system(f"{given['qemu_img']} create -q -f qcow2 {path} 40G") != 0:
                raise RuntimeError(f"could not create {path}; is the disk full?")
        # QEMU's own choice, where the disk of this machine is full, is to stop its machine until somebody makes room.
        arguments.append(f"-drive if=none,id=disk-{name},file={path},format=qcow2,werror=report")
        arguments.append(f"-device virtio-blk-pci,drive=disk-{name},serial={name}")
    return arguments


def shrink(path: str) -> None:
    """Scales a picture down until a record takes it (docs/record.md), with the tools that the driver makes it by.

    A screen of text has 20 kB; a desktop with its wallpaper has a megabyte.
    """
    for width in (800, 480, 320, 160):
        if os.path.getsize(path) <= 100_000:
            return
        scale = f"pngtopnm {path} | pamscale -width {width} | pnmtopng -compression 9 >{path}.small"
        os.system(f"{scale} && mv {path}.small {path}")


def photograph(machine) -> None:
    """Puts the screen of a machine that runs into the test's output, and onto the log, as docs/test-vm.md says.

    What goes wrong here is logged and hides no failure of the test. A container has no screen.
    """
    if not getattr(machine, "booted", False):
        return
    try:
        # A QEMU that hangs does not answer.
        machine.monitor.settimeout(60)
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "screen.png")
            machine.screenshot(path)
            shrink(path)
            with open(path, "rb") as image:
                picture = image.read()
        machine.monitor.settimeout(None)
        with open(os.path.join(machine.out_dir, f"{machine.name}.png"), "wb") as image:
            image.write(picture)
    except Exception as error:
        machine.log(f"no screenshot of {machine.name}: {error}")
        return
    text = base64.b64encode(picture).decode()
    lines = [text[start : start + 76] for start in range(0, len(text), 76)]
    name = f"SCREENSHOT {machine.name}.png-----"
    # In one piece, and after an end of line: the driver's readers of the consoles, which write to
    # the same place in threads of their own, write a line and its end one after the other.
    sys.stderr.write("\n".join(["", f"-----BEGIN {name}", *lines, f"-----END {name}", ""]))
    sys.stderr.flush()


def photographing(drivers):
    """The driver's `subtest` in; one that also photographs every machine when its body fails."""
    failures: list[BaseException] = []

    @contextlib.contextmanager
    def subtest(name: str):
        with drivers(name):
            try:
                yield
            except BaseException as failure:
                # The subtests around this one see the same failure, and later.
                if not any(failure is earlier for earlier in failures):
                    failures.append(failure)
                    for machine in driver.machines:
                        photograph(machine)
                raise

    return subtest


# Under the name and with the type that the scripts and the linters know.
globals()["subtest"] = photographing(subtest)


def start(machine: "QemuMachine") -> None:
    """Starts a machine and returns once its root shell answers.

    The driver gives up after five minutes. A real host takes three on an idle machine that
    emulates it, and more than five where two tests run at once. A UEFI firmware that writes to the
    shell's console makes the driver wait for the shell without a limit, hence the socket's own.
    """
    machine.start()
    assert machine.shell
    for attempt in range(1, 7):
        try:
            machine.shell.settimeout(300)
            machine.connect()
            machine.shell.settimeout(None)
            return
        except (RuntimeError, TimeoutError) as error:
            # A machine whose QEMU has ended will not answer.
            if attempt == 6 or "disconnected" in str(error):
                raise
            photograph(machine)
            machine.log(f"no root shell after {attempt * 5} minutes ({error}), waiting on")


def boot(name: str, firmware: str, arguments: list[str], network: bool) -> "QemuMachine":
    """Starts a machine and returns it once its root shell answers."""
    # The driver ends the process that it started, which a shell around QEMU would be.
    command = ["exec", given["qemu"], "-m 4096", "-smp 2", given["screen"]]
    command += ["-nic user,model=virtio-net-pci" if network else "-nic none"]
    command += firmware_arguments(firmware)
    command += arguments
    command += credentials()
    machine = create_machine(" ".join(command), name=name)
    # Only its own machines does the driver end when a test fails; another one's console would keep
    # the driver itself from ending.
    driver.machines_qemu.append(machine)
    start(machine)
    return machine


def settled(machine: "QemuMachine") -> None:
    """The machine has reached multi-user, offers a login, and no unit failed."""
    machine.wait_for_unit("multi-user.target")
    # One of the two is enough: a desktop may take the first terminal for itself.
    machine.wait_until_succeeds("systemctl is-active getty@tty1.service display-manager.service")
    failed = machine.succeed("systemctl list-units --failed --plain --no-legend").strip()
    if failed:
        machine.log(machine.execute("journalctl --boot --priority warning --no-pager | tail -n 50")[1])
        raise AssertionError(f"{given['name']}: failed units:\n{failed}")
