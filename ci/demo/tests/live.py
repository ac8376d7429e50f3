"""The shipped ISO, unchanged, starts from each medium under each firmware, and the host does its work."""

for firmware in firmwares:
    for medium in ("cdrom", "usb"):
        with subtest(f"{firmware} {medium}: the ISO starts and {host} does its work"):
            with machine(f"live-{firmware}-{medium}", firmware=firmware, **{medium: iso}) as vm:
                vm.wait_for_host(
                    host=host, artifact="iso", version=version, system=system, firmware=firmware
                )
                check_host(vm)
