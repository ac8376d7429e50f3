# What can be seen of the board's support on a virtual ARM machine.


def check(machine: "QemuMachine", stage: str) -> None:
    machine.wait_for_unit("sshd.service")
    machine.succeed("command -v restool")
    machine.succeed("lsmod | grep -qw ^amc6821")
    machine.succeed("grep -q console=ttyAMA0 /proc/cmdline")
    if stage == "live":
        machine.succeed("command -v drydock-install")
