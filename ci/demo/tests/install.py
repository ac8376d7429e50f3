"""The shipped ISO installs its system onto an empty disk of a machine without a network, and that disk starts."""

disk = empty_disk("disk", 384)

with subtest("a disk that is too small is refused and left alone"):
    small = empty_disk("small", 24)
    with machine("too-small", firmware=firmwares[0], cdrom=iso, disk=small, ports=None) as vm:
        vm.wait_for_host(host=host, artifact="iso")
        said = vm.fail("drydock-install --yes /dev/vda")
        assert "too small" in said, said
        with open(small, "rb") as image:
            assert not any(image.read()), "the refused disk was written to"

with subtest("installs without a network"):
    with machine("installer", firmware=firmwares[0], cdrom=iso, disk=disk, ports=None) as vm:
        vm.wait_for_host(host=host, artifact="iso")
        assert "lo" == vm.succeed("ls /sys/class/net").strip(), "this machine has a network"

        with subtest("a name typed wrongly changes nothing"):
            vm.fail("echo /dev/vdb | drydock-install /dev/vda")
            vm.succeed("test \"$(head -c 1048576 /dev/vda | tr -d '\\0' | wc -c)\" -eq 0")

        vm.succeed("echo /dev/vda | drydock-install /dev/vda", 300)

        with subtest("a disk that is not empty is refused"):
            said = vm.fail("drydock-install --yes /dev/vda")
            assert "not empty" in said, said
        vm.power_off()

for firmware in firmwares:
    with subtest(f"{firmware}: the installed disk starts and {host} does its work"):
        with machine(f"installed-{firmware}", firmware=firmware, disk=disk) as vm:
            vm.wait_for_host(
                host=host, artifact="system", version=version, system=system, firmware=firmware
            )
            check_host(vm)
            vm.power_off()
