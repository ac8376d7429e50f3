# ssh answers, takes keys only, and the hardening is there where it belongs.


def check(machine: "QemuMachine", stage: str) -> None:
    machine.wait_for_unit("sshd.service")
    machine.wait_for_open_port(22)
    machine.succeed("sshd -T | grep -qix 'passwordauthentication no'")
    if stage != "live":
        machine.succeed("test $(sysctl -n kernel.kptr_restrict) = 2")
        machine.fail("command -v drydock-install")
