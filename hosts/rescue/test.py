# The tools are there and ssh is up before anybody logs in.


def check(machine: "QemuMachine", stage: str) -> None:
    machine.wait_for_unit("sshd.service")
    for tool in ("ddrescue", "testdisk", "nvme", "dmidecode", "nmap", "efibootmgr", "cryptsetup"):
        machine.succeed(f"command -v {tool}")
    machine.succeed("grep -qw console=tty0 /proc/cmdline")
    # This medium carries no system, and says so instead of erasing anything.
    output = machine.fail(f"drydock-install --yes --disk main=/dev/{stage} 2>&1")
    assert "carries no installed system" in output, output
