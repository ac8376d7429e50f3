# The shipped ISO installs without a network card; then its disks boot alone.
disks = given["disks"]
with subtest("the medium boots without a network card"):
    arguments = medium_arguments("cdrom") + disk_arguments()
    live = boot("installer", "uefi", arguments, network=False)
    settled(live)
    cards = live.succeed("ls /sys/class/net").split()
    assert cards == ["lo"], f"there is a network card: {cards}"

with subtest("a wrong disk is refused"):
    live.fail(f"drydock-install --yes --disk {disks[0]}=/dev/null")
    live.fail("drydock-install --yes --disk no-such-name=/dev/vda")

with subtest("installs"):
    chosen = " ".join(f"--disk {name}=/dev/disk/by-id/virtio-{name}" for name in disks)
    live.log(live.succeed(f"drydock-install --yes {chosen} 2>&1", timeout=5400))
    photograph(live)
    live.shutdown()

with subtest("the disk boots"):
    machine = boot("installed", "uefi", disk_arguments(), network=False)
    settled(machine)
    machine.succeed("findmnt -no SOURCE / | grep ^/dev/vd")
    machine.fail("test -e /iso")

with subtest("the host's own test"):
    check(machine, "install")
    photograph(machine)
    machine.shutdown()
