"""The installed system, started from its own kernel and initrd with its closure on a disk."""

with subtest(f"the installed {host} starts and does its work"):
    with machine("system", cdrom=installed["closure"], kernel=installed["boot"]) as vm:
        vm.wait_for_host(host=host, artifact="system", version=version, system=system)
        check_host(vm)

        with subtest("nothing of the live medium is installed"):
            vm.fail("command -v drydock-install")
            vm.succeed("test -e /run/current-system/manifest.json")

        with subtest("it has an address by DHCP"):
            vm.wait_until_succeeds("ifconfig eth0 | grep 'inet addr:10.0.2.15'")

        with subtest("it is activated again without harm"):
            vm.succeed("/run/current-system/activate")
            check_host(vm)

        with subtest("it powers off"):
            vm.power_off()
