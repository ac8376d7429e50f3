# What must hold on this host once it is up.


def check(machine: "QemuMachine", stage: str) -> None:
    machine.wait_for_unit("sshd.service")
