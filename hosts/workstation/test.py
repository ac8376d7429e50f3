# The desktop's display manager is up; on the medium it logs in by itself.


def check(machine: "QemuMachine", stage: str) -> None:
    machine.wait_for_unit("display-manager.service")
    if stage == "live":
        machine.wait_until_succeeds("pgrep -u nixos plasmashell", timeout=1800)
    else:
        machine.succeed("test -e /proc/sys/fs/binfmt_misc/aarch64-linux")
